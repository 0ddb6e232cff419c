"""Reading takes memory of 8 times a file's size and 256 MiB, and 10 s of work below 10 MB."""

import numpy as np
import pytest

from tests.protocols.attacks import ATTACKS
from tests.protocols.reader import Reader


@pytest.fixture(scope="module")
def reader():
    yield (made := Reader())
    made.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_what_grows_is_refused_in_one_line(name, reader, tmp_path):
    line = reader.read(ATTACKS[name](tmp_path))
    # a list of words is no feature, and is left out
    assert line.startswith("refused: ") != (name == "one long word among many")


def test_a_file_of_many_labels_is_described_in_blocks(reader, tmp_path):
    draw = np.random.default_rng(0)
    text = draw.normal(size=(4000, 128)).astype("f4")
    np.savez(tmp_path / "file.npz", text=text, labels=draw.normal(size=(4000, 527)).astype("f4"))
    assert reader.read(tmp_path / "file.npz") == "read"
