"""What is not observed never reaches a model: NaN there changes no output bit."""

import jax
import numpy as np
import pytest

from mmdjax.data.dataset import standardise
from mmdjax.data.missing.patterns import patterns
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.modules import raw
from mmdjax.methods.latent.work_list import draw_missing
from mmdjax.types import Batch, Latents


@pytest.fixture(scope="module")
def parts(tiny_system):
    """Random parameters, standardised latents of a few utterances, every pattern once or more."""
    system = tiny_system
    encoders = system.init_encoders(jax.random.key(0))
    scale, z = system.standardised(encoders)
    score = jax.device_put(system.initial_score(jax.random.key(1)))
    fusion = system.initial_classifier(jax.random.key(2))["fusion"]
    decoder = system.initial_decoder(jax.random.key(3))
    decoder = jax.tree.map(lambda a: a + 0.05, decoder)  # not the identity it starts as
    rows = Latents(*(a[:14] for a in z["train"]))
    observed = np.tile(patterns(3), (2, 1))
    return system, scale, score, {"fusion": fusion, "decoder": decoder}, rows, observed


def complete_and_predict(parts, z, valid, observed, rows=slice(None), batch=16):
    system, scale, score, params, _, _ = parts
    ids = np.arange(len(observed))[rows]
    filled, _ = draw_missing(
        system.drawer,
        score,
        z[rows],
        valid[rows],
        observed[rows],
        ids,
        np.zeros_like(ids)[:, None],
        jax.random.key(5),
        system.buckets,
        batch,
    )
    filled = filled[:, 0]
    return filled, system.predict_latents(params, scale, filled, valid[rows], observed[rows])


def test_nan_in_every_unobserved_entry_changes_no_output_bit(parts):
    latents, observed = parts[4], parts[5]
    hidden = np.where(observed[..., None, None], latents.x, np.nan)
    # The length of what is hidden is hidden as well.
    valid = latents.valid & observed[..., None]
    with jax.debug_nans(False):
        got = complete_and_predict(parts, hidden, valid, observed)
    for a, b in zip(got, complete_and_predict(parts, *latents[:2], observed), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_nan_in_hidden_features_reaches_no_observed_latent(tiny_system):
    """The same from the file's side: encoders do not mix modalities."""
    system = tiny_system
    encoders = system.init_encoders(jax.random.key(0))
    test = system.splits["test"]
    broken = Batch(
        dict(test.features) | {"vision": np.full_like(test.features["vision"], np.nan)},
        test.valid,
        test.label,
        test.id,
    )
    with jax.debug_nans(False):
        a, b = system.encode(encoders, broken), system.encode(encoders, test)
    np.testing.assert_array_equal(a.x[:, :2], b.x[:, :2])


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_draws_do_not_depend_on_batch_size(parts, batch):
    latents, observed = parts[4], parts[5]
    whole = complete_and_predict(parts, *latents[:2], observed, batch=16)
    part = complete_and_predict(parts, *latents[:2], observed, batch=batch)
    for a, b in zip(part, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_draws_do_not_depend_on_order_or_on_the_rest_of_the_file(parts):
    latents, observed = parts[4], parts[5]
    whole = complete_and_predict(parts, *latents[:2], observed)
    for rows in (np.arange(14)[::-1], np.array([3, 11, 4])):
        part = complete_and_predict(parts, *latents[:2], observed, rows)
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_allclose(a, b[rows], atol=2e-5)


def test_length_buckets_change_the_work_and_not_the_draws(parts):
    system, _, score, _, latents, observed = parts
    valid = latents.valid & (np.arange(4) < np.where(np.arange(14) % 2, 2, 4)[:, None, None])
    z = np.where(valid[..., None], latents.x, 0.0)
    ids = np.arange(14)
    draws = np.zeros((14, 1), int)
    args = (system.drawer, score, z, valid, observed, ids, draws, jax.random.key(5))
    one, two = draw_missing(*args, (4,), 8)[0], draw_missing(*args, (2, 4), 8)[0]
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_observed_latents_come_back_bit_identical(parts):
    latents, observed = parts[4], parts[5]
    filled, _ = complete_and_predict(parts, *latents[:2], observed)
    np.testing.assert_array_equal(filled[observed], latents.x[observed])
    assert (filled[~observed] != 0).any()


def test_chained_draws_read_the_earlier_draw_and_independent_ones_do_not(parts, tiny_config):
    """Noise in the first drawn modality's key changes the second draw only where it is chained."""
    import dataclasses

    system, _, score, _, latents, _ = parts
    observed = np.zeros((4, 3), bool)
    observed[:, 0] = True

    def run(coupling, change):
        diffusion = dataclasses.replace(tiny_config.diffusion, coupling=coupling)
        params = jax.tree.map(lambda a: a.at[1].add(change), score)
        args = (latents.x[:4], latents.valid[:4], observed, np.arange(4), np.zeros((4, 1), int))
        drawer = make_drawer(system.modules, diffusion)
        return draw_missing(drawer, params, *args, jax.random.key(0), system.buckets, 4)[0][:, 0]

    for coupling, depends in (("chain", True), ("independent", False)):
        a, b = run(coupling, 0.0), run(coupling, 0.05)
        assert (a[:, 1] != b[:, 1]).any()
        assert (a[:, 2] != b[:, 2]).any() == depends


def test_standardisation_uses_valid_training_frames_only(rng):
    valid = {"m": np.arange(5) < np.array([[5], [2]])}
    train = Batch(
        {"m": rng.standard_normal((2, 5, 3)).astype(np.float32) * 7 + 3},
        valid,
        np.zeros(2),
        np.array(["a", "b"]),
    )
    loud = Batch({"m": train.features["m"] * 100}, valid, train.label, train.id)
    padded = Batch(
        {"m": np.where(valid["m"][..., None], train.features["m"], 1e9).astype(np.float32)},
        valid,
        train.label,
        train.id,
    )
    one = standardise({"train": train, "test": loud})
    two = standardise({"train": padded, "test": train})
    frames = one["train"].features["m"][valid["m"]]
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(frames.std(0), 1, atol=1e-5)
    np.testing.assert_array_equal(one["train"].features["m"], two["train"].features["m"])


def test_identity_scale_leaves_latents_alone(tiny_system):
    z = tiny_system.encode(tiny_system.init_encoders(jax.random.key(0)), tiny_system.splits["test"])
    np.testing.assert_array_equal(raw(z.x, z.valid, tiny_system.identity_scale()), z.x)
