"""Data that cannot be learned from or measured with: one line that counts and names, status 2."""

import pickle

import numpy as np
import pytest

from mmdjax.config import Labels
from mmdjax.data.labels import with_task
from mmdjax.errors import UserError
from mmdjax.types import Batch
from tests.end_to_end.conftest import refusal

SIZES = {"train": 40, "valid": 10, "test": 20}
FILE = (
    "--config=configs/synthetic.py",
    "--config.data.name=file",
    "--config.evaluation.rates=(0.5,)",
    "--config.data.modalities=('text:language','audio:acoustic')",
)


def tree(label):
    """{train, valid, test} of two modalities; label: (split, rows) -> its labels."""
    made, rng = {}, np.random.default_rng(0)
    for name, rows in SIZES.items():
        made[name] = {
            "text": rng.normal(size=(rows, 6, 4)).astype("f4"),
            "audio": rng.normal(size=(rows, 6, 3)).astype("f4"),
            "labels": np.asarray(label(name, rows)),
            "id": [f"{name}{i}" for i in range(rows)],
        }
    return made


def numbers(split, rows):
    return np.linspace(-3, 3, rows)


def classes(split, rows):
    return np.arange(rows) % 3


def unknown(split, rows):
    """Numbers of which the validation split lacks all but one."""
    label = numbers(split, rows)
    label[1:] = np.nan if split == "valid" else label[1:]
    return label


def unlearned(split, rows):
    """Classes of which training lacks two."""
    return classes(split, rows) + 2 * (split == "test")


def once(split, rows):
    """Classes of which training has one once."""
    label = classes(split, rows) % 2
    label[0] = 2
    return label


def without_audio(label):
    content = tree(label)
    content["test"]["audio"][:] = 0
    return content


CASES = {
    "classes that training lacks": (
        tree(unlearned), (), ["split 'test'", "classes that training lacks: 3 (7 here), 4 (6 here)"]
    ),
    "a class of one training row": (
        tree(once), (), ["split 'train'", "training has a single utterance: 2 (1 here)"]
    ),
    "a split without labels": (
        tree(unknown), (), ["split 'valid': 1 of 10 utterances have a label; allowed: at least two"]
    ),
    "labels that are all zero": (
        tree(lambda split, rows: np.zeros(rows)),
        ("--config.task.kind=regression",),
        ["labels that are all 0", "allowed: two different ones"],
    ),
    "a split without a modality": (
        without_audio(numbers), (), ["split 'test': no utterance of 20 has 'audio'"]
    ),
    "a column that labels do not have": (
        tree(lambda split, rows: np.stack([numbers(split, rows)] * 2, 1)),
        ("--config.task.columns=(2,)",),
        ["config.task.columns = (2,)", "numbers from 0 to 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_learned_or_measured_is_one_line(name, command, tmp_path, monkeypatch):
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))
    content, more, words = CASES[name]
    (path := tmp_path / "mine.pkl").write_bytes(pickle.dumps(content))
    arguments = (*FILE, f"--config.data.path={path}", f"--workdir={tmp_path / 'run'}", *more)
    message = refusal(command(*arguments), tmp_path / "run")
    assert "allowed: " in message
    for word in words:
        assert word in message


def splits(label, **more):
    """Batches of two modalities without a file."""
    made = {}
    for name, rows in SIZES.items():
        features = {m: np.ones((rows, 1, 2), np.float32) for m in ("language", "acoustic")}
        valid = {m: np.ones((rows, 1), bool) for m in features}
        ids = np.arange(rows).astype(str)
        made[name] = Batch(features, valid, np.asarray(label(name, rows)), ids, **more)
    return made


def labelled(batches, **labels):
    return with_task("mine.pkl: ", batches, Labels(**labels))


def test_words_are_classes_and_no_numbers():
    words = splits(lambda *a: classes(*a).astype(np.int32), classes=("joy", "calm", "fear"))
    _, task = labelled(words)
    assert task.kind == "classification" and task.names == ("joy", "calm", "fear")
    for kind in ("regression", "multi_label"):
        with pytest.raises(UserError) as error:
            labelled(words, kind=kind)
        text = str(error.value)
        assert "mine.pkl: labels are words, joy, calm, fear; allowed" in text and "\n" not in text
        assert f"numbers for {kind}" in text


def test_minus_one_marks_rows_without_a_class():
    def label(split, rows):
        return np.where(np.arange(rows) % 5 == 4, -1, classes(split, rows)).astype(np.int32)

    made, task = labelled(splits(label), kind="classification")
    assert task.names == ("0", "1", "2")
    for name, batch in made.items():
        missing = label(name, SIZES[name]) == -1
        np.testing.assert_array_equal(np.isnan(batch.label), missing)
        np.testing.assert_array_equal(batch.label[~missing], label(name, SIZES[name])[~missing])


def test_strengths_of_several_labels_are_there_or_not():
    def label(split, rows):
        strength = np.stack([numbers(split, rows), np.full(rows, 0.5), np.zeros(rows)], 1)
        strength[0, 1] = np.nan
        return strength.astype(np.float32)

    made, _ = labelled(
        splits(label), kind="multi_label", names=("a", "b"), columns=(0, 1), strengths=True
    )
    found = made["test"].label
    assert found.shape == (20, 2) and np.isnan(found).sum() == 1 and np.isnan(found[0, 1])
    np.testing.assert_array_equal(found[1:], label("test", 20)[1:, :2] > 0)


def test_whole_numbers_that_begin_with_0_are_classes_and_others_numbers():
    whole = lambda *a: classes(*a).astype(np.int32)  # noqa: E731
    assert labelled(splits(whole))[1].kind == "classification"
    ratings = lambda *a: whole(*a) + 1  # noqa: E731
    task = labelled(splits(ratings))[1]
    assert task.kind == "regression" and (task.low, task.high) == (1, 3)
    assert labelled(splits(lambda *a: whole(*a).astype(np.float32)))[1].kind == "regression"
