"""Numbers that papers print, to stand beside ours. Percent; other features, other hardware.

`results.csv` and `efficiency.csv` hold them as printed. Sources: 'thesis' is I. Asprogerakas,
"Efficient Incomplete Multimodal-Diffused Emotion Recognition" (NTUA, 2025), tables 6.1 to 6.12;
'gsdnet' is "Graph Spectral Diffusion Network" for conversations, tables 1 to 3. Conditions name
language, acoustic and vision by l, a, v, or a missing rate; 'average of 6' leaves out the complete
pattern. Tables 6.1 and 6.3 average six patterns as well.
"""

from __future__ import annotations

import csv
from pathlib import Path

from mmdjax.errors import choice

FOLDER = Path(__file__).parent
METRICS = {"acc2": "acc2_nonzero", "f1": "f1_nonzero", "acc7": "acc7"}


def results(table: str, dataset: str) -> list[dict]:
    """Return rows {method, protocol, condition, and metrics by their names here, as fractions}.

    Args:
      table: source and number, such as 'thesis 6.1'.
      dataset: 'MOSI' or 'MOSEI'.

    Raises:
      UserError: no such table, or nothing on this dataset in it.
    """
    tables: dict[str, list[dict]] = {}
    for row in _read("results.csv"):
        tables.setdefault(f"{row['source']} {row['table']}", []).append(row)
    choice("published table", table, tuple(tables))
    choice("dataset", dataset, tuple(dict.fromkeys(row["dataset"] for row in tables[table])))
    return [
        {name: row[name] for name in ("method", "protocol", "condition")}
        | {ours: float(row[theirs]) / 100 for theirs, ours in METRICS.items()}
        for row in tables[table]
        if row["dataset"] == dataset
    ]


def efficiency() -> list[dict]:
    """Return thesis table 6.4: {source, table, network} as text, and its numbers."""
    text = ("source", "table", "network")
    return [
        {name: value if name in text else float(value) for name, value in row.items()}
        for row in _read("efficiency.csv")
    ]


def _read(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))
