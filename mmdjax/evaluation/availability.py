"""The report's section on what utterances lack by nature, before anything is hidden."""

from __future__ import annotations

from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation.pages import Block
from mmdjax.types import known_labels

SPLITS = {"train": "training", "valid": "validation", "test": "test"}


def sections(dataset: Dataset) -> list[tuple[str, list[Block]]]:
    """Return a section with the availability of modalities and labels by split, and how many test
    utterances each pattern counts; [] where nothing is missing.

    Args:
      dataset: `mmdjax.data.dataset.Dataset`.
    """
    parts = {name: dataset.splits[name] for name in SPLITS if name in dataset.splits}
    present = {name: batch.present for name, batch in parts.items()}
    labelled = {name: known_labels(batch.label) for name, batch in parts.items()}
    if all(there.all() for there in (*present.values(), *labelled.values())):
        return []
    head = ["split", "utterances", "with a label", *dataset.modalities, "complete"]
    body = []
    for name, there in present.items():
        counts = [labelled[name].sum(), *there.sum(0), there.all(1).sum()]
        size = len(there)
        body.append([SPLITS[name], str(size), *(_share(int(n), size) for n in counts)])
    blocks: list[Block] = [("table", "What utterances have by nature", head, body)]
    if "test" in parts and not (present["test"].all() and labelled["test"].all()):
        lines = []
        for pattern in dataset.patterns:
            counted = (pattern & present["test"]).any(1) & labelled["test"]
            lines.append([pattern_name(pattern, dataset.modalities), str(counted.sum())])
        title = "Test utterances that a pattern counts: labelled, with some of what it shows"
        blocks.append(("table", title, ["pattern", "utterances"], lines))
    return [("What the data lack", blocks)]


def _share(count: int, size: int) -> str:
    return str(count) if count == size else f"{count} ({100 * count / size:.0f} %)"
