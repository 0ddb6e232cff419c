"""FOLDER/<modality>/<id>.npy, (T, C) or (C,), and perhaps FOLDER/labels.csv: id,label[,split].

An id that some modality lacks is a row all the same: it has no frames there, and is not observed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import copying, lazy, npy, tables
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.lazy import one_line
from mmdjax.errors import UserError

_CSV = "a labels.csv in UTF-8 with a first line id,label or id,label,split"


def open_path(path: Path) -> Contents:
    """Raises `UserError` unless the folder is as described."""
    where = one_line(path, 4096)
    files: dict[str, dict[str, Path]] = {}
    for folder in sorted(path.iterdir()):
        hidden = folder.name.startswith(".") or folder.name.endswith(tables.MARKS)
        if folder.is_dir() and not hidden:
            found = {file.stem: file for file in sorted(folder.glob("*.npy"))}
            files |= {folder.name: found} if found else {}
    if not files:
        allowed = "FOLDER/<modality>/<id>.npy"
        raise UserError(f"{where}: no folder of .npy files in it; allowed: {allowed}")
    ids = sorted({name for found in files.values() for name in found})
    labels, splits, notes = _labels(path / "labels.csv", ids)
    by_split = {}
    for split in dict.fromkeys(splits):
        by_split[split] = [name for name, at in zip(ids, splits, strict=True) if at == split]
    parts = {}
    for split, chosen in by_split.items():
        given = {key: [found.get(name) for name in chosen] for key, found in files.items()}
        label = None if labels is None else np.array([labels.get(n, np.nan) for n in chosen], "f4")
        parts[split], more = part_of_files(where, given, chosen, label)
        notes += more

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        copying.copy_folder(path, output)
        write_files(where, output, parts, replaced, added)

    return Contents(path, "folder", parts, write, notes)


def part_of_files(
    where: str, files: dict[str, Sequence[Path | None]], ids: list[str], label
) -> tuple[Part, tuple[str, ...]]:
    """A part with a .npy file a row, and notes on what is missing."""
    features, observed, notes = {}, {}, ()
    for key, paths in files.items():
        present = np.array([path is not None for path in paths], bool)
        if not present.any():
            continue
        features[key] = rows_of_files(paths)
        if not present.all():
            observed[key] = present
            notes += copying.lacks(key, present)
    if not features:
        raise UserError(f"{where}: a split without features; allowed: a .npy file an id")
    frames = {key: x.lengths for key, x in features.items() if lazy.is_ragged(x)}
    return Part(features, label, np.array(ids, str), frames, observed), notes


def rows_of_files(paths: Sequence[Path | None]):
    """(N, T, C) if all N files are there and have T frames, else N sequences (T_i, C).

    Raises:
      UserError: naming the file: not (T, C) or (C,) numbers, or of other channels than the first.
    """
    lengths, channels, dtypes = np.zeros(len(paths), np.int64), 0, set()
    for row, path in enumerate(paths):
        if path is None:
            continue
        rows = npy.rows_of_file(path)
        allowed = "(T, C) or (C,) numbers"
        fits = len(rows.shape) in (1, 2) and rows.shape[-1] > 0
        if not fits or rows.dtype.kind not in lazy.NUMBERS:
            what = f"shape {rows.shape} of {rows.dtype}"
        elif channels and rows.shape[-1] != channels:
            what, allowed = f"{rows.shape[-1]} channels", f"{channels}, as in the first file"
        else:
            channels = rows.shape[-1]
            lengths[row] = rows.shape[0] if len(rows.shape) == 2 else 1
            dtypes.add(rows.dtype)
            continue
        raise UserError(f"{one_line(path, 4096)}: {what}; allowed: {allowed}")
    dtype = np.result_type(*dtypes)
    names = [path and str(path) for path in paths]

    def one(row):
        if names[row] is None:
            return np.zeros((0, channels), dtype)
        with lazy.reading(names[row], npy.ALLOWED):
            array = np.asarray(npy.rows_of_file(Path(names[row]))).reshape(-1, channels)
            if len(array) != lengths[row]:
                raise ValueError("it has changed since it was opened")
        return array.astype(dtype)

    if lengths.min() == lengths.max() > 0:
        shape = (len(paths), int(lengths[0]), channels)

        def read(start, stop):
            made = np.empty((stop - start, *shape[1:]), dtype)
            for row in range(start, stop):
                made[row - start] = one(row)
            return made

        return lazy.Lazy(shape, dtype, read)
    return lazy.Ragged(lengths, channels, dtype, lambda rows: [one(row) for row in rows])


def write_files(where: str, folder: Path, parts, replaced: Changes, added: Changes) -> None:
    """Into a copy of a folder: FOLDER/<key>/<id>.npy for each row that has frames."""
    for key in dict.fromkeys(key for _, key in added):
        if (folder / copying.plain_name(where, key)).exists():
            raise UserError(
                f"{where}: holds {one_line(key, 60)!r} already; allowed: a folder as it was before "
                "it was completed"
            )
    for (split, key), rows in (*replaced.items(), *added.items()):
        base = folder / copying.plain_name(where, key)
        paths = (base / f"{name}.npy" for name in parts[split].id)
        one = next((path for path in paths if path.exists()), None)
        vectors = one is not None and len(npy.rows_of_file(one).shape) == 1  # (C,), as others here
        for row, name in enumerate(parts[split].id.tolist()):
            array = np.asarray(rows[row])
            path = base / f"{copying.plain_name(where, name)}.npy"
            if (split, key) in replaced:
                if not len(array):
                    continue
                if path.exists():
                    old = npy.rows_of_file(path)
                    array = array.astype(old.dtype).reshape(old.shape)
                else:
                    array = array.astype(parts[split].features[key].dtype)
                    array = array[0] if vectors and len(array) == 1 else array
            copying.write_npy(path, np.atleast_1d(array))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        label = one_line(text, 40)
        raise ValueError(f"id {one_line(name, 60)!r} has label {label!r}, no number") from None


def _labels(path: Path, ids: list[str]):
    """id -> label or None, the split of each id, and notes."""
    if not path.is_file():
        return None, ["all"] * len(ids), ()
    where = one_line(path, 4096)
    known, labels, splits = set(ids), {}, {}
    with lazy.reading(where, _CSV), path.open(newline="", encoding="utf-8-sig") as file:
        try:
            lines = csv.DictReader(file)
            header = tuple(lines.fieldnames or ())
            if not {"id", "label"} <= set(header):
                raise ValueError(f"its first line is {one_line(','.join(map(str, header)), 60)!r}")
            extra = 0
            for line in lines:
                name = line["id"] or ""
                if name in labels or name in splits:
                    raise ValueError(f"id {one_line(name, 60)!r} is there twice")
                if name not in known:
                    extra += 1
                    continue
                labels[name] = _number(name, line["label"] or "nan")
                splits[name] = line.get("split") or ""
        except csv.Error as error:
            raise ValueError(str(error)) from None
    if "split" not in header:
        at = ["all"] * len(ids)
    else:
        at = [splits.get(name, "") for name in ids]
        for name, split in zip(ids, at, strict=True):
            if not split:
                raise UserError(f"{where}: id {one_line(name, 60)!r} has no split; allowed: {_CSV}")
    notes = (f"labels.csv has {extra} ids without features: left out",) if extra else ()
    return labels, at, notes
