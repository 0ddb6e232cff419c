"""GSDNet on a data set: what is hidden, what a draw depends on, and utterances that stand alone."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.errors import UserError
from mmdjax.methods.graph import initial, phases
from mmdjax.methods.graph.conversations import automatic_lengths
from mmdjax.methods.gsdnet import GSDNet, GSDNetComplete, GSDNetMean
from mmdjax.methods.method import stream
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import Classification
from mmdjax.training.step import steps_per_epoch
from mmdjax.types import Batch, Observed
from tests.conftest import TINY_CONVERSATIONS

SMALL = TINY_CONVERSATIONS | {
    "method": "gsdnet",
    "score": {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "time_features": 8},
    "diffusion": {"sampler": "ddim", "nfe": 2},
    "evaluation": {"draws": 2, "batch": 8},
}


def small(**changes):
    groups = {name: SMALL.get(name, {}) | values for name, values in changes.items()}
    return configs.from_dict(SMALL | groups)


pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling


@pytest.fixture(scope="module")
def dataset():
    config = small()
    return pipeline.dataset(config.data, config.task)


def untrained(method) -> dict:
    """Parameters of all phases, with nothing hidden by a zero gate."""
    params = {}
    for phase in method.phases:
        key = jax.random.fold_in(jax.random.key(0), stream(phase.name))
        start = phase.init(key, params)
        params[phase.name] = jax.tree.map(lambda a: np.asarray(a) + np.float32(0.05), start)
    return params


@pytest.fixture(scope="module", params=("spectral", "dense"))
def method(request, dataset):
    """A variant, and parameters."""
    config = small(graph={"variant": request.param})
    made = GSDNet(config, dataset, Reporter())
    return made, untrained(made)


def masks(dataset, conditions=1):
    rows, modalities = len(dataset.splits["test"]), len(dataset.modalities)
    mask = np.random.default_rng(0).random((conditions, rows, modalities)) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return mask


def outputs(method, params, observed, draws=2):
    done = method.complete(params, "test", observed, draws, jax.random.key(3), "draws")
    features = [method.compared(params, done, m) for m in range(len(method.modalities))]
    return [method.predict(params, "test", done), *done.x, *features]


def test_completions_are_laid_out_as_the_contract_says(method, dataset):
    method, params = method
    mask = masks(dataset, 2)
    prediction, x, graphs, *features = outputs(method, params, Observed(mask))
    rows = mask.shape[1]
    assert prediction.shape == (2, rows, 2)
    assert x.shape == (2, rows, 2, 3, 4) and graphs.shape[:3] == (2, rows, 2)
    for (true, exists), own in zip(method.truth(params, "test"), features, strict=True):
        assert own.shape == (2, rows, 2, *true.shape[1:]) and exists.shape == (rows, 1)
    # What is observed is in every draw.
    known = method.system.grouped.components.of([t[:, 0] for t, _ in method.truth(params, "test")])
    shown = np.repeat(mask[:, :, None], 2, axis=2)
    expected = np.broadcast_to(known[None, :, None], x.shape)
    np.testing.assert_array_equal(x[shown], expected[shown])
    assert np.abs(x - x[:, :, ::-1])[~shown].max() > 0.01


def test_nan_in_hidden_entries_and_labels_changes_no_output_bit(method, dataset):
    method, params = method
    observed = Observed(masks(dataset))
    test = dataset.splits["test"]
    hidden = {
        m: np.where(observed.modalities[0, :, i, None, None], test.features[m], np.nan)
        for i, m in enumerate(test.modalities)
    }
    nowhere = np.full_like(test.label, np.nan)
    spoiled = dataclasses.replace(test, features=hidden, label=nowhere)
    other = Dataset(dataset.splits | {"test": spoiled}, dataset.task, "")
    expected = outputs(method, params, observed)
    with jax.debug_nans(False):
        found = outputs(GSDNet(method.config, other, Reporter()), params, observed)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_a_draw_depends_on_its_conversation_and_number_alone(method, dataset):
    """Not on the other conditions, how many draws are made, or the other conversations."""
    method, params = method
    mask = masks(dataset, 2)
    many = outputs(method, params, Observed(mask))
    few = outputs(method, params, Observed(mask[1:]), draws=1)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_allclose(a[0, :, 0], b[1, :, 0], atol=1e-5)
    test = dataset.splits["test"]
    kept = np.flatnonzero(test.talk.conversation == test.talk.conversation[0])
    shorter = Dataset(dataset.splits | {"test": test.at(kept)}, dataset.task, "")
    alone = outputs(GSDNet(method.config, shorter, Reporter()), params, Observed(mask[:, kept]))
    for a, b in zip(alone, many, strict=True):
        np.testing.assert_allclose(a, b[:, kept], atol=1e-5)


def test_with_nothing_missing_draws_are_the_conversation_itself(method, dataset):
    method, params = method
    everything = Observed(np.ones_like(masks(dataset)))
    done = method.complete(params, "test", everything, 1, jax.random.key(0), "draws")
    assert done.nfe == 0
    x = [t[:, 0] for t, _ in method.truth(params, "test")]
    np.testing.assert_array_equal(done.x.x[0, :, 0], method.system.grouped.components.of(x))


def test_methods_share_what_does_not_depend_on_the_variant(method, dataset):
    method, params = method
    complete, mean = (
        cls(method.config, dataset, Reporter()) for cls in (GSDNetComplete, GSDNetMean)
    )
    assert complete.system is method.system and mean.plain is method.plain
    assert mean.system.grouped is method.system.grouped
    assert complete.completes == method.completes != mean.completes
    assert not {"graph", "graph.variant"} & set(phases.CLASSIFIER)
    assert "graph.variant" in phases.SCORE
    observed = Observed(masks(dataset))
    done = method.complete(params, "test", observed, 2, jax.random.key(0), "draws")
    assert complete.predict(params, "test", done).shape == done.x.x.shape[:3]
    filled = mean.complete(params, "test", observed, 1, jax.random.key(0), "fills")
    assert (filled.x.x[0, :, 0][~observed.modalities[0]] == 0).all()


def test_training_sets_are_the_same_for_any_batch_and_shapes_are_known_before(method):
    method, params = method
    phase = method.phases[2]
    shapes, source = phase.expects()
    again = phase.init(jax.random.key(0), params)
    alike = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert all(jax.tree.leaves(jax.tree.map(alike, shapes, again)))
    found, validate = phase.load(params, 0, None)
    assert all(jax.tree.leaves(jax.tree.map(alike, source, found)))
    assert len(phase.bucket) == len(found.rows["sets"].conversation)
    assert steps_per_epoch(phase.bucket, 4) == 3
    assert np.isfinite(validate(params[phase.name]))
    sets = phases.training_sets(method.system, params[phases.SCORE_NAME], 0, 1)
    np.testing.assert_array_equal(sets.x, found.rows["sets"].x)
    values = found.at(np.arange(4))
    loss = phase.loss(params[phase.name], values, np.ones(4), jax.random.key(0), 16)
    assert np.isfinite(loss)


def test_utterances_that_stand_alone_are_conversations_of_one_whose_frames_are_pooled(rng):
    def batch(rows):
        x = {m: rng.standard_normal((rows, 3, c)).astype(np.float32) for m, c in SIZES.items()}
        valid = {m: np.arange(3) < rng.integers(1, 4, (rows, 1)) for m in SIZES}
        names = np.array([str(i) for i in range(rows)])
        return Batch(x, valid, rng.integers(0, 3, rows), names)

    SIZES = {"language": 5, "acoustic": 4}
    splits = {"train": batch(20), "valid": batch(6), "test": batch(7)}
    dataset = Dataset(splits, Classification(("a", "b", "c")), "")
    config = small(graph={"lengths": ()})
    method = GSDNet(config, dataset, Reporter())
    assert method.system.grouped.lengths == (1,)
    params = untrained(method)
    mask = np.array([[True, False]] * 7)[None]
    prediction, *_ = outputs(method, params, Observed(mask))
    assert prediction.shape == (1, 7, 2, 3)
    np.testing.assert_allclose(prediction.sum(-1), 1, atol=1e-5)
    x, valid = splits["test"].features["language"], splits["test"].valid["language"]
    mean, scale = dataset.pooled.scaling["language"]
    expected = ((x[0][valid[0]].mean(0) - mean) * scale).astype(np.float32)
    np.testing.assert_allclose(method.truth(params, "test")[0][0][0, 0], expected, atol=1e-5)


def test_lengths_are_few_and_hold_every_conversation():
    def of(train, test=1):
        return automatic_lengths({"train": np.array(train), "test": np.array([test])})

    assert of([1, 1]) == (1,)
    assert of([13] * 9 + [2]) == (13,)
    assert of([3, 4, 7, 8, 13, 15]) == (4, 8, 15)
    assert of([3, 4, 7, 8, 13, 15], 40) == (4, 8, 15, 40)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"graph": {"variant": "fast"}}, "allowed: spectral, dense"),
        ({"graph": {"basis": "some"}}, "allowed: structure, time, every_pair"),
        ({"graph": {"lengths": (16, 8)}}, "config.graph.lengths = .*allowed: increasing"),
        ({"graph": {"spectrum_width": 9}}, "allowed: a multiple of 2 heads"),
        ({"graph": {"published": "IEMOCAP"}}, "MOSI, MOSEI"),
        ({"diffusion": {"sampler": "adaptive", "nfe": 0}}, "with a fixed grid"),
    ],
)
def test_what_gsdnet_cannot_do_is_refused_in_one_line(changes, said):
    with pytest.raises(UserError, match=said) as error:
        GSDNet.check(small(**changes))
    assert "\n" not in str(error.value)


def test_a_conversation_that_no_length_holds_is_refused(dataset):
    method = GSDNet(small(graph={"lengths": (4, 8)}), dataset, Reporter())
    said = "utterances; allowed: at most 8, the last of config.graph.lengths"
    with pytest.raises(UserError, match=said):
        method.phases  # noqa: B018


def test_variants_have_names_of_their_own():
    of = lambda variant: small(graph={"variant": variant})  # noqa: E731
    assert GSDNet.describe(of("spectral"), "GSDNet, K = 2") == "GSDNet, K = 2"
    assert GSDNet.describe(of("dense"), "GSDNet, K = 2") == "GSDNet, dense, K = 2"
    assert GSDNetMean.describe(of("dense"), GSDNetMean.label) == "GCN, mean"


def test_new_refinements_change_nothing(method):
    """D_X and D_Lambda are the identity at first: stage 2 starts from the draws themselves."""
    method, _ = method
    start = initial.initial_refine(method.system, jax.random.key(0))
    last = [v["params"]["out"] for v in start.values()]
    assert all((np.asarray(a) == 0).all() for a in jax.tree.leaves(last))
