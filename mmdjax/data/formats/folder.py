"""FOLDER/<modality>/<id>.npy, (T, C) or (C,), and perhaps FOLDER/labels.csv: id,label[,split].

An id that some modality lacks is a row all the same: it has no frames there, and is not observed.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget, folders, lazy, npy, tables, values
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.lazy import Rows, one_line, quoted, refused

_COLUMNS = 1000
_CSV = "a labels.csv in UTF-8 with a first line id,label or id,label,split"


def open_path(path: Path) -> Contents:
    """Open a folder; raise `UserError` unless it is as described."""
    files: dict[str, dict[str, Path]] = {}
    for key in modality_folders(path):
        if by_id := {file.stem: file for file in sorted((path / key).glob("*.npy"))}:
            files[key] = by_id
    if not files:
        raise refused(path, "no folder of .npy files in it", "FOLDER/<modality>/<id>.npy")
    ids = sorted({id for by_id in files.values() for id in by_id})
    labels, splits, classes, notes = labels_of(path / "labels.csv", ids)
    parts = {}
    for split in dict.fromkeys(splits):
        rows = [id for id, its_split in zip(ids, splits, strict=True) if its_split == split]
        paths = {key: [by_id.get(id) for id in rows] for key, by_id in files.items()}
        label = None if labels is None else np.array([labels.get(id, np.nan) for id in rows], "f4")
        part, missing = part_of_files(path, paths, rows, label)
        parts[split] = dataclasses.replace(part, classes=classes)
        notes += missing

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        folders.copy(path, output)
        write_files(path, output, parts, replaced, added)

    return Contents(path, "folder", parts, write, notes)


def modality_folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, without hidden ones and what stands beside."""
    inside = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir()]
    return [name for name in inside if not name.startswith(".") and not name.endswith(tables.MARKS)]


def part_of_files(
    where: object,
    files: Mapping[str, Sequence[str | Path | None]],
    ids: list[str],
    label: np.ndarray | None,
) -> tuple[Part, tuple[str, ...]]:
    """Return a part with a .npy file a row, and notes on what is missing."""
    return folders.joined(where, ids, label, files, lambda key, paths: _rows_of_files(paths))


def _rows_of_files(paths: Sequence[str | Path | None]) -> Rows:
    """Return (N, T, C) if all N files are there and have T frames, else N sequences (T_i, C).

    Raises:
      UserError: naming the file: not (T, C) or (C,) numbers, or of other channels than the first.
    """
    lengths, channels, dtypes = np.zeros(len(paths), np.int64), 0, set()
    for row, path in enumerate(paths):
        if path is None:
            continue
        x = npy.rows_of_file(path)
        if x.ndim not in (1, 2) or not x.shape[-1] or x.dtype.kind not in lazy.NUMBERS:
            raise refused(path, f"shape {x.shape} of {x.dtype}", "(T, C) or (C,) numbers")
        if channels and x.shape[-1] != channels:
            allowed = f"{channels}, as in the first file"
            raise refused(path, f"{x.shape[-1]} channels", allowed)
        channels = x.shape[-1]
        lengths[row] = x.shape[0] if x.ndim == 2 else 1
        dtypes.add(x.dtype)
    dtype = np.result_type(*dtypes)
    names = [path and str(path) for path in paths]

    def row_of(row: int) -> np.ndarray:
        if names[row] is None:
            return np.zeros((0, channels), dtype)
        with lazy.reading(names[row], npy.ALLOWED):
            array = np.asarray(npy.rows_of_file(names[row])).reshape(-1, channels)
            if len(array) != lengths[row]:
                raise ValueError("it has changed since it was opened")
        return array.astype(dtype)

    return lazy.row_by_row(lengths, channels, dtype, row_of)


def write_files(
    where: object, folder: Path, parts: Mapping[str, Part], replaced: Changes, added: Changes
) -> None:
    """Write into a copy of a folder: FOLDER/<key>/<id>.npy for each row that has frames."""
    for key in dict.fromkeys(key for _, key in added):
        if (folder / folders.plain_name(where, key)).exists():
            allowed = "a folder as it was before it was completed"
            raise refused(where, f"holds {quoted(key)} already", allowed)
    for (split, key), rows in (*replaced.items(), *added.items()):
        ids = [folders.plain_name(where, id) for id in parts[split].id.tolist()]
        paths = [folder / folders.plain_name(where, key) / f"{id}.npy" for id in ids]
        stored = next((path for path in paths if path.exists()), None)
        vectors = stored is not None and npy.rows_of_file(stored).ndim == 1  # (C,), as others here
        for row, path in enumerate(paths):
            array = np.asarray(rows[row])
            if (split, key) in replaced:
                if not len(array):
                    continue
                if path.exists():
                    old = npy.rows_of_file(path)
                    array = array.astype(old.dtype).reshape(old.shape)
                else:
                    array = array.astype(parts[split].features[key].dtype)
                    array = array[0] if vectors and len(array) == 1 else array
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a link would lead elsewhere
            with path.open("wb") as file:
                npy.write(file, np.atleast_1d(array))


def labels_of(
    path: Path, ids: list[str]
) -> tuple[dict[str, float] | None, list[str], tuple[str, ...], tuple[str, ...]]:
    """Return of a labels.csv id -> label or None, splits of ids, `Part.classes`, and notes."""
    if not path.is_file():
        return None, ["all"] * len(ids), (), ()
    known, labels, splits, extra = set(ids), {}, {}, 0
    with lazy.reading(path, _CSV), path.open(newline="", encoding="utf-8-sig") as file:
        try:
            lines = csv.DictReader(file)
            header = tuple(lines.fieldnames or ())
            if not {"id", "label"} <= set(header):
                raise ValueError(f"its first line is {quoted(','.join(map(str, header)))}")
            if len(header) > _COLUMNS:  # each row gets all of them
                raise ValueError(f"{len(header)} columns")
            for line in lines:
                id = line["id"] or ""
                if id in labels:
                    raise ValueError(f"id {quoted(id)} is there twice")
                if id not in known:
                    extra += 1
                    continue
                labels[id] = line["label"] or "nan"
                splits[id] = line.get("split") or ""
        except csv.Error as error:
            raise ValueError(str(error)) from None
        classes = values.class_names([list(labels.values())])
        number = {name: float(place) for place, name in enumerate(classes)}
        labels = {
            id: number.get(word, np.nan) if classes else _number(id, word)
            for id, word in labels.items()
        }
    notes = (f"labels.csv has {extra} ids without features: left out",) if extra else ()
    if "split" not in header:
        return labels, ["all"] * len(ids), classes, notes
    for id in ids:
        if not splits.get(id):
            raise refused(path, f"id {quoted(id)} has no split", _CSV)
    budget.check_splits(path, set(splits.values()))
    return labels, [splits[id] for id in ids], classes, notes


def _number(id: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        label = one_line(text, 40)
        raise ValueError(f"id {quoted(id)} has label {label!r}, no number") from None
