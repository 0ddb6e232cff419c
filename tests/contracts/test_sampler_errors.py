"""Every mistake in asking for a draw is one line that names what was given and what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.diffusion import VP, RectifiedFlow, convert, sample, time_grid
from mmdjax.diffusion.conditioning import MODES, in_sampling, in_training
from mmdjax.diffusion.likelihood import log_likelihood
from mmdjax.diffusion.predictions import FROM_NOISE
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.diffusion.sde import REGISTRY
from mmdjax.diffusion.time_grids import REGISTRY as GRIDS
from mmdjax.errors import UserError

X = np.ones((2, 3), np.float32)
NEVER = "the network of a refused draw is never called"


def noise_fn(x, t):
    raise AssertionError(NEVER)


def drawn(method="ddim", sde=None, grid=(1.0, 0.5, 0.1), **options):
    keys = jax.random.split(jax.random.key(0), 2)
    return sample(keys, (3,), noise_fn, sde or VP(), np.array(grid), method, **options)


def converted(source, target):
    return convert(VP(), X, X, 0.5, source, target)


def refused(act, *words):
    with pytest.raises(UserError) as error:
        act()
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_an_unknown_sampler_is_refused_with_every_known_one():
    allowed = ", ".join(registry.names())
    refused(lambda: drawn("ode"), f"sampler 'ode' is unknown; allowed: {allowed}")
    refused(lambda: steps_for("ode", 10), f"sampler 'ode' is unknown; allowed: {allowed}")
    refused(lambda: registry.options("ode"), "'ode'", allowed)


@pytest.mark.parametrize("name", registry.names())
def test_an_unknown_option_is_refused_with_the_sampler_s_own(name):
    allowed = ", ".join(registry.options(name)) or "none"
    refused(lambda: drawn(name, wings=2), f"sampler '{name}' has no option 'wings'; ", allowed)
    refused(lambda: steps_for(name, 12, wings=2), "no option 'wings'", allowed)


@pytest.mark.parametrize(
    ("name", "option", "value", "allowed"),
    [
        ("ddim", "eta", 2, "0 to 1"),
        ("ddim", "eta", -0.1, "0 to 1"),
        ("ddim", "eta", float("nan"), "0 to 1"),
        ("predictor_corrector", "correctors", 0, "1, 2, ..."),
        ("predictor_corrector", "correctors", 1.5, "1, 2, ..."),
        ("deis", "order", 9, "1 to 4"),
        ("deis", "order", 0, "1 to 4"),
        ("deis", "order", 2.5, "1 to 4"),
        ("adams_bashforth", "order", 9, "1 to 4"),
        ("unipc", "order", 9, "1 to 3"),
        ("heun", "churn", -1, "0 or more"),
        ("ancestral", "resample", 0, "1, 2, ..."),
        ("ancestral", "resample", 1.5, "1, 2, ..."),
    ],
)
def test_an_option_out_of_range_is_refused(name, option, value, allowed):
    words = f"{name}: {option} = {value}; allowed: {allowed}"
    refused(lambda: drawn(name, **{option: value}), words)
    refused(lambda: steps_for(name, 12, **{option: value}), words)


@pytest.mark.parametrize("name", ["euler_maruyama", "heun_sde", "predictor_corrector"])
def test_a_sampler_that_steps_the_sde_is_refused_where_its_drift_is_infinite(name):
    fine = ", ".join(known for known in REGISTRY if known != "rectified_flow")
    refused(
        lambda: drawn(name, RectifiedFlow(), (0.999, 0.1)),
        f"sampler '{name}' does not support the SDE 'rectified_flow'",
        f"allowed: {fine}",
    )


@pytest.mark.parametrize(
    ("name", "nfe", "options", "allowed"),
    [
        ("heun", 31, {}, "a positive multiple of 2"),
        ("heun", 0, {}, "a positive multiple of 2"),
        ("ddim", 0, {}, "a positive number"),
        ("ddim", -1, {}, "a positive number"),
        ("predictor_corrector", 10, {"correctors": 2}, "a positive multiple of 3"),
        ("ancestral", 10, {"resample": 4}, "a positive multiple of 4"),
    ],
)
def test_an_nfe_that_cannot_be_spent_exactly_is_refused(name, nfe, options, allowed):
    words = f"sampler '{name}' cannot spend NFE {nfe} exactly; allowed: {allowed}"
    refused(lambda: steps_for(name, nfe, **options), words)


def test_an_nfe_for_a_sampler_that_chooses_its_own_is_refused():
    words = "'adaptive' chooses its evaluations itself: NFE 10 given; allowed: 0"
    refused(lambda: steps_for("adaptive", 10), words)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((1.0, 0.2, 0.5), "time grid holds 0.5 after 0.2; allowed: decreasing times"),
        ((1.0, 0.5, 0.5), "time grid holds 0.5 after 0.5; allowed: decreasing times"),
        ((1.0, 0.5, 0.0), "time grid holds t = 0; allowed: (0, 1]"),
        ((1.0, -0.5), "time grid holds t = -0.5; allowed: (0, 1]"),
        ((1.2, 0.5), "time grid holds t = 1.2; allowed: (0, 1]"),
        ((1.0, float("nan")), "time grid holds t = nan; allowed: (0, 1]"),
        ((1.0,), "time grid of shape (1,); allowed: at least two times"),
        ((), "time grid of shape (0,); allowed: at least two times"),
        (((1.0, 0.5), (0.4, 0.1)), "time grid of shape (2, 2); allowed: at least two times"),
    ],
)
def test_a_grid_that_no_sampler_can_follow_is_refused(grid, words):
    refused(lambda: drawn(grid=grid), words)


def test_a_grid_that_starts_beyond_the_sde_s_last_time_is_refused():
    words = "time grid holds t = 1; allowed: (0, 0.999]"
    refused(lambda: drawn(sde=RectifiedFlow()), words)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (
            lambda: time_grid("cosine", VP(), 5),
            ["time grid 'cosine' is unknown", f"allowed: {', '.join(GRIDS)}"],
        ),
        (lambda: time_grid("uniform", VP(), 0), ["time grid of 0 steps; allowed: 1, 2, ..."]),
        (
            lambda: converted("epsilon", "clean"),
            ["prediction 'epsilon' is unknown", f"allowed: {', '.join(FROM_NOISE)}"],
        ),
        (
            lambda: converted("noise", "x0"),
            ["prediction 'x0' is unknown", f"allowed: {', '.join(FROM_NOISE)}"],
        ),
        (
            lambda: in_training("noisy", VP(), X, np.full(2, 0.5), X, jax.random.key(0)),
            ["conditioning 'noisy' is unknown", f"allowed: {', '.join(MODES)}"],
        ),
        (
            lambda: in_sampling("noisy", VP(), X, 0.5, None),
            ["conditioning 'noisy' is unknown", f"allowed: {', '.join(MODES)}"],
        ),
        (
            lambda: log_likelihood(X, noise_fn, VP(), divergence="trace"),
            ["divergence 'trace' is unknown; allowed: exact, hutchinson"],
        ),
        (
            lambda: log_likelihood(X, noise_fn, VP(), divergence="hutchinson"),
            ["divergence 'hutchinson': no keys given; allowed: (B,) typed keys"],
        ),
    ],
)
def test_an_unknown_name_or_a_missing_key_is_refused(act, words):
    refused(act, *words)


@pytest.mark.parametrize(
    ("diffusion", "words"),
    [
        (
            {"sampler": "heun", "nfe": 31},
            ["'heun' cannot spend NFE 31 exactly; allowed: a positive multiple of 2"],
        ),
        (
            {"sampler": "predictor_corrector", "sampler_options": ("correctors=2",), "nfe": 10},
            ["'predictor_corrector' cannot spend NFE 10 exactly", "a positive multiple of 3"],
        ),
        (
            {"sampler": "adaptive", "nfe": 10},
            ["'adaptive' chooses its evaluations itself: NFE 10 given; allowed: 0"],
        ),
        (
            {"sampler_options": ("eta",)},
            ["config.diffusion.sampler_options has 'eta'; allowed: 'name=number'"],
        ),
        (
            {"sampler_options": ("eta=much",)},
            ["config.diffusion.sampler_options has 'eta=much'; allowed: 'name=number'"],
        ),
        ({"sampler_options": ("churn=1",)}, ["'ddim' has no option 'churn'; allowed: eta"]),
        ({"sampler_options": ("eta=2",)}, ["ddim: eta = 2; allowed: 0 to 1"]),
        ({"sampler_options": ("eta=nan",)}, ["ddim: eta = nan; allowed: 0 to 1"]),
        (
            {"guidance": 2.0},
            ["config.diffusion.guidance = 2.0", "give config.diffusion.unconditional above 0"],
        ),
        (
            {"sampler": "euler_maruyama", "sde": "rectified_flow"},
            ["'euler_maruyama' does not support the SDE 'rectified_flow'", "allowed: vp, "],
        ),
        ({"sde": "vpsde"}, ["config.diffusion.sde 'vpsde' is unknown", ", ".join(REGISTRY)]),
        (
            {"conditioning": "noisy"},
            ["config.diffusion.conditioning 'noisy' is unknown", ", ".join(MODES)],
        ),
    ],
)
def test_a_config_that_asks_for_an_impossible_draw_is_refused(diffusion, words):
    refused(lambda: configs.from_dict({"diffusion": diffusion}), *words)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("deis", {"order": 2.0}, "deis: order = 2.0; allowed: 1 to 4"),
        ("unipc", {"order": True}, "unipc: order = True; allowed: 1 to 3"),
        ("heun", {"churn": float("nan")}, "heun: churn = nan; allowed: 0 or more, finite"),
        ("heun", {"churn": float("inf")}, "heun: churn = inf; allowed: 0 or more, finite"),
        ("predictor_corrector", {"snr": -1.0}, "snr = -1.0; allowed: 0 to 10"),
        ("adaptive", {"rtol": -1.0}, "adaptive: rtol = -1.0; allowed: above 0 to 1"),
        ("ddim", {"eta": "x"}, "ddim: eta = x; allowed: 0 to 1"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_by_name(method, options, words):
    with pytest.raises(UserError) as error:
        registry.make(method, VP(), None, **options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_dtype_that_cannot_be_had_is_refused():
    keys, grid = jax.random.split(jax.random.key(0), 1), np.array([1.0, 0.5])
    for dtype, words in (("int32", "dtype int32; allowed"), ("float64", "jax_enable_x64 is off")):
        with pytest.raises(UserError, match=words):
            sample(keys, (1,), lambda x, t: x, VP(), grid, dtype=jnp.dtype(dtype))


def test_a_grid_is_refused_options_that_it_does_not_have():
    with pytest.raises(UserError, match="time grid 'karras' has no option 'warp'; allowed: rho"):
        time_grid("karras", VP(), 4, warp=(1.0,))
    with pytest.raises(UserError, match=r"time grid of 2.5 steps; allowed: 1, 2"):
        time_grid("uniform", VP(), 2.5)
