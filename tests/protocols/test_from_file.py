"""Training data from files of every layout: what is kept, said, divided and refused."""

import numpy as np
import pytest

from mmdjax.config import Data
from mmdjax.data import pipeline
from mmdjax.data.dataset import standardise
from mmdjax.data.sources import from_file, mmsa
from mmdjax.errors import UserError

from . import layout_files
from .layout_files import KEYS, LAYOUTS, tree


def test_a_pickle_of_the_field_is_read_as_its_own_reader_does(tmp_path, write):
    """Lengths said, found and shared; -inf; whichever reads it."""
    content = layout_files.nested()
    for part in content.values():
        part["vision"] = np.abs(part["text"]) + 1  # no lengths of its own, and no padding
        part["vision"][0, 4:] = 0
        part["audio"][1, 0, 0] = -np.inf
    keys = {"vision": "v", "text": "l", "audio": "a"}
    expected, found = mmsa.read(write(content), keys), from_file.read(write(content), keys)
    for split, batch in expected.items():
        assert found[split].modalities == batch.modalities
        for m in batch.modalities:
            np.testing.assert_array_equal(found[split].valid[m], batch.valid[m])
            np.testing.assert_allclose(found[split].features[m], batch.features[m], rtol=1e-6)
        np.testing.assert_allclose(found[split].label, batch.label, rtol=1e-6)
        assert found[split].id.tolist() == batch.id.tolist()


WITH_SPLITS = ("MMSA", "MulT", "npz by split", "npz with a column", "h5 by split")


@pytest.mark.parametrize("name", WITH_SPLITS)
def test_layouts_with_splits_become_batches(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    found = from_file.read(str(path), KEYS)
    sizes = {"train": 3, "valid": 3, "test": 3} if "column" in name else layout_files.SPLITS
    assert {split: len(batch) for split, batch in found.items()} == sizes
    for batch in found.values():
        assert {m: x.shape[2] for m, x in batch.features.items()} == {"language": 4, "acoustic": 3}
        for m, x in batch.features.items():
            assert x.dtype == np.float32 and x.shape[:2] == batch.valid[m].shape
            assert (x[~batch.valid[m]] == 0).all() and batch.valid[m].any(1).all()


def test_utterances_of_folders_that_lack_a_file_are_kept_without_the_modality(tmp_path):
    path, told = layout_files.mmin(tmp_path), []
    keys = {"A/comparE": "a", "L/bert_large": "l", "V/denseface": "v"}
    found = from_file.read(str(path), keys, tell=told.append)
    assert [len(batch) for batch in found.values()] == [3, 1, 2]
    present = found["train"].present
    assert (~present).sum() == 1 and not present[1, 2] and not found["train"].features["v"][1].any()
    assert f"{path}: split 'train': of 3 utterances 1 lack v; all are used" in told


def test_frames_with_gaps_are_unknown_and_the_others_are_used(tmp_path):
    """A frame of which every channel of the modality is missing; of others NaN says which are."""
    path = LAYOUTS["PyPOTS npz"](tmp_path)
    x = np.load(path)["X"]
    found = from_file.read(str(path), {"X[0:2]": "a", "X[2:5]": "b"})
    assert sum(map(len, found.values())) == len(x)
    for batch in found.values():
        rows = batch.id.astype(int)
        for m, known in (("a", x[rows][:, :, :2]), ("b", x[rows][:, :, 2:])):
            gaps = np.isnan(known).all(-1)
            np.testing.assert_array_equal(batch.valid[m], ~gaps)
            expected = np.where(gaps[..., None], 0, known)
            np.testing.assert_allclose(batch.features[m], expected, rtol=1e-6)


REFUSED = {
    "PyPOTS pickle": (["X[0:2]", "X[2:5]"], "splits 'train', 'val'; allowed: train and test"),
    "csd alone": (["covarep"], "no labels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_all_splits_or_labels_are_refused_in_one_line(name, tmp_path):
    path, (keys, said) = LAYOUTS[name](tmp_path), REFUSED[name]
    with pytest.raises(UserError, match=said) as error:
        from_file.read(str(path), {key: f"m{i}" for i, key in enumerate(keys)})
    assert "\n" not in str(error.value) and path.name in str(error.value)


def test_utterances_that_lack_something_are_kept_and_what_they_lack_is_counted(write):
    content = tree()
    train = content["train"]
    train["text"][0] = 0  # missing
    train["audio"][1, 3] = np.nan  # a gap
    train["regression_labels"][2:4] = np.nan, np.inf
    train["text_observed"] = np.arange(40) != 3
    train["audio_observed"] = np.ones((40, 6), bool)
    train["audio_observed"][4, 2] = False
    train["text"][5], train["audio"][5] = 0, np.nan  # nothing at all
    told = []
    found = from_file.read(write(content), KEYS, tell=told.append)
    where = f"{write(content)}: split 'train'"
    assert told == [
        f"{where}: 1 of 40 utterances have no modality: left out",
        f"{where}: of 39 utterances 2 lack language, 2 have no label; all are used",
    ]
    assert len(found["valid"]) == 10 and len(found["test"]) == 20
    batch, rows = found["train"], np.delete(np.arange(40), 5)
    assert batch.id.tolist() == [train["id"][row] for row in rows]
    np.testing.assert_array_equal(batch.present[:, 0], ~np.isin(rows, [0, 3]))
    assert batch.present[:, 1].all()
    gaps = np.argwhere(~batch.valid["acoustic"]).tolist()
    assert gaps == [[1, 3], [4, 2]]
    np.testing.assert_array_equal(np.isnan(batch.label), np.isin(rows, [2, 3]))
    for m, x in batch.features.items():
        assert np.isfinite(x).all() and not x[~batch.valid[m]].any()


def test_modalities_that_no_utterance_has_together_are_told(write):
    content = tree()
    content["train"]["text"][:20], content["train"]["audio"][20:] = 0, 0
    told = []
    from_file.read(write(content), KEYS, tell=told.append)
    assert told == [
        f"{write(content)}: split 'train': of 40 utterances 20 lack language, 20 lack acoustic; "
        "all are used",
        f"{write(content)}: split 'train': no utterance has language and acoustic together: how "
        "they depend cannot be learned",
    ]


def test_sequences_of_unequal_length_are_padded_to_the_longest_of_all_splits(write):
    content = tree()
    for split, part in content.items():
        part["text"] = [x[: 1 + i % 6] for i, x in enumerate(part["text"])]
        part["audio"] = part["audio"][:, : 6 if split == "test" else 4]
    found = from_file.read(write(content), KEYS)
    for batch in found.values():
        assert {m: x.shape[1] for m, x in batch.features.items()} == {"language": 6, "acoustic": 6}
        counts = batch.valid["language"].sum(1)
        assert counts.tolist() == [1 + i % 6 for i in range(len(batch))]
    assert found["train"].valid["acoustic"].sum(1).tolist() == [4] * 40


def test_a_file_without_splits_is_divided_by_recording_and_seed(write):
    whole = tree((100, 4, 4))["train"]
    path, told = write(whole), []
    found = from_file.read(path, KEYS, tell=told.append)
    recordings = [{one.split("$_$")[0] for one in batch.id} for batch in found.values()]
    assert not set.intersection(*recordings) and [len(r) for r in recordings] == [18, 2, 5]
    assert not (recordings[0] & recordings[1] or recordings[1] & recordings[2])
    assert sorted(i for batch in found.values() for i in batch.id) == sorted(whole["id"])
    assert "divided at random (train 72, valid 8, test 20) by 25 recordings" in told[0]
    again, other = from_file.read(path, KEYS), from_file.read(path, KEYS, seed=1)
    assert again["test"].id.tolist() == found["test"].id.tolist() != other["test"].id.tolist()
    with pytest.raises(UserError, match="1 recordings to be divided"):
        from_file.read(write(whole | {"id": [f"v[{i}]" for i in range(100)]}), KEYS)


def test_without_a_validation_split_training_utterances_make_one(write):
    content = tree()
    del content["valid"]
    told = []
    found = from_file.read(write(content), KEYS, tell=told.append)
    assert [len(batch) for batch in found.values()] == [36, 4, 20]
    assert found["test"].id.tolist() == content["test"]["id"]
    assert len({one.split("$_$")[0] for one in found["valid"].id}) == 1 and len(told) == 1


def test_frames_that_a_file_denies_are_gaps_even_behind_the_last_that_is_not_zero(write):
    content = tree()
    train = content["train"]
    train["audio"][0, 3:] = 0
    train["audio_observed"] = np.ones((40, 6), bool)
    train["audio_observed"][0, 3:] = False
    known = from_file.read(write(content), KEYS)["train"].valid["acoustic"]
    assert known[0].tolist() == [True] * 3 + [False] * 3 and known[1:].all()
    content = tree()
    train = content["train"]
    train["text_lengths"] = np.full(40, 6)
    train["text_lengths"][1] = 2
    train["text"][1, :2] = 0  # nothing within its length
    present = from_file.read(write(content), KEYS)["train"].present
    assert np.argwhere(~present).tolist() == [[1, 0]]


def test_what_would_not_fit_into_memory_is_refused(write, monkeypatch):
    monkeypatch.setattr(from_file.os, "sysconf", lambda name: 1 << 6)
    with pytest.raises(UserError, match="key 'text': padded to its longest utterance, 6 frames"):
        from_file.read(write(tree()), KEYS)


def test_shared_ids_are_said(write):
    content, told = tree(), []
    content["test"]["id"][0] = content["train"]["id"][0]
    from_file.read(write(content), KEYS, tell=told.append)
    assert len(told) == 1 and "1 ids are in train and test" in told[0] and "leakage" in told[0]


def test_ids_of_half_a_character_are_spelled_out(write):
    content = tree()
    content["train"]["id"][0] = "a\ud800"
    assert from_file.read(write(content), KEYS)["train"].id[0] == "a\\ud800"


def test_ranges_of_channels_are_modalities(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", X=rng.normal(size=(30, 5, 7)), y=rng.uniform(-1, 1, 30))
    found = from_file.read(str(tmp_path / "x.npz"), {"X[0:4]": "a", "X[4:7]": "b"})
    assert {m: x.shape[1:] for m, x in found["train"].features.items()} == {
        "a": (5, 4),
        "b": (5, 3),
    }
    assert [len(batch) for batch in found.values()] == [21, 3, 6]


BAD = {
    "a key": ({}, {"txt": "l", "audio": "a"}, ["split 'train'", "'txt'", "'text'"]),
    "no labels": ({"train": {"regression_labels": None}}, KEYS, ["split 'train'", "no labels"]),
    "inf": ({"valid": {"audio": np.full((10, 6, 3), np.inf)}}, KEYS, ["'valid'", "'audio'", "inf"]),
    "channels": ({"test": {"text": np.ones((20, 6, 5))}}, KEYS, ["test: language", "5", "4"]),
    "a split without a modality": (
        {"valid": {"audio": np.zeros((10, 6, 3))}},
        KEYS,
        ["split 'valid': no utterance of 10 has 'audio'"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_on_is_refused_in_one_line(name, write):
    changes, keys, said = BAD[name]
    content = tree(**changes)
    for part in content.values():
        if part["regression_labels"] is None:
            del part["regression_labels"]
    path = write(content)
    with pytest.raises(UserError) as error:
        from_file.read(path, keys)
    text = str(error.value)
    assert "\n" not in text and "mine.pkl" in text and "allowed: " in text
    assert all(part in text for part in said), text


def test_unknown_splits_are_refused_and_further_ones_left_out(write):
    content, told = tree(), []
    found = from_file.read(write(content | {"extra": content["test"]}), KEYS, tell=told.append)
    assert set(found) == {"train", "valid", "test"} and "'extra': left out" in told[0]
    with pytest.raises(UserError, match="allowed: train and test, perhaps valid"):
        from_file.read(write({"train": content["train"], "dev": content["valid"]}), KEYS)


def test_a_folder_is_prepared_and_standardised_as_other_sources_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for key, width in (("text", 4), ("audio", 3)):
        (tmp_path / "data" / key).mkdir(parents=True)
        for i in range(40):
            np.save(tmp_path / f"data/{key}/u{i}.npy", rng.normal(2, 3, (1 + i % 5, width)))
    lines = [f"u{i},{rng.uniform(-3, 3)}" for i in range(40)]
    (tmp_path / "data/labels.csv").write_text("\n".join(["id,label", *lines]))
    data = Data(
        name="file", path=str(tmp_path / "data"), modalities=("text:language", "audio:acoustic")
    )
    splits = standardise(pipeline.load(data))
    assert [len(splits[s]) for s in ("train", "valid", "test")] == [28, 4, 8]
    said = " ".join(capsys.readouterr().out.split())
    assert "divided at random (train 28, valid 4, test 8) by utterances: ids name no" in said
    pipeline.load(data)  # prepared before
    assert "divided at random" in " ".join(capsys.readouterr().out.split())
    x = splits["train"].features["language"][splits["train"].valid["language"]]
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-4)
