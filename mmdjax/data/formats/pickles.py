"""Pickles: MMSA's `{train, valid, test}`, MulT's `*_data.pkl`, a flat dict, PyPOTS; GCNet's tuple.

Large arrays stay in the file when it is opened, and are streamed when it is written.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from mmdjax.data.formats import lazy, safe_pickle, tables
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.rewriting import rewritten
from mmdjax.errors import UserError

PROTOCOL = 4  # python 3.4 and later


def open_path(path: Path) -> Contents:
    """Raises `UserError` unless the file is a pickle of plain arrays in one of these layouts."""
    where = one_line(path, 4096)
    tree = safe_pickle.load_lazily(path)
    if isinstance(tree, (tuple, list)):
        from mmdjax.data.formats import gcnet_folder

        return gcnet_folder.open_pickle(path, tree)
    if not isinstance(tree, dict) or not tree:
        what = "an empty dict" if isinstance(tree, dict) else f"a {type(tree).__name__}"
        raise UserError(
            f"{where}: holds {what}; allowed: a dict of arrays, of dicts of arrays ('train', "
            "'valid', 'test'), or GCNet's tuple"
        )
    table = _table(where, tree)
    splits, parts = tables.parts(where, table)
    pypots = splits.kind == "prefix" or all("X" in keys for keys in splits.columns.values())

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        made = dict(tree)
        for names, value in rewritten(where, table, splits, replaced, added).items():
            if len(names) == 2 and made[names[0]] is tree[names[0]]:
                made[names[0]] = dict(tree[names[0]])
            (made[names[0]] if len(names) == 2 else made)[names[-1]] = value
        dump(output, made)

    return Contents(path, "pypots" if pypots else "pickle", parts, write)


def _table(where: str, tree: dict) -> tables.Table:
    """Of a dict, or of the dicts in it; names that are not words are left out."""
    nested = {key: part for key, part in tree.items() if isinstance(part, dict)}
    if not nested:
        return {(key,): value for key, value in tree.items() if isinstance(key, str)}
    words = [split for split in nested if isinstance(split, str)]
    if not tables.names_splits(words):
        known = ", ".join(tables.KNOWN_SPLITS)
        raise UserError(f"{where}: splits {tables.listed(words)}; allowed: one of {known} at least")
    return {
        (split, key): value
        for split in words
        for key, value in nested[split].items()
        if isinstance(key, str)
    }


def dump(path: Path, tree: object) -> None:
    """Pickles plain containers of arrays; `Lazy` rows become arrays, a block in memory at a time.

    numpy 1 and 2 both read the file.

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
        """The calls that numpy writes for an array, its bytes written block by block."""
        self.save_reduce(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), obj=rows)
        self.write(pickle.MARK)
        for item in (1, rows.shape, rows.dtype, False):
            self.save(item)
        self._save_bytes(
            rows.nbytes, (np.ascontiguousarray(rows[a:b]) for a, b in lazy.blocks(rows))
        )
        self.write(pickle.TUPLE + pickle.BUILD)

    def save_left_bytes(self, left: safe_pickle.BytesInFile) -> None:
        raw = lazy.ArrayInFile(left.path, left.offset, (left.size,), np.uint8)
        self._save_bytes(left.size, (raw[a:b] for a, b in lazy.blocks(raw)))
        self.memoize(left)

    def _save_bytes(self, size: int, parts) -> None:
        """A bytes object that stands outside of frames, as pickle puts large ones."""
        if self.framer.current_frame:
            self.framer.commit_frame(force=True)
        self._file.write(pickle.BINBYTES8 + struct.pack("<Q", size))
        for part in parts:
            self._file.write(memoryview(part.reshape(-1).view(np.uint8)) if part.size else b"")

    dispatch[lazy.Lazy] = save_rows
    dispatch[lazy.ArrayInFile] = save_rows
    dispatch[safe_pickle.BytesInFile] = save_left_bytes
