"""The written-out derivative of attention is that of the textbook, and so is `gelu`'s."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.networks.attention import MASKED, attend, mask_bias
from mmdjax.networks.dropout import dropped
from mmdjax.networks.transformer import Dense, gelu

KEY = jax.random.key(7)


def textbook(query, key, value, bias, rate=0.0):
    """Softmax, then the mask of dropout on normalised weights."""
    logits = jnp.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5 + bias
    weights = jax.nn.softmax(logits, axis=-1)
    if rate:
        weights = jnp.where(dropped(KEY, weights.shape, rate), 0.0, weights / (1 - rate))
    return jnp.einsum("bhqk,bhkd->bhqd", weights, value)


@pytest.fixture
def inputs(rng):
    """Queries (2, 3, 5, 4), keys and values (2, 3, 7, 4), a full bias."""
    shapes = (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4), (2, 3, 5, 7)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def both(function, expected, arguments):
    """Values and gradients of a cube of what two functions return, compared."""
    which = tuple(range(len(arguments)))
    made, right = (
        jax.value_and_grad(lambda *a, f=f: (f(*a) ** 3).sum(), which)(*arguments)
        for f in (function, expected)
    )
    np.testing.assert_allclose(made[0], right[0], rtol=2e-5)
    for a, b in zip(made[1], right[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("bias", [(2, 3, 5, 7), (2, 1, 1, 7), (3, 1, 7), (5, 7)])
def test_values_and_gradients_are_those_of_the_textbook(inputs, rate, bias):
    *others, full = inputs
    arguments = (*others, np.resize(full, bias))
    drop = (rate, KEY) if rate else None
    both(lambda *a: attend(*a, drop), lambda *a: textbook(*a, rate), arguments)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_masked_keys_get_no_gradient_and_rows_without_keys_stay_finite(inputs, rate):
    query, key, value, _ = inputs
    mask = np.array([[True] * 4 + [False] * 3, [False] * 7])
    drop = (rate, KEY) if rate else None

    def loss(key, value):
        return (attend(query, key, value, mask_bias(mask), drop) ** 2).sum()

    by_key, by_value = jax.grad(loss, (0, 1))(key, value)
    assert np.isfinite(by_key).all() and np.isfinite(by_value).all()
    assert not by_key[0, :, 4:].any() and not by_value[0, :, 4:].any()
    assert np.abs(by_value[0, :, :4]).max() > 0
    both(
        lambda *a: attend(*a, mask_bias(mask), drop),
        lambda *a: textbook(*a, jnp.where(mask, 0.0, MASKED)[:, None, None], rate),
        (query, key, value),
    )


def test_large_logits_neither_overflow_nor_lose_the_gradient(inputs):
    query, key, value, bias = inputs
    both(attend, textbook, (3 * query, 3 * key, value, bias))
    # Nearly all weight on one key: what is left of the gradient is rounding.
    made = jax.grad(lambda *a: (attend(*a, bias) ** 3).sum(), (0, 1, 2))(100 * query, key, value)
    right = jax.grad(lambda *a: (textbook(*a, bias) ** 3).sum(), (0, 1, 2))(100 * query, key, value)
    for a, b, scale in zip(made, right, (1.0, 100.0, 1.0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * scale)


def test_stacked_networks_and_scanned_layers_get_the_same_gradients(inputs):
    query, key, value, bias = inputs
    keys = jax.random.split(KEY, 2)

    def scanned(attention):
        def one(query, noise):
            step = lambda x, _: (x + attention(x, noise), None)  # noqa: E731
            return jax.lax.scan(step, query, None, 2)[0]

        return lambda query: jax.vmap(one)(jnp.stack([query, 2 * query]), keys)

    def own(query, noise):
        return attend(query, key, value, bias, (0.3, noise))

    def plain(query, noise):
        logits = jnp.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5 + bias
        weights = jax.nn.softmax(logits, axis=-1)
        weights = jnp.where(dropped(noise, weights.shape, 0.3), 0.0, weights / 0.7)
        return jnp.einsum("bhqk,bhkd->bhqd", weights, value)

    both(jax.jit(scanned(own)), scanned(plain), (query,))


def test_bfloat16_operands_get_gradients_of_their_own_type_near_float32(inputs):
    query, key, value, bias = inputs
    rounded = [jnp.asarray(a, jnp.bfloat16) for a in (query, key, value)]

    def gradients(*a, dtype=None):
        return jax.grad(lambda *a: (attend(*a, bias, dtype=dtype) ** 2).sum(), (0, 1, 2))(*a)

    made = gradients(*rounded, dtype=jnp.bfloat16)
    for a, b in zip(made, gradients(*(a.astype(jnp.float32) for a in rounded)), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05 * np.abs(b).max())


def test_gelu_has_the_values_and_gradients_of_flax(rng):
    x = 4 * rng.standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(gelu(x), nn.gelu(x))
    both(gelu, nn.gelu, (x,))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 4, 3, 5)])
def test_dense_takes_any_leading_axes(rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    layer = Dense(6)
    params = layer.init(KEY, x)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    assert (kernel.shape, bias.shape) == ((5, 6), (6,))
    both(
        lambda x, kernel: layer.apply({"params": {"kernel": kernel, "bias": bias}}, x),
        lambda x, kernel: jnp.einsum("...i,ij->...j", x, kernel) + bias,
        (x, kernel),
    )
