"""The one command for an accelerator: parts that fail or hang stop none of the others."""

import json
import subprocess
import sys

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import Part
from tests.end_to_end.benchmark import finish
from tests.limits import HANGS

PRINTS = (sys.executable, "-c", "print('all is well')")
FAILS = (sys.executable, "-c", "raise SystemExit('no such device')")
# Its child would outlive it, if it alone were ended.
HANGS_ON = ("sh", "-c", "sleep 1000 & echo started; wait")


def command(monkeypatch, workdir, *options: str) -> dict:
    """Run the command in this process and return its summary."""
    monkeypatch.setattr(sys, "argv", ["accelerator", f"--workdir={workdir}", *options])
    accelerator.main()
    return json.loads((workdir / "accelerator.json").read_text())


def replaced(monkeypatch, *made: Part) -> None:
    monkeypatch.setattr(accelerator, "parts", lambda workdir, dry: list(made))


def test_a_part_that_fails_or_is_cut_stops_none_of_the_others(monkeypatch, tmp_path):
    replaced(
        monkeypatch,
        Part("hangs", 0.1, (HANGS_ON,)),
        Part("fails", 10.0, (PRINTS, FAILS)),
        Part("prints", 10.0, (PRINTS,)),
    )
    result = command(monkeypatch, tmp_path, "--minutes=3")
    assert {r["part"]: r["status"] for r in result["rows"]} == {
        "hangs": "cut",
        "fails": "failed",
        "prints": "succeeded",
    }
    assert result["rows"][1]["codes"] == [0, 1] and result["waiting"] == []
    assert "no such device" in (tmp_path / "fails.log").read_text()
    summary = (tmp_path / "accelerator.md").read_text()
    assert "| cut |" in summary and "all is well" in summary and str(tmp_path) not in summary


def test_what_a_part_has_started_ends_with_the_command(monkeypatch, tmp_path):
    def interrupted(process, timeout=None):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    started = []
    begin = subprocess.Popen.__init__
    monkeypatch.setattr(
        subprocess.Popen,
        "__init__",
        lambda self, *a, **k: (started.append(self), begin(self, *a, **k))[1],
    )
    with pytest.raises(KeyboardInterrupt):
        accelerator.run(Part("hangs", 1.0, (HANGS_ON,)), tmp_path, HANGS)
    assert started[0].returncode < 0


def test_parts_that_succeeded_are_not_run_again(monkeypatch, tmp_path):
    replaced(monkeypatch, Part("prints", 1.0, (PRINTS,)), Part("fails", 1.0, (FAILS,)))
    first = command(monkeypatch, tmp_path)
    replaced(monkeypatch, Part("prints", 1.0, (FAILS,)), Part("fails", 1.0, (PRINTS,)))
    second = command(monkeypatch, tmp_path)
    assert [r["status"] for r in first["rows"]] == ["succeeded", "failed"]
    assert [r["status"] for r in second["rows"]] == ["succeeded", "succeeded"]
    assert second["rows"][0] == first["rows"][0]


def test_an_unknown_part_is_refused_in_one_line(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        command(monkeypatch, tmp_path, "--parts=attention,cudnn")
    assert error.value.code == 2
    assert "'cudnn'" in capsys.readouterr().err


def test_two_jobs_with_different_results_have_failed(tmp_path):
    def result(name: str, acc2: float) -> None:
        rows = [{"metric": "acc2", "value": acc2}, {"metric": "seconds", "value": ord(name)}]
        folder = tmp_path / f"two_jobs_{name}"
        folder.mkdir(exist_ok=True)
        (folder / "results.json").write_text(json.dumps(rows))

    row = {"part": "two_jobs", "status": "succeeded"}
    result("a", 0.5)
    result("b", 0.6)
    assert accelerator.compared(tmp_path, row)["status"] == "failed"
    result("b", 0.5)
    assert accelerator.compared(tmp_path, row)["status"] == "succeeded"


def test_limits_of_all_parts_are_the_whole_time(tmp_path):
    assert sum(p.share for p in accelerator.parts(tmp_path, dry=False)) == pytest.approx(1)


@pytest.mark.benchmark
def test_the_command_runs_all_parts_in_their_short_form(tmp_path):
    generous = f"--minutes={HANGS}"  # no outcome depends on the clock
    finish("accelerator", "--dry_run", generous, f"--workdir={tmp_path}")
    result = json.loads((tmp_path / "accelerator.json").read_text())
    status = {r["part"]: r["status"] for r in result["rows"]}
    assert list(status) == [part.name for part in accelerator.parts(tmp_path, dry=True)]
    try:
        import torch  # noqa: F401

        others = ()
    except ImportError:
        others = ("draws", "training")
    assert {name: s for name, s in status.items() if name not in others} == {
        name: "succeeded" for name in status if name not in others
    }
