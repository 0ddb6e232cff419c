"""One side of the benchmarks against PyTorch: a process that builds cases on request and times one
run at a time.

Requests and answers are lines of JSON on stdin and stdout. Threads, malloc and virtual devices are
set by the environment it is started with.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.side_machine import (
    bandwidth,
    ceiling,
    forget_peak,
    on_device,
    resident,
    set_precision,
)

FRAMES, CHANNELS, MODALITIES = 48, 32, 3


def inputs(batch: int):
    """condition, ids, mask, condition_mask of one missing modality given two, and noise."""
    rng = np.random.default_rng(0)
    condition = rng.standard_normal((batch, 2, FRAMES, CHANNELS)).astype(np.float32)
    ids = np.tile([1, 2], (batch, 1)).astype(np.int32)
    mask, condition_mask = np.ones((batch, FRAMES), bool), np.ones((batch, 2, FRAMES), bool)
    noise = rng.standard_normal((batch, FRAMES, CHANNELS)).astype(np.float32)
    return condition, ids, mask, condition_mask, noise


def parameters(score: dict):
    """Of one network of these sizes (fields of `config.Score`), seeded: the same in every process,
    and perturbed, so that biases and norms matter."""
    import jax

    from mmdjax.networks.score_transformer import ScoreTransformer1D

    net = ScoreTransformer1D(MODALITIES, FRAMES, CHANNELS, **score)
    condition, ids, mask, condition_mask, noise = inputs(1)
    init = jax.jit(net.init)(
        jax.random.key(0), noise, np.ones(1), condition, ids, mask, condition_mask
    )
    rng = np.random.default_rng(1)
    return net, jax.tree.map(
        lambda a: np.asarray(a + 0.02 * rng.standard_normal(a.shape), np.float32), init
    )


def jax_case(case: dict) -> Callable:
    """A whole compiled draw, as the system makes it."""
    import jax

    from mmdjax import config as configs
    from mmdjax.methods.latent.draw import make_drawer
    from mmdjax.methods.latent.modules import build
    from mmdjax.runtime.devices import on_all_devices

    diffusion = {k: case[k] for k in ("sampler", "grid", "grid_options", "nfe")}
    diffusion["dtype"] = case["dtype"].replace("tf32", "float32")
    config = configs.from_dict({"score": case["score"], "diffusion": diffusion})
    modules = build(config, ("a", "b", "c"))
    drawer = make_drawer(modules, config.diffusion)
    params = parameters(case["score"])[1]
    params = jax.tree.map(lambda a: np.stack([a] * MODALITIES), params)
    params = on_all_devices(params, case["batch"])
    condition, ids, mask, condition_mask, _ = inputs(case["batch"])
    keys = jax.random.split(jax.random.key(1), (1, case["batch"], 1))
    arguments = (np.array([0], np.int32), condition, ids, mask, condition_mask, keys)
    settings = (drawer.grid, np.float32(1))
    return lambda: jax.block_until_ready(drawer.draw(params, *arguments, *settings))


def traffic(case: dict) -> float:
    """Bytes that XLA's cost analysis says a draw reads and writes, each operation by itself.

    It counts a scanned body once, so one layer is the difference of two layers and one.
    """
    import jax

    condition, ids, mask, condition_mask, noise = inputs(case["batch"])

    def of(layers: int) -> tuple[float, float]:
        net, params = parameters(case["score"] | {"layers": layers})
        encode = jax.jit(lambda *a: net.apply(*a, method="encode"))
        denoise = jax.jit(lambda *a: net.apply(*a, method="denoise"))
        given = (params, condition, ids, condition_mask)
        shape = jax.eval_shape(encode, *given)
        time_ = np.ones(case["batch"], np.float32)
        programs = encode.lower(*given), denoise.lower(params, noise, time_, shape, mask)
        return tuple(p.compile().cost_analysis()["bytes accessed"] for p in programs)

    one, two = np.array(of(1)), np.array(of(2))
    encoding, evaluation = one + (case["score"]["layers"] - 1) * (two - one)
    return float(encoding + case["nfe"] * evaluation)


def naive_case(case: dict) -> Callable:
    """JAX as one writes it first: a Python loop of jitted steps, einsum attention of the library,
    every layer for every token."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from mmdjax.diffusion import VP, time_grid

    sizes, sde = case["score"], VP()

    class Naive(nn.Module):
        @nn.compact
        def __call__(self, x, t, condition):
            z = jnp.concatenate([x[:, None], condition], 1).reshape(len(x), -1, CHANNELS)
            z = nn.Dense(sizes["width"])(z) + nn.Dense(sizes["width"])(t[:, None])[:, None]
            for _ in range(sizes["layers"]):
                attention = nn.MultiHeadDotProductAttention(sizes["heads"])
                z = z + attention(nn.LayerNorm()(z))
                y = nn.gelu(nn.Dense(sizes["mlp"])(nn.LayerNorm()(z)))
                z = z + nn.Dense(sizes["width"])(y)
            return nn.Dense(CHANNELS)(z)[:, :FRAMES]

    condition, _, _, _, noise = inputs(case["batch"])
    net = Naive()
    t0 = np.ones(case["batch"], np.float32)
    params = jax.jit(net.init)(jax.random.key(0), noise, t0, condition)
    grid = time_grid(case["grid"], sde, case["nfe"]).astype(np.float32)

    @jax.jit
    def step(params, x, t, t_next, condition):
        (alpha, std), (alpha2, std2) = sde.marginal(t), sde.marginal(t_next)
        v = net.apply(params, x, jnp.broadcast_to(t, len(x)), condition)
        noise = alpha * v + std * x
        return alpha2 / alpha * x + (std2 - alpha2 / alpha * std) * noise

    def draw():
        x = noise
        for t, t_next in itertools.pairwise(grid):
            x = step(params, x, t, t_next, condition)
        return jax.block_until_ready(x)

    return draw


def torch_case(case: dict) -> Callable:
    """The twin through a Python loop: eager, compiled, or under a scheduler of diffusers."""
    import jax
    import torch

    from benchmarks import torch_twin as twin
    from mmdjax.diffusion import VP, time_grid

    net, params = parameters(case["score"])
    sizes = {k: v for k, v in case["score"].items() if k != "patch"}
    network = twin.from_flax(params, modalities=MODALITIES, **sizes)
    arrays = inputs(case["batch"])
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    network, tensors = network.to(device), (torch.from_numpy(a).to(device) for a in arrays)
    condition, ids, mask, condition_mask, noise = tensors
    ids, given = ids.long(), (mask, condition_mask)
    half = np.full(case["batch"], 0.5, np.float32)
    with torch.inference_mode():
        got = network(noise, torch.from_numpy(half).to(device), condition, ids, *given)
    want = jax.jit(net.apply)(params, arrays[4], half, *arrays[:4])
    case["difference"] = float(np.abs(got.cpu().numpy() - np.asarray(want)).max())
    if case["dtype"] == "bfloat16":
        network = twin.with_dtype(network, torch.bfloat16)
    denoise = network.denoise
    if case["form"] == "compile":  # on a GPU with CUDA graphs
        denoise = torch.compile(denoise, mode="reduce-overhead" if cuda else None)
    grid = time_grid(case["grid"], VP(), case["nfe"])

    @torch.inference_mode()
    def draw():
        encoded = network.encode(condition, ids, condition_mask)
        noise_fn = lambda x, t: twin.predict_noise(denoise, x, t, encoded, mask)  # noqa: E731
        if case["form"] == "diffusers":
            from benchmarks.torch_diffusers import diffusers_sampler, discrete

            x = diffusers_sampler(case["sampler"], case["nfe"])(discrete(noise_fn), noise)
        elif case["sampler"] == "euler_maruyama":
            x = twin.euler_maruyama(noise_fn, grid, noise)
        else:
            x = twin.ddim(noise_fn, grid, noise)
        return x.cpu()  # waits for the device

    return draw


def imder_case(case: dict) -> Callable:
    """IMDer's own code, see `imder_checkout.py`."""
    from benchmarks.imder_checkout import draw_call

    return draw_call(case["checkout"], case["batch"])


def training_case(case: dict) -> Callable:
    """A few training steps of one phase, see `training_cases.py`."""
    from benchmarks import training_cases

    return training_cases.build(case)


FORMS = {"mmdjax": jax_case, "naive": naive_case, "imder": imder_case, "training": training_case}


def build(case: dict) -> tuple[Callable, dict]:
    """Return a case that ran once, and what that took.

    `first` is the whole of it, `first_call` the first run alone, which compiles; `before` what the
    process held before, 0 where memory is that of a GPU.
    """
    if case["form"] == "training":
        from benchmarks import training_cases

        training_cases.imports(case)
    set_precision(case["dtype"])
    before, started = resident("VmRSS"), time.perf_counter()
    run = FORMS.get(case["form"], torch_case)(case)
    built = time.perf_counter()
    run()
    ended = time.perf_counter()
    found = {"first": ended - started, "first_call": ended - built}
    found |= {"before": 0 if on_device() else before, "difference": case.get("difference")}
    return run, found


def timed(case: dict, run: Callable, least: float) -> dict:
    """Return seconds of a run, repeated for `least` seconds, and bytes: `peak`, what runs add to
    the process at most, and `most`, the most of a GPU, or of the process."""
    set_precision(case["dtype"])
    forget_peak()
    before, started = resident("VmRSS"), time.perf_counter()
    count, seconds = 0, 0.0
    while count == 0 or seconds < least:
        run()
        count, seconds = count + 1, time.perf_counter() - started
    peak = resident("VmHWM")
    most = on_device() or peak
    return {"seconds": seconds / count, "peak": max(0, peak - before), "most": most}


def main() -> None:
    from mmdjax.runtime.compilation import keep_programs

    keep_programs()
    cases = {}
    answer = sys.stdout
    sys.stdout = sys.stderr  # libraries that print do not answer
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "ceiling":
            result = {"rate": ceiling(request["case"]), "bandwidth": bandwidth()}
        elif request["do"] == "traffic":
            result = {"bytes": traffic(request["case"])}
        elif request["do"] == "operations":
            from benchmarks.training_cases import counted

            result = {"operations": counted(request["case"])}
        elif request["do"] == "build":
            run, result = build(request["case"])
            cases[request["name"]] = request["case"], run
        else:
            result = timed(*cases[request["name"]], request.get("least", 0))
        print(json.dumps(result), file=answer, flush=True)


if __name__ == "__main__":
    main()
