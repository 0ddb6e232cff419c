"""What every registered sampler must do, whatever its mathematics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, as_noise, sample, time_grid
from mmdjax.diffusion.guidance import classifier, classifier_free
from mmdjax.diffusion.held import hold
from mmdjax.diffusion.samplers import loop, registry
from mmdjax.diffusion.sde import REGISTRY, expand
from mmdjax.diffusion.time_grids import REGISTRY as GRIDS
from mmdjax.errors import UserError

VARIANTS = [
    ("adams_bashforth", {}),
    ("adams_bashforth", {"order": 2}),
    ("adaptive", {}),
    ("ancestral", {}),
    ("ancestral", {"resample": 3}),
    ("ddim", {}),
    ("ddim", {"eta": 0.5}),
    ("deis", {}),
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
STEPS = 2
# Compiling takes most of these tests' time, and none of them is about XLA's optimisations.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


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


def evaluations(variant) -> int:
    """Evaluations a step; 0 for 'adaptive'."""
    name, options = variant
    return registry.make(name, SDE, None, **options).nfe


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def op_by_op(variant):
    """No jit at all, which compiles least. 'adaptive' cannot: the NaN it keeps for rows that fail
    raises when it stands alone."""
    return jax.disable_jit(variant[0] != "adaptive")


def cheap_keys(batch):
    """Keys of the generator that is fastest op by op, for tests that need no independent rows."""
    return jax.random.split(jax.random.key(0, impl="unsafe_rbg"), batch)


CALLS = []


def probe():
    """Notes a call at run time, from inside of compiled programs too."""
    jax.debug.callback(lambda: CALLS.append(1))


def counted(function, *arguments):
    """function(*arguments), and how often it called the probe."""
    jax.effects_barrier()
    CALLS.clear()
    result = jax.block_until_ready(function(*arguments))
    jax.effects_barrier()
    return result, len(CALLS)


def conditional(variant):
    """(keys (B,), condition (B, 3), mask (B, 3), scale) -> x: guided, and held by the mask."""

    def run(keys, condition, mask, scale):
        guided = classifier_free(network(condition), network(-condition), scale)
        return draw(variant, keys, hold(guided, SDE, condition, mask)).x

    return run


@pytest.fixture(scope="module")
def jitted(variant):
    """`conditional` under vmap and jit: keys (2, B), condition, mask, scale (2,) -> x (2, B, 3)."""
    return quick(jax.vmap(conditional(variant), in_axes=(0, None, None, 0)))


def inputs(seed=0):
    """What `jitted` takes, B = 8."""
    rng = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.key(seed), (2, 8))
    condition = rng.standard_normal((8, *SHAPE), np.float32)
    mask = rng.random((8, *SHAPE)) < 0.3
    return keys, condition, mask, np.array([1.5, 3.0 + seed], np.float32)


def test_every_registered_sampler_has_a_variant_here():
    assert {name for name, _ in VARIANTS} == set(registry.names())


def test_a_probe_inside_the_network_counts_the_nfe_asked_for_and_twice_that_if_guided(variant):
    name, options = variant
    asked = STEPS * evaluations(variant)
    steps = registry.steps_for(name, asked, **options)
    plain = network(0.5, probe=probe)
    reported = []
    for noise_fn in (plain, classifier_free(plain, plain, 2.0)):
        run = quick(lambda keys, noise_fn=noise_fn: draw(variant, keys, noise_fn, steps=steps))
        with op_by_op(variant):
            result, calls = counted(run, cheap_keys(3))
        assert result.nfe == calls > 0
        reported.append(calls)
    assert reported == [asked or calls // 2, 2 * reported[0]]


def test_evaluations_of_predictions_made_of_others_add_up():
    base = network(0.5, probe=probe)
    twice = classifier_free(base, base, 2.0)
    for noise_fn in (
        as_noise(twice, SDE, "v"),
        classifier_free(twice, base, 2.0),
        hold(twice, SDE, np.ones((3, *SHAPE)), np.ones((3, *SHAPE), bool)),
        classifier(twice, SDE, lambda x, t: -(x**2).sum(-1), 1.0),
    ):
        with jax.disable_jit():
            result, calls = counted(draw, ("ddim", {}), cheap_keys(3), noise_fn)
        assert result.nfe == calls


def test_three_rows_without_jit_or_vmap_draw_the_first_three_of_eight_with_both(variant, jitted):
    keys, condition, mask, scale = inputs()
    with op_by_op(variant):
        few = conditional(variant)(keys[1, :3], condition[:3], mask[:3], scale[1])
    np.testing.assert_allclose(jitted(*inputs())[1, :3], few, rtol=2e-4, atol=2e-4)


def test_permuted_keys_and_conditions_permute_the_draws_bit_by_bit(jitted):
    keys, condition, mask, scale = inputs()
    order = np.random.default_rng(1).permutation(8)
    permuted = jitted(keys[:, order], condition[order], mask[order], scale)
    np.testing.assert_array_equal(permuted, jitted(*inputs())[:, order])


def test_different_keys_give_different_draws(jitted):
    keys, _, _, scale = inputs()
    same = np.ones((8, *SHAPE), np.float32)
    x = np.asarray(jitted(keys, same, same < 0, scale))
    assert all(np.unique(x[..., i]).size == 16 for i in range(SHAPE[0]))


def test_a_row_of_the_condition_moves_its_own_draw_only(jitted):
    keys, condition, mask, scale = inputs()
    only = np.arange(8) == 4
    before = jitted(keys, condition, mask, scale)
    after = jitted(keys, condition + only[:, None].astype(np.float32), mask, scale)
    moved = np.asarray(before != after)
    np.testing.assert_array_equal(moved, np.broadcast_to(only[:, None], moved.shape))


def test_new_keys_conditions_masks_and_scales_compile_nothing(jitted):
    for seed in range(3):
        jitted(*inputs(seed))
    assert jitted._cache_size() == 1


def test_the_network_is_traced_as_often_for_5_as_for_50_steps(variant):
    def traces(steps):
        traced = []
        noise_fn = network(0.0, probe=lambda: traced.append(1))
        jax.eval_shape(lambda keys: draw(variant, keys, noise_fn, steps=steps).x, cheap_keys(2))
        return len(traced)

    assert traces(5) == traces(50) > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_with_x64_the_network_sees_and_the_draw_has_the_dtype_asked_for(variant, dtype):
    seen = set()

    def noise_fn(x, t):
        seen.add(x.dtype.name)
        return network(0.0)(x, t)

    with jax.enable_x64(True):
        x = jax.eval_shape(lambda k: draw(variant, k, noise_fn, dtype=dtype).x, cheap_keys(2))
    assert x.dtype == dtype and x.shape == (2, *SHAPE) and seen == {dtype}


def test_bfloat16_rounds_what_the_network_sees_and_says_and_nothing_else(variant):
    def rounding(x, t):
        return network(0.5)(x.astype(jnp.bfloat16), t)

    def both(keys):
        low = draw(variant, keys, network(0.5), dtype=jnp.bfloat16).x
        return low, draw(variant, keys, rounding).x

    with op_by_op(variant):
        low, rounded = quick(both)(cheap_keys(3))
    assert low.dtype == jnp.bfloat16 and rounded.dtype == jnp.float32
    np.testing.assert_allclose(low.astype(jnp.float32), rounded, rtol=2**-8, atol=1e-3)


def test_float64_is_near_float32_for_the_same_normals(variant):
    name, options = variant
    rng = np.random.default_rng(0)
    sampler = registry.make(name, SDE, network(0.5), **options)
    x = rng.standard_normal((3, *SHAPE), np.float32)
    grid = time_grid("quadratic", SDE, 4)
    normals = rng.standard_normal((4, sampler.normals, 3, *SHAPE), np.float32)

    def solved(dtype):
        given = (jnp.asarray(a, dtype) for a in (x, grid, normals))
        return quick(lambda *given: sampler.state(loop.solve(sampler, *given)))(*given)

    with jax.enable_x64(True):
        precise = np.asarray(solved(jnp.float64))
    assert precise.dtype == np.float64
    with op_by_op(variant):
        np.testing.assert_allclose(solved(jnp.float32), precise, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("sde", [name for name in REGISTRY if REGISTRY[name] != VP])
def test_draws_are_finite_on_other_sdes_too_or_the_sde_is_refused(variant, sde):
    sde = REGISTRY[sde]()
    run = quick(lambda keys: draw(variant, keys, network(0.5, sde), sde).x)
    if not registry.supports(variant[0], sde):
        with pytest.raises(UserError, match=f"sampler '{variant[0]}' does not support the SDE"):
            run(cheap_keys(3))
        return
    with op_by_op(variant):
        x = run(cheap_keys(3))
    assert x.shape == (3, *SHAPE) and np.isfinite(x).all()


@pytest.mark.parametrize("sde", REGISTRY)
@pytest.mark.parametrize("grid", sorted(set(GRIDS) - {"optimised"}))  # a warped log_snr
def test_a_time_grid_falls_from_the_sde_s_last_time_to_its_first(grid, sde):
    sde = REGISTRY[sde]()
    times = time_grid(grid, sde, 3)
    assert times.shape == (4,) and (np.diff(times) < 0).all()
    np.testing.assert_allclose(times[[0, -1]], [sde.t_max, sde.t_min], rtol=1e-12)
