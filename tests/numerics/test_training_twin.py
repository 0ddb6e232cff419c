"""The PyTorch twin of the training phases has mmdjax's arithmetic: with its weights, its losses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import training_cases
from mmdjax import config as configs
from tests.conftest import TINY

torch = pytest.importorskip("torch", reason="the twin needs PyTorch, of the extra bench")
pytestmark = pytest.mark.usefixtures("compiled_in_haste")

SHAPES = {"language": (6, 5), "acoustic": (6, 4), "vision": (6, 3)}
BATCH, FRAMES = 8, 3
UNSURE = {"latents": {"dropout": 0.0}, "fusion": {"dropout": 0.0, "attention_dropout": 0.0}}


def small(phase: str) -> dict:
    """A case without dropout, in which all else that is random can be handed over."""
    values = {group: dict(fields) for group, fields in TINY.items()}
    for group, fields in UNSURE.items():
        values[group] |= fields
    values["data"]["length_buckets"] = (3, 4)
    values["score"]["attention"] = "prefix"
    config = configs.to_dict(configs.from_dict(values))
    about = {"phase": phase, "config": config, "shapes": SHAPES, "batch": BATCH, "frames": FRAMES}
    return about | {"library": "eager"}


def both(phase: str, drawn_of=lambda batch, key: None, key=None):
    """Return the losses, and the gradients' norms, of mmdjax and of the twin.

    Args:
      drawn_of: (batch of the twin, key) -> what its loss draws, as mmdjax's does.
      key: of mmdjax's loss.
    """
    from benchmarks.training_phases import PHASES, from_flax

    case, key = small(phase), jax.random.key(5) if key is None else key
    config, own, params, method = training_cases.phase_of(case)
    rng = np.random.default_rng(3)
    params = jax.tree.map(  # biases and the decoders' last layers are zero at the start
        lambda a: np.asarray(a + 0.05 * rng.standard_normal(a.shape), np.float32), params
    )
    rows, common = training_cases.rows_of(config, phase, SHAPES, BATCH, FRAMES)
    if phase == "imder":
        common = {"grid": method.drawer.grid}
    arrays, weight = jax.device_put(rows | common), np.ones(BATCH, np.float32)
    of_params = jax.value_and_grad(lambda p: own.loss(p, arrays, weight, key, FRAMES))
    loss, gradient = jax.jit(of_params)(params)
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient)))
    sizes = {m: size for m, (_, size) in SHAPES.items()}
    module = from_flax(PHASES[phase](config, sizes).train(), params)
    batch = training_cases.on_torch(rows if phase == "imder" else rows | common, "cpu")
    other = module(batch, FRAMES, drawn_of(batch, key))
    other.backward()
    squares = sum((p.grad**2).sum() for p in module.parameters() if p.grad is not None)
    return (float(loss), float(norm)), (float(other.detach()), float(squares**0.5))


def test_the_classifiers_loss_and_gradient_are_those_of_mmdjax():
    mine, other = both("classifier")
    assert mine == pytest.approx(other, rel=1e-4)


def of_scores(key):
    """What `losses.score_loss` draws with a key: conditions, times and noise."""
    from mmdjax.diffusion.losses import training_times
    from mmdjax.diffusion.sde import VP
    from mmdjax.methods.latent.losses import random_conditions

    found, shape = [], (BATCH, FRAMES, TINY["latents"]["channels"])
    for own in jax.random.split(key, len(SHAPES)):
        keys = jax.random.split(own, 3)
        kept = random_conditions(keys[0], jnp.ones((BATCH, len(SHAPES) - 1), bool))
        arrays = kept, training_times(keys[1], BATCH, VP()), jax.random.normal(keys[2], shape)
        found.append(tuple(torch.tensor(np.asarray(a)) for a in arrays))
    return found


def test_the_score_networks_loss_and_gradient_are_those_of_mmdjax():
    mine, other = both("score", lambda batch, key: of_scores(key))
    assert mine == pytest.approx(other, rel=1e-4)


def test_the_loss_and_gradient_of_stage_2_are_those_of_mmdjax():
    def drawn(batch, key):
        keys, rounds = jax.random.split(key, 3), batch["observed"].shape[1]
        which = jax.random.randint(keys[0], (BATCH,), 0, rounds)
        complete = jax.random.bernoulli(keys[1], 1 / (2 ** len(SHAPES) - 1), (BATCH,))
        return torch.tensor(np.asarray(which)).long(), torch.tensor(np.asarray(complete))

    mine, other = both("draws", drawn)
    assert mine == pytest.approx(other, rel=1e-4)


def test_a_step_of_the_optimiser_is_that_of_mmdjax():
    """Clipping, warm-up, AdamW, and the moving average of the parameters."""
    from mmdjax.training.step import make_trainer, where_of

    settings = configs.Training(batch=4, warmup=2, learning_rate=0.1, clip=0.5, ema=0.9)
    total = 6
    start = np.random.default_rng(0).standard_normal(7).astype(np.float32)

    def loss(params, data, weight, key, frames):
        return ((params["x"] - 1) ** 4).sum() * data["rows"].mean()

    trainer = make_trainer(loss, settings, total)
    state = trainer.init({"x": start})
    rows = {"rows": np.ones(4, np.float32)}

    class Quartic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.x = torch.nn.Parameter(torch.tensor(start))

        def sample(self, batch, frames, pattern=None):
            return None

        def forward(self, batch, frames, drawn=None):
            return ((self.x - 1) ** 4).sum()

    module = Quartic()
    step = training_cases.torch_step(module, dataclasses.replace(settings), total)
    for index in range(total):
        batch, weight = trainer.placement.batch((rows, np.ones(4, np.float32)))
        where = where_of(jax.random.key(0), 0, index)
        state = trainer.step(state, batch, {}, weight, where, frames=1)
        step(None, 1)
        np.testing.assert_allclose(state.params[:7], module.x.detach(), rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(state.average[:7], step.averages[0], rtol=2e-4, atol=1e-5)


def test_the_loss_and_gradient_of_imders_stage_are_those_of_mmdjax_where_nothing_is_drawn():
    count = 2 ** len(SHAPES) - 1
    where = training_cases.patterns_in_turn(jax.random.key(1), count)[-1]  # all is observed
    key = jax.random.wrap_key_data(where[:2])
    for part in where[2:]:
        key = jax.random.fold_in(key, part)

    def drawn(batch, key):
        return count - 1, of_scores(jax.random.split(key, 5)[2])

    mine, other = both("imder", drawn, key)
    assert mine == pytest.approx(other, rel=1e-4)


def test_imders_stage_draws_what_the_pattern_of_a_batch_lacks():
    from benchmarks.training_phases import PHASES

    case = small("imder")
    config = training_cases.config_of(case)
    rows, _ = training_cases.rows_of(config, "imder", SHAPES, BATCH, FRAMES)
    batch = training_cases.on_torch(rows, "cpu")
    module = PHASES["imder"](config, {m: size for m, (_, size) in SHAPES.items()}).train()
    x, valid = module.encoders(batch["features"], batch["valid"])
    x, valid = x[:, :, :FRAMES].detach(), valid[:, :, :FRAMES]
    for number, pattern in enumerate(module.patterns):
        missing = np.flatnonzero(~pattern)
        drawn = module.draw(x, valid, torch.from_numpy(pattern), missing.tolist())
        assert (drawn.abs().sum((0, 2, 3)) > 0).tolist() == (~pattern).tolist()
        assert torch.isfinite(module(batch, FRAMES, module.sample(batch, FRAMES, number)))


def test_both_sides_of_imders_stage_meet_every_pattern_once_a_turn():
    key = jax.random.key(1)
    turn = training_cases.patterns_in_turn(key, 7)
    assert len({tuple(where.tolist()) for where in turn}) == 7
