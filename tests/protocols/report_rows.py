"""Rows of results and reports of them, for tests."""

import dataclasses
from html.parser import HTMLParser

import numpy as np

from mmdjax.config import Comparison
from mmdjax.evaluation import report, tables
from mmdjax.evaluation.differences import Tested
from mmdjax.evaluation.significance import Difference
from mmdjax.evaluation.tables import Shown
from mmdjax.tasks import SENTIMENT

MODALITIES = ("language", "acoustic", "vision")
PATTERNS = ("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v")
HOSTILE = '</td><script>alert("1")</script>|`*_$x^{$[red]'

DRAWS = Shown("two-stage, K = 8", "two_stage", "Speed", draws=True, k=8)
SINGLE = Shown("two-stage, K = 1", "two_stage", draws=True)
ZERO, ZEROS = Shown("zero", "zero"), Shown("zero (trained)", "zero_trained")
MEAN = Shown("mean", "mean")
PROBE = Shown("linear probe", "linear_probe", yardstick=True)
OPTIMUM = Shown("Bayes optimum", "bayes", yardstick=True)
SYSTEMS = (DRAWS, SINGLE, ZERO, PROBE, OPTIMUM)


def row(system, condition, seed, value, metric="acc2_nonzero", protocol="fixed"):
    name = system.name if isinstance(system, Shown) else system
    row = {"system": name, "method": "any", "protocol": protocol, "condition": condition}
    return row | {"seed": seed, "metric": metric, "value": value}


def averaging(system, *per_seed, metric="acc2_nonzero"):
    """Rows whose average over the patterns is `per_seed[s]` in seed s."""
    offsets = np.linspace(-0.06, 0.06, len(PATTERNS))  # the patterns differ, the mean stays
    return [
        row(system, p, seed, value + offset, metric)
        for seed, value in enumerate(per_seed)
        for p, offset in zip(PATTERNS, offsets, strict=True)
    ]


def full_run(seeds=2):
    """Every kind of row a run can leave."""
    rows = []
    for i, system in enumerate(SYSTEMS):
        values = [0.7 + 0.02 * i + 0.001 * s for s in range(seeds)]
        rows += averaging(system, *values) + averaging(system, *values, metric="mae")
        rows += averaging(system, *values, metric="regret_acc2")
        for s, v in enumerate(values):
            rows += [row(system, r, s, v, "mae", "random") for r in ("0.0", "0.3", "0.7")]
            rows += [row(system, r, s, v, protocol="random") for r in ("0.0", "0.3", "0.7")]
            rows.append(row(system, "l>a", s, v, "energy_distance", "imputation"))
            rows.append(row(system, "burst 0.3", s, v, protocol="gaps"))
            rows.append(row(system, "evaluation", s, 12.3 + s + i, "seconds", "cost"))
    return rows


def found(rows, systems=SYSTEMS, task=SENTIMENT, complete=True, modalities=MODALITIES, tested=()):
    results = tables.results(rows, systems, task, modalities, complete)
    of_names = {("fixed", s.name): t for s, t in dict(tested).items()}
    return dataclasses.replace(results, tested=of_names)


def apart(mean, p, seeds=2, half=0.02):
    """How a system differs from the first one."""
    return Tested(Difference(mean, mean - half, mean + half, p / 2, seeds), p)


HISTORY = {
    "score": {"epoch": [1, 2, 3], "train": [3.0, 2.0, 1.5], "valid": [3.0, 2.5, 2.6], "best": 2},
    "fusion": {"epoch": [1, 2], "train": [0.5, -0.5], "valid": []},
}


def select(rows, **fixed):
    """The rows that have these values, e.g. `select(rows, protocol="random")`."""
    return [r for r in rows if all(r.get(k) == v for k, v in fixed.items())]


def write(
    folder, rows, systems=SYSTEMS, task=SENTIMENT, modalities=MODALITIES, comparison=None, **changed
):
    comparison = comparison or Comparison()
    context = report.Context(
        title="A run",
        config={"sde": {"name": "vp"}},
        comparison=comparison,
        costs={},
        history=HISTORY,
        machine={"device": "cpu"},
        notes=["chosen on validation"],
    )
    results = found(rows, systems, task, comparison.complete, modalities)
    return report.write_report(folder, results, context._replace(**changed))


class Checker(HTMLParser):
    """Counts open tags and collects what a browser would load or run."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data")]
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_html(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    inside, loaded = ([s for s in checker.links if (s[0] == "#") == here] for here in (True, False))
    assert all(link.startswith("data:image/png;base64,") for link in loaded)
    assert {link[1:] for link in inside} <= set(checker.ids)
    assert len(set(checker.ids)) == len(checker.ids)
    return checker
