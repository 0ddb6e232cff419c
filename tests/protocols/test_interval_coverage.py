"""Intervals of a published model cover what they promise, whatever is missing, for the K asked."""

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.gaps import FRAMES, observed_frames
from mmdjax.methods.calibration import in_parts
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.progress import Reporter
from mmdjax.serving.bundle import publish
from mmdjax.serving.imputer import Imputer
from mmdjax.tasks import conformal
from mmdjax.training.train import train
from mmdjax.workdir import Places
from tests.conftest import TINY

LEVEL = 0.9
RATES = (0.3, 0.6, 0.9)
QUICK = {"epochs": 6, "batch": 64, "learning_rate": 4e-3, "warmup": 10}
PHASES = ("classifier_training", "score_training", "stage2_training")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of embedded data with gaps inside modalities, the same one calibrated on 128 of its
    1,024 validation utterances, and utterances it has not seen."""
    with jax.debug_nans(False):
        folder = tmp_path_factory.mktemp("coverage")
        values = TINY | dict.fromkeys(PHASES, QUICK) | {"rounds": 1, "optimise": False}
        values["data"] = TINY["data"] | {"train": 512, "valid": 1024, "test": 1024}
        values["diffusion"] = {"nfe": 4, "sampler": "ddim", "grid": "log_snr", "frame_gaps": 0.5}
        values["evaluation"] = {"draws": 8, "batch": 1024}
        config = configs.from_dict(values)
        method = TwoStage(config, pipeline.dataset(config.data, config.task), Reporter())
        trained = train(method, 0, Places(folder, "data").phase(config, 0))
        publish(method, trained.params, 0, folder / "model", "data")
        few = method.dataset.splits | {"valid": method.dataset.splits["valid"].at(np.arange(128))}
        small = TwoStage(config, Dataset(few, method.task, "few"), Reporter())
        publish(small, trained.params, 0, folder / "few", "data")
        models = Imputer.load(folder / "model"), Imputer.load(folder / "few")
        return *models, method.dataset.splits["test"]


@pytest.fixture(scope="module")
def published(models):
    return models[0], models[2]


def intervals(published, shown, draws):
    """Ends of the intervals, and the labels; shown: modality -> (N, T_m) bool."""
    model, batch = published
    features = {m: np.where(shown[m][..., None], x, np.nan) for m, x in batch.features.items()}
    padded = {m: np.where(batch.valid[m][..., None], x, 0.0) for m, x in features.items()}
    with jax.debug_nans(False):  # one draw has no spread
        answer = model.predict(padded, draws=draws, level=LEVEL)
    return answer.low, answer.high, batch.label


def covered(published, shown, draws):
    """Share of labels inside their intervals."""
    low, high, label = intervals(published, shown, draws)
    return ((low <= label) & (label <= high)).mean()


@pytest.mark.parametrize("draws", [1, 8])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", FRAMES)
def test_intervals_cover_their_share_under_gaps_inside_modalities(published, name, rate, draws):
    rate = min(rate, 0.8) if name == "burst" else rate  # the most that bursts of 5 can hide
    shown = observed_frames(name, published[1].valid, rate, seed=3)
    assert covered(published, shown, draws) >= 0.87


@pytest.mark.parametrize("draws", [1, 8])
def test_intervals_cover_their_share_where_language_alone_is_known_by_one_frame(published, draws):
    valid = published[1].valid
    shown = {m: np.zeros_like(v) for m, v in valid.items()}
    shown["language"][np.arange(len(published[1])), valid["language"].argmax(1)] = True
    assert covered(published, shown, draws) >= 0.87


def test_few_validation_utterances_make_no_wide_intervals_where_little_is_missing(models):
    many, few, batch = models
    shown = {m: v.copy() for m, v in batch.valid.items()}
    shown["vision"][:, ::2] = False
    ends = [intervals((model, batch), shown, 8) for model in (many, few)]
    widths = [(high - low).mean() for low, high, _ in ends]
    assert widths[1] < 1.3 * widths[0]
    assert covered((few, batch), shown, 8) >= 0.87


@pytest.mark.parametrize("draws", [1, 2, 8, 16])
@pytest.mark.parametrize("hidden", [(), ("language",), ("acoustic", "vision")])
def test_intervals_cover_their_share_for_whole_modalities(published, hidden, draws):
    valid = published[1].valid
    shown = {m: v & (m not in hidden) for m, v in valid.items()}
    assert 0.87 <= covered(published, shown, draws) <= 0.95


def test_calibration_shows_frames_of_every_share_and_nothing_that_a_pattern_hides(published):
    batch = published[1]
    observed = in_parts(batch, np.array([True, False, True]), (0, 0))
    assert not observed.modalities[0, :, 1].any() and observed.modalities[0, :, [0, 2]].all()
    shares = {m: observed.frames[m][0].sum(1) / v.sum(1) for m, v in batch.valid.items()}
    assert shares["language"].min() <= 0.125 and shares["language"].max() == 1
    assert 0.7 < np.mean(np.abs(shares["language"] - shares["vision"]) < 0.1) < 0.95
    for m, shown in observed.frames.items():
        assert not (shown[0] & ~batch.valid[m]).any()
    runs = np.diff(observed.frames["language"][0].astype(int), axis=1)
    assert ((runs < 0).sum(1) == 1).any() and ((runs < 0).sum(1) > 2).any()


def test_a_knot_is_calibrated_on_the_rows_whose_share_is_nearest():
    rng = np.random.default_rng(0)
    share = np.concatenate([np.ones(50), np.exp(rng.uniform(np.log(0.02), 0, 1000))])
    code = np.where(share == 1, 1, 1 + 4)
    rows = dict(conformal.rows_of(code, 4, share))
    assert rows[1].tolist() == list(range(50)) and 3 not in rows and 4 * 3 + 3 not in rows
    for place, knot in list(enumerate(conformal.SHARES))[1:]:
        own = share[rows[1 + 4 * place]]
        assert len(own) == 1000 // conformal.NEAREST
        assert abs(np.log(own / knot)).max() < 0.6 and (own < 1).all()
    few = dict(conformal.rows_of(code[:80], 4, share[:80]))
    assert len(few[1 + 4 * 5]) == 30  # all that there are
    alone = dict(conformal.rows_of(np.ones(5, int), 4))  # a method that is given whole modalities
    assert len(alone[1 + 4 * 3]) == 5


def test_cells_tell_patterns_and_how_much_of_them_is_observed():
    known = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [0, 1]], bool)
    share = np.array([[1, 1], [1, 0.1], [0.05, 0], [1, 0], [0, 0.2]])
    parts = (conformal.cells(known, share) // 4).tolist()
    assert parts == [0, 3, 10, 0, 6]
    assert (conformal.cells(known, share) % 4).tolist() == [3, 3, 1, 1, 2]
    assert conformal.cells(known).tolist() == [3, 3, 1, 1, 2]
