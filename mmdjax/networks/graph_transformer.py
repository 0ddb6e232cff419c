"""A transformer over the utterances of a conversation, or over the eigenvalues of its graph.

Tokens have no positions: permuting them permutes the result. What they are to know of each other
comes as weights of a graph, added to the logits of attention as slope * log(weight + NO_EDGE), a
learned slope a head: heads with slope 0 look at everyone, others at neighbours. Graphs that are
being drawn themselves are added as they are, times a gate for each head and graph that depends on
time, since their noise does. Time modulates every layer as in DiT (adaLN-Zero).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.errors import choice
from mmdjax.networks.attention import MASKED, mask_bias
from mmdjax.networks.modulation import ModulatedLayer, ModulatedOut, TimeEmbedding
from mmdjax.networks.transformer import Dense, over_layers

NO_EDGE = 1e-3
SEES = ("graph", "all", "alone")


class GraphTransformer(nn.Module):
    """Attributes:
    outputs: numbers a token.
    sees: 'graph' as above; 'all' tokens alike (`weights` is not read); 'alone' only itself, for a
      system that knows nothing of the graph.
    width, layers, heads, mlp: of the layers. time_features, fourier_scale: of the time.
    """

    outputs: int
    sees: str = "graph"
    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 256
    time_features: int = 128
    fourier_scale: float = 16.0

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        t: jax.Array,
        valid: jax.Array,
        weights: jax.Array | None = None,
        edges: jax.Array | None = None,
    ) -> jax.Array:
        """tokens (B, N, F), t (B,), valid (B, N) -> (B, N, outputs).

        weights (B, N, N) in [0, 1] of the graph; edges (B, E, N, N) of graphs that are being drawn,
        or None. Tokens that are not valid may hold anything, are seen by nobody, and yield 0.

        Raises:
          UserError: `sees` is unknown.
        """
        choice("sees", self.sees, SEES)
        tokens = jnp.where(valid[..., None], tokens, 0.0)
        bias = mask_bias(valid)
        if self.sees == "graph":
            slopes = self.param("slopes", lambda _, n: jnp.linspace(0.0, 1.0, n), self.heads)
            bias = bias + slopes[:, None, None] * jnp.log(weights + NO_EDGE)[:, None]
        if self.sees == "alone":
            bias = bias + jnp.where(jnp.eye(tokens.shape[1], dtype=bool), 0.0, MASKED)
        c = TimeEmbedding(self.width, self.time_features, self.fourier_scale, name="time")(t)
        if edges is not None:
            zeros = nn.initializers.zeros
            gates = Dense(self.heads * edges.shape[1], kernel_init=zeros, name="gates")(nn.silu(c))
            gates = gates.reshape(c.shape[0], self.heads, edges.shape[1])
            bias = bias + jnp.einsum("bhe,beij->bhij", gates, edges)
        c = c[:, None]
        z = Dense(self.width, name="tokens_in")(tokens)
        scanned = over_layers(lambda layer, z, _: (layer(z, c, bias), None), self.layers)
        z, _ = scanned(ModulatedLayer(self.width, self.heads, self.mlp, name="layers"), z, None)
        out = ModulatedOut(self.outputs, name="out")(z, c)
        return jnp.where(valid[..., None], out, 0.0)
