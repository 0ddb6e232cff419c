"""RCAN-1D alignment decoder: refines drawn latents (thesis 5.1.6; Zhang et al. 2018).

20 residual channel-attention blocks, reduction 16, in a long residual branch. The last convolution
starts at zero, so an untrained decoder hands on the draw as it is.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp


class ChannelAttentionBlock(nn.Module):
    """conv, relu, conv, channel attention over valid frames, and the residual."""

    reduction: int

    @nn.compact
    def __call__(self, x, mask):
        """x (B, T, C), mask (B, T, 1) of 0 and 1 -> (B, T, C)."""
        channels = x.shape[-1]
        y = nn.relu(nn.Conv(channels, (3,), name="conv_in")(x * mask))
        y = nn.Conv(channels, (3,), name="conv_out")(y * mask) * mask
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
    def __call__(self, x, valid):
        """x (B, T, D), valid (B, T) -> (B, T, D), zero where not valid."""
        mask = valid[..., None].astype(x.dtype)
        h = nn.Conv(self.channels, (3,), name="head")(x * mask)
        # One scanned block: compile time does not grow with depth.
        body = nn.scan(
            ChannelAttentionBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.blocks,
        )
        y, _ = body(self.reduction, name="blocks")(h, mask)
        y = h + nn.Conv(self.channels, (3,), name="body_out")(y * mask)
        tail = nn.Conv(x.shape[-1], (3,), kernel_init=nn.initializers.zeros, name="tail")
        return (x + tail(y * mask)) * mask
