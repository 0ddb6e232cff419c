"""What a served model rests on: coverage of latent frames, gaps in training, decoded features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.methods.latent import feature_decoder
from mmdjax.methods.latent.gap_losses import random_gaps
from mmdjax.networks.encoders import WHOLE, ModalityEncoder, coverage


@pytest.mark.parametrize("frames", [3, 6, 8, 20])
def test_a_latent_frame_is_whole_exactly_where_hidden_frames_do_not_reach_it(frames, rng):
    """Against the encoder itself: a latent that hidden frames change is not whole, one that does
    not change is; and nothing is known of one that observed frames do not change."""
    net, x = ModalityEncoder(6, 4), rng.standard_normal((40, frames, 3)).astype(np.float32)
    valid = np.arange(frames) < rng.integers(1, frames + 1, 40)[:, None]
    observed = rng.random((40, frames)) < 0.6
    params = net.init(jax.random.key(0), x, valid)
    whole, exists = net.apply(params, x, valid)
    shown, _ = net.apply(params, x, valid & observed)
    found = np.asarray(coverage(valid, observed, 6))
    equal = np.abs(np.asarray(whole - shown)).max(-1) < 1e-6
    assert (equal[exists] == (found == WHOLE)[exists]).all()
    nothing = (np.abs(np.asarray(shown)).max(-1) == 0) & exists
    assert (nothing == ((found == 0) & exists)).all() and not found[~exists].any()


def test_training_meets_gaps_of_every_rate_and_length():
    observed = np.asarray(random_gaps(jax.random.key(0), 20000, 50))
    missing = ~observed
    rates = missing.mean(1)
    # The mean rate is that of U(0.05, 0.95): 0.5, with the standard error of 20,000 rows.
    assert abs(rates.mean() - 0.5) < 4 * rates.std() / len(rates) ** 0.5
    starts = missing[:, 1:] & observed[:, :-1]
    bursts = (missing.sum(1) / np.maximum(starts.sum(1) + missing[:, 0], 1))[missing.any(1)]
    assert np.quantile(bursts, 0.1) < 3 and np.quantile(bursts, 0.9) > 12
    # Stationary: the same rate at every frame.
    assert np.abs(missing.mean(0) - 0.5).max() < 4.5 * 0.5 / len(missing) ** 0.5


def test_decoding_what_was_encoded_gives_latents_again(rng):
    """The regression is an inverse of the encoder, as far as there is one."""
    net = ModalityEncoder(10, 8)
    factors = rng.standard_normal((600, 12, 2)) @ rng.standard_normal((2, 5))
    x = (factors + 0.1 * rng.standard_normal(factors.shape)).astype(np.float32)
    valid = np.ones((600, 12), bool)
    params = net.init(jax.random.key(0), x, valid)
    z = np.asarray(net.apply(params, x, valid)[0])
    z = (z - z.mean((0, 1))) / z.std((0, 1))
    splits = (z[:400], x[:400], valid[:400], z[400:], x[400:], valid[400:])
    found = feature_decoder.fit(*splits, z[400:])
    assert found.explained > 0.95
    back = np.asarray(feature_decoder.decode(found.weights, jnp.asarray(z[400:]), 12))
    np.testing.assert_allclose(
        back, feature_decoder.decode(found.weights, z[400:], 12), rtol=1e-4, atol=1e-4
    )
    encoded = np.asarray(net.apply(params, back, valid[400:])[0])
    raw = np.asarray(net.apply(params, x[400:], valid[400:])[0])
    assert np.corrcoef(encoded.ravel(), raw.ravel())[0, 1] > 0.98


def test_draws_of_features_have_the_spread_of_the_truth(rng):
    """Of five channels the encoder keeps one; the others are noise that correlates in a frame."""
    net, mix = ModalityEncoder(6, 1), rng.standard_normal((5, 5))
    factors = 2 * rng.standard_normal((900, 8, 1)) @ rng.standard_normal((1, 5))
    x = (factors + rng.standard_normal(factors.shape) @ mix).astype(np.float32)
    valid = np.ones((900, 8), bool)
    z = np.asarray(net.apply(net.init(jax.random.key(0), x, valid), x, valid)[0])
    z = (z - z.mean((0, 1))) / z.std((0, 1))
    found = feature_decoder.fit(
        z[:600], x[:600], valid[:600], z[600:], x[600:], valid[600:], z[600:]
    )
    keys = jax.random.split(jax.random.key(1), 300)
    made = np.asarray(feature_decoder.decode(found.weights, jnp.asarray(z[600:]), 8))
    missing = jnp.zeros(300, bool)
    drawn = made + feature_decoder.residuals(keys, {"noise": found.noise}, missing, 8)
    truth, flat, plain = (np.cov(a.reshape(-1, 5).T) for a in (x[600:], drawn, made))
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    assert np.abs((flat - truth) / scale).max() < 0.1
    assert np.abs((plain - truth) / scale).max() > 0.3  # what latents alone say
