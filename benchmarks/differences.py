"""Whether systems of a run differ in a metric of your choice, from the predictions that it kept.

Command: python -m benchmarks.differences --workdir=RUN --metric=corr
Time: seconds; minutes for metrics of classes.

A report tests the task's headline metric. This prints the same test (paired over seeds and
utterances, Holm) of any other metric of the task, against the first system or the one that
--against names, over the conditions of a protocol. Systems of your own can take part: add arrays
'NAME/seed S/PROTOCOL CONDITION' of predictions to a copy of predictions.npz, and leave out its
'checksum'.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdjax.errors import UserError, choice
from mmdjax.evaluation import differences
from mmdjax.runtime.files import load_arrays
from mmdjax.tasks import Classification, MultiLabel, Regression, Task, metric

AGAIN = "repeat the command of the run, or leave 'checksum' out of a copy that you changed"
PLACE = re.compile(r"(?P<system>.*)/seed (?P<seed>\d+)/(?P<condition>.*)", re.DOTALL)


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict]:
    """Return labels (N, ...), conversations (N,) or None, and system -> seed -> 'PROTOCOL
    CONDITION' -> predictions."""
    if not path.exists():
        raise UserError(f"{str(path)!r} does not exist; allowed: the workdir of a finished run")
    arrays, of = load_arrays(path, AGAIN), {}
    for name, values in arrays.items():
        if place := PLACE.fullmatch(name):
            seeds = of.setdefault(place["system"], {})
            seeds.setdefault(int(place["seed"]), {})[place["condition"]] = values
    return arrays["label"], arrays.get("conversation"), of


def task_of(label: np.ndarray, prediction: np.ndarray) -> Task:
    """Return a task with the metrics of these labels; only they are read of it."""
    if prediction.ndim > label.ndim:
        return Classification(tuple(map(str, range(prediction.shape[-1]))))
    known = label[np.isfinite(label)]
    if label.ndim > 1 and set(np.unique(known)) <= {0.0, 1.0}:
        return MultiLabel(tuple(map(str, range(label.shape[1]))))
    names = tuple(map(str, range(label.shape[1]))) if label.ndim > 1 else ()
    low, high = float(known.min()), float(known.max())
    if label.ndim == 1 and -3 <= low < 0 < high <= 3 and max(-low, high) > 1:
        low, high = -3.0, 3.0  # sentiment
    return Regression(low, high, names)


@dataclasses.dataclass(frozen=True)
class By:
    """A task whose headline is another metric."""

    task: Task
    headline: str

    def headline_of(self, prediction, label) -> float:
        """Return that metric alone."""
        return self.task.metrics(prediction, label)[self.headline]


def tested(
    label: np.ndarray, whole, of: Mapping, name: str, against: str, protocol: str
) -> dict[str, differences.Tested]:
    """Return system -> how it differs from `against` in a metric.

    Args:
      label, whole, of: of `read`.
    """
    choice("system", against, tuple(of))
    first = next(iter(of[against].values()))
    conditions = [c.partition(" ")[2] for c in first if c.startswith(f"{protocol} ")]
    some = first[f"{protocol} {conditions[0]}"] if conditions else None
    if some is None:
        raise UserError(f"protocol {protocol!r} has no predictions; allowed: fixed, random, gaps")
    task = task_of(label, some)
    measured = [m for m in task.metric_names if not m.startswith("regret")]
    choice("metric", name, tuple(measured))
    ordered = {against: of[against], **of}
    found = differences.pseudo(By(task, name), label, whole, ordered, {protocol: conditions})
    return {s: t for (_, s), t in differences.tested(found).items()}


def main(argv=None) -> None:
    """Print a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--against", help="a system's name; the first one's by default")
    parser.add_argument("--protocol", default="fixed", choices=("fixed", "random", "gaps"))
    given = parser.parse_args(argv)
    try:
        label, whole, of = read(given.workdir / "predictions.npz")
        against = given.against or next(iter(of))
        found = tested(label, whole, of, given.metric, against, given.protocol)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    entry = metric(given.metric)
    digits, scale = entry.digits + (entry.unit == ""), entry.scale
    print(f"{entry.title(arrow=True)}, difference to {against}, 95 % interval, p (Holm)")
    for system, (apart, p) in found.items():
        mean, low, high = (f"{scale * v:+.{digits}f}" for v in apart[:3])
        print(f"{system:40} {mean} [{low}, {high}] p = {p:.3f}")


if __name__ == "__main__":
    main()
