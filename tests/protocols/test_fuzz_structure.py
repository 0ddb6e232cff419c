"""Files built from the parts of their formats, whatever these add up to, are read or refused within
the limits of `SECURITY.md`: a process that needs more is ended, and the test fails.

A hundred cases in the default run, always the same ones; `pytest -m fuzz` takes 10,000, and with
MMDJAX_FUZZ=10 ten times as many and other ones each time.
"""

import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from tests.protocols.attacks import get
from tests.protocols.fuzzing import TIMES, fuzz, npy, place
from tests.protocols.layout_files import LAYOUTS, content
from tests.protocols.reader import Reader
from tests.protocols.test_fuzz_mutants import edits, mutant
from tests.protocols.test_hostile_files import zipped
from tests.protocols.test_safe_pickle import array, call, dtype, push, text

SIZES = pytest.mark.parametrize(
    "share",
    [pytest.param(0.01, id="sample"), pytest.param(TIMES, id="all", marks=pytest.mark.fuzz)],
)
KEYS = ["text", "audio", "X", "id", "split", "labels", "text_lengths", "text_observed", "train"]


@pytest.fixture(scope="module")
def reader():
    yield (made := Reader())
    made.close()


def reads(reader, name: str, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader.read(place(Path(folder), name, files))


# --- pickles by opcode -----------------------------------------------------------------------

SCALARS = [b"N", b"\x88", b"K\x01", b"J\xff\xff\xff\xff", b"G\x3f\xf0" + bytes(6), b"C\x01a"]
SCALARS += [
    text("a"),
    text("x" * 300),
    b"\x8a\x09" + b"\xff" * 8 + b"\x1f",
    b"\x8a\xff" + b"\x7f" * 255,
]
GLOBALS = [("builtins", "set"), ("builtins", "frozenset"), ("builtins", "complex")]
GLOBALS += [("collections", "OrderedDict"), ("_codecs", "encode"), ("numpy", "dtype")]
GLOBALS += [("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar")]
GLOBALS += [("numpy._core.numeric", "_frombuffer"), ("numpy", "ndarray")]
# what needs something on the stack: out of place, it makes the rest mean something else
NOISE = [b"0", b"1", b"2", b"a", b"e", b"s", b"u", b"\x90", b"\x91", b"R", b"b", b"t", b"l", b"d"]
NOISE += [b"(", b"\x94", b"\x85", b"\x86", b"\x87", b"\x81", b"\x98", b"i", b"o", b"p7\n", b"h\x00"]
NOISE += [b"\x95" + struct.pack("<Q", n) for n in (0, 3, 2**40)]
NOISE += [b"\x8e" + struct.pack("<Q", 2**33), b"X" + struct.pack("<I", 2**31), b"j\xff\xff\xff\xff"]
SHAPES = [b"K\x02\x85", b")", b"K\x01K\x02\x86", b"K\x03K\x02K\x02\x87", b"J\xff\xff\xff\x7f\x85"]
KINDS = ["f4", "i8", "U3", "S2", "b1", "f2", ">i4", "O"]


TIMES_THERE = [1, 1, 1, 2, 300, 20000]
LONGEST = 10**5  # bytes


@st.composite
def made_array(draw):
    kind, shape = draw(st.sampled_from(KINDS)), draw(st.sampled_from(SHAPES))
    size = {b"K\x02\x85": 2, b")": 1, b"K\x01K\x02\x86": 2}.get(shape, 12)
    if kind == "O":
        raw = b"](" + draw(st.sampled_from([*SCALARS, get(0), get(1)])) * size + b"e"
    else:
        bytes_ = size * np.dtype(kind).itemsize
        raw = b"B" + struct.pack("<I", bytes_) + bytes(bytes_)
    return array(dtype(kind), draw(st.sampled_from([raw, raw, raw, get(0)])), shape)


def several(inside):
    """Items, perhaps over and over, up to a size."""
    items = st.lists(inside, max_size=4).map(b"".join)
    repeated = st.tuples(items, st.sampled_from(TIMES_THERE))
    return repeated.map(lambda x: x[0] * max(1, min(x[1], LONGEST // max(len(x[0]), 1))))


def of_several(start: bytes, end: bytes, inside):
    return several(inside).map(lambda x: start + x + end)


def containers(inside):
    key = st.one_of(st.sampled_from(KEYS).map(text), st.sampled_from(SCALARS), inside)
    items = st.tuples(key, inside).map(b"".join)
    calls = st.tuples(st.sampled_from(GLOBALS), st.lists(inside, max_size=3).map(b"".join))
    return st.one_of(
        of_several(b"](", b"e", inside),
        of_several(b"(", b"t", inside),
        of_several(b"(", b"l", inside),
        of_several(b"}(", b"u", items),
        of_several(b"(", b"d", items),
        of_several(b"\x8f(", b"\x90", inside),
        of_several(b"(", b"\x91", inside),
        calls.map(lambda x: call(*x[0], b"(" + x[1] + b"t")),
        inside.map(lambda x: x + b"\x94"),
        st.tuples(inside, inside).map(lambda x: x[0] + x[1] + b"b"),
    )


leaf = st.one_of(
    st.sampled_from(SCALARS),
    st.integers(0, 9).map(get),
    st.sampled_from(GLOBALS).map(lambda x: push(*x)),
    st.sampled_from(NOISE),
    made_array(),
)
value = st.recursive(leaf, containers, max_leaves=12)
table = st.lists(st.tuples(st.sampled_from(KEYS).map(text), value).map(b"".join), max_size=5)


@SIZES
def test_any_pickle_of_opcodes_is_read_or_refused(share, reader):
    @fuzz(5000 * share, phases=[Phase.generate])
    @given(items=table, inside=st.booleans(), kept=value)
    def run(items, inside, kept):
        raw = kept + b"\x94" if inside else b""
        raw += b"}(" + b"".join(items) + b"u."
        reads(reader, "file.pkl", {"": b"\x80\x04" + raw})

    run()


# --- npz by header ---------------------------------------------------------------------------

NUMBER = st.sampled_from([0, 1, 2, 3, 3, 3, 4, 100, 10**4, 10**6, 2**31, 2**40, 2**63 - 1, -1])
DESCR = ["<f4", ">f8", "|i1", "|b1", "<U3", "<U99999", "|S99999", "|O", "<f2", "<c8", "<U0", "V8"]


member = st.tuples(
    st.lists(NUMBER, max_size=4),
    st.sampled_from(DESCR),
    st.sampled_from(["False", "False", "True", "1"]),
    st.integers(0, 255),
    st.sampled_from([0, 1, 48, 96, 10**5, 10**7, None, None, None]),
)


def made(shape, kind: str, order: str, fill: int, size: int | None) -> bytes:
    """A .npy of so many bytes; of as many as it declares where there is None."""
    numbers = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({numbers}), }}"
    if size is None:
        each = np.dtype(kind).itemsize if "O" not in kind else 8
        size = each * int(np.prod([max(n, 0) for n in shape], dtype=float))
    return npy(shape, raw=bytes([fill]) * min(size, 3 * 10**7), header=header)


@SIZES
def test_any_npz_of_headers_is_read_or_refused(share, reader):
    @fuzz(3000 * share, phases=[Phase.generate])
    @given(
        members=st.dictionaries(st.sampled_from(KEYS), member, max_size=4),
        packed=st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]),
        edit=st.none() | st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=8)),
    )
    def run(members, packed, edit):
        raw = zipped({f"{key}.npy": made(*x) for key, x in members.items()}, packed)
        if edit and len(raw) < 10**6:
            at = int(edit[0] * len(raw))
            raw = raw[:at] + edit[1] + raw[at + len(edit[1]) :]
        reads(reader, "file.npz", {"": raw})

    run()


# --- HDF5 by mutation ------------------------------------------------------------------------

HDF5 = ("h5 by split", "PyPOTS h5", "csd alone", "MMIN file", "csd segments", "MMIN")


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> list[tuple[str, dict[str, bytes]]]:
    paths = [LAYOUTS[name](tmp_path_factory.mktemp("valid")) for name in HDF5]
    return [(path.name, content(path)) for path in paths]


@SIZES
def test_any_mutant_of_hdf5_is_read_or_refused(share, reader, valid):
    @fuzz(2000 * share, phases=[Phase.generate])
    @given(which=st.integers(0, len(HDF5) - 1), edits=edits)
    def run(which, edits):
        name, files = valid[which]
        reads(reader, name, mutant(files, *edits))

    run()
