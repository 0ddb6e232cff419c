"""From result rows to tables: plain lists of strings, for Markdown, HTML and the terminal.

A row is `{method, protocol, condition, seed, metric, value}`; a table is `(header, rows)`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table as RichTable
from rich.text import Text

Key = tuple[str, str, str, str]  # method, protocol, condition, metric
Stat = tuple[float, float, int]  # mean, standard deviation over seeds, number of seeds
Table = tuple[list[str], list[list[str]]]
Rows = Sequence[Mapping[str, object]]
Names = Sequence[str] | None

MISSING = "–"
OUTSIDE = ("linear_probe", "bayes_alone", "bayes")  # yardsticks, not contestants: last, never bold
ORDER = ("diffusion_k8", "diffusion_k1", "zero_trained", "mean_trained", "zero", "mean", *OUTSIDE)
LABELS = {
    "bayes": "Bayes optimum",
    "bayes_alone": "Bayes optimum, alone",
    "linear_probe": "linear probe",
}
HIGHER = ("acc", "f1", "corr")  # better when higher; every other metric is better when lower
MOST_COLUMNS = 12  # patterns beyond these become rows
MAIN = ("acc2_nonzero", "f1_nonzero", "acc", "f1", "acc7", "mae", "corr", "regret_acc2")


class Best(str):
    """A cell that wins its column; renderers print it bold."""


def is_fraction(metric: str) -> bool:
    return metric.startswith(("acc", "f1"))


def method_label(method: str) -> str:
    """`diffusion_k4` -> `diffusion, K = 4`; a method nobody foresaw keeps its id."""
    if found := re.fullmatch(r"diffusion(?:_(.+))?_k(\d+)", method):
        named = (found[1] or "").replace("_", " ")
        return ", ".join(filter(None, ("diffusion", named, f"K = {found[2]}")))
    if found := re.fullmatch(r"diffusion_(.+)", method):
        return f"diffusion, {found[1].replace('_', ' ')}"
    return LABELS.get(method, method.replace("_trained", " (trained)"))


def metric_label(metric: str, arrow: bool = False) -> str:
    """`acc2_nonzero` -> `ACC2 non-zero (%)`; with `arrow` also the direction that is better."""
    unit = " (%)" if is_fraction(metric) else " (points)" if metric == "regret_acc2" else ""
    plain = {"rmse_mean": "rmse, mean of K draws", "rmse": "rmse, one draw", "acc": "accuracy"}
    name = plain.get(metric, metric)
    name = name.replace("nonzero", "non-zero").replace("corr", "correlation").replace("_", " ")
    name = re.sub(r"\b(acc\d|f1|mae|rmse|nfe)\b", lambda found: found[0].upper(), name) + unit
    return f"{name} {'↑' if metric.startswith(HIGHER) else '↓'}" if arrow else name


def methods_of(rows: Rows) -> list[str]:
    """Diffusion first, then the baselines, and the yardsticks last."""
    found = sorted({str(r["method"]) for r in rows}, key=lambda m: ((*ORDER, m).index(m), m))
    return sorted(found, key=lambda m: (m in OUTSIDE, not m.startswith("diffusion")))


def select(rows: Rows, **fixed: str) -> Rows:
    """The rows that have these values, e.g. `select(rows, protocol="random", metric="mae")`."""
    return [r for r in rows if all(r[k] == v for k, v in fixed.items())]


def _by_seed(rows: Rows) -> dict[Key, dict[object, float]]:
    """Value of every seed; a repeated row replaces the earlier one and is not counted twice."""
    cells: dict[Key, dict[object, float]] = {}
    for r in rows:
        key = tuple(str(r[k]) for k in ("method", "protocol", "condition", "metric"))
        cells.setdefault(key, {})[r["seed"]] = float("nan" if r["value"] is None else r["value"])
    return cells


def summarise(rows: Rows) -> dict[Key, Stat]:
    """(method, protocol, condition, metric) -> (mean, std over seeds with ddof = 1, seeds)."""
    values = {key: [*seeds.values()] for key, seeds in _by_seed(rows).items()}
    spread = {key: np.std(x, ddof=1) if len(x) > 1 else math.nan for key, x in values.items()}
    return {key: (float(np.mean(x)), float(spread[key]), len(x)) for key, x in values.items()}


def patterns(rows: Rows, modalities: Names = None) -> list[str]:
    """All 2^M - 1 availability patterns of the letters in the rows, smallest first.

    Empty where `modalities` has another length: then some pattern was never run.
    """
    seen = {str(r["condition"]) for r in select(rows, protocol="fixed")} - {"average"}
    longest_first = sorted(seen, key=lambda c: (-c.count("+"), c))
    letters = list(dict.fromkeys(part for c in longest_first for part in c.split("+")))
    letters = letters if modalities is None or len(letters) == len(modalities) else []
    subsets = (s for n in range(len(letters)) for s in itertools.combinations(letters, n + 1))
    spelled = {frozenset(c.split("+")): c for c in seen}
    return [spelled.get(frozenset(s), "+".join(s)) for s in subsets]


def average_over_patterns(rows: Rows, modalities: Names = None) -> dict[Key, Stat]:
    """`summarise` of condition "average": each seed's mean over all the patterns.

    Averaging inside a seed first keeps the seed as the unit that varies. A seed that lacks
    a pattern is left out: a mean over fewer patterns is another quantity.
    """
    wanted, averaged = patterns(rows, modalities), []
    cells = _by_seed(select(rows, protocol="fixed"))
    for method, metric in dict.fromkeys((k[0], k[3]) for k in cells):
        head = {"method": method, "protocol": "fixed", "condition": "average", "metric": metric}
        found = [cells.get((method, "fixed", p, metric), {}) for p in wanted]
        for seed in next(iter(found), ()):
            if all(seed in values for values in found):
                mean = np.mean([values[seed] for values in found])
                averaged.append({**head, "seed": seed, "value": mean})
    return summarise(averaged)


def rates(rows: Rows) -> dict[str, float]:
    """Nominal rate of the random protocol -> realised rate, in rising order.

    Realised is what `missing_rate` rows say, else the nominal rate, cut at (M - 1) / M
    because every sample keeps one modality.
    """
    found = {str(r["condition"]) for r in select(rows, protocol="random")}
    count, real = sum("+" not in p for p in patterns(rows)), {}
    for c in sorted((c for c in found if re.fullmatch(r"\d*\.?\d+", c)), key=float):
        drawn = select(rows, protocol="random", condition=c, metric="missing_rate")
        bound = min(float(c), 1 - 1 / count if count > 1 else 1.0)
        real[c] = float(np.mean([r["value"] for r in drawn] or bound))
    return real


def cell(metric: str, stat: Stat | None) -> str:
    """`78.3 ± 0.4`; no ± with one seed; a dash for what is absent or not defined."""
    if stat is None or not math.isfinite(stat[0]):
        return MISSING
    mean, std = (100 * x if is_fraction(metric) else x for x in stat[:2])
    digits = 1 if is_fraction(metric) or metric == "regret_acc2" else 3
    if metric.startswith(("seconds", "nfe")):  # three digits are enough for a cost
        digits = 0 if mean == int(mean) else min(max(2 - math.floor(math.log10(abs(mean))), 0), 4)
    return f"{mean:z.{digits}f}" + (f" ± {std:.{digits}f}" if stat[2] > 1 else "")


def grid(summary: Mapping[Key, Stat], columns: Mapping[Key, str], contest: bool = True) -> Table:
    """Methods by columns, {(protocol, condition, metric): head}; only what was measured."""
    methods = methods_of([{"method": key[0]} for key in summary if key[1:] in columns])
    kept = [c for c in columns if any((m, *c) in summary for m in methods)]
    body = {m: [cell(c[2], summary.get((m, *c))) for c in kept] for m in methods}
    for j, column in enumerate(kept if contest else ()):
        # The printed mean decides, so that what looks equal is bold together.
        rivals = {m: v[j] for m, v in body.items() if m not in OUTSIDE and v[j] != MISSING}
        shown = {m: float(v.split()[0]) for m, v in rivals.items()}
        best = (max if column[2].startswith(HIGHER) else min)(shown.values(), default=None)
        for m in (m for m, v in shown.items() if v == best and len(shown) > 1):
            body[m][j] = Best(body[m][j])
    return ["method", *map(columns.get, kept)], [[method_label(m), *v] for m, v in body.items()]


def main_table(rows: Rows, modalities: Names = None) -> Table:
    """Method by metric, averaged over the availability patterns."""
    columns = {("fixed", "average", m): metric_label(m, arrow=True) for m in MAIN}
    return grid(average_over_patterns(rows, modalities), columns)


def condition_table(rows: Rows, protocol: str, metric: str, modalities: Names = None) -> Table:
    """Method by condition of one protocol; condition by method where patterns are many.

    "fixed": availability patterns and their average; "random": missing rates, the realised
    one named where it differs; "imputation": `observed>drawn`, e.g. `l+a>v`.
    """
    found = {str(r["condition"]) for r in select(rows, protocol=protocol)}
    heads = {c: c for c in sorted(found, key=lambda c: (c.count("+"), c))}
    if protocol == "fixed":
        heads = {c: c for c in [*patterns(rows), "average"]}
    elif protocol == "random":
        real = {c: f"{x:.3g}" for c, x in rates(rows).items()}
        heads = {c: c if float(c) == float(x) else f"{c} (realised {x})" for c, x in real.items()}
    columns = {(protocol, c, metric): head for c, head in heads.items()}
    table = grid(summarise(rows) | average_over_patterns(rows, modalities), columns)
    corner = {"fixed": "observed", "imputation": "observed>drawn"}.get(protocol)
    return turned(*table, corner) if corner and len(table[0]) > MOST_COLUMNS + 1 else table


def turned(header: list[str], rows: list[list[str]], corner: str) -> Table:
    """Columns as rows; `corner` heads the new first column."""
    _, *columns = zip(header, *rows, strict=True)
    return [corner, *(row[0] for row in rows)], [list(column) for column in columns]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, with no HTML of its own; `Best` bold."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    plain = re.sub(r"([\\|*`\[\]~$]|\b_|_\b|^[#+=>-](?![\d.]))", r"\\\1", plain)
    return f"**{plain}**" if isinstance(text, Best) else plain


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; cells are escaped here, so pass them raw."""
    lines = [[escape_markdown(c) for c in row] for row in [header, *rows]]
    lines.insert(1, ["---", *["---:"] * (len(header) - 1)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rich_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    """The same table for the terminal. `Text`, so that [brackets] are not read as markup."""
    table = RichTable(title=Text(title, style="bold"), title_justify="left")
    for j, name in enumerate(header):
        table.add_column(Text(name), justify="right" if j else "left", no_wrap=j > 0)
    for row in rows:
        table.add_row(*(Text(c, style="bold green" if isinstance(c, Best) else "") for c in row))
    return table
