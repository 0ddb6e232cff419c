"""Pickles: what hostile ones cannot do, and what honest ones bring back."""

import collections
import copyreg
import os
import pickle
import struct

import numpy as np
import pytest

from mmdjax.data.formats import safe_pickle
from mmdjax.errors import UserError


def refusal(path, read=safe_pickle.load, *args) -> str:
    """The message of the `UserError`, which is one line that names the file and what is allowed."""
    with pytest.raises(UserError) as caught:
        read(path, *args)
    message = str(caught.value)
    assert "\n" not in message and "allowed: " in message
    return message


# --- hostile pickles -------------------------------------------------------------------------


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def push(module: str, name: str) -> bytes:
    """STACK_GLOBAL, whose name may have dots: pickle itself would walk down the attributes."""
    return text(module) + text(name) + b"\x93"


def call(module: str, name: str, args: bytes) -> bytes:
    return push(module, name) + args + b"R"


def stream(body: bytes) -> bytes:
    return b"\x80\x05" + body + b"."


def dtype(spec: str, state: bytes = b"") -> bytes:
    return call("numpy", "dtype", text(spec) + b"\x89\x88\x87") + state


def array(dtype_: bytes, raw: bytes, shape: bytes = b"K\x02\x85") -> bytes:
    core = "numpy._core.multiarray"
    empty = call(core, "_reconstruct", push("numpy", "ndarray") + b"K\x00\x85C\x01b\x87")
    return empty + b"(K\x01" + shape + dtype_ + b"\x89" + raw + b"tb"


def touch(path) -> str:
    return f"touch {path}"


# Each builds a file from a sentinel's path; the second entry is what the message must name.
RUNS = {
    "os.system": (lambda s: pickle.dumps(Call(os.system, touch(s)), 4), "posix.system"),
    "os.system, protocol 0": (lambda s: pickle.dumps(Call(os.system, touch(s)), 0), "posix.system"),
    "builtins.eval": (
        lambda s: pickle.dumps(Call(eval, f"open({str(s)!r}, 'w').close()"), 2),
        "__builtin__.eval",
    ),
    "INST": (lambda s: b"(S'" + touch(s).encode() + b"'\nios\nsystem\n.", "os.system"),
    "OBJ": (lambda s: b"(cos\nsystem\nS'" + touch(s).encode() + b"'\no.", "os.system"),
    "numpy dotted name": (
        lambda s: stream(
            array(dtype("i8"), b"C\x10" + bytes(16))
            + b"q\x000"
            + call("numpy", "ndarray.tofile", b"h\x00" + text(str(s)) + b"\x86")
        ),
        "numpy.ndarray.tofile",
    ),
    "numpy function": (
        lambda s: stream(call("numpy", "savetxt", text(str(s)) + b"]K\x01a\x86")),
        "numpy.savetxt",
    ),
    "extension registry": (
        lambda s: stream(b"\x82\xf0" + text(touch(s)) + b"\x85R"),
        "opcode EXT1",
    ),
    "nested in data": (
        lambda s: pickle.dumps({"train": [np.ones(3), Call(os.system, touch(s))]}, 5),
        "posix.system",
    ),
}
REFUSED = {
    "persistent id": (b"Pname\n.", "opcode PERSID"),
    "binary persistent id": (stream(text("name") + b"Q"), "opcode BINPERSID"),
    "attributes of an admitted function": (
        stream(push("numpy", "dtype") + b"}" + text("__code__") + b"NsN\x86b"),
        "state of a function",
    ),
    "slots of an admitted function": (
        stream(push("numpy", "dtype") + b"N}" + text("__defaults__") + b")s\x86b"),
        "state of a function",
    ),
    "attributes of an admitted class": (
        stream(push("collections", "OrderedDict") + b"}" + text("pop") + b"Nsb"),
        "state of a type",
    ),
    "array interface on an instance": (
        stream(call("collections", "OrderedDict", b")") + b"}" + text("__array_struct__") + b"Nsb"),
        "state of a OrderedDict",
    ),
    "class beyond the admitted": (stream(push("numpy", "matrix")), "numpy.matrix"),
    "NEWOBJ": (stream(push("builtins", "set") + b")\x81"), "opcode NEWOBJ"),
    "NEWOBJ_EX": (stream(push("builtins", "set") + b")}\x92"), "opcode NEWOBJ_EX"),
    "memoryview": (stream(b"C\x01a\x98"), "opcode READONLY_BUFFER"),
    "attribute of an admitted name": (
        stream(push("numpy", "dtype.__subclasses__")),
        "numpy.dtype.__subclasses__",
    ),
    "codec that unpacks": (
        stream(call("_codecs", "encode", text("a") + text("zlib") + b"\x86")),
        "_codecs.encode",
    ),
    "name with line breaks": (stream(push("os\nname", "\x1b[2J")), r"os\nname.\x1b[2J"),
    "structured dtype": (stream(dtype("O,i8")), "numpy.dtype 'O,i8'"),
    "raw bytes dtype": (stream(dtype("V8")), "numpy.dtype 'V8'"),
    "dtype from a list": (stream(call("numpy", "dtype", b"]\x85")), "numpy.dtype of something"),
    "dtype with other flags": (
        stream(dtype("S8", b"(K\x03" + text("|") + b"NNNK\x08K\x01K\x3ftb")),
        "numpy.dtype with a state",
    ),
    "dtype with another size": (
        stream(dtype("S1", b"(K\x03" + text("|") + b"NNNK\x63K\x01K\x00tb")),
        "numpy.dtype with a state",
    ),
    "objects from raw bytes": (
        stream(array(dtype("O"), b"C\x10" + b"A" * 16)),
        "numpy.ndarray whose content",
    ),
    "objects from a short list": (stream(array(dtype("O"), b"]Na")), "numpy.ndarray whose content"),
    "objects from a buffer": (
        stream(
            call(
                "numpy._core.numeric",
                "_frombuffer",
                b"(C\x08" + bytes(8) + dtype("O") + b"K\x01\x85" + text("C") + b"t",
            )
        ),
        "numpy.ndarray whose content",
    ),
    "object scalar": (
        stream(call("numpy.core.multiarray", "scalar", dtype("O") + b"C\x08" + bytes(8) + b"\x86")),
        "numpy.ndarray whose content",
    ),
    "negative shape": (
        stream(array(dtype("i8"), b"C\x00", b"J\xff\xff\xff\xff\x85")),
        "numpy.ndarray without a proper",
    ),
    "content too short": (stream(array(dtype("i8"), b"C\x01a")), "numpy.ndarray whose content"),
    "characters beyond unicode": (
        stream(array(dtype("U1"), b"C\x08" + b"\xff" * 8)),
        "numpy.str_ beyond unicode",
    ),
    "tuple that overflows the stack": (stream(b"}" + b")" + b"\x85" * 10**5 + b"Ns"), "nested"),
}
BROKEN = {
    "empty": b"",
    "not a pickle": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "text": b"label,text\n1.0,good\n",
    "frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 2**60),
    "bytes beyond the end": stream(b"\x8e" + struct.pack("<Q", 2**60)),
    "buffer beyond the end": stream(b"\x96" + struct.pack("<Q", 2**40)),
    "calling a string": stream(push("numpy", "ndarray") + b")R"),
    "bytes of a huge number": stream(call("builtins", "bytes", b"J\xff\xff\xff\x7f\x85")),
    "state of the wrong length": stream(
        call("numpy._core.multiarray", "_reconstruct", b")") + b"K\x01\x85b"
    ),
}


@pytest.fixture
def registered():
    """`os.system` in the extension registry's cache, which pickle trusts without a lookup."""
    copyreg._extension_cache[0xF0] = os.system
    yield
    del copyreg._extension_cache[0xF0]


@pytest.mark.parametrize("name", RUNS)
def test_hostile_pickle_runs_nothing(name, tmp_path, registered):
    sentinel, path = tmp_path / "sentinel", tmp_path / "file.pkl"
    build, named = RUNS[name]
    path.write_bytes(build(sentinel))
    message = refusal(path)
    assert str(path) in message and named in message
    assert not sentinel.exists()
    pickle.loads(path.read_bytes())  # the attack is real: plain pickle falls for it
    assert sentinel.exists()


@pytest.mark.parametrize("name", REFUSED)
def test_forbidden_content_is_named(name, tmp_path):
    path = tmp_path / "file.pkl"
    body, named = REFUSED[name]
    path.write_bytes(body)
    message = refusal(path)
    assert str(path) in message and named in message and "refused" in message


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_one_clear_line(name, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(BROKEN[name])
    assert str(path) in refusal(path)


def test_missing_file_and_directory_are_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.pkl")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"), [(MemoryError, "memory"), (RecursionError, "nested too deeply")]
)
def test_exhaustion_is_one_clear_line(error, said, tmp_path, monkeypatch):
    def fail(self):
        raise error

    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps([]))
    monkeypatch.setattr(safe_pickle._Unpickler, "load", fail)
    assert said in refusal(path)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated_file_is_refused_wherever_it_ends(protocol, tmp_path):
    whole = pickle.dumps({"train": {"text": np.ones((2, 3, 4)), "id": ["a", "b"]}}, protocol)
    path = tmp_path / "file.pkl"
    for end in {*range(0, len(whole), 7), len(whole) - 1}:
        path.write_bytes(whole[:end])
        refusal(path)


def test_flipped_bytes_give_an_object_or_a_user_error(tmp_path):
    draw = np.random.default_rng(0)
    tree = {"text": np.ones((2, 3)), "id": np.array(["a", "b"], object), "s": {1, 2}, "t": (1, 2)}
    path = tmp_path / "file.pkl"
    for trial in range(300):
        data = bytearray(pickle.dumps(tree, (0, 2, 4, 5)[trial % 4]))
        data[draw.integers(len(data))] = draw.integers(256)
        path.write_bytes(data)
        try:
            safe_pickle.load(path)
        except UserError as error:
            assert "\n" not in str(error)


def test_numpy_shared_dtypes_are_out_of_reach(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(
        stream(dtype("f4", b"(K\x03" + text(">") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"))
    )
    assert safe_pickle.load(path).byteorder == ">"
    assert np.dtype("f4").isnative


# --- honest pickles --------------------------------------------------------------------------

PLAIN = {
    "doubles": np.arange(3.0),
    "halves": np.ones((2, 3, 4), np.float16),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "large": np.arange(5000, dtype=np.float32).reshape(50, 100),
    "empty": np.zeros((0, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "objects": np.array(["word", None, 1.5], object),
    "names": np.array(["ab", "é"]),
    "bytes array": np.array([b"ab"]),
    "zero-dimensional": np.array(2.0),
    "scalar": np.float32(1.5),
    "truth": np.bool_(True),
    "name": np.str_("é"),
    "dtype": np.dtype("f4"),
    "ordered": collections.OrderedDict(b=1, a=[2]),
    "set": {1, "a"},
    "frozenset": frozenset([2]),
    "numbers": (1, 2.5, 3j, True, None, 10**30),
    "bytes": b"\x00\xff",
    "no bytes": b"",
    "nested": {"a": [(1, (2, 3)), {}]},
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_comes_back_at_every_protocol(protocol, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    loaded = safe_pickle.load(path)
    assert list(loaded) == list(PLAIN)
    for name, value in PLAIN.items():
        assert type(loaded[name]) is type(value), name
        np.testing.assert_array_equal(loaded[name], value, err_msg=name)
        assert np.asarray(loaded[name]).dtype.newbyteorder("=") == np.asarray(
            value
        ).dtype.newbyteorder("="), name


@pytest.mark.parametrize(("old", "protocol"), [(True, 2), (True, 3), (False, 2), (False, 3)])
def test_both_numpy_spellings_load(old, protocol, tmp_path):
    data = pickle.dumps([np.arange(4.0), np.float32(2)], protocol)  # no lengths or frames inside
    modern, ancient = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    data = data.replace(modern, ancient) if old else data
    assert (ancient in data) is old
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    values, scalar = safe_pickle.load(path)
    np.testing.assert_array_equal(values, np.arange(4.0))
    assert scalar == 2


def test_python_2_pickle_loads(tmp_path):
    raw = np.array([1.0, -2.0], "<f8").tobytes()
    python_2 = (  # byte strings everywhere, and numpy 1's name
        b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + raw + b"tbs."
    )
    path = tmp_path / "file.pkl"
    path.write_bytes(python_2)
    np.testing.assert_array_equal(safe_pickle.load(path)["x"], [1.0, -2.0])
