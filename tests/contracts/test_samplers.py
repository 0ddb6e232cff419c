"""What every registered sampler must do, whatever its mathematics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, sample, time_grid
from mmdjax.diffusion.samplers import registry
from mmdjax.errors import UserError

SDE = VP()
STEPS = 5


def noise_fn(x, t):
    return jnp.tanh(x) * SDE.marginal(t)[1]


def draw(method, keys, shape=(3, 2), steps=STEPS, function=noise_fn):
    return sample(keys, shape, function, SDE, time_grid("quadratic", SDE, steps), method)


@pytest.mark.parametrize("method", registry.names())
def test_nfe_reported_is_what_a_probe_inside_the_network_counts(method):
    seen = []

    def probed(x, t):
        jax.debug.callback(lambda: seen.append(1))
        return noise_fn(x, t)

    result = jax.jit(lambda keys: draw(method, keys, function=probed))(
        jax.random.split(jax.random.key(0), 2)
    )
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert int(result.nfe) == len(seen) > 0


@pytest.mark.parametrize("method", registry.names())
def test_a_draw_depends_on_its_own_key_only(method):
    keys = jax.random.split(jax.random.key(1), 8)
    jitted = jax.jit(lambda keys: draw(method, keys).x)
    whole = jitted(keys)
    np.testing.assert_array_equal(jitted(keys[::-1])[::-1], whole)
    np.testing.assert_allclose(jitted(keys[:3]), whole[:3], atol=1e-6)
    assert np.unique(np.asarray(whole)[:, 0, 0]).size == 8


@pytest.mark.parametrize("method", registry.names())
def test_jit_changes_nothing_and_new_keys_do_not_recompile(method):
    keys = jax.random.split(jax.random.key(2), 2)
    jitted = jax.jit(lambda keys: draw(method, keys).x)
    np.testing.assert_allclose(jitted(keys), draw(method, keys).x, atol=1e-6)
    jitted(jax.random.split(jax.random.key(3), 2))
    assert jitted._cache_size() == 1


@pytest.mark.parametrize("method", registry.names())
def test_nothing_is_traced_once_a_step(method):
    """Compile time does not grow with NFE: the network is traced as often for 5 as for 50 steps."""

    def traces(steps):
        count = 0

        def counting(x, t):
            nonlocal count
            count += 1
            return noise_fn(x, t)

        keys = jax.random.split(jax.random.key(0), 2)
        jax.make_jaxpr(lambda k: draw(method, k, steps=steps, function=counting).x)(keys)
        return count

    assert traces(5) == traces(50)


def test_an_unknown_sampler_is_named_with_those_allowed():
    with pytest.raises(UserError, match=r"sampler 'x' is unknown; allowed: ddim, euler_maruyama"):
        draw("x", jax.random.split(jax.random.key(0), 1))


@pytest.mark.parametrize("name", ["uniform", "quadratic"])
def test_a_time_grid_falls_from_one_to_the_smallest_time(name):
    grid = time_grid(name, SDE, 7)
    assert grid.shape == (8,) and grid[0] == 1 and np.isclose(grid[-1], SDE.t_min)
    assert (np.diff(grid) < 0).all()
