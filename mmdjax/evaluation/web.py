"""A report as one HTML page that works offline, from the blocks that `pages` describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from mmdjax.evaluation import tables, vectors
from mmdjax.evaluation.exported import in_csv, in_latex

STYLE = (Path(__file__).parent / "report.css").read_text()
# A click on a column's name, or Enter, sorts by the number that a cell begins with, the best first,
# and by words where there are no numbers. Dashes stay last.
SCRIPT = (Path(__file__).parent / "report.js").read_text()
# Not broken across lines.
NOT_TORN = {" ↑": "&nbsp;↑", " ↓": "&nbsp;↓", "non-zero": "non&#8209;zero"}


def page(title: str, blocks: Sequence[tuple], pictures: Mapping[str, str]) -> str:
    """Return the page.

    Args:
      pictures: name -> the element that shows a figure, `image` or `chart`.
    """
    anchors = {block[1]: anchor(block[1]) for block in blocks if block[0] == "h2"}
    names = [*anchors]
    words = {k: v for block in blocks if block[0] == "words" for k, v in block[2].items()}
    body = []
    for block in blocks:
        if block[0] == "h2" and block[1] == names[0]:
            body.append(_contents(anchors))
        body.append(_html(block, pictures, words))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    style = f"<style>\n{STYLE}{_palette(vectors.colours(''.join(pictures.values())))}</style>"
    head += f"{style}<title>{escape(title)}</title>"
    parts = [f'<!doctype html>\n<html lang="en"><head>{head}</head>', "<body>", *body]
    parts += [
        f'<div class="tip" role="status" hidden></div><script>\n{SCRIPT}</script></body></html>'
    ]
    return "\n".join(parts)


def anchor(heading: str) -> str:
    """Return the id to which links to a heading lead."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "part"


def image(png: str, name: str) -> str:
    """Return a picture, base64 of a PNG."""
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{png}">'


def chart(wide: vectors.Vector, narrow: vectors.Vector, order: Sequence[str]) -> str:
    """Return a chart in both widths, of which the page shows one.

    Args:
      order: names of systems, as legends list them.
    """
    return "".join(
        f'<div class="{width}">{vector.svg}{_legend(vector.legend, order)}</div>'
        for width, vector in (("wide", wide), ("narrow", narrow))
    )


def _legend(colours: Mapping[str, str], order: Sequence[str]) -> str:
    """Return buttons that hide and show the marks of an owner."""
    if not colours:
        return ""
    places = {name: place for place, name in enumerate(order)}
    names = sorted(colours, key=lambda name: places.get(name, len(order)))
    chip = '<button aria-pressed="true" data-of="{}"><i style="background:{}"></i>{}</button>'
    chips = (chip.format(escape(n), colours[n], escape(n)) for n in names)
    return f'<div class="legend">{"".join(chips)}</div>'


def _palette(colours: Iterable[str]) -> str:
    """Return CSS variables for the colours of charts, for light and for dark pages."""
    names = sorted(colours)
    light, dark = ("".join(f"--c{c[1:]}:{of(c)};" for c in names) for of in (str, vectors.dark_of))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _contents(anchors: Mapping[str, str]) -> str:
    links = (f'<a href="#{to}">{escape(text)}</a>' for text, to in anchors.items())
    return f'<nav aria-label="Contents">{"".join(links)}</nav>'


def _html_table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    heat: bool,
    words: Mapping[str, str],
) -> str:
    shades = _shades(caption, header, rows) if heat else {}

    def said(text: str) -> str:
        return f' title="{escape(words[text])}"' if text in words else ""

    def td(text: str, place: tuple[int, int]) -> str:
        mean, _, std = text.partition(" ± ")
        mark = "<strong>{}</strong>" if isinstance(text, tables.Best) else "{}"
        std = std and f'<span class="std"> ± {escape(std)}</span>'
        shade = f' style="--h:{shades[place]}%"' if place in shades else ""
        return f"<td{shade}{said(text)}>{mark.format(escape(mean))}{std}</td>"

    def tr(i: int, row: Sequence[str]) -> str:
        mark = ' class="yardstick"' if isinstance(row[0], tables.Quiet) else ""
        cells = "".join(td(text, (i, j)) for j, text in enumerate(row))
        return f"<tr{mark}>{cells}</tr>\n"

    def th(text: str) -> str:
        name = escape(text)
        for torn, whole in NOT_TORN.items():
            name = name.replace(torn, whole)
        return f'<th scope="col"><button{said(text)}>{name}</button></th>'

    head = "".join(map(th, header))
    body = "".join(tr(i, row) for i, row in enumerate(rows))
    inside = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    copies = {"CSV": in_csv(header, rows), "LaTeX": in_latex(caption, header, rows)}
    buttons = "".join(
        f'<button data-copy="{escape(text)}">Copy {kind}</button>' for kind, text in copies.items()
    )
    return (
        f'<div class="table"><div class="copy">{buttons}</div><div class="scroll"><table>{inside}\n'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _shades(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[tuple[int, int], int]:
    """Return (row, column) -> a shade in percent: how close a cell is to the best of its pattern.

    All patterns share one scale. Yardsticks, in rows or columns, have no shade.
    """
    numbers = {
        (i, j): float(found[0])
        for i, row in enumerate(rows)
        for j, text in enumerate(row)
        if j
        and not isinstance(row[0], tables.Quiet)
        and not isinstance(header[j], tables.Quiet)
        and (found := re.match(r"-?\d+(\.\d+)?", text))
    }
    across = int(header[0] == "system")  # patterns are columns, or rows
    sign = -1 if "↓" in caption else 1
    best: dict[int, float] = {}
    for place, value in numbers.items():
        pattern = place[across]
        best[pattern] = max(best.get(pattern, sign * value), sign * value)
    gaps = {place: best[place[across]] - sign * value for place, value in numbers.items()}
    most = max(gaps.values(), default=0)
    return {place: round(100 * (1 - gap / most)) for place, gap in gaps.items()} if most else {}


def _html(block: tuple, pictures: Mapping[str, str], words: Mapping[str, str]) -> str:
    match block:
        case "h1", text:
            return f"<h1>{escape(text)}</h1>"
        case "h2", text:
            return f'<h2 id="{anchor(text)}">{escape(text)}</h2>'
        case "lead" | "about" | "note" as kind, text:
            return f'<p class="{kind}">{escape(text)}</p>'
        case "tiles", tiles:
            shown = (
                f"<div><span>{escape(t.label)}</span><b>{_value(t.value)}</b>"
                f"<small>{escape(t.note)}</small></div>"
                for t in tiles
            )
            return f'<section class="tiles">{"".join(shown)}</section>'
        case "list", items:
            return f"<ul>{''.join(f'<li>{escape(str(item))}</li>' for item in items)}</ul>"
        case "pairs", pairs:
            return _pairs(pairs)
        case "words", summary, pairs:
            return f"<details><summary>{escape(summary)}</summary>{_pairs(pairs)}</details>"
        case ("table" | "heat") as kind, caption, header, rows:
            return _html_table(caption, header, rows, kind == "heat", words)
        case "commands", summary, text:
            copy = f'<div class="copy"><button data-copy="{escape(text)}">Copy</button></div>'
            return (
                f'<p>{escape(summary)}</p><div class="table">{copy}<pre>{escape(text)}</pre></div>'
            )
        case "figure", name, caption:
            kind = ' class="chart"' if "<svg" in pictures[name] else ""
            return (
                f"<figure{kind}>{pictures[name]}<figcaption>{escape(caption)}</figcaption></figure>"
            )
        case _, summary, text:
            inside = f"<summary>{escape(summary)}</summary><pre>{escape(text)}</pre>"
            return f"<details>{inside}</details>"


def _value(text: str) -> str:
    """Return a tile's number, with its deviation in small type."""
    mean, _, std = text.partition(" ± ")
    return escape(mean) + (std and f"<i> ± {escape(std)}</i>")


def _pairs(pairs: Mapping) -> str:
    escaped = [(escape(str(k)), escape(str(v))) for k, v in pairs.items()]
    return f"<dl>{''.join(f'<dt>{k}</dt><dd>{v}</dd>' for k, v in escaped)}</dl>"
