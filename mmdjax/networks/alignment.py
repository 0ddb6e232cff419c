"""RCAN-1D alignment decoder: refines drawn latents (thesis 5.1.6; Zhang et al. 2018).

20 residual channel-attention blocks, reduction 16, in a long residual branch. The last convolution
starts at zero, so an untrained decoder hands on the draw as it is.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.transformer import over_layers


class Conv3(nn.Module):
    """Conv1d of kernel 3, zero-padded by one, as one matrix product over three shifted copies.

    The same numbers as `nn.Conv`, which becomes a slower grouped convolution on a CPU once the
    decoders are stacked over modalities.
    """

    channels: int
    kernel_init: Callable = nn.initializers.lecun_normal()
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, T, C) -> (B, T / stride, channels)."""
        before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
        after = jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
        window = jnp.concatenate([before, x, after], axis=-1)[:, :: self.stride]
        return nn.Dense(self.channels, kernel_init=self.kernel_init, name="window")(window)


class ChannelAttentionBlock(nn.Module):
    """conv, relu, conv, channel attention over valid frames, and the residual."""

    reduction: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        """x (B, T, C), mask (B, T, 1) of 0 and 1 -> ((B, T, C), None), as a scan wants."""
        channels = x.shape[-1]
        y = nn.relu(Conv3(channels, name="conv_in")(x * mask))
        y = Conv3(channels, name="conv_out")(y * mask) * mask
        pooled = y.sum(1) / jnp.maximum(mask.sum(1), 1.0)
        gate = nn.relu(nn.Dense(max(channels // self.reduction, 1), name="squeeze")(pooled))
        gate = nn.sigmoid(nn.Dense(channels, name="excite")(gate))
        return x + y * gate[:, None], None


class AlignmentDecoder(nn.Module):
    """Attributes: `channels` inside, number of `blocks`, `reduction` of the channel attention."""

    channels: int = 64
    blocks: int = 20
    reduction: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array) -> jax.Array:
        """x (B, T, D), valid (B, T) -> (B, T, D), zero where not valid."""
        x = jnp.where(valid[..., None], x, 0.0)
        mask = valid[..., None].astype(x.dtype)
        h = Conv3(self.channels, name="head")(x)
        body = over_layers(ChannelAttentionBlock, self.blocks, in_axes=nn.broadcast)
        y, _ = body(self.reduction, name="blocks")(h, mask)
        y = h + Conv3(self.channels, name="body_out")(y * mask)
        tail = Conv3(x.shape[-1], nn.initializers.zeros, name="tail")
        return (x + tail(y * mask)) * mask
