"""The strip of tiles at the top of a report: the best system, its lead, the time of a draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mmdjax.evaluation.differences import Tested
from mmdjax.evaluation.findings import SIGNIFICANT, counted
from mmdjax.evaluation.tables import AVERAGE, OPTIMUM, Results, cell
from mmdjax.tasks import metric


class Tile(NamedTuple):
    """One number of the strip: what it is, the number, and what it means."""

    label: str
    value: str
    note: str


def ranking(results: Results) -> list[str]:
    """Return the systems with a mean headline, the best first; no yardsticks."""
    entry = metric(results.task.headline)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    names = [s.name for s in results.systems if s.name in stats and not s.yardstick]
    return sorted(names, key=lambda n: -stats[n][0] if entry.higher else stats[n][0])


def tie(tested: Tested | None) -> bool | None:
    """Return whether a system cannot be told from the best one; None where nothing tells."""
    if tested is None or tested.difference.seeds < 2:
        return None
    return tested.p >= SIGNIFICANT


def tiles(results: Results, costs: Mapping[str, Mapping]) -> list[Tile]:
    """Return the tiles, from what was measured.

    Args:
      costs: see `report.Context`.
    """
    entry, order = metric(results.task.headline), ranking(results)
    if not order:
        return []
    best, unit = order[0], f" {entry.unit}" if entry.unit else ""
    stats = results.by_system("fixed", AVERAGE, entry.name)
    alone = "best system" if len(order) > 1 else "system"
    mean = f"{best}: {entry.label}, mean over {counted(results)}"
    result = [Tile(alone, cell(entry.name, stats[best]) + unit, mean)]
    if len(order) > 1:
        result.append(_next(results, order))
    for system in results.systems:
        if system.method == OPTIMUM and system.name in stats:
            reached = cell(entry.name, stats[system.name])
            note = f"from {best} to {system.name}, which reaches {reached}"
            result.append(Tile("left to the optimum", _gap(results, system.name, best), note))
    timed = [s for s in results.systems if costs.get(s.name)]
    if timed:
        cost = costs[timed[0].name]
        note = f"{timed[0].name}: one modality given all others, NFE {cost['nfe']:g}"
        note += f", batches of {cost['batch']}" if "batch" in cost else ""
        # Seconds of a thousand are milliseconds of one.
        result.append(Tile("time of a draw", f"{cost['seconds']:.3g} ms", note))
    result += _covered(results)
    return result


def _gap(results: Results, better: str, other: str) -> str:
    """Return how far apart two systems are in the headline, in print."""
    entry = metric(results.task.headline)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    digits = entry.digits + (entry.unit == "")
    gap = entry.scale * (stats[better][0] - stats[other][0]) * (1 if entry.higher else -1)
    return f"{gap:z.{digits}f}" + (" points" if entry.unit else f" {entry.label}")


def _next(results: Results, order: list[str]) -> Tile:
    """Return the tile of the second best system, which says whether it is really behind."""
    ties = [name for name in order[1:] if tie(results.rivals.get(name))]
    said = tie(results.rivals.get(order[1]))
    if said is None:
        tested = results.rivals.get(order[1])
        note = "one seed cannot tell them apart" if tested else "the difference was not tested"
        return Tile("ahead of the next", _gap(results, *order[:2]), f"{order[1]}; {note}")
    if not said:
        note = f"{order[1]}, behind beyond chance (p = {results.rivals[order[1]].p:.3f})"
        return Tile("ahead of the next", _gap(results, *order[:2]), note)
    more = len(ties) - 1
    those = f"it and {more} other{'s' * (more > 1)} are not" if more else "not"
    note = f"{order[1]}; {those} distinguishable from the best"
    return Tile("ahead of the next: a tie", _gap(results, *order[:2]), note)


def _covered(results: Results) -> list[Tile]:
    """Return the coverage of the first system that draws."""
    stats = results.by_system("imputation", AVERAGE, "coverage")
    drawing = [s.name for s in results.systems if s.draws and s.name in stats]
    if not drawing:
        return []
    share = cell("coverage", stats[drawing[0]])
    note = f"of the hidden numbers, {drawing[0]}; draws of the right law hold 90"
    return [Tile("inside 90 % intervals", f"{share} %", note)]
