"""User files written back with arrays replaced: all else is as it was, and the input untouched."""

import os
import pickle
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mmdjax.data.formats import lazy, safe_pickle
from mmdjax.data.formats.contents import open_contents, write_copy
from tests.protocols import layout_files
from tests.protocols.layout_files import LAYOUTS, content, whole
from tests.protocols.test_safe_pickle import array, dtype, refusal, stream, text


def changed(opened):
    """Every first key plus 1; a mask beside it."""
    replaced, added = {}, {}
    for split, part in opened.splits.items():
        key = next(iter(part.features))
        rows = part.features[key]
        new = whole(rows)
        new = [x + 1 for x in new] if isinstance(new, list) else new + 1
        replaced[split, key] = new
        added[split, f"{key}_drawn"] = np.arange(len(part)) % 2 == 0
    return replaced, added


@pytest.mark.parametrize("name", LAYOUTS)
def test_copy_has_what_was_replaced_and_all_else(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    before, output = content(path), tmp_path / "made" / path.name
    with open_contents(path) as opened:
        replaced, added = changed(opened)
        write_copy(opened, output, replaced, added)
        assert content(path) == before
        assert [p.name for p in output.parent.iterdir()] == [path.name]
        with open_contents(output) as copied:
            assert copied.layout == opened.layout and list(copied.splits) == list(opened.splits)
            for split, part in opened.splits.items():
                other = copied.splits[split]
                assert other.id.tolist() == part.id.tolist()
                np.testing.assert_array_equal(other.label, part.label)
                assert list(other.features) == list(part.features)
                for key, x in part.features.items():
                    expected = replaced.get((split, key), whole(x))
                    found = whole(other.features[key])
                    assert other.features[key].dtype == x.dtype
                    for one, two in zip(found, expected, strict=True):
                        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", LAYOUTS)
def test_copy_with_nothing_changed_holds_the_same(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    with open_contents(path) as opened:
        write_copy(opened, output := tmp_path / "copy", {}, {})
    if path.is_dir():
        assert content(output) == content(path)
    elif path.suffix == ".npz":
        with np.load(path) as one, np.load(output) as other:
            assert one.files == other.files
            assert all(np.array_equal(one[k], other[k], equal_nan=k == "X") for k in one.files)
    elif path.suffix == ".pkl":
        tree, other = (pickle.loads(p.read_bytes(), encoding="latin1") for p in (path, output))
        assert repr(other) == repr(tree)


def test_masks_stand_beside_their_arrays(tmp_path):
    with open_contents(layout_files.mmsa(tmp_path)) as opened:
        write_copy(opened, tmp_path / "a.pkl", *changed(opened))
    tree = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert tree["valid"]["text_drawn"].tolist() == [True, False, True]
    assert tree["valid"]["raw_text"].tolist() == ["words"] * 3
    with open_contents(layout_files.npz_column(tmp_path)) as opened:
        mask = np.ones((3, 1), bool)
        write_copy(opened, tmp_path / "b.npz", {}, {("valid", "text_drawn"): mask})
    with np.load(tmp_path / "b.npz") as file:
        assert file["text_drawn"].shape == (9, 1)
        assert file["text_drawn"][:, 0].tolist() == (file["split"] == 1).tolist()
    with open_contents(layout_files.csd_alone(tmp_path)) as opened:
        frames = [np.ones(i + 1, bool) for i in range(3)]
        write_copy(opened, tmp_path / "c.csd", {}, {("all", "COVAREP_drawn"): frames})
    with h5py.File(tmp_path / "c.csd") as file:
        assert file["COVAREP/COVAREP_drawn/v2"][()].tolist() == [True, True, True]
        assert file["COVAREP/metadata/root name"][0] == b'"COVAREP"'


@pytest.mark.parametrize(
    ("name", "split", "key", "row"),
    [
        ("csd folder", "all", "COVAREP", 2),
        ("MMIN", "trn", "V/denseface", 1),
        ("folder", "train", "acoustic", 1),
    ],
)
def test_a_missing_modality_may_be_given(name, split, key, row, tmp_path):
    path = LAYOUTS[name](tmp_path)
    with open_contents(path) as opened:
        rows = opened.splits[split].features[key]
        new = rows[0 : len(rows)]
        assert len(new[row]) == 0
        new[row] = np.full((7, rows.shape[2]), 5.0)
        write_copy(opened, tmp_path / "made", {(split, key): new}, {})
    with open_contents(tmp_path / "made") as copied:
        part = copied.splits[split]
        np.testing.assert_array_equal(part.features[key][row], new[row])
        assert key not in part.observed and part.features[key].dtype == rows.dtype


def test_ranges_of_channels_are_written_into_their_array(tmp_path):
    with open_contents(layout_files.pypots_h5(tmp_path)) as opened:
        rows = opened.splits["val"].features["X"][0:3]
        new = {("val", "X[0:2]"): np.zeros((3, 6, 2)), ("val", "X[4:5]"): np.ones((3, 6, 1))}
        write_copy(opened, tmp_path / "made.h5", new, {})
    with h5py.File(tmp_path / "made.h5") as file:
        made = file["val_X"][()]
        assert not made[..., :2].any() and (made[..., 4] == 1).all()
        np.testing.assert_array_equal(made[..., 2:4], rows[..., 2:4])
        assert file["val_X"].compression == "gzip"


def test_fortran_order_and_sequences_in_a_pickle_survive(tmp_path):
    draw = np.random.default_rng(0)
    sequences = [draw.normal(size=(i + 1, 3)) for i in range(4)]
    in_array = np.empty(4, object)
    in_array[:] = sequences
    tree = {
        "text": np.asfortranarray(draw.normal(size=(4, 2, 3))),
        "audio": sequences,
        "vision": in_array,
    }
    (path := tmp_path / "file.pkl").write_bytes(pickle.dumps(tree))
    with open_contents(path) as opened:
        part = opened.splits["all"]
        assert part.frames["vision"].tolist() == [1, 2, 3, 4]
        new = {("all", key): [x * 2 for x in sequences] for key in ("audio", "vision")}
        write_copy(opened, tmp_path / "made.pkl", new, {})
    made = pickle.loads((tmp_path / "made.pkl").read_bytes())
    np.testing.assert_array_equal(made["text"], tree["text"])
    assert isinstance(made["audio"], list) and made["vision"].dtype == object
    for key in ("audio", "vision"):
        for one, two in zip(made[key], sequences, strict=True):
            np.testing.assert_array_equal(one, two * 2)


BAD_CHANGES = {
    "output exists": lambda p: (p, {}, {}),
    "output in a folder that cannot be": lambda p: (p / "x" / "y", {}, {}),
    "unknown split": lambda p: (p.with_name("new"), {("dev", "text"): np.ones((3, 6, 4))}, {}),
    "unknown key": lambda p: (p.with_name("new"), {("test", "face"): np.ones((4, 6, 4))}, {}),
    "other shape": lambda p: (p.with_name("new"), {("test", "text"): np.ones((4, 6, 5))}, {}),
    "other rows": lambda p: (p.with_name("new"), {}, {("test", "text_drawn"): np.ones(3)}),
    "added over a key": lambda p: (p.with_name("new"), {}, {("test", "id"): np.ones(4)}),
}


@pytest.mark.parametrize("what", BAD_CHANGES)
def test_bad_change_is_refused_and_leaves_nothing(what, tmp_path):
    path = layout_files.mmsa(tmp_path)
    before = content(path)
    output, replaced, added = BAD_CHANGES[what](path)
    with open_contents(path) as opened:
        refusal(opened, write_copy, output, replaced, added)
    assert content(path) == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["MMSA", "npz by split", "h5 by split", "folder", "MMIN"])
def test_full_disk_is_one_line_and_leaves_nothing(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    script = f"""
import resource, signal
from mmdjax.data.formats.contents import open_contents, write_copy
from mmdjax.data.formats import hdf5
from mmdjax.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with open_contents({str(path)!r}) as opened:
    try:
        write_copy(opened, {str(tmp_path / "made")!r}, {{}}, {{}})
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and "made" in done.stdout, done
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def sparse_pickle(path, rows: int) -> None:
    """{'text': (rows, 64, 64) float32, all zero} whose content takes no room on the disk."""
    size = rows * 2**14
    shape = b"J" + struct.pack("<i", rows) + b"K\x40K\x40\x87"
    whole = stream(
        b"}" + text("text") + array(dtype("f4"), b"\x8e" + struct.pack("<Q", size), shape)
    )
    head, tail = whole[: whole.rindex(b"tb")], b"tbs."
    with path.open("wb") as file:
        file.write(head)
        file.seek(size, os.SEEK_CUR)
        file.write(tail)


def test_large_file_is_read_and_written_in_little_memory(tmp_path):
    rows = 2**14  # 256 MiB
    sparse_pickle(tmp_path / "large.pkl", rows)
    script = f"""
import resource, sys
from mmdjax.data.formats import lazy, views
from mmdjax.data.formats.contents import open_contents, write_copy
with open_contents({str(tmp_path / "large.pkl")!r}) as opened:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = opened.splits["all"].features["text"]
    assert rows.shape == ({rows}, 64, 64)
    assert sum(len(rows[a:b]) for a, b in lazy.blocks(rows)) == {rows}
    ones = lazy.Lazy(rows.shape, rows.dtype, lambda a, b: rows[a:b] + 1)
    write_copy(opened, {str(tmp_path / "made.pkl")!r}, {{("all", "text"): ones}}, {{}})
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert int(done.stdout) < 100, done
    made = open_contents(tmp_path / "made.pkl").splits["all"].features["text"]
    assert made.shape == (rows, 64, 64) and (made[rows - 2 : rows] == 1).all()
    os.unlink(tmp_path / "made.pkl")


def test_large_arrays_of_every_protocol_are_plain_pickles(tmp_path):
    x = np.arange(2**19, dtype="f4").reshape(2**9, 2, 2**9)
    for protocol in range(3, 6):
        tree = {"text": x, "again": x, "raw": b"x" * 2**21, "u": np.array(["ab"] * 2**18)}
        (path := tmp_path / "file.pkl").write_bytes(pickle.dumps(tree, protocol))
        found = safe_pickle.load(path)
        assert isinstance(found["text"], lazy.ArrayInFile) and found["again"] is found["text"]
        np.testing.assert_array_equal(whole(found["text"]), x)
        with open_contents(path) as opened:
            write_copy(opened, output := tmp_path / f"{protocol}.pkl", {}, {})
        made = pickle.loads(output.read_bytes())
        assert made["again"] is made["text"] and made["raw"] == tree["raw"]
        np.testing.assert_array_equal(made["text"], x)
        assert b"numpy._core" not in output.read_bytes()  # numpy 1 reads it
