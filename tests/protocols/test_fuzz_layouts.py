"""Whole files that hold what they should not are read or refused (see `fuzzing`)."""

import contextlib
import pickle
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdjax.data.formats import child
from mmdjax.data.formats.conversations import TUPLES
from tests.protocols.fuzzing import SIZES, fuzz, no_longer_than, npy, place, survives


@pytest.fixture(autouse=True, scope="module")
def an_impatient_reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "PATIENCE", 5.0)
        yield


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
names = st.one_of(st.just(["c"]), st.just({"c", 1}), value)
row = st.one_of(*[st.just(x) for x in (1, "word", [1.5, 2.0], None, np.ones(3), np.ones((2, 3)))])
rows = st.one_of(st.lists(row, min_size=1, max_size=2), value)
by_conversation = st.dictionaries(st.sampled_from(["c", 1, b"c"]), rows, min_size=1, max_size=2)
sample = st.tuples(st.tuples(value, array(), array()), value, st.text(max_size=3))


def in_order(order: str):
    """A tuple of dicts and names, as one of `TUPLES` has them."""
    splits = ("train", "valid", "test")
    return st.tuples(*[names if name in splits else by_conversation for name in order.split()])


tree = st.one_of(
    table,
    st.dictionaries(
        st.sampled_from(["train", "valid", "test", "other", 3, None]), table, max_size=3
    ),
    st.tuples(*[st.dictionaries(st.sampled_from(["c", 1]), value, max_size=2)] * 4, value, value),
    st.sampled_from(TUPLES).flatmap(in_order),
    st.lists(sample, max_size=3),
    st.fixed_dictionaries({"train": st.lists(sample, min_size=1, max_size=3)}),
    st.dictionaries(st.sampled_from(["u", "v", 1, b"w", None]), table, max_size=3),
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


@SIZES
def test_any_table_is_read_or_refused(share):
    cell = st.sampled_from(["", "1", "-0.5", "nan", "inf", "1e999", "word", '"', "a;b", "\0", "é"])
    column = st.sampled_from(
        ["id", "split", "label", "label_a", "text_0", "text.1", "audio/7", "position", "video", ""]
    )

    @fuzz(100 * share)
    @given(
        header=st.lists(column, max_size=6),
        lines=st.lists(st.lists(cell, max_size=6), max_size=4),
        separator=st.sampled_from(",;\t"),
        whole=st.booleans(),
    )
    def run(header, lines, separator, whole):
        if whole:
            header = list(dict.fromkeys(header))
            lines = [(line * 6)[: len(header)] for line in lines if line]
        text = "\n".join(separator.join(line) for line in [header, *lines])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            path.write_text(text)
            survives(path)

    run()


def test_what_is_slow_is_stopped():
    """The clock of these tests works."""
    with pytest.raises(AssertionError, match="takes more"), no_longer_than(0.05):
        time.sleep(1)
