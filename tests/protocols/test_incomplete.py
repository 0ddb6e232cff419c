"""What utterances lack by nature is never read: not in training, evaluation or calibration."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing import natural
from mmdjax.data.sources import synthetic
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.method import registry
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import SENTIMENT
from mmdjax.training.train import train
from mmdjax.types import Observed
from mmdjax.workdir import Places
from tests.conftest import tiny_values

METHODS = ("two_stage", "zero_trained", "imder", "mmin", "linear_probe")
SIZES = (48, 40, 24)  # of train, valid and test; enough for a probe of every pattern


def lacking(batch, seed: int):
    """The utterances without some modalities, and without some frames of the others."""
    batch, rng = natural.incomplete(batch, 0.4, seed), np.random.default_rng(seed)
    valid = {m: v & (rng.random(v.shape) < 0.8) for m, v in batch.valid.items()}
    for m, v in valid.items():
        v[:, 1] |= batch.present[:, batch.modalities.index(m)]  # no further modality is lost
    features = {m: np.where(valid[m][..., None], x, 0) for m, x in batch.features.items()}
    return dataclasses.replace(batch, features=features, valid=valid)


def with_garbage(splits):
    """The splits with NaN and enormous numbers where nothing is known."""

    def of(batch):
        features = {}
        for m, x in batch.features.items():
            garbage = np.where(np.arange(x.size).reshape(x.shape) % 2, np.nan, 1e9)
            features[m] = np.where(batch.valid[m][..., None], x, garbage).astype(np.float32)
        return dataclasses.replace(batch, features=features)

    return {name: of(batch) for name, batch in splits.items()}


@pytest.fixture(scope="module")
def clean():
    splits = {name: lacking(b, i) for i, (name, b) in enumerate(synthetic.read(*SIZES, 0).items())}
    return Dataset(splits, SENTIMENT, "clean")


@pytest.fixture(scope="module")
def dirty(clean):
    """The same with garbage in the splits, and again in what is made of them."""
    dataset = Dataset(with_garbage(clean.splits), SENTIMENT, "dirty")
    for m, pair in clean.scaling.items():
        np.testing.assert_array_equal(dataset.scaling[m], pair)
    for view, expected in ((dataset, clean), (dataset.pooled, clean.pooled)):
        for name, batch in expected.standardised.items():
            for m, x in batch.features.items():
                np.testing.assert_array_equal(view.standardised[name].features[m], x)
        vars(view)["standardised"] = with_garbage(view.standardised)
    return dataset


@pytest.fixture(scope="module")
def fitted(clean, dirty, tmp_path_factory):
    """(method's name) -> the method and its parameters, on clean and on dirty data."""
    known = {}

    def of(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            config, found = configs.from_dict(tiny_values(name)), []
            jax.config.update("jax_disable_most_optimizations", True)  # nearly all is compiling
            for dataset in (clean, dirty):
                method = registry()[name](config, dataset, Reporter())
                place = Places(folder / dataset.content, dataset.content).phase(config, 0)
                found.append((method, train(method, 0, place).params))
            jax.config.update("jax_disable_most_optimizations", False)
            known[name] = found
        return known[name]

    return of


def same(one, other):
    """Every bit of two trees is equal, and finite where it is a number."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(np.asarray(a)).all()


def test_the_data_lack_modalities_frames_and_still_have_every_pair(clean):
    for batch in clean.splits.values():
        present = batch.present
        assert present.any(1).all() and 0.2 < (~present).mean() < 0.5 and present.all(1).sum() >= 8
        some_of_it = np.stack([v.any(1) & ~v.all(1) for v in batch.valid.values()], 1)
        assert some_of_it.any(0).all()


@pytest.mark.parametrize("name", METHODS)
def test_garbage_where_nothing_is_known_changes_no_trained_bit(name, fitted):
    (_, params), (_, broken) = fitted(name)
    assert bool(params) == (name != "linear_probe")
    same(params, broken)


@pytest.mark.parametrize("name", METHODS)
def test_garbage_where_nothing_is_known_changes_no_completion_and_no_prediction(name, fitted):
    answers = []
    for method, params in fitted(name):
        present = method.dataset.splits["test"].present
        observed = Observed.of_patterns(method.dataset.patterns, present)
        found = method.complete(params, "test", observed, 2, jax.random.key(0), "")
        answers.append((found.x, method.predict(params, "test", found)))
    same(*answers)


@pytest.mark.parametrize("name", METHODS)
def test_garbage_where_nothing_is_known_changes_no_metric(name, fitted):
    tables = []
    for method, params in fitted(name):
        conditions = conditions_of(method.dataset, method.config.evaluation, 0)
        rows = evaluate([Member(name, method, params, 2)], conditions, 0)[name]
        rows = [tuple(row.values()) for row in rows if row["metric"] != "seconds"]
        assert len(rows) > 20
        tables.append(rows)
    assert tables[0] == tables[1]


@pytest.mark.parametrize("name", [n for n in METHODS if registry()[n].serving])
def test_garbage_where_nothing_is_known_changes_no_calibration(name, fitted):
    served = []
    for method, params in fitted(name):
        made = method.server().served(method, params, 0)
        served.append((made.arrays, made.explained, made.about["predictor"]))
    assert served[0][2] == served[1][2]
    same(served[0][0], served[1][0])
    same(served[0][1], served[1][1])
