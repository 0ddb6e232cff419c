"""Valid files with flipped, cut, moved or foreign bytes are read or refused (see `fuzzing`)."""

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdjax.data.formats import child
from tests.protocols.fuzzing import SIZES, fuzz, place, survives
from tests.protocols.layout_files import LAYOUTS, content

MOST = 10**5  # bytes: larger mutants teach nothing


@pytest.fixture(autouse=True, scope="module")
def an_impatient_reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "PATIENCE", 5.0)
        yield


EDITS = ["flip", "set", "cut", "move", "insert", "drop", "number"]
NUMBERS = [0, 1, 127, 255, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
edit = st.tuples(
    st.sampled_from(EDITS),
    st.floats(0, 1, exclude_max=True),  # where
    st.booleans(),  # where something is: HDF5 is mostly empty room
    st.floats(0, 1, exclude_max=True),  # and where to
    st.sampled_from([1, 4, 8, 64]),
    st.sampled_from(NUMBERS),
)
edits = st.tuples(
    st.floats(0, 1, exclude_max=True),  # which file
    st.integers(0, 12),  # 0: without it
    st.lists(edit, min_size=1, max_size=6),
)


def mutant(files: dict[str, bytes], which: float, kept: int, edits) -> dict[str, bytes]:
    """Valid files of which one has flipped, cut, moved or foreign bytes, or is gone."""
    name = sorted(files)[int(which * len(files))]
    raw = bytearray(files[name])
    told = [i for i, byte in enumerate(raw) if byte]
    for kind, where, there, to, size, number in edits:
        if not raw:
            break
        at = told[int(where * len(told))] if there and told else int(where * len(raw))
        at, word = min(at, len(raw) - 1), struct.pack("<Q", number)[:size]
        if kind == "flip":
            raw[at] ^= 1 << number % 8
        elif kind == "set":
            raw[at] = word[0]
        elif kind == "cut" and to < 0.3:
            del raw[at:]
        elif kind == "move":
            target = int(to * len(raw))
            raw[target : target + size] = raw[at : at + size]
        elif kind == "insert":
            raw[at:at] = word
        elif kind == "drop":
            del raw[at : at + size]
        elif kind == "number":
            raw[at : at + size] = word
    rest = {other: files[other] for other in files if other != name}
    return rest if kept == 0 and len(files) > 1 else rest | {name: bytes(raw[:MOST])}


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, tuple[str, dict[str, bytes]]]:
    """layout -> name of the file or folder, and its files."""
    made = {}
    for name, write in LAYOUTS.items():
        path = write(tmp_path_factory.mktemp("valid"))
        made[name] = path.name, content(path)
    return made


@SIZES
@pytest.mark.parametrize("name", LAYOUTS)
def test_mutants_are_read_or_refused(name, valid, share):
    file, files = valid[name]

    @fuzz(100 * share)
    @given(edits=edits)
    def run(edits):
        with tempfile.TemporaryDirectory() as folder:
            survives(place(Path(folder), file, mutant(files, *edits)))

    run()
