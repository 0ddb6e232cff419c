"""Differences between systems: rates of false alarms, power, and what is resampled."""

import numpy as np
import pytest
from scipy import stats

from mmdjax.evaluation import differences, significance
from mmdjax.evaluation.significance import difference, groups_of, holm, pseudo_values
from mmdjax.tasks.classification import Classification
from mmdjax.tasks.multi_label import MultiLabel
from mmdjax.tasks.regression import Regression

RUNS = 1500
# Deviations of seeds, utterances and the rest, of the differences of single utterances.
SOURCES = {
    "rest": (0.0, 0.0, 1.0),
    "utterances": (0.0, 0.5, 1.0),
    "seeds a little": (0.02, 0.3, 1.0),
    "seeds and utterances": (0.1, 1.0, 1.0),
    "seeds": (1.0, 0.0, 0.1),
}


def alarms(seeds: int, rows: int, sources, shift: float = 0.0) -> float:
    """The share of runs in which a difference is called real."""
    of_seed, of_row, rest = sources
    rng, found = np.random.default_rng(seeds * rows), 0
    groups = groups_of(rows)
    size = np.bincount(groups)
    for _ in range(RUNS):
        d = shift + of_seed * rng.normal(size=(seeds, 1)) + of_row * rng.normal(size=rows)
        d = d + rest * rng.normal(size=(seeds, rows))
        means = np.stack([np.bincount(groups, row) for row in d]) / size
        found += difference(means).p < 0.05
    return found / RUNS


@pytest.mark.parametrize("sources", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize(("seeds", "rows"), [(3, 256), (5, 686)])
def test_false_alarms_keep_to_their_rate(seeds, rows, sources):
    sampling = 2 * np.sqrt(0.05 * 0.95 / RUNS)
    assert 0.03 - sampling < alarms(seeds, rows, sources) < 0.07 + sampling


@pytest.mark.parametrize("sources", SOURCES.values(), ids=SOURCES)
def test_two_seeds_are_careful(sources):
    assert alarms(2, 256, sources) < 0.07 + 2 * np.sqrt(0.05 * 0.95 / RUNS)


def test_a_difference_of_four_errors_is_found():
    error = np.sqrt(0.5**2 / 686 + 1 / (5 * 686))
    assert alarms(5, 686, SOURCES["utterances"], 4 * error) > 0.9


def test_false_alarms_of_a_correlation():
    """Two systems that see the label equally well: a metric that is no mean over utterances."""
    rng, rows, found, runs = np.random.default_rng(0), 256, 0, 400
    groups = groups_of(rows)
    for _ in range(runs):
        label, values = rng.normal(size=rows), []
        for _ in range(3):
            common = rng.normal(size=rows)
            pair = [label + common + 0.7 * rng.normal(size=rows) for _ in range(2)]
            each = [
                pseudo_values(lambda r, x=x, y=label: np.corrcoef(x[r], y[r])[0, 1], groups)
                for x in pair
            ]
            values.append(each[0] - each[1])
        found += difference(np.array(values)).p < 0.05
    assert 0.03 - 0.022 < found / runs < 0.07 + 0.022


def test_the_interval_is_of_the_p_value():
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 3, 5):
        values = rng.normal(size=(seeds, 40)) + rng.normal(size=(seeds, 1)) + 0.3
        found = difference(values)
        assert found.mean == pytest.approx(values.mean())
        assert found.low < found.mean < found.high
        assert difference(values - found.low).p == pytest.approx(0.05, abs=1e-6)
    alone = difference(values[:1])
    assert alone.p == pytest.approx(stats.ttest_1samp(values[0], 0.0).pvalue, abs=1e-6)


def test_equal_systems_do_not_differ():
    assert difference(np.zeros((3, 10))).p == 1.0
    assert difference(np.full((3, 10), 0.5)).p == 0.0


def test_pseudo_values_of_a_mean_are_the_groups_means():
    x = np.random.default_rng(0).normal(size=64)
    groups = np.arange(64) % 16
    got = pseudo_values(lambda rows: x[rows].mean(), groups)
    np.testing.assert_allclose(got, [x[groups == g].mean() for g in range(16)])


def test_conversations_stay_whole():
    talks = np.repeat(np.arange(30), 7)
    groups = groups_of(len(talks), talks)
    assert len(np.unique(groups)) == 30
    assert all(len(np.unique(groups[talks == t])) == 1 for t in range(30))
    assert np.bincount(groups_of(686)).max() - np.bincount(groups_of(686)).min() <= 1


def test_corrections_are_those_of_holm():
    got = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert got == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def predictions(rng, label, of_seed: float, shift: float = 0.0):
    """Three seeds of a system that sees the label, with errors of its own in each seed."""
    made = {}
    for seed in range(3):
        noise = of_seed * rng.normal() + rng.normal(size=len(label))
        made[seed] = {f"fixed {c}": (label + shift + noise).astype(np.float32) for c in "ab"}
    return made


def test_systems_of_a_run_are_told_apart_by_what_they_predicted():
    rng = np.random.default_rng(0)
    label = rng.uniform(1, 5, 300).astype(np.float32)
    label[::10] = np.nan
    of = {
        "first": predictions(rng, label, 0.1),
        "same": predictions(rng, label, 0.1),
        "worse": predictions(rng, label, 0.1, 1.5),
        "probe": predictions(rng, label, 0.0, 1.5),
    }
    for seed in of["same"]:
        of["same"][seed]["fixed b"][50:] = np.nan  # not measured there
    counted = {"fixed": ["a", "b"], "random": ["0.3"], "gaps": []}
    pseudo = differences.pseudo(Regression(1, 5), label, None, of, counted)
    found = differences.tested(pseudo, ("probe",))
    assert set(found) == {("fixed", s) for s in ("same", "worse", "probe")}
    assert found["fixed", "worse"].p < 0.01 < 0.05 < found["fixed", "same"].p
    assert found["fixed", "worse"].p == pytest.approx(2 * found["fixed", "worse"].difference.p)
    assert found["fixed", "probe"].p == found["fixed", "probe"].difference.p
    errors = [
        np.nanmean([np.abs(of[s][0][f"fixed {c}"] - label) for c in "ab"])
        for s in ("first", "worse")
    ]
    one_seed = {s: {0: each[0]} for s, each in of.items()}
    both = {"fixed": ["a", "b"]}
    alone = differences.tested(differences.pseudo(Regression(1, 5), label, None, one_seed, both))
    difference = alone["fixed", "worse"].difference
    assert difference.mean == pytest.approx(errors[1] - errors[0], rel=0.05)
    assert difference.seeds == 1
    ranks = differences.ranked(pseudo, False, ("probe",))
    assert set(ranks) == {("fixed", s) for s in ("first", "same", "worse")}
    assert ranks["fixed", "worse"] == (3, 3, 3)
    for name in ("first", "same"):
        assert ranks["fixed", name].low == 1 and ranks["fixed", name].high == 2


def test_ranks_are_means_over_conditions_and_equal_values_share_one():
    values = np.zeros((3, 2, 2, 8))
    values[0, :, 0], values[1, :, 1] = 1.0, 1.0  # each the best of one condition
    ranks = significance.mean_ranks(values)
    assert [rank.mean for rank in ranks] == [1.75, 1.75, 2.5]
    assert all(rank.low == rank.mean == rank.high for rank in ranks)


TASKS = {
    "sentiment": Regression(-3, 3),
    "ch_sims": Regression(-1, 1, metric_set="ch_sims"),
    "rating": Regression(1, 5),
    "affect": Regression(0, 1, ("valence", "arousal")),
    "emotion": Classification(("sad", "glad", "none")),
    "signs": MultiLabel(("sad", "glad")),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_headline_alone_is_that_of_all_metrics(task, rng):
    shape = (40, *task.label_shape)
    if task.kind == "regression":
        label = rng.uniform(task.low, task.high, shape).round(1).astype(np.float32)
        prediction = (label + rng.normal(size=shape)).astype(np.float32)
    else:
        count = task.outputs
        whole = task.kind == "classification"
        label = rng.integers(0, count, 40) if whole else rng.integers(0, 2, (40, count))
        prediction = rng.dirichlet(np.ones(count), 40)
    expected = task.metrics(prediction, label)[task.headline]
    assert task.headline_of(prediction, label) == pytest.approx(expected, rel=1e-6)
