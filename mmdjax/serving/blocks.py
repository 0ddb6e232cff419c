"""A file's rows in blocks, as a model takes them, and rows kept until they are written."""

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
from mmdjax.errors import UserError
from mmdjax.serving.imputer import Imputer

BLOCK = 2**25  # bytes of all modalities that are worked on at once


class Block(NamedTuple):
    """Rows of a split from `start`. By modality: `given` as in the file, an array (n, T, C) or n
    sequences; `asked`, the same as `Imputer.impute` takes it; shows (n,) bool, something is
    observed.

    Attributes:
      gaps: (n,) bool, something is missing. some: (n,) bool, something is not.
      talk: of the rows, as `Imputer.impute` takes it; {} where the model sees utterances alone.
    """

    start: int
    given: dict[str, np.ndarray | list]
    asked: dict[str, np.ndarray | list]
    shows: dict[str, np.ndarray]
    gaps: np.ndarray
    some: np.ndarray
    talk: dict[str, np.ndarray]

    def rows(self, chosen: np.ndarray) -> tuple[dict, dict]:
        """`asked` and `talk` of some rows."""
        asked = {
            m: x[chosen] if isinstance(x, np.ndarray) else [x[i] for i in chosen]
            for m, x in self.asked.items()
        }
        return asked, {name: a[chosen] for name, a in self.talk.items()}

    def to_complete(self) -> np.ndarray:
        """Rows that have gaps and something observed; of conversations with such all of the latter,
        as they are what gaps are filled from."""
        found = self.gaps & self.some
        if self.talk:
            conversation = self.talk["conversation"]
            found = self.some & np.isin(conversation, conversation[found])
        return np.flatnonzero(found)


def keys_of(imputer: Imputer, contents: Contents, split: str, part: Part) -> dict[str, str]:
    """The model's modalities -> the file's keys.

    Raises:
      UserError: the file lacks one, or it has another number of channels or more frames.
    """
    where, keys = f"{lazy.one_line(contents.path, 4096)}: split {split!r}", {}
    for m in imputer.modalities:
        for key in dict.fromkeys((m.key, m.name)):
            with contextlib.suppress(UserError):
                rows = part_rows(part, key)
                keys[m.name] = key
                break
        else:
            raise UserError(
                f"{where}: no key {m.key!r} for modality {m.name!r}; allowed: a file with it, of "
                f"zeros or NaN where it is missing (found: {lazy.one_line(list(part.features))})"
            )
        longest = int(rows.lengths.max(initial=0)) if lazy.is_ragged(rows) else rows.shape[1]
        if rows.shape[2] != m.channels or longest > m.frames:
            raise UserError(
                f"{where}: key {keys[m.name]!r} has {longest} frames of {rows.shape[2]} channels; "
                f"allowed: at most {m.frames} of {m.channels}, as the model was trained with"
            )
    return keys


def blocks(imputer: Imputer, contents: Contents, split: str, keys) -> Iterator[Block]:
    """Raises `UserError`, naming the utterance, for what the model cannot take."""
    part = contents.splits[split]
    columns = {m: part_rows(part, key) for m, key in keys.items()}
    widest = max(columns.values(), key=lambda rows: rows.nbytes)
    cuts, talk = lazy.blocks(widest, BLOCK // len(columns)), {}
    if imputer.of_conversations:
        where = f"{lazy.one_line(contents.path, 4096)}: split {split!r}"
        cuts = _whole_conversations(where, part, cuts, imputer.longest)
        # Before utterances with nothing observed are left out: their places stay empty.
        talk = {"position": positions_of(part.talk["conversation"])} | dict(part.talk)
    for start, stop in cuts:
        given = {m: rows[start:stop] for m, rows in columns.items()}
        asked, shows, gaps = {}, {}, np.zeros(stop - start, bool)
        for m, x in given.items():
            asked[m] = _asked(part, keys[m], x, start)
            shows[m], lacks = _state(asked[m])
            partly = np.flatnonzero(lacks & shows[m])
            infinite = [i for i, a in enumerate(asked[m]) if a is not None and np.isposinf(a).any()]
            wrong = None
            if partly.size and not imputer.signature["frame_gaps"]:
                allowed = "whole modalities, or a model trained with diffusion.frame_gaps above 0"
                wrong = partly[0], "lacks some of its frames", allowed
            if infinite:
                wrong = infinite[0], "holds inf", "float32 numbers, NaN for a missing frame"
            if wrong:
                where = f"{lazy.one_line(contents.path, 4096)}: split {split!r}, key {keys[m]!r}"
                name = lazy.one_line(part.id[start + wrong[0]])
                raise UserError(f"{where}: utterance {name!r} {wrong[1]}; allowed: {wrong[2]}")
            gaps |= lacks | ~shows[m]
        own = {name: a[start:stop] for name, a in talk.items()}
        yield Block(start, given, asked, shows, gaps, np.any(list(shows.values()), axis=0), own)


def _whole_conversations(where: str, part: Part, cuts, longest: int) -> list[tuple[int, int]]:
    """`cuts` moved to where the next conversation begins; longest: utterances of one."""
    if not part.talk:
        raise UserError(
            f"{where}: no conversations, by which the model works; allowed: a folder of GCNet, or "
            "arrays 'conversation' (N,), and perhaps 'speaker' and 'position', beside the features"
        )
    named = part.talk["conversation"]
    starts = np.flatnonzero(np.append(len(named) > 0, named[1:] != named[:-1]))
    found, counts = np.unique(named[starts], return_counts=True)
    if (counts > 1).any():
        name = lazy.one_line(found[counts > 1][0], 60)
        raise UserError(
            f"{where}: conversation {name!r} is interrupted by another; allowed: its utterances "
            "after each other"
        )
    ends = np.append(starts[1:], len(named)).astype(int)
    for start, count in zip(starts, ends - starts, strict=False):
        if count > longest:
            name = lazy.one_line(named[start], 60)
            raise UserError(
                f"{where}: conversation {name!r} has {count} utterances; allowed: at most "
                f"{longest}, as the model was trained with"
            )
    moved = [0, *dict.fromkeys(int(ends[np.searchsorted(ends, stop)]) for _, stop in cuts)]
    return list(itertools.pairwise(moved))


def _state(asked) -> tuple[np.ndarray, np.ndarray]:
    """(n,) something is observed; (n,) some frame is missing."""
    if isinstance(asked, np.ndarray):
        missing = np.isnan(asked).any(-1)
        shows = (~missing & (asked != 0).any(-1)).any(1)
        return shows, missing.any(1)
    each = [_state(x[None]) if x is not None else (np.array([False]),) * 2 for x in asked]
    return tuple(np.array([one[i][0] for one in each], bool) for i in range(2))


def _asked(part: Part, key: str, given, start: int):
    """The frames that exist, NaN where the file says that they are not observed."""
    base = key if key in part.features else key.rpartition("[")[0]
    lengths, observed = part.frames.get(base), part.observed.get(base)
    with np.errstate(over="ignore"):
        if isinstance(given, np.ndarray):
            found = given.astype(np.float32)
        else:
            found = [np.array(x, np.float32) if len(x) else None for x in given]
    for row, x in enumerate(found if observed is not None else ()):
        if x is not None:
            x[~np.broadcast_to(observed[start + row], len(x))] = np.nan
    if lengths is None:
        return found
    return [x if x is None else x[: lengths[start + row]] for row, x in enumerate(found)]


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
        """Dense or ragged, as `like` is."""
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
    """A temporary folder where the output will be: renaming it is then atomic."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name[:50]}.")
    except OSError as error:
        raise UserError(f"{str(output)!r} cannot be written: {error.strerror}") from None
    with made as folder:
        yield folder
