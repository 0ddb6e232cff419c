"""One model for every pattern against a support vector machine for each, on divisions of a set.

Command: python -m benchmarks.divisions STUDY --workdir=DIR [--config.data.path=FILE] [--smoke]
Time: half an hour on two cores.

STUDY is digits or mosei_video, as in `benchmarks.real`. A test split of a few hundred utterances
has a wide standard error: 0.05 to 0.07 of a correlation over CMU-MOSEI's 222 videos. Here all
utterances of the set are divided into four parts, each of which is the test split once; a sixth of
the others is for validation.

On each division the config's systems are trained with one seed, and `SVC` or `SVR` of scikit-learn
(RBF kernel) for each availability pattern, on the same training utterances; their C is chosen on
the same validation. Settings of the config were chosen on the set's own validation split and on
other divisions of its training and validation splits.

Numbers are means over the availability patterns, with the deviation over divisions; the last
column is the difference to the machines, paired by division.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.svm import SVC, SVR

from benchmarks import common, real
from mmdjax.data import pipeline
from mmdjax.evaluation import figures, tables

DIVISIONS = 4
VALIDATED = 6  # one of so many of the utterances that are not tested on
PENALTIES = (0.3, 1.0, 3.0, 10.0)
MACHINES = "support vector machines, one a pattern"


def utterances(data) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return modality -> vectors (N, C), NaN where it is missing, and labels (N,) of all splits."""
    splits = list(pipeline.load(data).values())

    def known(batch, place: int) -> np.ndarray:
        x = batch.features[batch.modalities[place]][:, 0]
        return np.where(batch.present[:, [place]], x, np.nan)

    features = {
        m: np.concatenate([known(s, i) for s in splits]) for i, m in enumerate(splits[0].modalities)
    }
    return features, np.concatenate([s.label for s in splits])


def divided(rows: int, number: int) -> np.ndarray:
    """Return the split (N,) of each utterance in one of the divisions."""
    order = np.random.default_rng(0).permutation(rows)
    tested = np.array_split(order, DIVISIONS)[number]
    others = np.random.default_rng(number).permutation(np.setdiff1d(order, tested))
    split = np.full(rows, "train")
    split[tested], split[others[: len(others) // VALIDATED]] = "test", "valid"
    return split


def correlation(prediction: np.ndarray, label: np.ndarray) -> float:
    return float(np.corrcoef(prediction, label)[0, 1])


def accuracy(prediction: np.ndarray, label: np.ndarray) -> float:
    return float((prediction == label).mean())


def machines(features: dict[str, np.ndarray], label: np.ndarray, split: np.ndarray) -> list[float]:
    """Return the test score of a machine for each pattern, its penalty chosen on validation."""
    train, valid, test = (split == s for s in ("train", "valid", "test"))
    classes = np.issubdtype(label.dtype, np.integer)
    score, target = (accuracy, label) if classes else (correlation, label / label[train].std())
    scaled = {}
    for m, x in features.items():
        mean, deviation = np.nanmean(x[train], 0), np.nanstd(x[train], 0)
        scaled[m] = np.nan_to_num((x - mean) / np.where(deviation < 1e-6, 1.0, deviation))

    def tried(x: np.ndarray, penalty: float) -> tuple[float, float]:
        machine = (SVC if classes else SVR)(C=penalty).fit(x[train], target[train])
        return tuple(score(machine.predict(x[rows]), label[rows]) for rows in (valid, test))

    scores = []
    for shown in itertools.product((False, True), repeat=len(scaled)):
        if any(shown):
            x = np.concatenate([scaled[m] for m in itertools.compress(scaled, shown)], 1)
            scores.append(max(tried(x, penalty) for penalty in PENALTIES)[1])
    return scores


def measure(case: real.Case, flags: Sequence[str], folder: Path, number: int, data) -> dict:
    """Return system -> its mean over the patterns, by `real.run`, and the machines'."""
    features, label = utterances(data)
    split = divided(len(label), number)
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data.npz", **features, label=label, split=split)
    metric = real.STUDIES[case.config].metrics[0]
    rows = real.run(case, [*flags, f"config.data.path={folder / 'data.npz'}"], folder)["rows"]
    made = {s: real.by_seed(rows, s, metric)[0] for s in real.names(rows, "system")}
    return made | {MACHINES: float(np.mean(machines(features, label, split)))}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("study", choices=("digits", "mosei_video"))
    parser.add_argument("--config.data.path", dest="path", default="", help="the user's file")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    study, folder = real.STUDIES[options.study], options.workdir
    given = {"path": options.path, "name": "file"} if options.path else {}
    data = common.config_of(options.study, **given).data
    flags = ["config.seeds=(0,)", "config.data.name=file"]
    flags += [*real.FEW, *real.EPOCHS] if options.smoke else []
    runs = [
        common.kept(
            folder / f"division_{n}.json",
            lambda n=n: measure(study.cases[0], flags, folder / f"division_{n}", n, data),
        )
        for n in range(DIVISIONS)
    ]
    metric = tables.metric(study.metrics[0])
    rows = [
        [system, *(real.cell(metric.name, list(of)) for of in (values, ahead))]
        for system, values, ahead in compared(runs)
    ]
    command = real.command(study.cases[0], [*flags, "config.data.path=DIVISION.npz"], "DIR")
    name = f"{options.study}_divisions"
    result = {
        "title": f"{study.title}: one model against a machine for each pattern",
        "command": common.command_line("divisions"),
        "machine": machine(),
        "divisions": runs,
    }
    about = [" ".join(part.split()) for part in __doc__.split("\n\n")[2:]]
    header = ["system", metric.title(True), "ahead of the machines"]
    made = [*about, ("Mean over the patterns", header, rows), "Each division:"]
    made.append(f"`{shlex.join(['python', *command])}`")
    common.write(folder, name, result, made, picture(runs, metric))
    print((folder / f"{name}.md").read_text())


def compared(runs: Sequence[dict]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return each system, its values by division, and how far they are ahead of the machines'."""
    machine = np.array([run[MACHINES] for run in runs])
    values = {s: np.array([run[s] for run in runs]) for s in runs[0]}
    return [(s, of, of - machine) for s, of in values.items()]


def picture(runs: Sequence[dict], metric):
    """Return a point for each system and division, those of a division joined."""
    figure = figures.blank(7.2, 3.2)
    ax, systems = figure.subplots(), list(runs[0])
    for number, run in enumerate(runs):
        values = [run[s] * metric.scale for s in systems]
        ax.plot(values, systems, "o-", lw=0.8, color=real.COLOURS[number], label=f"{number + 1}")
    ax.invert_yaxis()
    figures.tidy(ax, f"{metric.title(True)}, mean over the patterns", "x")
    figure.legend(title="division", loc="outside right upper", frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main())
