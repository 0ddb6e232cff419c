"""The benchmark of memory in its short form."""

import pytest

from benchmarks.memory import IN_MEMORY
from tests.end_to_end.benchmark import smoke


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    rows = smoke("memory", tmp_path)["rows"]
    sizes = [(r["train"], r["buffer"]) for r in rows]
    assert sizes == [(n, buffer) for n in (500, 2000) for buffer in (0, IN_MEMORY)]
    for row in rows:
        assert 0 < row["anonymous"] < row["resident"] and row["seconds"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"memory.json", "memory.md", "memory.png"}
