"""A report's blocks, written once, as Markdown and as one HTML file that works offline.

Blocks hold plain text; each renderer escapes all of it, so ids and paths may hold anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from mmdjax.evaluation import figures, tables
from mmdjax.runtime.files import write_bytes

# h1, text | h2, text | lead, text | list, items | pairs, mapping | details, summary, text
# | table, caption, header, rows | figure, name, caption
Block = tuple

HEAD = """<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #666; --rule: #e3e3e3; --paper: #fff;
  --tint: #f4f6f9; --accent: #0b5cad; --edge: #0003; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a0a0a0; --rule: #36393d;
  --paper: #17191c; --tint: #202429; --accent: #7db8ee;
  --edge: #fff4; } }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 64rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 1.2rem; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .8rem; }
h1, p, li, dd { overflow-wrap: anywhere; } p, ul { max-width: 46rem; } li { margin: .35rem 0; }
.lead { font-size: 1.08rem; border-left: 3px solid var(--accent); padding-left: 1rem; }
figure { margin: 1.4rem 0; } dd { margin: 0; }
.scroll { overflow-x: auto; margin: 1.4rem 0; width: max-content; max-width: 100%;
  background: linear-gradient(to left, var(--paper) 40%, transparent) right / 4rem 100% local,
    linear-gradient(to left, var(--edge), transparent) right / 1.2rem 100%;
  background-repeat: no-repeat; } /* a shade where columns are hidden */
@media (min-width: 68rem) { .scroll { max-width: calc(50vw + 30rem); } } /* to the window's edge */
.scroll :is(th, td):first-child { position: sticky; left: 0; background: var(--paper); }
@media (max-width: 40rem) { body { padding: 1.5rem 1rem 3rem; }
  td:first-child { white-space: normal; min-width: 7rem; }
  figure { overflow-x: auto; } figure img { max-width: none; width: 42rem; } }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem; padding: .3rem 0; }
th, td { padding: .34rem .5rem; text-align: right; } td { border-bottom: 1px solid var(--rule); }
th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; text-wrap: balance; }
td { white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
tbody tr:hover :is(td, td:first-child) { background: var(--tint); }
strong, summary { color: var(--accent); }
.yardstick, .std, dt { color: var(--soft); } .std { font-size: .87em; }
button { all: unset; cursor: pointer; position: relative; display: inline-block;
  max-width: 8.5rem; }
button:hover, [aria-sort] { color: var(--accent); }
[aria-sort] button::after { content: "▾"; position: absolute; left: 100%; }
[aria-sort="ascending"] button::after { content: "▴"; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
img, pre { padding: .9rem; border: 1px solid var(--rule); border-radius: 6px; }
img { max-width: 100%; box-sizing: border-box; background: #fff; } summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; }
pre { overflow-x: auto; font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
</style>"""

# A click, or Enter, sorts by the number a cell begins with, the better end first; a column without
# numbers by its words. Dashes stay last.
SCRIPT = """<script>
for (const button of document.querySelectorAll("th button")) {
  button.title = "Sort by this column";
  button.onclick = () => {
    const th = button.parentNode, table = th.closest("table"), i = th.cellIndex;
    const rows = [...table.tBodies[0].rows], text = row => row.cells[i].textContent;
    const value = row => parseFloat(text(row)), words = !i || rows.every(row => isNaN(value(row)));
    const low = words || /↓/.test(button.textContent + table.caption.textContent);
    const was = th.getAttribute("aria-sort"), up = was ? was === "descending" : low;
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const spell = (a, b) => text(a).localeCompare(text(b), "en", {numeric: true});
    const order = (a, b) => words ? spell(a, b) : value(a) - value(b);
    const dash = row => text(row) === "–" || !words && isNaN(value(row)) ? 1 : 0;
    const both = (a, b) => dash(a) - dash(b) || (up ? order(a, b) : order(b, a)) || 0;
    table.tBodies[0].append(...rows.sort(both));
  };
}
</script></body></html>"""


def sections(named: Iterable[tuple[str, Sequence[Block]]]) -> list[Block]:
    """Return headings and their blocks; what has no content is left out."""
    blocks: list[Block] = []
    for heading, parts in named:
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

    def tr(row: Sequence[str]) -> str:
        mark = ' class="yardstick"' if isinstance(row[0], tables.Quiet) else ""
        return f"<tr{mark}>{''.join(map(td, row))}</tr>\n"

    joined = {" ↑": "&nbsp;↑", " ↓": "&nbsp;↓", "non-zero": "non&#8209;zero"}  # not torn apart
    names = [escape(h) for h in header]
    for torn, whole in joined.items():
        names = [name.replace(torn, whole) for name in names]
    head = "".join(f'<th scope="col"><button>{name}</button></th>' for name in names)
    body = "".join(map(tr, rows))
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
            image = f'<img alt="{escape(name)}" src="data:image/png;base64,{images[name]}">'
            return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        case _, summary, text:
            return f"<details><summary>{summary}</summary><pre>{escape(text)}</pre></details>"


def write_pages(
    workdir: Path, title: str, blocks: Sequence[Block], made: Mapping[str, Figure]
) -> Path:
    """Write `report.md`, `report.html` (returned) and `figures/*.png`, each atomically.

    Args:
      made: name -> figure, of the blocks' figures.
    """
    folder, images = Path(workdir) / "figures", {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in made.items():
        figures.save(figure, folder / f"{name}.png")
        images[name] = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    page = [f'<!doctype html>\n<html lang="en"><head>{HEAD}<title>{escape(title)}</title></head>']
    page += ["<body>", *(_html(block, images) for block in blocks), SCRIPT]
    text = "\n\n".join(map(_markdown, blocks))
    for name, content in (("report.md", text), ("report.html", "\n".join(page))):
        write_bytes(Path(workdir) / name, f"{content}\n".encode(errors="replace"))
    return Path(workdir) / "report.html"
