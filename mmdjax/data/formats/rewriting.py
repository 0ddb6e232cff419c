"""A table with columns replaced and added, as `write_copy` asks for."""

from __future__ import annotations

import numpy as np

from mmdjax.data.formats import lazy, views
from mmdjax.data.formats.contents import Changes
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.tables import Splits, Table
from mmdjax.errors import UserError


def rewritten(
    where: str, table: Table, splits: Splits, replaced: Changes, added: Changes
) -> dict[tuple[str, ...], object]:
    """The columns that differ from those of `table`: path -> rows of the file's dtype and shape.

    Rows of a split that is chosen by a column take their places among the others; where only
    some splits are given an added array, it is 0 in the rest.

    Raises:
      UserError: an added array has the name of another column.
    """
    made: dict[tuple[str, ...], object] = {}
    for (split, key), rows in replaced.items():
        path = splits.columns[split][key]
        value = table[path]
        if lazy.is_ragged(rows):
            made[path] = _sequences(value, rows)
            continue
        rows = rows if len(value.shape) == 3 else views.reshaped(rows, value.shape[1:])
        if splits.kind == "column":
            rows = views.scattered(made.get(path, value), [(splits.rows[split], rows)])
        made[path] = views.as_type(rows, value.dtype)
    for (split, key), rows in added.items():
        path = splits.place(split, key)
        if path in table:
            raise UserError(
                f"{where}: added key {one_line(key, 60)!r} is in the file; allowed: a new name"
            )
        if splits.kind == "column":
            rows = np.asarray(rows) if isinstance(rows, list) else rows
            total = sum(len(index) for index in splits.rows.values())
            base = made.get(path, views.zeros((total, *rows.shape[1:]), rows.dtype))
            rows = views.scattered(base, [(splits.rows[split], rows)])
        made[path] = rows
    return made


def _sequences(value, rows) -> list | np.ndarray:
    """As `value` holds them, in a list or in an array of objects; each is read when written."""

    def one(row: int) -> lazy.Lazy:
        shape = (rows.lengths[row].item(), rows.shape[2])
        dtype = value[row].dtype

        def read(start, stop):
            return rows.read([row])[0][start:stop].astype(dtype)

        return lazy.Lazy(shape, dtype, read)

    sequences = [one(row) for row in range(len(rows))]
    if isinstance(value, list):
        return sequences
    made = np.empty(len(sequences), object)
    made[:] = sequences
    return made
