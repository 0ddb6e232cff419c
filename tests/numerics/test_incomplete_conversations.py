"""Conversations whose utterances lack modalities or labels: what is not there teaches nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import tasks
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing import natural
from mmdjax.errors import UserError
from mmdjax.methods.graph import losses, phases
from mmdjax.methods.graph.diffusion import score_losses, shown
from mmdjax.methods.graph.programs import Sets
from mmdjax.methods.gsdnet import GSDNet
from mmdjax.runtime.progress import Reporter
from mmdjax.types import Observed, hidden

from .test_gsdnet import outputs, small, untrained

pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling


@pytest.fixture(scope="module")
def dataset():
    """A third of all utterances lack something, and half have no label."""
    config = small()
    complete = pipeline.dataset(config.data, config.task)
    splits = {name: natural.incomplete(b, 0.7, 0) for name, b in complete.splits.items()}
    return Dataset(
        {name: natural.partly_labelled(b, 0.5, 0) for name, b in splits.items()}, complete.task, ""
    )


@pytest.fixture(scope="module", params=("spectral", "dense"))
def method(request, dataset):
    """A variant, and parameters."""
    made = GSDNet(small(graph={"variant": request.param}), dataset, Reporter())
    return made, untrained(made)


def batch_of(system, rng):
    """What the losses read of four training conversations, and completed sets of them."""
    source = phases._rows(system)
    rows, common = source.rows["row"][:4], source.common
    present = np.asarray(common["all"].present)[rows]
    shapes = system.shapes_of_sets(4)
    x, graphs = (rng.standard_normal(s.shape).astype(np.float32) for s in shapes[2:])
    observed = np.asarray(losses.training_mask(jax.random.key(2), present))
    return common | {"row": rows, "sets": Sets(rows, observed, x, graphs)}


def every_loss(method, params, data):
    """Value and gradient of the losses of all phases."""
    system, task, weight = method.system, method.task, np.ones(4, np.float32)
    score, stage_2 = params[phases.SCORE_NAME], params[phases.STAGE_2_NAME]
    of_fill = lambda fill, beta: losses.completion_loss(system.predictor, task, fill, beta)  # noqa: E731
    calls = [(losses.score_loss(system.modules, "v"), score)]
    calls += [(of_fill(fill, 0.5), stage_2) for fill in ("complete", "mean", "draws")]
    for loss, own in calls:
        value = jax.jit(jax.value_and_grad(loss), static_argnames="frames")
        yield value(own, data, weight, jax.random.key(1), frames=16)


def equal(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)
        assert np.isfinite(left).all()


@pytest.mark.parametrize("garbage", [np.nan, 1e4])
def test_what_conversations_lack_changes_no_bit_of_any_loss(method, rng, garbage):
    method, params = method
    data = batch_of(method.system, rng)
    every, present = data["all"], data["all"].present

    def spoil(x, there):
        return jax.device_put(np.where(there[..., None], x, np.float32(garbage)))

    features = tuple(spoil(x, present[..., m]) for m, x in enumerate(every.features))
    spoiled = every._replace(x=spoil(every.x, present), features=features)
    assert not np.asarray(present)[data["row"]].all()
    expected = list(every_loss(method, params, data))
    assert all(value > 0 for value, _ in expected)
    equal(list(every_loss(method, params, data | {"all": spoiled})), expected)


def test_what_conversations_lack_changes_no_bit_of_data_draws_and_predictions(method, dataset):
    method, params = method

    def spoiled(batch):
        x = {m: np.where(batch.valid[m][..., None], x, np.nan) for m, x in batch.features.items()}
        return dataclasses.replace(batch, features=x)

    other = Dataset({k: spoiled(b) for k, b in dataset.splits.items()}, dataset.task, "")
    again = GSDNet(method.config, other, Reporter())
    # Labels that are not there are NaN, as they should be.
    data = [m.system.grouped.data._replace(label=jnp.zeros(())) for m in (again, method)]
    equal(*data)
    equal(again.system.scale, method.system.scale)
    observed = Observed.of_patterns(dataset.patterns[3:5], dataset.splits["test"].present)
    found, expected = (outputs(m, params, observed) for m in (again, method))
    equal(found, expected)
    # What an utterance lacks by nature is drawn like what is hidden from it.
    drawn = ~dataset.splits["test"].present[None] & ~observed.modalities
    assert drawn.any() and (expected[1][:, :, 0] != expected[1][:, :, 1])[drawn].all()


def test_nothing_is_shown_that_is_not_there(method, dataset):
    system = method[0].system
    present = np.asarray(system.grouped.data.present)[system.grouped.of_split["train"]]
    mask = np.asarray(losses.training_mask(jax.random.key(0), present))
    assert not (mask & ~present).any() and mask.any(-1).all() and (mask != present).any()
    there = dataset.splits["valid"].present
    masks = system.validation_masks()
    assert not (masks & ~there).any() and masks.any(-1).all()
    assert not (
        system.everything("valid")[1] != system.under("valid", np.ones_like(masks[:1]))[1]
    ).any()


def test_an_utterance_without_a_label_has_no_gradient(method, rng):
    method, params = method
    data = batch_of(method.system, rng)
    nowhere = data["all"]._replace(label=jax.device_put(np.full_like(data["all"].label, np.nan)))
    _, *of_labels = every_loss(method, params, data | {"all": nowhere})
    for value, gradient in of_labels[:2]:
        assert value == 0 and all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradient))
    # Of draws the reconstruction remains, which reaches no classifier.
    value, gradient = of_labels[2]
    assert value > 0 and all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradient["gcn"]))


@pytest.mark.parametrize(
    ("task", "label"),
    [
        (tasks.Regression(-3, 3), [[0.5, np.nan, 1.0]]),
        (tasks.Classification(("a", "b")), [[1, np.nan, 0]]),
        (tasks.MultiLabel(("a", "b")), [[[1, 0], [0, np.nan], [1, 1]]]),
    ],
)
def test_losses_of_conversations_are_exactly_zero_without_a_label(task, label):
    label, output = np.array(label, np.float32), np.full((1, 3, task.outputs), 0.3, np.float32)
    found = task.losses(output, label)
    assert found[0, 1] == 0 and (found[0, ::2] > 0).all()
    gradient = jax.grad(lambda output: task.losses(output, label).sum())(output)
    assert (gradient[0, 1] == 0).all() and (gradient[0, ::2] != 0).any(-1).all()


def test_only_what_is_there_is_a_target_of_the_score_loss(method):
    method, params = method
    system = method.system
    data, modules = system.grouped.data, system.modules
    train = system.grouped.of_split["train"]
    batch = jax.tree.map(lambda a: a[train], data._replace(label=data.position))
    observed = hidden(jnp.asarray([True, False, False]), batch.present)
    given = shown(modules.state, batch.graphs, batch.x, observed, 1.0, batch.present)
    there = batch.present & batch.graphs.valid[..., None]
    np.testing.assert_array_equal(given.drawn, there & ~observed)
    known = system.grouped.known("train")
    assert not (np.asarray(~given.kept) & ~known).any()

    def of(observed, present):
        about = (batch.graphs, batch.x, observed, present, system.scale, jax.random.key(0), "v")
        return score_losses(modules, params[phases.SCORE_NAME], *about)

    for loss in of(batch.present, batch.present):
        np.testing.assert_array_equal(loss, 0)
    _, of_graphs = of(observed, batch.present)
    unknown = ~(known & ~np.asarray(observed).all(1)).any(1)
    assert unknown.any() and not unknown.all()
    np.testing.assert_array_equal(np.asarray(of_graphs) == 0, unknown)


def test_graphs_that_are_never_known_are_refused_and_need_not_be_drawn(dataset):
    batch = dataset.splits["train"]
    first = np.append(True, batch.talk.conversation[1:] != batch.talk.conversation[:-1])
    valid = batch.valid | {"vision": batch.valid["vision"] & ~first[:, None]}
    rows = np.flatnonzero(np.any([v.any(1) for v in valid.values()], axis=0))
    never = dataclasses.replace(batch, valid=valid).at(rows)
    lacking = Dataset(dataset.splits | {"train": never}, dataset.task, "")
    said = "no training conversation has 'vision' in every utterance, .*'structure'"
    with pytest.raises(UserError, match=said) as error:
        GSDNet(small(), lacking, Reporter()).phases  # noqa: B018
    assert "\n" not in str(error.value)
    assert GSDNet(small(graph={"variant": "structure"}), lacking, Reporter()).phases
