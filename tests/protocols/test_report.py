"""The report says what the rows say: means, spreads, bold cells, and nothing beyond them."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from mmdjax.evaluation import figures, report, tables
from mmdjax.evaluation.point_names import name_points
from mmdjax.runtime import files
from mmdjax.runtime.files import write_bytes

MODALITIES = ("language", "acoustic", "vision")
PATTERNS = ("l", "a", "v", "l+a", "l+v", "a+v", "l+a+v")
HOSTILE = '</td><script>alert("1")</script>|`*_$x^{$[red]'


def row(method, condition, seed, value, metric="acc2_nonzero", protocol="fixed"):
    row = {"method": method, "protocol": protocol, "condition": condition}
    return row | {"seed": seed, "metric": metric, "value": value}


def averaging(method, *per_seed, metric="acc2_nonzero"):
    """Rows whose average over the patterns is `per_seed[s]` in seed s."""
    offsets = np.linspace(-0.06, 0.06, len(PATTERNS))  # the patterns differ, the mean stays
    return [
        row(method, p, seed, value + offset, metric)
        for seed, value in enumerate(per_seed)
        for p, offset in zip(PATTERNS, offsets, strict=True)
    ]


def full_run(seeds=2):
    """Every kind of row a run can leave."""
    rows = []
    for i, method in enumerate(("diffusion_k8", "diffusion_k1", "zero", "linear_probe", "bayes")):
        values = [0.7 + 0.02 * i + 0.001 * s for s in range(seeds)]
        rows += averaging(method, *values) + averaging(method, *values, metric="mae")
        rows += averaging(method, *values, metric="regret_acc2")
        for s, v in enumerate(values):
            rows += [row(method, r, s, v, "mae", "random") for r in ("0.0", "0.3", "0.7")]
            rows += [row(method, r, s, v, protocol="random") for r in ("0.0", "0.3", "0.7")]
            rows.append(row(method, "l>a", s, v, "energy_distance", "imputation"))
            rows.append(row(method, "all", s, 12.3 + s, "seconds", "cost"))
    return rows


HISTORY = {
    "score": {"epoch": [1, 2, 3], "train": [3.0, 2.0, 1.5], "valid": [3.0, 2.5, 2.6], "best": 2},
    "fusion": {"epoch": [1, 2], "train": [0.5, -0.5], "valid": []},
}


def write(folder, rows, **changed):
    given = {
        "modalities": MODALITIES,
        "title": "A run",
        "config": {"sde": {"name": "vp"}},
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
    rows = [row("zero", "l", s, v) for s, v in enumerate((0.70, 0.72, 0.77))]
    mean, std, n = tables.summarise(rows)["zero", "fixed", "l", "acc2_nonzero"]
    assert (mean, n) == (pytest.approx(0.73), 3)
    assert std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))


def test_one_seed_has_no_deviation_and_a_repeated_row_counts_once():
    rows = [row("zero", "l", 0, 0.1), row("zero", "l", 0, 0.7)]
    mean, std, n = tables.summarise(rows)["zero", "fixed", "l", "acc2_nonzero"]
    assert (mean, n) == (0.7, 1)
    assert math.isnan(std)
    assert tables.cell("acc2_nonzero", (mean, std, n)) == "70.0"


def test_average_is_taken_inside_each_seed_first():
    # Patterns spread by 0.12 and seeds by 0.02: only the seeds may show in the deviation.
    rows = averaging("zero", 0.70, 0.72)
    mean, std, n = tables.average_over_patterns(rows)["zero", "fixed", "average", "acc2_nonzero"]
    assert (mean, n) == (pytest.approx(0.71), 2)
    assert std == pytest.approx(0.02 / math.sqrt(2))


def test_average_needs_all_patterns():
    rows = averaging("zero", 0.70, 0.72)
    # Seed 1 lacks a pattern: seed 0 alone remains.
    short = [r for r in rows if (r["condition"], r["seed"]) != ("a+v", 1)]
    assert tables.average_over_patterns(short)["zero", "fixed", "average", "acc2_nonzero"][2] == 1
    assert tables.average_over_patterns([r for r in rows if r["condition"] != "a+v"]) == {}
    # Two letters are complete in themselves, but not when three modalities are known.
    two = [r for r in rows if "v" not in r["condition"]]
    assert tables.average_over_patterns(two)
    assert tables.average_over_patterns(two, MODALITIES) == {}


def test_patterns_keep_the_order_of_the_modalities():
    rows = averaging("zero", 0.7)
    assert tables.patterns(rows[::-1]) == list(PATTERNS)


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
    rows = averaging("diffusion_k8", 0.7) + averaging("zero", 0.6)
    rows += averaging("bayes", 0.9) + averaging("linear_probe", 0.8)
    rows += averaging("diffusion_k8", 0.9, metric="mae") + averaging("zero", 0.8, metric="mae")
    rows += averaging("diffusion_k8", 0.3, metric="corr") + averaging("bayes", 0.4, metric="corr")
    header, lines = tables.main_table(rows)
    assert header == ["method", "ACC2 non-zero (%) ↑", "MAE ↓", "correlation ↑"]
    bold = {(line[0], j) for line in lines for j, c in enumerate(line) if type(c) is tables.Best}
    # Lower is better for MAE; a column with one contestant has no winner.
    assert bold == {("diffusion, K = 8", 1), ("zero", 2)}
    assert [line[0] for line in lines][-2:] == ["linear probe", "Bayes optimum"]
    assert lines[1] == ["zero", "60.0", "0.800", tables.MISSING]
    text = tables.markdown(header, lines)
    assert "| diffusion, K = 8 | **70.0** | 0.900 | 0.300 |" in text
    console = Console(width=120, force_terminal=True, color_system="truecolor", _environ={})
    with console.capture() as shown:
        console.print(tables.rich_table("main", header, lines))
    assert re.search(r"\x1b\[1[0-9;]*m *70\.0", shown.get())
    assert not re.search(r"\x1b\[1[0-9;]*m *90\.0", shown.get())


def test_equal_print_is_bold_together():
    _, lines = tables.main_table(averaging("zero", 0.70001) + averaging("mean", 0.70004))
    assert [type(line[1]) for line in lines] == [tables.Best, tables.Best]


def test_realised_rate_is_named_and_measured_rates_win():
    rows = [row("zero", r, 0, 0.7, protocol="random") for r in ("0.7", "0.0", "0.3")]
    rows += averaging("zero", 0.7)
    assert list(tables.rates(rows).values()) == pytest.approx([0.0, 0.3, 2 / 3])
    header, _ = tables.condition_table(rows, "random", "acc2_nonzero")
    assert header == ["method", "0.0", "0.3", "0.7 (realised 0.667)"]
    rows.append(row("zero", "0.3", 0, 0.296, "missing_rate", "random"))
    assert tables.rates(rows)["0.3"] == pytest.approx(0.296)


def test_sentence_ahead_behind_and_not_distinguishable():
    rows = averaging("diffusion_k8", 0.74, 0.76) + averaging("zero", 0.60, 0.62)
    rows += averaging("mean", 0.80, 0.82)
    # 1 point apart: more than the spread of diffusion's rival, less than diffusion's own 1.4.
    rows += averaging("zero_trained", 0.738, 0.742)
    text = report.comparison(rows, MODALITIES)
    assert "reaches 75.0 ± 1.4 % ACC2 non-zero (2 seeds)" in text
    assert "ahead of zero at 61.0 ± 1.4" in text
    assert "behind mean at 81.0 ± 1.4" in text
    assert "not distinguishable from zero (trained) at 74.0 ± 0.3" in text
    assert "mean (trained)" not in text
    assert "Bayes" not in text


def test_sentence_with_one_seed_tells_nothing():
    rows = averaging("diffusion_k8", 0.9) + averaging("zero", 0.1) + averaging("bayes", 0.95)
    text = report.comparison(rows)
    assert "One seed cannot tell whether that differs from zero at 10.0" in text
    assert "ahead" not in text
    assert "Bayes optimum on these data is 95.0 %" in text


def test_sentence_without_diffusion_or_without_all_patterns():
    assert "nothing is compared" in report.comparison(averaging("zero", 0.7))
    rows = averaging("diffusion_k8", 0.7, 0.8) + averaging("zero", 0.6, 0.6)
    rows = [r for r in rows if r["condition"] != "l"]
    assert "nothing is compared" in report.comparison(rows)


def test_report_files(tmp_path):
    page = write(tmp_path, full_run())
    assert page == tmp_path / "report.html"
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    names = ("per_pattern", "rate_acc2_nonzero", "rate_mae", "loss")
    # Exactly these: no temporary file is left.
    assert found == {"report.md", "report.html", *(f"figures/{n}.png" for n in names)}
    assert all((tmp_path / f"figures/{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)
    html = page.read_text()
    checker = check_html(html)
    assert checker.tags.count("img") == 4
    assert checker.tags.count("table") == 7
    assert checker.tags.count("script") == 1
    text = html.split("base64,")[0] + "".join(p.split('"', 1)[1] for p in html.split("base64,")[1:])
    assert "http" not in text
    assert "l = language, a = acoustic, v = vision" in text
    assert "n = 2" in text
    shown = (tmp_path / "report.md").read_text()
    for name in names:
        assert f"![{name}](figures/{name}.png)" in shown
    assert "<details><summary>Configuration</summary>" in shown


@pytest.mark.parametrize("kept", [[], ["fixed"], ["random"], ["imputation"], ["cost"]])
def test_absent_pieces_are_left_out(tmp_path, kept):
    rows = [r for r in full_run(seeds=1) if r["protocol"] in kept and r["method"] != "bayes"]
    html = write(tmp_path, rows, history={}, notes=[], machine={}).read_text()
    check_html(html)
    shown = (tmp_path / "report.md").read_text()
    assert ("## By pattern" in shown) == ("fixed" in kept)
    assert ("## By missing rate" in shown) == ("random" in kept)
    assert ("## Imputation" in shown) == ("imputation" in kept)
    assert ("## Training and cost" in shown) == ("cost" in kept)
    assert "## Notes" not in shown
    assert "Bayes optimum is exact" not in shown


def test_hostile_strings_are_shown_and_not_obeyed(tmp_path):
    rows = full_run() + averaging(HOSTILE, 0.5, 0.6) + [row(HOSTILE, "l", 0, None, "corr")]
    rows += [row(HOSTILE, "0.3", 0, 0.4, protocol="random")]
    rows += [row(HOSTILE, HOSTILE, 0, 0.4, HOSTILE, "imputation")]
    html = write(
        tmp_path,
        rows,
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


def test_every_curve_of_a_run_has_its_band_and_systems_have_them_where_they_are_few():
    rows = [
        row(f"m{i}", rate, seed, 0.7 + 0.01 * seed, protocol="random")
        for i in range(12)
        for rate in ("0.0", "0.5")
        for seed in (0, 1)
    ]
    hues = {f"m{i}": "#000000" for i in range(12)}
    few = [r for r in rows if r["method"] < "m1"]
    counts = {}
    for name, arguments in {"run": (rows,), "many": (rows, hues), "few": (few, hues)}.items():
        ax = figures.metric_against_rate(arguments[0], "acc2_nonzero", *arguments[1:]).axes[0]
        counts[name] = len(ax.lines), len(ax.collections)
    assert counts == {"run": (12, 12), "many": (12, 0), "few": (1, 1)}


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
        row(name, "all", seed, value, "seconds", "cost")
        for name, values in seconds.items()
        for seed, value in enumerate(values)
    ]
    header, lines = report.time_table(rows)
    assert header == ["phase", "seed 0 (s)", "seed 1 (s)", "all seeds (s)", "share (%)"]
    assert lines == [
        ["score networks", "30", "10", "40", "66.7"],
        ["evaluation: diffusion", "5", "6", "11", "18.3"],
        ["evaluation", "10", "10", "20", "33.3"],
        ["all phases", "40", "20", "60", "100.0"],
    ]
    assert report.time_table([]) == ([], [])


def test_evaluations_are_told_from_the_least_to_the_most(tmp_path):
    counts = {"l": 10.0, "l+a": 20.0}
    rows = averaging("zero", 0.7)
    rows += [row("diffusion", p, 0, v, "nfe", "cost") for p, v in counts.items()]
    rows += [row("diffusion_dense", p, 0, 8.0, "nfe", "cost") for p in counts]
    write(tmp_path, rows)
    text = (tmp_path / "report.md").read_text()
    assert "| diffusion | 10 to 20 |" in text
    assert "| diffusion, dense | 8 |" in text


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


def test_colours_are_fixed_and_distinct():
    for family in (figures.COLOURS, figures.VARIANTS):
        assert len({figures.colour(m) for m in family}) == len(family)
    assert figures.colour("diffusion_dense_k8") == figures.colour("diffusion_dense")


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
