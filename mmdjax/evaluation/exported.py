"""A report's tables as files for other programs: CSV, and LaTeX with the package booktabs."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmdjax.evaluation.tables import Best
from mmdjax.runtime.files import csv_cell, write_bytes

LONGEST_NAME = 60
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$",
    ">": "$>$", "≥": r"$\geq$", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "−": "$-$", "×": r"$\times$",
    "λ": r"$\lambda$", "→": r"$\rightarrow$", "≤": r"$\leq$", "Δ": r"$\Delta$",
}  # fmt: skip


def write_tables(folder: Path, tables: Iterable[tuple[str, Sequence[str], Sequence]]) -> None:
    """Write each table (caption, header, rows) as `NAME.csv` and `NAME.tex`, atomically.

    The name is the caption's, in lower case; a second table of one name has a number.
    """
    used: set[str] = set()
    for caption, header, rows in tables:
        name = re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")[:LONGEST_NAME] or "table"
        numbers = (f"{name}_{n}" for n in itertools.count(2))
        name = next(n for n in itertools.chain([name], numbers) if n not in used)
        used.add(name)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / f"{name}.csv", in_csv(header, rows).encode(errors="replace"))
        latex = in_latex(caption, header, rows)
        write_bytes(folder / f"{name}.tex", latex.encode(errors="replace"))


def in_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as CSV, which a spreadsheet shows and does not run."""
    text = io.StringIO()
    named = [[*map(csv_cell, header)], *([csv_cell(row[0]), *row[1:]] for row in rows)]
    csv.writer(text, lineterminator="\n").writerows(named)
    return text.getvalue()


def in_latex(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table environment; the best of a column is \textbf."""
    # Braces: a row that begins with [ or * would be an argument of the line break before it.
    lines = ["{}" + " & ".join(map(_cell, row)) + r" \\" for row in [header, *rows]]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_cell(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", lines[0], r"\midrule",
        *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _cell(text: str) -> str:
    plain = "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return rf"\textbf{{{plain}}}" if isinstance(text, Best) else plain
