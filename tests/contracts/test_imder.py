"""The one-stage method: what trains what, what is hidden, and its time grid."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.diffusion.sde import REGISTRY
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.imder import draw_pattern, faithful_grid, imder_loss
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.run import run
from mmdjax.tasks import SENTIMENT
from tests.conftest import TINY

DIFFUSION = dataclasses.replace(configs.Diffusion(), sde="ve", sampler="euler_maruyama", nfe=4)
ROWS = np.arange(6, dtype=np.int32)


@pytest.fixture(scope="module")
def parts(tiny_system):
    system = tiny_system
    modules = system.modules._replace(sde=REGISTRY["ve"]())
    keys = jax.random.split(jax.random.key(0), 3)
    params = system.initial_classifier(keys[0])
    params |= {"score": system.initial_score(keys[1]), "decoder": system.initial_decoder(keys[2])}
    # The decoder's last convolution starts at zero and would hide all others.
    params["decoder"] = jax.tree.map(lambda a: a + 0.05, params["decoder"])
    params = jax.tree.map(jnp.asarray, params)
    train = system.splits["train"]
    rows = {"features": dict(train.features), "valid": dict(train.valid), "label": train.label}
    return modules, params, jax.tree.map(jnp.asarray, rows)


def gradient(parts, faithful):
    """A compiled (key, weight) -> gradient of the parameters."""
    modules, params, rows = parts
    conditioning = "shared" if faithful else "clean"
    diffusion = dataclasses.replace(DIFFUSION, conditioning=conditioning)
    grid = faithful_grid(modules.sde, 4) if faithful else make_drawer(modules, diffusion).grid
    data = jax.tree.map(lambda a: a[ROWS], rows) | {"grid": jnp.asarray(grid)}

    @jax.jit
    def of(params, data, key, weight):
        loss = imder_loss(modules, SENTIMENT, diffusion, weight, faithful)
        rest = (data, jnp.ones(len(ROWS)), key, TINY["latents"]["frames"])
        return jax.grad(loss)(params, *rest)

    return lambda key, weight=0.1: of(params, data, jax.random.key(key), weight)


def test_every_parameter_is_trained(parts):
    largest, of = None, gradient(parts, False)
    for key in range(8):  # patterns differ from key to key
        size = jax.tree.map(lambda g: jnp.abs(g).max(), of(key))
        largest = size if largest is None else jax.tree.map(jnp.maximum, largest, size)
    named = jax.tree_util.tree_leaves_with_path(largest)
    still = {jax.tree_util.keystr(path) for path, value in named if not value > 0}
    # Every key's bias is one number on all logits of a query: softmax does not see it.
    assert all("key" in name and "bias" in name for name in still), still


def test_the_score_loss_trains_the_encoders_in_the_faithful_form_only(parts):
    for faithful in (False, True):
        of = gradient(parts, faithful)
        without, with_ = (of(0, weight)["encoders"] for weight in (0.0, 10.0))
        same = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-6), without, with_)
        assert all(jax.tree.leaves(same)) != faithful


def test_hidden_latents_do_not_reach_their_draws(parts, rng):
    modules, params, _ = parts
    x = rng.standard_normal((4, 3, 4, 8)).astype(np.float32)
    valid = np.ones((4, 3, 4), bool)
    observed = np.array([False, True, False])
    hidden = np.where(observed[:, None, None], x, np.nan)
    grid = make_drawer(modules, DIFFUSION).grid
    draw = jax.jit(lambda x: draw_pattern(
        modules, DIFFUSION, grid, params["score"], x, valid, observed, jax.random.key(3)
    ))  # fmt: skip
    with jax.debug_nans(False):
        got = draw(hidden)
    np.testing.assert_array_equal(got, draw(x))
    assert (
        (got[:, 1] == 0).all()
        and np.isfinite(got).all()
        and (np.ptp(got, (0, 2, 3))[::2] > 0).all()
    )


def test_the_draws_are_those_of_the_drawer(parts, rng):
    modules, params, _ = parts
    x = rng.standard_normal((4, 3, 4, 8)).astype(np.float32)
    valid, observed, key = (
        np.ones((4, 3, 4), bool),
        np.array([True, False, True]),
        jax.random.key(3),
    )
    drawer = make_drawer(modules, DIFFUSION)
    got = draw_pattern(modules, DIFFUSION, drawer.grid, params["score"], x, valid, observed, key)
    ids = np.tile(np.array([0, 2], np.int32), (4, 1))
    keys = jax.random.split(jax.random.fold_in(key, 0), (1, 4, 1))
    rows = (x[:, [0, 2]], ids, valid[:, 1], valid[:, [0, 2]])
    target = np.ones(1, np.int32)
    expected, _ = drawer.draw(params["score"], target, *rows, keys, drawer.grid, np.float32(1))
    np.testing.assert_allclose(got[:, 1], expected[0, :, 0], atol=1e-4)


def test_it_is_evaluated_on_the_latents_that_it_was_trained_on(parts, tiny_method):
    """Raw ones: its scale is the identity."""
    method, params, task = tiny_method("imder"), parts[1], tiny_method("imder").task
    space, test = method, method.dataset.splits["test"]
    conditions = conditions_of(method.dataset, method.config.evaluation, 0)
    rows = evaluate([Member("IMDer", method, {"imder": params}, 2)], conditions, 0)["IMDer"]
    values = {(r["protocol"], r["condition"], r["metric"]): r["value"] for r in rows}
    z = space.encode(params["encoders"], space.splits["test"])
    observed, scale = np.ones(z.x.shape[:2], bool), space.identity_scale()
    predictor = {"fusion": params["fusion"], "decoder": params["decoder"]}
    predicted = space.predict_latents(predictor, scale, z.x, z.valid, observed)
    expected = task.metrics(predicted, test.label)["mae"]
    assert values["fixed", "l+a+v", "mae"] == pytest.approx(expected, rel=1e-4)
    assert values["random", "0.0", "mae"] == pytest.approx(expected, rel=1e-4)


def test_the_faithful_grid_takes_one_step_too_many():
    sde = REGISTRY["ve"]()
    grid = faithful_grid(sde, 100)
    assert len(grid) == 101 and grid[0] == sde.t_max
    np.testing.assert_allclose(np.diff(grid), -(sde.t_max - sde.t_min) / 99, rtol=1e-3)
    assert grid[-1] < 0


def test_a_run_trains_and_evaluates_it_and_goes_on_where_it_stopped(compiled_in_haste, tmp_path):
    imder = {"method": "imder", "imder": {"faithful": True}, "imder_training": {"epochs": 1}}
    diffusion = {"sde": "ve", "sampler": "euler_maruyama", "nfe": 3, "coupling": "independent"}
    values = TINY | imder | {"diffusion": diffusion | {"conditioning": "shared"}}
    config = configs.from_dict(values | {"systems": ("imder evaluation.draws=1", "bayes")})
    rows = run(config, tmp_path)
    systems = {r["system"] for r in rows if r["protocol"] == "fixed"}
    assert systems == {"IMDer, K = 2", "IMDer, K = 1", "Bayes optimum"}
    again = run(config, tmp_path, may_train=False)
    named = [[(r["system"], r["metric"], r["value"]) for r in part if r["metric"] != "seconds"]
             for part in (rows, again)]  # fmt: skip
    assert named[0] == named[1]
    assert (tmp_path / "report.html").exists()
    made = {path.name.partition("-")[0] for path in (tmp_path / "checkpoints").iterdir()}
    assert made == {"imder"}
