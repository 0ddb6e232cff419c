"""What `inspect_file.describe` found, printed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmdjax.data.formats.lazy import one_line

_KINDS = {
    "constant": "constant",
    "infinite": "with infinite entries",
    "scale": "with more than 1000 times the others' deviation",
    "identical": "identical to another column",
    "label": "that give the label away (correlation above 0.99)",
}


def show(description: Mapping, console: Console) -> None:
    """Print what `describe` returned."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    line(f"{one_line(description['path'], 4096)}: layout {description['layout']}")
    splits = {one_line(split, 40): content for split, content in description["splits"].items()}
    table = Table("split", "key", "shape", "dtype", "frames", "gaps")
    for split, content in splits.items():
        for key, rows in content["keys"].items():
            shape = " x ".join("?" if n is None else str(n) for n in rows["shape"])
            frames = " / ".join(map(str, rows["frames"]))
            cells = (split, one_line(key, 60), shape, rows["dtype"], frames, _gaps(rows))
            table.add_row(*map(Text, cells))
    console.print(table)
    line("frames: least / median / most that exist in an utterance")
    for split, content in splits.items():
        for number, label in enumerate(content["label"] or [None]):
            which = f" {number}" if len(content["label"]) > 1 else ""
            line(f"{split}: label{which}: {_spread(label)}")
    if description["task"]:
        line(f"task: {one_line(description['task'], 2000)}")
    if description["classes"]:
        names = ", ".join(f"{n} {one_line(x, 40)}" for n, x in enumerate(description["classes"]))
        line(f"classes: {names}")
    for split, content in splits.items():
        if content["conversations"]:
            count, *sizes = content["conversations"]
            line(f"{split}: {count} conversations of {' / '.join(map(str, sizes))} utterances")
    for text in description["notes"]:
        line(f"note: {one_line(text)}")
    for text in warnings(description):
        line(f"look at: {text}")
    pairs = one_line(description["suggestion"], 2000)
    if not description["command"]:
        line(f"no labels to train on; {pairs}")
        return
    line("to train on it:")
    # Not wrapped, so that it can be pasted.
    console.print(
        one_line(description["command"], 8192), markup=False, highlight=False, soft_wrap=True
    )


def _gaps(rows: Mapping) -> str:
    share = f"{rows['nan_share']:.1%} of entries"
    gaps = {
        f"{rows['nan_frames']} frames with NaN ({share})": rows["nan_frames"],
        f"{rows['zero_rows']} utterances of zeros": rows["zero_rows"],
        f"{rows['missing_rows']} utterances without": rows["missing_rows"],
    }
    return ", ".join(text for text, count in gaps.items() if count) or "none"


def _spread(label: Mapping | None) -> str:
    if label is None:
        return "none"
    share = f"{label['labelled'] / max(label['rows'], 1):.0%} of {label['rows']} rows"
    if "counts" not in label:
        return share
    if "values" in label:
        names = [f"{value:g}" for value in label["values"]]
    else:
        names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(label["edges"])]
    counts = zip(names, label["counts"], strict=True)
    shares = ", ".join(f"{name}: {count / label['labelled']:.0%}" for name, count in counts)
    return f"{share}, {label['min']:g} to {label['max']:g} ({shares})"


def warnings(description: Mapping) -> list[str]:
    """Return what deserves a look before training, a line each."""
    lines = []
    for shared in description["shared_ids"]:
        first, second = (one_line(name, 40) for name in shared["splits"])
        lines.append(
            f"{shared['count']} ids stand in both {first} and {second}, such as "
            f"{one_line(shared['examples'][0], 60)}: leakage"
        )
    for split, content in description["splits"].items():
        if content["repeated_ids"]:
            lines.append(f"{one_line(split, 40)}: {content['repeated_ids']} ids stand there twice")
    for key, kinds in description["columns"].items():
        for kind, columns in kinds.items():
            numbers = [str(c[0] if isinstance(c, list) else c) for c in columns]
            listed = ", ".join(numbers[:8]) + (", ..." if len(numbers) > 8 else "")
            lines.append(f"{one_line(key, 60)}: {len(numbers)} columns {_KINDS[kind]}: {listed}")
    return lines
