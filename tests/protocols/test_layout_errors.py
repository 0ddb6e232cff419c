"""User files that are not as their layout demands: the message names file, key, value, and what is
allowed."""

import numpy as np
import pytest

from mmdjax.data.formats.contents import open_contents
from tests.protocols import layout_files
from tests.protocols.layout_files import LAYOUTS
from tests.protocols.test_safe_pickle import refusal


def npz(**arrays):
    def write(folder):
        np.savez(path := folder / "file.npz", **arrays)
        return path

    return write


def csds(**files):
    def write(folder):
        for name, (group, entries) in files.items():
            layout_files.csd_file(folder / f"{name}.csd", group, entries)
        return folder

    return write


def with_file(layout, name, array):
    def write(folder):
        path = LAYOUTS[layout](folder)
        np.save(path / name, array)
        return path

    return write


def with_text(layout, name, content):
    def write(folder):
        path = LAYOUTS[layout](folder)
        (path / name).write_text(content)
        return path

    return write


cube, times = np.ones((3, 4, 2)), layout_files.intervals(3)
sequence = np.ones((3, 2))
one = {"v": (sequence, times)}
two_labels = {"v": (np.ones((2, 1)), np.array([[0.0, 1.0], [1.0, 2.0]]))}
# name -> (builder, what the message says)
BAD_FILES = {
    "rows differ": (npz(text=cube, audio=cube[:2]), ["'audio'", "2 rows", "allowed: 3", "'text'"]),
    "no features": (npz(label=np.ones(3)), ["no features", "'label'", "3 rows"]),
    "labels of other rows": (npz(text=cube, labels=np.ones(2)), ["'text'", "3 rows", "allowed: 2"]),
    "labels are words": (npz(text=cube, label=np.array([["a", "b"]] * 3)), ["'label'", "float"]),
    "labels of rank 4": (npz(text=cube, label=np.ones((3, 1, 1, 2))), ["'label'", "(N, L, 2)"]),
    "length beyond T": (npz(text=cube, text_lengths=[1, 5, 2]), ["'text'", "row 1 is 5;", "4"]),
    "lengths of rank 3": (npz(text=cube[:0], text_lengths=cube[:0]), ["'text'", "(0, 4, 2)"]),
    "observed is no mask": (npz(text=cube, text_observed=[0, 1, 2]), ["'text'", "0 and 1"]),
    "observed of other frames": (npz(text=cube, text_observed=np.ones((3, 3))), ["(3, 4)"]),
    "split 7": (npz(text=cube, split=[0, 1, 7]), ["'split'", "row 2 is '7'", "0, 1, 2"]),
    "split of other rows": (npz(text=cube, split=[0, 1]), ["'split'", "2 rows", "allowed: 3"]),
    "names of objects": (npz(text=cube, id=np.array([1, "a", None], object)), ["'id'", "'|O'"]),
    "csd of labels": (csds(a=("All Labels", two_labels)), ["labels alone"]),
    "csd twice": (
        csds(a=("X", {"v": (sequence, times)}), b=("X", {"v": (sequence, times)})),
        ["'X'"],
    ),
    "csd of other intervals": (
        csds(a=("X", {"v": (sequence, times[:2])}), b=("labels", two_labels)),
        ["a.csd", "X/data/v/intervals", "(2, 2)", "allowed: (3, 2)"],
    ),
    "csd of intervals that do not ascend": (
        csds(a=("X", {"v": (sequence, times[::-1])}), b=("labels", two_labels)),
        ["X/data/v/intervals", "ascend"],
    ),
    "csd of other channels": (
        csds(a=("X", {"v": (sequence, times), "w": (np.ones((3, 5)), times)})),
        ["X/data/w/features", "5 channels", "allowed: 2"],
    ),
    "csd without an id in common": (
        csds(a=("X", {"v": (sequence, times)}), b=("labels", {"w": two_labels["v"]})),
        ["no id", "label"],
    ),
    "other channels in a folder": (
        with_file("folder", "acoustic/u2.npy", np.ones((2, 4))),
        ["u2.npy", "4 channels", "allowed: 3"],
    ),
    "words in a folder": (
        with_file("folder", "acoustic/u2.npy", np.array(["a"])),
        ["u2.npy", "<U1"],
    ),
    "cube in a folder": (with_file("folder", "acoustic/u2.npy", cube), ["u2.npy", "(3, 4, 2)"]),
    "label that is a word": (
        with_text("folder", "labels.csv", "id,label\nu0,good\nu1,1\n"),
        ["labels.csv", "'u0'", "'good'"],
    ),
    "labels without a head": (
        with_text("folder", "labels.csv", "u0,1\n"),
        ["labels.csv", "'u0,1'"],
    ),
    "id without a split": (
        with_text("folder", "labels.csv", "id,label,split\nu0,1,train\n"),
        ["labels.csv", "'u1'", "no split"],
    ),
    "id twice": (with_text("folder", "labels.csv", "id,label\nu0,1\nu0,2\n"), ["'u0'", "twice"]),
    "labels of other utterances": (
        with_file("MMIN", "target/1/trn_label.npy", np.ones(2)),
        ["trn_label.npy", "for 3 rows"],
    ),
    "fold without splits": (
        lambda folder: (
            [p.unlink() for p in (LAYOUTS["MMIN"](folder) / "target/1").iterdir()]
            and folder / "IEMOCAP"
        ),
        ["'1'", "trn_int2name.npy"],
    ),
    "two pickles": (with_text("GCNet", "other.pkl", "x"), ["other.pkl", "allowed: one"]),
    "words": (lambda folder: with_text("folder", "a.txt", "words")(folder) / "a.txt", ["unknown"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(name, tmp_path):
    build, pieces = BAD_FILES[name]
    message = refusal(build(tmp_path), open_contents)
    for piece in pieces:
        assert piece in message


def test_unknown_layout_is_refused(tmp_path):
    path = layout_files.npz_one(tmp_path)
    assert "'xml'" in refusal(path, open_contents, "xml")
    assert "npz:2" in refusal(path, open_contents, "npz:2")
