"""The report of a run, as Markdown and as one HTML file that works offline.

The text is put together once, as a list of blocks, and rendered twice. Blocks hold plain
text; each renderer escapes all of it, so ids and paths may hold anything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from mmdjax.evaluation import figures, tables
from mmdjax.evaluation.tables import cell, condition_table, method_label, metric_label
from mmdjax.files import write_bytes

HEADLINE = "acc2_nonzero"
OPPONENTS = ("zero", "mean", "zero_trained", "mean_trained")
# h1, text | h2, text | lead, text | list, items | pairs, mapping | details, summary, text
# | table, caption, header, rows | figure, name, caption
Block = tuple

HEAD = """<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #666; --rule: #e3e3e3; --paper: #fff;
  --tint: #f4f6f9; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a0a0a0; --rule: #36393d;
  --paper: #17191c; --tint: #202429; --accent: #7db8ee; } }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 64rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 1.2rem; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .8rem; }
h1, p, li, dd { overflow-wrap: anywhere; } p, ul { max-width: 46rem; } li { margin: .35rem 0; }
.lead { font-size: 1.08rem; border-left: 3px solid var(--accent); padding-left: 1rem; }
.scroll { overflow-x: auto; margin: 1.4rem 0; } figure { margin: 1.4rem 0; } dd { margin: 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem; padding: .3rem 0; }
th, td { padding: .34rem .5rem; text-align: right; } td { border-bottom: 1px solid var(--rule); }
th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; text-wrap: balance; }
td { white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
tbody tr:hover { background: var(--tint); } strong, summary { color: var(--accent); }
.yardstick, .std, dt { color: var(--soft); } .std { font-size: .87em; }
button { all: unset; cursor: pointer; } button:hover, [aria-sort] { color: var(--accent); }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
img, pre { padding: .9rem; border: 1px solid var(--rule); border-radius: 6px; }
img { max-width: 100%; box-sizing: border-box; background: #fff; } summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; }
pre { overflow-x: auto; font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
</style>"""

# A click sorts by the number a cell begins with, the better end first; dashes stay last.
SCRIPT = """<script>
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const th = button.parentNode, table = th.closest("table"), i = th.cellIndex;
  const low = i === 0 || /↓/.test(button.textContent + table.caption.textContent);
  const was = th.getAttribute("aria-sort"), up = was ? was === "descending" : low;
  for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = row => row.cells[i].textContent, value = row => parseFloat(text(row));
  const order = (a, b) => i ? value(a) - value(b) : text(a).localeCompare(text(b));
  const dash = row => i && isNaN(value(row)) ? 1 : 0;
  const both = (a, b) => dash(a) - dash(b) || (up ? order(a, b) : order(b, a)) || 0;
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(both));
};
</script></body></html>"""

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
    ("imputation", "l+a>v: v drawn from l and a. The energy distance compares distributions; "
     "RMSE compares values, and a conditional mean, which has no spread, has the best RMSE."),
)  # fmt: skip


def comparison(rows: tables.Rows, modalities: Sequence[str] | None = None) -> str:
    """How diffusion stands to the filling baselines, in words that the numbers support.

    Two averages are called different only when they differ by more than the larger of their
    standard deviations over seeds; with one seed nothing is.
    """
    average = tables.average_over_patterns(rows, modalities)
    stats = {k[0]: s for k, s in average.items() if k[3] == HEADLINE and s[0] == s[0]}
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
        name = f"{method_label(other)} at {cell(HEADLINE, stats[other])}"
        said.setdefault(verdict, []).append(name)
    unknown = ", ".join(said.pop("unknown", ()))
    text = f"Averaged over all {len(tables.patterns(rows))} patterns, {method_label(ours)} reaches "
    text += f"{cell(HEADLINE, stats[ours])} % ACC2 non-zero ({n} seed{'s' * (n > 1)})."
    if said:
        text += f" It is {'; '.join(v + ' ' + ', '.join(names) for v, names in said.items())}."
        text += " A gap counts only beyond the larger standard deviation over seeds."
    if unknown:
        text += f" One seed cannot tell whether that differs from {unknown}."
    if "bayes" in stats:
        text += f" The Bayes optimum on these data is {cell(HEADLINE, stats['bayes'])} %."
    return text


def _figures(rows, history, modalities, letters) -> dict[str, tuple]:
    """Name -> (figure, caption), for what there is to show."""
    made = {}
    if tables.select(rows, protocol="fixed", metric=HEADLINE):
        caption = f"Observed: {letters}. Whiskers: one standard deviation over seeds."
        made["per_pattern"] = (figures.bars_per_pattern(rows, HEADLINE, modalities), caption)
    for metric in (HEADLINE, "mae"):
        found = tables.select(rows, protocol="random", metric=metric)
        if len({r["condition"] for r in found}.intersection(tables.rates(rows))) > 1:
            caption = "By missing rate. Bands: one standard deviation over seeds."
            made[f"rate_{metric}"] = (figures.metric_against_rate(rows, metric), caption)
    if history:
        made["loss"] = (figures.loss_curves(history), "Loss. Dotted: the epoch that was kept.")
    return made


def _blocks(rows, modalities, letters, made, title, config, machine, notes) -> list[Block]:
    """The report from top to bottom; what has no content is left out."""

    def figure(name: str) -> Block:
        return "figure", name, *made.get(name, (None, ""))[1:]

    def by_condition(protocol: str, metrics: Iterable[str]) -> list[Block]:
        found = ((m, condition_table(rows, protocol, m, modalities)) for m in metrics)
        return [("table", metric_label(m, arrow=True), *table) for m, table in found]

    seeds = sorted({s[2] for s in tables.summarise(rows).values()}) or [0]
    n = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    reading = [
        f"A number is the mean ± the sample standard deviation over seeds, n = {n}; one seed has "
        "no ±. An average is taken over the patterns inside each seed first.",
        f"A pattern names what is observed: {letters}.",
    ]
    held = {str(r[k]) for r in rows for k in ("method", "protocol")} | {""}
    reading += [text for needed, text in READING if needed in held]
    drawn = sorted({str(r["metric"]) for r in tables.select(rows, protocol="imputation")})
    cost = tables.select(rows, protocol="cost", condition="all")
    columns = {("cost", "all", str(r["metric"])): metric_label(str(r["metric"])) for r in cost}
    spent = tables.grid(tables.summarise(cost), columns, contest=False)
    average = ("table", "Mean of all patterns", *tables.main_table(rows, modalities))
    text = json.dumps(config, indent=2, default=str, ensure_ascii=False)
    sections = [
        ("Results", [average]),
        ("By pattern", [figure("per_pattern"), *by_condition("fixed", (HEADLINE, "regret_acc2"))]),
        ("By missing rate", [figure(f"rate_{HEADLINE}"), *by_condition("random", [HEADLINE]),
                             figure("rate_mae"), *by_condition("random", ["mae"])]),
        ("Imputation", by_condition("imputation", drawn)),
        ("How to read this", [("list", reading)]),
        ("Training and cost", [figure("loss"), ("table", "Measured in this run", *spent)]),
        ("Notes", [("list", list(notes))]),
        ("Machine and configuration", [("pairs", machine), ("details", "Configuration", text)]),
    ]  # fmt: skip

    blocks = [("h1", title), ("lead", comparison(rows, modalities))]
    for heading, parts in sections:
        kept = [b for b in parts if b[-1]]  # the content; a figure not made has an empty caption
        blocks += [("h2", heading), *kept] if kept else []
    return blocks


def _markdown(block: Block) -> str:
    e = tables.escape_markdown
    match block:
        case "h1" | "h2" as level, text:
            return f"{'#' * int(level[1])} {e(text)}"
        case "lead", text:
            return e(text)
        case "list", items:
            return "\n".join(f"- {e(str(item))}" for item in items)
        case "pairs", pairs:
            return "\n".join(f"- {e(str(k))}: {e(str(v))}" for k, v in pairs.items())
        case "table", caption, header, rows:
            return f"{e(caption)}\n\n{tables.markdown(header, rows).rstrip()}"
        case "figure", name, caption:
            return f"![{name}](figures/{name}.png)\n\n{e(caption)}"
        case _, summary, text:  # details; no line of JSON can close the fence
            return f"<details><summary>{summary}</summary>\n\n```json\n{text}\n```\n\n</details>"


def _html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def td(text: str) -> str:
        mean, _, std = text.partition(" ± ")
        mark = "<strong>{}</strong>" if isinstance(text, tables.Best) else "{}"
        std = std and f'<span class="std"> ± {escape(std)}</span>'
        return f"<td>{mark.format(escape(mean))}{std}</td>"

    quiet = {method_label(m): ' class="yardstick"' for m in tables.OUTSIDE}
    names = (escape(h).replace(" ↑", "&nbsp;↑").replace(" ↓", "&nbsp;↓") for h in header)
    head = "".join(f'<th scope="col"><button>{name}</button></th>' for name in names)
    body = "".join(f"<tr{quiet.get(r[0], '')}>{''.join(map(td, r))}</tr>\n" for r in rows)
    inside = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return f'<div class="scroll"><table>{inside}\n<tbody>{body}</tbody></table></div>'


def _html(block: Block, images: Mapping[str, str]) -> str:
    match block:
        case "h1" | "h2" as tag, text:
            return f"<{tag}>{escape(text)}</{tag}>"
        case "lead", text:
            return f'<p class="lead">{escape(text)}</p>'
        case "list", items:
            return f"<ul>{''.join(f'<li>{escape(str(item))}</li>' for item in items)}</ul>"
        case "pairs", pairs:
            told = [(escape(str(k)), escape(str(v))) for k, v in pairs.items()]
            return f"<dl>{''.join(f'<dt>{k}</dt><dd>{v}</dd>' for k, v in told)}</dl>"
        case "table", caption, header, rows:
            return _html_table(caption, header, rows)
        case "figure", name, caption:
            image = f'<img alt="{name}" src="data:image/png;base64,{images[name]}">'
            return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        case _, summary, text:
            return f"<details><summary>{summary}</summary><pre>{escape(text)}</pre></details>"


def write_report(
    workdir: Path, rows: tables.Rows, *, modalities: Sequence[str], title: str, config: dict,
    machine: Mapping[str, str], history: Mapping, notes: Sequence[str],
) -> Path:  # fmt: skip
    """Writes `report.md`, `report.html` (returned) and `figures/*.png`, each atomically.

    Args:
      rows: result rows `{method, protocol, condition, seed, metric, value}`.
      modalities: full names, in order; they explain the letters of the patterns.
      config, machine, notes: printed as they are, escaped.
      history: phase -> {"epoch", "train", "valid": lists, "best": epoch kept, optional}.
    """
    folder = Path(workdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    letters = ", ".join(modalities)  # patterns use first letters where these are unique
    if len({name[:1] for name in modalities}) == len(modalities):
        letters = ", ".join(f"{name[:1]} = {name}" for name in modalities)
    made, images = _figures(rows, history, modalities, letters), {}
    for name, (figure, _) in made.items():
        figures.save(figure, folder / f"{name}.png")
        images[name] = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    blocks = _blocks(rows, modalities, letters, made, title, config, machine, notes)
    page = [f'<!doctype html>\n<html lang="en"><head>{HEAD}<title>{escape(title)}</title></head>']
    page += ["<body>", *(_html(block, images) for block in blocks), SCRIPT]
    text = "\n\n".join(map(_markdown, blocks))
    for name, content in (("report.md", text), ("report.html", "\n".join(page))):
        write_bytes(Path(workdir) / name, f"{content}\n".encode(errors="replace"))
    return Path(workdir) / "report.html"
