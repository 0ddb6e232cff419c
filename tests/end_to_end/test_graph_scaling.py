"""The table of time and memory against conversation length: a run of the command."""

import pytest

from benchmarks import graph_scaling
from tests.end_to_end.benchmark import smoke


def test_an_exponent_is_the_slope_from_long_conversations_on():
    rows = [
        {"kind": kind, "utterances": n, "seconds": 3.0 * max(n, 64) ** 2}
        for kind in graph_scaling.HUES
        for n in graph_scaling.LENGTHS
    ]
    assert graph_scaling.exponents(rows, "seconds")["dense"] == pytest.approx(2)


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    result = smoke("graph_scaling", tmp_path)
    assert {r["kind"] for r in result["rows"]} == set(graph_scaling.HUES)
    for row in result["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high and row["bytes"] > 0
    held = {(r["kind"], r["utterances"]): r["bytes"] for r in result["rows"]}
    assert held["dense", 32] > held["spectral", 32] > held["none", 32]
