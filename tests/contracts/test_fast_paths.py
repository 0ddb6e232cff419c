"""What makes a draw fast changes no number: each fast path against the plain one."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.missing.patterns import patterns
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.modules import build
from mmdjax.methods.latent.work_list import draw_missing
from mmdjax.networks.embeddings import fourier_features, fourier_frequencies
from mmdjax.networks.score_transformer import ATTENTION, ScoreTransformer1D
from tests.conftest import TINY
from tests.limits import HANGS

T, D, HEADS = 4, 8, 2


def network(modalities, attention, patch=1):
    sizes = {"width": 16, "layers": 3, "heads": HEADS, "mlp": 24, "time_features": 8}
    return ScoreTransformer1D(modalities, T, D, **sizes, attention=attention, patch=patch)


def normalise(x, p):
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def plain_layer(z, p, allowed):
    """The textbook: whole softmax by einsum, every token, one mask over pairs of tokens."""
    y = normalise(z, p["attention_norm"])
    split = lambda a: a.reshape(*a.shape[:2], HEADS, -1)  # noqa: E731
    q, k, v = (split(dense(y, p[name])) for name in ("query", "key", "value"))
    logits = jnp.einsum("bshd,brhd->bhsr", q, k) / q.shape[-1] ** 0.5
    weights = jax.nn.softmax(jnp.where(allowed[:, None], logits, -1e9), axis=-1)
    out = jnp.einsum("bhsr,brhd->bshd", weights, v).reshape(z.shape)
    z = z + dense(out, p["attention_out"])
    y = jax.nn.gelu(dense(normalise(z, p["mlp_norm"]), p["mlp_in"]))
    return z + dense(y, p["mlp_out"])


def plain(net, params, x, t, condition, ids, mask, condition_mask):
    """All tokens through all layers at once; 'prefix' is nothing but a mask."""
    p, batch = params["params"], len(x)

    def tokens(x, mask):
        x = np.where(mask[..., None], x, 0)
        if net.patch > 1:
            x = np.concatenate([x, mask[..., None]], -1)
        x = x.reshape(*mask.shape[:-1], T // net.patch, net.patch * x.shape[-1])
        return x, mask.reshape(*mask.shape[:-1], T // net.patch, net.patch).any(-1)

    (x, mask), (condition, condition_mask) = tokens(x, mask), tokens(condition, condition_mask)
    frequencies = fourier_frequencies(net.time_features, net.fourier_scale)
    time = jax.nn.silu(dense(fourier_features(t, frequencies), p["time"]))
    target = dense(x, p["target_in"]) + p["position"] + time[:, None]
    z = [target]
    for c in range(condition.shape[1]):
        part = dense(condition[:, c], p["condition_in"]) + p["position"]
        z.append(part + p["modality"][ids[:, c]][:, None])
    z = jnp.concatenate(z, axis=1)
    size, shown = x.shape[1], np.concatenate([mask, condition_mask.reshape(batch, -1)], 1)
    allowed = np.tile(shown[:, None], (1, z.shape[1], 1))
    if net.attention == "prefix":
        allowed[:, size:, :size] = False
    for index in range(net.layers - 1):
        z = plain_layer(z, jax.tree.map(lambda a, i=index: a[i], p["stack"]), allowed)
    z = plain_layer(z, p["last"], allowed)[:, :size]
    return dense(normalise(z, p["norm"]), p["out"]).reshape(batch, T, D)


def textbook(net, params, *arguments):
    return jax.jit(lambda params: plain(net, params, *arguments))(params)


def case(rng, batch, conditions, ragged=True):
    modalities = conditions + 1
    ids = np.argsort(rng.random((batch, modalities)), axis=1)[:, :conditions].astype(np.int32)
    mask = np.arange(T) < (rng.integers(1, T + 1, batch) if ragged else np.full(batch, T))[:, None]
    condition_mask = np.tile(mask[:, None], (1, conditions, 1))
    if ragged and conditions:
        condition_mask &= rng.random((batch, conditions, 1)) < 0.7
    x = rng.standard_normal((batch, T, D)).astype(np.float32)
    condition = rng.standard_normal((batch, conditions, T, D)).astype(np.float32)
    t = rng.uniform(0.01, 1, batch).astype(np.float32)
    return x, t, condition, ids, mask, condition_mask


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("conditions", [0, 1, 2, 3])
def test_cached_and_pruned_network_equals_the_textbook(attention, conditions, patch, rng):
    net = network(conditions + 1, attention, patch)
    init = jax.jit(net.init)(jax.random.key(0), *case(rng, 1, conditions))
    params = jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), init)
    params = jax.tree.map(lambda a: a.astype(np.float32), params)
    run = jax.jit(net.apply)
    for batch, ragged in ((1, False), (5, True)):
        arguments = case(rng, batch, conditions, ragged)
        got = run(params, *arguments)
        np.testing.assert_allclose(got, textbook(net, params, *arguments), atol=1e-5, rtol=1e-5)


def test_one_layer_networks_work(rng):
    for attention in ATTENTION:
        net = network(3, attention).clone(layers=1)
        arguments = case(rng, 2, 2)
        params = jax.jit(net.init)(jax.random.key(0), *arguments)
        got = jax.jit(net.apply)(params, *arguments)
        np.testing.assert_allclose(got, textbook(net, params, *arguments), atol=1e-5)


def test_condition_tokens_of_the_prefix_network_see_neither_time_nor_target(rng):
    net = network(3, "prefix")
    x, t, *given = case(rng, 2, 2)
    params = jax.jit(net.init)(jax.random.key(0), x, t, *given)
    condition, ids, mask, condition_mask = given
    encode = jax.jit(functools.partial(net.apply, method="encode"))
    denoise = jax.jit(functools.partial(net.apply, method="denoise"))
    encoded, whole = encode(params, condition, ids, condition_mask), jax.jit(net.apply)
    for new_x, new_t in ((x, t), (x + 1, t / 2)):
        got = denoise(params, new_x, new_t, encoded, mask)
        np.testing.assert_allclose(got, whole(params, new_x, new_t, *given), atol=1e-6)


@pytest.fixture(scope="module")
def system():
    """modules, stacked parameters, and utterances of which every pattern occurs."""
    rng = np.random.default_rng(0)
    config = configs.from_dict(TINY | {"score": TINY["score"] | {"attention": "prefix"}})
    modules = build(config, ("a", "b", "c"))
    observed = patterns(3)
    z = rng.standard_normal((len(observed), 3, T, D)).astype(np.float32)
    valid = np.tile(np.arange(T) < np.array([4, 2, 3, 4, 1, 4, 4])[:, None, None], (1, 3, 1))
    arguments = (z[:1, 0], np.ones(1), z[:1, 1:], np.array([1, 2]), valid[:1, 0], valid[:1, 1:])
    init = jax.jit(lambda key: modules.score.init(key, *arguments))
    params = jax.vmap(init)(jax.random.split(jax.random.key(0), 3))
    return config, modules, params, z, valid, observed


def completed(system, draws=1, batch=4, together=False, seed=5, observed=None, **changes):
    config, modules, params, z, valid, everything = system
    drawer = make_drawer(modules, dataclasses.replace(config.diffusion, **changes), together)
    observed = everything if observed is None else observed
    index, key = np.tile(np.arange(draws), (len(z), 1)), jax.random.key(seed)
    rows = (z, valid, observed, np.arange(len(z)), index)
    return draw_missing(drawer, params, *rows, key, (4,), batch)[0], drawer


@pytest.mark.parametrize("coupling", ["chain", "independent"])
def test_draws_that_share_a_condition_equal_draws_alone(system, coupling):
    many, _ = completed(system, draws=3, coupling=coupling)
    config, modules, params, z, valid, observed = system
    drawer = make_drawer(modules, dataclasses.replace(config.diffusion, coupling=coupling))
    for k in range(3):
        rows = (z, valid, observed, np.arange(7), np.full((7, 1), k))
        one, _ = draw_missing(drawer, params, *rows, jax.random.key(5), (4,), 4)
        np.testing.assert_allclose(one[:, 0], many[:, k], atol=2e-5)
    missing = ~observed[:, None].repeat(3, 1)
    assert (np.abs(many[:, 0] - many[:, 1]).max((-1, -2))[missing[:, 0]] > 1e-3).all()


def test_two_missing_modalities_in_one_scan_equal_one_after_the_other(system):
    one, plain_drawer = completed(system, draws=2, coupling="independent")
    two, drawer = completed(system, draws=2, together=True, coupling="independent")
    assert drawer.together and not plain_drawer.together
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_a_chain_is_never_drawn_together(system):
    assert not completed(system, together=True, coupling="chain")[1].together


@pytest.mark.parametrize("attention", ATTENTION)
def test_bfloat16_products_stay_near_float32(attention, rng):
    net = network(3, attention)
    arguments = case(rng, 8, 2)
    params = jax.jit(net.init)(jax.random.key(0), *arguments)
    exact = jax.jit(net.apply)(params, *arguments)
    rough = jax.jit(net.clone(dtype=jnp.bfloat16).apply)(params, *arguments)
    assert rough.dtype == jnp.float32
    error = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
    assert 1e-5 < error < 2e-2


def test_a_bfloat16_draw_is_the_float32_draw_to_its_precision(system):
    missing = ~system[5]
    exact, rough = (completed(system, dtype=d)[0][:, 0] for d in ("float32", "bfloat16"))
    error = (rough - exact)[missing]
    assert 0 < np.sqrt(np.mean(error**2)) < 3e-2
    np.testing.assert_array_equal(rough[~missing], exact[~missing])


def test_mask_rate_guidance_seed_and_parameters_compile_nothing_new(system):
    config, modules, params, z, valid, observed = system
    diffusion = dataclasses.replace(config.diffusion, guidance=2.0, unconditional=0.1)
    drawer = make_drawer(modules, diffusion)
    programs = None
    for change, scale in enumerate((2.0, 0.5, 3.0)):
        order = np.random.default_rng(change).permutation(7)
        drawer = drawer._replace(guidance=scale)
        weights = jax.tree.map(lambda a, c=change: a + c, params)
        rows = (z, valid & (change < 2), observed[order], np.arange(7), np.full((7, 1), change))
        draw_missing(drawer, weights, *rows, jax.random.key(change), (4,), 4)
        assert programs in (None, drawer.draw.programs())
        programs = drawer.draw.programs()
    assert programs == 2  # one condition, two conditions


TWO_DEVICES = """
import sys
import numpy as np
from tests.contracts import test_fast_paths as t
filled, _ = t.completed(t.system.__wrapped__(), draws=2)
odd, _ = t.completed(t.system.__wrapped__(), draws=2, batch=3)  # divides over no two devices
np.testing.assert_allclose(odd, filled, atol=2e-5)
import jax
assert jax.local_device_count() == 2
np.save(sys.argv[1], filled)
"""


def test_two_devices_draw_what_one_draws(system, tmp_path):
    root, path = Path(__file__).parents[2], tmp_path / "filled.npy"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(root),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-c", TWO_DEVICES, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(path), completed(system, draws=2)[0], atol=2e-5)
