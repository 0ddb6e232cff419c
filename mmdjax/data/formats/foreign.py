"""Names files that are not read for what they are, and says how to convert them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmdjax.data.formats import values
from mmdjax.data.formats.lazy import refused
from mmdjax.errors import UserError

NPZ = "an .npz, as numpy.savez writes it"
_TORCH = (
    "a PyTorch archive (a zip with data.pkl)",
    f"{NPZ}: numpy.savez('file.npz', **{{k: v.numpy() for k, v in torch.load(FILE).items()}})",
)
_MATLAB = (
    "a MATLAB file",
    f"{NPZ}: numpy.savez('file.npz', **{{k: v for k, v in scipy.io.loadmat(FILE).items() "
    "if k[0] != '_'})",
)
_RECORDS = (
    "a TensorFlow record",
    f"{NPZ}, from the arrays that tensorflow.data.TFRecordDataset(FILE) reads",
)
_PARQUET = ("a Parquet file", "a .csv: pandas.read_parquet(FILE).to_csv('file.csv', index=False)")
_FEATHER = ("an Arrow file", "a .csv: pandas.read_feather(FILE).to_csv('file.csv', index=False)")
_EXCEL = ("an Excel workbook", "a .csv: pandas.read_excel(FILE).to_csv('file.csv', index=False)")
_PACKED = ("a packed archive", "the file in it: unpack it first")
_JSON = ("a JSON file", f"{NPZ}: numpy.savez('file.npz', **json.load(open(FILE)))")
# how a file begins -> what it is, what is allowed in its place
_STARTS = {
    b"\x80\x02\x8a\nl\xfc\x9cF": ("a PyTorch file", _TORCH[1]),
    b"MATLAB": _MATLAB,
    b"PAR1": _PARQUET,
    b"ARROW1": _FEATHER,
    b"FEA1": _FEATHER,
    b"\x1f\x8b": _PACKED,
    b"BZh": _PACKED,
    b"\xfd7zXZ": _PACKED,
    b"7z\xbc\xaf": _PACKED,
    b"\x28\xb5\x2f\xfd": _PACKED,
    b"{": _JSON,
    b"[": _JSON,
}
_SUFFIXES = {".tfrecord": _RECORDS, ".tfrecords": _RECORDS, ".mat": _MATLAB, ".tar": _PACKED}
_MEMBERS = {"data.pkl": _TORCH, "workbook.xml": _EXCEL}


def of_start(path: Path, start: bytes) -> UserError | None:
    """Return the error for a file that begins with `start`; None if it is none that is known."""
    found = next((what for begins, what in _STARTS.items() if start.startswith(begins)), None)
    found = found or next((_SUFFIXES[x] for x in path.suffixes if x in _SUFFIXES), None)
    return found and refused(path, *found)


def of_members(path: Path, names: Iterable[str]) -> UserError | None:
    """Return the error for a zip with members of these names; None if it is none that is known."""
    ends = {name.rsplit("/", 1)[-1] for name in names}
    return next((refused(path, *what) for end, what in _MEMBERS.items() if end in ends), None)


def of_object(path: Path, tree: object, allowed: str) -> UserError:
    """Return the error for a pickle of something that no layout has."""
    if isinstance(tree, tuple) and len(tree) == 7 and _is_cube(tree[0]) and _is_cube(tree[2]):
        return refused(
            path,
            "bc-LSTM's tuple of one modality (train_data, train_label, test_data, test_label, "
            "maxlen, train_length, test_length)",
            "several modalities in one file: numpy.savez('file.npz', **{'train/text': text, "
            "'train/audio': audio, 'train/label': label, 'test/text': ...}), a row an utterance",
        )
    if isinstance(tree, (tuple, list)) and len(tree) > 1:
        inside = ", ".join(_kind(x) for x in tree[:16]) + (", ..." if len(tree) > 16 else "")
        problem = f"a {type(tree).__name__} of {len(tree)}: {inside}"
    elif isinstance(tree, dict) and not tree:
        problem = "an empty dict"
    else:
        problem = values.described(tree)
        problem = f"an array of {problem}" if problem.startswith("shape") else problem
    return refused(path, f"holds {problem}", allowed)


def _is_cube(x: object) -> bool:
    return len(values.shape_of(x)) == 3


def _kind(x: object) -> str:
    shape = getattr(x, "shape", None)
    return f"array {tuple(shape)}" if shape else type(x).__name__
