"""A report's blocks, written once, as Markdown and as one HTML file that works offline.

Blocks hold plain text; each renderer escapes all of it, so ids and paths may hold anything.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from mmdjax.evaluation import exported, figures, tables, vectors, web
from mmdjax.runtime.files import write_bytes

# h1, text | h2, text | lead, text | about, text | note, text | tiles, of `headline.Tile`
# | list, items | pairs, mapping | words, summary, mapping | commands, text before, lines
# | details, summary, text | table, caption, header, rows | heat, likewise, cells shaded on the page
# | figure, name, caption
Block = tuple


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
        case "lead" | "about" | "note", text:
            return e(text)
        case "tiles", tiles:
            return "\n".join(f"- {e(t.label)}: {e(t.value)} ({e(t.note)})" for t in tiles)
        case "list", items:
            return "\n".join(f"- {e(str(item))}" for item in items)
        case "pairs", pairs:
            return "\n".join(f"- {e(str(k))}: {e(str(v))}" for k, v in pairs.items())
        case "words", summary, pairs:
            inside = _markdown(("pairs", pairs))
            return f"<details><summary>{escape(summary)}</summary>\n\n{inside}\n\n</details>"
        case "table" | "heat", caption, header, rows:
            return f"{e(caption)}\n\n{tables.markdown(header, rows).rstrip()}"
        case "commands", summary, text:
            return f"{e(summary)}\n\n```sh\n{text}\n```"
        case "figure", name, caption:
            return f"![{name}](figures/{name}.png)\n\n{e(caption)}"
        case _, summary, text:  # details; no line of JSON can close the fence
            inside = f"```json\n{text}\n```"
            return f"<details><summary>{escape(summary)}</summary>\n\n{inside}\n\n</details>"


def write_pages(
    workdir: Path,
    title: str,
    blocks: Sequence[Block],
    drawn: Mapping[str, Figure | Callable[..., Figure]],
    order: Sequence[str] = (),
) -> Path:
    """Write `report.md`, `report.html` (returned), `figures/*.png` and `*.pdf`, and every table as
    `tables/*.csv` and `*.tex`, each atomically.

    Args:
      drawn: name -> figure, of the blocks' figures. What is called with `narrow` for it is drawn on
        the page itself, once for a wide window and once for a phone; a figure is a picture there.
    """
    folder, pictures = Path(workdir) / "figures", {}
    folder.mkdir(parents=True, exist_ok=True)
    captions = {block[1]: block[2] for block in blocks if block[0] == "figure"}
    for name, figure in drawn.items():
        made = figure() if callable(figure) else figure
        figures.save(made, folder / f"{name}.png")
        if callable(figure):
            label = captions.get(name, name)
            both = (vectors.inline(made, name, label),
                    vectors.inline(figure(narrow=True), f"{name}-narrow", label))  # fmt: skip
            pictures[name] = web.chart(*both, order)
        else:
            png = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
            pictures[name] = web.image(png, name)
    listed = [block[1:] for block in blocks if block[0] in ("table", "heat")]
    exported.write_tables(Path(workdir) / "tables", listed)
    text = "\n\n".join(map(_markdown, blocks))
    for name, content in (("report.md", text), ("report.html", web.page(title, blocks, pictures))):
        write_bytes(Path(workdir) / name, f"{content}\n".encode(errors="replace"))
    return Path(workdir) / "report.html"
