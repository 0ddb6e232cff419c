"""The score network and its samplers in PyTorch: what the compiled JAX ones are measured against.

Same parameters, same arithmetic, written the way PyTorch is usually written: eager, fused QKV,
`scaled_dot_product_attention`, a Python loop over steps. It has every saving that is natural
there: the condition is encoded once a draw, the last layer runs for the target's tokens only, a
sampler's coefficients are folded into one number for each term and never wait for the device.
Float32 products are compared at one precision: on a GPU JAX takes TF32 by default and PyTorch does
not (`torch.set_float32_matmul_precision("high")`).

The process is `mmdjax.diffusion.VP()`. A noise function takes (x (B, T, D), t) with t a number.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdjax.diffusion.sde import VP
from mmdjax.networks.attention import MASKED
from mmdjax.networks.embeddings import fourier_frequencies

PROCESS = VP()
EPSILON = 1e-6  # of flax' LayerNorm; PyTorch's own default is 1e-5


class Encoded(NamedTuple):
    """What a draw needs of its condition."""

    tokens: Tensor | None  # (B, S, W) for 'joint'
    memory: list[Tensor] | None  # keys and values (B, S, 2, H, d) of every layer for 'prefix'
    bias: Tensor  # (B, 1, 1, S) added to the logits


class Layer(nn.Module):
    """Pre-norm transformer layer; queries, keys and values are one product."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.width, self.heads, self.attention_dropout = width, heads, attention_dropout
        self.drop = nn.Dropout(dropout)
        self.attention_norm = nn.LayerNorm(width, EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, EPSILON)
        self.mlp_in = nn.Linear(width, mlp)
        self.mlp_out = nn.Linear(mlp, width)

    def remember(self, x: Tensor) -> Tensor:
        """x (B, S, W) -> its keys and values (B, S, 2, H, d)."""
        return self._project(self.attention_norm(x), slice(self.width, None))

    def forward(self, x: Tensor, bias: Tensor, tokens: int | None = None, memory=None):
        """The first `tokens` of x (B, S, W), or all of them, attend to x and `memory`.

        Returns:
          x (B, tokens, W) after the layer; the keys and values (B, S, 2, H, d) of all of x.
        """
        normed = self.attention_norm(x)
        if tokens is None or tokens == x.shape[1]:
            query, own = self._project(normed, slice(None)).tensor_split((1,), dim=2)
        else:
            query = self._project(normed[:, :tokens], slice(self.width))
            own, x = self._project(normed, slice(self.width, None)), x[:, :tokens]
        known = own if memory is None else torch.cat((own, memory), dim=1)
        return self._attended(x, query, known, bias), own

    def across(self, x: Tensor, source: Tensor, bias: Tensor) -> Tensor:
        """x (B, S, W) attends to source (B, R, W) alone."""
        query = self._project(self.attention_norm(x), slice(self.width))
        return self._attended(x, query, self.remember(source), bias)

    def _attended(self, x: Tensor, query: Tensor, known: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (a.transpose(1, 2) for a in (query[:, :, 0], *known.unbind(2)))
        rate = self.attention_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        x = x + self.drop(self.attention_out(out.transpose(1, 2).flatten(2)))
        y = self.drop(F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh"))
        return x + self.drop(self.mlp_out(y))

    def _project(self, normed: Tensor, rows: slice) -> Tensor:
        """(B, S, W) -> (B, S, n, H, d) by `rows` of the fused weight, a view of it."""
        y = F.linear(normed, self.qkv.weight[rows], self.qkv.bias[rows])
        return y.unflatten(-1, (-1, self.heads, self.width // self.heads))


class ScoreTransformer(nn.Module):
    """Twin of `ScoreTransformer1D` with patch = 1; sizes and shapes as there.

    Takes and returns float32 whatever the parameters' dtype, see `with_dtype`.
    """

    def __init__(
        self,
        modalities: int,
        frames: int = 48,
        channels: int = 32,
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        mlp: int = 512,
        time_features: int = 256,
        fourier_scale: float = 16.0,
        attention: str = "joint",
    ):
        super().__init__()
        self.attention = attention
        frequencies = torch.from_numpy(fourier_frequencies(time_features, fourier_scale))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.position = nn.Parameter(0.02 * torch.randn(frames, width))
        self.modality = nn.Parameter(0.02 * torch.randn(modalities, width))
        self.time = nn.Linear(len(frequencies) * 2, width)
        self.target_in = nn.Linear(channels, width)
        self.condition_in = nn.Linear(channels, width)
        self.layers = nn.ModuleList(Layer(width, heads, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.out = nn.Linear(width, channels)

    def forward(self, x, t, condition, condition_id, mask, condition_mask) -> Tensor:
        """Prediction (B, T, D): `denoise` given `encode`."""
        return self.denoise(x, t, self.encode(condition, condition_id, condition_mask), mask)

    def encode(self, condition, condition_id, condition_mask) -> Encoded | None:
        """condition (B, C, T, D), condition_id (C,) or (B, C) int, condition_mask (B, C, T) bool;
        None where C = 0."""
        if condition.shape[1] == 0:
            return None
        z = self._tokens(self.condition_in, condition, condition_mask)
        z = (z + self.modality[condition_id].unsqueeze(-2)).flatten(1, 2)
        bias = self._bias(condition_mask.flatten(1))
        if self.attention == "joint":
            return Encoded(z, None, bias)
        memory = []
        for layer in self.layers[:-1]:
            z, own = layer(z, bias)
            memory.append(own)
        return Encoded(None, [*memory, self.layers[-1].remember(z)], bias)

    def denoise(self, x, t, encoded: Encoded | None, mask) -> Tensor:
        """x (B, T, D), t () or (B,), mask (B, T) bool -> prediction (B, T, D)."""
        angle = 2 * math.pi * t.reshape(-1, 1) * self.frequencies
        features = torch.cat((angle.sin(), angle.cos()), dim=-1)
        time = F.silu(self.time(features.to(self.time.weight.dtype)))
        z = self._tokens(self.target_in, x, mask) + time[:, None]
        tokens, bias = z.shape[1], self._bias(mask)
        memory = [None] * len(self.layers)
        if encoded is not None:
            bias = torch.cat((bias, encoded.bias), dim=-1)
            if self.attention == "joint":
                z = torch.cat((z, encoded.tokens), dim=1)
            else:
                memory = encoded.memory
        for layer, known in zip(self.layers[:-1], memory, strict=False):
            z, _ = layer(z, bias, memory=known)
        z, _ = self.layers[-1](z, bias, tokens, memory[-1])
        return self.out(self.norm(z)).to(x.dtype)

    def _tokens(self, project: nn.Linear, x: Tensor, mask: Tensor) -> Tensor:
        shown = torch.where(mask[..., None], x, 0.0).to(project.weight.dtype)
        return project(shown) + self.position[: x.shape[-2]]

    def _bias(self, mask: Tensor) -> Tensor:
        return torch.where(mask, 0.0, MASKED).to(self.position.dtype)[:, None, None]


def from_flax(params, **sizes) -> ScoreTransformer:
    """The network with the parameters {'params': ...} of a `ScoreTransformer1D` of these sizes,
    for inference: no parameter asks for a gradient."""
    network = ScoreTransformer(**sizes)
    network.load_state_dict(state_of(params))
    return network.eval().requires_grad_(False)


def state_of(params) -> dict[str, Tensor]:
    """Return the `state_dict` of the same parameters."""
    tree = jax.tree.map(np.asarray, dict(params["params"]))
    stack, layers = tree.pop("stack", None), [tree.pop("last")]
    state = {name: tree.pop(name) for name in ("position", "modality")}
    if stack is not None:
        depth = len(jax.tree.leaves(stack)[0])
        layers = [jax.tree.map(itemgetter(i), stack) for i in range(depth)] + layers
    for i, own in enumerate(layers):
        tree |= {f"layers.{i}.{name}": leaves for name, leaves in fused(own).items()}
    return {name: torch.tensor(a) for name, a in (state | weights_of(tree)).items()}


def fused(layer: dict) -> dict:
    """Return the parameters of a flax `Layer` with one product for queries, keys and values."""
    rest = dict(layer)
    parts = [rest.pop(name) for name in ("query", "key", "value")]
    qkv = {k: np.concatenate([p[k] for p in parts], -1) for k in ("kernel", "bias")}
    return rest | {"qkv": qkv}


def weights_of(tree: dict) -> dict:
    """Return name -> array of a `state_dict`, of {module: leaves} of flax' dense and norm."""
    state = {}
    for name, leaves in tree.items():
        state[f"{name}.weight"] = leaves["scale"] if "scale" in leaves else leaves["kernel"].T
        state[f"{name}.bias"] = leaves["bias"]
    return state


def with_dtype(network: ScoreTransformer, dtype: torch.dtype) -> ScoreTransformer:
    """A copy that computes in `dtype`; x and the prediction stay float32, and so do the angles of
    the time features, of which bfloat16 would leave nothing."""
    copied = copy.deepcopy(network).to(dtype)
    copied.frequencies = network.frequencies.clone()
    return copied


def marginal(t):
    """(alpha, std) of VP at t: numbers and arrays in float64, tensors in their own dtype."""
    log_alpha = PROCESS.log_alpha(t)
    if isinstance(t, Tensor):
        return torch.exp(log_alpha), torch.sqrt(-torch.expm1(2 * log_alpha))
    return np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha))


def predict_noise(network: Callable, x: Tensor, t, *condition) -> Tensor:
    """Noise prediction (B, T, D): `mmdjax.methods.latent.modules.predict_noise` for VP.

    Args:
      network: (x, t, *condition) -> v; a `ScoreTransformer`, or its `denoise`.
      t: a number, which costs no transfer to the device and no wait for it, or a tensor (B,).
    """
    if isinstance(t, Tensor):
        alpha, std = (a.reshape(-1, 1, 1) for a in marginal(t))
        return alpha * network(x, t, *condition) + std * x
    alpha, std = map(float, marginal(t))
    v = network(x, torch.full((), t, dtype=x.dtype, device=x.device), *condition)
    return torch.add(alpha * v, x, alpha=std)


@torch.inference_mode()
def euler_maruyama(noise_fn: Callable, grid, x: Tensor, generator=None) -> Tensor:
    """Reverse VP SDE from x (B, ...) at grid[0] to grid[-1]; generator: of the steps' normals."""
    grid = np.asarray(grid, np.float64)
    beta, step = PROCESS.beta(grid[:-1]), -np.diff(grid)
    pull = -beta * step / marginal(grid[:-1])[1]
    rows = np.stack([grid[:-1], 1 + 0.5 * beta * step, pull, np.sqrt(beta * step)], axis=-1)
    for t, keep, slope, fresh in rows.tolist():
        mean = torch.add(keep * x, noise_fn(x, t), alpha=slope)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = mean.add_(z, alpha=fresh)
    return x


@torch.inference_mode()
def ddim(noise_fn: Callable, grid, x: Tensor) -> Tensor:
    """Deterministic DDIM from x (B, ...) at grid[0] to grid[-1]."""
    grid = np.asarray(grid, np.float64)
    alpha, std = marginal(grid)
    ratio = alpha[1:] / alpha[:-1]
    rows = np.stack([grid[:-1], ratio, std[1:] - ratio * std[:-1]], axis=-1).tolist()
    for t, keep, slope in rows:
        x = torch.add(keep * x, noise_fn(x, t), alpha=slope)
    return x
