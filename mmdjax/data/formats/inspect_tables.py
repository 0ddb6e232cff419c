"""What `inspect_file.describe` found, printed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmdjax.data.formats.lazy import one_line


def show(found: Mapping, console: Console) -> None:
    """Prints what `describe` returned."""

    def line(text: str = "") -> None:
        console.print(text, markup=False, highlight=False)

    line(f"{one_line(found['path'], 4096)}: layout {found['layout']}")
    table = Table("split", "key", "shape", "dtype", "frames", "gaps")
    for split, about in found["splits"].items():
        for key, one in about["keys"].items():
            shape = " x ".join("?" if n is None else str(n) for n in one["shape"])
            least, middle, most = one["frames"]
            frames = f"{least} / {middle} / {most}"
            cells = (
                one_line(split, 40),
                one_line(key, 60),
                shape,
                one["dtype"],
                frames,
                _gaps(one),
            )
            table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    line("frames: least / median / most that exist in an utterance")
    for split, about in found["splits"].items():
        for number, one in enumerate(about["label"] or [None]):
            which = f" {number}" if len(about["label"]) > 1 else ""
            line(f"{one_line(split, 40)}: label{which}: {_spread(one)}")
    for split, about in found["splits"].items():
        if about["conversations"]:
            count, *sizes = about["conversations"]
            spread = " / ".join(map(str, sizes))
            line(f"{one_line(split, 40)}: {count} conversations of {spread} utterances")
    for text in found["notes"]:
        line(f"note: {one_line(text)}")
    for text in warnings(found):
        line(f"look at: {text}")
    source, pairs = one_line(found["source"], 4096), one_line(found["suggestion"], 2000)
    line(f"to train on it: {source} {pairs}" if source else f"no labels to train on; {pairs}")


def _gaps(one: Mapping) -> str:
    gaps = []
    if one["nan_frames"]:
        gaps.append(f"{one['nan_frames']} frames with NaN ({one['nan_share']:.1%} of entries)")
    if one["zero_rows"]:
        gaps.append(f"{one['zero_rows']} utterances of zeros")
    if one["missing_rows"]:
        gaps.append(f"{one['missing_rows']} utterances without")
    return ", ".join(gaps) or "none"


def _spread(one: Mapping | None) -> str:
    if one is None:
        return "none"
    share = f"{one['labelled'] / max(one['rows'], 1):.0%} of {one['rows']} rows"
    if "counts" not in one:
        return share
    total = max(one["labelled"], 1)
    if "values" in one:
        parts = zip((f"{value:g}" for value in one["values"]), one["counts"], strict=True)
    else:
        edges = one["edges"]
        parts = zip(
            (f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)), one["counts"], strict=True
        )
    shares = ", ".join(f"{name}: {count / total:.0%}" for name, count in parts)
    return f"{share}, {one['min']:g} to {one['max']:g} ({shares})"


def warnings(found: Mapping) -> list[str]:
    """What deserves a look before training, a line each."""
    lines = []
    for one in found["shared_ids"]:
        a, b = (one_line(name, 40) for name in one["splits"])
        example = one_line(one["examples"][0], 60)
        lines.append(f"{one['count']} ids stand in both {a} and {b}, such as {example}: leakage")
    for split, about in found["splits"].items():
        if about["repeated_ids"]:
            lines.append(f"{one_line(split, 40)}: {about['repeated_ids']} ids stand there twice")
    said = {
        "constant": "constant",
        "infinite": "with infinite entries",
        "scale": "with more than 1000 times the others' deviation",
        "identical": "identical to another column",
        "label": "that give the label away (correlation above 0.99)",
    }
    for key, what in found["columns"].items():
        for kind, columns in what.items():
            numbers = [str(c[0] if isinstance(c, list) else c) for c in columns]
            shown = ", ".join(numbers[:8]) + (", ..." if len(numbers) > 8 else "")
            lines.append(f"{one_line(key, 60)}: {len(numbers)} columns {said[kind]}: {shown}")
    return lines
