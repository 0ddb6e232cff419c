"""How much of training is compiled steps: what the benchmark counts, and a run of it."""

import numpy as np
import pytest

from benchmarks import training_overhead
from tests.end_to_end.benchmark import smoke


def test_busy_is_what_runs_of_the_time_between_first_and_last():
    assert training_overhead.fraction(np.array([[1.0, 2.0], [2.5, 5.0]])) == pytest.approx(3.5 / 4)


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    rows = smoke("training_overhead", tmp_path)["rows"]
    assert {r["phase"] for r in rows} == {
        "classifier_on_complete_data",
        "score_networks",
        "stage_2_draws",
    }
    for row in rows:
        assert 0 < row["least"] <= row["busy"] <= row["most"] <= 1 and row["seconds"] > 0
