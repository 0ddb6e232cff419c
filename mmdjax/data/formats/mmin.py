"""MMIN's folder: A/comparE.h5, V/denseface.h5, L/bert_large.h5, a dataset (T, C) an utterance.

target/<fold>/{trn,val,tst}_label.npy and _int2name.npy name the utterances of each split; without
them, groups trn, val and tst in the files do, or all rows are one split. One .h5 file alone is read
too. An utterance that a file lacks is a row all the same: it has no frames there, and is not
observed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import folders, hdf5, npy, tables, values
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.hdf5 import Dataset
from mmdjax.data.formats.lazy import Ragged, listed, quoted, refused

ALLOWED = "<X>/<feature>.h5 with a dataset (T, C) an utterance, and target/<fold>/*.npy"
_LEFT_OUT = ("_mean_std", *tables.MARKS)


class _File:
    """One .h5: split or '' -> utterance -> name of its dataset."""

    def __init__(self, path: Path, key: str, datasets: Mapping[str, Dataset]) -> None:
        self.path, self.key, self.datasets = path, key, datasets
        self.names: dict[str, dict[str, str]] = {}
        grouped = tables.names_splits(name.split("/")[0] for name in datasets)
        for name in datasets:
            names = name.split("/")
            if len(names) == 1 + grouped and not names[0].endswith(_LEFT_OUT):
                self.names.setdefault(names[0] if grouped else "", {})[names[-1]] = name

    def place(self, split: str, id: str) -> hdf5.Place | None:
        """Return the place of an utterance's features."""
        name = self.names.get(split, self.names.get("", {})).get(id)
        return name and hdf5.whole(name, self.datasets[name])


def open_path(path: Path, fold: str = "", datasets: Mapping | None = None) -> Contents:
    """Open a folder, or one .h5 file.

    Args:
      fold: of target/; by default the first.

    Raises:
      UserError: naming the file: no utterances, other channels, labels of other rows.
    """
    if path.is_dir():
        paths = [x for x in sorted(path.glob("*/*")) if x.suffix in (".h5", ".hdf5")]
        paths = [x for x in paths if not x.stem.endswith(_LEFT_OUT)]
        files = [_File(x, f"{x.parent.name}/{x.stem}", hdf5.index(x)) for x in paths]
    else:
        files = [_File(path, path.stem, hdf5.index(path) if datasets is None else datasets)]
    by_key = {file.key: file for file in files if file.names}
    if not by_key:
        raise refused(path, "no utterances in it", ALLOWED)
    targets, notes = _targets(path / "target", fold) if path.is_dir() else ({}, ())
    if not targets:
        for split in dict.fromkeys(split for file in by_key.values() for split in file.names):
            ids = dict.fromkeys(id for file in by_key.values() for id in file.names.get(split, ()))
            targets[split or "all"] = (list(ids), None)
    parts, places = {}, {}

    def read(key: str, in_file: Sequence[hdf5.Place | None]) -> Ragged:
        return hdf5.sequences(by_key[key].path, in_file, by_key[key].datasets)

    for split, (ids, label) in targets.items():
        places[split] = {k: [file.place(split, id) for id in ids] for k, file in by_key.items()}
        where = f"{path}: split {quoted(split)}"
        parts[split], missing = folders.joined(where, ids, label, places[split], read)
        notes += tuple(f"{split}: {note}" for note in missing)

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        folders.copy(path, output)
        _write(path, output, by_key, places, parts, replaced, added)

    paths = [file.path for file in by_key.values()]
    return Contents(path, "mmin", parts, write, notes, lambda: hdf5.close(paths))


def _targets(
    folder: Path, fold: str
) -> tuple[dict[str, tuple[list[str], np.ndarray | None]], tuple[str, ...]]:
    """Return split -> (utterances, labels), and notes; empty where there is no folder."""
    folds = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    folds.sort(key=lambda name: (len(name), name))
    if fold and fold not in folds:
        raise refused(folder, f"no fold {quoted(fold, 40)}", listed(folds))
    if not folds:
        return {}, ()
    fold = fold or folds[0]
    targets = {}
    for split in ("trn", "val", "tst"):
        label, ids = folder / fold / f"{split}_label.npy", folder / fold / f"{split}_int2name.npy"
        if ids.exists():
            rows = npy.rows_of_file(ids)
            names = values.names_of(str(ids), rows, rows.shape[0] if rows.shape else 0)
            targets[split] = (names, _label(label, len(names)))
    if not targets:
        problem = "no trn_int2name.npy, val_int2name.npy or tst_int2name.npy"
        raise refused(folder, f"fold {quoted(fold, 40)} has {problem}", ALLOWED)
    note = f"fold {fold} of {len(folds)}; for another, layout 'mmin:FOLD'"
    return targets, (note,) if len(folds) > 1 else ()


def _label(path: Path, count: int) -> np.ndarray | None:
    """Return (N,), the class where rows are one-hot, as IEMOCAP's; None without a file."""
    if not path.exists():
        return None
    label = values.label_of(str(path), npy.rows_of_file(path), count)
    one_hot = label.ndim == 2 and np.isin(label, (0, 1)).all() and (label.sum(1) == 1).all()
    return label.argmax(1).astype(np.float32) if one_hot else label


def _write(
    path: Path,
    output: Path,
    by_key: Mapping[str, _File],
    places: Mapping[str, Mapping[str, Sequence[hdf5.Place | None]]],
    parts: Mapping[str, Part],
    replaced: Changes,
    added: Changes,
) -> None:
    """Write into a copy; added arrays are a file beside that of the modality they begin with,
    <key>.h5, or where the output is one file, a group of it."""
    changed = set()

    def copy_of(file: _File) -> Path:
        return output / file.path.relative_to(path) if path.is_dir() else output

    for (split, key), rows in replaced.items():
        file = by_key[key]
        changed.add(copy_of(file))

        def create(row: int, new: np.ndarray, file: _File = file, split: str = split) -> None:
            id = str(parts[split].id[row])
            hdf5.write(copy_of(file), f"{split}/{id}" if split in file.names else id, new)

        hdf5.replace(copy_of(file), places[split][key], file.datasets, rows, create)
    for (split, key), rows in added.items():
        file = by_key[folders.owner(key, by_key)]
        name = folders.plain_name(path, key.split("/")[-1])
        target = copy_of(file).with_name(f"{name}.h5") if path.is_dir() else output
        changed.add(target)
        groups = [] if path.is_dir() else [name]
        groups += [split] if split in file.names else []
        for row, id in enumerate(parts[split].id.tolist()):
            hdf5.write(target, "/".join([*groups, id]), np.atleast_1d(np.asarray(rows[row])))
    hdf5.close(changed)
