"""A `.npy` that holds a dict, as `numpy.save(path, dict)` writes it: a pickle after a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmdjax.data.formats import lazy, npy, pickle_process, pickles
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import refused

ALLOWED = (
    "a dict of arrays, as numpy.save('file.npy', {'text': text, 'label': label}) writes it, or "
    "numpy.savez('file.npz', text=text, audio=audio, label=label)"
)


def open_path(path: Path) -> Contents:
    """Open a `.npy` of one object; raise `UserError` unless it is a dict of plain arrays."""
    with lazy.reading(path, ALLOWED), path.open("rb") as file:
        text = npy.header_text(file)
        start = file.tell()
        file.seek(0)
        header = file.read(start)
    if "'|O'" not in text:
        array = npy.rows_of_file(path)
        raise refused(path, f"one array of shape {array.shape}", ALLOWED)
    array = pickle_process.load(path, start)
    if not isinstance(array, np.ndarray) or array.shape:
        raise refused(path, "an array of objects", ALLOWED)

    def dump(output: Path, tree: object) -> None:
        made = np.empty((), object)
        made[()] = tree
        pickles.dump(output, made, header)

    return pickles.open_tree(path, "npy", array[()], dump)
