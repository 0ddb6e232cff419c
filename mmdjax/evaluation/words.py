"""What patterns, regret and the top of a report say in words."""

from __future__ import annotations

from collections.abc import Sequence

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.missing.patterns import patterns as patterns_of
from mmdjax.evaluation.tables import AVERAGE, OPTIMUM, Results, cell
from mmdjax.tasks import metric

REGRET = (
    "Regret is what a system loses to the Bayes optimum, the best prediction that the observed "
    "modalities allow: 0 is as good as possible, and below 0 is luck of a finite test set."
)


def shown_by(modalities: Sequence[str]) -> dict[str, list[str]]:
    """Return the name of each availability pattern -> the modalities that are observed."""
    return {
        pattern_name(p, modalities): [
            name for name, seen in zip(modalities, p, strict=True) if seen
        ]
        for p in patterns_of(len(modalities))
    }


def patterns_in_words(results: Results, protocol: str) -> dict[str, str]:
    """Return the patterns that a protocol's tables name -> what they mean, such as `l+a>v`.

    Args:
      protocol: 'fixed' or 'imputation'.
    """
    shown, words = shown_by(results.modalities), {}
    for name in results.conditions(protocol) if results.measured(protocol) else ():
        given, _, drawn = name.partition(">")
        if drawn in shown and given in shown:
            words[name] = f"{listed(shown[drawn])} completed from {listed(shown[given])}"
        elif not drawn and given in shown:
            missing = [m for m in results.modalities if m not in shown[given]]
            words[name] = f"{listed(shown[given])} observed, {listed(missing) or 'nothing'} missing"
    return words


def listed(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def above_optimum(results: Results) -> str:
    """Return a sentence on the systems whose mean is better than the optimum's; '' for none."""
    entry = metric(results.task.headline)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    optimum = next((s.name for s in results.systems if s.method == OPTIMUM), None)
    if optimum not in stats:
        return ""
    sign = 1 if entry.higher else -1
    best = float(cell(entry.name, stats[optimum]).split()[0])
    printed = {name: float(cell(entry.name, s).split()[0]) for name, s in stats.items()}
    above = [name for name, value in printed.items() if sign * value > sign * best]
    if not above:
        return ""
    stand = "stands" if len(above) == 1 else "stand"
    place = "above" if entry.higher else "below"
    return (
        f"{listed(above)} {stand} {place} {optimum} here: it is the best on average over all data, "
        "and on a finite test set another prediction can come out ahead by chance."
    )
