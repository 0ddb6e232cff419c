"""Pickles: MMSA's `{train, valid, test}`, MulT's `*_data.pkl`, a flat dict, PyPOTS; and those that
`conversations`, `samples` and `gcnet_folder` describe.

Large arrays stay in the file when it is opened, and are streamed when it is written.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmdjax.data.formats import (
    conversations,
    foreign,
    gcnet_folder,
    lazy,
    pickle_process,
    places,
    safe_pickle,
    samples,
    tables,
)
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import listed, refused

PROTOCOL = 4  # python 3.4 and later
ALLOWED = (
    "a dict of arrays, of dicts of arrays ('train', 'valid', 'test') or from ids to arrays, lists "
    "of ((words, visual, acoustic), label, id), or a tuple of conversations as DialogueRNN, MMGCN, "
    "COSMIC or GCNet unpack it"
)


def open_path(path: Path) -> Contents:
    """Open a pickle; raise `UserError` unless it holds plain arrays in one of these layouts."""
    return open_tree(path, "pickle", pickle_process.load(path), dump)


def open_tree(path: Path, layout: str, tree: object, dump: Callable[[Path, Any], None]) -> Contents:
    """Open what a pickle holds.

    Args:
      layout: of the file. dump: (output, tree) writes such a file.

    Raises:
      UserError: it holds no plain arrays in one of these layouts.
    """
    if isinstance(tree, (tuple, list)) and conversations.names_of_tuple(tree):
        return conversations.open_tuple(path, layout, tree, dump)
    if samples.of_lists(tree):
        return samples.open_lists(path, layout, tree, dump)
    if isinstance(tree, (tuple, list)) and gcnet_folder.fits(tree):
        return gcnet_folder.open_pickle(path, tree)
    if not isinstance(tree, dict) or not tree:
        raise foreign.of_object(path, tree, ALLOWED)
    if conversations.modalities_of_videos(tree):
        return conversations.open_videos(path, layout, tree, dump)
    if samples.of_ids(tree):
        return samples.open_ids(path, layout, tree, dump)

    def write(output: Path, changed: dict) -> None:
        dump(output, places.with_changes(tree, changed))

    return tables.open_table(path, layout, _table(path, tree), write, sequences=True)


def _table(path: Path, tree: dict) -> tables.Table:
    """Return the arrays of a dict, or of the dicts in it, whose names are words."""
    nested = {key: part for key, part in tree.items() if isinstance(part, dict)}
    if not nested:
        return {(key,): value for key, value in tree.items() if isinstance(key, str)}
    words = [split for split in nested if isinstance(split, str)]
    if not tables.names_splits(words):
        allowed = f"one of {', '.join(tables.KNOWN_SPLITS)} at least"
        raise refused(path, f"splits {listed(words)}", allowed)
    pairs = ((split, key) for split in words for key in nested[split] if isinstance(key, str))
    return {(split, key): nested[split][key] for split, key in pairs}


def dump(path: Path, tree: object, header: bytes = b"") -> None:
    """Pickle plain containers of arrays, for numpy 1 and 2; `Lazy` rows become arrays, a block in
    memory at a time.

    Raises:
      OSError: the disk is full, or the like.
    """
    with path.open("wb") as file:
        file.write(header)
        _Pickler(file).dump(tree)


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, PROTOCOL)
        self._file = file

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = getattr(obj, "__module__", None) or ""
        if not module.startswith("numpy._core"):
            return super().save_global(obj, name)
        self.save(module.replace("numpy._core", "numpy.core"))  # the name that both numpys know
        self.save(name or obj.__name__)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    def save_rows(self, rows: lazy.Lazy) -> None:
        """Write the calls that numpy writes for an array, its bytes block by block."""
        self.save_reduce(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), obj=rows)
        self.write(pickle.MARK)
        for item in (1, rows.shape, rows.dtype, False):
            self.save(item)
        self._save_bytes(rows)
        self.write(pickle.TUPLE + pickle.BUILD)

    def save_left_bytes(self, left: safe_pickle.BytesInFile) -> None:
        raw = lazy.ArrayInFile(left.path, left.offset, (left.size,), np.uint8)
        self._save_bytes(raw)
        self.memoize(left)

    def _save_bytes(self, rows: lazy.Lazy) -> None:
        """Write a bytes object outside of frames, where pickle puts large ones."""
        if self.framer.current_frame:
            self.framer.commit_frame(force=True)
        self._file.write(pickle.BINBYTES8 + struct.pack("<Q", rows.nbytes))
        for start, stop in lazy.blocks(rows):
            self._file.write(lazy.bytes_of(np.ascontiguousarray(rows[start:stop])))

    dispatch[lazy.Lazy] = save_rows
    dispatch[lazy.ArrayInFile] = save_rows
    dispatch[safe_pickle.BytesInFile] = save_left_bytes
