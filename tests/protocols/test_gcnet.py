"""Conversations are read as they stand; of a bad file, the file and the utterance are named."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mmdjax.config import Data, Labels
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.sources import from_file, gcnet
from mmdjax.errors import UserError
from mmdjax.methods.graph.conversations import Grouped
from mmdjax.methods.graph.settings import Graph
from mmdjax.tasks import Regression

NAMES = {"text": "language", "audio": "acoustic"}
WIDTHS = {"text": 4, "audio": 3}
LENGTHS = {"d1": 3, "d2": 1, "d3": 2, "d4": 2}
SPEAKERS = {"d1": ["M", "F", "M"], "d2": [""], "d3": ["b", "a"], "d4": ["a", "a"]}


class Files:
    """A data set in GCNet's layout, to be spoiled before it is written."""

    def __init__(self, folder: Path, rng):
        self.folder = folder
        self.ids = {c: [f"{c}_{i}" for i in range(n)] for c, n in LENGTHS.items()}
        self.labels = {c: [0.5 * i - 1 for i in range(n)] for c, n in LENGTHS.items()}
        self.speakers = {c: list(s) for c, s in SPEAKERS.items()}
        self.splits = [["d1", "d2"], ["d3"], ["d4"]]
        self.features = {
            key: {u: rng.standard_normal(width).astype(np.float32) for u in self.utterances()}
            for key, width in WIDTHS.items()
        }

    def utterances(self):
        return [u for part in self.ids.values() for u in part]

    def write(self) -> str:
        for key, vectors in self.features.items():
            (self.folder / "features" / key).mkdir(parents=True, exist_ok=True)
            for utterance, vector in vectors.items():
                np.save(self.folder / "features" / key / f"{utterance}.npy", vector)
        sentences = {c: [""] * len(u) for c, u in self.ids.items()}
        path = self.folder / "data.pkl"
        with path.open("wb") as file:
            pickle.dump((self.ids, self.labels, self.speakers, sentences, *self.splits), file)
        return str(path)


@pytest.fixture
def files(tmp_path, rng):
    return Files(tmp_path, rng)


@pytest.mark.parametrize("gap", ["zeros", "NaN", "no file"])
def test_utterances_that_lack_something_are_kept_and_what_they_lack_is_told(files, gap):
    told = []
    if gap == "no file":
        del files.features["audio"]["d1_1"]
    else:
        files.features["audio"]["d1_1"][:] = {"zeros": 0, "NaN": np.nan}[gap]
    files.labels["d1"][2] = float("nan")
    train = gcnet.read(files.write(), NAMES, tell=told.append)["train"]
    assert train.id.tolist() == ["d1_0", "d1_1", "d1_2", "d2_0"]
    assert train.present.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert (train.features["acoustic"][1] == 0).all()
    assert np.isnan(train.label).tolist() == [False, False, True, False]
    said = "split 'train': of 4 utterances 1 lack acoustic, 1 have no label; all are used"
    assert said in told[-1] and sum("split 'train'" in line for line in told) == 1


def test_utterances_without_any_modality_are_left_out_and_the_others_keep_their_places(files):
    told = []
    for vectors in files.features.values():
        vectors["d1_1"][:] = 0
    train = gcnet.read(files.write(), NAMES, tell=told.append)["train"]
    assert train.id.tolist() == ["d1_0", "d1_2", "d2_0"]
    assert train.talk.position.tolist() == [0, 2, 0]
    assert len(told) == 1
    assert "split 'train': 1 of 4 utterances have no modality: left out" in told[0]


def test_utterances_keep_their_order_features_speakers_and_positions(files):
    splits = gcnet.read(files.write(), NAMES)
    train = splits["train"]
    assert train.id.tolist() == ["d1_0", "d1_1", "d1_2", "d2_0"]
    assert train.talk.position.tolist() == [0, 1, 2, 0]
    assert train.talk.speaker.tolist() == [0, 1, 0, 0]
    assert train.modalities == ("language", "acoustic")
    expected = np.stack([files.features["audio"][u] for u in train.id])
    np.testing.assert_array_equal(train.features["acoustic"][:, 0], expected)
    assert splits["valid"].talk.speaker.tolist() == [0, 1]
    assert train.talk.conversation.tolist() == ["d1"] * 3 + ["d2"]


def test_iemocaps_layout_holds_out_training_conversations(files):
    files.splits = [["d1", "d2", "d3"], ["d4"]]
    splits = gcnet.read(files.write(), NAMES)
    parts = [set(splits[name].talk.conversation.tolist()) for name in ("train", "valid")]
    assert set.union(*parts) == {"d1", "d2", "d3"} and list(map(len, parts)) == [2, 1]


def test_an_npz_says_the_same(files, tmp_path, monkeypatch):
    splits = gcnet.read(files.write(), NAMES)
    parts = list(splits.values())
    shuffled = np.random.default_rng(0).permutation(sum(map(len, parts)))

    def column(get):
        return np.concatenate([get(part) for part in parts])[shuffled]

    arrays = {key: column(lambda p, n=name: p.features[n][:, 0]) for key, name in NAMES.items()}
    arrays |= {name: column(lambda p, n=name: getattr(p, n)) for name in ("id", "label")}
    for name in ("conversation", "position", "speaker"):
        arrays[name] = column(lambda p, n=name: getattr(p.talk, n))
    arrays["split"] = np.repeat(range(3), [len(part) for part in parts])[shuffled]
    np.savez(tmp_path / "all.npz", **arrays)
    again = gcnet.read(str(tmp_path / "all.npz"), NAMES)
    for name, part in splits.items():
        assert again[name].id.tolist() == part.id.tolist()
        np.testing.assert_array_equal(again[name].label, part.label)
        np.testing.assert_array_equal(again[name].features["language"], part.features["language"])
    # A file of conversations is one whatever it is called.
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))
    pairs = tuple(f"{key}:{name}" for key, name in NAMES.items())
    data = Data(name="file", path=str(tmp_path / "all.npz"), modalities=pairs)
    found = pipeline.dataset(data, Labels())
    expected = Dataset(splits, found.task, "")
    a, b = (Grouped(one, Graph(components=2)).data for one in (found, expected))
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_padding_is_zero_and_every_utterance_stands_once(files):
    dataset = Dataset(gcnet.read(files.write(), NAMES), Regression(-3, 3), "")
    grouped = Grouped(dataset, Graph(components=2, lengths=(4,)))
    exists, train = grouped.exists["train"], grouped.of_split["train"]
    assert exists.tolist() == [[True] * 3 + [False], [True] + [False] * 3]
    language = np.asarray(grouped.data.features[0])[train]
    expected = dataset.standardised["train"].features["language"][:, 0]
    np.testing.assert_array_equal(grouped.flat("train", language), expected)
    np.testing.assert_array_equal(language, grouped.placed("train", expected, 0))
    assert (language[~exists] == 0).all()
    said = "conversation 'd1' has 3 utterances; allowed: at most 2"
    with pytest.raises(UserError, match=said):
        Grouped(dataset, Graph(components=2, lengths=(2,)))
    assert Grouped(dataset, Graph(components=2)).lengths == (1, 2, 3)


def test_speakers_of_an_npz_are_numbered_within_their_conversation(tmp_path):
    about = {"id": ["a", "b", "c", "d"], "video": ["x", "x", "y", "y"], "split": [0, 0, 1, 2]}
    about |= {"label": np.zeros(4), "speaker": ["p", "q", "q", "p"]}
    features = {key: np.ones((4, width)) for key, width in WIDTHS.items()}
    path = tmp_path / "all.npz"
    np.savez(path, **(about | {"video": ["x", "x", "y", "z"]}), **features)
    splits = gcnet.read(str(path), NAMES)
    assert splits["train"].talk.speaker.tolist() == [0, 1]
    assert splits["valid"].talk.speaker.tolist() == [0]
    np.savez(path, **{k: v for k, v in about.items() if k != "video"}, **features)
    with pytest.raises(UserError, match="no array 'conversation' or 'video'; allowed") as error:
        gcnet.read(str(path), NAMES)
    assert "'conversation', 'id'" not in str(error.value)


def test_conversations_are_named_in_every_split_or_in_none(tmp_path, rng):
    def split(**more):
        return {key: rng.standard_normal((4, width)) for key, width in WIDTHS.items()} | {
            "labels": np.arange(4.0) - 1,
            **more,
        }

    talk = {"video": np.array(["x", "x", "y", "y"])}
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps({"train": split(**talk), "test": split()}))
    with pytest.raises(UserError, match="split 'test' has no column of conversations; allowed: "):
        from_file.read(str(path), NAMES)
    path.write_bytes(pickle.dumps({"train": split(**talk), "test": split(**talk)}))
    with pytest.raises(UserError, match="conversation 'x' in splits 'train' and 'test'"):
        from_file.read(str(path), NAMES)


def other_width(files):
    files.features["audio"]["d1_1"] = np.zeros(5, np.float32)


def not_finite(files):
    files.features["text"]["d1_1"][2] = np.inf


def two_splits(files):
    files.splits[1] = ["d1"]


def same_utterance(files):
    files.ids["d3"] = ["d1_1", "d3_1"]


def twice(files):
    files.ids["d1"][2] = "d1_1"


def empty(files):
    files.ids["d2"] = files.labels["d2"] = files.speakers["d2"] = []


def label_is_a_word(files):
    files.labels["d1"][1] = "happy"


def fewer_labels(files):
    files.labels["d1"].pop()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_width, r"audio/d1_1\.npy: 5 channels; allowed: 3, as in the first file"),
        (not_finite, r"data\.pkl: split 'train': key 'text': utterance 'd1_1' holds inf"),
        (two_splits, r"data\.pkl: conversation 'd1' in splits 'train' and 'valid'"),
        (same_utterance, r"data\.pkl: utterance 'd1_1' in splits 'train' and 'valid'"),
        (twice, r"data\.pkl: utterance 'd1_1' in splits 'train' and 'train'; allowed: once"),
        (empty, r"data\.pkl: .*conversation 'd2': has no utterances"),
        (label_is_a_word, r"data\.pkl: .*utterance 'd1_1': label 'happy'; allowed: a number"),
        (fewer_labels, r"data\.pkl: .*conversation 'd1': has 3 utterances and 2 labels"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_named_with_the_utterance(files, spoil, said):
    spoil(files)
    with pytest.raises(UserError, match=said) as error:
        gcnet.read(files.write(), NAMES)
    assert "\n" not in str(error.value)


def dataset(path, **labels):
    """What is trained on, with settings of its labels."""
    pairs = tuple(f"{key}:{name}" for key, name in NAMES.items())
    return pipeline.dataset(Data(name="gcnet", path=path, modalities=pairs), Labels(**labels))


def test_labels_out_of_range_are_refused_with_the_utterance(files):
    """By the task: the reader takes any number."""
    files.labels["d1"][1] = 3.5
    path = files.write()
    assert gcnet.read(path, NAMES)["train"].label[1] == 3.5
    said = r"data\.pkl: split 'train': utterance 'd1_1': label 3\.5; allowed: .*-3.*3"
    with pytest.raises(UserError, match=said) as error:
        dataset(path, low=-3.0, high=3.0)
    assert "\n" not in str(error.value)


def test_classes_are_whole_numbers_in_range(files):
    files.labels = {c: [(i + (c == "d2")) % 2 for i in range(n)] for c, n in LENGTHS.items()}
    path = files.write()
    whole = dataset(path, kind="classification")
    assert whole.splits["train"].label.tolist() == [0, 1, 0, 1]
    assert whole.task.names == ("0", "1")
    named = dataset(path, kind="classification", names=("calm", "angry")).task
    assert named.names == ("calm", "angry") and named.outputs == 2
    files.labels["d1"][1] = 2
    said = "split 'train': utterance 'd1_1': label 2; allowed: a whole number from 0 to 1"
    with pytest.raises(UserError, match=said):
        dataset(files.write(), kind="classification", names=("calm", "angry"))


def test_an_unknown_modality_is_refused(files):
    with pytest.raises(UserError, match="allowed: 'audio', 'text'"):
        gcnet.read(files.write(), {"video": "vision"})


def test_real_mosi_has_93_conversations(tmp_path):
    real = os.environ.get("MMDJAX_MOSI")
    script = Path(real).with_name("to_gcnet.py") if real else None
    if script is None or not script.is_file():
        pytest.skip("MMDJAX_MOSI does not name a folder with real data")
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    names = {n: n for n in ("language", "acoustic", "timing")}
    splits = gcnet.read(str(tmp_path / "CMUMOSI_features_raw_2way.pkl"), names)
    assert {k: len(s) for k, s in splits.items()} == {"train": 1284, "valid": 229, "test": 686}
    counts = [np.unique(s.talk.conversation, return_counts=True)[1] for s in splits.values()]
    assert [len(count) for count in counts] == [52, 10, 31] and counts[0].max() == 63
