"""What a user's file of features holds: opened without reading it, written back with other arrays.

`open_contents` finds the layout; `mmdjax.data.formats` has a module for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget, foreign, lazy, views
from mmdjax.data.formats.lazy import Rows, listed, one_line, quoted, refused
from mmdjax.errors import UserError

# layout -> its module in `mmdjax.data.formats`
LAYOUTS = {
    "pickle": "pickles",
    "npz": "npz",
    "npy": "npy_object",
    "csv": "csv_table",
    "h5": "h5_tables",
    "pypots": "",  # whichever of the three above holds it
    "csd": "csd",
    "mmin": "mmin",
    "folder": "folder",
    "pickles": "pickle_folder",
    "gcnet": "gcnet_folder",
}
ALLOWED = (
    "a pickle, .npz, .npy or HDF5 file of arrays (N, T, C), a .csv table, .csd files, a folder of "
    "MMIN, of GCNet or of pickles, or FOLDER/<modality>/<id>.npy"
)
PICKLES = (".pkl", ".pickle", ".p", ".pk")
_RANGE = re.compile(r"(.+)\[(\d{1,9}):(\d{1,9})\]", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Part:
    """One split of a file.

    Attributes:
      features: key in the file -> rows (N, T, C), or N sequences (T_i, C).
      label: (N,) or (N, L) float32, NaN where a row has none, or int32; None without labels.
      id: (N,) str; numbers where the file has no names.
      frames: key -> (N,) int frames that exist, where the file says so.
      observed: key -> (N,) or (N, T) bool, where the file says so, or lacks a modality of a row.
      talk: where rows are utterances of conversations 'conversation' (N,) str, perhaps 'speaker'
        (N,) str and 'position' (N,) float32.
      classes: names of classes where the file's labels are words; a label is then a number in
        them. The same in all splits.
    """

    features: Mapping[str, Rows]
    label: np.ndarray | None
    id: np.ndarray
    frames: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    observed: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    talk: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.id)


Changes = Mapping[tuple[str, str], Rows]  # (split, key) -> rows


@dataclasses.dataclass(frozen=True)
class Contents:
    """A file, or a folder of files, of features; a context manager, as some hold the file open.

    Attributes:
      path, layout: where, and which of `LAYOUTS`.
      splits: as named in the file; 'all' where it has none.
      write: (output, replaced, added), for `write_copy` alone.
      notes: what a user should know, a line each.
      close: lets go of the file.
    """

    path: Path
    layout: str
    splits: Mapping[str, Part]
    write: Callable[[Path, Changes, Changes], None]
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_contents(path: str | os.PathLike, layout: str = "") -> Contents:
    """Open a file of features, or a folder of such files, in any layout of the field.

    Args:
      layout: one of `LAYOUTS`, found out by default; 'mmin:3' takes its third fold.

    Raises:
      UserError: not a file, of no known layout, or not as its layout demands.
    """
    path, (name, _, option) = Path(path), layout.partition(":")
    if (name and name not in LAYOUTS) or (option and name != "mmin"):
        allowed = f"{', '.join(LAYOUTS)}, mmin:FOLD"
        raise refused(path, f"layout {quoted(layout, 40)} is unknown", allowed)
    with lazy.reading(path, ALLOWED), budget.of(path):
        detected = _layout(path)
        module = LAYOUTS[name if name and name != "pypots" else detected]
        open_path = importlib.import_module(f"mmdjax.data.formats.{module}").open_path
        contents = open_path(path, option) if module == "mmin" else open_path(path)
    if name == "pypots" and contents.layout != name:
        contents.close()
        raise refused(path, "no array 'X'", "X, or train_X, val_X, test_X (N, T, C)")
    return contents


def _layout(path: Path) -> str:
    """Tell a layout by content, and by extension where content does not tell."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return _layout_of_folder(path)
    if not stat.S_ISREG(mode):
        raise refused(path, "not a regular file", ALLOWED)
    with path.open("rb") as file:
        start = file.read(8)
    if error := foreign.of_start(path, start):
        raise error
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start == b"\x89HDF\r\n\x1a\n":
        return "h5"
    if start.startswith(b"\x80") or path.suffix.lower() in PICKLES:
        return "pickle"
    if path.suffix.lower() in (".csv", ".tsv") and start:
        return "csv"
    raise refused(path, "unknown" if start else "an empty file", ALLOWED)


def _layout_of_folder(path: Path) -> str:
    inside = sorted(path.iterdir())
    folders = [x for x in inside if x.is_dir() and not x.name.startswith(".")]
    suffixes = {x.suffix for x in inside}
    if ".csd" in suffixes:
        return "csd"
    if suffixes & set(PICKLES) and any(folder.name == "features" for folder in folders):
        return "gcnet"
    suffixes = {file.suffix for folder in folders for file in folder.iterdir()}
    if suffixes & {".h5", ".hdf5"}:
        return "mmin"
    if ".npy" in suffixes:
        return "folder"
    if {x.suffix.lower() for x in inside} & set(PICKLES):
        return "pickles"
    raise refused(path, "a folder without features", ALLOWED)


def part_rows(part: Part, key: str) -> Rows:
    """Return the rows of a key; of 'X[0:20]', channels 0 to 19 of X, read with their rows.

    Raises:
      UserError: no such key, or no such channels.
    """
    if key in part.features:
        return part.features[key]
    base, first, last = column_range(part, key)
    return views.columns(part.features[base], first, last)


def column_range(part: Part, key: str) -> tuple[str, int, int]:
    """Return 'X[0:20]' as ('X', 0, 20), and 'X' as ('X', 0, C); raise as `part_rows`."""
    if key in part.features:
        return key, 0, part.features[key].shape[2]
    match = _RANGE.fullmatch(key)
    if not match or match[1] not in part.features:
        example = f"'{one_line(next(iter(part.features), 'X'), 40)}[0:20]'"
        raise UserError(
            f"key {quoted(key)} is unknown; allowed: {listed(part.features)}, or channels of one "
            f"as in {example}"
        )
    first, last, width = int(match[2]), int(match[3]), part.features[match[1]].shape[2]
    if not first < last <= width:
        raise UserError(f"key {quoted(key)}: allowed: ranges within [0:{width}]")
    return match[1], first, last


def write_copy(
    contents: Contents, output: str | os.PathLike, replaced: Changes, added: Changes
) -> None:
    """Write the same file or folder with arrays replaced and new ones beside them, whole or not
    at all; everything else is as it was, and the input is not touched.

    Rows are read and written in blocks. A replaced array keeps the file's dtype. A sequence that
    the file lacks (0 frames) may be given any number of frames.

    Args:
      output: does not exist yet; a folder where `contents` is one (GCNet's always is).
      replaced: (split, key) -> rows of the same shape; keys as for `part_rows`.
      added: (split, new key) -> (N, ...) array or rows, kept beside the others.

    Raises:
      UserError: the output exists or cannot be written, or an array does not fit.
    """
    output, source = Path(output), contents.path.resolve()
    if os.path.lexists(output):
        raise refused(output, "exists", "a new name")
    if output.resolve().is_relative_to(source):
        raise refused(output, f"inside {one_line(source, 4096)}", "another folder")
    whole = _whole(contents, replaced)
    for (split, key), rows in added.items():
        part = _split(contents, split)
        if len(rows) != len(part) or key in part.features:
            where = f"{contents.path}: split {split!r}: added key {quoted(key)}"
            raise refused(where, f"has {len(rows)} rows", f"a new key of {len(part)} rows")
    temporary = output.with_name(f".{output.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with lazy.reading(output, "a place with room to write, and an input that is whole"):
            output.parent.mkdir(parents=True, exist_ok=True)
            contents.write(temporary, whole, added)
            if os.path.lexists(output):
                raise refused(output, "exists", "a new name")
            os.rename(temporary, output)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _split(contents: Contents, split: str) -> Part:
    if split not in contents.splits:
        problem = f"split {quoted(split, 40)} is unknown"
        raise refused(contents.path, problem, listed(contents.splits))
    return contents.splits[split]


def _whole(contents: Contents, replaced: Changes) -> dict[tuple[str, str], Rows]:
    """Return `replaced` by keys of the file alone: ranges of channels are joined with the rest."""
    ranges: dict[tuple[str, str], list] = {}
    for (split, key), rows in replaced.items():
        part = _split(contents, split)
        base, first, last = column_range(part, key)
        expected = part_rows(part, key)
        where = f"{contents.path}: split {split!r}: key {quoted(key)}"
        if isinstance(rows, list):
            rows = lazy.ragged(rows) if rows else expected
        if tuple(rows.shape) != tuple(expected.shape):
            raise refused(where, f"is replaced by {tuple(rows.shape)}", f"{expected.shape}")
        if lazy.is_ragged(expected):
            for row in np.flatnonzero((rows.lengths != expected.lengths) & (expected.lengths > 0)):
                problem = f"row {row} is replaced by {rows.lengths[row]} frames"
                raise refused(where, problem, f"{expected.lengths[row]}")
        ranges.setdefault((split, base), []).append((first, last, rows))
    whole = {}
    for (split, base), columns in ranges.items():
        stored = contents.splits[split].features[base]
        first, last, rows = columns[0]
        alone = len(columns) == 1 and (first, last) == (0, stored.shape[2])
        whole[split, base] = rows if alone else views.with_columns(stored, columns)
    return whole
