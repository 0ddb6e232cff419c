"""The report says what the rows say: means, spreads, bold cells, and nothing beyond them."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from mmdjax.config import Comparison
from mmdjax.evaluation import charts, figures, findings, report, tables
from mmdjax.evaluation.point_names import name_points
from mmdjax.evaluation.tables import AVERAGE, Shown
from mmdjax.runtime import files
from mmdjax.runtime.files import write_bytes
from mmdjax.tasks import SENTIMENT, Classification, MultiLabel, Regression

MODALITIES = ("language", "acoustic", "vision")
PATTERNS = ("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v")
HOSTILE = '</td><script>alert("1")</script>|`*_$x^{$[red]'

DRAWS = Shown("two-stage, K = 8", "two_stage", "Speed", draws=True, k=8)
SINGLE = Shown("two-stage, K = 1", "two_stage", draws=True)
ZERO, ZEROS = Shown("zero", "zero"), Shown("zero (trained)", "zero_trained")
MEAN = Shown("mean", "mean")
PROBE = Shown("linear probe", "linear_probe", yardstick=True)
OPTIMUM = Shown("Bayes optimum", "bayes", yardstick=True)
SYSTEMS = (DRAWS, SINGLE, ZERO, PROBE, OPTIMUM)


def row(system, condition, seed, value, metric="acc2_nonzero", protocol="fixed"):
    name = system.name if isinstance(system, Shown) else system
    row = {"system": name, "method": "any", "protocol": protocol, "condition": condition}
    return row | {"seed": seed, "metric": metric, "value": value}


def averaging(system, *per_seed, metric="acc2_nonzero"):
    """Rows whose average over the patterns is `per_seed[s]` in seed s."""
    offsets = np.linspace(-0.06, 0.06, len(PATTERNS))  # the patterns differ, the mean stays
    return [
        row(system, p, seed, value + offset, metric)
        for seed, value in enumerate(per_seed)
        for p, offset in zip(PATTERNS, offsets, strict=True)
    ]


def full_run(seeds=2):
    """Every kind of row a run can leave."""
    rows = []
    for i, system in enumerate(SYSTEMS):
        values = [0.7 + 0.02 * i + 0.001 * s for s in range(seeds)]
        rows += averaging(system, *values) + averaging(system, *values, metric="mae")
        rows += averaging(system, *values, metric="regret_acc2")
        for s, v in enumerate(values):
            rows += [row(system, r, s, v, "mae", "random") for r in ("0.0", "0.3", "0.7")]
            rows += [row(system, r, s, v, protocol="random") for r in ("0.0", "0.3", "0.7")]
            rows.append(row(system, "l>a", s, v, "energy_distance", "imputation"))
            rows.append(row(system, "burst 0.3", s, v, protocol="gaps"))
            rows.append(row(system, "evaluation", s, 12.3 + s + i, "seconds", "cost"))
    return rows


def found(rows, systems=SYSTEMS, task=SENTIMENT, complete=True, modalities=MODALITIES):
    return tables.results(rows, systems, task, modalities, complete)


HISTORY = {
    "score": {"epoch": [1, 2, 3], "train": [3.0, 2.0, 1.5], "valid": [3.0, 2.5, 2.6], "best": 2},
    "fusion": {"epoch": [1, 2], "train": [0.5, -0.5], "valid": []},
}


def write(folder, rows, **changed):
    given = {
        "systems": SYSTEMS,
        "task": SENTIMENT,
        "modalities": MODALITIES,
        "title": "A run",
        "config": {"sde": {"name": "vp"}},
        "comparison": Comparison(),
        "costs": {},
        "machine": {"device": "cpu"},
        "history": HISTORY,
        "notes": ["chosen on validation"],
    }
    return report.write_report(folder, rows, **given | changed)


class Checker(HTMLParser):
    """Counts open tags and collects what a browser would load or run."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data")]
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_html(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    return checker


def test_mean_and_sample_deviation_over_seeds():
    rows = [row(ZERO, "l", s, v) for s, v in enumerate((0.70, 0.72, 0.77))]
    mean, std, n = tables.summarise(rows)["zero", "fixed", "l", "acc2_nonzero"]
    assert (mean, n) == (pytest.approx(0.73), 3)
    assert std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))


def test_one_seed_has_no_deviation_and_a_repeated_row_counts_once():
    rows = [row(ZERO, "l", 0, 0.1), row(ZERO, "l", 0, 0.7)]
    mean, std, n = tables.summarise(rows)["zero", "fixed", "l", "acc2_nonzero"]
    assert (mean, n) == (0.7, 1)
    assert math.isnan(std)
    assert tables.cell("acc2_nonzero", (mean, std, n)) == "70.0"


def average(rows, **changed):
    return found(rows, **changed).by_system("fixed", AVERAGE, "acc2_nonzero").get("zero")


def test_average_is_taken_inside_each_seed_first():
    # Patterns spread by 0.12 and seeds by 0.02: only the seeds may show in the deviation.
    mean, std, n = average(averaging(ZERO, 0.70, 0.72))
    assert (mean, n) == (pytest.approx(0.71), 2)
    assert std == pytest.approx(0.02 / math.sqrt(2))


def test_average_needs_all_patterns():
    rows = averaging(ZERO, 0.70, 0.72)
    # Seed 1 lacks a pattern: seed 0 alone remains.
    short = [r for r in rows if (r["condition"], r["seed"]) != ("a+v", 1)]
    assert average(short)[2] == 1
    assert average([r for r in rows if r["condition"] != "a+v"]) is None
    # Two letters are complete in themselves, but not when three modalities are known.
    two = [r for r in rows if "v" not in r["condition"]]
    assert average(two, modalities=MODALITIES[:2])
    assert average(two) is None


def test_averages_leave_the_complete_pattern_and_rate_zero_out_where_asked_to():
    rows = averaging(ZERO, 0.7) + [row(ZERO, r, 0, 0.9 - float(r), protocol="random")
                                   for r in ("0.0", "0.3", "0.5")]  # fmt: skip
    results = found(rows, complete=False)
    assert average(rows, complete=False)[0] == pytest.approx(0.69)  # the complete one has 0.76
    rates = results.by_system("random", AVERAGE, "acc2_nonzero")
    assert rates["zero"][0] == pytest.approx(0.5)
    assert findings.counted(results) == "the 6 incomplete patterns"


def test_patterns_keep_the_order_of_the_modalities():
    assert tables.pattern_names(MODALITIES) == list(PATTERNS)


@pytest.mark.parametrize(
    ("metric", "stat", "text"),
    [
        ("acc2_nonzero", (0.7834, 0.0041, 3), "78.3 ± 0.4"),
        ("mae", (0.91449, 0.0125, 3), "0.914 ± 0.013"),
        ("corr", (math.nan, math.nan, 3), "–"),
        ("regret_acc2", (-0.01, math.nan, 1), "0.0"),
        ("seconds", (212.4, 1.2, 2), "212 ± 1"),
        ("seconds", (3.14159, math.nan, 1), "3.14"),
        ("nfe", (16.0, math.nan, 1), "16"),
    ],
)
def test_cells(metric, stat, text):
    assert tables.cell(metric, stat) == text


def test_best_of_a_column_is_bold_and_yardsticks_do_not_compete():
    rows = averaging(DRAWS, 0.7) + averaging(ZERO, 0.6)
    rows += averaging(OPTIMUM, 0.9) + averaging(PROBE, 0.8)
    rows += averaging(DRAWS, 0.9, metric="mae") + averaging(ZERO, 0.8, metric="mae")
    rows += averaging(DRAWS, 0.3, metric="corr") + averaging(OPTIMUM, 0.4, metric="corr")
    # Yardsticks come last wherever they are named.
    header, lines = findings.main_table(found(rows, (OPTIMUM, DRAWS, ZERO, PROBE)), {}, {})
    assert header[:4] == ["system", "ACC2 non-zero (%) ↑", "MAE ↓", "correlation ↑"]
    bold = {(line[0], j) for line in lines for j, c in enumerate(line) if type(c) is tables.Best}
    # Lower is better for MAE; a column with one contestant has no winner.
    assert bold == {(DRAWS.name, 1), ("zero", 2)}
    assert [line[0] for line in lines] == [DRAWS.name, "zero", "Bayes optimum", "linear probe"]
    assert [type(line[0]) is tables.Quiet for line in lines] == [False, False, True, True]
    assert lines[1][:4] == ["zero", "60.0", "0.800", tables.MISSING]
    text = tables.markdown(header, lines)
    assert "| two-stage, K = 8 | **70.0** | 0.900 | 0.300 |" in text
    console = Console(width=120, force_terminal=True, color_system="truecolor", _environ={})
    with console.capture() as shown:
        console.print(tables.rich_table("main", header, lines))
    assert re.search(r"\x1b\[1[0-9;]*m *70\.0", shown.get())
    assert not re.search(r"\x1b\[1[0-9;]*m *90\.0", shown.get())


def test_equal_print_is_bold_together():
    rows = averaging(ZERO, 0.70001) + averaging(MEAN, 0.70004)
    _, lines = findings.main_table(found(rows, (ZERO, MEAN)), {}, {})
    assert [type(line[1]) for line in lines] == [tables.Best, tables.Best]


def test_realised_rate_is_named_and_measured_rates_win():
    rows = [row(ZERO, r, 0, 0.7, protocol="random") for r in ("0.7", "0.0", "0.3")]
    assert list(tables.rates(rows, 3).values()) == pytest.approx([0.0, 0.3, 2 / 3])
    header, _ = tables.condition_table(found(rows), "random", "acc2_nonzero")
    assert header == ["system", "0.0", "0.3", "0.7 (realised 0.667)", "average"]
    rows.append(row("", "0.3", 0, 0.296, "missing_rate", "random"))
    assert tables.rates(rows, 3)["0.3"] == pytest.approx(0.296)


def test_sentence_ahead_behind_and_not_distinguishable():
    rows = averaging(DRAWS, 0.74, 0.76) + averaging(ZERO, 0.60, 0.62)
    rows += averaging(MEAN, 0.80, 0.82)
    # 1 point apart: more than the spread of the first system's rival, less than its own 1.4.
    rows += averaging(ZEROS, 0.738, 0.742)
    text = findings.lead(found(rows, (DRAWS, ZERO, MEAN, ZEROS)))
    assert "Averaged over all 7 patterns, two-stage, K = 8 reaches" in text
    assert "reaches 75.0 ± 1.4 % ACC2 non-zero (2 seeds)" in text
    assert "ahead of zero at 61.0 ± 1.4" in text
    assert "behind mean at 81.0 ± 1.4" in text
    assert "not distinguishable from zero (trained) at 74.0 ± 0.3" in text
    assert "Bayes" not in text


def test_sentence_with_one_seed_tells_nothing():
    rows = averaging(DRAWS, 0.9) + averaging(ZERO, 0.1) + averaging(OPTIMUM, 0.95)
    text = findings.lead(found(rows))
    assert "One seed cannot tell whether that differs from zero at 10.0" in text
    assert "ahead" not in text
    assert "Bayes optimum on these data: 95.0 %" in text


def test_sentence_without_an_average_of_the_first_system():
    assert "nothing is compared" in findings.lead(found(averaging(ZERO, 0.7)))
    rows = averaging(DRAWS, 0.7, 0.8) + averaging(ZERO, 0.6, 0.6)
    rows = [r for r in rows if r["condition"] != "l"]
    assert "nothing is compared" in findings.lead(found(rows))


def test_sentence_about_an_error_says_ahead_where_it_is_lower():
    rows = averaging(DRAWS, 0.5, 0.51, metric="mae") + averaging(ZERO, 0.6, 0.61, metric="mae")
    text = findings.lead(found(rows, task=Regression(0, 10)))
    assert "reaches 0.505 ± 0.007 MAE (2 seeds)" in text
    assert "ahead of zero at 0.605" in text


def test_a_sentence_about_many_systems_names_a_few():
    many = tuple(Shown(f"s{i}", "zero") for i in range(12))
    rows = averaging(DRAWS, 0.9, 0.9)
    rows += [r for i, s in enumerate(many) for r in averaging(s, 0.5 + 0.01 * i, 0.5 + 0.01 * i)]
    text = findings.lead(found(rows, (DRAWS, *many)))
    assert "ahead of s11 at 61.0 ± 0.0, s10" in text and "and 8 others" in text


def test_differences_are_paired_and_tell_whether_they_count():
    rows = averaging(DRAWS, 0.70, 0.74) + averaging(ZERO, 0.60, 0.64) + averaging(MEAN, 0.69, 0.74)
    header, lines = findings.difference_table(found(rows, (DRAWS, ZERO, MEAN)))
    assert header == ["system", "ACC2 non-zero (points), patterns", "counts?"]
    assert lines == [
        ["zero", "-10.0 ± 0.0", "yes, lower"],
        ["mean", "-0.5 ± 0.7", "no"],
    ]


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
    assert found == {"report.md", "report.html", *(f"figures/{n}.png" for n in names)}
    assert all((tmp_path / f"figures/{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)
    html = page.read_text()
    checker = check_html(html)
    assert checker.tags.count("img") == 5
    assert checker.tags.count("table") == 10
    assert checker.tags.count("script") == 1
    text = html.split("base64,")[0] + "".join(p.split('"', 1)[1] for p in html.split("base64,")[1:])
    assert "http" not in text
    assert "l = language, a = acoustic, v = vision" in text
    assert "n = 2" in text
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
        charts.by_pattern(found(rows, shown), "acc2_nonzero").axes[0]
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


def test_time_is_told_by_phase_and_parts_are_not_counted_twice():
    seconds = {"score networks": (30.0, 10.0), "evaluation: diffusion": (5.0, 6.0)}
    seconds |= {"evaluation": (10.0, 10.0)}
    rows = [
        row(ZERO, phase, seed, value, "seconds", "cost")
        for phase, values in seconds.items()
        for seed, value in enumerate(values)
    ]
    header, lines = findings.time_table(rows)
    assert header == ["phase", "seed 0 (s)", "seed 1 (s)", "all seeds (s)", "share (%)"]
    assert lines == [
        ["score networks", "30", "10", "40", "66.7"],
        ["evaluation: diffusion", "5", "6", "11", "18.3"],
        ["evaluation", "10", "10", "20", "33.3"],
        ["all phases", "40", "20", "60", "100.0"],
    ]
    assert findings.minutes(rows) == 1
    assert findings.time_table([]) == ([], [])


def test_shared_phases_are_counted_once_and_stand_with_each_system():
    rows = [row(s, "encoders", 0, 30.0, "seconds", "cost") for s in (DRAWS, SINGLE, ZERO)]
    rows += [row(s, "score networks", 0, 60.0, "seconds", "cost") for s in (DRAWS, SINGLE)]
    _, lines = findings.time_table(rows)
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
    name_points(ax, points, names, [0.0] * 20)
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
