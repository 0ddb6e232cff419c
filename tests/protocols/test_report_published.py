"""Published numbers beside a run: only where the protocol is theirs."""

import pytest

from mmdjax.config import Comparison

from .report_rows import DRAWS, ZERO, averaging, row, write

MOSI = {"name": "mmsa", "path": "data/MOSI/aligned_50.pkl"}


def mmsa_run(rates=("0.0", "0.3", "0.5", "0.7")):
    rows = []
    for metric, value in (("acc2_nonzero", 0.8), ("f1_nonzero", 0.79), ("acc7", 0.4)):
        rows += averaging(ZERO, value, metric=metric)
        rows += [row(ZERO, r, 0, value - float(r), metric, "random") for r in rates]
    return rows


def test_published_averages_stand_beside_ours_where_the_conditions_are_theirs(tmp_path):
    write(tmp_path, mmsa_run(), config={"data": MOSI})
    text = (tmp_path / "report.md").read_text()
    assert "## Published, CMU-MOSI\n" in text
    patterns, rates = text.split("## Published")[1].split("## How")[0].split("table 6.10 of")
    assert "| zero | 80.0 | 79.0 | 40.0 |" in patterns  # the mean of seven patterns
    assert "| Speed, published | 75.5 | 74.5 | 35.1 |" in patterns
    assert "| zero | 42.5 | 41.5 | 2.5 |" in rates  # less 0.375, the mean of four rates
    assert "| Speed, published | 77.8 | 77.6 | 37.7 |" in rates


def test_a_table_of_patterns_has_ours_by_pattern_and_the_counterpart_below(tmp_path):
    rows = averaging(DRAWS, 0.7) + averaging(DRAWS, 0.4, metric="acc7")
    comparison = Comparison(tables=("thesis 6.3",), complete=False)
    systems = (DRAWS._replace(published="VP DiT Euler100"), ZERO)
    write(tmp_path, rows, systems=systems, comparison=comparison, config={"data": MOSI})
    text = (tmp_path / "report.md").read_text().split("## Published, CMU-MOSI\n")[1]
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    heads, ours, theirs = lines[0], lines[2], lines[3]
    assert ours[0] == "| two-stage, K = 8" and theirs[0] == "| VP DiT Euler100, published"
    assert ours[heads.index("l")] == "64.0 / – / 34.0"
    # Without the complete pattern, which lies 6 points above the mean of seven.
    assert ours[-1].startswith("69.0 / – / 39.0")
    assert theirs[-1].count("/") == 2


def test_conversations_are_compared_with_the_tables_of_their_paper(tmp_path):
    modalities = ("language", "acoustic", "timing")
    rows = [r | {"condition": r["condition"].replace("v", "t")} for r in averaging(DRAWS, 0.7)]
    rows += [row(DRAWS, r, 0, 0.6, protocol="random") for r in ("0.0", "0.7")]
    config = {"data": {"name": "gcnet"}, "graph": {"published": "MOSI"}}
    write(tmp_path, rows, systems=(DRAWS,), modalities=modalities, config=config)
    text = (tmp_path / "report.md").read_text()
    assert "Where published numbers have vision, ours have timing." in text
    first, second, third = text.split(" of GSDNet")[1:4]
    heads, ours = (first.splitlines()[i].split(" | ") for i in (2, 4))
    assert ours[heads.index("v+a")] == f"{72 + 2:.1f} / – / –"  # a+t, the sixth of the patterns
    assert "| GSDNet, published |" in first and "| GSDNet, published |" in second
    assert "60.0 / – / – | – |" in second  # rate 0.0; 0.1 was not measured
    assert "GSDNet w/o spectral, published" in third


def test_of_a_file_and_a_title_that_name_two_sets_the_file_is_believed(tmp_path):
    config = {"title": "mmdjax on CMU-MOSI", "data": MOSI | {"path": "MOSEI/aligned_50.pkl"}}
    write(tmp_path, mmsa_run(), config=config)
    text = (tmp_path / "report.md").read_text()
    assert "## Published, CMU-MOSEI\n" in text and "CMU-MOSI" not in text.split("```json")[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {"data": MOSI | {"path": "aligned_50.pkl"}}},  # nothing tells which set
        {"config": {"data": MOSI | {"name": "gcnet"}}},  # has tables of its own
        {"modalities": ("language", "acoustic", "timing")},
    ],
)
def test_published_numbers_stay_away_from_other_data(tmp_path, changed):
    write(tmp_path, mmsa_run(), **({"config": {"data": MOSI}} | changed))
    assert "ublished" not in (tmp_path / "report.md").read_text()


def test_other_rates_than_the_published_ones_are_not_averaged(tmp_path):
    write(tmp_path, mmsa_run(rates=("0.0", "0.3", "0.5")), config={"data": MOSI})
    text = (tmp_path / "report.md").read_text()
    assert "table 6.11" in text
    assert "ours, and table 6.10" not in text
