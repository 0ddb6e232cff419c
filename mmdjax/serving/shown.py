"""How an imputer shows itself: one line, and a table in notebooks."""

from __future__ import annotations

import html as escaped
from collections.abc import Iterable
from typing import TYPE_CHECKING

import mmdjax

if TYPE_CHECKING:
    from mmdjax.serving.imputer import Imputer

STYLE = "text-align:left;padding:.15em 1em .15em 0"


def text(imputer: Imputer) -> str:
    """Return one line: the method, whether it is trained, modalities and labels."""
    if imputer.parameters is None:
        return f"Imputer(method={imputer.config.method!r}, not trained)"
    sizes = ", ".join(f"{m.name} ({m.frames}, {m.channels})" for m in imputer.modalities)
    return f"Imputer(method={imputer.config.method!r}, {sizes}; {imputer.task.summary})"


def html(imputer: Imputer) -> str:
    """Return a table of modalities and their sizes, and what the model was trained on."""
    if imputer.parameters is None:
        return f"<code>{escaped.escape(text(imputer))}</code>"
    made, draws = imputer.signature, imputer.signature.get("draws", 1)
    head = ("modality", "key in files", "frames", "channels")
    rows = [(m.name, m.key, m.frames, m.channels) for m in imputer.modalities]
    facts = (
        f"method {imputer.config.method}, {imputer.task.summary}",
        f"predictions average {draws} draw{'s' if draws > 1 else ''}",
        f"trained: {made['title']}, seed {made['seed']}, mmdjax {made['mmdjax']}",
    )
    cells = [_row("th", head), *(_row("td", row) for row in rows)]
    lines = "".join(f"<div>{escaped.escape(fact)}</div>" for fact in facts)
    title = f"<b>mmdjax.Imputer</b> <small>{mmdjax.__version__}</small>"
    return f"<div>{title}{lines}<table>{''.join(cells)}</table></div>"


def _row(tag: str, values: Iterable) -> str:
    cells = (f'<{tag} style="{STYLE}">{escaped.escape(str(v))}</{tag}>' for v in values)
    return f"<tr>{''.join(cells)}</tr>"
