"""The training phases in PyTorch: what mmdjax's training steps are measured against.

Same layers, shapes, dropout, masks and losses as `mmdjax.methods`, written the way PyTorch is
usually written: `Conv1d`, `scaled_dot_product_attention`, a Python loop over modalities and pairs.
Each phase is a module from a batch to its loss; `parts` are what `torch.compile` is given. Batches
are those of `training_cases.py`; score networks are those of `torch_twin.py`. Labels are sentiment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import torch_twin as twin
from mmdjax.networks.attention import MASKED
from mmdjax.networks.embeddings import sinusoidal_positions
from mmdjax.networks.encoders import KERNEL


def others(modalities: int) -> list[list[int]]:
    """Return for each modality the indices of the other ones."""
    return [[j for j in range(modalities) if j != i] for i in range(modalities)]


def filled_valid(valid: Tensor, observed: Tensor) -> Tensor:
    """Return the frames of a completed row, of valid (B, M, T) and observed (B, M); see
    `mmdjax.methods.latent.cover`."""
    shown = valid & observed[..., None]
    return torch.where(observed[..., None], valid, shown.any(1, keepdim=True))


def error(output: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of outputs (B, 1): the mean absolute error; rows that fill a batch up have
    'weight' 0."""
    each = (output[:, 0] - batch["label"]).abs()
    return (each * batch["weight"]).mean() if "weight" in batch else each.mean()


class Encoders(nn.Module):
    """A convolution of kernel 3 for each modality; features have `frames` + 2 frames."""

    def __init__(self, sizes: dict[str, int], channels: int, dropout: float):
        super().__init__()
        self.convs = nn.ModuleDict(
            {m: nn.Conv1d(size, channels, KERNEL, bias=False) for m, size in sizes.items()}
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, features: dict[str, Tensor], valid: dict[str, Tensor]):
        """features[m] (B, T + 2, C_m), valid[m] (B, T + 2) -> (B, M, T, D), (B, M, T)."""
        latents, masks = [], []
        for m, conv in self.convs.items():
            there = valid[m]
            x = self.drop(torch.where(there[..., None], features[m], 0.0))
            y = conv(x.transpose(1, 2)).transpose(1, 2)
            covered = there[:, :-2] | there[:, 1:-1] | there[:, 2:]
            latents.append(torch.where(covered[..., None], y, 0.0))
            masks.append(covered)
        return torch.stack(latents, 1), torch.stack(masks, 1)


class Stack(nn.Module):
    """Transformer layers over one source, and a final norm."""

    def __init__(self, width: int, layers: int, heads: int, rates: tuple[float, float]):
        super().__init__()
        made = (twin.Layer(width, heads, 4 * width, *rates) for _ in range(layers))
        self.layers, self.norm = nn.ModuleList(made), nn.LayerNorm(width, twin.EPSILON)

    def forward(self, x: Tensor, source: Tensor | None, bias: Tensor) -> Tensor:
        """x (B, S, W), source (B, R, W) or None for x itself, bias (B, 1, 1, R) -> (B, S, W)."""
        for layer in self.layers:
            x = layer(x, bias)[0] if source is None else layer.across(x, source, bias)
        return self.norm(x)


class MulT(nn.Module):
    """Twin of `mmdjax.networks.fusion.MulT`."""

    def __init__(self, modalities: int, frames: int, channels: int, fusion):
        super().__init__()
        rates = (fusion.attention_dropout, fusion.dropout)
        joined = channels * (modalities - 1)
        self.pairs = [(i, j) for i, row in enumerate(others(modalities)) for j in row]
        self.cross = nn.ModuleList(
            Stack(channels, fusion.layers, fusion.heads, rates) for _ in self.pairs
        )
        self.memory = nn.ModuleList(
            Stack(joined, fusion.layers, fusion.heads, rates) for _ in range(modalities)
        )
        self.drop = nn.Dropout(fusion.dropout)
        width = modalities * joined
        self.mlp_in, self.mlp_out = nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 1)
        self.frames, self.channels = frames, channels
        positions = torch.from_numpy(sinusoidal_positions(frames, channels))
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, M, T, D), valid (B, M, T) -> (B, 1)."""
        x = x * self.channels**0.5 + self.positions[: x.shape[2]]
        x = self.drop(torch.where(valid[..., None], x, 0.0))
        bias = torch.where(valid, 0.0, MASKED)[:, :, None, None]
        cross = [
            stack(x[:, i], x[:, j], bias[:, j])
            for stack, (i, j) in zip(self.cross, self.pairs, strict=True)
        ]
        each, tokens = len(self.pairs) // len(self.memory), []
        last = (x.shape[2] - 1 - valid.flip(-1).int().argmax(-1)).clamp(min=0)
        rows = torch.arange(len(x), device=x.device)
        for m, stack in enumerate(self.memory):
            joined = torch.cat(cross[m * each : (m + 1) * each], dim=-1)
            tokens.append(stack(joined, None, bias[:, m])[rows, last[:, m]])
        h = torch.cat(tokens, dim=-1)
        h = h + self.mlp_out(self.drop(F.relu(self.mlp_in(h))))
        return self.head(h)


class Block(nn.Module):
    """A residual block with channel attention over valid frames."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.conv_in, self.conv_out = (conv3(channels, channels) for _ in range(2))
        inside = max(channels // reduction, 1)
        self.squeeze, self.excite = nn.Linear(channels, inside), nn.Linear(inside, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, T), mask (B, 1, T) of 0 and 1."""
        y = self.conv_out(F.relu(self.conv_in(x * mask)) * mask) * mask
        pooled = y.sum(2) / mask.sum(2).clamp(min=1.0)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))
        return x + y * gate[..., None]


def conv3(inputs: int, outputs: int) -> nn.Conv1d:
    """Return a convolution of kernel 3 that keeps the length."""
    return nn.Conv1d(inputs, outputs, KERNEL, padding=1)


class Decoder(nn.Module):
    """Twin of `mmdjax.networks.alignment.AlignmentDecoder`."""

    def __init__(self, channels: int, decoder):
        super().__init__()
        inside = decoder.channels
        self.head, self.body_out = conv3(channels, inside), conv3(inside, inside)
        self.tail = conv3(inside, channels)
        self.blocks = nn.ModuleList(Block(inside, decoder.reduction) for _ in range(decoder.blocks))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) -> (B, T, D), zero where not valid."""
        x = torch.where(valid[..., None], x, 0.0).transpose(1, 2)
        mask = valid[:, None].to(x.dtype)
        y = h = self.head(x)
        for block in self.blocks:
            y = block(y, mask)
        y = h + self.body_out(y * mask)
        return ((x + self.tail(y * mask)) * mask).transpose(1, 2)


class Decoders(nn.ModuleList):
    """A decoder for each modality."""

    def forward(self, x: Tensor, valid: Tensor, observed: Tensor) -> Tensor:
        """Return (B, M, T, D) with what is not observed decoded; see `latent.modules.align`."""
        decoded = torch.stack([own(x[:, m], valid[:, m]) for m, own in enumerate(self)], 1)
        return torch.where(observed[..., None, None], x, decoded)


class Scores(nn.Module):
    """The score networks of all modalities, and the loss of denoising score matching."""

    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("ids", torch.tensor(others(len(networks))), persistent=False)

    @property
    def parts(self):
        """What is compiled."""
        return [self]

    def sample(self, z: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return for each modality conditions (B, M - 1) bool, times (B,) and noise (B, T, D)."""
        batch, modalities, frames, channels = z.shape
        made, device = [], z.device
        for _ in range(modalities):
            subset = torch.randint(1, 2 ** (modalities - 1), (batch, 1), device=device)
            kept = (subset >> torch.arange(modalities - 1, device=device)) % 2 == 1
            u = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
            span = twin.PROCESS.t_max - twin.PROCESS.t_min
            t = twin.PROCESS.t_min + span * u[torch.randperm(batch, device=device)]
            noise = torch.randn(batch, frames, channels, device=device)
            made.append((kept, t, noise))
        return made

    def forward(self, z: Tensor, valid: Tensor, drawn) -> Tensor:
        """z (B, M, T, D), valid (B, M, T), drawn of `sample` -> the loss."""
        present, total = valid.any(-1), 0.0
        for m, network in enumerate(self.networks):
            (kept, t, noise), ids = drawn[m], self.ids[m]
            shown = kept & present[:, ids]
            kept = torch.where(shown.any(1, keepdim=True), shown, present[:, ids])
            condition_mask = valid[:, ids] & kept[..., None]
            own = valid[:, m]
            mask = torch.where(kept.any(1)[:, None], condition_mask.any(1), own)
            later = own.flip(-1).to(torch.int8).cummax(-1).values.flip(-1) > 0
            mask = mask & (own | ~later)  # but for holes
            encoded = network.encode(z[:, ids], ids, condition_mask)
            alpha, std = (a[:, None, None] for a in twin.marginal(t))
            x = alpha * z[:, m] + std * noise
            predicted = twin.predict_noise(network.denoise, x, t, encoded, mask)
            square = torch.where(mask[..., None], predicted - noise, 0.0) ** 2
            mean = square.sum((1, 2)) / (mask.sum(1) * z.shape[-1]).clamp(min=1)
            weight = 1 + (std / alpha)[:, 0, 0] ** 2
            total = total + (weight * mean * present[:, m]).sum() / len(z)
        return total / z.shape[1]
