"""HDF5 files of arrays (N, T, C) by key, in groups by split or not; PyPOTS saves these.

Other HDF5 files are handed to the layout they have: a .csd, or MMIN's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from mmdjax.data.formats import csd, hdf5, mmin, tables
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import Rows


def open_path(path: Path) -> Contents:
    """Open an HDF5 file; raise `UserError` unless it is in one of the three layouts."""
    datasets = hdf5.index(path)
    if csd.fits(datasets):
        return csd.open_path(path, datasets)
    is_table = any(len(d.shape) == 3 and d.is_numbers for d in datasets.values())
    marks = {"id", "X", *tables.LABELS}
    if not is_table and not any(name.split("/")[-1] in marks for name in datasets):
        return mmin.open_path(path, "", datasets)
    nested = tables.names_splits(name.split("/")[0] for name in datasets)
    table, name_of = {}, {}
    for name, dataset in datasets.items():
        names = tuple(name.split("/", 1)) if nested else (name,)
        table[names], name_of[names] = _column(path, name, dataset), name

    def write(output: Path, changed: dict) -> None:
        shutil.copyfile(path, output)
        for names, rows in changed.items():
            name = name_of.get(names, "/".join(names))
            hdf5.write(output, name, rows, create=names not in name_of)
        hdf5.close([output])

    return tables.open_table(path, "h5", table, write, close=lambda: hdf5.close([path]))


def _column(path: Path, name: str, dataset: hdf5.Dataset) -> Rows | None:
    """Return rows, names as an array, or None."""
    if dataset.dtype == "text":
        if name.split("/")[-1] not in ("id", "split", *tables.TALK, *tables.LABELS):
            return None
        return np.array(hdf5.texts(path, name), object).reshape(dataset.shape)
    return hdf5.rows(path, name, dataset) if dataset.dtype and dataset.shape else None
