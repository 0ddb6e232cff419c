"""Metrics and the rows of both protocols against their definitions."""

import numpy as np
import pytest
from scipy import stats

from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.patterns import pattern_name, patterns
from mmdjax.evaluation.conditions import Condition, rate_name
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.method import Completion, Method
from mmdjax.metrics import (
    correlation,
    coverage,
    energy_distance,
    rmse,
    sliced_wasserstein,
    spread,
)
from mmdjax.tasks import SENTIMENT
from mmdjax.tasks.regression import sentiment_metrics
from mmdjax.types import Batch, Observed


def test_sentiment_metrics_follow_both_conventions():
    label = np.array([0.0, 1.0, -2.0, 2.5, 0.0, -0.4])
    prediction = np.array([-0.1, 0.6, -3.7, 3.4, 0.0, 0.2])
    values = sentiment_metrics(prediction, label)
    assert values["acc2_nonzero"] == 3 / 4  # labels 1, -2, 2.5, -0.4; the last is wrong
    assert values["acc2_with_zero"] == 4 / 6  # -0.1 for 0 is wrong too, 0.0 for 0 is right
    # Half to even after clipping: 2.5 -> 2 but 3.4 -> 3 -> 3; -3.7 -> -3, not -2; -0.4 -> 0.
    assert values["acc7"] == 4 / 6
    np.testing.assert_allclose(values["mae"], np.abs(prediction - label).mean())
    np.testing.assert_allclose(values["corr"], stats.pearsonr(prediction, label)[0])
    assert sentiment_metrics(np.zeros(6), label)["corr"] == 0


def test_weighted_f1_of_the_non_zero_convention():
    label = np.array([1.0, 1.0, 1.0, -1.0])
    prediction = np.array([1.0, 1.0, -1.0, -1.0])
    # F1 of the positives 0.8 with weight 3/4, of the negatives 2/3 with weight 1/4.
    expected = 0.75 * 0.8 + 0.25 * 2 / 3
    np.testing.assert_allclose(sentiment_metrics(prediction, label)["f1_nonzero"], expected)


def test_energy_distance_is_unbiased_for_one_law_even_when_rows_are_dependent(rng):
    same, shifted = [], []
    for _ in range(200):
        x = rng.standard_normal((40, 3))
        y = 0.9 * x + np.sqrt(1 - 0.81) * rng.standard_normal((40, 3))
        same.append(energy_distance(y, x))
        shifted.append(energy_distance(y + 1, x))
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)
    assert np.mean(shifted) > 0.3


@pytest.mark.parametrize("draws", [2, 8, 32])
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_intervals_of_the_right_law_cover_what_they_promise(draws, law):
    """Whatever the law, and however few the draws; draws that are too narrow cover less."""
    values = getattr(np.random.default_rng(0), f"standard_{law}")(size=(20_000, draws + 1))
    true, drawn = values[:, :1], values[:, 1:, None]
    for level in (0.5, 0.9):
        inside = coverage(drawn, true, level)
        assert inside.shape == true.shape and inside.min() >= 0 and inside.max() <= 1 + 1e-9
        assert inside.mean() == pytest.approx(level, abs=4 * inside.std() / len(inside) ** 0.5)
    center = values.mean()
    narrow = coverage(center + 0.5 * (drawn - center), true).mean()
    assert narrow < 0.9 - 0.02 * (draws > 2)


def test_two_draws_of_the_right_law_correlate_as_a_draw_and_the_truth():
    rng = np.random.default_rng(0)
    told, *noise = rng.standard_normal((4, 20_000, 3))
    true, first, second = (0.6 * told + 0.8 * n for n in noise)
    assert spread(first, true) == pytest.approx(1, abs=0.02)
    assert spread(0.6 * told, true) == pytest.approx(0.6, abs=0.02)
    assert correlation(first, true) == pytest.approx(0.36, abs=0.02)
    assert correlation(first, second) == pytest.approx(0.36, abs=0.02)
    assert correlation(0.6 * told, true) == pytest.approx(0.6, abs=0.02)
    assert np.isnan(spread(first, np.zeros((20_000, 3))))
    assert np.isnan(correlation(first, np.ones((20_000, 3))))


def test_sliced_wasserstein_distance_of_a_shift_is_its_mean_projection():
    """E|u . d| of a unit vector u in the plane is 2 |d| / pi."""
    x = np.random.default_rng(0).standard_normal((50, 2))
    moved = x + np.array([3.0, 4.0])
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(moved, x, 20_000) == pytest.approx(10 / np.pi, abs=0.05)


def test_rmse_counts_valid_frames_only():
    filled, true = np.zeros((1, 2, 3)), np.full((1, 2, 3), 2.0)
    true[0, 1] = 100
    assert rmse(filled, true, np.array([[True, False]])) == 2.0


class Told(Method):
    """Predicts what a table says: pattern -> (N,)."""

    name = label = "told"

    def __init__(self, table, label):
        self.table, names = table, ("language", "acoustic", "vision")
        frames = {m: np.ones((len(label), 1), bool) for m in names}
        batch = Batch({}, frames, label, np.arange(len(label)).astype(str))
        self.dataset = Dataset.__new__(Dataset)
        self.dataset.splits, self.dataset.task = {"test": batch}, SENTIMENT
        self.dataset.modalities = names
        self.dataset.patterns, self.task = patterns(3), SENTIMENT
        self.modalities = self.dataset.modalities

    def complete(self, params, split, observed, draws, key, title):
        return Completion((), observed)

    def predict(self, params, split, completion):
        names = [pattern_name(q[0], self.modalities) for q in completion.observed.modalities]
        return np.stack([self.table[name] for name in names])[:, :, None]


def test_each_utterance_is_scored_by_the_pattern_its_mask_names():
    label = np.array([1.0, -1.0, 2.0], np.float32)
    # Only pattern 'a' is right about utterance 1, only 'l+v' about utterance 2.
    table = dict.fromkeys(("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v"), -label)
    table |= {"a": np.array([-1.0, -1.0, -2.0]), "l+v": np.array([-1.0, 1.0, 2.0])}
    mask = np.array([[True, True, True], [False, True, False], [True, False, True]])
    everything = np.ones((3, 3), bool)
    only = Observed.of_patterns(np.array([[False, True, False]]), everything)
    conditions = [
        Condition("fixed", "a", only, everything[:, 0]),
        Condition("random", "0.5", Observed(mask[None]), everything[:, 0]),
    ]
    members = [Member("told", Told(table, label), {}, 1)]
    rows = evaluate(members, conditions, 0)["told"]
    got = {(r["protocol"], r["condition"], r["metric"]): r["value"] for r in rows}
    assert got["random", "0.5", "acc2_nonzero"] == pytest.approx(2 / 3)
    assert got["fixed", "a", "acc2_nonzero"] == pytest.approx(1 / 3)
    valid = members[0].method.dataset.splits["test"].valid
    assert conditions[1].missing_rate(valid) == pytest.approx(3 / 9)


def test_rates_with_more_decimals_keep_them():
    assert [rate_name(r) for r in (0.0, 0.3, 0.25)] == ["0.0", "0.3", "0.25"]
