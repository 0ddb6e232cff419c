"""Malformed and hostile files: one line that names the file, or what is in it; nothing else.

Some 400 files in the default run, always the same ones; `pytest -m fuzz` takes 2,000, and with
MMDJAX_FUZZ=10 ten times as many and other ones each time.
"""

import contextlib
import json
import os
import pickle
import signal
import struct
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdjax.data.formats import hdf5, lazy
from mmdjax.data.formats.contents import open_contents, write_copy
from mmdjax.data.formats.inspect_file import describe
from mmdjax.data.sources import from_file
from mmdjax.errors import UserError
from tests.protocols.layout_files import LAYOUTS, content

TIMES = int(os.environ.get("MMDJAX_FUZZ", "1"))
SECONDS = 300  # for one file, so that nothing hangs; the slowest takes a fraction of one
MOST = 10**5  # bytes: larger mutants teach nothing


SIZES = pytest.mark.parametrize(
    "share", [pytest.param(0.2, id="sample"), pytest.param(TIMES, id="all", marks=pytest.mark.fuzz)]
)


def fuzz(examples: float):
    """A decorator: so many examples."""
    return settings(
        max_examples=round(examples),
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True, scope="module")
def an_impatient_reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "PATIENCE", 5.0)
        yield


@contextlib.contextmanager
def no_longer_than(seconds: float):
    def stop(*_):
        raise AssertionError(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def survives(path: Path, layout: str = "") -> str:
    """Opens, reads, copies and describes; '' where that works, or the message. What can be read is
    taken for training, too, or refused."""
    before = content(path)
    keys: list[str] = []

    def use():
        with open_contents(path, layout) as opened:
            for part in opened.splits.values():
                check(part)
            if layout == "":
                copy(opened)
            keys.extend(next(iter(opened.splits.values())).features)
        json.dumps(describe(path, layout))

    def train():
        made = from_file.read(str(path), {key: f"m{i}" for i, key in enumerate(keys)}, layout)
        for batch in made.values():
            assert len(batch) and (np.abs(batch.label) <= 3).all()
            assert all(np.isfinite(x).all() for x in batch.features.values())

    message = told(path, use)
    if not message:
        told(path, train)
    assert content(path) == before
    return message


def told(path: Path, run) -> str:
    with no_longer_than(SECONDS), np.errstate(all="ignore"):
        try:
            run()
        except UserError as error:
            message = str(error)
            assert "\n" not in message and message.isprintable()
            assert lazy.one_line(path.name) in message and "allowed: " in message
            return message
    return ""


def copy(opened) -> None:
    """What could be read can be written, whole or not at all, and is read again."""
    same = {
        (split, key): rows
        for split, part in opened.splits.items()
        for key, rows in part.features.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / opened.path.name
        try:
            write_copy(opened, output, same, {})
        except UserError:
            assert not os.listdir(folder)
            raise
        assert os.listdir(folder) == [opened.path.name]
        with open_contents(output) as copied:
            assert list(copied.splits) == list(opened.splits)
            for split, part in opened.splits.items():
                assert copied.splits[split].id.tolist() == part.id.tolist()


def check(part) -> None:
    """What a part promises, whatever the file was."""
    assert part.id.shape == (len(part),) and part.id.dtype.kind == "U" and part.features
    assert part.label is None or len(part.label) == len(part)
    assert part.label is None or (part.label.ndim in (1, 2) and part.label.dtype == np.float32)
    assert "conversation" in part.talk or not part.talk
    assert all(column.shape == (len(part),) for column in part.talk.values())
    for key, rows in part.features.items():
        assert len(rows) == len(part) and len(rows.shape) == 3 and rows.dtype.kind in "fiu"
        seen, frames = part.observed.get(key), part.frames.get(key)
        assert frames is None or (frames.shape == (len(part),) and frames.min(initial=0) >= 0)
        assert seen is None or (seen.dtype == bool and len(seen) == len(part))
        for start, stop in lazy.blocks(rows):
            block = rows[start:stop]
            assert len(block) == stop - start
            for one in block:
                assert one.shape[1] == rows.shape[2] and one.dtype == rows.dtype


def npy(shape, kind="<f4", raw: bytes | None = None, header: str = "") -> bytes:
    header = header or f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = header.encode("latin1") + b"\n"
    content = bytes(4 * int(np.prod(shape))) if raw is None else raw
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def place(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    path = folder / name
    for inside, raw in files.items():
        (path / inside).parent.mkdir(parents=True, exist_ok=True)
        (path / inside).write_bytes(raw)
    return path


# --- mutants of valid files --------------------------------------------------------------------


EDITS = ["flip", "set", "cut", "move", "insert", "drop", "number"]
NUMBERS = [0, 1, 127, 255, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
edit = st.tuples(
    st.sampled_from(EDITS),
    st.floats(0, 1, exclude_max=True),  # where
    st.booleans(),  # where something is: HDF5 is mostly empty room
    st.floats(0, 1, exclude_max=True),  # and where to
    st.sampled_from([1, 4, 8, 64]),
    st.sampled_from(NUMBERS),
)
edits = st.tuples(
    st.floats(0, 1, exclude_max=True),  # which file
    st.integers(0, 12),  # 0: without it
    st.lists(edit, min_size=1, max_size=6),
)


def mutant(files: dict[str, bytes], which: float, kept: int, edits) -> dict[str, bytes]:
    """Valid files of which one has flipped, cut, moved or foreign bytes, or is gone."""
    name = sorted(files)[int(which * len(files))]
    raw = bytearray(files[name])
    told = [i for i, byte in enumerate(raw) if byte]
    for kind, where, there, to, size, number in edits:
        if not raw:
            break
        at = told[int(where * len(told))] if there and told else int(where * len(raw))
        at, word = min(at, len(raw) - 1), struct.pack("<Q", number)[:size]
        if kind == "flip":
            raw[at] ^= 1 << number % 8
        elif kind == "set":
            raw[at] = word[0]
        elif kind == "cut" and to < 0.3:
            del raw[at:]
        elif kind == "move":
            target = int(to * len(raw))
            raw[target : target + size] = raw[at : at + size]
        elif kind == "insert":
            raw[at:at] = word
        elif kind == "drop":
            del raw[at : at + size]
        elif kind == "number":
            raw[at : at + size] = word
    rest = {other: files[other] for other in files if other != name}
    return rest if kept == 0 and len(files) > 1 else rest | {name: bytes(raw[:MOST])}


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, tuple[str, dict[str, bytes]]]:
    """layout -> name of the file or folder, and its files."""
    made = {}
    for name, write in LAYOUTS.items():
        path = write(tmp_path_factory.mktemp("valid"))
        made[name] = path.name, content(path)
    return made


@SIZES
@pytest.mark.parametrize("name", LAYOUTS)
def test_mutants_are_read_or_refused(name, valid, share):
    file, files = valid[name]

    @fuzz(100 * share)
    @given(edits=edits)
    def run(edits):
        with tempfile.TemporaryDirectory() as folder:
            survives(place(Path(folder), file, mutant(files, *edits)))

    run()


# --- trees that are whole, and hold what they should not ---------------------------------------

KINDS = ["<f4", ">f8", "<f2", "|b1", "<i8", "|u1", "<U3", "|S2", "|O", "<c8", "<M8[s]", "f4,i4"]
KEYS = ["text", "audio", "X", "y", "id", "split", "labels", "regression_labels", "a\nb", "mean"]
KEYS += ["text_lengths", "text_observed", "audio_observed", "train_X", "val_X", "val_y", "é/é", ""]


@st.composite
def array(draw):
    rows = draw(st.sampled_from([3, 3, 3, 3, 2, 0, 1]))
    shape = (rows, *draw(st.sampled_from([(), (4, 2), (1,), (2,), (1, 3), (4, 0), (2, 2, 2)])))
    kind = np.dtype(draw(st.sampled_from(KINDS)))
    fill = draw(st.sampled_from([0, 1, 2, -1, np.nan, np.inf, 1e300, 7, 0.5]))
    made = np.zeros(shape, kind)
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, OverflowError, TypeError):
        made[...] = fill
    if kind.kind == "O" and draw(st.booleans()):
        made[...] = [[None], "word", {}, 1][draw(st.integers(1, 3))]
    if made.ndim > 1 and draw(st.integers(0, 4)) == 0:
        made = np.asfortranarray(made)
    return made


value = st.one_of(
    array(),
    array(),
    array(),
    st.none(),
    st.integers(-(10**400), 10**400),
    st.text(max_size=3),
    st.lists(array(), max_size=4),
    st.lists(st.one_of(st.none(), st.floats(), st.text(max_size=2), st.integers()), max_size=4),
    st.lists(st.lists(st.integers(0, 1), max_size=2), max_size=4),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
table = st.dictionaries(st.sampled_from(KEYS), value, max_size=8)
tree = st.one_of(
    table,
    st.dictionaries(
        st.sampled_from(["train", "valid", "test", "other", 3, None]), table, max_size=3
    ),
    st.tuples(*[st.dictionaries(st.sampled_from(["c", 1]), value, max_size=2)] * 4, value, value),
    value,
)


@SIZES
def test_any_pickle_of_arrays_is_read_or_refused(share):
    @fuzz(250 * share)
    @given(tree=tree, protocol=st.integers(2, 5))
    def run(tree, protocol):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "features" / "text").mkdir(parents=True)
            path = Path(folder) / "file.pkl"
            path.write_bytes(pickle.dumps(tree, protocol))
            survives(path)

    run()


@SIZES
def test_any_npz_of_arrays_is_read_or_refused(share):
    @fuzz(150 * share)
    @given(arrays=st.dictionaries(st.sampled_from(KEYS), array(), max_size=8), packed=st.booleans())
    def run(arrays, packed):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file.npz"
            (np.savez_compressed if packed else np.savez)(
                path, **{k or "x": v for k, v in arrays.items()}
            )
            survives(path)

    run()


@SIZES
def test_any_hdf5_of_arrays_is_read_or_refused(share):
    @fuzz(150 * share)
    @given(arrays=st.dictionaries(st.sampled_from([k for k in KEYS if k]), array(), max_size=8))
    def run(arrays):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file.h5"
            with h5py.File(path, "w") as file:
                for key, x in arrays.items():
                    with contextlib.suppress(TypeError, ValueError):
                        file[key] = x.tolist() if x.dtype.kind == "U" else x
            survives(path)

    run()


@SIZES
def test_any_labels_csv_is_read_or_refused(share):
    @fuzz(60 * share)
    @given(lines=st.text('id,label,split\n\r"u01.5-\0é\ud800', max_size=60), head=st.booleans())
    def run(lines, head):
        with tempfile.TemporaryDirectory() as folder:
            path = place(
                Path(folder), "set", {"text/u0.npy": npy((2, 3)), "text/u1.npy": npy((2, 3))}
            )
            start = "id,label,split\nu0,1,train\n" if head else ""
            (path / "labels.csv").write_bytes((start + lines).encode(errors="surrogatepass"))
            survives(path)

    run()


def test_what_is_slow_is_stopped():
    """The clock of these tests works."""
    with pytest.raises(AssertionError, match="takes more"), no_longer_than(0.05):
        time.sleep(1)
