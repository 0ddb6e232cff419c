"""Evaluation under seeded gaps: the same masks for every method, hidden frames reach none."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import systems_of
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.gaps import observed_frames
from mmdjax.data.sources.synthetic import Law
from mmdjax.errors import UserError
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.method import of_name, phase_keys
from mmdjax.runtime.progress import Reporter
from mmdjax.types import Batch, Observed

from ..conftest import TINY

GAPS = ("burst=0.4", "correlated=0.3")
METHODS = ("two_stage", "two_stage_complete", "zero", "zero_trained", "bayes", "linear_probe")


@pytest.fixture(scope="module")
def config():
    values = TINY | {"diffusion": {"nfe": 2, "frame_gaps": 0.5}}
    values["evaluation"] = TINY["evaluation"] | {"gaps": GAPS, "rates": (0.0,)}
    return configs.from_dict(values)


def member(name, config, dataset) -> Member:
    """A method with its initial parameters."""
    method, params = of_name(name)(config, dataset, Reporter()), {}
    for phase in method.phases:
        params[phase.name] = phase.init(phase_keys(0, phase.name)[0], params)
    return Member(name, method, params, config.evaluation.draws)


@pytest.fixture(scope="module")
def conditions(config, tiny_dataset):
    return [c for c in conditions_of(tiny_dataset, config.evaluation, 3) if c.protocol == "gaps"]


@pytest.fixture(scope="module")
def evaluated(config, tiny_dataset, conditions):
    """Rows of every method."""
    rows = {}
    for name in METHODS:
        rows |= evaluate([member(name, config, tiny_dataset)], conditions, 3)
    return rows


def scores(rows):
    return [r for r in rows if r["protocol"] == "gaps"]


def test_every_method_is_measured_under_every_kind_of_gap(evaluated, config, tiny_dataset):
    found = {
        (r["system"], r["condition"])
        for rows in evaluated.values()
        for r in scores(rows)
        if r["metric"] == "mae"
    }
    # A probe of whole modalities cannot be given some frames of one.
    able = set(METHODS) - {"linear_probe"}
    assert found == {(m, "burst 0.4") for m in able} | {(m, "correlated 0.3") for m in METHODS}
    again = conditions_of(tiny_dataset, config.evaluation, 3)[-2:]
    rows = evaluate([member("two_stage", config, tiny_dataset)], again, 3)["two_stage"]
    assert scores(rows) == scores(evaluated["two_stage"])


def test_masks_are_kept_and_say_how_much_is_missing(conditions, tiny_dataset):
    valid = tiny_dataset.splits["test"].valid
    expected = observed_frames("burst", valid, 0.4, 3)
    masks = conditions[0].masks()
    for m, mask in expected.items():
        np.testing.assert_array_equal(masks[f"burst 0.4 {m}"], mask)
    assert set(masks) == {f"burst 0.4 {m}" for m in expected}
    total = sum(m.size for m in expected.values())
    share = 1 - sum(m.sum() for m in expected.values()) / total
    assert conditions[0].missing_rate(valid) == pytest.approx(share)


@pytest.mark.parametrize("gap", range(len(GAPS)))
@pytest.mark.parametrize("name", ["two_stage", "zero_trained", "bayes"])
def test_hidden_frames_change_no_number(name, gap, evaluated, config, tiny_dataset, conditions):
    test, condition = tiny_dataset.splits["test"], conditions[gap]
    seen, garbage = condition.observed.frames, np.nan
    if seen is None:  # answers are those of patterns, which other utterances are asked for
        parts, garbage = condition.observed.modalities.transpose(2, 0, 1)[..., None], 50.0
        seen = dict(zip(test.features, parts, strict=True))
    hidden = {m: np.where(seen[m][0][..., None], x, garbage) for m, x in test.features.items()}
    splits = tiny_dataset.splits | {"test": Batch(hidden, test.valid, test.label, test.id)}
    spoiled = Dataset(splits, tiny_dataset.task, "spoiled", tiny_dataset.optimum)
    with jax.debug_nans(False):
        rows = evaluate([member(name, config, spoiled)], [condition], 3)[name]
    expected = [r for r in scores(evaluated[name]) if r["condition"] == condition.name]
    assert scores(rows) == expected


def test_the_optimum_of_whole_modalities_is_that_of_their_pattern(tiny_dataset):
    law = Law(0)
    batch = law.sample(20, 5, "x")
    frames = {m: np.ones((1, *x.shape[:2]), bool) for m, x in batch.features.items()}
    frames["acoustic"][0, :10] = False
    some = np.stack([f.any(-1) for f in frames.values()], axis=-1)
    prediction = tiny_dataset.optimum(batch, Observed(some, frames), False).prediction
    kept = law.bayes_prediction(("language", "vision"), batch.features)
    everything = law.bayes_prediction(("language", "acoustic", "vision"), batch.features)
    expected = np.where(np.arange(20) < 10, kept, everything)
    np.testing.assert_allclose(prediction, expected[None], atol=1e-6)
    whole = tiny_dataset.optimum(batch, Observed(some), False).prediction
    np.testing.assert_array_equal(whole, prediction)


@pytest.mark.parametrize(
    ("gaps", "frame_gaps", "words"),
    [
        (("burst",), 0.5, ["'burst'", "name=rate"]),
        (("storm=0.3",), 0.5, ["'storm'", "mcar, burst"]),
        (("block=1.5",), 0.5, ["1.5"]),
        (("mcar=0.3",), 0.0, ["'mcar'", "diffusion.frame_gaps"]),
    ],
)
def test_gaps_that_cannot_be_are_refused_before_anything_is_trained(gaps, frame_gaps, words):
    values = dataclasses.asdict(configs.from_dict(TINY))
    values["evaluation"] |= {"gaps": gaps}
    values["diffusion"] |= {"frame_gaps": frame_gaps}
    with pytest.raises(UserError) as refused:
        systems_of(configs.from_dict(values))
    assert all(word in str(refused.value) for word in words), refused.value


def test_each_modality_may_have_a_missing_rate_of_its_own(tiny_dataset):
    """As in MissBench; whole modalities, so that every method takes it."""
    rates = (0.1, 0.4, 0.7)
    evaluation = configs.Evaluation(gaps=("imbalanced=0.1,0.4,0.7",), rates=())
    condition = conditions_of(tiny_dataset, evaluation, 3)[-1]
    assert condition.name == "imbalanced 0.1/0.4/0.7" and condition.observed.frames is None
    valid = {m: np.ones((4000, 2), bool) for m in tiny_dataset.modalities}
    frames = observed_frames("imbalanced", valid, 0.4, 3, rates=rates)
    missing = [1 - f.any(1).mean() for f in frames.values()]
    np.testing.assert_allclose(missing, rates, atol=0.02)
    some = np.stack([f.any(1) for f in frames.values()], 1)[: len(condition.counted)]
    np.testing.assert_array_equal(condition.observed.modalities[0], some)


@pytest.mark.parametrize("gaps", ["burst=0.1,0.2,0.3", "imbalanced=0.1,0.2", "imbalanced=a"])
def test_rates_that_fit_no_generator_are_refused(gaps):
    with pytest.raises(UserError, match="allowed"):
        configs.from_dict(TINY | {"evaluation": {"gaps": (gaps,)}})
