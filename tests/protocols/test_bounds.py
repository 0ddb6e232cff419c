"""Reading takes memory of 8 times a file's size and 256 MiB, and 10 s of work below 10 MB."""

import subprocess
import sys

import numpy as np
import pytest

from tests.end_to_end.runs import ROOT
from tests.limits import HANGS
from tests.protocols.attacks import ATTACKS


def outcome(path) -> str:
    """What a process within those limits says of a file, in one line."""
    command = [sys.executable, "-m", "tests.protocols.bounded", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    (line,) = done.stdout.splitlines()
    return line


@pytest.mark.parametrize("name", ATTACKS)
def test_what_grows_is_refused_in_one_line(name, tmp_path):
    line = outcome(ATTACKS[name](tmp_path))
    if name == "one long word among many":  # left out: words are no features
        assert line == "read"
    else:
        assert line.startswith("refused: ") and "allowed: " in line


def test_a_file_of_many_labels_is_described_in_blocks(tmp_path):
    draw = np.random.default_rng(0)
    text = draw.normal(size=(4000, 128)).astype("f4")
    np.savez(tmp_path / "file.npz", text=text, labels=draw.normal(size=(4000, 527)).astype("f4"))
    assert outcome(tmp_path / "file.npz") == "read"
