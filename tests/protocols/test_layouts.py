"""User files: every layout is found, and read row by row."""

import pickle
import signal
import struct

import h5py
import numpy as np
import pytest

from mmdjax.data.formats import child, contents, hdf5, lazy, safe_pickle
from mmdjax.data.formats.contents import open_contents, part_rows
from mmdjax.errors import UserError
from tests.protocols import layout_files
from tests.protocols.layout_files import LAYOUTS, whole
from tests.protocols.test_safe_pickle import array, dtype, refusal, stream

# name -> layout, split -> rows, keys, whether there are labels
EXPECTED = {
    "MMSA": ("pickle", {"train": 5, "valid": 3, "test": 4}, "text audio", True),
    "MulT": ("pickle", {"train": 5, "valid": 3, "test": 4}, "text audio", True),
    "flat pickle": ("pickle", {"all": 6}, "text audio", True),
    "npz by split": ("npz", {"train": 5, "valid": 3, "test": 4}, "text audio", True),
    "npz with a column": ("npz", {"train": 3, "valid": 3, "test": 3}, "text audio", True),
    "npz of one split": ("npz", {"all": 6}, "text audio", True),
    "h5 by split": ("h5", {"train": 5, "valid": 3, "test": 4}, "audio text", True),
    "PyPOTS npz": ("pypots", {"all": 8}, "X", True),
    "PyPOTS h5": ("pypots", {"train": 6, "val": 3, "test": 3}, "X", True),
    "PyPOTS pickle": ("pypots", {"train": 6, "val": 3}, "X", True),
    "csd folder": ("csd", {"all": 3}, "COVAREP glove_vectors", True),
    "csd segments": ("csd", {"all": 2}, "COVAREP", True),
    "csd alone": ("csd", {"all": 3}, "COVAREP", False),
    "MMIN": ("mmin", {"trn": 3, "val": 1, "tst": 2}, "A/comparE L/bert_large V/denseface", True),
    "MMIN file": ("mmin", {"trn": 3, "val": 2}, "comparE", False),
    "folder": ("folder", {"train": 3, "test": 2}, "acoustic language", True),
    "GCNet": ("gcnet", {"train": 3, "valid": 1, "test": 2}, "deberta manet", True),
    "IEMOCAP of DialogueRNN": ("pickle", {"train": 9, "test": 2}, "text audio visual", True),
    "MELD of MMGCN": ("pickle", {"train": 9, "test": 5}, "text audio visual", True),
    "MELD of DialogueRNN": ("pickle", {"train": 9, "test": 5}, "text audio", True),
    "MOSEI of COGMEN": ("pickle", {"train": 5, "valid": 4, "test": 2}, "audio visual", True),
    "IEMOCAP of COSMIC": (
        "pickle",
        {"train": 5, "valid": 2, "test": 4},
        "roberta1 roberta2 roberta3 roberta4",
        True,
    ),
    "IEMOCAP of SDT": (
        "pickle",
        {"train": 9, "test": 2},
        "text roberta2 roberta3 roberta4 audio visual",
        True,
    ),
    "bc-LSTM": ("pickle", {"train": 9, "test": 4}, "text audio video", True),
    "MAG-BERT": ("pickle", {"train": 4, "dev": 2, "test": 3}, "visual acoustic", True),
    "MISA": ("pickle", {"train": 3, "dev": 2, "test": 2}, "visual acoustic", True),
    "folder of MISA": ("pickles", {"train": 3, "dev": 2, "test": 2}, "visual acoustic", True),
    "folder of modalities": ("pickles", {"train": 4, "test": 2}, "acoustic language", True),
    "MUStARD": ("pickle", {"all": 5}, "features", False),
    "ids": ("pickle", {"all": 5}, "text audio", True),
    "ids by split": ("pickle", {"train": 4, "valid": 2, "test": 3}, "text audio", True),
    "npy": ("npy", {"train": 4, "valid": 2, "test": 3}, "text audio", True),
    "csv": ("csv", {"train": 3, "valid": 1, "test": 2}, "text audio", True),
    "npz of words": ("npz", {"train": 3, "valid": 1, "test": 2}, "text audio", True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_found_and_read(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    layout, rows, keys, labelled = EXPECTED[name]
    with open_contents(path) as opened:
        assert opened.layout == layout and opened.path == path
        assert {split: len(part) for split, part in opened.splits.items()} == rows
        assert list(opened.splits) == list(rows)
        assert list(next(iter(opened.splits.values())).features) == keys.split()
        for part in opened.splits.values():
            count = len(part)
            assert (part.label is not None) == labelled
            assert len(set(part.id.tolist())) == count and part.id.dtype.kind == "U"
            for key, x in part.features.items():
                assert len(x) == x.shape[0] == count and x.dtype.kind in "f"
                read = whole(x)
                assert len(read) == count
                if lazy.is_ragged(x):
                    assert [len(one) for one in read] == part.frames[key].tolist()
                    assert {one.shape[1:] for one in read} == {x.shape[2:]}
                else:
                    assert read.shape == x.shape and read.dtype == x.dtype
                    np.testing.assert_array_equal(x[1:2], read[1:2])
                    np.testing.assert_array_equal(x[count - 1], read[-1])


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_may_be_named(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    layout = EXPECTED[name][0]
    with open_contents(path, layout) as opened:
        assert opened.layout == layout
    for other in contents.LAYOUTS:
        try:
            open_contents(path, other).close()
        except UserError as error:
            assert "\n" not in str(error) and path.name in str(error)


def test_arrays_are_those_of_the_file(tmp_path):
    tree = layout_files.nested()
    for name in ("MMSA", "npz by split", "h5 by split"):
        with open_contents(LAYOUTS[name](tmp_path)) as opened:
            for split, part in opened.splits.items():
                for key in layout_files.WIDTHS:
                    np.testing.assert_array_equal(whole(part.features[key]), tree[split][key])
                np.testing.assert_allclose(part.label, tree[split]["regression_labels"], rtol=1e-6)
                assert part.id.tolist() == tree[split]["id"].tolist()
                assert part.frames["audio"].tolist() == tree[split]["audio_lengths"].tolist()


def test_mult_labels_and_ids_take_one_form(tmp_path):
    part = open_contents(layout_files.mult(tmp_path)).splits["valid"]
    assert part.label.shape == (3,) and part.id.tolist()[1] == "valid_1_9.5"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.eye(2)[[[0, 1, 1, 0], [1, 0, 0, 0]]], [[0, 1, 1, 0], [1, 0, 0, 0]]),  # IEMOCAP's pairs
        (np.arange(14.0).reshape(2, 1, 7), np.arange(14).reshape(2, 7)),  # MOSEI's emotions
        ([[1.5], [2.5]], [1.5, 2.5]),
        ([np.float32(1), None], [1, np.nan]),
    ],
)
def test_labels_of_every_shape(labels, expected, tmp_path):
    tree = {"text": np.ones((2, 3, 4)), "labels": labels}
    (path := tmp_path / "file.pkl").write_bytes(pickle.dumps(tree))
    np.testing.assert_array_equal(open_contents(path).splits["all"].label, expected)


def test_rows_without_names_have_numbers_that_no_split_shares(tmp_path):
    parts = open_contents(layout_files.pypots_h5(tmp_path)).splits
    assert parts["val"].id.tolist() == ["val/0", "val/1", "val/2"]


def test_observed_is_told(tmp_path):
    part = open_contents(layout_files.npz_one(tmp_path)).splits["all"]
    assert part.observed["text"].tolist() == [False, False, True, True, True, True]
    assert part.observed["audio"].shape == (6, 6) and part.observed["audio"].dtype == bool


def test_a_column_of_splits_divides_rows(tmp_path):
    path = layout_files.npz_column(tmp_path)
    with np.load(path) as file, open_contents(path) as opened:
        for number, part in enumerate(opened.splits.values()):
            rows = file["split"] == number
            assert part.features["text"].shape == (3, 1, 4)
            np.testing.assert_array_equal(whole(part.features["text"])[:, 0], file["text"][rows])
            assert part.id.tolist() == file["id"][rows].tolist()


def test_channels_name_a_modality(tmp_path):
    path = layout_files.pypots_npz(tmp_path)
    part = open_contents(path).splits["all"]
    with np.load(path) as file:
        rows = part_rows(part, "X[1:3]")
        assert rows.shape == (8, 6, 2)
        np.testing.assert_array_equal(rows[2:5], file["X"][2:5, :, 1:3])
    for key in ("X[3:3]", "X[0:6]", "X[2:1]"):
        assert "[0:5]" in refusal(part, part_rows, key)
    for key in ("Y", "Y[0:2]", "X[-1:2]", "X[0:2", "X[:]"):
        assert "'X'" in refusal(part, part_rows, key)


def test_a_modality_that_an_id_lacks_has_no_frames(tmp_path):
    with open_contents(layout_files.csd_folder(tmp_path)) as opened:
        part = opened.splits["all"]
        assert part.id.tolist() == ["v0", "v1", "v2"]
        assert part.observed["COVAREP"].tolist() == [True, True, False]
        assert part.observed["glove_vectors"].tolist() == [False, True, True]
        assert part.label.tolist() == [-1, 0, 1]
        assert sum("lacks 1 of 3" in note for note in opened.notes) == 2


def test_segments_are_cut_out_of_their_videos(tmp_path):
    part = open_contents(layout_files.csd_segments(tmp_path)).splits["all"]
    assert part.id.tolist() == ["v[0]", "v[1]"] and part.label.tolist() == [1, -2]
    first, second = whole(part.features["COVAREP"])
    assert first[:, 0].tolist() == [0, 3, 6] and second[:, 0].tolist() == [9, 12, 15]


def test_folds_of_mmin_are_chosen(tmp_path):
    path = layout_files.mmin(tmp_path)
    with open_contents(path) as first, open_contents(path, "mmin:2") as second:
        assert first.splits["trn"].id.tolist() == ["u0", "u1", "u2"]
        assert second.splits["trn"].id.tolist() == ["u2", "u1", "u0"]
        assert first.splits["trn"].label.tolist() == [0, 1, 2]  # of one-hot rows
        assert any("mmin:FOLD" in note for note in first.notes)
    assert "'1', '2'" in refusal(path, open_contents, "mmin:3")


def test_fortran_order_in_npy_is_read(tmp_path):
    x = np.arange(24.0).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", text=np.asfortranarray(x))
    np.savez_compressed(tmp_path / "b.npz", text=np.asfortranarray(x))
    for name in ("a.npz", "b.npz"):
        with open_contents(tmp_path / name) as opened:
            np.testing.assert_array_equal(whole(opened.splits["all"].features["text"]), x)


def test_buffer_that_arrays_share_is_refused(tmp_path):
    """A MiB on the disk would become one for each array."""
    raw = b"\x8e" + struct.pack("<Q", 2**20) + bytes(2**20) + b"\x94"
    one = array(dtype("i1"), b"h\x00", b"J\x00\x00\x10\x00\x85")
    (path := tmp_path / "bomb.pkl").write_bytes(stream(raw + b"0]" + one + b"a" + one + b"a"))
    assert "share" in refusal(path, safe_pickle.load)


def test_file_that_changes_after_it_was_opened_is_told(tmp_path):
    path = layout_files.npz_one(tmp_path)
    with open_contents(path) as opened:
        path.write_bytes(path.read_bytes() + b"more")
        rows = opened.splits["all"].features["text"]
        assert "has changed" in refusal(rows, lambda x: x[0:2])


def test_hdf5_library_that_ends_or_hangs_is_one_line(tmp_path, monkeypatch):
    path = layout_files.h5_splits(tmp_path)
    with open_contents(path) as opened:
        rows = opened.splits["train"].features["text"]
        hdf5._process._process.kill()
        assert "has ended" in refusal(rows, lambda x: x[0:2])
        assert len(rows[0:2]) == 2
        monkeypatch.setattr(child, "PATIENCE", 0.2)
        hdf5._process._process.send_signal(signal.SIGSTOP)
        assert "not answered" in refusal(rows, lambda x: x[0:2])
        monkeypatch.undo()
        assert len(rows[0:2]) == 2


def test_hdf5_files_are_let_go(tmp_path):
    path = layout_files.h5_splits(tmp_path)
    open_contents(path).close()
    with h5py.File(path, "r+") as file:
        file["train/text"][0] = 7
    with open_contents(path) as opened:
        assert (opened.splits["train"].features["text"][0] == 7).all()
