"""A folder of pickles: one a split (MISA's train.pkl, dev.pkl, test.pkl), or one a modality.

Those of a modality are dicts {id: array}, joined by id, and perhaps labels.csv: id,label[,split].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import folder, folders, pickle_process, pickles, samples, tables, values
from mmdjax.data.formats.contents import PICKLES, Contents
from mmdjax.data.formats.lazy import Rows as AnyRows
from mmdjax.data.formats.lazy import listed, quoted, refused
from mmdjax.data.formats.places import Place, Rows, open_rows

ALLOWED = "pickles named train, valid (or dev) and test, or dicts {id: array}, one a modality"


def open_path(path: Path) -> Contents:
    """Open a folder; raise `UserError` unless it is as described."""
    files = {
        file.stem: file
        for file in sorted(path.iterdir())
        if file.suffix.lower() in PICKLES and not file.stem.endswith(tables.MARKS)
    }
    of_splits = {name: file for name, file in files.items() if tables.names_splits([name])}
    files = of_splits or files
    tree = {name: pickle_process.load(file) for name, file in files.items()}

    def dump(output: Path, made: Mapping[str, object]) -> None:
        folders.copy(path, output)
        for name, content in made.items():
            if content is not tree.get(name):
                file = output / (files[name].name if name in files else f"{name}.pkl")
                file.unlink(missing_ok=True)  # a link would lead elsewhere
                pickles.dump(file, content)

    if of_splits:
        order = ("train", "valid", "val", "dev", "test")
        splits = {name: tree[name] for name in sorted(tree, key=[*order, *tree].index)}
        return pickles.open_tree(path, "pickles", splits, dump)
    for name, content in tree.items():
        if not (isinstance(content, dict) and content and samples.are_rows(content)):
            raise refused(path, f"{quoted(files[name].name)} has no array an id", ALLOWED)
    if not tree:
        raise refused(path, "no pickles", ALLOWED)
    return _open_modalities(path, tree, dump)


def _open_modalities(
    path: Path, tree: Mapping[str, dict], dump: Callable[[Path, Any], None]
) -> Contents:
    by_name = {key: {values.text(id): id for id in content} for key, content in tree.items()}
    ids = sorted({id or "" for known in by_name.values() for id in known})
    common = [id for id in ids if all(id in known for known in by_name.values())]
    if not common:
        raise refused(path, f"no id is in all of {listed(tree)}", "as many ids as possible in all")
    labels, split_of, classes, notes = folder.labels_of(path / "labels.csv", ids)
    turned = frozenset(key for key, content in tree.items() if samples.channels_first(content))
    splits = {}
    for split in dict.fromkeys(split_of):
        rows = [id for id, its_split in zip(ids, split_of, strict=True) if its_split == split]
        label = None if labels is None else np.array([labels.get(id, np.nan) for id in rows], "f4")
        places = {key: [(key, known.get(id, id)) for id in rows] for key, known in by_name.items()}
        splits[split] = Rows(rows, label, places, {}, turned, classes)

    def beside(split: str, key: str, rows: AnyRows) -> dict[Place, object]:
        return {(key, id): np.asarray(row) for id, row in zip(splits[split].id, rows, strict=True)}

    return open_rows(path, "pickles", tree, splits, beside, dump, notes)
