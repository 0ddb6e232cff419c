"""The report says what the rows say: means, spreads, bold cells, and nothing beyond them."""

import dataclasses
import re

import numpy as np
import pytest

from mmdjax.config import Comparison
from mmdjax.config.resolve import PICKED
from mmdjax.evaluation import charts, figures, findings, pattern_chart, tables
from mmdjax.evaluation.tables import Key, Shown
from mmdjax.runtime import files
from mmdjax.runtime.files import write_bytes
from mmdjax.tasks import Classification, MultiLabel, Regression
from tests.protocols.report_rows import (
    DRAWS,
    HISTORY,
    HOSTILE,
    MEAN,
    OPTIMUM,
    PATTERNS,
    PROBE,
    SINGLE,
    SYSTEMS,
    ZERO,
    ZEROS,
    averaging,
    check_html,
    found,
    full_run,
    row,
    write,
)


@pytest.mark.parametrize(
    ("task", "heads"),
    [
        (Classification(("joy", "anger", "fear")), ["accuracy (%) ↑", "F1 (%) ↑"]),
        (MultiLabel(("joy", "anger")), ["F1 (%) ↑", "AP (%) ↑"]),
        (Regression(0, 10), ["MAE ↓", "correlation ↑"]),
        (Regression(0, 1, ("valence", "arousal")), ["MAE ↓", "correlation ↑"]),
    ],
)
def test_a_report_of_another_task_speaks_of_its_metrics_alone(tmp_path, task, heads):
    rows = []
    for m in task.metric_names:
        rows += averaging(DRAWS, 0.6, 0.62, metric=m) + averaging(OPTIMUM, 0.7, 0.71, metric=m)
        rows += [row(DRAWS, r, 0, 0.5, m, "random") for r in ("0.0", "0.3")]
    write(tmp_path, rows, task=task, config={"data": {"name": "mmsa", "path": "MOSI"}})
    text = (tmp_path / "report.md").read_text()
    assert f"| system | {' | '.join(heads)} |" in text.replace("\\", "")
    assert "ACC2" not in text and "ACC7" not in text and "±3" not in text
    assert "Published" not in text


def test_costs_and_published_averages_stand_in_the_main_table(tmp_path):
    costs = {
        DRAWS.name: {"nfe": 30, "seconds": 2.5, "parameters": 4e5, "quartiles": [2.4, 2.7]},
        SINGLE.name: {"nfe": 10, "seconds": 0.8, "parameters": 4e5, "quartiles": [0.7, 0.9]},
    }
    comparison = Comparison(tables=("thesis 6.11",))
    write(tmp_path, full_run(), costs=costs, comparison=comparison)
    text = (tmp_path / "report.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| two-stage, K = 8 |"))
    assert line.endswith("| 30 | 0.4 | 2.5 | 75.5 / 74.5 / 35.1 |")
    assert "| 2.4 to 2.7 |" in text
    assert (tmp_path / "figures" / "quality_and_time.png").exists()


def test_report_files(tmp_path):
    page = write(tmp_path, full_run())
    assert page == tmp_path / "report.html"
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    names = ("systems", "per_pattern", "rate_acc2_nonzero", "rate_mae", "loss")
    # Exactly these: no temporary file is left.
    tables = {f for f in found if f.startswith("tables/")}
    pictures = {f"figures/{n}.{kind}" for n in names for kind in ("png", "pdf")}
    assert found - tables == {"report.md", "report.html", "card.png"} | pictures
    assert {f.rpartition(".")[2] for f in tables} == {"csv", "tex"} and len(tables) > 10
    assert all((tmp_path / f"figures/{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)
    html = page.read_text()
    checker = check_html(html)
    assert checker.tags.count("svg") == 2 * 5 and "img" not in checker.tags
    assert checker.tags.count("table") == 10
    assert checker.tags.count("script") == 1
    assert "http" not in html
    assert "l = language, a = acoustic, v = vision" in html
    assert "n = 2" in html
    shown = (tmp_path / "report.md").read_text()
    for name in names:
        assert f"![{name}](figures/{name}.png)" in shown
    assert "<details><summary>Configuration</summary>" in shown


@pytest.mark.parametrize("kept", [[], ["fixed"], ["random"], ["gaps"], ["imputation"], ["cost"]])
def test_absent_pieces_are_left_out(tmp_path, kept):
    rows = [
        r for r in full_run(seeds=1) if r["protocol"] in kept and r["system"] != "Bayes optimum"
    ]
    systems = [s for s in SYSTEMS if s != OPTIMUM]
    html = write(tmp_path, rows, systems=systems, history={}, notes=[], machine={}).read_text()
    check_html(html)
    shown = (tmp_path / "report.md").read_text()
    assert ("## By pattern" in shown) == ("fixed" in kept)
    assert ("## By missing rate" in shown) == ("random" in kept)
    assert ("## Imputation" in shown) == ("imputation" in kept)
    assert ("## Training and cost" in shown) == ("cost" in kept)
    assert ("## Gaps" in shown) == ("gaps" in kept)
    assert ("## Notes" in shown) == ("cost" in kept)  # the time in all
    assert "Bayes optimum is exact" not in shown


def test_hostile_strings_are_shown_and_not_obeyed(tmp_path):
    rows = full_run() + averaging(HOSTILE, 0.5, 0.6) + [row(HOSTILE, "l", 0, None, "corr")]
    rows += [row(HOSTILE, "0.3", 0, 0.4, protocol="random")]
    rows += [row(HOSTILE, HOSTILE, 0, 0.4, HOSTILE, "imputation")]
    html = write(
        tmp_path,
        rows,
        systems=(*SYSTEMS, Shown(HOSTILE, HOSTILE, HOSTILE)),
        title=HOSTILE,
        notes=[HOSTILE],
        config={"path": HOSTILE},
        machine={HOSTILE: HOSTILE},
        history={HOSTILE: HISTORY["score"]},
        modalities=(HOSTILE, "acoustic", "vision"),
    ).read_text()
    assert check_html(html).tags.count("script") == 1
    assert "&lt;script&gt;" in html
    assert "&amp;lt;" not in html  # escaped once
    shown = (tmp_path / "report.md").read_text()
    fenced = shown.split("```json")
    assert "<script>" not in fenced[0]
    lines = [line for line in fenced[0].splitlines() if line.startswith("| &lt;/td")]
    assert lines
    assert all(r"\|\`\*" in line for line in lines)


def test_loss_curves_are_logarithmic_only_where_positive():
    axes = figures.loss_curves(HISTORY).axes
    assert [ax.get_yscale() for ax in axes[:2]] == ["log", "linear"]


def test_curves_have_bands_where_they_are_few():
    systems = tuple(Shown(f"m{i}", "m") for i in range(12))
    rows = [
        row(s, rate, seed, 0.7 + 0.01 * seed, protocol="random")
        for s in systems
        for rate in ("0.0", "0.5")
        for seed in (0, 1)
    ]
    counts = {}
    for shown in (systems, systems[:1]):
        ax = charts.against_rate(found(rows, shown), "acc2_nonzero").axes[0]
        counts[len(shown)] = len(ax.lines), len(ax.collections)
    assert counts == {12: (12, 0), 1: (1, 1)}


def test_many_systems_are_dots_by_pattern_and_few_are_bars():
    systems = tuple(Shown(f"m{i}", "m") for i in range(12))
    rows = [r for s in systems for r in averaging(s, 0.7)]
    few, many = (
        pattern_chart.by_pattern(found(rows, shown), "acc2_nonzero").axes[0]
        for shown in (systems[:3], systems)
    )
    assert len(few.patches) == 3 * 8 and not many.patches
    assert [text.get_text() for text in many.get_yticklabels()] == [*PATTERNS, "average"]


def test_seeds_of_a_phase_share_a_panel_and_one_legend():
    curves = HISTORY["score"]
    seeds = {f"score, seed {s}": curves | {"best": s + 1} for s in (0, 1)}
    figure = figures.loss_curves(seeds | {"fusion, seed 0": HISTORY["fusion"]})
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == ["score", "fusion"]
    kept = [line.get_xdata()[0] for line in panels[0].lines if line.get_marker() == "o"]
    assert kept == [1, 2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]


def test_time_is_told_by_phase_and_evaluation_comes_last():
    seconds = {"evaluation": (10.0, 10.0), "score networks": (30.0, 10.0)}
    rows = [
        row(ZERO, phase, seed, value, "seconds", "cost")
        for phase, values in seconds.items()
        for seed, value in enumerate(values)
    ]
    header, lines = findings.time_table(found(rows))
    assert header == ["phase", "seed 0 (s)", "seed 1 (s)", "all seeds (s)", "share (%)"]
    assert lines == [
        ["score networks", "30", "10", "40", "66.7"],
        ["evaluation", "10", "10", "20", "33.3"],
        ["all phases", "40", "20", "60", "100.0"],
    ]
    assert findings.minutes(found(rows)) == 1
    assert findings.time_table(found([])) == ([], [])


def test_shared_phases_are_counted_once_and_stand_with_each_system():
    rows = [row(s, "encoders", 0, 30.0, "seconds", "cost") for s in (DRAWS, SINGLE, ZERO)]
    rows += [row(s, "score networks", 0, 60.0, "seconds", "cost") for s in (DRAWS, SINGLE)]
    _, lines = findings.time_table(found(rows))
    assert lines == [
        ["encoders", "30", "33.3", "all"],
        ["score networks", "60", "66.7", f"{DRAWS.name}; {SINGLE.name}"],
        ["all phases", "90", "100.0", "all"],
    ]
    _, lines = findings.cost_table(found(rows), {})
    assert lines == [
        [DRAWS.name, "8", "90"],
        [SINGLE.name, "1", "90"],
        ["zero", tables.MISSING, "30"],
    ]


def test_what_picking_on_test_flatters_is_positive_for_errors_too():
    task = Regression(0, 1)
    one = {Key("a", "fixed", "average", "mae"): {0: 0.60, 1: 0.62}}
    two = {Key("a" + PICKED, "fixed", "average", "mae"): {0: 0.57, 1: 0.60}}
    systems = (tables.Shown("a"),), (tables.Shown("a" + PICKED),)
    of = [
        tables.Results(values, shown, task, ("l", "v"), True, {}, {})
        for values, shown in zip((one, two), systems, strict=True)
    ]
    _, body = findings.picked_table(dataclasses.replace(of[0], picked=of[1]))
    assert body == [["a", "0.610 ± 0.014", "0.585 ± 0.021", "+0.0250"]]
    assert findings.picked_table(of[0]) == ([], [])


def test_evaluations_are_told_from_the_least_to_the_most(tmp_path):
    rows = averaging(ZERO, 0.7) + averaging(DRAWS, 0.7) + averaging(SINGLE, 0.7)
    rows += [row(DRAWS, p, 0, v, "nfe", "cost") for p, v in {"l": 10.0, "l+a": 20.0}.items()]
    rows += [row(SINGLE, p, 0, 8.0, "nfe", "cost") for p in ("l", "l+a")]
    write(tmp_path, rows)
    text = (tmp_path / "report.md").read_text().split("## Training")[1]
    assert re.search(r"two-stage, K = 8 \| 8 \| 10 to 20 \|", text)
    assert re.search(r"two-stage, K = 1 \| 1 \| 8 \|", text)


def test_names_of_crowded_points_overlap_nothing():
    rng = np.random.default_rng(0)
    figure = figures.blank(9.6, 4.0)
    ax = figure.subplots()
    points = [(x, y) for x, y in rng.normal(0, [0.05, 0.02], (18, 2))] + [(1, 1), (-1, -1)]
    ax.plot(*zip(*points, strict=True), "o")
    names = [[f"Euler-Maruyama {i}"] for i in range(19)] + [["fast", "fast, averaged"]]
    figures.name_points(ax, points, names, [0.0] * 20)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == 20
    inside = ax.get_window_extent().padded(1)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*xy) for xy in ax.transData.transform(points))
        assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)


def test_colours_are_distinct_and_stay_when_systems_are_added():
    systems = [DRAWS, SINGLE, ZERO, ZEROS, MEAN, Shown("m", "mean_trained"), PROBE, OPTIMUM]
    hues = figures.colours(systems)
    assert len(set(hues.values())) == len(systems)
    more = figures.colours([*systems, Shown("GSDNet", "gsdnet", draws=True), Shown("x", "x")])
    assert {name: more[name] for name in hues} == hues
    assert hues["Bayes optimum"] == "#000000"
    pairs = dict(figures.WARM)
    assert pairs[hues["zero"]] == hues["zero (trained)"]
    assert pairs[hues["mean"]] == hues["m"]
    assert {hues[s.name] for s in (DRAWS, SINGLE)} < set(figures.COOL)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.md"
    write_bytes(path, b"old")

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]
    assert path.read_bytes() == b"old"
