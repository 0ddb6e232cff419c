"""A file's rows in blocks, as a model takes them, and rows in a file until they are written."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdjax.data.conversations import positions_of
from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, part_rows
from mmdjax.errors import UserError, require
from mmdjax.serving import inputs
from mmdjax.serving.imputer import Imputed, Imputer
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

    split: Split
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

    def ask(self, answer: Callable, rows: np.ndarray, **settings: Any) -> Any:
        """Return `answer`, a method of `Imputer`, for some rows; None for no rows."""
        if not rows.size:
            return None
        talk = {name: a[rows] for name, a in self.talk.items()}
        try:
            return answer(self.given.at(rows), **settings, **talk)
        except UserError as error:
            raise UserError(f"{self.split.where}: {error}") from None


class Split:
    """A split of a file as a model reads it.

    Attributes:
      where: the names of file and split, as messages begin.
      keys: modality -> its key in the file. absent: modality -> the key it would have, of those
        that the file does not hold, and every utterance lacks.
      columns: modality -> its rows in the file; of absent ones NaN.
    """

    def __init__(
        self, imputer: Imputer, contents: Contents, name: str, renamed: Mapping[str, str]
    ) -> None:
        """Raise `UserError` for a file without any modality, other channels, or more frames.

        Args:
          renamed: modality -> its key in this file, of those that have another than in training.
        """
        self.imputer, self.name, self.part = imputer, name, contents.splits[name]
        self.where = f"{lazy.one_line(contents.path, 4096)}: split {lazy.one_line(name, 64)!r}"
        self.keys, self.absent, self.columns = {}, {}, {}
        for m in imputer.modalities:
            if m.name in renamed:
                self.keys[m.name] = key = renamed[m.name]
                try:
                    self.columns[m.name] = part_rows(self.part, key)
                except UserError as error:
                    raise UserError(f"{self.where}: {error}") from None
            for key in (m.name, m.key) if m.name not in renamed else ():
                with contextlib.suppress(UserError):
                    self.columns[m.name], self.keys[m.name] = part_rows(self.part, key), key
            if m.name not in self.keys:
                self.absent[m.name] = m.key
                shape = (len(self.part), m.frames, m.channels)
                self.columns[m.name] = np.broadcast_to(np.float32(np.nan), shape)
                continue
            rows, key = self.columns[m.name], self.keys[m.name]
            longest = int(rows.lengths.max(initial=0)) if lazy.is_ragged(rows) else rows.shape[1]
            # Of sequences those that are too long are left out, row by row.
            fits = lazy.is_ragged(rows) or longest <= m.frames
            require(
                rows.shape[2] == m.channels and fits,
                f"{self.where}: key {key!r} has {longest} frames of {rows.shape[2]} channels",
                TRAINED_WITH.format(f"{m.frames} of {m.channels}"),
            )
        wanted = ", ".join(repr(m.key) for m in imputer.modalities)
        listed = lazy.one_line(list(self.part.features))
        require(
            self.keys, f"{self.where}: none of the keys {wanted}", f"a file with one ({listed})"
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the rows; raise `UserError`, which names the utterance, for what the model cannot
        take."""
        widest = max((self.columns[m] for m in self.keys), key=lambda rows: rows.nbytes)
        cuts, talk = lazy.blocks(widest, BLOCK // len(self.columns)), {}
        if self.imputer.of_conversations:
            cuts = self._whole_conversations(cuts)
            # Before utterances with nothing observed are left out: their places stay empty.
            talk = {"position": positions_of(self.part.talk["conversation"])} | self.part.talk
        for start, stop in cuts:
            raw = {m: rows[start:stop] for m, rows in self.columns.items()}
            given = self._given(raw, start, stop)
            shows, gaps = given.shows(), np.zeros(stop - start, bool)
            for m, x in given.features.items():
                lacks, infinite = np.isnan(x).any((1, 2)), np.isposinf(x).any((1, 2))
                partly = np.isnan(x).all(-1).any(1) & shows[m]
                partly &= not self.imputer.signature["frame_gaps"]
                for mistaken, mistake in ((infinite, INFINITE), (partly, PARTLY)):
                    if mistaken.any():
                        place = f"{self.where}, key {self.keys[m]!r}"
                        name = lazy.one_line(self.part.id[start + np.argmax(mistaken)])
                        raise UserError(f"{place}: utterance {name!r} {mistake}")
                gaps |= lacks | ~shows[m]
            some = np.any(list(shows.values()), axis=0)
            places = {name: a[start:stop] for name, a in talk.items()}
            yield Block(self, start, raw, given, shows, gaps, some, places)

    def _given(self, raw: Mapping[str, Any], start: int, stop: int) -> inputs.Given:
        """Return the frames that exist, NaN where the file says that they are not observed."""
        given = inputs.padded(self.imputer.modalities, raw, stop - start)
        for m, key in self.keys.items():
            x, said = given.features[m], given.said[m]
            base = key if key in self.part.features else key.rpartition("[")[0]
            observed, lengths = self.part.observed.get(base), self.part.frames.get(base)
            for row, count in enumerate(map(len, raw[m])):
                if row in given.left_out:
                    continue
                if count and observed is not None:
                    frames = np.broadcast_to(observed[start + row], count)
                    x[row, :count][~frames] = np.nan
                if lengths is not None:
                    said[row] = min(lengths[start + row], count)
                    x[row, said[row] :] = 0
        return given

    def _whole_conversations(self, cuts: Any) -> list[tuple[int, int]]:
        """Return `cuts` moved to where the next conversation begins."""
        require(
            self.part.talk,
            f"{self.where}: no conversations, by which the model works",
            "a folder of GCNet, or arrays 'conversation' (N,), and perhaps 'speaker' and "
            "'position', beside the features",
        )
        named, longest, met = self.part.talk["conversation"], self.imputer.longest, set()
        starts = np.flatnonzero(np.append(len(named) > 0, named[1:] != named[:-1]))
        ends = np.append(starts[1:], len(named)).astype(int)
        for name, count in zip(named[starts].tolist(), ends - starts, strict=False):
            conversation = f"{self.where}: conversation {lazy.one_line(name, 60)!r}"
            problem = f"{conversation} is interrupted by another"
            require(name not in met, problem, "its utterances after each other")
            most = TRAINED_WITH.format(longest)
            require(count <= longest, f"{conversation} has {count} utterances", most)
            met.add(name)
        moved = [0, *dict.fromkeys(int(ends[np.searchsorted(ends, stop)]) for _, stop in cuts)]
        return list(itertools.pairwise(moved))


class Completed:
    """A column of a file, completed: its rows in a temporary file, the rest in memory.

    Attributes:
      drawn: of each row (T,) bool, frames that were drawn. spread: of each row, see `Imputed`.
    """

    def __init__(self, path: Path, like: Any, absent: bool = False) -> None:
        """like: the column as it is in its file, dense or ragged. absent: it is not there; rows
        that are completed are 0 after their end."""
        self.path, self.like, self.absent = path, like, absent
        self.drawn, self.spread = [], []

    def append(self, raw: Any, filled: Imputed | None, m: str, rows: np.ndarray) -> None:
        """Add a block as it was read, with what was filled of its `rows`."""
        whole, drawn = list(raw), [np.zeros(len(x), bool) for x in raw]
        spread = np.zeros(len(whole), np.float32)
        if filled is not None:
            spread[rows] = filled.spread[m]
            features, dtype = filled.features[m], self.like.dtype
            first = features if features.ndim == 3 else features[0]
            features = features if features.ndim == 3 else features.mean(0)
            if dtype.kind == "f":  # float16 has a largest number
                features = np.clip(features, np.finfo(dtype).min, np.finfo(dtype).max)
            else:
                features = np.rint(features)
            for place in np.flatnonzero(filled.drawn[m].any(1)):
                row, frames = rows[place], filled.drawn[m][place]
                if lazy.is_ragged(self.like) and not len(whole[row]):  # the file lacks it
                    drawn[row] = frames[filled.exists[m][place]]
                    whole[row] = np.zeros((len(drawn[row]), features.shape[2]), dtype)
                count = min(len(frames), len(drawn[row]))
                drawn[row][:count] = frames[:count]
                whole[row] = np.zeros_like(whole[row]) if self.absent else whole[row].copy()
                old, one = whole[row][:count], first[place, :count]
                # Numbers that stand beside NaN in a frame come back as float32: these stay.
                changed = frames[:count, None] & (old.astype(np.float32) != one)
                old[changed] = features[place, :count][changed]
        self.drawn += drawn
        self.spread += spread.tolist()
        with self.path.open("ab") as file:
            file.writelines(np.ascontiguousarray(x).data for x in whole if x.size)

    def rows(self) -> Any:
        """Return the rows, dense or ragged as in the file, of which some were drawn."""
        shape, dtype = self.like.shape, self.like.dtype
        if not lazy.is_ragged(self.like):
            return lazy.ArrayInFile(self.path, 0, shape, dtype)
        lengths = np.array([len(frames) for frames in self.drawn])
        ends = np.cumsum(lengths)
        flat = lazy.ArrayInFile(self.path, 0, (int(ends[-1]), shape[2]), dtype)

        def read(rows) -> list[np.ndarray]:
            return [flat[int(ends[row] - lengths[row]) : int(ends[row])] for row in rows]

        return lazy.Ragged(lengths, shape[2], dtype, read)

    def mask(self) -> np.ndarray | list:
        """Return `drawn` as an array (N, T) or, of sequences, as a list."""
        ragged = lazy.is_ragged(self.like)
        return self.drawn if ragged else np.array(self.drawn, bool).reshape(self.like.shape[:2])
