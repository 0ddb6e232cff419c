"""What is in a user's file, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

import itertools
import re
import shlex
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mmdjax.data.formats import lazy
from mmdjax.data.formats.column_statistics import Columns
from mmdjax.data.formats.contents import Contents, Part, open_contents
from mmdjax.data.formats.inspect_tables import show
from mmdjax.data.formats.values import by_rows

_BLOCK = 2**22  # bytes: statistics take some ten times that
_PATIENCE = 2.0  # seconds before there is a bar
_BINS = 7
# modality -> what the field's names of its features have in them
_KNOWN = {
    "language": r"text|lang|bert|glove|word|lexic|transcript|^l/",
    "acoustic": r"audio|acoust|covarep|opensmile|compare|wav|speech|^a/",
    "vision": r"vision|video|visual|facet|openface|denseface|face|^v/",
}


def describe(path, layout: str = "", advance: Callable[[int, int], None] | None = None) -> dict:
    """Reads all of a file once, in blocks.

    Args:
      layout: as for `open_contents`.
      advance: called with the bytes read so far, and all of them.

    Returns:
      path, layout, notes; splits: name -> {rows, keys, label, repeated_ids, conversations: their
      number, least, median and most utterances, [] where there are none}, where a key has shape,
      dtype, frames (min, median, max), nan_frames, nan_share, zero_rows and missing_rows, and a
      label has labelled, and min, max, and counts by value or by bin; columns: key -> what is
      suspicious -> columns; shared_ids: of each two splits that share some; source: flags
      that name the data; suggestion: the flag that names the modalities.

    Raises:
      UserError: the file cannot be read.
    """
    with open_contents(path, layout) as contents:
        total = sum(x.nbytes for part in contents.splits.values() for x in part.features.values())
        done = 0

        def read(rows, start, stop):
            nonlocal done
            block = rows[start:stop]
            done += sum(x.nbytes for x in block) if isinstance(block, list) else block.nbytes
            if advance:
                advance(done, max(total, 1))
            return block

        columns: dict[str, Columns] = {}
        splits = {}
        for split, part in contents.splits.items():
            splits[split] = {
                "rows": len(part),
                "keys": {key: _key(part, key, columns, read) for key in part.features},
                "label": _label(part.label),
                "repeated_ids": len(part) - len(set(part.id.tolist())),
                "conversations": _conversations(part),
            }
        found = {key: one.suspicious() for key, one in columns.items()}
        return {
            "path": str(contents.path),
            "layout": contents.layout,
            "notes": list(contents.notes),
            "splits": splits,
            "columns": {key: what for key, what in found.items() if what},
            "shared_ids": _shared(contents),
            "source": _source(contents, layout),
            "suggestion": suggestion(contents),
        }


def _key(part: Part, key: str, columns: dict[str, Columns], read) -> dict:
    rows = part.features[key]
    label = None if part.label is None else by_rows(part.label)
    width = 0 if label is None else label.shape[1]
    known = columns.get(key)
    if known is None or len(known.count) != rows.shape[2] or known._joint.shape[1] != width:
        known = columns[key] = Columns(rows.shape[2], width)
    before = known.frames, known.nan_frames, known.nans
    given, seen = part.frames.get(key), part.observed.get(key)
    frames = np.zeros(len(part), np.int64)
    zero = 0
    for start, stop in lazy.blocks(rows, _BLOCK):
        block = read(rows, start, stop)
        lengths = None if given is None else given[start:stop]
        if not isinstance(block, list):
            lengths = _lengths(block) if lengths is None else lengths
            exists = np.arange(block.shape[1]) < lengths[:, None]
            flat = block[exists]
        else:
            lengths = np.array([len(x) for x in block])
            flat = np.concatenate(block)
        frames[start:stop] = lengths
        known.update(flat)
        means, silent = _rows(flat, lengths)
        zero += int(silent.sum())
        if label is not None:
            known.update_labels(means, label[start:stop])
    there = frames[frames > 0]
    existing = known.frames - before[0]
    missing = frames == 0
    if seen is not None:
        missing = missing | ~(seen if seen.ndim == 1 else seen.any(1))
    return {
        "shape": list(rows.shape),
        "dtype": str(rows.dtype),
        "frames": [int(f(there)) for f in (np.min, np.median, np.max)] if len(there) else [0, 0, 0],
        "nan_frames": known.nan_frames - before[1],
        "nan_share": (known.nans - before[2]) / max(existing * rows.shape[2], 1),
        "zero_rows": zero,
        "missing_rows": int(missing.sum()),
    }


def _conversations(part: Part) -> list[int]:
    """How many, and their least, median and most utterances; [] where there are none."""
    if not part.talk:
        return []
    counts = np.unique(part.talk["conversation"], return_counts=True)[1]
    return [len(counts), *(int(f(counts)) for f in (np.min, np.median, np.max))]


def _lengths(block: np.ndarray) -> np.ndarray:
    """(N,) frames up to the last that is not zero; at least 1."""
    real = (block != 0).any(2)
    last = block.shape[1] - real[:, ::-1].argmax(1)
    return np.where(real.any(1), last, 1)


def _rows(flat: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of frames (F, C) in rows of such lengths: the mean (N, C), NaN of none, and all zero (N,)."""
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
    """For each number of a label: how many rows have it, and how it is spread."""
    made = []
    for y in () if label is None else by_rows(label).T[:16].astype(np.float64):
        y_known = y[np.isfinite(y)]
        about: dict = {"labelled": len(y_known), "rows": len(y)}
        if len(y_known):
            about |= {"min": float(y_known.min()), "max": float(y_known.max())}
            values, counts = np.unique(y_known, return_counts=True)
            if len(values) > 12 and np.abs(values).max() <= 3:  # sentiment, in its seven classes
                about["values"] = [float(x) for x in range(-3, 4)]
                counts = np.histogram(y_known, np.arange(-3.5, 4))[0]
            elif len(values) > 12:
                counts, edges = np.histogram(y_known, _BINS)
                about["edges"] = [float(f"{edge:.4g}") for edge in edges]
            else:
                about["values"] = [float(f"{value:.6g}") for value in values]
            about["counts"] = counts.tolist()
        made.append(about)
    return made


def _shared(contents: Contents) -> list[dict]:
    """Ids that stand in two splits: what is trained on is tested on."""
    ids = {split: set(part.id.tolist()) for split, part in contents.splits.items()}
    made = []
    for one, other in itertools.combinations(ids, 2):
        common = sorted(ids[one] & ids[other])
        if common:
            made.append({"splits": [one, other], "count": len(common), "examples": common[:3]})
    return made


def _source(contents: Contents, layout: str) -> str:
    """The flags with which a run reads the file; '' where it has no labels to train on."""
    labels = [part.label for part in contents.splits.values()]
    if any(label is None for label in labels):
        return ""
    path = f"--config.data.path={shlex.quote(str(contents.path))}"
    if contents.layout != "gcnet":
        flags = f"--config.data.name=file {path}"
        return flags + (f" --config.data.layout={shlex.quote(layout)}" if layout else "")
    flags = f"--config.method=gsdnet --config.data.name=gcnet {path}"
    every = np.concatenate([by_rows(label)[:, 0] for label in labels])
    whole = np.isfinite(every).all() and (every >= 0).all() and (every == every.round()).all()
    return flags + (" --config.task.kind=classification" if whole else "")


def suggestion(contents: Contents) -> str:
    """The flag that names a file's modalities: one key for each that the field knows, and others
    under their own names; ranges of channels where there is one key alone."""
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
        half = width // 2
        if half:
            first, second = f"{key}[0:{half}]", f"{key}[{half}:{width}]"
            chosen = {f"{name}_1": first, f"{name}_2": second}
    pairs = ",".join(repr(f"{key}:{name}") for name, key in chosen.items())
    comma = "," if len(chosen) == 1 else ""
    flag = "--config.data.modalities="
    safe = re.fullmatch(r"[\w\[\]:./,' -]*", pairs)
    return f'{flag}"({pairs}{comma})"' if safe else shlex.quote(f"{flag}({pairs}{comma})")


def inspect(path, console: Console, layout: str = "") -> dict:
    """Prints what `describe` finds, and returns it; a bar shows where it takes seconds."""
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
        found = describe(path, layout, advance)
    finally:
        bar.stop()
    show(found, console)
    return found
