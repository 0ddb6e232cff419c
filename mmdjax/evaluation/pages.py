"""A report's blocks, written once, as Markdown and as one HTML file that works offline.

Blocks hold plain text; each renderer escapes all of it, so ids and paths may hold anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from mmdjax.evaluation import exported, figures, tables
from mmdjax.runtime.files import write_bytes

# h1, text | h2, text | lead, text | list, items | pairs, mapping | details, summary, text
# | table, caption, header, rows | figure, name, caption
Block = tuple

STYLE = (Path(__file__).parent / "report.css").read_text()
# A click, or Enter, sorts by the number a cell begins with, the better end first; a column without
# numbers by its words. Dashes stay last.
SCRIPT = (Path(__file__).parent / "report.js").read_text()


def sections(named: Iterable[tuple[str, Sequence[Block]]]) -> list[Block]:
    """Return headings and their blocks; what has no content is left out."""
    blocks: list[Block] = []
    for heading, parts in named:
        filled = [b for b in parts if b[-1]]  # a figure that was not drawn has an empty caption
        blocks += [("h2", heading), *filled] if filled else []
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
            escaped = [(escape(str(k)), escape(str(v))) for k, v in pairs.items()]
            return f"<dl>{''.join(f'<dt>{k}</dt><dd>{v}</dd>' for k, v in escaped)}</dl>"
        case "table", caption, header, rows:
            return _html_table(caption, header, rows)
        case "figure", name, caption:
            image = f'<img alt="{escape(name)}" src="data:image/png;base64,{images[name]}">'
            return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        case _, summary, text:
            return f"<details><summary>{summary}</summary><pre>{escape(text)}</pre></details>"


def write_pages(
    workdir: Path, title: str, blocks: Sequence[Block], drawn: Mapping[str, Figure]
) -> Path:
    """Write `report.md`, `report.html` (returned), `figures/*.png` and `*.pdf`, and every table as
    `tables/*.csv` and `*.tex`, each atomically.

    Args:
      drawn: name -> figure, of the blocks' figures.
    """
    folder, images = Path(workdir) / "figures", {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figures.save(figure, folder / f"{name}.png")
        images[name] = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<style>\n{STYLE}</style><title>{escape(title)}</title>"
    page = [f'<!doctype html>\n<html lang="en"><head>{head}</head>', "<body>"]
    page += [
        *(_html(block, images) for block in blocks),
        f"<script>\n{SCRIPT}</script></body></html>",
    ]
    exported.write_tables(
        Path(workdir) / "tables", [block[1:] for block in blocks if block[0] == "table"]
    )
    text = "\n\n".join(map(_markdown, blocks))
    for name, content in (("report.md", text), ("report.html", "\n".join(page))):
        write_bytes(Path(workdir) / name, f"{content}\n".encode(errors="replace"))
    return Path(workdir) / "report.html"
