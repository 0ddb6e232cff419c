"""Utterances as the page shows them: from a file that the server was started with, or a user's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.formats.tables import LABELS
from mmdjax.errors import UserError, require
from mmdjax.methods.reading import find_lengths
from mmdjax.serving.http import bodies
from mmdjax.serving.loader import Model

MOST = 12  # utterances of a file, evenly spaced
SUFFIXES = {".npz": bodies.NPZ, ".json": bodies.JSON}


def of_file(model: Model, path: Path, most: int) -> list[dict]:
    """Return utterances of a file; see `of_columns`.

    Raises:
      UserError: it cannot be read, or does not fit the model.
    """
    kind = SUFFIXES.get(path.suffix)
    require(kind, f"--examples={path}", f"a file that ends in {' or '.join(SUFFIXES)}")
    try:
        return of_columns(model, bodies.columns(path.read_bytes(), kind, most))
    except UserError as error:
        raise UserError(f"--examples={path}: {error}") from None


def of_columns(model: Model, columns: Mapping) -> list[dict]:
    """Return {'id', 'label', 'features'} of some utterances.

    A label is as in the file, None where there is none; features are modality -> frames, None where
    it is missing. What is no modality, label or 'id' is left out.

    Args:
      model: of `mmdjax.serving.loader`. columns: of `bodies.columns`.
    """
    modalities = model.signature["modalities"]
    names = {m[field] for m in modalities for field in ("name", "key")}
    given = {key: column for key, column in columns.items() if key in names}
    require(given, f"keys {', '.join(columns) or 'none'}", bodies.known_names(modalities))
    x, said = bodies.inputs(model, given)
    lengths = {m: np.asarray(a) for m, a in find_lengths(x, said).items()}
    count = len(next(iter(said.values())))
    label, names = _column(columns, LABELS, count), _column(columns, ("id",), count)
    rows = np.unique(np.linspace(0, count - 1, min(MOST, count)).astype(int)).tolist()
    return [
        {
            "id": str(names[row] if names else row),
            "label": label[row] if label else None,
            "features": {
                m: bodies.plain(a[row, : lengths[m][row]]) if lengths[m][row] else None
                for m, a in x.items()
            },
        }
        for row in rows
    ]


def _column(columns: Mapping, keys: Iterable[str], count: int) -> list | None:
    """Return the first column of `keys` that has numbers or words for each utterance."""
    for column in filter(lambda column: column is not None, map(columns.get, keys)):
        try:
            values = np.asarray(column)
        except ValueError:  # rows of unequal length
            continue
        if values.ndim and len(values) == count and values.dtype.kind in "fiubU":
            return bodies.plain(values)
    return None
