"""Graphs of conversations: what may not matter does not, and what a spectrum keeps is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.graphs.conversation import by_likeness, normalised, structure
from mmdjax.graphs.spectral import Basis, basis, kept, rebuilt, spectrum


def conversation(rng, n=9, speakers=2, d=5):
    position = np.arange(n, dtype=np.float32)
    speaker = rng.integers(0, speakers, n)
    return position, speaker, np.ones(n, bool), rng.standard_normal((n, d)).astype(np.float32)


def graphs(position, speaker, valid, x):
    """The structure and a modality's own graph, both normalised."""
    weights = structure(position, speaker, valid)
    return normalised(weights), normalised(by_likeness(weights, x, valid))


def filtered(position, speaker, valid, x):
    """A modality's graph through the spectrum of the structure's basis, applied to its features."""
    known, own = graphs(position, speaker, valid, x)
    found = basis(known, valid)
    return rebuilt(spectrum(own, found), found) @ jnp.where(valid[:, None], x, 0.0)


def test_permuting_utterances_permutes_the_result(rng):
    position, speaker, valid, x = conversation(rng)
    order = rng.permutation(len(x))
    permuted = filtered(position[order], speaker[order], valid[order], x[order])
    np.testing.assert_allclose(permuted, filtered(position, speaker, valid, x)[order], atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_padding_changes_nothing_and_may_hold_nan(rng, first):
    position, speaker, valid, x = conversation(rng)
    n, more = len(x), 7
    where = slice(more, None) if first else slice(n)

    def padded(a, filler):
        result = np.full((n + more, *a.shape[1:]), filler, a.dtype)
        result[where] = a
        return result

    arguments = padded(position, 3), padded(speaker, 1), padded(valid, False), padded(x, np.nan)
    long = filtered(*arguments)
    np.testing.assert_allclose(long[where], filtered(position, speaker, valid, x), atol=1e-5)
    assert np.isfinite(long).all() and np.abs(np.delete(long, range(n + more)[where], 0)).max() == 0
    found = basis(graphs(*arguments)[0], arguments[2])
    assert found.present.sum() == n and not found.present[n:].any()


def test_the_structure_itself_makes_the_round_trip(rng):
    position, speaker, valid, _ = conversation(rng, n=30)
    known = normalised(structure(position, speaker, valid))
    found = basis(known, valid)
    np.testing.assert_allclose(spectrum(known, found), found.values, atol=2e-3)
    np.testing.assert_allclose(rebuilt(found.values, found), known, atol=2e-3)
    assert kept(known, found) > 1 - 1e-5


def test_eigenvalues_of_a_normalised_graph_lie_within_one(rng):
    for graph in graphs(*conversation(rng, n=40, speakers=4)):
        values = np.linalg.eigvalsh(graph)
        assert values.max() == pytest.approx(1, abs=1e-5) and values.min() > -1


def test_signs_and_rotations_within_a_tie_change_nothing(rng):
    """All utterances alike: one eigenvalue 1, and n - 1 that tie at 0."""
    n, d = 8, 4
    _, _, valid, x = conversation(rng, n=n, d=d)
    everyone = normalised(jnp.ones((n, n)))
    own = normalised(by_likeness(jnp.ones((n, n)), x, valid))
    found = basis(everyone, valid)
    assert np.ptp(found.values[:-1]) < 1e-6
    rotation = np.eye(n)
    rotation[:-1, :-1] = np.linalg.qr(rng.standard_normal((n - 1, n - 1)))[0]
    rotation[-1, -1] = -1
    turned = Basis(found.vectors @ rotation.astype(np.float32), found.values, found.present)
    assert np.abs(turned.vectors - found.vectors).max() > 0.1
    np.testing.assert_allclose(spectrum(own, turned), spectrum(own, found), atol=1e-5)
    drawn = rng.standard_normal(n).astype(np.float32)
    np.testing.assert_allclose(rebuilt(drawn, turned), rebuilt(drawn, found), atol=1e-5)


def test_the_spectrum_is_the_nearest_matrix_in_its_basis(rng):
    """Any other eigenvalues are further from A (Frobenius), and `kept` says how near it is."""
    known, own = graphs(*conversation(rng))
    found = basis(known, np.ones(len(known), bool))
    values = spectrum(own, found)
    best = np.sum((own - rebuilt(values, found)) ** 2)
    assert float(kept(own, found)) == pytest.approx(float(1 - best / np.sum(own**2)), abs=1e-5)
    for _ in range(20):
        other = values + 0.1 * rng.standard_normal(len(values)).astype(np.float32)
        assert np.sum((own - rebuilt(other, found)) ** 2) > best


def test_one_utterance_is_a_graph():
    alone = (
        np.zeros(1, np.float32),
        np.zeros(1, int),
        np.ones(1, bool),
        np.ones((1, 3), np.float32),
    )
    np.testing.assert_allclose(filtered(*alone), np.ones((1, 3)), atol=1e-6)


def test_edges_end_with_the_window_and_are_weaker_across_speakers():
    position, valid = np.arange(6.0), np.ones(6, bool)
    speaker = np.array([0, 0, 1, 1, 0, 1])
    weights = np.asarray(structure(position, speaker, valid, past=2, future=1, scale=2.0))
    assert weights[0, 3] == 0 and weights[0, 2] == pytest.approx(0.5 * np.exp(-1))
    assert weights[0, 1] == pytest.approx(np.exp(-0.5)) and (weights == weights.T).all()
    np.testing.assert_array_equal(np.diag(weights), 1)


def test_conversations_are_batched_and_differentiable(rng):
    made = [conversation(rng) for _ in range(3)]
    stacked = [np.stack(parts) for parts in zip(*made, strict=True)]
    batched = jax.jit(jax.vmap(filtered))(*stacked)
    for one, arguments in zip(batched, made, strict=True):
        np.testing.assert_allclose(one, filtered(*arguments), atol=1e-5)
    gradient = jax.grad(lambda x: filtered(*made[0][:3], x).sum())(made[0][3])
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
