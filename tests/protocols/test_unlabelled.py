"""Utterances without a label: what learns from them, and what never does."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.natural import partly_labelled
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.latent import losses, phases
from mmdjax.methods.method import registry
from mmdjax.networks.encoders import Reconstruction
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import SENTIMENT, Classification, MultiLabel, Regression
from mmdjax.training.train import train
from mmdjax.types import Observed, known_labels
from mmdjax.workdir import Places
from tests.conftest import tiny_values

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

TASKS = {
    "one number": (SENTIMENT, lambda n: np.linspace(-3, 3, n)),
    "a class": (Classification(("a", "b", "c")), lambda n: np.arange(n) % 3),
    "several numbers": (Regression(0, 1, ("a", "b")), lambda n: np.linspace(0, 1, 2 * n)),
    "several labels": (MultiLabel(("a", "b")), lambda n: np.arange(2 * n) % 2),
}


def labels_of(kind: str, rows: int) -> np.ndarray:
    task, make = TASKS[kind]
    return np.asarray(make(rows), np.float32).reshape(rows, *task.label_shape)


@pytest.mark.parametrize("kind", TASKS)
def test_rows_without_labels_add_neither_loss_nor_gradient(kind, rng):
    """A row of which one number of several is missing has no label either."""
    task, label = TASKS[kind][0], labels_of(kind, 6)
    output = rng.normal(size=(6, task.outputs)).astype(np.float32)
    weight = np.array([1, 1, 1, 1, 1, 0], np.float32)  # the last is padding
    label.reshape(6, -1)[1::2, -1] = np.nan
    known = label.reshape(6, -1)[:, -1] == label.reshape(6, -1)[:, -1]
    loss, gradient = jax.value_and_grad(task.mean_loss)(output, label, weight)
    expected = np.asarray(task.loss(output[known], label[known])) * weight[known]
    np.testing.assert_allclose(loss, expected.sum() / 6, rtol=1e-6)
    assert (np.any(gradient, axis=1) == known * (weight > 0)).all()
    predicted = np.asarray(task.read(output))
    error = task.error(predicted[known], label[known]).mean()
    assert task.mean_error(predicted, label) == pytest.approx(error)


@pytest.fixture(scope="module")
def parts(tiny_system, tiny_dataset):
    """Modules, a reconstruction, parameters, and what the losses read of 16 rows."""
    rows = losses.utterance_rows(tiny_dataset.standardised["train"].at(np.arange(16)))
    modules, reconstruction = tiny_system.modules, Reconstruction(tiny_system.modalities)
    params = tiny_system.initial_classifier(jax.random.key(0))
    x, _ = modules.encoders.apply(params["encoders"], rows["features"], rows["valid"])
    init = reconstruction.init(jax.random.key(1), x, rows["features"], rows["valid"])
    return modules, reconstruction, params | {"reconstruction": init}, rows


@pytest.mark.parametrize("reconstructs", [False, True])
def test_rows_without_labels_never_reach_the_classifier_s_loss(reconstructs, parts):
    modules, reconstruction, params, rows = parts
    share, weight = {"labelled": np.float32(0.5), "weight": np.float32(0.1)}, np.ones(16, "f4")
    loss_fn = losses.classifier_loss(
        modules.encoders, modules.fusion, SENTIMENT, reconstruction if reconstructs else None
    )

    @jax.jit
    def loss(label, features):
        data = rows | share | {"label": label, "features": features}
        return jax.value_and_grad(loss_fn)(params, data, weight, jax.random.key(3), 4)

    def zero(tree):
        return not any(np.any(a) for a in jax.tree.leaves(tree))

    label, features = rows["label"].copy(), rows["features"]
    total, gradient = loss(np.full_like(label, np.nan), features)
    assert zero(gradient["fusion"]) and (total > 0) == reconstructs
    assert all(zero(gradient[name]) != reconstructs for name in ("encoders", "reconstruction"))
    # Beside rows with labels they change nothing, whatever they hold.
    label[::2] = np.nan
    odd = (np.arange(16) % 2)[:, None, None]
    other = {m: np.where(odd, x, -2 * x) for m, x in features.items()}
    (one, before), (two, after) = loss(label, features), loss(label, other)
    jax.tree.map(np.testing.assert_array_equal, before["fusion"], after["fusion"])
    assert not zero(before["fusion"]) and (one != two) == reconstructs


def method_on(name: str, dataset: Dataset, **latents):
    values = tiny_values(name)
    values["latents"] = values["latents"] | latents
    return registry()[name](configs.from_dict(values), dataset, Reporter())


def with_labels(dataset: Dataset, split: str, label) -> Dataset:
    batch = dataclasses.replace(dataset.splits[split], label=label)
    return Dataset(dataset.splits | {split: batch}, dataset.task, "x", dataset.optimum)


def trained(method, folder):
    return train(method, 0, Places(folder, "x").phase(method.config, 0)).params


def test_a_fully_labelled_set_trains_the_same_numbers_whatever_reconstruction_is(
    tiny_dataset, tmp_path
):
    methods = [method_on("zero", tiny_dataset, reconstruction=w) for w in (0.0, 0.1, 5.0)]
    found = [trained(m, tmp_path / str(i)) for i, m in enumerate(methods)]
    assert found[0]["classifier"].keys() == {"encoders", "fusion"}
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)
    assert methods[0].phases[0].loss is methods[2].phases[0].loss  # that of labels alone


@pytest.fixture(scope="module")
def half(tiny_dataset):
    """The tiny set with labels of half of the training utterances, and its latent space."""
    train = partly_labelled(tiny_dataset.splits["train"], 0.5, 0)
    return with_labels(tiny_dataset, "train", train.label)


def test_encoders_learn_from_rows_without_labels_and_classifiers_do_not(half, tmp_path):
    known = known_labels(half.splits["train"].label)
    assert known.sum() == 24 and len(known) == 48
    on, off = (method_on("zero_trained", half, reconstruction=w) for w in (0.1, 0.0))
    rows = {m: len(phases.of_name(m, "classifier").bucket) for m in (on, off)}
    assert rows == {on: 48, off: 24}
    assert len(phases.of_name(on, "zero").bucket) == 24
    assert len(phases.of_name(on, "score").bucket) == 48  # scores need no label
    params = trained(on, tmp_path / "on")
    assert "reconstruction" in params["classifier"]
    source, _ = phases.of_name(on, "classifier").load({}, 0, None)
    assert source.common["labelled"] == 0.5
    # Off, what the unlabelled rows hold is never read but for the scale of features.
    features = {m: x.copy() for m, x in off.splits["train"].features.items()}
    for x in features.values():
        x[~known] *= -1
    other = method_on("zero_trained", half, reconstruction=0.0)
    other.splits = off.splits | {
        "train": dataclasses.replace(off.splits["train"], features=features)
    }
    one, two = trained(off, tmp_path / "off"), trained(other, tmp_path / "other")
    jax.tree.map(np.testing.assert_array_equal, one["classifier"], two["classifier"])


def test_stage_2_learns_from_labelled_rows_in_their_order(half):
    method = method_on("zero_trained", half)
    params = method.init_encoders(jax.random.key(0))
    before = {"classifier": {"encoders": params}}
    source, validate = phases.of_name(method, "zero").load(before, 0, None)
    known = known_labels(half.splits["train"].label)
    np.testing.assert_array_equal(source.rows["label"], half.splits["train"].label[known])
    z = method.standardised(params)[1]["train"]
    np.testing.assert_array_equal(source.rows["z"], z.x[known])
    assert np.isfinite(validate(method.initial_classifier(jax.random.key(1))))


def test_rows_without_labels_are_answered_and_not_measured(tiny_dataset):
    label = tiny_dataset.splits["test"].label.copy()
    label[::3] = np.nan
    partly = with_labels(tiny_dataset, "test", label)
    method = method_on("linear_probe", partly)
    conditions = conditions_of(partly, method.config.evaluation, 0)
    rows = evaluate([Member("probe", method, {}, 1)], conditions, 0)["probe"]
    got = {(r["protocol"], r["condition"], r["metric"]): r["value"] for r in rows}
    known = known_labels(label)
    for condition in conditions[:3]:
        found = method.complete({}, "test", condition.observed, 1, None, "")
        prediction = method.predict({}, "test", found)[0, :, 0]
        assert np.isfinite(prediction).all()
        for metric, value in SENTIMENT.metrics(prediction[known], label[known]).items():
            assert got["fixed", condition.name, metric] == pytest.approx(value)


def test_validation_and_calibration_pass_over_rows_without_labels(tiny_dataset):
    """A label that is taken away does what the row's absence does."""
    label = tiny_dataset.splits["valid"].label.copy()
    label[::4] = np.nan
    known = np.flatnonzero(known_labels(label))
    partly = with_labels(tiny_dataset, "valid", label)
    valid = tiny_dataset.splits["valid"].at(known)
    fewer = Dataset(tiny_dataset.splits | {"valid": valid}, SENTIMENT, "fewer")
    tables, errors = [], []
    for dataset in (partly, fewer):
        method = method_on("zero", dataset)
        params = {"classifier": method.initial_classifier(jax.random.key(0))}
        tables.append(method.server().served(method, params, 0).arrays["bounds"])
        _, validate = phases.of_name(method, "classifier").load({}, 0, None)
        errors.append(validate(params["classifier"]))
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-5), *tables)
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


def test_gaps_that_depend_on_the_label_hide_something_of_rows_without_one(tiny_dataset):
    label = tiny_dataset.splits["test"].label.copy()
    label[:5] = np.nan
    evaluation = configs.Evaluation(rates=(), gaps=("label_dependent=0.5",))
    condition = conditions_of(with_labels(tiny_dataset, "test", label), evaluation, 0)[-1]
    assert isinstance(condition.observed, Observed) and condition.observed.modalities.any(-1).all()
