"""Averages, cells and sentences of a report."""

import math
import re

import pytest
from rich.console import Console

from mmdjax.evaluation import findings, tables
from mmdjax.evaluation.tables import AVERAGE, Shown
from mmdjax.tasks import Regression
from tests.protocols.report_rows import (
    DRAWS,
    MEAN,
    MODALITIES,
    OPTIMUM,
    PATTERNS,
    PROBE,
    ZERO,
    ZEROS,
    apart,
    averaging,
    found,
    row,
)


def test_mean_and_sample_deviation_over_seeds():
    rows = [row(ZERO, "l", s, v) for s, v in enumerate((0.70, 0.72, 0.77))]
    mean, std, n = found(rows).summary["zero", "fixed", "l", "acc2_nonzero"]
    assert (mean, n) == (pytest.approx(0.73), 3)
    assert std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))


def test_one_seed_has_no_deviation_and_a_repeated_row_counts_once():
    rows = [row(ZERO, "l", 0, 0.1), row(ZERO, "l", 0, 0.7)]
    mean, std, n = found(rows).summary["zero", "fixed", "l", "acc2_nonzero"]
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
    assert list(found(rows).rates.values()) == pytest.approx([0.0, 0.3, 2 / 3])
    header, _ = tables.condition_table(found(rows), "random", "acc2_nonzero")
    assert header == ["system", "0.0", "0.3", "0.7 (realised 0.667)", "average"]
    rows.append(row("", "0.3", 0, 0.296, "missing_rate", "random"))
    assert found(rows).rates["0.3"] == pytest.approx(0.296)


def test_sentence_ahead_behind_and_not_distinguishable():
    rows = averaging(DRAWS, 0.74, 0.76) + averaging(ZERO, 0.60, 0.62)
    rows += averaging(MEAN, 0.80, 0.82)
    rows += averaging(ZEROS, 0.738, 0.742)
    tested = {ZERO: apart(-0.14, 0.001), MEAN: apart(0.06, 0.049), ZEROS: apart(-0.01, 0.051)}
    text = findings.lead(found(rows, (DRAWS, ZERO, MEAN, ZEROS), tested=tested))
    assert "Averaged over all 7 patterns, two-stage, K = 8 reaches" in text
    assert "reaches 75.0 ± 1.4 % ACC2 non-zero (2 seeds)" in text
    assert "ahead of zero at 61.0 ± 1.4" in text
    assert "behind mean at 81.0 ± 1.4" in text
    assert "not distinguishable from zero (trained) at 74.0 ± 0.3" in text
    assert "Bayes" not in text


def test_sentence_with_one_seed_tells_nothing():
    rows = averaging(DRAWS, 0.9) + averaging(ZERO, 0.1) + averaging(OPTIMUM, 0.95)
    text = findings.lead(found(rows, tested={ZERO: apart(-0.8, 1e-9, seeds=1)}))
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
    tested = {ZERO: apart(0.1, 0.01)}
    text = findings.lead(found(rows, task=Regression(0, 10), tested=tested))
    assert "reaches 0.505 ± 0.007 MAE (2 seeds)" in text
    assert "ahead of zero at 0.605" in text


def test_a_sentence_about_many_systems_names_a_few():
    many = tuple(Shown(f"s{i}", "zero") for i in range(12))
    rows = averaging(DRAWS, 0.9, 0.9)
    rows += [r for i, s in enumerate(many) for r in averaging(s, 0.5 + 0.01 * i, 0.5 + 0.01 * i)]
    tested = {s: apart(-0.4, 0.01) for s in many}
    text = findings.lead(found(rows, (DRAWS, *many), tested=tested))
    assert "ahead of s11 at 61.0 ± 0.0, s10" in text and "and 8 others" in text


def test_differences_are_paired_and_tell_whether_they_are_beyond_chance():
    rows = averaging(DRAWS, 0.70, 0.74) + averaging(ZERO, 0.60, 0.64) + averaging(MEAN, 0.69, 0.74)
    rows += averaging(ZEROS, 0.70, 0.75) + averaging(PROBE, 0.71, 0.73)
    for system, value in ((DRAWS, 1), (ZERO, 2)):
        rows.append(row(system, "l>a", 0, value, "energy_distance", "imputation"))
    tested = {ZERO: apart(-0.1, 1e-5), MEAN: apart(-0.005, 0.3), ZEROS: apart(0, 1.0, seeds=1)}
    results = found(rows, (DRAWS, ZERO, MEAN, ZEROS, PROBE), tested=tested)
    header, lines = findings.difference_table(results)
    title = "ACC2 non-zero (points), patterns"
    assert header == ["system", title, "distinguishable?", "energy distance"]
    assert lines == [
        ["zero", "-10.0 [-12.0, -8.0]", "yes, lower (p < 0.001)", "+1.0000"],
        ["mean", "-0.5 [-2.5, +1.5]", "no (p = 0.300)", tables.MISSING],
        ["zero (trained)", "+0.5 [-1.5, +2.5]", "one seed cannot tell", tables.MISSING],
        ["linear probe", "+0.0 ± 1.4", "not tested", tables.MISSING],
    ]
    untested = findings.lead(found(rows, (DRAWS, ZERO)))
    assert "It was not tested whether that differs from zero" in untested
