"""The phases of training as PyTorch modules, made of `training_twin.py`: batch -> loss.

Each has `sample`, the randomness of a step that is not dropout, so that a test can hand it
mmdjax's; `parts`, which `torch.compile` is given; and takes mmdjax's parameters (`from_flax`).
"""

from __future__ import annotations

from operator import itemgetter

import jax
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import torch_twin as twin
from benchmarks.training_twin import (
    Decoder,
    Decoders,
    Encoders,
    MulT,
    Scores,
    error,
    filled_valid,
)
from mmdjax.data.missing.patterns import patterns
from mmdjax.diffusion import time_grid
from mmdjax.errors import require


class Classifier(nn.Module):
    """Stage 1: encoders and fusion on complete data."""

    def __init__(self, config, sizes: dict[str, int]):
        super().__init__()
        latents = config.latents
        self.encoders = Encoders(sizes, latents.channels, latents.dropout)
        self.fusion = MulT(len(sizes), latents.frames, latents.channels, config.fusion)

    @property
    def parts(self):
        """What is compiled."""
        return [self]

    def sample(self, batch, frames: int, pattern=None):
        """Return nothing: all randomness is dropout."""

    def forward(self, batch, frames: int, drawn=None) -> Tensor:
        """Return the loss."""
        return error(self.outputs(batch, frames), batch)

    def outputs(self, batch, frames: int) -> Tensor:
        """Return (B, 1)."""
        x, valid = self.encoders(batch["features"], batch["valid"])
        return self.fusion(x[:, :, :frames], valid[:, :, :frames])


class ScorePhase(nn.Module):
    """Stage 1: the score networks, on latents."""

    def __init__(self, config, sizes: dict[str, int]):
        super().__init__()
        self.scores = scores_of(config, len(sizes))

    @property
    def parts(self):
        """What is compiled."""
        return [self.scores]

    def sample(self, batch, frames: int, pattern=None):
        """Return conditions, times and noise of every modality."""
        return self.scores.sample(batch["z"][:, :, :frames])

    def forward(self, batch, frames: int, drawn=None) -> Tensor:
        """Return the loss."""
        drawn = drawn or self.sample(batch, frames)
        return self.scores(batch["z"][:, :, :frames], batch["valid"][:, :, :frames], drawn)


class Completion(nn.Module):
    """Stage 2: fusion and decoders on completed sets."""

    def __init__(self, config, sizes: dict[str, int]):
        super().__init__()
        latents = config.latents
        self.fusion = MulT(len(sizes), latents.frames, latents.channels, config.fusion)
        self.decoders = Decoders(Decoder(latents.channels, config.decoder) for _ in sizes)
        self.weight, self.patterns = config.decoder.weight, 2 ** len(sizes) - 1

    @property
    def parts(self):
        """What is compiled."""
        return [self]

    def sample(self, batch, frames: int, pattern=None):
        """Return which round a row takes, (B,), and whether it is complete instead, (B,)."""
        rows, rounds = batch["observed"].shape[:2]
        device = batch["z"].device
        which = torch.randint(rounds, (rows,), device=device)
        return which, torch.rand(rows, device=device) < 1 / self.patterns

    def forward(self, batch, frames: int, drawn=None) -> Tensor:
        """Return the loss."""
        z, valid = batch["z"][:, :, :frames], batch["valid"][:, :, :frames]
        which, complete = drawn or self.sample(batch, frames)
        rows = torch.arange(len(z), device=z.device)
        complete = complete & valid.any(-1).all(-1)
        observed = batch["observed"][rows, which] | complete[:, None]
        filler = batch["fill"][rows, which][:, :, :frames]
        filled = torch.where(observed[..., None, None], z, filler)
        mask = filled_valid(valid, observed)
        filled = self.decoders(filled, mask, observed)
        mean, std = (a[:, None] for a in batch["scale"])
        given = torch.where(mask[..., None], filled * std + mean, 0.0)
        total = error(self.fusion(given, mask), batch)
        counted = (mask & valid & ~observed[..., None])[..., None]
        wrong = torch.where(counted, (filled - z).abs(), 0.0).sum((1, 2, 3))
        size = (counted.sum((1, 2, 3)) * z.shape[-1]).clamp(min=1)
        return total + self.weight * (wrong / size).mean()


class OneStage(nn.Module):
    """IMDer's one stage, which draws in every step, by DDIM."""

    def __init__(self, config, sizes: dict[str, int]):
        super().__init__()
        latents, diffusion = config.latents, config.diffusion
        self.encoders = Encoders(sizes, latents.channels, latents.dropout)
        self.scores = scores_of(config, len(sizes))
        self.decoders = Decoders(Decoder(latents.channels, config.decoder) for _ in sizes)
        self.fusion = MulT(len(sizes), latents.frames, latents.channels, config.fusion)
        self.grid = time_grid(diffusion.grid, twin.PROCESS, diffusion.nfe)
        self.weight, self.patterns = config.imder.weight, patterns(len(sizes))
        self.denoise = [network.denoise for network in self.scores.networks]

    @property
    def parts(self):
        """What is compiled; how many modalities are drawn differs from step to step."""
        return [self.encoders, self.scores, self.decoders, self.fusion]

    def sample(self, batch, frames: int, pattern=None):
        """Return the number of the batch's pattern, and what the score loss draws; the noise of
        draws is made where it is needed."""
        if pattern is None:
            pattern = int(torch.randint(len(self.patterns), ()))
        shape = len(batch["label"]), len(self.scores.networks), frames, self.fusion.channels
        return pattern, self.scores.sample(batch["label"].new_empty(shape))

    def draw(self, x: Tensor, valid: Tensor, observed: Tensor, missing: list[int]) -> Tensor:
        """Return (B, M, T, D), zero where nothing is missing."""
        drawn, ids = torch.zeros_like(x), self.scores.ids
        mask = filled_valid(valid, observed.expand(len(x), -1))
        for m in missing:
            network, denoise, own = self.scores.networks[m], self.denoise[m], ids[m]
            condition_mask = valid[:, own] & observed[own][:, None]
            with torch.no_grad():
                encoded = network.encode(x[:, own], own, condition_mask)
                noise_fn = lambda x, t, d=denoise, e=encoded, m=m: twin.predict_noise(  # noqa: E731
                    d, x, t, e, mask[:, m]
                )
                noise = torch.randn_like(x[:, m])
                y = twin.ddim(noise_fn, self.grid, noise)
                drawn[:, m] = torch.where(mask[:, m, :, None], y, 0.0)
        return drawn

    def forward(self, batch, frames: int, drawn=None) -> Tensor:
        """Return the loss."""
        x, valid = self.encoders(batch["features"], batch["valid"])
        x, valid = x[:, :, :frames], valid[:, :, :frames]
        which, of_scores = drawn or self.sample(batch, frames)
        pattern = self.patterns[which]
        fixed, observed = x.detach(), torch.from_numpy(pattern).to(x.device)
        scores = self.scores(fixed, valid, of_scores)
        made = self.draw(fixed, valid, observed, np.flatnonzero(~pattern).tolist())
        observed = observed & valid.any(-1)
        filled = torch.where(observed[..., None, None], x, made)
        mask = filled_valid(valid, observed)
        filled = self.decoders(filled, mask, observed)
        output = self.fusion(torch.where(mask[..., None], filled, 0.0), mask)
        counted = (mask & valid & ~observed[..., None])[..., None]
        wrong = torch.where(counted, (filled - fixed) ** 2, 0.0).sum((1, 2, 3))
        size = (counted.sum((1, 2, 3)) * x.shape[-1]).clamp(min=1)
        total = error(output, batch)
        return total + self.weight * (scores + (wrong / size).mean())


PHASES = {"classifier": Classifier, "score": ScorePhase, "draws": Completion, "imder": OneStage}


def scores_of(config, modalities: int) -> Scores:
    """Return untrained score networks of a config; raise `UserError` for what has no twin."""
    score, latents = config.score, config.latents
    known = score.network == "score_transformer" and score.patch == 1
    require(known, f"score network {score.network!r}", "score_transformer, patch 1")
    names = ("width", "layers", "heads", "mlp", "time_features", "fourier_scale", "attention")
    sizes = {name: getattr(score, name) for name in names}
    made = (
        twin.ScoreTransformer(modalities, latents.frames, latents.channels, **sizes)
        for _ in range(modalities)
    )
    return Scores(list(made))


def from_flax(module: nn.Module, params: dict) -> nn.Module:
    """Put mmdjax's parameters of a phase into its module, and return it."""
    params = jax.tree.map(np.asarray, params)
    if isinstance(module, ScorePhase):
        params = {"score": params}
    loaders = {"encoders": _encoders, "fusion": _fusion, "score": _scores, "decoder": _decoders}
    for name, tree in params.items():
        loaders[name](module, tree)
    return module


def _load(module: nn.Module, state: dict) -> None:
    module.load_state_dict({name: torch.tensor(a) for name, a in state.items()})


def _encoders(module, params) -> None:
    for m, conv in module.encoders.convs.items():
        _load(conv, {"weight": params["params"][m]["Conv_0"]["kernel"].transpose(2, 1, 0)})


def _scores(module, params) -> None:
    for m, network in enumerate(module.scores.networks):
        network.load_state_dict(twin.state_of(jax.tree.map(itemgetter(m), params)))


def _fusion(module, params) -> None:
    tree = dict(params["params"])
    for name in ("cross", "memory"):
        stacks = tree.pop(name)
        for i, stack in enumerate(getattr(module.fusion, name)):
            own = jax.tree.map(itemgetter(i), stacks)
            _load(stack.norm, {"weight": own["norm"]["scale"], "bias": own["norm"]["bias"]})
            for j, layer in enumerate(stack.layers):
                leaves = twin.fused(jax.tree.map(itemgetter(j), own["layers"]))
                _load(layer, twin.weights_of(leaves))
    for name, leaves in tree.items():
        _load(getattr(module.fusion, name), {"weight": leaves["kernel"].T, "bias": leaves["bias"]})


def _decoders(module, params) -> None:
    def conv(leaves) -> dict:
        kernel = leaves["window"]["kernel"]  # (3 C_in, C_out), the three frames one by one
        weight = kernel.reshape(3, -1, kernel.shape[1]).transpose(2, 1, 0)
        return {"weight": weight, "bias": leaves["window"]["bias"]}

    for m, decoder in enumerate(module.decoders):
        tree = dict(jax.tree.map(itemgetter(m), params)["params"])
        blocks = tree.pop("blocks")
        for name, leaves in tree.items():
            _load(getattr(decoder, name), conv(leaves))
        for i, block in enumerate(decoder.blocks):
            for name, leaves in jax.tree.map(itemgetter(i), blocks).items():
                dense = "kernel" in leaves and {
                    "weight": leaves["kernel"].T,
                    "bias": leaves["bias"],
                }
                _load(getattr(block, name), dense or conv(leaves))
