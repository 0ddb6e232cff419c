"""Files that ask for more than their bytes account for: ATTACKS maps a name to what writes one.

Each takes a folder and returns a path. They are small; it is reading that grows.
"""

import pickle
import struct
from pathlib import Path

import h5py
import numpy as np

from tests.protocols.layout_files import csd_file
from tests.protocols.test_safe_pickle import dtype, push, stream, text

CORE = "numpy._core.multiarray"
EMPTY = push("numpy", "ndarray") + b"K\x00\x85C\x01b\x87\x94"  # arguments of _reconstruct
COPIES = 10**5


def get(place: int) -> bytes:
    return b"j" + struct.pack("<I", place)


def entry(key: str, value: bytes) -> bytes:
    return text(key) + value


def tree(**values: bytes) -> bytes:
    """A dict with a modality, and other values."""
    rows = pickle.dumps(np.ones((3, 2, 2), "f4"), 3)[2:-1]
    items = b"".join(entry(key, value) for key, value in values.items())
    return b"\x80\x05}(" + items + entry("text", rows) + b"u."


def pickled(raw: bytes):
    def write(folder: Path) -> Path:
        (path := folder / "file.pkl").write_bytes(raw)
        return path

    return write


def parts() -> bytes:
    """_reconstruct, its arguments, a dtype of objects and the shape (1,) in places 0 to 3."""
    return (
        push(CORE, "_reconstruct") + b"\x940" + EMPTY + b"0" + dtype("O") + b"\x940K\x01\x85\x940"
    )


def nested_objects(levels: int) -> bytes:
    start = (get(0) + get(1) + b"R(K\x01" + get(3) + get(2) + b"\x89]") * levels
    return stream(parts() + start + b"N" + b"atb" * levels)


def from_outside(levels: int) -> bytes:
    """Arrays of objects, each of which gets its content before the one that it holds."""
    made = parts() + (get(0) + get(1) + b"R\x940") * (levels + 1)
    for level in range(levels):
        made += get(level + 4) + b"(K\x01" + get(3) + get(2) + b"\x89]"
        made += get(level + 5) + b"atb0"
    return stream(made + get(4))


def nested_tuples(end: bytes) -> bytes:
    """Each of two thousand references to the one below."""
    made = b"K\x01\x85\x940"
    for level in range(3):
        made += b"(" + (b"h" + bytes([level])) * 2000 + b"t\x940"
    return stream(made + end)


def itself(times: int) -> bytes:
    return tree(labels=b"]\x94(" + b"h\x00" * times + b"e")


def encoded(times: int) -> bytes:
    one = b"h\x00h\x01R"
    made = push("_codecs", "encode") + b"\x940" + text("x" * 10**6) + text("latin1") + b"\x86\x940"
    return stream(made + b"](" + one * times + b"e")


def swapped(times: int) -> bytes:
    raw = b"B" + struct.pack("<I", 9 * 10**5) + bytes(9 * 10**5) + b"\x94"
    shape = b"J" + struct.pack("<i", 225000) + b"\x85\x94"
    state = text(">") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    made = push(CORE, "_reconstruct") + b"\x940" + EMPTY + b"0"
    made += dtype("i4", b"(K\x03" + state) + b"\x940" + shape + b"0" + raw + b"0"
    one = get(0) + get(1) + b"R(K\x01" + get(3) + get(2) + b"\x89" + get(4) + b"tb"
    return stream(made + b"](" + one * times + b"e")


def copied(name: str, times: int) -> bytes:
    module = "collections" if name == "OrderedDict" else "builtins"
    numbers = [b"J" + struct.pack("<i", i) for i in range(COPIES)]
    items = b"".join(n + b"N\x86" if name == "OrderedDict" else n for n in numbers)
    made = push(module, name) + b"\x940" + b"](" + items + b"e\x85\x940"
    return stream(made + b"](" + b"h\x00h\x01R" * times + b"e")


def equal_hashes(times: int, place: bool = False) -> bytes:
    if place:
        puts = b"".join(b"Np%d\n0" % ((2**61 - 1) * i) for i in range(1, times))
        return stream(puts + b"N")
    keys = [pickle.dumps((2**61 - 1) * i, 2)[2:-1] + b"N" for i in range(1, times)]
    return stream(b"}(" + b"".join(keys) + b"u")


def giant_shape(bytes_each: int) -> bytes:
    number = b"\x8b" + struct.pack("<i", bytes_each) + b"\x7f" * bytes_each + b"\x940"
    made = number + parts()
    shape = b"(" + b"h\x00" * 1000 + b"t"
    made += push(CORE, "_reconstruct") + EMPTY + b"R(K\x01" + shape + dtype("i1") + b"\x89C\x01atb"
    return stream(made)


def shared_rows(times: int) -> bytes:
    """A list of one array (20000, 4) over and over, and as many labels."""
    array = pickle.dumps(np.ones((20000, 4), "f4"), 3)[2:-1]
    rows = array + b"r\x00\x00\x01\x000"
    return b"\x80\x05}" + text("audio") + rows + b"](" + get(2**16) * times + b"es."


def filled_array(times: int) -> bytes:
    """An array that is filled again and again, by an item of a few bytes."""
    array = pickle.dumps(np.ones(10**6, "i1"), 3)[2:-1]
    return stream(array + b"\x88K\x01s" * times)


def one_conversation(times: int) -> bytes:
    ids = {"c": [str(i) for i in range(times)]}
    labels = {"c": [1.0] * times}
    rows = {"c": [np.ones(2, "f4")] * 2}
    names = ["c"] * times
    return pickle.dumps((ids, {"c": ["A"] * times}, labels, rows, rows, rows, {}, names, names))


def long_word(times: int) -> bytes:
    words = ["x" * 10**5] + ["y"] * times
    return pickle.dumps({f"u{i}": {"text": np.ones(2, "f4"), "audio": words} for i in range(2)})


def packed(**arrays):
    def write(folder: Path) -> Path:
        np.savez_compressed(path := folder / "file.npz", **{k: f() for k, f in arrays.items()})
        return path

    return write


def rows(count: int):
    return lambda: np.ones((count, 2, 2), "f4")


def many_splits(folder: Path) -> Path:
    names = np.array([f"s{i}" for i in range(3 * 10**4)])
    np.savez(path := folder / "file.npz", text=rows(len(names))(), split=names)
    return path


def hdf5(make):
    def write(folder: Path) -> Path:
        with h5py.File(path := folder / "file.h5", "w") as file:
            file["text"] = np.ones((3, 2, 2), "f4")
            make(file)
        return path

    return write


def wide_labels(file) -> None:
    del file["text"]
    file["text"] = np.ones((20000, 1, 1), "f4")
    file.create_dataset("labels", data=np.ones((20000, 10**4), "i1"), compression=1)


def linked(file) -> None:
    file["x0"] = np.ones((3, 10**5, 2), "f4")
    for i in range(1, 1000):
        file[f"x{i}"] = file["x0"]


def long_strings(file) -> None:
    del file["text"]
    file["text"] = np.ones((8 * 10**5, 1, 1), "i1")
    file.create_dataset("id", data=np.full(8 * 10**5, b"x" * 250), compression=1)


def overlaps(folder: Path) -> Path:
    """Segments of a video whose first frame has no end: all frames are looked at for each."""
    (path := folder / "set").mkdir()
    count = 10**5
    times = np.stack([np.arange(count), np.arange(count) + 0.5], 1).astype(float)
    times[0, 1] = 1e9
    csd_file(path / "audio.csd", "audio", {"v": (np.ones((count, 1), "i1"), times)})
    segments = np.repeat([[count - 1.4, count - 1.1]], count, 0)
    csd_file(path / "labels.csd", "labels", {"v": (np.ones((count, 1), "i1"), segments)})
    return path


def one_utterance(folder: Path) -> Path:
    """MMIN's folder whose split names one utterance many times."""
    path = folder / "set"
    (path / "A").mkdir(parents=True)
    (path / "target/1").mkdir(parents=True)
    with h5py.File(path / "A/a.h5", "w") as file:
        file["u"] = np.ones((10**5, 2), "f4")
    np.save(path / "target/1/trn_int2name.npy", np.full((10**5, 1), b"u"))
    np.save(path / "target/1/trn_label.npy", np.ones(10**5, "i1"))
    return path


def wide_table(folder: Path) -> Path:
    header = ",".join(f"label_{i}" for i in range(4 * 10**5))
    (path := folder / "file.csv").write_text(f"text_0,{header}\n1{',1' * 4 * 10**5}\n")
    return path


def wide_labels_csv(folder: Path) -> Path:
    (path := folder / "set" / "text").mkdir(parents=True)
    np.save(path / "u.npy", np.ones((2, 2), "f4"))
    header = "id,label" + "," * 10**6
    lines = "\n".join(f"{i}" for i in range(10**5))
    (path.parent / "labels.csv").write_text(f"{header}\n{lines}\n")
    return path.parent


ATTACKS = {
    "nested arrays of objects": pickled(nested_objects(13000)),
    "arrays of objects filled from the outside": pickled(from_outside(10**5)),
    "nested tuples as a key": pickled(nested_tuples(b"}h\x03Ns")),
    "nested tuples in a frozenset": pickled(nested_tuples(b"(h\x03\x91")),
    "nested tuples in a set": pickled(nested_tuples(b"\x8f(h\x03\x90")),
    "a list that holds itself": pickled(itself(3)),
    "one text encoded": pickled(encoded(3000)),
    "byte-swapped arrays of one buffer": pickled(swapped(3000)),
    "copies of an OrderedDict": pickled(copied("OrderedDict", 3000)),
    "copies of a set": pickled(copied("set", 3000)),
    "copies of a frozenset": pickled(copied("frozenset", 3000)),
    "integers of equal hash": pickled(equal_hashes(40000)),
    "places of equal hash": pickled(equal_hashes(80000, place=True)),
    "giant integers in a shape": pickled(giant_shape(10**5)),
    "references to one array": pickled(shared_rows(10**5)),
    "an array filled again": pickled(filled_array(2 * 10**6)),
    "one conversation many times": pickled(one_conversation(2 * 10**4)),
    "one long word among many": pickled(long_word(3 * 10**4)),
    "ids of long strings": packed(text=rows(4000), id=lambda: np.full(4000, "x" * 20000)),
    "wide labels": packed(
        text=lambda: np.ones((30000, 1, 1), "f4"), labels=lambda: np.ones((30000, 10**4), "i1")
    ),
    "a split for each row": many_splits,
    "HDF5 with wide labels": hdf5(wide_labels),
    "HDF5 with many links": hdf5(linked),
    "HDF5 with long strings": hdf5(long_strings),
    "intervals in each other": overlaps,
    "one utterance many times": one_utterance,
    "a table of many columns": wide_table,
    "labels.csv of many columns": wide_labels_csv,
}
