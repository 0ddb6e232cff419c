"""Tables that papers print, with our results under the same conditions among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmdjax.config import Comparison
from mmdjax.evaluation import published
from mmdjax.evaluation.pages import Block
from mmdjax.evaluation.tables import (
    AVERAGE,
    MISSING,
    Key,
    Results,
    Stat,
    cell,
    mean_over,
    pattern_names,
    stat_of,
)
from mmdjax.tasks import metric

LETTERS = ("l", "a", "v")
MODALITIES = ("language", "acoustic", "vision")
METRICS = tuple(published.METRICS.values())
RATES = ("0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
# What averages count whose conditions a table does not list.
COUNTED = {"average of 4": ("0.0", "0.3", "0.5", "0.7"), "average": RATES}
SOURCES = {"thesis": "the thesis", "gsdnet": "GSDNet"}
AUTOMATIC = ("thesis 6.11", "thesis 6.10")  # averages over all patterns, and over four rates
CONVERSATIONS = ("gsdnet 1", "gsdnet 2", "gsdnet 3")


def chosen(
    config: Mapping, comparison: Comparison, modalities: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """Return which published tables are shown, and of which dataset.

    Those that the comparison asks for; or those of GSDNet, where its group names a dataset; or the
    thesis' averages for CMU-MOSI or CMU-MOSEI with their three modalities, told by path or title.
    """
    if comparison.tables:
        return tuple(comparison.tables), comparison.dataset
    if dataset := config.get("graph", {}).get("published"):
        return CONVERSATIONS, dataset
    data, title = config.get("data", {}), str(config.get("title", ""))
    names = re.findall("MOSEI|MOSI", f"{title} {data.get('path', '')}".upper())  # the path wins
    if data.get("name") != "mmsa" or set(modalities) != set(MODALITIES) or not names:
        return (), ""
    return AUTOMATIC, names[-1]


def averages(results: Results, tables: Sequence[str], dataset: str) -> dict[str, str]:
    """Return system -> its published average over patterns, 'ACC2 / F1 / ACC7'."""
    printed: dict[str, str] = {}
    for table in tables:
        for row in published.results(table, dataset):
            if row["protocol"] == "fixed" and row["condition"].startswith(AVERAGE):
                printed.setdefault(row["method"], _triple({m: (row[m],) for m in METRICS}))
    return {s.name: printed[s.published] for s in results.systems if s.published in printed}


def section(
    results: Results, config: Mapping, tables: Sequence[str], dataset: str
) -> list[tuple[str, list[Block]]]:
    """Return the section on published numbers; empty where there are none to show."""
    blocks: list[Block] = []
    for name in tables:
        source, _, number = name.partition(" ")
        header, body, ours = beside(results, name, dataset)
        if not ours and tables == AUTOMATIC:
            continue
        which = f"table {number} of {SOURCES[source]}"
        title = f"Ours, and {which}" if ours else f"T{which[1:]}, as printed"
        metrics = "" if len(header) == 1 + len(METRICS) else ": ACC2 / F1 / ACC7 (%)"
        blocks.append(("table", title + metrics, header, body))
    if not blocks:
        return []
    notes = [
        "Published numbers were measured with other features, masks, seeds and hardware, so a gap "
        "between ours and theirs is no verdict. Theirs have no deviation."
    ]
    if str(config.get("data", {}).get("name", "")).startswith("synthetic"):
        notes.append(f"The data here are synthetic, those of published numbers CMU-{dataset}.")
    else:
        pairs = zip(results.modalities, MODALITIES, strict=False)
        notes += [f"Where published numbers have {b}, ours have {a}." for a, b in pairs if a != b]
    if tables == AUTOMATIC:
        notes.append(f"That the file holds CMU-{dataset} is read from its path or the title.")
    return [(f"Published, CMU-{dataset}", [("list", notes), *blocks])]


def beside(results: Results, table: str, dataset: str) -> tuple[list[str], list[list[str]], bool]:
    """Return a published table's header and lines with our systems among them, and whether any is.

    Each of our systems is followed by its published counterpart. A table of one condition has a
    column for each metric; others have three metrics in a cell.
    """
    printed = published.results(table, dataset)
    protocol, conditions = printed[0]["protocol"], dict.fromkeys(r["condition"] for r in printed)
    stats = _ours(results, protocol, tuple(conditions))
    theirs: dict[str, dict] = {}
    for row in printed:
        of_method = theirs.setdefault(row["method"], {})
        of_method[row["condition"]] = {m: (row[m], 0.0, 1) for m in METRICS}
    lines: list[tuple[str, dict]] = []
    for system in results.systems:
        if any(stats[system.name].values()):
            lines.append((system.label, stats[system.name]))
            if system.published in theirs:
                lines.append((f"{system.published}, published", theirs.pop(system.published)))
    ours = bool(lines)
    lines += [(f"{method}, published", of_method) for method, of_method in theirs.items()]
    if len(conditions) > 1:
        heads = list(conditions)
        body = [[name, *(_triple(line.get(c)) for c in conditions)] for name, line in lines]
    else:
        heads, (condition,) = [metric(m).title(arrow=True) for m in METRICS], conditions
        body = [[name, *(cell(m, line[condition].get(m)) for m in METRICS)] for name, line in lines]
    return ["system", *heads], body, ours


def _ours(results: Results, protocol: str, conditions: Sequence[str]) -> dict[str, dict]:
    """Return our statistics by system, published condition and metric, {} where not measured."""
    patterns = pattern_names(results.modalities) if len(results.modalities) == len(LETTERS) else []
    letters = dict(zip(patterns[: len(LETTERS)], LETTERS, strict=False))
    names = {_ordered("+".join(letters[p] for p in c.split("+"))): c for c in patterns}
    names |= {rate: rate for rate in RATES}
    singles = [c for c in conditions if not c.startswith(AVERAGE)]
    stats: dict[str, dict] = {s.name: {} for s in results.systems}
    for condition in conditions:
        values, at = results.values, names.get(_ordered(condition))
        if condition.startswith(AVERAGE):
            number = re.search(r"of (\d)", condition)
            listed = [names.get(_ordered(c)) for c in singles]
            if protocol == "random":
                listed = listed or list(COUNTED[condition])
            else:
                listed = listed or patterns[: int(number[1]) if number else None]
            values = mean_over(results.values, protocol, listed) if None not in listed else {}
            at = AVERAGE
        for system in results.systems:
            keys = {m: Key(system.name, protocol, at, m) for m in METRICS}
            stats[system.name][condition] = {
                m: stat_of([*values[key].values()]) for m, key in keys.items() if key in values
            }
    return stats


def _triple(stats: Mapping[str, Stat] | None) -> str:
    """Return the means of the three metrics in one cell."""
    if not stats:
        return MISSING
    return " / ".join(f"{100 * stats[m][0]:.1f}" if m in stats else MISSING for m in METRICS)


def _ordered(condition: str) -> str:
    return "+".join(sorted(condition.split("+")))
