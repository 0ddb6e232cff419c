"""What of a row's latents is observed: one mask, and every view of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.networks.encoders import WHOLE


class Cover(NamedTuple):
    """What the latent frames of rows rest on; numpy or jax, with any leading axes.

    Attributes:
      cover: (..., M, T) int8: `WHOLE` where every frame under a latent frame is observed, 1 where
        some are, 0 where none is.
      valid: (..., M, T) bool, latent frames that exist; read where something of a modality is
        observed, since the length of what is missing is hidden.
    """

    cover: jax.Array
    valid: jax.Array

    @classmethod
    def of_modalities(cls, observed: Any, valid: Any) -> Cover:
        """Return the cover of modalities that are given or hidden as a whole, observed (..., M)."""
        xp = _module(valid)
        return cls(xp.where(valid & observed[..., None], xp.int8(WHOLE), xp.int8(0)), valid)

    @property
    def known(self) -> Any:
        """(..., M) bool: something of the modality is observed."""
        return (self.cover > 0).any(-1)

    @property
    def exists(self) -> Any:
        """(..., M, T) bool: frames of the completed row, see `filled_valid`."""
        return filled_valid(self.valid, self.known)

    @property
    def shown(self) -> Any:
        """(..., M, T) bool: frames that say something."""
        return self.exists & (self.cover > 0)

    @property
    def partial(self) -> Any:
        """(..., M, T) bool: those of `shown` that rest on frames of which some are missing."""
        return self.shown & (self.cover < WHOLE)

    @property
    def wanted(self) -> Any:
        """(..., M, T) bool: frames to be drawn, those in part among them."""
        return self.exists & (self.cover < WHOLE)

    @property
    def missing(self) -> Any:
        """(..., M) bool: something of the modality is to be drawn."""
        return self.wanted.any(-1)


def filled_valid(valid: Any, known: Any) -> Any:
    """Return the frames of a completed row, (..., M, T) bool.

    An observed modality has its own frames, a missing one every frame on which some observed
    modality exists. Its true length is hidden and never used.

    Args:
      valid: (..., M, T) bool; only entries of observed modalities are read.
      known: (..., M) bool, something of the modality is observed.
    """
    shown = valid & known[..., None]
    return _module(valid).where(known[..., None], valid, shown.any(-2, keepdims=True))


def _module(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np
