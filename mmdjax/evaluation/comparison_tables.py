"""Rows of a comparison as tables: systems by metric and condition, published numbers beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmdjax.evaluation import published, tables
from mmdjax.evaluation.protocols import rate_name

METRICS = ("acc2_nonzero", "f1_nonzero", "acc7", "mae")
HEADLINE = METRICS[0]
PUBLISHED_LETTERS = ("l", "a", "v")
YARDSTICKS = {"linear_probe": "linear probe", "bayes": "Bayes optimum"}


def shown_rows(rows, systems, draws: Mapping[str, int], complete: bool) -> list[dict]:
    """Rows of the one method that each system is shown by, named after the system, with averages.

    Args:
      rows: of results.json, each with its 'system'.
      systems: `config_comparison.System`s. draws: system -> K.
      complete: averages count the complete pattern, and missing rate 0.

    Returns:
      Rows with the system as 'method'. Condition 'average' of the fixed and random protocols is a
      seed's mean over patterns or rates; of 'imputation', over patterns and what is drawn, of one
      draw an utterance.
    """
    found = []
    for system in systems:
        own = [r for r in rows if r["system"] == system.name]
        method = system.method
        if drawn := method.startswith("diffusion"):
            method = f"diffusion_k{draws[system.name]}" if method == "diffusion" else method
        fill = "diffusion" if drawn else method.removesuffix("_trained")
        wanted = [r for r in own if r["protocol"] in ("fixed", "random") and r["method"] == method]
        wanted += [r for r in own if r["protocol"] == "imputation" and r["method"] == fill]
        found += [r | {"method": system.name} for r in wanted]
    first = [r for r in rows if r["system"] == systems[0].name]
    for method, name in YARDSTICKS.items():
        found += [r | {"method": name} for r in first if r["method"] == method]
    patterns = tables.patterns(found)
    everything = {("fixed", patterns[-1]), ("random", rate_name(0.0))} if patterns else set()
    averages: dict[tuple, list[float]] = {}
    for r in found:
        if complete or (r["protocol"], r["condition"]) not in everything:
            key = (r["method"], r["protocol"], r["seed"], r["metric"])
            averages.setdefault(key, []).append(r["value"])
    names = ("method", "protocol", "seed", "metric")
    return found + [
        dict(zip(names, key, strict=True)) | {"condition": "average", "value": float(np.mean(v))}
        for key, v in averages.items()
    ]


def paired(rows, system: str, reference: str, protocol: str, metric: str) -> np.ndarray:
    """Differences of averages, seed by seed."""

    def of(name):
        fixed = {"method": name, "protocol": protocol, "condition": "average", "metric": metric}
        return {r["seed"]: r["value"] for r in tables.select(rows, **fixed)}

    ours, theirs = of(system), of(reference)
    return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


def verdict(differences: np.ndarray, deviation: float) -> str:
    """Whether a mean difference exceeds the larger deviation over seeds of the two systems."""
    if len(differences) < 2 or not math.isfinite(deviation):
        return "one seed cannot tell"
    if abs(differences.mean()) <= deviation:
        return "no"
    return "yes, higher" if differences.mean() > 0 else "yes, lower"


def main_table(rows, systems, costs, printed) -> tables.Table:
    summary, body = tables.summarise(rows), []
    header = ["system", *(tables.metric_label(m, arrow=True) for m in METRICS)]
    header += ["energy distance ↓", "NFE", "weights (M)", "seconds for 1000 draws ↓"]
    header += ["published ACC2 / F1 / ACC7 (%)"] if printed else []
    for name, theirs in [(s.name, s.published) for s in systems] + [
        (name, "") for name in YARDSTICKS.values()
    ]:
        if (name, "fixed", "average", HEADLINE) not in summary:
            continue
        cells = [tables.cell(m, summary.get((name, "fixed", "average", m))) for m in METRICS]
        key = (name, "imputation", "average", "energy_distance")
        cells.append(tables.cell("energy_distance", summary.get(key)))
        cost = costs.get(name)
        cells += (
            [str(cost["nfe"]), f"{cost['parameters'] / 1e6:.3g}", f"{cost['seconds']:.3g}"]
            if cost
            else [tables.MISSING] * 3
        )
        if printed:
            row = printed.get((theirs, "fixed", "average"))
            cells.append(" / ".join(_printed_cells(row)) if row else tables.MISSING)
        body.append([name, *cells])
    return header, body


def _printed_cells(row) -> list[str]:
    metrics = published.METRICS.values()
    return [tables.MISSING if row is None else f"{100 * row[m]:.1f}" for m in metrics]


def difference_table(rows, systems) -> tables.Table:
    reference, summary, body = systems[0].name, tables.summarise(rows), []
    columns = [("fixed", HEADLINE), ("random", HEADLINE), ("imputation", "energy_distance")]
    columns = [c for c in columns if (reference, c[0], "average", c[1]) in summary]
    header = ["system"]
    for protocol, _ in columns:
        label = "energy distance" if protocol == "imputation" else f"ACC2 (points), {protocol}"
        header += [label, "beyond deviation?"]
    for system in systems[1:]:
        cells = []
        for protocol, metric in columns:
            stats = [
                summary.get((n, protocol, "average", metric)) for n in (system.name, reference)
            ]
            if None in stats:
                cells += [tables.MISSING] * 2
                continue
            difference = paired(rows, system.name, reference, protocol, metric)
            scale, digits = (1, 4) if protocol == "imputation" else (100, 1)
            text = f"{scale * difference.mean():+.{digits}f}"
            if len(difference) > 1:
                text += f" ± {scale * difference.std(ddof=1):.{digits}f}"
            cells += [text, verdict(difference, max(s[1] for s in stats))]
        body.append([system.name, *cells])
    return header, body


def condition_table(rows, systems, protocol: str, conditions: Mapping[str, str], printed):
    """ACC2 by condition, the published numbers of the same system under ours.

    Args:
      conditions: ours -> the published name.
    """
    summary, body = tables.summarise(rows), []
    names = {s.name: s.published for s in systems} | dict.fromkeys(YARDSTICKS.values(), "")
    for name, theirs in names.items():
        found = [summary.get((name, protocol, c, HEADLINE)) for c in conditions]
        if any(found):
            body.append([name, *(tables.cell(HEADLINE, s) for s in found)])
        beside = [printed.get((theirs, protocol, c)) for c in conditions.values()]
        if any(beside):
            cells = [f"{100 * r[HEADLINE]:.1f}" if r else tables.MISSING for r in beside]
            body.append([f"{name}, published", *cells])
    return ["system", *conditions], body


def printed_rows(comparison) -> dict[tuple[str, str, str], dict]:
    """(method, protocol, condition) -> published row; any 'average of N' is the average."""
    found = {}
    for table in comparison.tables:
        for row in published.results(table, comparison.dataset):
            condition = "average" if row["condition"].startswith("average") else row["condition"]
            letters = condition.split("+")
            if set(letters) <= set(PUBLISHED_LETTERS):
                condition = "+".join(sorted(letters, key=PUBLISHED_LETTERS.index))
            found.setdefault((row["method"], row["protocol"], condition), row)
    return found


def published_differs(config, modalities: Sequence[str]) -> list[str]:
    """In words, how the data differ from those of the published numbers shown, if they do."""
    comparison, theirs = config.comparison, ("language", "acoustic", "vision")
    if not comparison.tables:
        return []
    if config.data.name.startswith("synthetic"):
        return [
            f"The data here are synthetic, those of published numbers CMU-{comparison.dataset}."
        ]
    pairs = [(a, b) for a, b in zip(modalities, theirs, strict=False) if a != b]
    return [f"Where published numbers have {b}, ours have {a}." for a, b in pairs]


def published_table(comparison, table: str) -> tuple:
    """As printed: method by condition, ACC2 / F1 / ACC7."""
    rows = published.results(table, comparison.dataset)
    conditions = list(dict.fromkeys(r["condition"] for r in rows))
    body = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = {r["condition"]: r for r in rows if r["method"] == method}
        cells = (
            " / ".join(_printed_cells(own[c])) if c in own else tables.MISSING for c in conditions
        )
        body.append([method, *cells])
    return ["method", *conditions], body


def cost_table(rows, systems) -> tables.Table:
    """Seconds of every phase, and of all; a phase that systems share stands with each of them."""
    own = [r | {"condition": r["method"], "method": r["system"]} for r in _phases(rows)]
    phases, whole = list(dict.fromkeys(r["condition"] for r in own)), {}
    for r in own:
        key = (r["method"], r["seed"])
        whole[key] = whole.get(key, 0.0) + r["value"]
    own += [
        {"protocol": "cost", "metric": "seconds", "condition": "all phases"}
        | {"method": name, "seed": seed, "value": value}
        for (name, seed), value in whole.items()
    ]
    columns, summary = [*phases, "all phases"], tables.summarise(own)
    body = [
        [
            s.name,
            *(tables.cell("seconds", summary.get((s.name, "cost", c, "seconds"))) for c in columns),
        ]
        for s in systems
    ]
    return ["system", *columns], body


def _phases(rows) -> list[dict]:
    """Rows of seconds; 'evaluation: diffusion' is a part of 'evaluation' and not counted twice."""
    own = tables.select(rows, protocol="cost", metric="seconds")
    return [r for r in own if ": " not in r["method"]]


def seconds_in_all(rows) -> float:
    """Of training and evaluation, shared phases once."""
    parts = {(r["method"], r["seed"], r["value"]) for r in _phases(rows)}
    return sum(value for *_, value in parts)
