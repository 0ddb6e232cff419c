"""Few-step networks at their fixed points, which correlated Gaussians have in closed form."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion import time_grid
from mmdjax.diffusion.energy import energy_score
from mmdjax.diffusion.exact import exact_conditional_noise
from mmdjax.diffusion.predictions import v_from_noise
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.samplers.corrected import corrected
from mmdjax.diffusion.samplers.loop import solve
from mmdjax.methods.latent.modules import Modules
from mmdjax.methods.latent.students import energy, mean, progressive, shortcut, solver
from mmdjax.methods.settings import Diffusion, Student
from mmdjax.networks.base import Encoded

VP = sdes.REGISTRY["vp"]()
RHO = 0.8
SPREAD = (1 - RHO**2) ** 0.5
ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Linear:
    """A network whose v is linear in the state and the condition, with weights of its own at each
    of some times; or exact, where it has no parameters."""

    times: tuple[float, ...] = ()

    def apply(self, params, *args, method):
        if method == "encode":
            return Encoded(tokens=args[0][:, 0])
        x, t, encoded, _ = args
        condition = encoded.tokens
        if params is None or (isinstance(params, dict) and not params):
            state = jnp.sqrt(VP.marginal(t)[0] ** 2 + VP.marginal(t)[1] ** 2)[:, None, None] * x
            at = t[:, None, None]
            noise = exact_conditional_noise("clean", VP, state, condition, RHO, at)
            return v_from_noise(VP, state, noise, t)
        place = jnp.argmin(jnp.abs(t[:, None] - jnp.array(self.times)), 1)
        weights = params["weights"][place]
        return weights[:, :1, None] * x + weights[:, 1:, None] * condition


def rows(key, count=ROWS):
    """x0, its mask, and the condition of correlated unit Gaussians."""
    both = jax.random.normal(key, (2, count, 1, 1))
    condition = both[0]
    x0 = RHO * condition + SPREAD * both[1]
    shown = (condition[:, None], np.zeros((count, 1), int), np.ones((count, 1, 1), bool))
    return x0, np.ones((count, 1), bool), *shown


def learned(error, times, teacher=None, steps=400, params=None):
    """The weights (times, 2) that minimise the mean error, or what is trained from `params` on."""
    params = params or {"weights": jnp.full((len(times), 2), 0.1) * jnp.array([-1.0, 1.0])}
    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    def loss(params, key):
        keys = jax.random.split(key, 4)
        own = params if teacher is None else (params, teacher)
        return error(own, *rows(keys[3]), keys[:3]).mean()

    def step(carry, key):
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), steps)
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, keys))(
        (params, optimiser.init(params))
    )
    return params


def modules(times):
    return Modules(None, None, Linear(tuple(times)), None, VP)


def law(module, params, grid, solver="ddim"):
    """Gain on the condition, and deviation, of draws."""
    condition = jnp.array([[[0.0]], [[1.0]]])

    def drawn(z, c):
        def noise_fn(x, t):
            at = jnp.broadcast_to(t, x.shape[:1])
            alpha, std = VP.marginal(t)
            v = module.apply(params, x, at, Encoded(tokens=c), None, method="denoise")
            return alpha * v + std * x

        x, step = z, registry.make(solver, VP, noise_fn).step
        for t, t_next in itertools.pairwise(grid):
            x = step(x, jnp.float32(t), jnp.float32(t_next), None)
        return x

    shift = drawn(jnp.zeros((2, 1, 1)), condition)
    gain = drawn(jnp.ones((2, 1, 1)), condition) - shift
    return float(shift[1, 0, 0] - shift[0, 0, 0]), abs(float(gain[0, 0, 0]))


@pytest.mark.parametrize("steps", energy.NEEDS)
@pytest.mark.parametrize("draws", [2, 4])
def test_the_energy_scores_minimiser_draws_the_conditional_law(steps, draws):
    grid = time_grid("log_snr", VP, steps)
    found = modules(grid)
    diffusion = Diffusion(grid="log_snr", nfe=steps, student="energy")
    (learn,) = energy.rounds(found, diffusion, Student(draws=draws))
    params = learned(learn.error, grid)
    np.testing.assert_allclose(law(found.score, params, grid), (RHO, SPREAD), rtol=0.03)


def test_squared_errors_without_repulsion_learn_the_mean_and_no_spread():
    grid = time_grid("log_snr", VP, 1)
    found = modules(grid)
    diffusion = Diffusion(grid="log_snr", nfe=1, student="mean")
    (learn,) = mean.rounds(found, diffusion, Student())
    gain, spread = law(found.score, learned(learn.error, grid), grid)
    np.testing.assert_allclose((gain, spread), (RHO, 0), atol=0.02)


def test_a_halved_network_draws_the_law_of_its_teachers_steps():
    """Each round at its optimum, which a linear network reaches: the law is that of the score's
    steps which the first round learned from, whatever the number of its own."""
    diffusion = Diffusion(grid="log_snr", nfe=1, student="progressive")
    rounds = progressive.rounds(modules(()), diffusion, Student())
    assert [r.name for r in rounds] == [f"progressive_{n}" for n in (8, 4, 2, 1)]
    exact = law(Linear(), None, time_grid("log_snr", VP, 16), "heun")
    np.testing.assert_allclose(exact, (RHO, SPREAD), rtol=0.02)
    teacher, starts = {}, ["score", "progressive_8", "progressive_4", "progressive_2"]
    for learn, steps, start in zip(rounds, (8, 4, 2, 1), starts, strict=True):
        assert learn.start == start and learn.taught
        grid = time_grid("log_snr", VP, steps)
        own = Teaching(tuple(grid.tolist()), steps == 8)
        both = Modules(None, None, own, None, VP)
        error = progressive.jump(
            both,
            both,
            tuple(time_grid("log_snr", VP, steps * progressive.INNER).tolist()),
            "heun" if steps == 8 else "ddim",
        )
        teacher = learned(error, grid, teacher, steps=600)
        np.testing.assert_allclose(law(own, teacher, grid), exact, rtol=0.02, err_msg=str(steps))


class Teaching(Linear):
    """A linear student whose teacher is one with twice its times, or the exact score."""

    def __init__(self, times, first):
        finer = time_grid("log_snr", VP, 2 * (len(times) - 1)).tolist()
        object.__setattr__(self, "times", tuple(times))
        object.__setattr__(self, "finer", () if first else tuple(finer))

    def apply(self, params, *args, method):
        if method == "denoise" and params and len(params["weights"]) == len(self.finer):
            return Linear(self.finer).apply(params, *args, method=method)
        return super().apply(params, *args, method=method)


@dataclasses.dataclass(frozen=True)
class Levelled:
    """A linear network with weights (4, 9, 2) of its own for each number of steps and time."""

    def apply(self, params, *args, method):
        if method == "encode":
            return Encoded(tokens=args[0][:, 0])
        x, t, encoded, _, *level = args
        if not level:
            return jnp.zeros_like(x)
        grid = time_grid("log_snr", VP, shortcut.NEEDS[level[0] - 1])
        return Linear(tuple(grid.tolist())).apply(
            {"weights": params["weights"][level[0] - 1]}, x, t, encoded, None, method=method
        )


@dataclasses.dataclass(frozen=True)
class Told:
    """A `Levelled` network that is told its level."""

    level: int

    def apply(self, params, *args, method):
        return Levelled().apply(params, *args, self.level, method=method)


def test_two_half_steps_equal_one_of_a_shortcut_network_for_every_number_of_steps():
    grids = tuple(
        tuple(time_grid("log_snr", VP, n * progressive.INNER).tolist()) for n in shortcut.NEEDS
    )
    plain, told = modules(()), Modules(None, None, Levelled(), None, VP)
    error = shortcut.shortcuts(plain, told, grids, "v")
    start = {"weights": jnp.full((4, 9, 2), 0.1) * jnp.array([-1.0, 1.0])}
    params = learned(error, (), {}, steps=1500, params=start)
    exact = law(Linear(), None, time_grid("log_snr", VP, 16), "heun")
    for steps in shortcut.NEEDS:
        grid, network = time_grid("log_snr", VP, steps), Told(shortcut.level_of(steps))
        np.testing.assert_allclose(law(network, params, grid), exact, rtol=0.03, err_msg=str(steps))


def test_a_learned_solver_draws_the_law_in_two_steps():
    """Of the exact score. DPM-Solver++ 2M, where it starts, is far from the law in two."""
    grid, condition = time_grid("log_snr", VP, 2), jnp.array([[[0.0]], [[1.0]]])
    found = modules(())
    diffusion = Diffusion(sampler="dpmpp_2m", grid="log_snr", nfe=2, student="solver")
    (learn,) = solver.rounds(found, diffusion, Student())
    start = jax.tree.map(lambda a: a[0], solver.initial(VP, grid, 1))
    np.testing.assert_allclose(solver.times_of(VP, start["gaps"]), grid, rtol=1e-4)

    def law_of(own):
        def drawn(z):
            def noise_fn(x, t):
                return exact_conditional_noise("clean", VP, x, condition, RHO, t)

            made = corrected(VP, noise_fn, own["weights"])
            times = solver.times_of(VP, own["gaps"])
            return made.state(solve(made, z, times, times[1:]))

        shift, once = drawn(jnp.zeros((2, 1, 1))), drawn(jnp.ones((2, 1, 1)))
        return float(shift[1, 0, 0] - shift[0, 0, 0]), abs(float((once - shift)[0, 0, 0]))

    spread = law_of(start)[1]
    assert abs(spread - SPREAD) > 0.05
    own = learned(learn.error, (), {}, steps=600, params=start)
    np.testing.assert_allclose(law_of(own), (RHO, SPREAD), rtol=0.02)


def test_ddim_arrives_with_the_noise_that_a_jump_is_read_as(rng):
    x, arrived = (rng.standard_normal((5, 2, 3)).astype(np.float32) for _ in range(2))
    start, end = (jnp.full(5, t, jnp.float32) for t in (0.8, 0.3))
    noise = progressive.noise_of(VP, x, arrived, start, end)
    step = registry.make("ddim", VP, lambda x, t: noise).step
    np.testing.assert_allclose(step(x, start, end, None), arrived, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5])
def test_the_energy_score_is_that_of_its_definition_and_least_at_the_truth(beta, rng):
    """One entry, normal draws: expectations by quadrature."""
    truth = rng.standard_normal((20_000, 1, 1)).astype(np.float32)
    mask = np.ones((20_000, 1), bool)

    def moment(mean, std):
        def density(d):
            return abs(d) ** beta * stats.norm.pdf(d, mean, std)

        return integrate.quad(density, -12, 12, points=[0.0])[0]

    found = {}
    for mean_of, std in ((0.0, 1.0), (0.4, 1.0), (0.0, 0.6), (0.0, 1.6)):
        draws = mean_of + std * rng.standard_normal((20_000, 3, 1, 1)).astype(np.float32)
        score = np.asarray(energy_score(draws, truth, mask, beta))
        expected = moment(mean_of, (1 + std**2) ** 0.5) - moment(0, 2**0.5 * std) / 2
        deviation = score.std() / 20_000**0.5
        assert abs(score.mean() - expected) < 5 * deviation
        found[mean_of, std] = expected
    assert min(found, key=found.get) == (0.0, 1.0)


def test_frames_off_the_mask_do_not_count_and_a_row_without_any_is_zero(rng):
    draws = rng.standard_normal((3, 4, 5, 2)).astype(np.float32)
    truth = rng.standard_normal((3, 5, 2)).astype(np.float32)
    mask = np.array([[True] * 5, [True, True, False, False, False], [False] * 5])
    score = np.asarray(energy_score(draws, truth, mask))
    alone = energy_score(draws[1:2, :, :2], truth[1:2, :2], mask[1:2, :2])
    np.testing.assert_allclose(score[1], np.asarray(alone)[0], rtol=1e-5)
    assert score[2] == 0 != score[0]
    gradient = jax.grad(lambda d: energy_score(d, truth, mask).sum())(draws)
    assert np.isfinite(gradient).all()
    assert not np.any(np.where(mask[:, None, :, None], 0, gradient))
    same = jax.grad(lambda d: energy_score(d, truth, mask).sum())(jnp.zeros_like(draws))
    assert np.isfinite(same).all()  # draws that are equal, of which a root has no slope
