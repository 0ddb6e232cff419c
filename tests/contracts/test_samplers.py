"""What every registered sampler must do, whatever its mathematics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, sample, time_grid
from mmdjax.diffusion.guidance import classifier_free
from mmdjax.diffusion.held import hold
from mmdjax.diffusion.samplers import loop, registry
from mmdjax.diffusion.sde import REGISTRY, expand
from mmdjax.errors import UserError

VARIANTS = [
    ("adams_bashforth", {}),
    ("adams_bashforth", {"order": 2}),
    ("adaptive", {}),
    ("adaptive", {"rtol": 1e-3, "atol": 1e-3}),
    ("ancestral", {}),
    ("ancestral", {"resample": 3}),
    ("ddim", {}),
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1}),
    ("deis", {}),
    ("deis", {"order": 4}),
    ("dpmpp_1s", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    ("euler_maruyama", {}),
    ("heun", {}),
    ("heun", {"churn": 1.0}),
    ("heun_sde", {}),
    ("predictor_corrector", {}),
    ("predictor_corrector", {"correctors": 2}),
    ("sde_dpmpp_2m", {}),
    ("unipc", {}),
    ("unipc", {"order": 2}),
]
SDE = VP()
SHAPE = (3,)
STEPS = 3
# Compiling takes most of these tests' time, and none of them is about XLA's optimisations.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def title(variant) -> str:
    name, options = variant
    return "-".join([name, *(f"{k}={v}" for k, v in options.items())])


@pytest.fixture(scope="module", params=VARIANTS, ids=title)
def variant(request):
    return request.param


def network(mean, sde=SDE, probe=lambda: None):
    """The exact noise prediction of data from N(mean, 1/4)."""

    def noise_fn(x, t):
        probe()
        alpha, std = (expand(a, x) for a in sde.marginal(t))
        return std * (x - alpha * jnp.asarray(mean, x.dtype)) / ((alpha / 2) ** 2 + std**2)

    return noise_fn


def draw(variant, keys, noise_fn, sde=SDE, steps=STEPS, dtype=jnp.float32):
    name, options = variant
    grid = time_grid("quadratic", sde, steps)
    return sample(keys, SHAPE, noise_fn, sde, grid, name, dtype=dtype, **options)


def conditional(variant):
    """(keys (B,), condition (B, ...), mask (B, ...), scale) -> Draw: guided, and held by the mask."""

    def run(keys, condition, mask, scale):
        guided = classifier_free(network(condition), network(-condition), scale)
        return draw(variant, keys, hold(guided, SDE, condition, mask))

    return run


@pytest.fixture(scope="module")
def jitted(variant):
    return jax.jit(conditional(variant), compiler_options=QUICK)


def inputs(batch, seed=0):
    """keys, condition, mask and scale for `conditional`."""
    rng = np.random.default_rng(seed)
    condition = rng.standard_normal((batch, *SHAPE), np.float32)
    mask = rng.random((batch, *SHAPE)) < 0.3
    return jax.random.split(jax.random.key(seed), batch), condition, mask, 1.5 + seed


def rows(arguments, index):
    *batched, scale = arguments
    return *(a[index] for a in batched), scale


def test_every_registered_sampler_has_a_variant_here():
    assert {name for name, _ in VARIANTS} == set(registry.names())


def test_nfe_reported_is_what_a_probe_inside_the_network_counts(variant):
    seen = []

    def probe():
        jax.debug.callback(lambda: seen.append(1))

    def counted(guided: bool):
        noise_fn = network(1.0, probe=probe)
        if guided:
            noise_fn = classifier_free(noise_fn, noise_fn, 2.0)
        run = jax.jit(lambda keys: draw(variant, keys, noise_fn), compiler_options=QUICK)
        seen.clear()
        result = jax.block_until_ready(run(inputs(2)[0]))
        jax.effects_barrier()
        assert int(result.nfe) == len(seen) > 0
        return len(seen)

    assert counted(guided=True) == 2 * counted(guided=False)


def test_a_grid_of_steps_for_an_nfe_spends_exactly_that(variant):
    name, options = variant
    nfe = 0 if name == "adaptive" else 12
    steps = registry.steps_for(name, nfe, **options)
    spent = jax.eval_shape(lambda k: draw(variant, k, network(0.0), steps=steps), inputs(2)[0]).nfe
    assert name == "adaptive" or spent == nfe


def test_jit_changes_nothing(variant, jitted):
    with jax.disable_jit():
        plain = conditional(variant)(*inputs(8))
    compiled = jitted(*inputs(8))
    np.testing.assert_allclose(compiled.x, plain.x, atol=2e-5)
    assert compiled.nfe == plain.nfe


def test_vmap_over_keys_and_guidance_scales_is_a_loop_over_them(variant, jitted):
    keys = jax.random.split(jax.random.key(5), (2, 8))
    scales = jnp.array([0.5, 3.0])
    _, condition, mask, _ = inputs(8)
    mapped = jax.vmap(conditional(variant), in_axes=(0, None, None, 0))
    result = jax.jit(mapped, compiler_options=QUICK)(keys, condition, mask, scales)
    for i in range(2):
        one = jitted(keys[i], condition, mask, float(scales[i]))
        np.testing.assert_allclose(result.x[i], one.x, atol=2e-5)
        assert result.nfe[i] == one.nfe


def test_permuted_keys_and_conditions_permute_the_draws_bit_by_bit(jitted):
    order = np.random.default_rng(1).permutation(8)
    whole = jitted(*inputs(8)).x
    np.testing.assert_array_equal(jitted(*rows(inputs(8), order)).x, whole[order])


def test_a_batch_of_three_draws_the_first_three_of_eight(variant, jitted):
    with jax.disable_jit():
        few = conditional(variant)(*rows(inputs(8), slice(3))).x
    np.testing.assert_allclose(few, jitted(*inputs(8)).x[:3], atol=2e-5)


def test_different_keys_give_different_draws(jitted):
    keys, _, _, scale = inputs(8)
    same = np.ones((8, *SHAPE), np.float32)
    x = np.asarray(jitted(keys, same, np.zeros((8, *SHAPE), bool), scale).x)
    assert all(np.unique(column).size == 8 for column in x.T)


def test_a_row_of_the_condition_moves_its_own_draw_only(jitted):
    keys, condition, mask, scale = inputs(8)
    before = jitted(keys, condition, mask, scale).x
    condition[4] += 1
    after = jitted(keys, condition, mask, scale).x
    assert (np.flatnonzero((before != after).any(1)) == [4]).all()
    assert (before[4] != after[4]).all()


def test_held_entries_end_near_their_values_and_the_rest_does_not(jitted):
    keys, condition, mask, scale = inputs(8)
    error = np.abs(jitted(keys, condition, mask, scale).x - condition)
    assert error[mask].max() < 5 * SDE.marginal(SDE.t_min)[1] < error[~mask].max()


def test_new_keys_conditions_masks_and_scales_compile_nothing(jitted):
    for seed in range(3):
        jitted(*inputs(8, seed))
    assert jitted._cache_size() == 1


def test_the_network_is_traced_as_often_for_5_as_for_50_steps(variant):
    def traces(steps):
        count = 0

        def probe():
            nonlocal count
            count += 1

        noise_fn = network(0.0, probe=probe)
        jax.eval_shape(lambda keys: draw(variant, keys, noise_fn, steps=steps).x, inputs(2)[0])
        return count

    assert traces(5) == traces(50) > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("x64", [False, True])
def test_the_network_sees_and_the_draw_has_the_dtype_asked_for(variant, dtype, x64):
    if dtype == "float64" and not x64:
        pytest.skip("JAX has no float64 without x64")
    seen = set()

    def noise_fn(x, t):
        seen.add(x.dtype.name)
        return network(0.0)(x, t)

    with jax.enable_x64(x64):
        x = jax.eval_shape(lambda k: draw(variant, k, noise_fn, dtype=dtype).x, inputs(2)[0])
    assert x.dtype == dtype and x.shape == (2, *SHAPE) and seen == {dtype}


def test_bfloat16_rounds_in_the_network_only(variant):
    keys = inputs(4)[0]

    def rounding(x, t):
        return network(0.5)(x.astype(jnp.bfloat16), t)

    def both(keys):
        low = draw(variant, keys, network(0.5), dtype=jnp.bfloat16).x
        return low, draw(variant, keys, rounding).x

    low, rounded = jax.jit(both, compiler_options=QUICK)(keys)
    print(np.abs(low-rounded).max(), np.abs(rounded).max())
    exact = draw(variant, keys, network(0.5)).x
    print(np.abs(low-exact).max(), np.abs(rounded).max())
    assert 0


def test_float64_is_near_float32_for_the_same_normals(variant):
    name, options = variant
    rng = np.random.default_rng(0)
    normals = registry.make(name, SDE, network(0.5), **options).normals
    start = rng.standard_normal((4, *SHAPE), np.float32)
    sources = rng.standard_normal((STEPS, normals, 4, *SHAPE), np.float32)
    grid = time_grid("quadratic", SDE, STEPS)

    def solved(dtype):
        sampler = registry.make(name, SDE, network(0.5), **options)
        given = (jnp.asarray(a, dtype) for a in (start, grid, sources))
        with jax.disable_jit():
            return sampler.state(loop.solve(sampler, *given))

    with jax.enable_x64(True):
        precise = solved(jnp.float64)
        assert precise.dtype == jnp.float64
    np.testing.assert_allclose(solved(jnp.float32), precise, atol=2e-4)


@pytest.mark.parametrize("sde", REGISTRY)
def test_draws_are_finite_on_every_sde_supported_and_others_are_refused(variant, sde):
    name = variant[0]
    sde = REGISTRY[sde]()
    keys = inputs(2)[0]
    if not registry.supports(name, sde):
        with pytest.raises(UserError, match=f"sampler '{name}' does not support the SDE"):
            draw(variant, keys, network(0.5, sde), sde)
        return
    with jax.disable_jit():
        x = draw(variant, keys, network(0.5, sde), sde, steps=2).x
    assert x.shape == (2, *SHAPE) and np.isfinite(x).all()
