"""Pickles: MMSA's `{train, valid, test}`, MulT's `*_data.pkl`, a flat dict, PyPOTS; GCNet's tuple.

Large arrays stay in the file when it is opened, and are streamed when it is written.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from mmdjax.data.formats import gcnet_folder, lazy, safe_pickle, tables
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import listed, refused

PROTOCOL = 4  # python 3.4 and later


def open_path(path: Path) -> Contents:
    """Open a pickle; raise `UserError` unless it holds plain arrays in one of these layouts."""
    tree = safe_pickle.load(path)
    if isinstance(tree, (tuple, list)):
        return gcnet_folder.open_pickle(path, tree)
    if not isinstance(tree, dict) or not tree:
        problem = "an empty dict" if isinstance(tree, dict) else f"a {type(tree).__name__}"
        allowed = (
            "a dict of arrays, of dicts of arrays ('train', 'valid', 'test'), or GCNet's tuple"
        )
        raise refused(path, f"holds {problem}", allowed)

    def write(output: Path, changed: dict) -> None:
        copy = dict(tree)
        for names, value in changed.items():
            if len(names) == 1:
                copy[names[0]] = value
            else:
                copy[names[0]] = dict(copy[names[0]]) | {names[1]: value}
        dump(output, copy)

    return tables.open_table(path, "pickle", _table(path, tree), write, sequences=True)


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


def dump(path: Path, tree: object) -> None:
    """Pickle plain containers of arrays, for numpy 1 and 2; `Lazy` rows become arrays, a block in
    memory at a time.

    Raises:
      OSError: the disk is full, or the like.
    """
    with path.open("wb") as file:
        _Pickler(file).dump(tree)


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def __init__(self, file):
        super().__init__(file, PROTOCOL)
        self._file = file

    def save_global(self, obj, name=None):
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
