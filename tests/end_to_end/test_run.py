"""A whole run on a small synthetic set: outputs, and evaluation again."""

import json

import pytest

from mmdjax.errors import UserError
from mmdjax.runtime import sums
from mmdjax.workdir import claim
from tests.end_to_end.runs import finish, numbers, start

SMALL = """
from configs import synthetic

def get_config():
    config = synthetic.get_config()
    config.title = "small"
    config.seeds = (0, 1)
    config.save_seconds = 0.0
    config.data.update(train=96, valid=32, test=48)
    config.score.update(width=16, mlp=16, time_features=8)
    config.diffusion.nfe = 3
    config.evaluation.draws = 2
    config.evaluation.batch = 64
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 16
        phase.epochs = 3
    return config
"""


@pytest.fixture(scope="module")
def small_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def uninterrupted(small_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, finish(start(small_config, workdir))


def test_a_run_leaves_everything_it_promises(uninterrupted):
    workdir, output = uninterrupted
    assert "diffusion, K = 2" in output and "Bayes optimum" in output
    for name in ("config.json", "results.json", "report.md", "report.html"):
        assert (workdir / name).stat().st_size > 0
    assert list((workdir / "tensorboard").glob("events*"))
    assert len(list((workdir / "figures").glob("*.png"))) >= 3
    assert not [p for p in workdir.rglob("*") if "tmp" in p.name]
    rows = numbers(workdir)
    systems = {key[0] for key in rows if key[1] == "fixed"}
    assert systems == {
        "diffusion, K = 2",
        "diffusion, K = 1",
        "diffusion, complete, K = 2",
        "zero",
        "mean",
        "zero (trained)",
        "mean (trained)",
        "linear probe",
        "Bayes optimum",
    }
    # Rate 0 hides nothing, so it is the complete pattern; both protocols share their draws.
    for system in systems:
        for seed in (0, 1):
            whole = rows[system, "fixed", "l+a+v", seed, "mae"]
            assert rows[system, "random", "0.0", seed, "mae"] == whole
            best = rows["Bayes optimum", "fixed", "l", seed, "mae"]
            assert best <= rows[system, "fixed", "l", seed, "mae"] + 0.1
    assert rows["diffusion, K = 2", "cost", "l", 0, "nfe"] == 3
    assert abs(rows["protocol", "random", "0.5", 0, "missing_rate"] - 0.5) <= 1 / 48


def test_what_systems_share_is_trained_once_and_the_model_is_written(uninterrupted):
    """Nine systems, three of which need nothing but the classifier of complete data."""
    workdir, _ = uninterrupted
    made = sorted(path.name.partition("-")[0] for path in (workdir / "checkpoints").iterdir())
    assert made == ["classifier", "completions", "draws", "mean", "score", "zero"]
    seeds = {path.name for path in (workdir / "checkpoints").glob("*/*")}
    assert seeds == {"seed_0", "seed_1"}
    assert {p.name for p in (workdir / "model").iterdir()} == seeds
    assert len(list((workdir / "systems").glob("*/seed_0.json"))) == 9


def test_evaluating_a_finished_run_again_gives_the_same_numbers(uninterrupted, small_config):
    workdir, _ = uninterrupted
    before = numbers(workdir)
    (workdir / "results.json").unlink()
    output = finish(start(small_config, workdir, "--mode=evaluate"))
    assert numbers(workdir) == before
    assert "\n0 programs compiled, " in output  # all were kept


def test_damaged_results_are_named_and_not_used(uninterrupted, small_config):
    workdir, _ = uninterrupted
    before, damaged = numbers(workdir), next(workdir.glob("systems/*/seed_0.json"))
    for path in (damaged, workdir / "results.json"):
        path.write_bytes(path.read_bytes().replace(b"mae", b"mbe"))
    *_, told = finish(start(small_config, workdir), status=2).splitlines()
    assert told == f"mmdjax: {str(damaged)!r} was changed; run --mode=evaluate to write it again"
    with pytest.raises(UserError, match=r"results\.json' does not match"):
        sums.rows_of(workdir)
    output = finish(start(small_config, workdir, "--mode=evaluate"))
    assert numbers(workdir) == before
    assert f"{workdir / 'results.json'} does not match" in output.replace("\n", " ")
    assert not sums.changed(workdir) and (workdir / sums.NAME).exists()


def test_another_config_in_the_same_workdir_is_refused(uninterrupted):
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_text()
    with pytest.raises(UserError, match=r"another config .*diffusion.nfe: 3 there"):
        written = json.loads(before)
        written["diffusion"]["nfe"] = 4
        claim(workdir, written)
    assert (workdir / "config.json").read_text() == before


def test_evaluating_what_was_never_trained_is_refused(small_config, tmp_path):
    process = start(small_config, tmp_path / "empty", "--mode=evaluate")
    output = finish(process, status=2)
    assert "holds no run to evaluate" in output and "Traceback" not in output
    assert not (tmp_path / "empty").exists()
