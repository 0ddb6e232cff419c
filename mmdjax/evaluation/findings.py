"""The main table, differences to the first system, and costs, from the values of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmdjax.config.resolve import PICKED
from mmdjax.evaluation.differences import Tested
from mmdjax.evaluation.tables import (
    AVERAGE,
    MISSING,
    OPTIMUM,
    Key,
    Results,
    Table,
    cell,
    grid,
    stat_of,
)
from mmdjax.tasks import Metric, metric

MOST_NAMES = 4  # systems that a sentence names
SIGNIFICANT = 0.05
# Of draws, beside their distance to the truth; see the functions of `mmdjax.metrics`.
LAW = ("spread", "coverage", "with_truth", "with_draws", "sliced_wasserstein")
RULE = (
    "Systems are distinguishable where the p-value of their difference is below 5 %: paired over "
    "seeds and utterances together, and corrected for the number of systems (Holm)."
)


def counted(results: Results) -> str:
    """Return what averages over patterns are taken over, in words."""
    patterns = 2 ** len(results.modalities) - 1
    if results.complete:
        return f"all {patterns} patterns"
    return f"the {patterns - 1} incomplete patterns"


def paired(results: Results, system: str, reference: str, protocol: str, name: str) -> np.ndarray:
    """Return the differences of averages to the reference, seed by seed."""
    ours, theirs = (
        results.values.get(Key(s, protocol, AVERAGE, name), {}) for s in (system, reference)
    )
    return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


def verdict(tested: Tested | None) -> str:
    """Return whether a system is distinguishable from the first one, and in which direction."""
    if tested is None:
        return "not tested"
    if tested.difference.seeds < 2:
        return "one seed cannot tell"
    if tested.p >= SIGNIFICANT:
        return "no"
    return "yes, higher" if tested.difference.mean > 0 else "yes, lower"


def lead(results: Results) -> str:
    """Return how the first system compares with the others, in words that the numbers support."""
    entry, first = metric(results.task.headline), results.systems[0]
    stats = results.by_system("fixed", AVERAGE, entry.name)
    if first.name not in stats:
        return f"{first.name} has no average over {counted(results)}, so nothing is compared."
    text = {name: f"{name} at {cell(entry.name, s)}" for name, s in stats.items()}
    better, worse = ("higher", "lower") if entry.higher else ("lower", "higher")
    words = {f"yes, {better}": "behind", f"yes, {worse}": "ahead of"}
    words |= {"no": "not distinguishable from", "one seed cannot tell": "", "not tested": ""}
    groups: dict[str, list[str]] = {}
    rivals = [s.name for s in results.systems[1:] if s.name in stats and not s.yardstick]
    for name in sorted(rivals, key=lambda n: -stats[n][0] if entry.higher else stats[n][0]):
        word = words[verdict(results.tested.get(("fixed", name)))]
        groups.setdefault(word, []).append(text[name])
    unknown = groups.pop("", [])
    seeds, unit = stats[first.name][2], f" {entry.unit}" if entry.unit else ""
    sentences = [
        f"Averaged over {counted(results)}, {first.name} reaches "
        f"{cell(entry.name, stats[first.name])}{unit} {entry.label} "
        f"({seeds} seed{'s' * (seeds > 1)})."
    ]
    if groups:
        comparisons = "; ".join(f"{word} {_several(names)}" for word, names in groups.items())
        sentences += [f"It is {comparisons}. {RULE}"]
    if unknown:
        reason = "One seed cannot tell" if seeds == 1 else "It was not tested"
        sentences += [f"{reason} whether that differs from {_several(unknown)}."]
    for system in results.systems:
        if system.method == OPTIMUM and system.name in stats:
            optimum = cell(entry.name, stats[system.name])
            sentences += [f"{system.name} on these data: {optimum}{unit}."]
    return " ".join(sentences)


def _several(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {more} others"


def averages(results: Results, names: Sequence[str] | None = None) -> Table:
    """Return system by metric, the task's main ones by default, averaged over patterns."""
    names = results.task.main if names is None else names
    return grid(results, {("fixed", AVERAGE, m): metric(m).title(arrow=True) for m in names})


def law_table(results: Results) -> Table:
    """Return system by how its draws are distributed, averaged over what is drawn from what."""
    columns = {("imputation", AVERAGE, m): metric(m).title() for m in LAW}
    return grid(results, columns, contest=False)


def main_table(results: Results, costs: Mapping[str, Mapping], printed: Mapping[str, str]) -> Table:
    """Return system by metric, averaged over patterns, with costs and published numbers.

    Args:
      costs: see `report.Context`. printed: system -> its published average.
    """
    header, body = averages(results)
    if not body:
        return [], []
    energy = results.by_system("imputation", AVERAGE, "energy_distance")
    columns = {
        "energy distance ↓": {n: cell("energy_distance", s) for n, s in energy.items()},
        "NFE": {s.name: _evaluations(results, s.name, costs) for s in results.systems},
        "weights (M)": {n: f"{c['parameters'] / 1e6:.3g}" for n, c in costs.items() if c},
        "seconds for 1000 draws ↓": {n: f"{c['seconds']:.3g}" for n, c in costs.items() if c},
        "published ACC2 / F1 / ACC7 (%)": printed,
    }
    for head, cells in columns.items():
        added = [cells.get(line[0]) or MISSING for line in body]
        if set(added) != {MISSING}:
            header = [*header, head]
            body = [[*line, text] for line, text in zip(body, added, strict=True)]
    return header, body


def difference_table(results: Results) -> Table:
    """Return the differences of averages to the first system, and whether they are beyond chance.

    Those of the headline metric have an interval and a p-value; others, their deviation over seeds.
    """
    reference, heads, body = results.systems[0].name, ["system"], []
    titles = {"fixed": "patterns", "random": "missing rates", "gaps": "gaps"}
    columns = [(p, results.task.headline, f", {title}") for p, title in titles.items()]
    columns += [("imputation", "energy_distance", "")]
    columns = [c for c in columns if reference in results.by_system(c[0], AVERAGE, c[1])]
    for protocol, name, title in columns:
        unit = " (points)" if metric(name).unit else ""
        heads += [f"{metric(name).label}{unit}{title}"]
        heads += ["distinguishable?"] if protocol != "imputation" else []
    for system in results.systems[1:]:
        cells = []
        for protocol, name, _ in columns:
            tested = results.tested.get((protocol, system.name))
            apart = paired(results, system.name, reference, protocol, name)
            cells.append(_difference(apart, tested, metric(name)) if len(apart) else MISSING)
            if protocol != "imputation":
                cells.append(_certainty(tested) if len(apart) else MISSING)
        if set(cells) - {MISSING}:
            body.append([system.label, *cells])
    return (heads, body) if body else ([], [])


def _difference(apart: np.ndarray, tested: Tested | None, entry: Metric) -> str:
    """Return a mean difference with its interval, or with its deviation over seeds."""
    digits = entry.digits + (entry.unit == "")
    text = f"{entry.scale * apart.mean():+z.{digits}f}"
    if tested is not None:
        ends = (entry.scale * (apart.mean() + s * tested.difference.width) for s in (-1, 1))
        return text + " [{}]".format(", ".join(f"{end:+z.{digits}f}" for end in ends))
    spread = entry.scale * apart.std(ddof=1) if len(apart) > 1 else None
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def _certainty(tested: Tested | None) -> str:
    """Return a verdict with its p-value."""
    word = verdict(tested)
    if tested is None or tested.difference.seeds < 2:
        return word
    return f"{word} (p {'< 0.001' if tested.p < 0.001 else f'= {tested.p:.3f}'})"


def picked_table(results: Results) -> Table:
    """Return the headline of each trained system with its epoch picked on validation data, as
    everywhere else, and on test data, as several published systems pick it."""
    if results.picked is None:
        return [], []
    name, body = results.task.headline, []
    entry, on_test = metric(name), results.picked.by_system("fixed", AVERAGE, name)
    for system in results.systems:
        twin = system.name + PICKED
        if twin not in on_test:
            continue
        ours, theirs = (
            of.values[Key(s, "fixed", AVERAGE, name)]
            for of, s in ((results, system.name), (results.picked, twin))
        )
        gain = np.array([theirs[seed] - ours[seed] for seed in ours])
        gain = entry.scale * (gain if entry.higher else -gain)
        digits = entry.digits + (entry.unit == "")
        stats = [stat_of([*values.values()]) for values in (ours, theirs)]
        cells = [cell(name, stat) for stat in stats]
        body.append([system.label, *cells, f"{gain.mean():+z.{digits}f}"])
    unit = " (points)" if entry.unit else ""
    heads = ["epoch picked on validation", "on test, as published", f"flatters by{unit}"]
    return ["system", *heads], body


def _phases(results: Results) -> dict[tuple[str, tuple], list[str]]:
    """Return (phase, pairs of seed and seconds) -> the systems that share it."""
    phases: dict[tuple[str, tuple], list[str]] = {}
    for key, seconds in results.values.items():
        if (key.protocol, key.metric) == ("cost", "seconds"):
            phases.setdefault((key.condition, tuple(seconds.items())), []).append(key.system)
    return phases


def minutes(results: Results) -> float:
    """Return the time of training and evaluation, shared phases once."""
    return sum(value for _, seconds in _phases(results) for _, value in seconds) / 60


def time_table(results: Results) -> Table:
    """Return seconds of every phase as it came, for each seed, shared phases once.

    Empty where no time was measured.
    """
    phases = _phases(results)
    seeds = list(dict.fromkeys(seed for _, seconds in phases for seed, _ in seconds))
    systems = {name for names in phases.values() for name in names}
    lines = [(phase, dict(seconds), names) for (phase, seconds), names in phases.items()]
    whole = {seed: sum(seconds.get(seed, 0.0) for _, seconds, _ in lines) for seed in seeds}
    lines.sort(key=lambda line: line[0].startswith("evaluation"))  # stable: as they came
    total, body = sum(whole.values()), []
    for phase, seconds, names in [*lines, ("all phases", whole, list(systems))] if lines else ():
        cells = [cell("seconds", (seconds[s], 0.0, 1) if s in seconds else None) for s in seeds]
        cells += [cell("seconds", (sum(seconds.values()), 0.0, 1))] if len(seeds) > 1 else []
        cells += [f"{100 * sum(seconds.values()) / total if total else 0.0:.1f}"]
        if len(systems) > 1:
            listed = "; ".join(names) if len(names) < 3 else f"{len(names)} systems"
            cells += ["all" if len(names) == len(systems) else listed]
        body.append([phase, *cells])
    heads = [f"seed {seed} (s)" for seed in seeds] + ["all seeds (s)"] * (len(seeds) > 1)
    heads += ["share (%)", *["systems"] * (len(systems) > 1)]
    return (["phase", *heads], body) if body else ([], [])


def cost_table(results: Results, costs: Mapping[str, Mapping]) -> Table:
    """Return what each system takes: weights, its phases, network evaluations, seconds of draws."""
    phases, body = _phases(results), []
    for system in results.systems:
        seeds: dict[object, float] = {}
        for (_, seconds), names in phases.items():
            for seed, value in seconds if system.name in names else ():
                seeds[seed] = seeds.get(seed, 0.0) + value
        low, high = costs.get(system.name, {}).get("quartiles", (None, None))
        weights = results.summary.get(Key(system.name, "cost", "all phases", "parameters"))
        cells = [
            f"{weights[0] / 1e6:.3g}" if weights else MISSING,
            cell("seconds", stat_of([*seeds.values()]) if seeds else None),
            _evaluations(results, system.name, costs) or MISSING,
            MISSING if low is None else f"{low:.3g} to {high:.3g}",
        ]
        if set(cells) != {MISSING}:
            body.append([system.label, str(system.k) if system.draws else MISSING, *cells])
    heads = [
        "weights, all phases (M)",
        "its phases, one seed (s)",
        "NFE",
        "seconds for 1000 draws, quartiles",
    ]
    heads = ["system", "draws averaged", *heads]
    filled = [j for j in range(len(heads)) if any(line[j] != MISSING for line in body)]
    return [heads[j] for j in filled], [[line[j] for j in filled] for line in body]


def _evaluations(results: Results, name: str, costs: Mapping[str, Mapping]) -> str:
    """Return the evaluations of a drawn item: a number, or the range over patterns."""
    if "nfe" in (costs.get(name) or {}):
        return f"{costs[name]['nfe']:g}"
    of_patterns = (
        seeds.values()
        for key, seeds in results.values.items()
        if (key.system, key.protocol, key.metric) == (name, "cost", "nfe")
    )
    counts = [count for counts in of_patterns for count in counts]
    return " to ".join(dict.fromkeys(f"{end(counts):g}" for end in (min, max))) if counts else ""
