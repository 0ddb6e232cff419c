"""A file's rows in blocks, as a model takes them, and rows in a file until they are written."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdjax.data.conversations import positions_of
from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, Part, part_rows
from mmdjax.errors import UserError, require
from mmdjax.serving import inputs
from mmdjax.serving.imputer import Imputer
from mmdjax.serving.rows import TRAINED_WITH

BLOCK = 2**25  # bytes of all modalities that are worked on at once
INFINITE = "holds inf; allowed: float32 numbers, NaN for a missing frame"
PARTLY = (
    "lacks some of its frames; allowed: whole modalities, or a model trained with "
    "diffusion.frame_gaps above 0"
)


class Block(NamedTuple):
    """Rows of a split from `start`.

    Attributes:
      raw: modality -> as in the file, (n, T, C) or n sequences.
      given: the same as `Imputer` reads it.
      shows: modality -> (n,) bool, something is observed.
      gaps: (n,) bool, something is missing. some: (n,) bool, something is not.
      talk: of the rows, as `Imputer.impute` takes it; {} where the model sees utterances alone.
    """

    start: int
    raw: dict[str, np.ndarray | list]
    given: inputs.Given
    shows: dict[str, np.ndarray]
    gaps: np.ndarray
    some: np.ndarray
    talk: dict[str, np.ndarray]

    def to_complete(self) -> np.ndarray:
        """Return rows that have gaps and something observed; of conversations with such all of the
        latter, as they are what gaps are filled from."""
        chosen = self.gaps & self.some
        if self.talk:
            conversation = self.talk["conversation"]
            chosen = self.some & np.isin(conversation, conversation[chosen])
        return np.flatnonzero(chosen)


def place_of(contents: Contents, split: str) -> str:
    """Return a file's name and a split's, as messages begin."""
    return f"{lazy.one_line(contents.path, 4096)}: split {lazy.one_line(split, 64)!r}"


def keys_of(imputer: Imputer, contents: Contents, split: str) -> dict[str, str]:
    """Return the model's modalities -> the file's keys.

    Raises:
      UserError: the file lacks one, or it has another number of channels or more frames.
    """
    where, part, keys = place_of(contents, split), contents.splits[split], {}
    for m in imputer.modalities:
        for key in (m.name, m.key):
            with contextlib.suppress(UserError):
                rows, keys[m.name] = part_rows(part, key), key
        listed = lazy.one_line(list(part.features))
        require(
            m.name in keys,
            f"{where}: no key {m.key!r} for modality {m.name!r}",
            f"a file with it, of zeros or NaN where it is missing (found: {listed})",
        )
        longest = int(rows.lengths.max(initial=0)) if lazy.is_ragged(rows) else rows.shape[1]
        require(
            rows.shape[2] == m.channels and longest <= m.frames,
            f"{where}: key {keys[m.name]!r} has {longest} frames of {rows.shape[2]} channels",
            TRAINED_WITH.format(f"{m.frames} of {m.channels}"),
        )
    return keys


def blocks(imputer: Imputer, contents: Contents, split: str, keys) -> Iterator[Block]:
    """Yield the rows of a split; raise `UserError`, with the name of the utterance, for what the
    model cannot take.

    Args:
      keys: of `keys_of`.
    """
    part, where = contents.splits[split], place_of(contents, split)
    columns = {m: part_rows(part, key) for m, key in keys.items()}
    widest = max(columns.values(), key=lambda rows: rows.nbytes)
    cuts, talk = lazy.blocks(widest, BLOCK // len(columns)), {}
    if imputer.of_conversations:
        cuts = _whole_conversations(where, part, cuts, imputer.longest)
        # Before utterances with nothing observed are left out: their places stay empty.
        talk = {"position": positions_of(part.talk["conversation"])} | dict(part.talk)
    for start, stop in cuts:
        raw = {m: rows[start:stop] for m, rows in columns.items()}
        given = _given(imputer, part, keys, raw, start, stop)
        shows, gaps = given.shows(), np.zeros(stop - start, bool)
        for m, x in given.features.items():
            lacks, infinite = np.isnan(x).any((1, 2)), np.isposinf(x).any((1, 2))
            partly = lacks & shows[m] & (not imputer.signature["frame_gaps"])
            for mistaken, mistake in ((infinite, INFINITE), (partly, PARTLY)):
                if mistaken.any():
                    name = lazy.one_line(part.id[start + np.argmax(mistaken)])
                    raise UserError(f"{where}, key {keys[m]!r}: utterance {name!r} {mistake}")
            gaps |= lacks | ~shows[m]
        some = np.any(list(shows.values()), axis=0)
        places = {name: a[start:stop] for name, a in talk.items()}
        yield Block(start, raw, given, shows, gaps, some, places)


def _given(imputer: Imputer, part: Part, keys, raw, start: int, stop: int) -> inputs.Given:
    """Return the frames that exist, NaN where the file says that they are not observed."""
    sequences = {
        m: x if isinstance(x, np.ndarray) else [a if len(a) else None for a in x]
        for m, x in raw.items()
    }
    given = inputs.padded(imputer.modalities, sequences, stop - start)
    for m, x in given.features.items():
        base = keys[m] if keys[m] in part.features else keys[m].rpartition("[")[0]
        observed, lengths = part.observed.get(base), part.frames.get(base)
        for row, sequence in enumerate(sequences[m]):
            if sequence is not None and observed is not None:
                frames = np.broadcast_to(observed[start + row], len(sequence))
                x[row, : len(sequence)][~frames] = np.nan
            if sequence is not None and lengths is not None:
                given.said[m][row] = min(lengths[start + row], len(sequence))
                x[row, given.said[m][row] :] = 0
    return given


def _whole_conversations(where: str, part: Part, cuts, longest: int) -> list[tuple[int, int]]:
    """Return `cuts` moved to where the next conversation begins; longest: utterances of one."""
    require(
        part.talk,
        f"{where}: no conversations, by which the model works",
        "a folder of GCNet, or arrays 'conversation' (N,), and perhaps 'speaker' and 'position', "
        "beside the features",
    )
    named = part.talk["conversation"]
    starts = np.flatnonzero(np.append(len(named) > 0, named[1:] != named[:-1]))
    ends = np.append(starts[1:], len(named)).astype(int)
    met = set()
    for name, count in zip(named[starts].tolist(), ends - starts, strict=False):
        conversation = f"{where}: conversation {lazy.one_line(name, 60)!r}"
        problem = f"{conversation} is interrupted by another"
        require(name not in met, problem, "its utterances after each other")
        most = TRAINED_WITH.format(longest)
        require(count <= longest, f"{conversation} has {count} utterances", most)
        met.add(name)
    moved = [0, *dict.fromkeys(int(ends[np.searchsorted(ends, stop)]) for _, stop in cuts)]
    return list(itertools.pairwise(moved))


class Spool:
    """Rows in a temporary file, appended in blocks and read back when they are written."""

    def __init__(self, path: Path):
        self.path, self._lengths = path, []

    def append(self, block) -> None:
        with self.path.open("ab") as file:
            for x in [block] if isinstance(block, np.ndarray) else block:
                self._lengths.append(len(x))
                np.ascontiguousarray(x).tofile(file)

    def rows(self, like):
        """Return the rows, dense or ragged as `like` is."""
        if not self.path.exists():
            return like
        if not lazy.is_ragged(like):
            return lazy.ArrayInFile(self.path, 0, like.shape, like.dtype)
        starts, channels = np.cumsum([0, *self._lengths]), like.shape[2]

        def read(rows) -> list[np.ndarray]:
            flat = lazy.ArrayInFile(self.path, 0, (starts[-1], channels), like.dtype)
            return [flat[int(starts[i]) : int(starts[i + 1])] for i in rows]

        return lazy.Ragged(np.array(self._lengths), channels, like.dtype, read)


@contextlib.contextmanager
def folder_beside(output: Path) -> Iterator[str]:
    """Make a temporary folder where the output will be: renaming it is then atomic."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name[:50]}.")
    except OSError as error:
        raise UserError(f"{str(output)!r} cannot be written: {error.strerror}") from None
    with temporary as folder:
        yield folder
