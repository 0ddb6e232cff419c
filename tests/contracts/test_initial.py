"""Initial parameters drawn by numpy, from JAX's own random bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.methods.latent.initial import initial, initial_decoder, initial_score
from mmdjax.methods.latent.modules import build
from mmdjax.networks import score_networks
from mmdjax.runtime.on_host import OnHost
from tests.conftest import TINY


@pytest.mark.parametrize("name", ["encoders", "fusion", "decoder", *score_networks.REGISTRY])
def test_initial_parameters_are_those_of_a_compiled_program(name, monkeypatch):
    """And none is compiled to draw them."""
    config, key = configs.from_dict(TINY), jax.random.key(3)
    modules, x = build(config, ("a", "b")), np.zeros((1, 2, 4, 8), np.float32)
    valid = np.ones(x.shape[:3], bool)
    if name == "encoders":
        features = {"a": np.zeros((1, 9, 5), np.float32), "b": np.zeros((1, 3, 2), np.float32)}
        known = {m: np.ones(a.shape[:2], bool) for m, a in features.items()}
        init, given = initial(modules.encoders), (key, features, known)
    elif name in ("fusion", "decoder"):
        make = initial if name == "fusion" else initial_decoder
        init, given = make(getattr(modules, name)), (key, x, valid)
    else:
        layers = 1 if name == "unet" else 2
        sizes = {"width": 16, "layers": layers, "heads": 2, "mlp": 16, "time_features": 8}
        init, given = initial_score(score_networks.REGISTRY[name](2, 8, 8, **sizes)), (key,)
    expected = init.compiled(*given)
    monkeypatch.setattr(init, "compiled", None)
    found = init(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, init.shapes(*given))


def test_what_numpy_does_not_know_is_compiled():
    function = OnHost(lambda key, x: jax.random.normal(key, (3,)) + jnp.tanh(x))
    key = jax.random.key(0)
    found = function(key, np.zeros(3, np.float32))
    np.testing.assert_allclose(found, jax.random.normal(key, (3,)), rtol=1e-6)
    assert function.compiled.programs() == 1
