"""A training step of a phase on either side of `vs_torch_training.py`, on made-up arrays.

A case says 'phase', 'config' (plain), 'shapes' (modality -> frames and channels), 'batch', 'frames'
(of the length bucket) and 'library': mmdjax, eager or compile. A run is `TURN` steps, or one for
each availability pattern in IMDer's stage, which draws what its batch's pattern lacks: both sides
take the same patterns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

TURN = 3
TOTAL = 1000  # steps of the schedule
SETTINGS = {
    "classifier": "classifier_training",
    "score": "score_training",
    "draws": "stage2_training",
    "imder": "imder_training",
}


def config_of(case: dict):
    """Return the checked config of a case."""
    from mmdjax import config as configs
    from mmdjax.config.resolve import changed

    method = "imder" if case["phase"] == "imder" else "two_stage"
    recipe = case["config"]["diffusion"]["recipe"]
    anew = [f"diffusion.recipe={recipe}"] if recipe else []  # what it is may depend on the method
    config = configs.from_dict(changed(case["config"], anew) | {"method": method})
    if case["phase"] != "imder":
        return config
    # The twin draws by DDIM; as many evaluations of any other solver cost the same.
    nfe = config.diffusion.nfe
    changes = {"recipe": "", "sampler": "ddim", "grid": "quadratic", "nfe": nfe}
    changes |= {"grid_options": (), "sampler_options": (), "student": ""}
    return dataclasses.replace(config, diffusion=dataclasses.replace(config.diffusion, **changes))


def rows_of(config, phase: str, shapes: dict, batch: int, frames: int) -> tuple[dict, dict]:
    """Return the arrays of a batch, and what all batches share, as the phase's loss reads them."""
    from mmdjax.data.missing.patterns import patterns
    from mmdjax.methods.latent.modules import Scale

    rng, latents, count = np.random.default_rng(0), config.latents, len(shapes)

    def normal(*shape) -> np.ndarray:
        return rng.standard_normal((batch, *shape), np.float32)

    def first(length: int) -> np.ndarray:
        return np.broadcast_to(np.arange(length) < frames, (batch, length)).copy()

    label = normal().clip(-3, 3)
    if phase in ("classifier", "imder"):
        features = {m: normal(*shape) for m, shape in shapes.items()}
        valid = {m: first(length) for m, (length, _) in shapes.items()}
        return {"features": features, "valid": valid, "label": label}, {}
    z = normal(count, latents.frames, latents.channels)
    valid = np.repeat(first(latents.frames)[:, None], count, 1)
    rows = {"z": z, "valid": valid}
    if phase == "score":
        return rows, {}
    some = patterns(count)[:-1]  # incomplete ones
    observed = some[rng.integers(len(some), size=(batch, config.rounds))]
    rows |= {"label": label, "observed": observed}
    rows |= {"fill": normal(config.rounds, count, latents.frames, latents.channels)}
    unit = np.ones((count, latents.channels), np.float32)
    return rows, {"scale": Scale(0 * unit, unit)}


def imports(case: dict) -> None:
    """Import what a case needs, before its memory is counted; set up as `mmdjax.main` does."""
    if case["library"] == "mmdjax":
        from mmdjax.runtime.devices import set_up_cpu

        set_up_cpu(1)
        import benchmarks.cold_start
        import mmdjax.training.train  # noqa: F401
    else:
        import benchmarks.training_phases  # noqa: F401


def build(case: dict) -> Callable:
    """Return a call that takes a turn's steps and waits for their end."""
    return (jax_steps if case["library"] == "mmdjax" else torch_steps)(case)


def steps_a_turn(case: dict) -> int:
    """Return how many steps a run takes."""
    return 2 ** len(case["shapes"]) - 1 if case["phase"] == "imder" else TURN


def phase_of(case: dict):
    """Return the config, mmdjax's `Phase`, and its initial parameters."""
    import jax

    from benchmarks.cold_start import untrained

    config = config_of(case)
    method, params = untrained(config, {m: tuple(shape) for m, shape in case["shapes"].items()})
    phase = next(phase for phase in method.phases if phase.name == case["phase"])
    return config, phase, jax.device_get(params[phase.name]), method


def jax_steps(case: dict) -> Callable:
    """Return mmdjax's own step, as its training loop calls it."""
    import jax

    from mmdjax.training.step import make_trainer, where_of

    config, phase, params, method = phase_of(case)
    rows, common = rows_of(config, case["phase"], case["shapes"], case["batch"], case["frames"])
    if case["phase"] == "imder":
        common = {"grid": method.drawer.grid}
    settings = dataclasses.replace(phase.settings, batch=case["batch"])
    trainer = make_trainer(phase.loss, settings, TOTAL, config.mesh)
    place, state, key = trainer.placement, trainer.init(params), jax.random.key(1)
    batch, weight = place.batch((rows, np.ones(case["batch"], np.float32)))
    common = place.copied(common)
    turn = [where_of(key, 0, step) for step in range(TURN)]
    if case["phase"] == "imder":
        turn = patterns_in_turn(key, 2 ** len(case["shapes"]) - 1)

    def run() -> None:
        nonlocal state
        for where in turn:
            made = trainer.step(state, batch, common, weight, where, frames=case["frames"])
            state = place.settled(made)
        jax.block_until_ready(state.params)

    return run


def patterns_in_turn(key, count: int) -> list[np.ndarray]:
    """Return what steps' randomness is made of, one for each pattern of `imder_loss`."""
    import jax

    from mmdjax.training.step import where_of

    found, step = {}, 0
    while len(found) < count:
        where = where_of(key, 0, step)
        own = jax.random.wrap_key_data(where[:2])
        for part in where[2:]:
            own = jax.random.fold_in(own, part)
        pattern = int(jax.random.randint(jax.random.split(own, 5)[1], (), 0, count))
        found.setdefault(pattern, where)
        step += 1
    return [found[pattern] for pattern in range(count)]


def module_of(case: dict):
    """Return the twin of a case's phase, untrained, its batch, and the patterns of a turn."""
    import torch

    from benchmarks.training_phases import PHASES

    config, phase = config_of(case), case["phase"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    module = PHASES[phase](config, {m: size for m, (_, size) in case["shapes"].items()})
    rows, common = rows_of(config, phase, case["shapes"], case["batch"], case["frames"])
    patterns = range(steps_a_turn(case)) if phase == "imder" else [None] * TURN
    return config, module.to(device).train(), on_torch(rows | common, device), patterns


def torch_steps(case: dict) -> Callable:
    """Return the twin's step."""
    import torch

    config, module, batch, patterns = module_of(case)
    cuda = torch.cuda.is_available()
    if case["library"] == "compile":
        compile_parts(module, cuda)
    step = torch_step(module, getattr(config, SETTINGS[case["phase"]]), TOTAL)

    def run() -> None:
        for pattern in patterns:
            step(batch, case["frames"], pattern)
        if cuda:
            torch.cuda.synchronize()

    return run


def on_torch(tree, device):
    """Return the same arrays as tensors."""
    import torch

    if isinstance(tree, dict):
        return {name: on_torch(branch, device) for name, branch in tree.items()}
    if isinstance(tree, tuple):
        return tuple(on_torch(branch, device) for branch in tree)
    return torch.from_numpy(tree).to(device)


def compile_parts(module, cuda: bool) -> None:
    """Compile a phase: on a GPU its parts as CUDA graphs; on a CPU the layers that it repeats, each
    kind once, since compiling all of them as one program takes a quarter of an hour and more."""
    import torch

    from benchmarks.torch_twin import Layer
    from benchmarks.training_twin import Block

    if cuda:
        for part in module.parts:
            part.compile(mode="reduce-overhead")
        if hasattr(module, "denoise"):
            graphs = {"mode": "reduce-overhead"}
            module.denoise = [torch.compile(denoise, **graphs) for denoise in module.denoise]
        return
    for layer in module.modules():
        if isinstance(layer, (Layer, Block)):
            layer.compile()
        if isinstance(layer, Layer):
            layer.across = torch.compile(layer.across)


def counted(case: dict) -> float:
    """Return the operations of a step, forward and backward, two for a multiply-add; the mean over
    patterns. Those of matrix products and convolutions, elementwise ones left out."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    _, module, batch, patterns = module_of(case)
    frames = case["frames"]
    # Attention as plain products, which are counted.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for pattern in patterns:
            module(batch, frames, module.sample(batch, frames, pattern)).backward()
    return counter.get_total_flops() / len(patterns)


def torch_step(module, settings, total: int) -> Callable:
    """Return (batch, frames, pattern) -> loss of a step: gradient, clipping, AdamW with warm-up and
    cosine decay, and the moving average, as `mmdjax.training`.

    Args:
      settings: `mmdjax.config.Training`. total: steps of the schedule. The averaged parameters are
      `step.averages`, those of the module where there is no averaging.
    """
    import torch

    parameters, taken = list(module.parameters()), 0
    averages = [p.detach().clone() for p in parameters] if settings.ema else parameters
    optimiser = torch.optim.AdamW(
        parameters, lr=0.0, weight_decay=settings.weight_decay, fused=True
    )
    warmup = min(settings.warmup, total // 2)

    def rate() -> float:
        if taken < warmup:
            return settings.learning_rate * taken / warmup
        done = min((taken - warmup) / (max(total, warmup + 1) - warmup), 1.0)
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def step(batch, frames: int, pattern=None):
        nonlocal taken
        optimiser.param_groups[0]["lr"] = rate()
        drawn = module.sample(batch, frames, pattern)
        optimiser.zero_grad(set_to_none=True)
        loss = module(batch, frames, drawn)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step()
        if settings.ema:
            decay = min(settings.ema, (1 + taken) / (10 + taken))
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - decay)
        taken += 1
        return loss

    step.averages = averages
    return step
