"""MMIN's folder: A/comparE.h5, V/denseface.h5, L/bert_large.h5, a dataset (T, C) an utterance.

target/<fold>/{trn,val,tst}_label.npy and _int2name.npy name the utterances of each split; without
them, groups trn, val and tst in the files do, or all rows are one split. One .h5 file alone is read
too. An utterance that a file lacks is a row all the same: it has no frames there, and is not
observed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.formats import copying, hdf5, npy, tables, values
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.hdf5 import Dataset
from mmdjax.data.formats.lazy import one_line, reading
from mmdjax.errors import UserError

ALLOWED = "<X>/<feature>.h5 with a dataset (T, C) an utterance, and target/<fold>/*.npy"
_SPLITS = ("trn", "val", "tst")
_LEFT_OUT = ("_mean_std", *tables.MARKS)


class _File:
    """One .h5: split or '' -> utterance -> name of its dataset."""

    def __init__(self, path: Path, key: str, datasets: Mapping[str, Dataset]):
        self.path, self.key, self.datasets = path, key, datasets
        self.names: dict[str, dict[str, str]] = {}
        grouped = tables.names_splits(name.split("/")[0] for name in datasets)
        for name in datasets:
            parts = name.split("/")
            if len(parts) == 1 + grouped and not parts[0].endswith(_LEFT_OUT):
                self.names.setdefault(parts[0] if grouped else "", {})[parts[-1]] = name

    def name(self, split: str, one: str) -> str | None:
        found = self.names.get(split, self.names.get("", {}))
        return found.get(one)


def open_path(path: Path, fold: str = "", datasets: Mapping | None = None) -> Contents:
    """Of a folder, or of one .h5 file.

    Args:
      fold: of target/; by default the first.

    Raises:
      UserError: naming the file: no utterances, other channels, labels of other rows.
    """
    where = one_line(path, 4096)
    if path.is_dir():
        files = []
        for folder in sorted(path.iterdir()):
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            for file in inside:
                if file.suffix in (".h5", ".hdf5") and not file.stem.endswith(_LEFT_OUT):
                    key = f"{folder.name}/{file.stem}"
                    files.append(_File(file, key, hdf5.index(file)))
    else:
        files = [_File(path, path.stem, hdf5.index(path) if datasets is None else datasets)]
    files = [file for file in files if file.names]
    if not files:
        raise UserError(f"{where}: no utterances in it; allowed: {ALLOWED}")
    targets, notes = _targets(path / "target", fold) if path.is_dir() else ({}, ())
    if not targets:
        groups = dict.fromkeys(split for file in files for split in file.names)
        for split in groups:
            ids = dict.fromkeys(one for file in files for one in file.names.get(split, ()))
            targets[split or "all"] = (list(ids), None)
    parts, places = {}, {}
    for split, (ids, label) in targets.items():
        features, observed = {}, {}
        for file in files:
            there = [file.name(split, one) for one in ids]
            present = np.array([name is not None for name in there], bool)
            if not present.any():
                continue
            found = [name and hdf5.whole(name, file.datasets[name]) for name in there]
            features[file.key] = hdf5.sequences(file.path, found, file.datasets)
            places[split, file.key] = (file, found)
            if not present.all():
                observed[file.key] = present
                notes += tuple(f"{split}: {note}" for note in copying.lacks(file.key, present))
        if not features:
            raise UserError(f"{where}: split {split!r}: no features of any; allowed: {ALLOWED}")
        frames = {key: x.lengths for key, x in features.items()}
        parts[split] = Part(features, label, np.array(ids, str), frames, observed)

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        copying.copy_folder(path, output) if path.is_dir() else shutil.copyfile(path, output)
        _write(path, output, files, places, parts, replaced, added)

    paths = [file.path for file in files]
    return Contents(path, "mmin", parts, write, notes, lambda: hdf5.close(paths))


def _targets(folder: Path, fold: str):
    """split -> (utterances, labels), and notes; empty where there is no folder."""
    folds = [one.name for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    folds.sort(key=lambda name: (len(name), name))
    where = one_line(folder, 4096)
    if fold and fold not in folds:
        raise UserError(f"{where}: no fold {one_line(fold, 40)!r}; allowed: {tables.listed(folds)}")
    if not folds:
        return {}, ()
    fold = fold or folds[0]
    targets = {}
    for split in _SPLITS:
        label, ids = folder / fold / f"{split}_label.npy", folder / fold / f"{split}_int2name.npy"
        if not ids.exists():
            continue
        rows = npy.rows_of_file(ids)
        names = values.names_of(one_line(ids, 4096), rows, rows.shape[0] if rows.shape else 0)
        targets[split] = (names, _label(label, len(names)) if label.exists() else None)
    if not targets:
        what = "no trn_int2name.npy, val_int2name.npy or tst_int2name.npy"
        raise UserError(f"{where}: fold {one_line(fold, 40)!r} has {what}; allowed: {ALLOWED}")
    note = f"fold {fold} of {len(folds)}; for another, layout 'mmin:FOLD'"
    return targets, (note,) if len(folds) > 1 else ()


def _label(path: Path, count: int) -> np.ndarray:
    """(N,); the class where rows are one-hot, as IEMOCAP's."""
    where = one_line(path, 4096)
    label = values.label_of(where, npy.rows_of_file(path), count)
    with reading(where, ALLOWED):
        one_hot = label.ndim == 2 and np.isin(label, (0, 1)).all() and (label.sum(1) == 1).all()
    return label.argmax(1).astype(np.float32) if one_hot else label


def _write(path, output, files, places, parts, replaced: Changes, added: Changes) -> None:
    """Into a copy. Added arrays are a file beside that of the modality they begin with, <key>.h5;
    where the output is one file, a group of it."""
    changed = set()

    def copy_of(file: _File) -> Path:
        return output / file.path.relative_to(path) if path.is_dir() else output

    for (split, key), rows in replaced.items():
        file, found = places[split, key]
        changed.add(copy_of(file))
        for row, (one, place) in enumerate(zip(parts[split].id.tolist(), found, strict=True)):
            new = np.asarray(rows[row])
            if place is not None:
                stored = file.datasets[place.name]
                new = new.astype(stored.dtype).reshape(stored.shape)
                hdf5.write(copy_of(file), place.name, new, create=False)
            elif len(new):
                name = f"{split}/{one}" if split in file.names else one
                hdf5.write(copy_of(file), name, new.astype(rows.dtype))
    by_key = {file.key: file for file in files}
    for (split, key), rows in added.items():
        file = by_key[copying.owner(key, by_key)]
        name = copying.plain_name(one_line(path, 4096), key.split("/")[-1])
        target = copy_of(file)
        target = target.with_name(f"{name}.h5") if path.is_dir() else target
        changed.add(target)
        for row, one in enumerate(parts[split].id.tolist()):
            at = [] if path.is_dir() else [name]
            at += [split] if split in file.names else []
            hdf5.write(target, "/".join([*at, one]), np.atleast_1d(np.asarray(rows[row])))
    hdf5.close(changed)
