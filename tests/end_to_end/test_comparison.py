"""Several systems in one run: shared stages, the numbers of single runs, going on, the report."""

import json

import numpy as np
import pytest

from benchmarks import differences
from mmdjax import config as configs
from mmdjax.config.resolve import systems_of
from mmdjax.data import pipeline
from mmdjax.errors import UserError
from mmdjax.evaluation import published, tables
from mmdjax.evaluation.evaluate import LEVELS
from mmdjax.methods.two_stage import TwoStage
from mmdjax.run import run
from mmdjax.runtime.files import load_arrays, load_json
from mmdjax.tasks import SENTIMENT
from tests.conftest import TINY
from tests.protocols.report_rows import select

DDIM = {"name": "DDIM 3", "published": "Speed"}
SYSTEMS = (
    DDIM,
    {"name": "Euler 4", "changes": ("diffusion.sampler=euler_maruyama", "diffusion.nfe=4")},
    {"name": "no decoder", "published": "w/o alignment", "changes": ("decoder.use=False",)},
    {"name": "two draws", "changes": ("evaluation.draws=2",)},
    {"name": "complete", "method": "two_stage_complete"},
    {"name": "zeros", "method": "zero"},
    {"name": "zeros, trained", "method": "zero_trained"},
)
YARDSTICKS = ("linear probe", "Bayes optimum")
VALUES = TINY | {
    "title": "Small comparison",
    "seeds": (0, 1),
    "rounds": 2,
    "classifier_training": {"epochs": 2, "batch": 16},
    "score_training": {"epochs": 2, "batch": 16},
    "stage2_training": {"epochs": 2, "batch": 16},
    "evaluation": {"draws": 1, "batch": 16},
    "comparison": {
        "systems": SYSTEMS,
        "tables": ("thesis 6.11", "thesis 6.10"),
        "complete": True,
        "pictures": 12,
        "iterations": 100,
    },
}


@pytest.fixture(scope="module")
def done(compiled_in_haste, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("comparison")
    return workdir, run(configs.from_dict(VALUES), workdir)


def without_times(rows) -> list:
    return [(r["method"], r["protocol"], r["condition"], r["metric"], r["seed"], r["value"])
            for r in rows if r["metric"] != "seconds"]  # fmt: skip


def test_common_phases_are_trained_once(done):
    workdir, _ = done
    made = [path.name.partition("-")[0] for path in (workdir / "checkpoints").iterdir()]
    # Three ways to draw, of which two are the same draws: with and without decoder.
    expected = {"classifier": 1, "score": 1, "completions": 2, "draws": 3, "zero": 1}
    assert {name: made.count(name) for name in set(made)} == expected


def test_every_system_has_rows_of_its_own(done):
    _, rows = done
    fixed = {(r["system"], r["seed"]) for r in rows if r["protocol"] == "fixed"}
    names = [s["name"] for s in SYSTEMS] + list(YARDSTICKS)
    assert fixed == {(name, seed) for name in names for seed in (0, 1)}
    keys = [(r["system"], *without_times([r])[0][1:5]) for r in rows if r["metric"] != "seconds"]
    assert len(set(keys)) == len(keys)


def test_a_system_has_the_numbers_of_a_run_of_its_own(done, tmp_path):
    _, rows = done
    values = {k: v for k, v in VALUES.items() if k != "comparison"}
    values["decoder"] = TINY["decoder"] | {"use": False}
    alone = run(configs.from_dict(values | {"systems": ("bayes",)}), tmp_path)
    ours = [r for r in rows if r["system"] == "no decoder"]
    theirs = [r for r in alone if r["system"] == "diffusion, K = 1"]
    assert sorted(without_times(ours)) == sorted(without_times(theirs))
    assert (tmp_path / "model" / "seed_1").is_dir()  # of a run about one system


def test_going_on_makes_nothing_again_and_the_report_holds_every_row(done, monkeypatch):
    workdir, rows = done
    for name in ("complete_latents", "predict_with"):  # nothing is completed or predicted
        monkeypatch.setattr(TwoStage, name, lambda *_: pytest.fail("made again"))
    monkeypatch.setattr("mmdjax.training.loop.plan_epoch", lambda *_: pytest.fail("trained again"))
    assert run(configs.from_dict(VALUES), workdir) == rows
    assert rows == json.loads((workdir / "results.json").read_text())
    text = (workdir / "report.md").read_text()
    for system in SYSTEMS:
        assert f"| {system['name']} |" in text
    for name in ("linear probe", "Bayes optimum", "Speed, published", "thesis 6.11"):
        assert name in text
    figures = {path.name for path in (workdir / "figures").iterdir()}
    expected = {"systems.png", "per_pattern.png", "quality_and_time.png", "loss.png", "tsne_1.png"}
    assert expected <= figures and any(name.startswith("rate_") for name in figures)
    assert {"fan.png", "calibration.png"} <= figures and (workdir / "card.png").exists()
    assert "best system" in text and "ahead of the next" in text and "not tested)" not in text
    assert "Patterns in words" in text
    levels = {r["condition"] for r in select(rows, protocol="calibration")}
    assert {f"{level:g}" for level in LEVELS} == levels
    # Draws that systems share are pictured once.
    assert len(list((workdir / "pictures").glob("*.json"))) == 2
    costs = load_json(workdir / "draw_costs.json")
    drawing = {"DDIM 3": 3, "Euler 4": 4, "no decoder": 3, "two draws": 3, "complete": 3}
    assert {name: c["nfe"] for name, c in costs.items()} == drawing
    assert all(0 < c["quartiles"][0] <= c["seconds"] for c in costs.values())


def test_averages_are_over_the_patterns_that_the_published_table_counts(done):
    _, rows = done
    names = pipeline.modality_names(configs.from_dict(VALUES).data)
    shown = [tables.Shown(s["name"]) for s in SYSTEMS]
    patterns, rates = tables.pattern_names(names), ["0.3", "0.5", "0.7"]
    for complete in (True, False):
        results = tables.results(rows, shown, SENTIMENT, names, complete)
        counted = {"fixed": patterns if complete else patterns[:-1]}
        counted["random"] = ["0.0", *rates] if complete else rates
        for protocol, wanted in counted.items():
            same = {"system": "zeros", "protocol": protocol, "metric": "mae", "seed": 0}
            own = [r["value"] for r in select(rows, **same) if r["condition"] in wanted]
            seeds = results.values["zeros", protocol, "average", "mae"]
            assert seeds[0] == pytest.approx(np.mean(own))
            assert len(own) == len(wanted)


def test_kept_predictions_are_those_of_the_results(done):
    workdir, rows = done
    kept = load_arrays(workdir / "predictions.npz")
    label, measured = kept["label"], 0
    for system in SYSTEMS:
        for r in select(rows, system=system["name"], protocol="random", metric="mae"):
            given = kept[f"{system['name']}/seed {r['seed']}/random {r['condition']}"]
            np.testing.assert_allclose(np.abs(given - label).mean(), r["value"], rtol=1e-5)
            measured += 1
    assert measured and len(kept["id"]) == len(label)
    assert "distinguishable?" in (workdir / "report.md").read_text()


@pytest.mark.parametrize(
    ("comparison_values", "words"),
    [
        ({"systems": (DDIM, DDIM)}, "different names"),
        ({"systems": (DDIM | {"changes": ("data.train=3",)},)}, "the same for all"),
        ({"systems": (DDIM | {"changes": ("seeds=(4,)",)},)}, "the same for all"),
        ({"systems": (DDIM | {"changes": ("diffusion.sampler=ode",)},)}, "ode"),
        ({"systems": (DDIM | {"changes": ("task.kind=classification",)},)}, "the same for all"),
        ({"systems": (DDIM | {"method": "magic"},)}, "'magic' is unknown; allowed: .*two_stage"),
        ({"systems": (DDIM | {"method": "diffusion_k1"},)}, "has a new name; allowed: two_stage"),
        ({"systems": (DDIM | {"method": "bayes_alone"},)}, "allowed: synthetic_conversations"),
        ({"systems": (DDIM,), "tables": ("thesis 1.1",)}, "thesis 6.1"),
        ({"systems": (DDIM,), "tables": ("thesis 6.1",), "dataset": "MOSEI"}, "MOSI"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(comparison_values, words, tmp_path):
    config = configs.from_dict(VALUES | {"comparison": comparison_values})
    with pytest.raises(UserError, match=words):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("systems", "names"),
    [
        ((), None),
        (("zero",), ["diffusion, K = 1", "zero"]),
        (("zero", "zero"), ["diffusion, K = 1", "zero"]),
        (("bayes_alone", "zero"), ["diffusion, K = 1", "zero"]),  # of conversations only
        (
            ("two_stage evaluation.draws=4", "imder diffusion.nfe=4"),
            ["diffusion, K = 1", "diffusion, K = 4", "IMDer, K = 1"],
        ),
    ],
)
def test_a_run_is_about_its_method_and_shows_others_beside_it(systems, names):
    """Each as a method and changes of the config; a method's own companions by default."""
    values = {k: v for k, v in VALUES.items() if k != "comparison"}
    resolved = systems_of(configs.from_dict(values | {"systems": systems}))
    assert [s.name for s in resolved][: len(names or [])] == (names or [])
    if names is None:
        assert len(resolved) == len(TwoStage.companions)  # K = 1 is the run's own here
    assert all(s.config.systems == () and not s.config.comparison.systems for s in resolved)


@pytest.mark.parametrize(
    ("systems", "words"),
    [
        (("magic",), "'magic'"),
        (("two_stage data.train=3",), "changes data; allowed: the same for all"),
        (("two_stage diffusion.steps=3",), "names no field"),
    ],
)
def test_companions_that_cannot_be_are_refused(systems, words):
    values = {k: v for k, v in VALUES.items() if k != "comparison"}
    with pytest.raises(UserError, match=words):
        systems_of(configs.from_dict(values | {"systems": systems}))


def test_published_numbers_are_the_papers():
    rows = {(r["method"], r["condition"]): r for r in published.results("thesis 6.1", "MOSI")}
    found = rows["VP U-Net Euler100", "l+a"]
    metrics = [found[m] for m in ("acc2_nonzero", "f1_nonzero", "acc7")]
    assert metrics == pytest.approx([0.864, 0.863, 0.454])
    networks = {r["network"]: r["parameters_M"] for r in published.efficiency()}
    assert networks["ScoreTransformer1D"] == 3.2 and networks["DiT"] == 9.3


def test_epochs_picked_on_test_stand_beside_those_of_validation_and_change_nothing(done, tmp_path):
    _, rows = done
    systems = [s for s in SYSTEMS if s["name"] in ("DDIM 3", "zeros")]
    evaluation = VALUES["evaluation"] | {"as_published": True}
    values = VALUES | {"evaluation": evaluation}
    values["comparison"] = VALUES["comparison"] | {"systems": systems, "pictures": 0}
    both = run(configs.from_dict(values), tmp_path)
    names = {s["name"] for s in systems}

    for name in names:
        of_run = [sorted(without_times(select(r, system=name))) for r in (both, rows)]
        assert of_run[0] and of_run[0] == of_run[1]
    twins = {f"{name}, epoch picked on test" for name in names}
    assert twins <= {r["system"] for r in both}
    text = (tmp_path / "report.md").read_text()
    assert "on test, as published" in text and "flatters by" in text
    assert not any(f"| {twin} |" in text for twin in twins)
    saved = [load_json(p) for p in tmp_path.glob("systems/*/seed_0.json")]
    curves = [of["history"]["stage 1, classifier"] for of in saved if of["history"]]
    assert len({json.dumps(c["valid"]) for c in curves}) == 2  # of validation, and of test data
    assert len({json.dumps(c["train"]) for c in curves}) == 1


def test_systems_are_compared_in_any_metric_from_what_a_run_kept(done, capsys):
    workdir, _ = done
    differences.main([f"--workdir={workdir}", "--metric=mae", "--against=zeros"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("MAE ↓, difference to zeros")
    assert len(lines) == len(SYSTEMS) + len(YARDSTICKS)
    text = (workdir / "results.json").read_text()
    of = {s["name"]: [r["value"] for r in select(json.loads(text), system=s["name"],
          protocol="fixed", metric="mae")] for s in SYSTEMS}  # fmt: skip
    apart = np.mean(of["DDIM 3"]) - np.mean(of["zeros"])
    shown = next(line for line in lines if line.startswith("DDIM 3"))
    assert float(shown.split()[2]) == pytest.approx(apart, abs=2e-3)
    with pytest.raises(SystemExit) as error:
        differences.main([f"--workdir={workdir}", "--metric=uar"])
    assert error.value.code == 2
