"""What is in a user's file, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mmdjax import tasks
from mmdjax.data.formats import lazy
from mmdjax.data.formats.column_statistics import Columns
from mmdjax.data.formats.contents import Contents, Part, open_contents
from mmdjax.data.formats.inspect_tables import show
from mmdjax.data.formats.values import by_rows, last_frames, looks_like_classes
from mmdjax.errors import UserError

_BLOCK = 2**22  # bytes: statistics take some ten times that
_PATIENCE = 2.0  # seconds before there is a bar
_BINS = 7
# modality -> what the field's names of its features have in them
_KNOWN = {
    "language": r"text|lang|bert|glove|word|lexic|transcript|^l/",
    "acoustic": r"audio|acoust|covarep|opensmile|compare|wav|speech|^a/",
    "vision": r"vision|video|visual|facet|openface|denseface|face|^v/",
}


def describe(
    path: str | os.PathLike, layout: str = "", advance: Callable[[int, int], None] | None = None
) -> dict:
    """Read all of a file once, in blocks.

    Args:
      layout: as for `open_contents`.
      advance: called with the bytes read so far, and all of them.

    Returns:
      path, layout, notes; splits: name -> {rows, keys, label, repeated_ids, conversations: their
      number, least, median and most utterances, [] where there are none}, where a key has shape,
      dtype, frames (min, median, max), nan_frames, nan_share, zero_rows and missing_rows, and a
      label has labelled, and min, max, and counts by value or by bin; classes: their names, where
      labels are words; columns: key -> what is suspicious -> columns; shared_ids: of each two
      splits that share some; command: what trains a first model on the file, '' without labels;
      suggestion: the flag that names the modalities.

    Raises:
      UserError: the file cannot be read.
    """
    with open_contents(path, layout) as contents:
        total = sum(x.nbytes for part in contents.splits.values() for x in part.features.values())
        done = 0

        def read(rows: lazy.Rows, start: int, stop: int) -> np.ndarray | list[np.ndarray]:
            nonlocal done
            block = rows[start:stop]
            done += sum(x.nbytes for x in block) if isinstance(block, list) else block.nbytes
            if advance:
                advance(done, max(total, 1))
            return block

        columns: dict[str, Columns] = {}
        splits = {}
        for split, part in contents.splits.items():
            counts = np.unique(part.talk.get("conversation", ()), return_counts=True)[1]
            splits[split] = {
                "rows": len(part),
                "keys": {key: _key(part, key, columns, read) for key in part.features},
                "label": _label(part.label),
                "repeated_ids": len(part) - len(set(part.id.tolist())),
                "conversations": [len(counts), *_spread(counts)] if part.talk else [],
            }
        suspicious = {key: statistics.suspicious() for key, statistics in columns.items()}
        return {
            "path": str(contents.path),
            "layout": contents.layout,
            "notes": list(contents.notes),
            "splits": splits,
            "classes": list(next(iter(contents.splits.values())).classes),
            "columns": {key: kinds for key, kinds in suspicious.items() if kinds},
            "shared_ids": _shared(contents),
            "task": _task(contents),
            "command": _command(contents, layout),
            "suggestion": suggestion(contents),
        }


def _key(
    part: Part,
    key: str,
    columns: dict[str, Columns],
    read: Callable[[lazy.Rows, int, int], np.ndarray | list[np.ndarray]],
) -> dict:
    rows, lengths_in_file = part.features[key], part.frames.get(key)
    label = np.zeros((len(part), 0)) if part.label is None else by_rows(part.label)
    before = columns.get(key)
    if before is None or before.shape != (label.shape[1], rows.shape[2]):
        columns[key] = Columns(rows.shape[2], label.shape[1])
    statistics = columns[key]
    seen = statistics.frames, statistics.nan_frames, statistics.nans
    frames, zero = np.zeros(len(part), np.int64), 0
    for start, stop in lazy.blocks(rows, _BLOCK):
        block = read(rows, start, stop)
        if isinstance(block, list):
            lengths, flat = np.array([len(x) for x in block]), np.concatenate(block)
        else:
            lengths = np.maximum(last_frames(block), 1)
            lengths = lengths if lengths_in_file is None else lengths_in_file[start:stop]
            flat = block[np.arange(block.shape[1]) < lengths[:, None]]
        frames[start:stop] = lengths
        statistics.update(flat)
        means, silent = _rows(flat, lengths)
        zero += int(silent.sum())
        statistics.update_labels(means, label[start:stop])
    missing = frames == 0
    if key in part.observed:
        missing = missing | ~part.observed[key].reshape(len(part), -1).any(1)
    entries = (statistics.frames - seen[0]) * rows.shape[2]
    return {
        "shape": list(rows.shape),
        "dtype": str(rows.dtype),
        "frames": _spread(frames[frames > 0]),
        "nan_frames": statistics.nan_frames - seen[1],
        "nan_share": (statistics.nans - seen[2]) / max(entries, 1),
        "zero_rows": zero,
        "missing_rows": int(missing.sum()),
    }


def _spread(counts: np.ndarray) -> list[int]:
    """Return the least, the median and the most of some counts."""
    return [int(f(counts)) for f in (np.min, np.median, np.max)] if len(counts) else [0, 0, 0]


def _rows(flat: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means (N, C) of rows of frames (F, C), NaN of no frames, and which are all zero."""
    means = np.full((len(lengths), flat.shape[1]), np.nan)
    silent = np.zeros(len(lengths), bool)
    there = np.flatnonzero(lengths > 0)
    if len(there):
        starts = np.cumsum(lengths)[there] - lengths[there]
        with np.errstate(invalid="ignore", over="ignore"):
            sums = np.add.reduceat(flat.astype(np.float64), starts, axis=0)
            means[there] = sums / lengths[there, None]
        silent[there] = ~np.logical_or.reduceat((flat != 0).any(1), starts)
    return means, silent


def _label(label: np.ndarray | None) -> list[dict]:
    """Return for each number of a label how many rows have it, and how it is spread."""
    tables = []
    for y in () if label is None else by_rows(label).T[:16].astype(np.float64):
        known = y[np.isfinite(y)]
        table: dict = {"labelled": len(known), "rows": len(y)}
        if len(known):
            table |= {"min": float(known.min()), "max": float(known.max())}
            values, counts = np.unique(known, return_counts=True)
            if len(values) > 12 and np.abs(values).max() <= 3:  # sentiment, in its seven classes
                table["values"] = [float(x) for x in range(-3, 4)]
                counts = np.histogram(known, np.arange(-3.5, 4))[0]
            elif len(values) > 12:
                counts, edges = np.histogram(known, _BINS)
                table["edges"] = [float(f"{edge:.4g}") for edge in edges]
            else:
                table["values"] = [float(f"{value:.6g}") for value in values]
            table["counts"] = counts.tolist()
        tables.append(table)
    return tables


def _task(contents: Contents) -> str:
    """Return the task that the labels tell, and the flag for another; '' without labels."""
    labels = [part.label for part in contents.splits.values()]
    if not labels or any(label is None or not len(label) for label in labels):
        return ""
    several = {by_rows(label).shape[1] for label in labels}
    if several != {1}:
        return (
            f"labels of {max(several)} numbers, of which the first counts; for others "
            "--config.task.columns, for all --config.task.kind=multi_label, or =regression with "
            "--config.task.names"
        )
    classes = next(iter(contents.splits.values())).classes
    label = np.concatenate([by_rows(label)[:, 0] for label in labels])
    try:
        task = tasks.make("classification" if classes else "", names=classes, label=label)
    except UserError as error:
        return f"labels that tell no task: {error}"
    other = "regression" if task.kind == "classification" else "classification"
    can = not classes and (other == "regression" or looks_like_classes(label[~np.isnan(label)]))
    return task.summary + (f"; for another --config.task.kind={other}" if can else "")


def _shared(contents: Contents) -> list[dict]:
    """Return ids that stand in two splits: what is trained on is tested on."""
    ids = {split: set(part.id.tolist()) for split, part in contents.splits.items()}
    pairs = {pair: sorted(ids[pair[0]] & ids[pair[1]]) for pair in itertools.combinations(ids, 2)}
    return [
        {"splits": list(pair), "count": len(common), "examples": common[:3]}
        for pair, common in pairs.items()
        if common
    ]


def _command(contents: Contents, layout: str) -> str:
    """Return the command that trains a first model on the file; '' where there are no labels."""
    labels = [part.label for part in contents.splits.values()]
    if any(label is None for label in labels):
        return ""
    of_talk = contents.layout == "gcnet"
    named = any(part.classes for part in contents.splits.values())
    if of_talk:
        named = looks_like_classes(np.concatenate([by_rows(label)[:, 0] for label in labels]))
    name = re.sub(r"\W+", "_", contents.path.stem).strip("_") or "mine"
    words = [f"mmdjax --config={'gsdnet_mosi' if of_talk else 'auto'} --workdir=runs/{name}"]
    words += [f"--config.data.path={shlex.quote(str(contents.path))}", suggestion(contents)]
    words += [f"--config.data.layout={shlex.quote(layout)}"] if layout and not of_talk else []
    words += ["--config.task.kind=classification"] if named else []
    return " ".join(words)


def suggestion(contents: Contents) -> str:
    """Return the flag that names a file's modalities: one key for each that the field knows, and
    others under their own names; ranges of channels where there is one key alone."""
    features = next(iter(contents.splits.values())).features
    chosen: dict[str, str] = {}
    for key in features:
        if ":" in key or key.endswith("_ori"):  # PyPOTS' answers
            continue
        fits = (name for name, words in _KNOWN.items() if re.search(words, key.lower()))
        name = next(fits, re.sub(r"\W+", "_", key).strip("_") or "modality")
        chosen.setdefault(name, key)
    if len(chosen) == 1:
        ((name, key),) = chosen.items()
        width = features[key].shape[2]
        if half := width // 2:
            chosen = {f"{name}_1": f"{key}[0:{half}]", f"{name}_2": f"{key}[{half}:{width}]"}
    pairs = ",".join(repr(f"{key}:{name}") for name, key in chosen.items())
    comma = "," if len(chosen) == 1 else ""
    flag = "--config.data.modalities="
    safe = re.fullmatch(r"[\w\[\]:./,' -]*", pairs)
    return f'{flag}"({pairs}{comma})"' if safe else shlex.quote(f"{flag}({pairs}{comma})")


def inspect(path: str | os.PathLike, console: Console, layout: str = "") -> dict:
    """Print what `describe` finds, and return it; a bar shows where it takes seconds."""
    bar = Progress(
        TextColumn("reading"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("reading", total=None)
    started = time.monotonic()

    def advance(done: int, total: int) -> None:
        if time.monotonic() - started > _PATIENCE:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        description = describe(path, layout, advance)
    finally:
        bar.stop()
    show(description, console)
    return description
