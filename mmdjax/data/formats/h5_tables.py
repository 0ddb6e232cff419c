"""HDF5 files of arrays (N, T, C) by key, in groups by split or not; PyPOTS saves these.

Other HDF5 files are handed to the layout they have: a .csd, or MMIN's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from mmdjax.data.formats import csd, hdf5, mmin, tables
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import is_ragged, one_line
from mmdjax.data.formats.rewriting import rewritten
from mmdjax.errors import UserError


def open_path(path: Path) -> Contents:
    """Raises `UserError` unless the HDF5 file is in one of the three layouts."""
    where = one_line(path, 4096)
    datasets = hdf5.index(path)
    if csd.fits(datasets):
        return csd.open_path(path, datasets)
    about = ("id", "X", *tables.LABELS)
    is_table = any(len(d.shape) == 3 and d.is_numbers for d in datasets.values())
    if not is_table and not any(name.split("/")[-1] in about for name in datasets):
        return mmin.open_path(path, "", datasets)
    nested = tables.names_splits(name.split("/")[0] for name in datasets)
    table, name_of = {}, {}
    for name, dataset in datasets.items():
        names = tuple(name.split("/", 1)) if nested else (name,)
        table[names], name_of[names] = _column(path, name, dataset), name
    splits, parts = tables.parts(where, table)

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        changed = rewritten(where, table, splits, replaced, added)
        shutil.copyfile(path, output)
        for names, rows in changed.items():
            if isinstance(rows, list) or is_ragged(rows):
                key = one_line(names[-1], 60)
                what = f"key {key!r} is sequences of unequal length"
                raise UserError(f"{where}: {what}; allowed: (N, ...) in this file")
            known = names in name_of
            hdf5.write(output, name_of[names] if known else "/".join(names), rows, 0, not known)
        hdf5.close([output])

    pypots = splits.kind == "prefix" or all("X" in keys for keys in splits.columns.values())
    layout = "pypots" if pypots else "h5"
    return Contents(path, layout, parts, write, close=lambda: hdf5.close([path]))


def _column(path: Path, name: str, dataset: hdf5.Dataset):
    """Rows, names as an array, or None."""
    if dataset.dtype == "text":
        if name.split("/")[-1] not in ("id", "split", *tables.TALK, *tables.LABELS):
            return None
        return np.array(hdf5.texts(path, name), object).reshape(dataset.shape)
    return hdf5.rows(path, name, dataset) if dataset.dtype and dataset.shape else None
