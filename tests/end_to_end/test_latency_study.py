"""The study of latency by sampler and evaluations: a run of the command."""

import pytest

from benchmarks import pareto
from mmdjax.methods.latent.students import STUDENTS
from tests.end_to_end.benchmark import smoke

SMALL = {
    "score.width": 16,
    "score.mlp": 16,
    "score.time_features": 8,
    "fusion.heads": 2,
    "data.train": 96,
    "data.valid": 32,
    "data.test": 48,
    "classifier_training.epochs": 1,
    "score_training.epochs": 1,
    "student_training.epochs": 1,
}


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    changes = [f"--config.{name}={value}" for name, value in SMALL.items()]
    result = smoke("nfe_latency", tmp_path, "--config=configs/synthetic.py", *changes)
    solvers = {(sampler, nfe) for sampler in ("ddim", "dpmpp_2m") for nfe in (2, 4)}
    students = {(name, student.NEEDS[0]) for name, student in STUDENTS.items()}
    assert {(r["sampler"], r["nfe"]) for r in result["rows"]} == solvers | students
    assert set(pareto.STUDENTS) == set(STUDENTS)
    assert result["recipes"]["fast-1"]["sampler"] == "energy"
    assert {r["batch"] for r in result["latency"]} == {1, 32, 128}
    assert result["recipes"]["fast-4"]["seconds_32"] > 0 and result["machine"]["jax"]
