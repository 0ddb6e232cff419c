"""What score networks learn from utterances that lack modalities or frames by nature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.methods.latent import gap_losses, losses
from mmdjax.methods.latent.initial import initial_score
from mmdjax.methods.latent.losses import matching
from mmdjax.methods.latent.modules import build, encode_gaps, others
from tests.conftest import TINY

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

ROWS, FRAMES, KEY, ONES = 8, 4, jax.random.key(7), np.ones(8, np.float32)
NAMES = ("language", "acoustic", "vision")
KINDS = ("whole", "gaps")


class Networks:
    """The modules of a kind, random parameters, and its loss of rows with gaps of their own."""

    def __init__(self, kind: str, system):
        self.kind, self.train = kind, system.splits["train"].at(np.arange(ROWS))
        values = TINY | {"diffusion": TINY["diffusion"] | {"frame_gaps": 0.5 * (kind == "gaps")}}
        self.modules = build(configs.from_dict(values), NAMES)
        self.common = {"encoders": system.init_encoders(jax.random.key(0))}
        self.common["scale"] = system.identity_scale()
        params = initial_score(self.modules.score)(jax.random.key(1))
        self.params = jax.tree.map(lambda a: a + 0.03, params)  # not the zero that it starts as

    def loss(self, key=KEY, **settings):
        """The loss of a kind, which takes `data`."""
        if self.kind == "whole":
            loss = losses.score_loss(self.modules, **settings)
        else:
            error = matching(self.modules, "v", "clean", 0.0)
            loss = gap_losses.given_gaps(self.modules, error, **{"gaps": 0.5} | settings)
        return lambda params, data: loss(params, data, ONES, key, FRAMES)

    def data(self, valid, change=0.0):
        """What the loss reads; change: added to what is known."""
        known = {m: np.where(valid[m][..., None], x + change, 0) for m, x in self.features.items()}
        if self.kind == "gaps":
            return {"features": known, "valid": valid} | self.common
        z, seen = self.modules.encoders.apply(self.common["encoders"], known, valid)
        return {"z": z, "valid": seen}

    @property
    def features(self):
        return self.train.features

    @property
    def whole(self):
        return dict(self.train.valid)

    @functools.cached_property
    def gradient(self):
        """data -> the loss, and the gradient of each modality's network."""
        both = jax.jit(jax.value_and_grad(self.loss()))

        def of(data):
            value, gradient = both(self.params, data)
            return value, [jax.tree.map(lambda a, m=m: a[m], gradient) for m in range(3)]

        return of


@pytest.fixture(scope="module")
def networks(tiny_system):
    return {kind: Networks(kind, tiny_system) for kind in KINDS}


def without(valid, modality: int, rows):
    """The frames that are known, without a modality of some rows."""
    lost = valid[NAMES[modality]].copy()
    lost[rows] = False
    return valid | {NAMES[modality]: lost}


def zero(gradient) -> bool:
    return not any(np.any(a) for a in jax.tree.leaves(gradient))


@pytest.mark.parametrize("modality", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_lack_a_modality_add_nothing_to_its_network(kind, modality, networks):
    network = networks[kind]
    everyone = network.gradient(network.data(without(network.whole, modality, slice(None))))[1]
    assert [zero(gradient) for gradient in everyone] == [m == modality for m in range(3)]
    # Beside rows that have it they add nothing either, whatever else they hold.
    some = without(network.whole, modality, slice(0, None, 2))
    change = np.arange(ROWS)[:, None, None] % 2 == 0
    before, after = (network.gradient(network.data(some, x))[1] for x in (0.0, 1.5 * change))
    jax.tree.map(np.testing.assert_array_equal, before[modality], after[modality])
    assert not zero(before[modality])
    other = (modality + 1) % 3
    with pytest.raises(AssertionError):  # the others do learn from them
        jax.tree.map(np.testing.assert_array_equal, before[other], after[other])


@pytest.mark.parametrize("modality", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_one_modality_alone_teach_its_marginal(kind, modality, networks):
    """The same loss as without any condition, and of that network alone."""
    network, ids = networks[kind], others(3)[modality]
    valid = network.whole
    for other in ids:
        valid = without(valid, other, slice(None))
    data = network.data(valid)
    settings = {"gaps": 0.0} if kind == "gaps" else {}  # with gaps some of its own is shown
    value, gradient = jax.value_and_grad(network.loss(**settings))(network.params, data)
    assert [zero(jax.tree.map(lambda a: a[m], gradient)) for m in range(3)] == [  # noqa: B023
        m != modality for m in range(3)
    ]
    if kind == "gaps":
        rows = (*network.common.values(), data["features"], valid, valid)
        z, _ = encode_gaps(network.modules, *rows)
        keys = jax.random.split(jax.random.split(jax.random.split(KEY)[1], 3)[modality], 6)[:3]
        ids = np.arange(3)
    else:
        z, keys = data["z"], jax.random.split(jax.random.split(KEY, 3)[modality], 3)
    params = jax.tree.map(lambda a: a[modality], network.params)
    everywhere, nothing = np.ones((ROWS, FRAMES), bool), np.zeros((ROWS, len(ids), FRAMES), bool)
    kinds = np.broadcast_to(ids[:, None], nothing.shape) if kind == "gaps" else ids
    shown = (z[:, ids], kinds, nothing)
    error = matching(network.modules, "v", "clean", 0.0)
    error = error(params, z[:, modality], everywhere, *shown, keys)
    np.testing.assert_allclose(value, error.mean() / 3, rtol=1e-5)


def spied(network, data, count, key=KEY, gaps=0.5):
    """The loss with `count` (mask, condition_mask, condition_id, x0) -> (B,) in place of what is
    learned."""

    def error(params, x0, mask, condition, condition_id, condition_mask, keys):
        return count(mask, condition_mask, condition_id, x0).astype(jnp.float32)

    if network.kind == "whole":
        loss = losses.given_others(error)
    else:
        loss = gap_losses.given_gaps(network.modules, error, gaps)
    return float(loss(network.params, data, ONES, key, FRAMES))


@pytest.mark.parametrize("kind", KINDS)
def test_holes_inside_a_modality_are_no_targets(kind, networks):
    """Unknown frames behind the last known one are its end, which a network learns as zeros."""
    network = networks[kind]
    valid = {m: v.copy() for m, v in network.whole.items()}
    for m, unknown in (
        ("language", slice(1, 6)),
        ("acoustic", slice(2, 8)),
        ("vision", slice(1, 7)),
    ):
        valid[m][:, unknown] = False
    encoders, hole = network.common["encoders"], np.arange(FRAMES) == 1
    _, known = network.modules.encoders.apply(encoders, network.features, valid)
    assert (known == ~hole).all()

    def targets(valid, frames):
        counts = lambda mask, *_: (mask & frames).sum(-1)  # noqa: E731
        return spied(network, network.data(valid), counts)

    assert targets(valid, hole) == 0 < targets(valid, ~hole)
    alone = without(without(valid, 0, slice(None)), 2, slice(None))
    assert targets(alone, hole) == 0 < targets(alone, ~hole)
    # Nor where others have the frame: what is unknown of a target is zero in its latents.
    some = network.data(network.whole | {"acoustic": valid["acoustic"]})
    zeros = lambda mask, _, kinds, x0: (mask & (x0 == 0).all(-1)).sum(-1)  # noqa: E731
    assert spied(network, some, zeros) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_show_nothing_that_is_not_there(kind, networks, rng):
    network = networks[kind]
    valid = {m: v & (rng.random(len(v)) < 0.6)[:, None] for m, v in network.whole.items()}
    valid["language"][:] |= ~np.any([v.any(1) for v in valid.values()], 0)[:, None]
    data, present = network.data(valid), np.stack([v.any(1) for v in valid.values()], 1)
    assert not present.all() and present.any(1).all()

    def shown(there):
        def count(mask, condition_mask, condition_id, x0):
            of_kind = condition_id if condition_id.ndim == 1 else condition_id[..., 0] % 3
            of_kind = jnp.broadcast_to(of_kind, condition_mask.shape[:2])
            is_there = jnp.take_along_axis(jnp.asarray(present), of_kind, 1)
            return (condition_mask & (is_there == there)[..., None]).sum((1, 2))

        return spied(network, data, count)

    assert shown(False) == 0 < shown(True)
    # And something of what is: of rows with two modalities one is always shown.
    two, settings = present.sum(1) >= 2, {"gaps": 0.0} if kind == "gaps" else {}
    nothing = lambda mask, condition_mask, *_: two & ~condition_mask.any((1, 2))  # noqa: E731
    keys = jax.random.split(KEY, 5)
    assert two.any() and not any(spied(network, data, nothing, key=key, **settings) for key in keys)


def test_holes_are_unknown_frames_before_a_known_one():
    known = np.array([[0, 1, 0, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    expected = [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(losses.holes(known), np.array(expected, bool))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_reaches_what_networks_are_shown_and_never_what_they_draw(kind, networks):
    network = networks[kind]
    clean, noisy = (jax.jit(network.loss(noise=n)) for n in (0.0, 0.5))
    shown = network.data(network.whole)
    assert not np.allclose(clean(network.params, shown), noisy(network.params, shown), rtol=1e-5)
    if kind == "gaps":  # the target's own frames are shown, too
        return
    alone = without(without(network.whole, 1, slice(None)), 2, slice(None))
    alone = network.data(alone)
    np.testing.assert_array_equal(clean(network.params, alone), noisy(network.params, alone))
