"""Patterns are completed together for speed; a pattern alone gives the same numbers."""

import jax
import numpy as np
import pytest

from mmdjax.evaluation import evaluate as evaluation
from mmdjax.methods.latent.losses import FILLS
from mmdjax.methods.two_stage import Trained


@pytest.fixture(scope="module")
def trained(tiny_system) -> Trained:
    """Random parameters: the numbers are nobody's, and the same however they are computed."""
    system = tiny_system
    encoders = system.init_encoders(jax.random.key(0))
    scale, _ = system.standardised_latents(encoders)
    score = system.initial_score(jax.random.key(1))
    complete = {"fusion": system.initial_classifier(jax.random.key(2))["fusion"]}
    decoder = jax.tree.map(lambda a: a + 0.05, system.initial_decoder(jax.random.key(3)))
    stage2 = {fill: dict(complete) for fill in FILLS}
    stage2["draws"]["decoder"] = decoder
    return Trained(encoders, scale, score, complete, stage2, {})


def numbers(rows):
    named = {tuple(r[k] for k in ("method", "protocol", "condition", "metric")): r for r in rows}
    assert len(named) == len(rows)
    return {key: r["value"] for key, r in named.items() if r["metric"] != "seconds"}


def test_groups_hold_every_pattern_once_and_the_complete_one_alone(tiny_system):
    patterns = tiny_system.patterns
    for sets in (1, 1000, evaluation.SETS // 4, evaluation.SETS, 10**9):
        groups = evaluation.in_groups(patterns, sets)
        np.testing.assert_array_equal(np.concatenate(groups), patterns)
        assert len(groups[-1]) == 1 and groups[-1].all()
        assert all(len(g) == 1 or len(g) * sets <= evaluation.SETS for g in groups)


def test_patterns_evaluated_together_score_as_each_alone(tiny_system, trained, monkeypatch):
    raw = tiny_system.splits["test"]
    together, _ = evaluation.evaluate(tiny_system, trained, 0, raw)
    monkeypatch.setattr(evaluation, "SETS", 1)
    alone, _ = evaluation.evaluate(tiny_system, trained, 0, raw)
    together, alone = numbers(together), numbers(alone)
    assert together.keys() == alone.keys()
    for key, value in together.items():
        assert value == pytest.approx(alone[key], abs=1e-4), key
