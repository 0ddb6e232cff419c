"""The benchmark of answers over HTTP, in its short form."""

import pytest

from benchmarks import serving
from tests.end_to_end.benchmark import smoke


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    rows = smoke("serving", tmp_path)["rows"]
    cases = [(batch, clients) for batch in serving.BATCHES for clients in serving.CLIENTS]
    assert [(r["batch"], r["clients"]) for r in rows] == cases
    for row in rows:
        assert 0 < row["p50"] <= row["p95"] <= row["p99"] and row["per_second"] > 0
        assert 1 <= row["utterances_per_call"] <= row["batch"]
    assert rows[-1]["utterances_per_call"] > 1  # 64 clients share calls
