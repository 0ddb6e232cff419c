"""Evaluation under seeded gaps: the same masks for every method, hidden frames reach none."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.data.missing.gaps import observed_frames
from mmdjax.data.sources import synthetic
from mmdjax.data.sources.synthetic import Law
from mmdjax.errors import UserError
from mmdjax.evaluation.gap_protocol import bayes, gap_rows
from mmdjax.methods.two_stage import Trained, TwoStage
from mmdjax.runtime.progress import Reporter
from mmdjax.types import Batch

from ..conftest import TINY

GAPS = ("burst=0.4", "correlated=0.3")


@pytest.fixture(scope="module")
def parts():
    values = TINY | {"diffusion": {"nfe": 2, "frame_gaps": 0.5}, "fills": ("draws", "zero")}
    values["evaluation"] = TINY["evaluation"] | {"gaps": GAPS}
    config, raw = configs.from_dict(values), synthetic.read(48, 16, 24, 0)
    system = TwoStage(config, pipeline.standardise(raw), Reporter())
    first = system.initial_classifier(jax.random.key(0))
    scale, _ = system.standardised_latents(first["encoders"])
    complete = {"fusion": first["fusion"]}
    stage2 = {"draws": complete, "zero": complete}
    score = system.initial_score(jax.random.key(1))
    return system, Trained(first["encoders"], scale, score, complete, stage2, {}), raw["test"]


def test_every_method_is_measured_under_every_kind_of_gap(parts):
    system, trained, raw = parts
    rows, masks = gap_rows(system, trained, 3, raw)
    found = {(r["method"], r["condition"]) for r in rows if r["metric"] == "mae"}
    methods = {"diffusion_k2", "diffusion_complete_k2", "zero", "zero_trained", "bayes"}
    assert found == {(m, c) for m in methods for c in ("burst 0.4", "correlated 0.3")}
    assert {r["protocol"] for r in rows} == {"gaps"}
    again, _ = gap_rows(system, trained, 3, raw)
    assert again == rows
    expected = observed_frames("burst", system.splits["test"].valid, 0.4, 3)
    for m, mask in expected.items():
        np.testing.assert_array_equal(masks[f"burst 0.4 {m}"], mask)
    realised = [r["value"] for r in rows if r["metric"] == "missing_rate"]
    total = sum(m.size for m in expected.values())
    assert realised[0] == pytest.approx(1 - sum(m.sum() for m in expected.values()) / total)


@pytest.mark.parametrize("gap", GAPS)
def test_hidden_frames_change_no_number(parts, gap):
    system, trained, raw = parts
    evaluation = dataclasses.replace(system.config.evaluation, gaps=(gap,))
    config = dataclasses.replace(system.config, evaluation=evaluation)
    spoiled, test = TwoStage.__new__(TwoStage), system.splits["test"]
    spoiled.__dict__ = system.__dict__ | {"config": config}
    rows, masks = gap_rows(spoiled, trained, 3, raw)
    condition = gap.replace("=", " ")
    hidden = {
        m: np.where(masks[f"{condition} {m}"][..., None], x, np.nan)
        for m, x in test.features.items()
    }
    spoiled.splits = system.splits | {"test": Batch(hidden, test.valid, test.label, test.id)}
    with jax.debug_nans(False):
        assert gap_rows(spoiled, trained, 3, raw)[0] == rows


def test_the_optimum_of_whole_modalities_is_that_of_their_pattern():
    law = Law(0)
    batch = law.sample(20, 5, "x")
    observed = {m: np.ones(x.shape[:2], bool) for m, x in batch.features.items()}
    observed["acoustic"][:10] = False
    found = bayes(law, batch.features, observed)
    kept = law.bayes_prediction(("language", "vision"), batch.features)
    everything = law.bayes_prediction(("language", "acoustic", "vision"), batch.features)
    np.testing.assert_allclose(found, np.where(np.arange(20) < 10, kept, everything), atol=1e-6)


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
        configs.from_dict(values)
    assert all(word in str(refused.value) for word in words), refused.value
