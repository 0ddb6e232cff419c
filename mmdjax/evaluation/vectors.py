"""Figures as inline SVG that follows the colours of the page and answers to the pointer.

Matplotlib writes the SVG and this module edits it. Artists that `figures.mark` has named become
groups with the attributes `data-of` (the owner) and `data-tip` (a text for each point).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from mmdjax.evaluation.figures import BLACK, INK, QUIET, RULE

SETTINGS = {"svg.fonttype": "none"}  # text stays text
# Colours that mean paper and ink; others are lightened on dark paper, see `dark_of`.
MEANINGS = {INK: "ink", BLACK: "ink", QUIET: "soft", RULE: "rule", "#b5b5b5": "faint"}
MEANINGS |= {"#ffffff": "paper", "#f2f5fa": "gap"}
REM_AN_INCH = 6.7
DARK = (0x17, 0x19, 0x1C)  # the dark page
CONTRAST = 4.0  # at least, of a colour on it
FAMILY = re.compile(r"font-family:[^;]*;? ?")
DIGITS = re.compile(r"(\.\d\d)\d+")
TURN = re.compile(r" ?rotate\(-0( [^)]*)?\)")  # by nothing
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
DROPPED = {"metadata", "style"}


class Vector(NamedTuple):
    """A figure for a page.

    Attributes:
      svg: an <svg> element without legends: the page has its own.
      legend: owner of marks -> their colour, for owners that the figure itself does not name.
    """

    svg: str
    legend: dict[str, str]


def inline(figure: Figure, name: str, label: str) -> Vector:
    """Return a figure for a page; its legends are removed.

    Args:
      name: of the figure, unique on the page. label: what it shows, for screen readers.
    """
    figure.legends.clear()
    text, settings = io.StringIO(), SETTINGS | {"svg.hashsalt": name}
    with matplotlib.rc_context(settings):
        figure.savefig(text, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue())
    _clean(root)
    used = {found for e in root.iter() for value in e.attrib.values()
            for found in REFERENCE.findall(value) + re.findall("^#(.+)", value)}  # fmt: skip
    for element in root.iter():
        _rewrite(element, name, used)
    for unwanted in ("version", "width", "height"):
        root.attrib.pop(unwanted, None)
    # A chart that is small on paper is small on the page, and never wider than the window.
    root.set("style", f"max-width: {figure.get_figwidth() * REM_AN_INCH:.1f}rem")
    root.set("role", "img")
    root.set("aria-label", label)
    return Vector(ElementTree.tostring(root, encoding="unicode"), _legend(root))


def _legend(root: ElementTree.Element) -> dict[str, str]:
    named, hues = set(), {}
    for group in root.iter("g"):
        owner = group.attrib.get("data-of")
        if owner is None:
            continue
        if group.find("text") is not None:
            named.add(owner)
        for element in group.iter():
            shown = re.search(r"(?:fill|stroke): (var\([^)]*\))", element.get("style", ""))
            if shown:
                hues.setdefault(owner, shown[1])
    return {owner: hue for owner, hue in hues.items() if owner not in named}


def colours(svg: str) -> set[str]:
    """Return the colours that a page with `inline` figures has to define."""
    return {f"#{found}" for found in re.findall(r"var\(--c([0-9a-f]{6})\)", svg)}


def dark_of(colour: str) -> str:
    """Return a colour mixed with white until it can be seen on the dark page."""
    mixed = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for share in range(0, 100, 5):
        lifted = [round(c + (255 - c) * share / 100) for c in mixed]
        if (_light(lifted) + 0.05) / (_light(DARK) + 0.05) >= CONTRAST:
            break
    return "#{:02x}{:02x}{:02x}".format(*lifted)


def _light(rgb: Sequence[float]) -> float:
    """Return the relative luminance of WCAG 2."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _clean(element: ElementTree.Element) -> None:
    """Remove namespaces, which a page does not need, and elements that are not drawn."""
    element.tag = element.tag.rpartition("}")[2]
    element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    # Text on one line; mathematics, such as powers of ten on an axis, is in <tspan>s inside <text>.
    if element.tag not in ("text", "tspan") or len(element):
        element.text = None
    for child in [*element]:
        _clean(child)
        child.tail = None
        if child.tag in DROPPED or (child.tag in ("defs", "g") and not len(child)):
            element.remove(child)


def _rewrite(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Make an element's ids unique on the page, and give it the page's colours and font, its owner
    and its texts."""
    attributes = element.attrib
    given = attributes.pop("id", "")
    if given in used:
        attributes["id"] = f"{name}-{given}"
    elif given.startswith("["):
        owner, *texts = json.loads(given)
        attributes["data-of"] = owner
        if texts:
            attributes["data-tip"] = json.dumps(texts, ensure_ascii=False)
    for key, value in list(attributes.items()):
        value = REFERENCE.sub(rf"url(#{name}-\1)", value)
        if key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        if key == "style":
            value = COLOUR.sub(_variable, FAMILY.sub("", value))
        elif key not in ("data-of", "data-tip"):
            value = TURN.sub("", DIGITS.sub(r"\1", value))
        attributes[key] = value


def _variable(found: re.Match) -> str:
    meaning = MEANINGS.get(found[0])
    return f"var(--{meaning})" if meaning else f"var(--c{found[0][1:]})"
