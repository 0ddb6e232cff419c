"""Guidance, conditioning and solvers through the whole system, on untrained networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.diffusion import sample, time_grid
from mmdjax.diffusion.guidance import classifier, through_clean
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.guidance import label_log_prob
from mmdjax.methods.latent.losses import score_loss
from mmdjax.methods.latent.modules import (
    Scale,
    build,
    encode_condition,
    others,
    predict,
    predict_noise,
)
from tests.conftest import TINY


@pytest.fixture
def case(tiny_system, rng):
    """A tiny system's parameters and a batch of latents with the second modality missing."""
    modules, keys = tiny_system.modules, jax.random.split(jax.random.key(0), 3)
    z = rng.standard_normal((6, 3, 4, 8)).astype(np.float32)
    valid, observed = np.ones((6, 3, 4), bool), np.tile([True, False, True], (6, 1))
    ids = others(3)[1]
    mask = np.ones((6, 4), bool)
    given = (z[:, ids], ids, mask, np.ones((6, 2, 4), bool))
    score = modules.score.init(keys[0], z[:, 1], jnp.ones(6), *given)
    fusion = modules.fusion.init(keys[1], z, valid)
    return modules, score, {"fusion": fusion}, z, valid, observed, given


def test_guidance_through_the_fusion_head_moves_predictions_towards_the_label(case):
    modules, score, params, z, valid, observed, given = case
    scale = Scale(np.zeros((3, 8), np.float32), np.ones((3, 8), np.float32))

    encoded = encode_condition(modules, score, *given[:2], given[3])

    def noise_fn(x, t):
        return predict_noise(modules, score, x, jnp.broadcast_to(t, x.shape[:1]), encoded, given[2])

    def predicted(strength, label):
        of_clean = label_log_prob(
            modules, params, scale, z, valid, observed, target=1, label=label, std=0.3
        )
        log_prob = through_clean(noise_fn, modules.sde, of_clean)
        guided = classifier(noise_fn, modules.sde, log_prob, strength)
        keys = jax.random.split(jax.random.key(5), 6)
        grid = time_grid("quadratic", modules.sde, 20)
        x = jax.jit(lambda k: sample(k, (4, 8), guided, modules.sde, grid, "ddim").x)(keys)
        completed = jnp.asarray(z).at[:, 1].set(x)
        return np.asarray(predict(modules, params, scale, completed, valid, observed))

    free = predicted(0.0, 0.0)
    up, down = predicted(1.0, free + 1.0) - free, predicted(1.0, free - 1.0) - free
    assert up.mean() > 0.01 > -0.01 > down.mean()


def drawer_for(**changes):
    config = configs.from_dict(TINY | {"diffusion": {"nfe": 4} | changes})
    return make_drawer(build(config, ("a", "b", "c")), config.diffusion)


def arguments(case):
    _, score, *_, (condition, ids, mask, condition_mask) = case
    stacked = jax.tree.map(lambda a: jnp.stack([a] * 3), score)
    ids = np.tile(ids, (6, 1)).astype(np.int32)
    keys = jax.random.split(jax.random.key(2), (1, 6, 1))
    return stacked, np.array([1]), condition, ids, mask, condition_mask, keys


@pytest.mark.parametrize(
    "changes",
    [
        {"sde": "vp_cosine", "sampler": "unipc", "grid": "log_snr"},
        {"sde": "sub_vp", "sampler": "heun"},
        {"sde": "ve", "sampler": "euler_maruyama", "grid": "uniform"},
        {"sde": "ve_geometric", "sampler": "sde_dpmpp_2m", "grid": "karras"},
        {"sde": "edm", "sampler": "heun", "sampler_options": ("churn=0.5",), "grid": "karras"},
        {"sde": "rectified_flow", "sampler": "adams_bashforth", "grid": "uniform"},
        {"sampler": "dpmpp_2m", "grid": "optimised"},
        {"sampler": "adaptive", "nfe": 0},
        {"conditioning": "independent"},
        {"conditioning": "shared", "sde": "ve"},
    ],
)
def test_every_choice_of_the_config_draws_through_the_system(case, changes):
    drawer, scale = drawer_for(**changes), np.float32(1)
    x, nfe = drawer.draw(*arguments(case), drawer.grid, scale)
    assert x.shape == (1, 6, 1, 4, 8) and np.isfinite(np.asarray(x)).all()
    assert int(nfe) == (4 if changes.get("nfe") != 0 else int(nfe)) and int(nfe) > 0
    # Row by row as in the batch, noisy conditions and adaptive steps included.
    parts = arguments(case)
    few = [*parts[:2], *(a[:2] for a in parts[2:6]), parts[6][:, :2]]
    np.testing.assert_allclose(drawer.draw(*few, drawer.grid, scale)[0], x[:, :2], atol=2e-3)


def test_guided_draws_cost_twice_and_their_scale_is_data(case):
    drawer = drawer_for(guidance=2.0, unconditional=0.1)
    grid = drawer.grid
    plain, _ = drawer_for().draw(*arguments(case), grid, np.float32(1))
    one, nfe = drawer.draw(*arguments(case), grid, np.float32(1))
    other, _ = drawer.draw(*arguments(case), grid, np.float32(3))
    assert int(nfe) == 8 and drawer.draw.programs() == 1
    np.testing.assert_allclose(one, plain, atol=1e-4)
    assert np.abs(np.asarray(one - other)).max() > 1e-3


@pytest.mark.parametrize("conditions", ["clean", "independent", "shared"])
def test_training_without_any_condition_is_the_same_for_every_mode(tiny_system, rng, conditions):
    """unconditional near 1 hides all conditions: whatever noise is put on them does not matter."""
    modules = tiny_system.modules
    z = rng.standard_normal((8, 3, 4, 8)).astype(np.float32)
    valid, ids = np.ones((8, 3, 4), bool), others(3)[0]
    arguments = (z[:, 0], jnp.ones(8), z[:, ids], ids, valid[:, 0], valid[:, ids])
    params = jax.vmap(lambda k: modules.score.init(k, *arguments))(
        jax.random.split(jax.random.key(0), 3)
    )
    data = {"z": jnp.asarray(z), "valid": jnp.asarray(valid)}
    rest = (data, np.ones(8, np.float32), jax.random.key(1), 4)
    hidden = score_loss(modules, "v", conditions, unconditional=1.0)(params, *rest)
    clean = score_loss(modules, "v", "clean", unconditional=1.0)(params, *rest)
    shown = score_loss(modules, "v", conditions)(params, *rest)
    np.testing.assert_allclose(hidden, clean, rtol=1e-6)
    assert abs(float(shown - hidden)) > 1e-6
