"""Other files that people in the field have: lists of samples, dicts of ids, .npy and .csv; what is
not read is named for what it is."""

import csv
import io
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from rich.console import Console

from mmdjax.data.formats.contents import open_contents, write_copy
from mmdjax.data.formats.inspect_file import inspect
from mmdjax.data.sources import from_file
from tests.protocols import field_files
from tests.protocols.field_files import python3
from tests.protocols.layout_files import whole
from tests.protocols.test_safe_pickle import refusal


def test_samples_have_their_features_labels_and_names(tmp_path):
    path = field_files.mag(tmp_path)
    tree = pickle.loads(path.read_bytes())
    with open_contents(path) as opened:
        assert opened.notes == ("words hold no vectors: left out",)
        for split, part in opened.splits.items():
            assert part.id.tolist() == [sample[2] for sample in tree[split]]
            assert part.label.tolist() == [float(sample[1][0, 0]) for sample in tree[split]]
            for key, place in (("visual", 1), ("acoustic", 2)):
                for row, sample in zip(whole(part.features[key]), tree[split], strict=True):
                    np.testing.assert_array_equal(row, sample[0][place])
        part = opened.splits["dev"]
        new = {("dev", "acoustic"): [x * 2 for x in whole(part.features["acoustic"])]}
        masks = {("dev", "acoustic_drawn"): [np.ones(len(x), bool) for x in new["dev", "acoustic"]]}
        write_copy(opened, tmp_path / "made.pkl", new, masks)
    made = pickle.loads((tmp_path / "made.pkl").read_bytes())
    for one, other in zip(tree["dev"], made["dev"], strict=True):
        (words, visual, acoustic), label, name = other
        np.testing.assert_array_equal(acoustic, one[0][2] * 2)
        np.testing.assert_array_equal(visual, one[0][1])
        assert isinstance(other, tuple) and (words, label, name) == (one[0][0], one[1], one[2])
    assert repr(made["train"]) == repr(tree["train"])
    assert [len(mask) for mask in made["acoustic_drawn"]["dev"]] == [2, 3]


def test_words_that_are_vectors_are_features_and_labels_may_be_several(tmp_path):
    tree = pickle.loads(field_files.misa(tmp_path).read_bytes())
    with open_contents(tmp_path / "mosei.pkl") as opened:
        assert opened.splits["train"].label.shape == (3, 7)
        assert opened.notes == ("words hold no vectors: left out",)
    one = [((np.ones((2, 300)), *sample[0][1:]), *sample[1:]) for sample in tree["dev"]]
    with open_contents(python3(tmp_path / "dev.pkl", one)) as opened:  # MISA's: a file a split
        assert opened.splits["all"].features["words"].shape == (2, 2, 300) and not opened.notes


def test_a_dict_from_ids_to_one_array_is_one_modality(tmp_path):
    """MUStARD's audio is (channels, frames)."""
    path = field_files.mustard(tmp_path)
    tree = pickle.loads(path.read_bytes())
    with open_contents(path) as opened:
        part = opened.splits["all"]
        assert part.id.tolist() == list(tree) and list(part.features) == ["features"]
        assert part.features["features"].shape == (5, None, 4)
        np.testing.assert_array_equal(part.features["features"][2], tree["1_2"].T)
        (note,) = opened.notes
        assert "one modality of 5 ids, arrays (channels, frames)" in note
        new = {("all", "features"): [x + 1 for x in whole(part.features["features"])]}
        write_copy(opened, tmp_path / "made.p", new, {})
    made = pickle.loads((tmp_path / "made.p").read_bytes())
    for name, x in tree.items():
        np.testing.assert_array_equal(made[name], x + 1)
    same = {f"u{i}": np.ones((2, 3)) for i in range(9)}  # more than there are modalities
    with open_contents(python3(tmp_path / "same.pkl", same)) as opened:
        assert opened.splits["all"].features["features"].shape == (9, 2, 3)
    vectors = {f"u{i}": np.full(3, float(i)) for i in range(4)}
    with open_contents(python3(tmp_path / "vectors.pkl", vectors)) as opened:
        assert opened.splits["all"].features["features"].shape == (4, 1, 3)


@pytest.mark.parametrize("rows", [3, 9])
def test_a_few_arrays_of_as_many_rows_are_modalities(rows, tmp_path):
    tree = {"text": np.ones((rows, 4)), "audio": np.ones((rows, 4)), "id": list("abcdefghi"[:rows])}
    with open_contents(python3(tmp_path / "flat.pkl", tree)) as opened:
        assert list(opened.splits["all"].features) == ["text", "audio"]
    del tree["id"]
    tree["mean"] = np.ones((1, 4))  # no row an utterance
    with open_contents(python3(tmp_path / "flat.pkl", tree)) as opened:
        assert list(opened.splits["all"].features) == ["text", "audio"]


def test_a_modality_that_an_id_lacks_is_missing_and_may_be_given(tmp_path):
    with open_contents(field_files.by_id(tmp_path)) as opened:
        part = opened.splits["all"]
        assert part.observed["audio"].tolist() == [True, True, False, True, True]
        assert part.label.tolist() == [0, 1, 2, 3, 4]
        new = whole(part.features["audio"])
        new[2] = np.full((7, 3), 5.0)
        added = {("all", "audio_drawn"): [np.ones(len(x), bool) for x in new]}
        write_copy(opened, tmp_path / "made.pkl", {("all", "audio"): new}, added)
    made = pickle.loads((tmp_path / "made.pkl").read_bytes())
    assert (made["v_2"]["audio"] == 5).all() and made["v_2"]["words"] == "said"
    assert made["v_2"]["audio_drawn"].shape == (7,)
    with open_contents(tmp_path / "made.pkl") as copied:
        assert list(copied.splits["all"].features) == ["text", "audio"]


def test_pickles_of_modalities_are_joined_by_id(tmp_path):
    path = field_files.modality_folder(tmp_path)
    audio = pickle.loads((path / "acoustic.p").read_bytes())
    with open_contents(path) as opened:
        part = opened.splits["train"]
        assert part.id.tolist() == ["1", "2", "3", "4"] and part.label.tolist() == [1, 2, 0, 1]
        assert part.observed["acoustic"].tolist() == [False, True, True, True]
        assert part.features["acoustic"].shape == (4, None, 3)  # its arrays are (channels, frames)
        np.testing.assert_array_equal(part.features["acoustic"][1], audio[2].T)
        new = {("train", "acoustic"): [np.ones((n, 3)) for n in (4, 3, 4, 5)]}
        added = {("train", "acoustic_drawn"): [np.ones(n, bool) for n in (4, 3, 4, 5)]}
        write_copy(opened, tmp_path / "made", new, added)
    made = pickle.loads((tmp_path / "made" / "acoustic.p").read_bytes())
    assert made["1"].shape == (3, 4) and made[2].shape == (3, 3) and made[2].all()
    np.testing.assert_array_equal(made[5], audio[5])
    assert (tmp_path / "made/language.p").read_bytes() == (path / "language.p").read_bytes()
    assert (tmp_path / "made/acoustic_drawn.pkl").exists()
    with open_contents(tmp_path / "made") as copied:
        assert "acoustic" not in copied.splits["train"].observed


BAD_FOLDERS = {
    "no arrays": ({"a": {"x": np.ones(3)}, "b": {"x": "word"}}, ["'b.pkl'", "{id: array}"]),
    "no id in common": ({"a": {"x": np.ones(3)}, "b": {"y": np.ones(3)}}, ["no id", "'a', 'b'"]),
    "a split of another kind": (
        {"train": [1, 2], "test": [3]},
        ["no features among 'train', 'test'"],
    ),
}


@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_folders_of_other_pickles_are_refused_by_name(what, tmp_path):
    files, pieces = BAD_FOLDERS[what]
    (folder := tmp_path / "set").mkdir()
    for name, content in files.items():
        python3(folder / f"{name}.pkl", content)
    message = refusal(folder, open_contents)
    for piece in pieces:
        assert piece in message


def test_a_dict_in_a_npy_file_is_read_without_running_anything(tmp_path):
    path = field_files.npy_dict(tmp_path)
    with open_contents(path) as opened:
        part = opened.splits["train"]
        assert part.label.tolist() == [-1.5, -0.5, 0.5, 1.5]
        new = {("train", "text"): np.zeros((4, 6, 4))}
        write_copy(opened, tmp_path / "made.npy", new, {("train", "text_drawn"): np.ones((4, 6))})
    before, made = (np.load(p, allow_pickle=True).item() for p in (path, tmp_path / "made.npy"))
    assert not made["train"]["text"].any() and made["train"]["text_drawn"].all()
    np.testing.assert_array_equal(made["test"]["audio"], before["test"]["audio"])

    class Harmful:
        def __reduce__(self):
            return print, ("run",)

    np.save(tmp_path / "bad.npy", {"text": Harmful()}, allow_pickle=True)
    assert "builtins.print is refused" in refusal(tmp_path / "bad.npy", open_contents)


def test_a_table_has_columns_of_every_kind(tmp_path):
    path = field_files.csv_table(tmp_path)
    with open_contents(path) as opened:
        part = opened.splits["train"]
        assert part.id.tolist() == ["u0", "u1", "u2"] and part.classes == (
            "happy",
            "neutral",
            "sad",
        )
        np.testing.assert_array_equal(part.label, [0, 2, np.nan])
        assert part.talk["conversation"].tolist() == ["c0", "c0", "c1"]
        assert part.talk["speaker"].tolist() == ["A", "B", "A"]
        expected = [[1, 2], [3, 4], [np.nan] * 2]  # by number, not by column
        np.testing.assert_array_equal(whole(part.features["audio"])[:, 0], expected)
        filled = np.array([[[1.0, 2]], [[3, 4]], [[0.1, 7]]])
        masks = {("train", "audio_drawn"): np.array([[False], [False], [True]])}
        write_copy(opened, tmp_path / "made.csv", {("train", "audio"): filled}, masks)
    with path.open() as one, (tmp_path / "made.csv").open() as other:
        before, made = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert made[2]["audio.0"] == "0.1" and made[2]["audio.1"] == "7.0"
    assert [line["audio_drawn"] for line in made] == ["0", "0", "1", "0", "0", "0"]
    for old, new in zip(before, made, strict=True):
        same = set(old) - {"audio.0", "audio.1"}
        assert {name: new[name] for name in same} == {name: old[name] for name in same}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_separators_and_several_labels(separator, tmp_path):
    lines = ["id,label_valence,label_arousal,text/0,text/1", "a,1,-1,2,3", "b,0.5,nan,,1"]
    (path := tmp_path / "t.csv").write_text("\n".join(lines).replace(",", separator))
    with open_contents(path) as opened:
        part = opened.splits["all"]
        np.testing.assert_array_equal(part.label, [[1, -1], [0.5, np.nan]])
        np.testing.assert_array_equal(part.features["text"][1], [[np.nan, 1]])
        write_copy(opened, tmp_path / "made.csv", {}, {})
    assert (tmp_path / "made.csv").read_text().split() == path.read_text().split()


def test_a_table_is_trained_on(tmp_path):
    rows = [f"v{i}_{j},{i / 10},{i},{j}.5,1,2" for i in range(10) for j in range(2)]
    (path := tmp_path / "t.csv").write_text(
        "\n".join(["id,label,text_0,text_1,audio_0,audio_1", *rows])
    )
    found = from_file.read(str(path), {"text": "l", "audio": "a"})
    assert sum(len(batch) for batch in found.values()) == 20
    assert found["train"].features["l"].shape[1:] == (1, 2)


def test_labels_that_are_words_are_classes_in_every_split(tmp_path):
    with open_contents(field_files.npz_of_words(tmp_path)) as opened:
        assert {part.classes for part in opened.splits.values()} == {("happy", "neutral", "sad")}
        np.testing.assert_array_equal(opened.splits["train"].label, [2, 0, np.nan])
        assert opened.splits["test"].label.tolist() == [1, 0]
    np.savez(tmp_path / "numbers.npz", text=np.ones((2, 3)), label=np.array(["1", "-0.5"]))
    with open_contents(tmp_path / "numbers.npz") as opened:
        assert opened.splits["all"].label.tolist() == [1, -0.5] and not opened.splits["all"].classes


def test_classes_are_shown_and_lead_to_a_classification(tmp_path):
    out = io.StringIO()
    found = inspect(field_files.csv_table(tmp_path), Console(file=out, width=200))
    assert found["classes"] == ["happy", "neutral", "sad"]
    assert "classes: 0 happy, 1 neutral, 2 sad" in out.getvalue()
    assert "--config.task.kind=classification" in found["command"]


def test_words_are_classes_in_every_layout_that_has_labels(tmp_path):
    words = ["sad", "happy", "sad", ""]
    rows = {f"u{i}": {"text": np.ones(2), "label": word} for i, word in enumerate(words)}
    del rows["u3"]["label"]
    python3(tmp_path / "ids.pkl", rows)
    (folder := tmp_path / "folder").mkdir()
    (folder / "text").mkdir()
    for name in rows:
        np.save(folder / "text" / f"{name}.npy", np.ones(2))
    lines = [f"{name},{word}" for name, word in zip(rows, words, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["id,label", *lines]))
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["text"], file["label"] = np.ones((4, 2)), words
    for path in (tmp_path / "ids.pkl", folder, tmp_path / "file.h5"):
        with open_contents(path) as opened:
            part = opened.splits["all"]
            assert part.classes == ("happy", "sad"), path
            np.testing.assert_array_equal(part.label, [1, 0, 1, np.nan])


def torch_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", "3")


def table(text):
    return lambda path: path.write_text(text)


CUBE = np.ones((2, 3, 4))
BC_LSTM = (CUBE, np.ones((2, 3)), CUBE, np.ones((2, 3)), 3, [3, 1], [2, 2])
FOREIGN = {
    "model.pt": (torch_archive, ["a PyTorch archive (a zip with data.pkl)", "torch.load(FILE)"]),
    "old.pt": (
        lambda path: path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        ["a PyTorch file", "numpy.savez("],
    ),
    "x.tfrecord": (lambda path: path.write_bytes(bytes(16)), ["a TensorFlow record", "TFRecord"]),
    "x.mat": (
        lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file, Platform"),
        ["a MATLAB file", "scipy.io.loadmat(FILE)"],
    ),
    "x.parquet": (lambda path: path.write_bytes(b"PAR1" + bytes(9)), ["a Parquet file", "to_csv"]),
    "x.pkl.gz": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(9)), ["packed", "unpack"]),
    "x.json": (table('{"text": [1]}'), ["a JSON file", "json.load"]),
    "text.pickle": (
        lambda path: path.write_bytes(pickle.dumps(BC_LSTM)),
        ["bc-LSTM's tuple of one modality", "'train/audio'"],
    ),
    "t.pkl": (
        lambda path: path.write_bytes(pickle.dumps(({}, {"a": 1}, np.ones((3, 4)), [1]))),
        ["holds a tuple of 4: dict, dict, array (3, 4), list"],
    ),
    "x.npy": (lambda path: np.save(path, CUBE[0]), ["one array of shape (3, 4)", "numpy.savez("]),
    "list.npy": (
        lambda path: np.save(path, np.array([{}, 1], object), allow_pickle=True),
        ["an array of objects", "a dict of arrays"],
    ),
    "no_features.csv": (table("id,label\na,1\n"), ["columns 'id', 'label'", "text_0"]),
    "words.csv": (table("id,text_0\na,1\nb,two\n"), ["row 2, column 'text_0'", "'two'", "number"]),
    "short.csv": (table("id,text_0\na\n"), ["row 1 has 1 fields", "allowed: 2"]),
    "twice.csv": (table("id,text_0,text_0\na,1,2\n"), ["'text_0' is there twice"]),
    "numbers.csv": (table("id,text_0,text.0\na,1,2\n"), ["'text_0', 'text.0' have one number"]),
    "empty.csv": (table("id,text_0\n"), ["no rows"]),
    "mixed.csv": (
        table("id,label,text_0\na,1,2\nb,x\x1b,2\n"),
        ["row 2, column 'label'", r"'x\\x1b'", "a number, or nothing"],
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_is_named_for_what_it_is(name, tmp_path):
    write, pieces = FOREIGN[name]
    write(path := tmp_path / name)
    message = refusal(path, open_contents)
    assert str(path) in message and message.isprintable()
    for piece in pieces:
        assert piece in message


def test_a_bare_list_of_samples_has_no_place_for_masks(tmp_path):
    sample = ((np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 5))), 1.0, "v[0]")
    with open_contents(python3(tmp_path / "train.pkl", [sample])) as opened:
        added = {("all", "words_drawn"): np.ones((1, 2), bool)}
        assert "a dict of lists" in refusal(opened, write_copy, tmp_path / "made.pkl", {}, added)
    assert [p.name for p in tmp_path.iterdir()] == ["train.pkl"]
