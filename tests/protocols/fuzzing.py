"""Malformed and hostile files: one line that names the file, or what is in it; nothing else.

Some 400 files in the default run, always the same ones; `pytest -m fuzz` takes 2,000, and with
MMDJAX_FUZZ=10 ten times as many and other ones each time.
"""

import contextlib
import json
import os
import signal
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mmdjax.data import entries
from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import open_contents, write_copy
from mmdjax.data.formats.inspect_file import describe
from mmdjax.data.sources import from_file
from mmdjax.errors import UserError
from tests.protocols.layout_files import content

TIMES = int(os.environ.get("MMDJAX_FUZZ", "1"))
SECONDS = 300  # for one file, so that nothing hangs; the slowest takes a fraction of one


SIZES = pytest.mark.parametrize(
    "share", [pytest.param(0.2, id="sample"), pytest.param(TIMES, id="all", marks=pytest.mark.fuzz)]
)


def fuzz(examples: float, **options):
    """A decorator: so many examples."""
    return settings(
        max_examples=round(examples),
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        **options,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def no_longer_than(seconds: float):
    def stop(*_):
        raise AssertionError(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def survives(path: Path, layout: str = "") -> str:
    """Opens, reads, copies and describes; '' where that works, or the message. What can be read is
    taken for training, too, or refused."""
    before = content(path)
    keys: list[str] = []

    def use():
        with open_contents(path, layout) as opened:
            for part in opened.splits.values():
                check(part)
            if layout == "":
                copy(opened)
            keys.extend(next(iter(opened.splits.values())).features)
        json.dumps(describe(path, layout))

    def train():
        made = from_file.read(str(path), {key: f"m{i}" for i, key in enumerate(keys)}, layout)
        for batch in made.values():
            assert len(batch) and not np.isinf(batch.label).any()  # NaN is no label
            assert batch.present.any(1).all()
            for m, x in batch.features.items():
                assert not np.isinf(x).any() and not x[~batch.valid[m]].any()
                assert not np.isnan(x).all(2)[batch.valid[m]].any()  # some number of each frame
        for batch in entries.filled(made).values():
            assert all(np.isfinite(x).all() for x in batch.features.values())

    message = told(path, use)
    if not message:
        told(path, train)
    assert content(path) == before
    return message


def told(path: Path, run) -> str:
    with no_longer_than(SECONDS), np.errstate(all="ignore"):
        try:
            run()
        except UserError as error:
            message = str(error)
            assert "\n" not in message and message.isprintable()
            assert lazy.one_line(path.name) in message and "allowed: " in message
            return message
    return ""


def copy(opened) -> None:
    """What could be read can be written, whole or not at all, and is read again."""
    same = {
        (split, key): rows
        for split, part in opened.splits.items()
        for key, rows in part.features.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / opened.path.name
        try:
            write_copy(opened, output, same, {})
        except UserError:
            assert not os.listdir(folder)
            raise
        assert os.listdir(folder) == [opened.path.name]
        with open_contents(output) as copied:
            assert list(copied.splits) == list(opened.splits)
            for split, part in opened.splits.items():
                assert copied.splits[split].id.tolist() == part.id.tolist()


def check(part) -> None:
    """What a part promises, whatever the file was."""
    assert part.id.shape == (len(part),) and part.id.dtype.kind == "U" and part.features
    assert part.label is None or len(part.label) == len(part)
    if part.label is not None:
        assert part.label.ndim in (1, 2) and part.label.dtype in (np.float32, np.int32)
    assert "conversation" in part.talk or not part.talk
    assert all(column.shape == (len(part),) for column in part.talk.values())
    for key, rows in part.features.items():
        assert len(rows) == len(part) and len(rows.shape) == 3 and rows.dtype.kind in "fiu"
        seen, frames = part.observed.get(key), part.frames.get(key)
        assert frames is None or (frames.shape == (len(part),) and frames.min(initial=0) >= 0)
        assert seen is None or (seen.dtype == bool and len(seen) == len(part))
        for start, stop in lazy.blocks(rows):
            block = rows[start:stop]
            assert len(block) == stop - start
            for one in block:
                assert one.shape[1] == rows.shape[2] and one.dtype == rows.dtype


def npy(shape, kind="<f4", raw: bytes | None = None, header: str = "") -> bytes:
    header = header or f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = header.encode("latin1") + b"\n"
    content = bytes(4 * int(np.prod(shape))) if raw is None else raw
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def place(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    path = folder / name
    for inside, raw in files.items():
        (path / inside).parent.mkdir(parents=True, exist_ok=True)
        (path / inside).write_bytes(raw)
    return path
