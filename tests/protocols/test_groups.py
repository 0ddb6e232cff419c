"""Patterns and systems are completed together for speed; one alone gives the same numbers."""

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.evaluation import evaluate as evaluation
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.method import of_name
from mmdjax.runtime.progress import Reporter
from mmdjax.training.train import phase_keys
from tests.conftest import TINY

CONFIG = configs.from_dict(TINY | {"evaluation": {"draws": 2, "batch": 16, "rates": (0.0, 0.5)}})


def initial(method) -> dict:
    """Random parameters: the numbers are nobody's, and the same however they are computed."""
    params = {}
    for phase in method.phases:
        params[phase.name] = phase.init(phase_keys(0, phase.name)[0], params)
    if "draws" in params:  # the decoder starts as the identity
        params["draws"]["decoder"] = jax.tree.map(lambda a: a + 0.05, params["draws"]["decoder"])
    return params


@pytest.fixture(scope="module")
def members(tiny_dataset) -> dict[str, Member]:
    """Methods of which some share their completions."""
    params = {}

    def member(name, draws):
        method = of_name(name)(CONFIG, tiny_dataset, Reporter())
        for phase, start in initial(method).items():
            params.setdefault(phase, start)  # systems share what they have in common
        return Member(f"{name}, {draws}", method, {p.name: params[p.name] for p in method.phases},
                      draws)  # fmt: skip

    asked = [("two_stage", 2), ("two_stage", 1), ("two_stage_complete", 2)]
    asked += [("zero", 1), ("zero_trained", 1)]
    return {f"{name}, {draws}": member(name, draws) for name, draws in asked}


@pytest.fixture(scope="module")
def conditions(tiny_dataset):
    return conditions_of(tiny_dataset, CONFIG.evaluation, 0)


def numbers(rows):
    named = {tuple(r[k] for k in ("system", "protocol", "condition", "metric")): r for r in rows}
    assert len(named) == len(rows)
    return {key: r["value"] for key, r in named.items() if r["metric"] != "seconds"}


def assert_same(one, other):
    one, other = numbers(one), numbers(other)
    assert one.keys() == other.keys() and one
    for key, value in one.items():
        assert value == pytest.approx(other[key], abs=1e-4), key


def test_groups_hold_every_pattern_once_and_the_complete_one_alone(tiny_dataset):
    patterns = tiny_dataset.patterns
    for sets in (1, 1000, evaluation.SETS // 4, evaluation.SETS, 10**9):
        groups = evaluation.in_groups(patterns, sets)
        np.testing.assert_array_equal(np.concatenate(groups), patterns)
        assert len(groups[-1]) == 1 and groups[-1].all()
        assert all(len(g) == 1 or len(g) * sets <= evaluation.SETS for g in groups)


@pytest.mark.parametrize("name", ["two_stage, 2", "zero_trained, 1"])
def test_patterns_evaluated_together_score_as_each_alone(name, members, conditions, monkeypatch):
    together = evaluate([members[name]], conditions, 0)[name]
    monkeypatch.setattr(evaluation, "SETS", 1)
    assert_same(together, evaluate([members[name]], conditions, 0)[name])


def test_systems_evaluated_together_score_as_each_alone(members, conditions):
    """K draws, the first of them, and another classifier are read from the same draws."""
    shared = [members[n] for n in ("two_stage, 2", "two_stage, 1", "two_stage_complete, 2")]
    assert len({m.method.completes for m in shared}) == 1
    together = evaluate(shared, conditions, 0)
    for member in shared:
        assert_same(together[member.name], evaluate([member], conditions, 0)[member.name])
    values = [{k[1:]: v for k, v in numbers(together[m.name]).items()} for m in shared]
    assert values[0] != values[1] != values[2]


def test_systems_that_complete_alike_say_so(members):
    completes = {name: member.method.completes for name, member in members.items()}
    assert completes["zero, 1"] == completes["zero_trained, 1"] != completes["two_stage, 2"]


def test_conditions_are_the_same_for_all_and_follow_the_seed(tiny_dataset, conditions):
    names = [(c.protocol, c.name) for c in conditions]
    assert names[:7] == [("fixed", n) for n in ("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v")]
    assert names[7:] == [("random", "0.0"), ("random", "0.5")]
    again, other = (conditions_of(tiny_dataset, CONFIG.evaluation, seed)[-1] for seed in (0, 1))
    mask = conditions[-1].observed.modalities
    np.testing.assert_array_equal(again.observed.modalities, mask)
    assert (other.observed.modalities != mask).any()
    assert list(conditions[-1].masks()) == ["0.5"] and not conditions[0].masks()
