"""Makes tables of result rows: plain lists of strings, for Markdown, HTML and the terminal.

A row is `{system, method, protocol, condition, seed, metric, value}`; a table is `(header, rows)`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.table import Table as RichTable
from rich.text import Text

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.missing.patterns import patterns as patterns_of
from mmdjax.evaluation.differences import Tested
from mmdjax.evaluation.significance import Rank
from mmdjax.tasks import Task, metric


class Key(NamedTuple):
    """The key of a value."""

    system: str
    protocol: str
    condition: str
    metric: str


Stat = tuple[float, float, int]  # mean, standard deviation over seeds, number of seeds
Table = tuple[list[str], list[list[str]]]
Rows = Sequence[Mapping[str, object]]  # of results.json
Values = Mapping[Key, Mapping[object, float]]  # value of each seed

MISSING = "–"
AVERAGE = "average"  # the condition of means over all conditions of a protocol
OPTIMUM = "bayes"  # the method that regret is the distance to
MOST_COLUMNS = 12  # patterns beyond these become rows


class Shown(NamedTuple):
    """A system as the report shows it.

    Attributes:
      name: in tables and figures, unique.
      method: its registered name. published: its name in the published tables, '' if none.
      draws: whether it draws what is missing. k: draws that a prediction averages.
      yardstick: an optimum or a probe: last in tables, never bold.
    """

    name: str
    method: str = ""
    published: str = ""
    draws: bool = False
    k: int = 1
    yardstick: bool = False

    @property
    def label(self) -> str:
        """The name as tables have it."""
        return Quiet(self.name) if self.yardstick else self.name


class Best(str):
    """A cell that wins its column; renderers print it bold."""


class Quiet(str):
    """The name of a yardstick; its row is printed in grey."""


@dataclasses.dataclass(frozen=True)
class Results:
    """The results that a report shows.

    Attributes:
      values: value of every seed, of `systems` alone, with condition 'average'.
      systems: yardsticks last; the first one is what differences are taken from.
      task: of `mmdjax.tasks`. modalities: names, in order.
      complete: whether averages count the complete pattern, and missing rate 0.
      rates: nominal rate of the random protocol -> realised rate, in rising order.
      counted: protocol -> the conditions that its average is over.
      tested: (protocol, system) -> `differences.Tested`, where predictions were kept.
      rivals: system -> how it differs from the one with the best mean over patterns, likewise.
      ranks: (protocol, system) -> its `significance.Rank`, likewise; none of yardsticks.
      picked: results of the same systems with everything that validation data choose, the epoch
        above all, chosen on test data; of no system where they were not asked for.
    """

    values: Values
    systems: tuple[Shown, ...]
    task: Task
    modalities: tuple[str, ...]
    complete: bool
    rates: Mapping[str, float]
    counted: Mapping[str, Sequence[str]]
    tested: Mapping[tuple[str, str], Tested] = dataclasses.field(default_factory=dict)
    rivals: Mapping[str, Tested] = dataclasses.field(default_factory=dict)
    ranks: Mapping[tuple[str, str], Rank] = dataclasses.field(default_factory=dict)
    picked: Results | None = None

    @functools.cached_property
    def summary(self) -> dict[Key, Stat]:
        """Mean, standard deviation (ddof = 1) and number of seeds of all `values`."""
        return {key: stat_of([*seeds.values()]) for key, seeds in self.values.items()}

    def by_system(self, protocol: str, condition: str, name: str) -> dict[str, Stat]:
        """Return system -> statistics of a metric, of the systems for which it is a number."""
        stats = {
            s.name: self.summary.get(Key(s.name, protocol, condition, name)) for s in self.systems
        }
        return {system: s for system, s in stats.items() if s and math.isfinite(s[0])}

    def by_condition(self, protocol: str, name: str) -> dict[Shown, dict[str, Stat]]:
        """Return system -> condition, in order -> statistics of a metric; only what is a number."""
        stats = {c: self.by_system(protocol, c, name) for c in self.conditions(protocol)}
        lines = {
            s: {c: of[s.name] for c, of in stats.items() if s.name in of} for s in self.systems
        }
        return {system: line for system, line in lines.items() if line}

    def measured(self, protocol: str) -> set[str]:
        """Return the names of a protocol's metrics."""
        return {key.metric for key in self.values if key.protocol == protocol}

    def conditions(self, protocol: str) -> dict[str, str]:
        """Return condition -> head of its column, in order.

        "fixed": availability patterns and their average; "random": missing rates and their average,
        the realised rate named where it differs; "gaps": generator and rate; "imputation":
        `observed>drawn`, e.g. `l+a>v`.
        """
        if protocol == "fixed":
            return {c: c for c in (*pattern_names(self.modalities), AVERAGE)}
        if protocol == "random":
            printed = {c: f"{rate:.3g}" for c, rate in self.rates.items()}
            heads = {
                c: c if float(c) == float(rate) else f"{c} (realised {rate})"
                for c, rate in printed.items()
            }
            return heads | ({AVERAGE: AVERAGE} if len(heads) > 1 else {})
        seen = {key.condition for key in self.values if key.protocol == protocol} - {AVERAGE}
        return {c: c for c in sorted(seen, key=lambda c: (c.count("+"), c))}


def results(
    rows: Rows, systems: Sequence[Shown], task: Task, modalities: Sequence[str], complete: bool
) -> Results:
    """Return the rows of these systems with averages over patterns, rates, gaps and imputations."""
    everything: dict[Key, dict[object, float]] = {}
    for r in rows:
        key = Key(*(str(r[field]) for field in Key._fields))
        # A repeated row replaces the earlier one and is not counted twice.
        everything.setdefault(key, {})[r["seed"]] = math.nan if r["value"] is None else r["value"]
    names, rates = {s.name for s in systems}, realised_rates(everything, len(modalities))
    values = {key: seeds for key, seeds in everything.items() if key.system in names}
    patterns = pattern_names(modalities)
    counted = {
        "fixed": patterns if complete else patterns[:-1],
        "random": [c for c in rates if complete or float(c) > 0],
    }
    for protocol in ("gaps", "imputation"):
        counted[protocol] = sorted({k.condition for k in values if k.protocol == protocol})
    averages = [mean_over(values, p, conditions) for p, conditions in counted.items()]
    for of_protocol in averages:
        values |= of_protocol
    ordered = tuple(sorted(systems, key=lambda s: s.yardstick))
    return Results(values, ordered, task, tuple(modalities), complete, rates, counted)


def stat_of(values: Sequence[float]) -> Stat:
    """Return mean, standard deviation with ddof = 1 (NaN of a single value), and number."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), spread, len(values)


def mean_over(values: Values, protocol: str, conditions: Sequence[str]) -> Values:
    """Return each seed's mean over these conditions, as values of condition 'average'.

    Averaging inside a seed first keeps the seed as the unit that varies. A seed that lacks
    a condition is left out: a mean over fewer conditions is another quantity.
    """
    averages = {}
    for key in [k._replace(condition=AVERAGE) for k in values if k.protocol == protocol]:
        of = [values.get(key._replace(condition=c), {}) for c in conditions]
        seeds = [s for s in next(iter(of), ()) if all(s in of_condition for of_condition in of)]
        if seeds:
            averages[key] = {
                s: float(np.mean([of_condition[s] for of_condition in of])) for s in seeds
            }
    return averages


def pattern_names(modalities: Sequence[str]) -> list[str]:
    """Return the names of all 2^M - 1 availability patterns, the complete one last."""
    return [pattern_name(p, modalities) for p in patterns_of(len(modalities))]


def realised_rates(values: Values, modalities: int) -> dict[str, float]:
    """Return nominal rate of the random protocol -> realised rate, in rising order.

    Realised is what `missing_rate` values say, else the nominal rate, cut at (M - 1) / M
    because every sample keeps one modality.
    """
    random = [key for key in values if key.protocol == "random"]
    rates = {c for c in (k.condition for k in random) if re.fullmatch(r"\d*\.?\d+", c)}
    realised = {}
    for c in sorted(rates, key=float):
        keys = (k for k in random if k.condition == c and k.metric == "missing_rate")
        bound = min(float(c), 1 - 1 / modalities if modalities > 1 else 1.0)
        realised[c] = float(np.mean([v for k in keys for v in values[k].values()] or bound))
    return realised


def cell(name: str, stat: Stat | None) -> str:
    """Return `78.3 ± 0.4`; no ± with one seed; a dash for what is absent or not defined."""
    if stat is None or not math.isfinite(stat[0]):
        return MISSING
    entry = metric(name)
    mean, std = (entry.scale * x for x in stat[:2])
    digits = entry.decimals(mean)
    return f"{mean:z.{digits}f}" + (f" ± {std:.{digits}f}" if stat[2] > 1 else "")


def in_print(name: str, stats: Iterable[Stat]) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations, 0 where undefined, in the unit in which they are printed."""
    means, deviations = np.array([s[:2] for s in stats]).T * metric(name).scale
    return means, np.nan_to_num(deviations)


def grid(
    results: Results, columns: Mapping[tuple[str, str, str], str], contest: bool = True
) -> Table:
    """Return systems by columns, {(protocol, condition, metric): head}; only what was measured.

    Args:
      contest: whether the best of a column is bold.
    """
    filled = [c for c in columns if any((s.name, *c) in results.summary for s in results.systems)]
    present = [s for s in results.systems if any((s.name, *c) in results.summary for c in filled)]
    body = [[cell(c[2], results.summary.get((s.name, *c))) for c in filled] for s in present]
    for j, column in enumerate(filled if contest else ()):
        # The printed mean decides, so that what looks equal is bold together.
        means = {
            i: float(body[i][j].split()[0])
            for i, s in enumerate(present)
            if not s.yardstick and body[i][j] != MISSING
        }
        best = (max if metric(column[2]).higher else min)(means.values(), default=None)
        for i in (i for i, mean in means.items() if mean == best and len(means) > 1):
            body[i][j] = Best(body[i][j])
    heads = ["system", *map(columns.get, filled)]
    return heads, [[s.label, *line] for s, line in zip(present, body, strict=True)]


def condition_table(results: Results, protocol: str, name: str) -> Table:
    """Return system by condition of one protocol; condition by system where conditions are many."""
    heads = results.conditions(protocol)
    columns = {(protocol, c, name): head for c, head in heads.items()}
    table = grid(results, columns, contest=name in results.task.metric_names)
    corner = {"fixed": "observed", "imputation": "observed>drawn"}.get(protocol)
    return turned(*table, corner) if corner and len(table[0]) > MOST_COLUMNS + 1 else table


def turned(header: list[str], rows: list[list[str]], corner: str) -> Table:
    """Return columns as rows; `corner` heads the new first column."""
    _, *columns = zip(header, *rows, strict=True)
    return [corner, *(row[0] for row in rows)], [list(column) for column in columns]


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, with no HTML of its own."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    plain = re.sub(r"([\\|*`\[\]~$]|\b_|_\b|^[#+=>-](?![\d.]))", r"\\\1", plain)
    return f"**{plain}**" if isinstance(text, Best) else plain


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table; cells are escaped here, so pass them raw."""
    lines = [[escape_markdown(c) for c in row] for row in [header, *rows]]
    lines.insert(1, ["---", *["---:"] * (len(header) - 1)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rich_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    """Return the same table for the terminal. `Text`, so that [brackets] are not markup."""
    table = RichTable(title=Text(title, style="bold"), title_justify="left")
    for j, name in enumerate(header):
        width = max((len(row[j]) for row in rows), default=0)  # heads may break, cells may not
        table.add_column(Text(name), justify="right" if j else "left", min_width=min(width, 30))
    for row in rows:
        table.add_row(*(Text(c, style="bold green" if isinstance(c, Best) else "") for c in row))
    return table
