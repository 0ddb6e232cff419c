"""Conditions on utterances that lack something by nature: they hide more and add nothing."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.config import Evaluation
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.natural import incomplete
from mmdjax.data.missing.patterns import pattern_name, patterns
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.calibration import choose
from mmdjax.methods.latent.completion import incomplete_sets, under
from mmdjax.methods.latent.losses import random_conditions
from mmdjax.methods.method import Completion, Method
from mmdjax.methods.vector.base import random_patterns
from mmdjax.metrics import coverage, energy_distance, rmse
from mmdjax.tasks import SENTIMENT
from mmdjax.types import Latents, Observed, hidden

NAMES = ("language", "acoustic", "vision")
EVERY = patterns(3)


def expected(pattern, present):
    """`hidden`, row by row."""
    shown = [p and q for p, q in zip(pattern, present, strict=True)]
    return shown if any(shown) else list(present)


@pytest.mark.parametrize("module", [np, jnp])
def test_a_pattern_hides_more_or_leaves_an_utterance_as_it_is(module):
    for pattern, present in itertools.product(EVERY, EVERY):
        found = hidden(module.asarray(pattern), module.asarray(present))
        assert isinstance(found, module.ndarray)
        assert found.tolist() == expected(pattern.tolist(), present.tolist())
    nothing = module.zeros(3, bool)
    assert not hidden(module.asarray(EVERY[-1]), nothing).any()
    assert hidden(EVERY[:, None], EVERY).shape == (7, 7, 3)


@pytest.fixture(scope="module")
def present():
    """(700, 3): each pattern a hundred times."""
    return np.repeat(EVERY, 100, axis=0)


def sets_of(name: str, present) -> np.ndarray:
    """(N, R, 3) of what is drawn for training."""
    if name == "random_patterns":
        return np.asarray(random_patterns(jax.random.key(0), EVERY, present))[:, None]
    if name == "random_conditions":
        return np.asarray(random_conditions(jax.random.key(0), jnp.asarray(present)))[:, None]
    rate = 0.4 if name == "incomplete_sets at a rate" else 0.0
    return incomplete_sets(EVERY, present, 6, 0, rate)


@pytest.mark.parametrize(
    "name",
    ["random_patterns", "random_conditions", "incomplete_sets", "incomplete_sets at a rate"],
)
def test_what_training_shows_is_some_of_what_is_there(name, present):
    shown = sets_of(name, present)
    assert not (shown & ~present[:, None]).any() and shown.any(-1).all()
    whole, single = present.all(1), present.sum(1) == 1
    assert {tuple(row) for row in shown[whole].reshape(-1, 3).tolist()} >= set(
        map(tuple, EVERY[:-1].tolist())
    )
    np.testing.assert_array_equal(
        shown[single], np.repeat(present[single, None], shown.shape[1], 1)
    )


def test_a_network_without_any_other_modality_is_shown_nothing():
    present = jnp.zeros((9, 2), bool)
    assert not random_conditions(jax.random.key(0), present).any()


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    test = incomplete(tiny_dataset.splits["test"], 0.2, 3)
    test.valid["language"][:, 2] = False  # a hole
    return Dataset(tiny_dataset.splits | {"test": test}, SENTIMENT, "incomplete")


GAPS = ("mcar=0.3", "burst=0.3", "block=0.9", "correlated=0.3", "imbalanced=0.4")


@pytest.fixture(scope="module")
def conditions(dataset):
    return conditions_of(dataset, Evaluation(rates=(0.0, 0.5, 0.7), gaps=GAPS), 0)


def test_conditions_hide_more_and_never_show_what_is_not_there(dataset, conditions):
    test = dataset.splits["test"]
    assert not test.present.all() and len(conditions) == 7 + 3 + len(GAPS)
    for condition in conditions:
        shown = condition.observed.modalities[0]
        assert not (shown & ~test.present).any()
        assert shown.any(1).all()  # a method can answer every row
        for m, frames in condition.observed.of_frames(test.valid).items():
            assert not (frames[0] & ~test.valid[m]).any()
            np.testing.assert_array_equal(frames[0].any(1), shown[:, NAMES.index(m)])
    complete = conditions[6]
    np.testing.assert_array_equal(complete.observed.modalities[0], test.present)
    assert not complete.observed.everything and complete.missing_rate(test.valid) == 0
    assert conditions[7].name == "0.0" and conditions[7].missing_rate(test.valid) == 0


def test_a_pattern_counts_the_utterances_that_have_some_of_what_it_shows(dataset, conditions):
    present = dataset.splits["test"].present
    for pattern, condition in zip(EVERY, conditions, strict=False):
        assert condition.name == pattern_name(pattern, NAMES)
        np.testing.assert_array_equal(condition.counted, (present & pattern).any(1))
        rows = ~condition.counted
        np.testing.assert_array_equal(condition.observed.modalities[0, rows], present[rows])
        hid = present.sum() - condition.observed.modalities.sum()
        assert condition.missing_rate(dataset.splits["test"].valid) == pytest.approx(
            hid / present.sum()
        )
    assert not conditions[0].counted.all() and conditions[6].counted.all()
    assert all(condition.counted.all() for condition in conditions[7:])


def test_every_utterance_is_validated_under_every_pattern_of_what_it_has(present):
    z = Latents(np.zeros((7, 3, 1, 1)), EVERY[..., None], np.arange(7))
    every, shown = under(EVERY, z)
    assert every.label.tolist() == list(range(7)) * 7
    np.testing.assert_array_equal(shown.reshape(7, 7, 3), hidden(EVERY[:, None], EVERY))


class Off(Method):
    """Completes with a known error, the same at every frame, that grows with the modality and the
    draw; predicts the label but for an utterance's number."""

    name = label = "off"
    gaps = True

    def __init__(self, dataset):
        self.dataset, self.task, self.modalities = dataset, SENTIMENT, NAMES
        test, rng = dataset.splits["test"], np.random.default_rng(0)
        self.frames = [test.valid[m] for m in NAMES]
        self.true = [rng.normal(size=(*v.shape, 2)) for v in self.frames]
        self.error = [rng.normal(size=(len(test), 3, *x.shape[1:])) for x in self.true]

    def complete(self, params, split, observed, draws, key, title):
        return Completion(np.zeros((*observed.modalities.shape[:2], draws)), observed)

    def predict(self, params, split, completion):
        label = self.dataset.splits[split].label
        off = np.arange(len(label)) / 100
        return np.broadcast_to((label + off)[None, :, None], completion.x.shape)

    def truth(self, params, split):
        # What is not there has no truth: whoever reads it gets nonsense.
        return tuple(
            (np.where(v[..., None], x, 1e6), v) for x, v in zip(self.true, self.frames, strict=True)
        )

    def compared(self, params, completion, modality):
        conditions, _, draws = completion.x.shape
        x = self.true[modality][:, None] + self.error[modality][:, :draws]
        return np.repeat(x[None], conditions, axis=0)


@pytest.fixture(scope="module")
def table(dataset, conditions):
    rows = evaluate([Member("off", Off(dataset), {}, 3)], conditions, 0)["off"]
    return {(r["protocol"], r["condition"], r["metric"]): r["value"] for r in rows}


def test_metrics_count_the_utterances_of_a_condition(dataset, conditions, table):
    off = np.arange(len(dataset.splits["test"])) / 100
    for c in conditions:
        assert table[c.protocol, c.name, "mae"] == pytest.approx(off[c.counted].mean(), rel=1e-5)


def test_completions_are_measured_where_there_is_a_truth(dataset, conditions, table):
    method, measured = Off(dataset), 0
    for q, pattern in enumerate(EVERY):
        shown = conditions[q].observed.modalities[0]
        for m, name in enumerate("lav"):
            rows = ~shown[:, m] & method.frames[m].any(1)
            place = "imputation", f"{conditions[q].name}>{name}"
            if not rows.any():
                assert (*place, "rmse") not in table
                continue
            measured += 1
            assert not pattern[m]
            true, frames = method.true[m][rows], method.frames[m][rows]
            first = true + method.error[m][rows, 0]
            average = true + method.error[m][rows].mean(1)
            assert table[*place, "rmse"] == pytest.approx(rmse(first, true, frames))
            assert table[*place, "rmse_mean"] == pytest.approx(rmse(average, true, frames))
            flat = (np.where(frames[..., None], x, 0).reshape(len(x), -1) for x in (first, true))
            assert table[*place, "energy_distance"] == pytest.approx(energy_distance(*flat))
            inside = coverage(true[:, None] + method.error[m][rows], true)[frames].mean()
            assert table[*place, "coverage"] == pytest.approx(inside)
            assert -1 <= table[*place, "with_draws"] <= 1 and table[*place, "spread"] > 0
    assert measured == 9


def test_at_a_rate_every_missing_item_with_a_truth_counts_alike(dataset, conditions, table):
    method = Off(dataset)
    for condition in conditions[8:10]:
        squares = []
        for m, frames in enumerate(method.frames):
            for row in np.flatnonzero(~condition.observed.modalities[0, :, m] & frames.any(1)):
                squares.append((method.error[m][row, 0][frames[row]] ** 2).mean())
        assert table["random", condition.name, "rmse"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert ("random", "0.0", "rmse") not in table  # nothing with a truth is missing


def test_observed_patterns_are_those_of_what_is_there(dataset):
    present = dataset.splits["test"].present
    observed = Observed.of_patterns(EVERY, present)
    assert observed.modalities.shape == (7, len(present), 3)
    for row, there in enumerate(present.tolist()):
        for q, pattern in enumerate(EVERY.tolist()):
            assert observed.modalities[q, row].tolist() == expected(pattern, there)


def test_intervals_are_calibrated_on_each_utterance_once_for_what_it_shows():
    """Several patterns show the same of an utterance that lacks something."""
    present = np.array([[True, True, True], [True, False, False], [True, True, False]])
    seen = {}

    class Task:
        def error(self, prediction, label):
            return np.abs(prediction - label)

        def calibrate(self, predictions, label, code, codes, share):
            seen["pairs"] = sorted(zip(label.tolist(), code.tolist(), strict=True))
            return {}

    class Constant:
        task, draws, sees = Task(), False, "utterances"
        dataset = SimpleNamespace(splits={"valid": SimpleNamespace(label=np.arange(3.0))})

        def complete(self, params, split, observed, draws, key, title):
            return Completion(None, observed)

        def predict_with(self, predictor, params, split, completion):
            return np.zeros((*completion.observed.modalities.shape[:2], 1))

    masks = Observed.of_patterns(patterns(3), present).modalities
    choose(Constant(), {}, 0, masks, {"only": None})
    assert [code for label, code in seen["pairs"] if label == 0] == [1, 2, 3, 4, 5, 6, 7]
    assert [code for label, code in seen["pairs"] if label == 1] == [1]
    assert [code for label, code in seen["pairs"] if label == 2] == [1, 2, 3]
