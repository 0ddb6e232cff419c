"""The report of a run: which tables and figures, and what may be said about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.evaluation import figures, pages, published, tables
from mmdjax.evaluation.pages import Block
from mmdjax.evaluation.tables import cell, condition_table, method_label, metric_label

HEADLINE = "acc2_nonzero"
OPPONENTS = ("zero", "mean", "zero_trained", "mean_trained")
PUBLISHED_MODALITIES = {"language", "acoustic", "vision"}
PUBLISHED_RATES, PUBLISHED_METRICS = (0.0, 0.3, 0.5, 0.7), ("acc2_nonzero", "f1_nonzero", "acc7")
READING = (  # what the rows must hold, and what the reader then has to know
    ("", "Bold is the best mean of a column; whether it is a difference, the ± says. Linear probe "
     "and Bayes optimum are yardsticks, never bold. A dash: not measured, or not defined."),
    ("", "ACC2 and F1 non-zero drop the label 0, then compare > 0 with > 0; with zero compares "
     "≥ 0 with ≥ 0. F1 is weighted by class. ACC7 clips both to ±3 and rounds half to even."),
    ("", "diffusion, K: what is missing is drawn K times and the predictions are averaged; "
     "complete: the draws go to the classifier trained on complete data. zero and mean fill; "
     "trained: their classifier was trained with such gaps."),
    ("bayes", "The Bayes optimum is exact, the data being synthetic: the posterior median of the "
     "label, optimal for ACC2 and MAE (not for ACC7 or correlation). Regret: the distance to it."),
    ("random", "A missing rate hides modalities sample by sample and always keeps one, so the "
     "realised rate may be lower than the nominal one."),
    ("gaps", "Gaps: mcar drops single frames, burst runs of them, block one run of each modality; "
     "correlated, imbalanced and label_dependent whole modalities (data/missing/gaps.py). Draws "
     "know the frames that remain."),
    ("imputation", "l+a>v: v drawn from l and a. The energy distance compares distributions; "
     "RMSE compares values, and a conditional mean, which has no spread, has the best RMSE."),
)  # fmt: skip


def headline(rows: tables.Rows) -> str:
    """The metric that figures and words are about: ACC2 of sentiment, accuracy of classes."""
    return HEADLINE if any(r["metric"] == HEADLINE for r in rows) else "acc"


def comparison(rows: tables.Rows, modalities: Sequence[str] | None = None) -> str:
    """How diffusion stands to the filling baselines, in words that the numbers support.

    Two averages are called different only when they differ by more than the larger of their
    standard deviations over seeds; with one seed nothing is.
    """
    average, metric = tables.average_over_patterns(rows, modalities), headline(rows)
    stats = {k[0]: s for k, s in average.items() if k[3] == metric and s[0] == s[0]}
    drawn = [m for m in stats if re.fullmatch(r"diffusion_k\d+", m)]
    ours = max(drawn, key=lambda m: (m == "diffusion_k8", int(m[11:])), default=None)
    if ours is None:
        return "There is no average of diffusion over all patterns, so nothing is compared."
    mean, std, n = stats[ours]
    said: dict[str, list[str]] = {}
    for other in (m for m in OPPONENTS if m in stats):
        gap = mean - stats[other][0]
        verdict = "ahead of" if gap > 0 else "behind"
        if min(n, stats[other][2]) < 2:
            verdict = "unknown"
        elif abs(gap) <= max(std, stats[other][1]):
            verdict = "not distinguishable from"
        name = f"{method_label(other)} at {cell(metric, stats[other])}"
        said.setdefault(verdict, []).append(name)
    unknown = ", ".join(said.pop("unknown", ()))
    text = f"Averaged over all {len(tables.patterns(rows))} patterns, {method_label(ours)} reaches "
    name = "ACC2 non-zero" if metric == HEADLINE else "accuracy"
    text += f"{cell(metric, stats[ours])} % {name} ({n} seed{'s' * (n > 1)})."
    if said:
        text += f" It is {'; '.join(v + ' ' + ', '.join(names) for v, names in said.items())}."
        text += " A gap counts only beyond the larger standard deviation over seeds."
    if unknown:
        text += f" One seed cannot tell whether that differs from {unknown}."
    if "bayes" in stats:
        text += f" The Bayes optimum on these data is {cell(metric, stats['bayes'])} %."
    return text


def _figures(rows, history, modalities, letters) -> dict[str, tuple]:
    """Name -> (figure, caption), for what there is to show."""
    made, first = {}, headline(rows)
    if tables.select(rows, protocol="fixed", metric=first):
        caption = f"Observed: {letters}. Whiskers: one standard deviation over seeds."
        made["per_pattern"] = (figures.bars_per_pattern(rows, first, modalities), caption)
    for metric in (first, "mae", "rmse_mean"):
        found = tables.select(rows, protocol="random", metric=metric)
        if len({r["condition"] for r in found}.intersection(tables.rates(rows))) > 1:
            caption = "By missing rate. Bands: one standard deviation over seeds."
            made[f"rate_{metric}"] = (figures.metric_against_rate(rows, metric), caption)
    if history:
        caption = "Loss, one line a seed. The circle is the epoch that was kept."
        made["loss"] = (figures.loss_curves(history), caption)
    return made


def time_table(rows: tables.Rows) -> tables.Table:
    """Seconds of every phase as it came, a seed's and all seeds', and what share of the whole.

    'evaluation: diffusion' is a part of 'evaluation' and not counted twice. Empty where no time was
    measured.
    """
    spent = tables.select(rows, protocol="cost", metric="seconds")
    phases: dict[str, dict] = {}
    for r in spent:
        phases.setdefault(str(r["method"]), {})[r["seed"]] = float(r["value"])
    if not phases:
        return [], []
    seeds, whole = dict.fromkeys(r["seed"] for r in spent), "all phases"
    phases[whole] = {
        seed: sum(of.get(seed, 0.0) for name, of in phases.items() if ": " not in name)
        for seed in seeds
    }
    total = sum(phases[whole].values())
    body = []
    for name, of in phases.items():
        own = [tables.cell("seconds", (of[s], 0.0, 1) if s in of else None) for s in seeds]
        own += [tables.cell("seconds", (sum(of.values()), 0.0, 1))] if len(seeds) > 1 else []
        share = 100 * sum(of.values()) / total if total else 0.0
        body.append([name, *own, f"{share:.1f}"])
    heads = [f"seed {seed} (s)" for seed in seeds] + ["all seeds (s)"] * (len(seeds) > 1)
    return ["phase", *heads, "share (%)"], body


def _nfe_table(rows: tables.Rows) -> tables.Table:
    """Method by NFE: a number, or from the least to the most of the patterns."""
    counts: dict[str, list] = {}
    for r in tables.select(rows, protocol="cost", metric="nfe"):
        counts.setdefault(str(r["method"]), []).append(r["value"])
    ends = {m: dict.fromkeys(f"{end(c):g}" for end in (min, max)) for m, c in counts.items()}
    return ["method", "NFE"], [[method_label(m), " to ".join(e)] for m, e in ends.items()]


def _published(rows, modalities, config: Mapping) -> list[tuple[str, list[Block]]]:
    """The thesis' averages beside ours: CMU-MOSI or CMU-MOSEI with their three modalities, where
    the patterns or rates that are averaged are theirs. Nothing otherwise.
    """
    data, title = config.get("data", {}), str(config.get("title", ""))
    told = re.findall("MOSEI|MOSI", f"{title} {data.get('path', '')}".upper())  # the path wins
    if data.get("name") != "mmsa" or set(modalities) != PUBLISHED_MODALITIES or not told:
        return []
    dataset, blocks = told[-1], []
    rates = [c for c in tables.rates(rows) if float(c) in PUBLISHED_RATES]
    for protocol, conditions, number, name in (
        ("fixed", tables.patterns(rows, modalities), "6.11", "all seven patterns"),
        (
            "random",
            rates * (len(rates) == len(PUBLISHED_RATES)),
            "6.10",
            f"rates {', '.join(rates)}",
        ),
    ):
        header, body = tables.grid(
            tables.summarise(averages(rows, protocol, conditions)),
            {(protocol, "average", m): metric_label(m, arrow=True) for m in PUBLISHED_METRICS},
            contest=False,
        )
        if not body:
            continue
        for row in published.results(f"thesis {number}", dataset):
            cells = [tables.cell(m, (row[m], 0.0, 1)) for m in PUBLISHED_METRICS]
            body.append([f"{row['method']}, published", *cells])
        blocks.append(("table", f"Mean of {name}: ours, and table {number}", header, body))
    note = (
        f"That the file holds CMU-{dataset} is read from its path or the title. What is averaged, "
        "and the metrics, are the thesis' own (tables 6.10 and 6.11); features, masks, seeds and "
        "the choice of a checkpoint may differ, so a gap between ours and theirs is no verdict."
    )
    return [(f"Published, CMU-{dataset}", [("list", [note]), *blocks])] if blocks else []


def averages(rows: tables.Rows, protocol: str, conditions: Sequence[str]) -> list[dict]:
    """Each seed's mean over these conditions, as rows of condition 'average'; a seed that lacks one
    is left out."""
    found: dict[tuple, dict[str, float]] = {}
    for r in tables.select(rows, protocol=protocol):
        if r["condition"] in conditions and r["value"] is not None:
            key = (r["method"], r["seed"], r["metric"])
            found.setdefault(key, {})[str(r["condition"])] = float(r["value"])
    return [
        {"method": method, "protocol": protocol, "condition": "average", "seed": seed}
        | {"metric": metric, "value": float(np.mean([*values.values()]))}
        for (method, seed, metric), values in found.items()
        if len(values) == len(conditions)
    ]


def _blocks(rows, modalities, letters, made, title, config, machine, notes, extra) -> list[Block]:
    """The report from top to bottom; what has no content is left out."""

    def figure(name: str) -> Block:
        return "figure", name, *made.get(name, (None, ""))[1:]

    def by_condition(protocol: str, metrics: Iterable[str]) -> list[Block]:
        found = ((m, condition_table(rows, protocol, m, modalities)) for m in metrics)
        return [("table", metric_label(m, arrow=True), *table) for m, table in found]

    seeds, first = sorted({s[2] for s in tables.summarise(rows).values()}) or [0], headline(rows)
    n = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    reading = [
        f"A number is the mean ± the sample standard deviation over seeds, n = {n}; one seed has "
        "no ±. An average is taken over the patterns inside each seed first.",
        f"A pattern names what is observed: {letters}.",
    ]
    held = {str(r[k]) for r in rows for k in ("method", "protocol")} | {""}
    reading += [text for needed, text in READING if needed in held]
    drawn = sorted({str(r["metric"]) for r in tables.select(rows, protocol="imputation")})
    average = ("table", "Mean of all patterns", *tables.main_table(rows, modalities))
    text = json.dumps(config, indent=2, default=str, ensure_ascii=False)
    sections = [
        ("Results", [average]),
        ("By pattern", [figure("per_pattern"), *by_condition("fixed", (first, "regret_acc2"))]),
        ("By missing rate", [figure(f"rate_{first}"), *by_condition("random", [first]),
                             figure("rate_mae"), *by_condition("random", ["mae"])]),
        ("Gaps", by_condition("gaps", (first, "mae"))),
        ("Imputation", [figure("rate_rmse_mean"), *by_condition("random", ["rmse_mean", "rmse"]),
                        *by_condition("imputation", drawn)]),
        *extra,
        *_published(rows, modalities, config),
        ("How to read this", [("list", reading)]),
        ("Training and cost", [figure("loss"), ("table", "Time spent", *time_table(rows)),
                               ("table", "Network evaluations a drawn item", *_nfe_table(rows))]),
        ("Notes", [("list", list(notes))]),
        ("Machine and configuration", [("pairs", machine), ("details", "Configuration", text)]),
    ]  # fmt: skip
    lead = ("lead", comparison(rows, modalities))
    return [("h1", title), lead, *pages.sections(sections)]


def write_report(
    workdir: Path, rows: tables.Rows, *, modalities: Sequence[str], title: str, config: dict,
    machine: Mapping[str, str], history: Mapping, notes: Sequence[str], extra: tuple = ((), {}),
) -> Path:  # fmt: skip
    """Writes `report.md`, `report.html` (returned) and `figures/*.png`, each atomically.

    Args:
      rows: result rows `{method, protocol, condition, seed, metric, value}`.
      modalities: full names, in order; they explain the letters of the patterns.
      config, machine, notes: printed as they are, escaped.
      history: phase -> {"epoch", "train", "valid": lists, "best": epoch kept, optional}.
      extra: a method's own (title, blocks) each, and name -> (figure, caption) of their figures.
    """
    letters = letters_of(modalities)
    made = _figures(rows, history, modalities, letters) | extra[1]
    blocks = _blocks(rows, modalities, letters, made, title, config, machine, notes, extra[0])
    return pages.write_pages(workdir, title, blocks, {name: f for name, (f, _) in made.items()})


def letters_of(modalities: Sequence[str]) -> str:
    """What the letters of patterns stand for: first letters, where these are unique."""
    if len({name[:1] for name in modalities}) == len(modalities):
        return ", ".join(f"{name[:1]} = {name}" for name in modalities)
    return ", ".join(modalities)
