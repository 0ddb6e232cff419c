"""Frames that lack some of their numbers: what they have is read, kept, and conditions the rest."""

import dataclasses

import numpy as np
import pytest

import mmdjax
from mmdjax.config.sizes import auto
from mmdjax.data import entries, kriging
from mmdjax.data.dataset import Dataset
from mmdjax.data.sources import from_file
from mmdjax.types import Batch

FRAMES, CHANNELS = 12, 6
NAMES = ("vitals", "notes")


def series(rows=480, seed=0):
    """Return utterances whose channels share a slow factor, which is the label, too."""
    rng = np.random.default_rng(seed)
    level = rng.standard_normal(rows)
    time = np.cumsum(rng.standard_normal((rows, FRAMES)), 1) / 4
    factor = level[:, None] + time
    mix = np.random.default_rng(9).uniform(0.5, 1.5, (2, CHANNELS))
    features = {
        m: (factor[..., None] * mix[i] + 0.3 * rng.standard_normal((rows, FRAMES, CHANNELS)))
        for i, m in enumerate(NAMES)
    }
    return {m: x.astype(np.float32) for m, x in features.items()}, level.astype(np.float32)


def thinned(features, share, seed=1):
    """Return features of which this share of single entries is NaN."""
    rng = np.random.default_rng(seed)
    return {m: np.where(rng.random(x.shape) < share, np.nan, x) for m, x in features.items()}


def splits(features, label):
    size = len(label)
    valid = {m: ~np.isnan(x).all(-1) for m, x in features.items()}
    features = {m: np.where(valid[m][..., None], x, 0) for m, x in features.items()}
    batch = Batch(features, valid, label, np.arange(size).astype(str))
    rows = np.split(np.arange(size), [size - 160, size - 80])
    return dict(zip(("train", "valid", "test"), map(batch.at, rows), strict=True))


def test_missing_entries_are_filled_from_those_of_their_utterance():
    whole, label = series()
    lacking = splits(thinned(whole, 0.7), label)
    found, truth = entries.filled(lacking), splits(whole, label)
    for name, batch in found.items():
        for m, x in batch.features.items():
            known, valid = batch.known[m], batch.valid[m]
            np.testing.assert_array_equal(x[known], lacking[name].features[m][known])
            assert np.isfinite(x).all()
            hidden = valid[..., None] & ~known
            error = np.sqrt(((x - truth[name].features[m])[hidden] ** 2).mean())
            assert error < 0.5 * truth[name].features[m][hidden].std()


def test_splits_without_such_frames_stay_as_they_are():
    batches = splits(*series(200))
    assert all(entries.filled(batches)[name] is batch for name, batch in batches.items())


def test_no_split_teaches_how_to_fill_another():
    whole, label = series()
    lacking = splits(thinned(whole, 0.7), label)
    other = {m: 100 * x for m, x in lacking["test"].features.items()}
    changed = lacking | {"test": dataclasses.replace(lacking["test"], features=other)}
    for m, x in entries.filled(lacking)["train"].features.items():
        np.testing.assert_array_equal(x, entries.filled(changed)["train"].features[m])


@pytest.mark.parametrize("frames", [1, 4])
def test_views_of_fewer_frames_have_a_covariance(frames):
    whole, label = series()
    dataset = Dataset(entries.filled(splits(thinned(whole, 0.7), label)), None, "")
    view = dataset.resampled(frames)
    fields = entries.covariances(view.splits["train"], view.scaling)
    for m, x in splits(whole, label)["test"].features.items():
        found = kriging.conditional_mean(fields[m], x, np.ones((*x.shape[:2], 1), bool))
        assert fields[m].frame.shape == (CHANNELS, CHANNELS) and np.isfinite(found).all()


def config():
    values = auto()
    short = {"epochs": 12, "passes": 4}
    for phase in ("classifier_training", "score_training", "stage2_training"):
        values[phase] = values[phase] | short
    # Of 70 % of the entries, some frames have none.
    values["diffusion"] = values["diffusion"] | {"frame_gaps": 0.5}
    values["evaluation"] = values["evaluation"] | {"draws": 4}
    return values


@pytest.fixture(scope="module")
def trained():
    """A model of series that lack 70 % of their entries, in training too."""
    whole, label = series()
    lacking = thinned(whole, 0.7)
    return mmdjax.Imputer(config(), verbose=False).fit(lacking, label), *series(200, seed=5)


def test_series_that_lack_most_entries_train_impute_and_predict(trained):
    imputer, whole, label = trained
    lacking = thinned(whole, 0.7, seed=6)
    filled, predicted = imputer.impute(lacking, draws=8), imputer.predict(lacking)
    assert np.corrcoef(predicted.mean, label)[0, 1] > 0.8
    for m, x in whole.items():
        hidden = np.isnan(lacking[m])
        draws = filled.features[m]
        for draw in draws:
            np.testing.assert_array_equal(draw[~hidden], lacking[m][~hidden].astype(np.float32))
        assert np.isfinite(draws).all() and filled.drawn[m].mean() > 0.9
        error = np.sqrt(((draws.mean(0) - x)[hidden] ** 2).mean())
        assert error < 0.5 * x[hidden].std()
        ranks = (draws < x).sum(0)[hidden]
        covered = ((ranks > 0) & (ranks < len(draws))).mean()
        assert 0.6 < covered < 0.92  # 7 / 9 of the exact law


def test_entries_condition_what_is_drawn(trained):
    """One number of each frame of one modality moves the other, which is missing."""
    imputer, whole, _ = trained
    one = {"vitals": np.full_like(whole["vitals"], np.nan), "notes": None}
    one["vitals"][..., 0] = whole["vitals"][..., 0]
    filled = imputer.impute(one, draws=8)
    for m in NAMES:
        found = filled.features[m].mean(0)[..., 1:].mean((1, 2))
        assert np.corrcoef(found, whole[m][..., 1:].mean((1, 2)))[0, 1] > 0.8


def test_an_answer_does_not_depend_on_company(trained):
    imputer, whole, _ = trained
    lacking = {m: x[:20] for m, x in thinned(whole, 0.7).items()}
    together = imputer.impute(lacking, draws=2).features
    alone = imputer.impute({m: x[7:8] for m, x in lacking.items()}, draws=2).features
    for m in NAMES:
        np.testing.assert_allclose(alone[m][:, 0], together[m][:, 7], atol=2e-3)


def test_a_file_with_single_gaps_is_read_and_filled(tmp_path):
    whole, label = series(300)
    lacking = thinned(whole, 0.3)
    np.savez(tmp_path / "series.npz", label=label, **lacking)
    read = from_file.read(str(tmp_path / "series.npz"), {m: m for m in NAMES})
    assert all(batch.valid[m].mean() > 0.95 for batch in read.values() for m in NAMES)
    for batch in entries.filled(read).values():
        rows = batch.id.astype(int)
        for m, x in batch.features.items():
            known = ~np.isnan(lacking[m][rows])
            np.testing.assert_array_equal(x[known], lacking[m][rows][known])
            assert np.isfinite(x).all() and not (known & ~batch.known[m]).any()
