"""What is served of each kind of method and task; labels that a fit takes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import mmdjax
from mmdjax import config as configs
from mmdjax.data.settings import Labels
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
from mmdjax.methods.latent.served import LatentRoute
from mmdjax.serving import bundle, fit, loader
from mmdjax.serving.export import export
from mmdjax.tasks import Classification, MultiLabel
from mmdjax.types import Observed

from ..conftest import TINY
from .tiny_models import make, nan_says_missing, quick_compiling  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a model that draws, frames too."""
    folder = tmp_path_factory.mktemp("served")
    make(folder, 0.5)
    return folder


def test_a_constant_is_served_as_it_is_evaluated(tmp_path):
    system, params = make(tmp_path, 0.0, method="zero_trained")
    imputer = mmdjax.Imputer.load(tmp_path, batch=8)
    test = system.dataset.splits["test"]
    observed = Observed.of_patterns(np.array([[True, False, True]]), test.present)
    completion = system.complete(params, "test", observed, 1, jax.random.key(0), "")
    predictor = system.classifier(params)
    if imputer.signature["predictor"] == "stage2":
        predictor = system.predictor(params)
    expected = system.predict_with(predictor, params, "test", completion)[0, :, 0]
    found = imputer.predict(test.features | {"acoustic": None})
    assert imputer.signature["draws"] == 1
    np.testing.assert_allclose(found.mean, expected, atol=1e-5)


@pytest.mark.parametrize("task", [Classification(("sad", "glad")), MultiLabel(("a", "b", "c"))])
def test_classes_and_labels_are_served_and_exported(tmp_path, task):
    system, _ = make(tmp_path, 0.5, task=task)
    imputer = mmdjax.Imputer.load(tmp_path, batch=8)
    test = system.dataset.splits["test"].features
    given = {m: x[:5] for m, x in test.items()} | {"vision": None}
    found, size = imputer.predict(given, draws=2, seed=5), len(task.names)
    assert found.names == task.names and imputer.task == task
    assert found.draws.shape == (5, 2, size) and found.mean.shape == found.within.shape == (5, size)
    assert found.within[np.arange(5), found.mean.argmax(-1)].all() or task.kind == "multi_label"
    assert (found.low is None) == (task.kind == "classification")
    export(imputer, tmp_path / "model.mmdjax", draws=2, platforms=("cpu",))
    model = loader.load(tmp_path / "model.mmdjax", batches=(8,))
    assert model.signature["task"] == json.loads(json.dumps(task.describe()))
    made = model(given, seed=5)
    np.testing.assert_allclose(made["mean"], found.mean, atol=1e-5)
    np.testing.assert_array_equal(made["within"], found.within)


def test_a_model_of_another_format_is_refused_in_one_line(folder, tmp_path):
    model = bundle.load(bundle.find(folder))
    bundle.save(tmp_path, model)
    signature = tmp_path / "signature.json"
    signature.write_text(json.dumps(json.loads(signature.read_text()) | {"format": 1}))
    with pytest.raises(UserError, match="has format 1, of another version; allowed: 5") as error:
        mmdjax.Imputer.load(tmp_path)
    assert "\n" not in str(error.value)


class Silent(LatentRoute):
    """Completes something that is no feature."""

    features = False


def test_a_method_whose_completions_are_no_features_predicts_alone(folder, tmp_path):
    given = dict(synthetic.read(1, 1, 12, 0)["test"].features) | {"vision": None}
    given["language"][3, 2] = np.nan
    imputer = mmdjax.Imputer.load(folder, batch=8)
    expected = imputer.predict(given, draws=2, seed=5)
    fields = (f.name for f in dataclasses.fields(imputer.route))
    imputer.route = Silent(*(getattr(imputer.route, name) for name in fields))
    with pytest.raises(UserError, match="'two_stage' completes no features; allowed: predict"):
        imputer.impute(given)
    signature = export(imputer, tmp_path / "model.mmdjax", draws=2, platforms=("cpu",))
    assert signature["outputs"].keys() == {"draws", "mean", "spread", "low", "high"}
    made = loader.load(tmp_path / "model.mmdjax", batches=(16,))(given, seed=5)
    np.testing.assert_allclose(made["mean"], expected.mean, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "settings", "expected", "task"),
    [
        (["sad", "glad", "sad"], {"kind": "classification"}, [1, 0, 1], ("glad", "sad")),
        (["b", "a"], {"kind": "classification", "names": ("b", "a")}, [0, 1], ("b", "a")),
        ([2, 0, 1], {}, [2, 0, 1], ("0", "1", "2")),
        ([[0.5], [-1.0]], {}, [0.5, -1.0], ()),
        ([[0, 1], [1, 1]], {}, [[0, 1], [1, 1]], ("0", "1")),
    ],
)
def test_labels_of_a_fit_are_numbers_or_names(labels, settings, expected, task):
    label, made = fit._labels(labels, Labels(**settings))
    np.testing.assert_array_equal(label, expected)
    assert made.names == task
    made.check(label, "labels")


@pytest.mark.parametrize(
    ("labels", "settings", "said"),
    [
        (["a", "b"], {}, "labels of dtype .*allowed: a number an utterance, or names of classes"),
        (["a", "c"], {"kind": "classification", "names": ("a", "b")}, "labels: 'c'; allowed: a, b"),
        ([np.nan, np.nan], {}, "labels: 0 of 2 known; allowed: at least 8"),
        ([], {}, "labels: 0 of 0 known"),
    ],
)
def test_labels_that_are_none_are_refused_in_one_line(labels, settings, said):
    with pytest.raises(UserError, match=said) as error:
        fit._labels(labels, Labels(**settings))
    assert "\n" not in str(error.value)


def test_what_cannot_be_fitted_is_refused_in_one_line():
    x = {m: np.ones((9, 3, 2), np.float32) for m in ("a", "b")}
    for method, arguments, said in (
        ("linear_probe", {}, "'linear_probe'; allowed to fit: .*two_stage"),
        ("two_stage", {"validation": 1.0}, "validation = 1.0; allowed: above 0 and below 1"),
        ("two_stage", {"speaker": ["A"] * 9}, "speaker is given, .*'two_stage'.*one by one"),
    ):
        imputer = mmdjax.Imputer(configs.from_dict(TINY | {"method": method}))
        with pytest.raises(UserError, match=said) as error:
            imputer.fit(x, np.linspace(-1, 1, 9), **arguments)
        assert "\n" not in str(error.value)
