"""A served model that tests of several files ask."""

import numpy as np
import pytest

import mmdjax
from mmdjax.data.sources import synthetic
from tests.contracts.tiny_models import NAMES, make


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(method, its parameters, imputer, features and gaps of a dozen utterances)."""
    folder = tmp_path_factory.mktemp("served")
    system, params = make(folder, 0.5)
    features = synthetic.read(1, 1, 12, 0)["test"].features
    rng, observed = np.random.default_rng(0), {}
    for m, x in features.items():
        observed[m] = rng.random(x.shape[:2]) > 0.4
        observed[m][:, 0] = True
    observed["vision"][:4] = False
    observed["acoustic"][2:6] = False
    for m in NAMES:
        observed[m][8:10] = True
    imputer = mmdjax.Imputer.load(folder, batch=8)
    return system, params, imputer, dict(features), observed, folder
