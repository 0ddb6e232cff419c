"""`Imputer` among other libraries: scikit-learn's conventions, others' arrays, notebooks."""

import jax
import numpy as np
import pandas
import pytest
import xarray
from sklearn.base import clone

import mmdjax
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
from mmdjax.serving.bundle import publish

from .tiny_models import nan_says_missing  # noqa: F401


@pytest.fixture(scope="module")
def imputer(tiny_trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    method, params, *_ = tiny_trained("two_stage")
    publish(method, params, 0, folder / "model" / "seed_0", "data")
    return mmdjax.Imputer.load(folder)


@pytest.fixture
def features():
    x = dict(synthetic.read(1, 1, 6, 0)["test"].features)
    return x | {"vision": None}


def test_scikit_learn_clones_it_untrained_with_the_same_arguments():
    config = {"method": "two_stage", "seeds": (3,)}
    made = mmdjax.Imputer(config, batch=8, verbose=False)
    copy = clone(made)
    assert (
        copy.get_params()
        == made.get_params()
        == {
            "config": config,
            "batch": 8,
            "verbose": False,
        }
    )
    assert copy.parameters is None and copy.config == made.config


def test_a_trained_one_is_cloned_untrained(imputer):
    copy = clone(imputer)
    assert imputer.parameters is not None and copy.parameters is None
    assert copy.config.score == imputer.config.score


def test_set_params_changes_arguments_and_another_config_makes_it_untrained(imputer, features):
    other = mmdjax.Imputer(*imputer.get_params().values())
    assert other.set_params(batch=4) is other
    assert other.batch == other.get_params()["batch"] == 4
    other.set_params(config={"seeds": (7,)})
    assert other.config.seeds == (7,) and other.parameters is None and other.batch == 4
    with pytest.raises(UserError, match=r"'draws'.*config, batch, verbose"):
        other.set_params(draws=3)


def test_transform_is_one_draw(imputer, features):
    filled = imputer.transform(features, seed=2)
    for m, x in imputer.impute(features, seed=2).features.items():
        np.testing.assert_array_equal(filled[m], x)


class Tensor:
    """Behaves as a tensor of torch that requires a gradient and is on a GPU."""

    def __init__(self, x, plain=False):
        self.x, self.plain = x, plain

    def __len__(self):
        return len(self.x)

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.x, plain=True)

    def __array__(self, dtype=None, copy=None):
        assert self.plain, "call detach and cpu first"
        return np.asarray(self.x, dtype)


@pytest.mark.parametrize(
    "of",
    [Tensor, jax.numpy.asarray, xarray.DataArray],
    ids=["torch", "jax", "xarray"],
)
def test_arrays_of_other_libraries_are_read_as_numpys(of, imputer, features):
    expected = imputer.predict(features).mean
    columns = {m: None if x is None else of(x) for m, x in features.items()}
    np.testing.assert_array_equal(imputer.predict(columns).mean, expected)
    apart = {m: None if x is None else [of(row) for row in x] for m, x in features.items()}
    np.testing.assert_array_equal(imputer.predict(apart).mean, expected)


def test_a_dataset_of_xarray_is_a_dict_of_modalities(imputer, features):
    given = {m: x for m, x in features.items() if x is not None}
    named = {m: ((f"row_{m}", f"frame_{m}", f"channel_{m}"), x) for m, x in given.items()}
    expected = imputer.predict(given).mean
    np.testing.assert_array_equal(imputer.predict(xarray.Dataset(named)).mean, expected)


def test_missing_numbers_of_pandas_are_missing():
    from mmdjax.serving.inputs import as_array

    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": pandas.array([None, 4], dtype="Int64")})
    np.testing.assert_array_equal(as_array(frame), [[1, np.nan], [2, 4]])
    words = pandas.Series(["happy", None])
    assert as_array(words) == ["happy", None]
    arrays = pandas.Series([np.ones((3, 2)), None])
    assert as_array(arrays)[0].shape == (3, 2)


def test_progress_ends_with_all_utterances(imputer, features):
    told = []
    imputer.predict(features, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6) and sorted(told) == told


def test_it_shows_itself_in_one_line_and_as_a_table(imputer):
    line = repr(imputer)
    assert "two_stage" in line and "language (8, 8)" in line and "\n" not in line
    page = imputer._repr_html_()
    assert page.count("<tr>") == 4 and "vision" in page and "seed 0" in page
    assert repr(mmdjax.Imputer()) == "Imputer(method='two_stage', not trained)"


def test_features_that_are_no_dict_are_told_by_their_type(imputer):
    with pytest.raises(UserError, match="features are a DataFrame"):
        imputer.predict(pandas.DataFrame({"a": [1.0]}))
    with pytest.raises(UserError, match="features are a DataFrame"):
        mmdjax.Imputer().fit(pandas.DataFrame({"a": [1.0]}), [1.0])
