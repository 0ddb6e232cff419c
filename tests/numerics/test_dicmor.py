"""DiCMoR: what its flows make of observed latents, and that it can learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.methods import dicmor
from mmdjax.methods.method import registry
from mmdjax.networks import flow
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import Classification, MultiLabel, Regression
from tests.contracts.test_methods import config_of
from tests.numerics.test_flow import moved
from tests.numerics.test_vector_methods import few, fitted


def flows(modalities: int, classes: int, channels: int, random: bool):
    """A step, and parameters of `transferred` and `likelihood_loss`."""
    step = flow.Step(channels, 8)
    params = dicmor.initial_flows(step, modalities, 3, classes)(jax.random.key(0))
    return step, moved(params, 1) if random else params


def test_equal_flows_carry_a_modality_over_as_it_is(rng):
    """Untrained flows are equal: one observed modality is copied, of two the mean is taken."""
    z = rng.normal(size=(3, 3, 5, 4)).astype(np.float32)
    seen = np.zeros((3, 3, 5), bool)
    seen[0, 1] = seen[1, :2] = True
    got = dicmor.transferred(*flows(3, 2, 4, False), z, seen)
    for m in (0, 2):
        np.testing.assert_allclose(got[0, m], z[0, 1], atol=1e-5)
    np.testing.assert_allclose(got[1, 2], (z[1, 0] + z[1, 1]) / 2, atol=1e-5)
    np.testing.assert_array_equal(got[1, :2], z[1, :2])
    np.testing.assert_array_equal(got[2], 0.0)


def test_the_density_of_a_class_integrates_to_one():
    step, params = flows(2, 3, 2, True)
    params = params | {"log_scale": 0.3 * params["log_scale"]}
    axis = np.linspace(-14, 14, 561)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 1, 1, 2).astype(np.float32)
    z = np.concatenate([grid, np.zeros_like(grid)], 1)
    valid = np.stack([np.ones(len(z), bool), np.zeros(len(z), bool)], 1)[..., None]
    for member in np.eye(3, dtype=np.float32):
        rows = np.tile(member, (len(z), 1))
        code, volume = dicmor.coded(step, params, z, valid)
        minus_log = 2 * dicmor.likelihood_loss(params, code, volume, valid, rows)
        total = np.exp(-np.asarray(minus_log, np.float64)).sum() * (axis[1] - axis[0]) ** 2
        assert total == pytest.approx(1, abs=2e-3)


def test_classes_of_labels():
    label = np.array([-3, -0.4, 0.6, 3], np.float32)
    got = dicmor.memberships(Regression(-3, 3), label)
    assert got.argmax(1).tolist() == [0, 3, 4, 6]
    two = dicmor.memberships(Regression(0, 6, ("a", "b")), np.array([[0, 6]], np.float32))
    assert np.flatnonzero(two[0]).tolist() == [0, 13]
    assert dicmor.memberships(Classification(("x", "y")), np.array([1.0])).tolist() == [[0, 1]]
    signs = np.array([[1, 0, 1]], np.float32)
    assert dicmor.memberships(MultiLabel(("x", "y", "z")), signs).tolist() == signs.tolist()


def test_thirty_two_utterances_are_learned_by_heart():
    config = config_of("dicmor")
    changes = {
        "fusion": dataclasses.replace(config.fusion, network="pooled", width=64, dropout=0.0),
        "latents": dataclasses.replace(config.latents, dropout=0.0, channels=8),
        "dicmor": dataclasses.replace(config.dicmor, steps=4),
    }
    config = dataclasses.replace(config, **changes)
    method = registry()["dicmor"](config, few(), Reporter())
    method.patterns = method.patterns[-1:]
    params: dict = {}
    for phase in method.phases:
        params[phase.name] = fitted(method, phase, params)
    _, validate = method.phases[-1].load(params, 0, None)
    label = few().splits["valid"].label
    assert validate(params["dicmor"]) < 0.1 * np.abs(label - label.mean()).mean()


def test_likelihood_of_what_is_not_there_is_nothing(rng):
    step, params = flows(2, 3, 4, True)
    z = rng.normal(size=(2, 2, 3, 4)).astype(np.float32)
    valid = np.ones((2, 2, 3), bool)
    valid[:, 1] = False
    member = np.eye(3, dtype=np.float32)[:2]
    blind = np.where(valid[..., None], z, np.float32(5))
    one, two = (
        dicmor.likelihood_loss(params, *dicmor.coded(step, params, x, valid), valid, member)
        for x in (z, blind)
    )
    np.testing.assert_array_equal(one, two)
    assert bool(jnp.isfinite(one).all())


def test_codes_that_are_known_already_change_nothing(rng):
    step, params = flows(3, 2, 4, True)
    z = rng.normal(size=(4, 3, 2, 4)).astype(np.float32)
    seen = rng.random((4, 3, 2)) < 0.5
    code, _ = dicmor.coded(step, params, z, np.ones_like(seen))
    expected = dicmor.transferred(step, params, z, seen)
    np.testing.assert_allclose(dicmor.transferred(step, params, z, seen, code), expected, atol=1e-6)
