"""The page of a report: its tiles, its words, charts that follow the page, and tables to copy."""

import dataclasses
import itertools
import re
from html import escape, unescape

import numpy as np
import pytest
from PIL import Image

from mmdjax.evaluation import fans, figures, headline, pages, tables, vectors, web, words
from mmdjax.evaluation.tables import Best, Quiet
from tests.protocols.report_rows import (
    DRAWS,
    MEAN,
    MODALITIES,
    OPTIMUM,
    PROBE,
    ZERO,
    apart,
    averaging,
    check_html,
    found,
    full_run,
    row,
    write,
)

COMMAND = "mmdjax --mode=impute --workdir='my runs/a' --input=gaps.npz"

TIE = "ahead of the next: a tie"


def tiles(*tested, costs=(), extra=()):
    """The tiles of three systems, DRAWS the best, as far apart from it as told."""
    rows = averaging(DRAWS, 0.80, 0.80) + averaging(ZERO, 0.79, 0.79) + averaging(MEAN, 0.7, 0.7)
    results = found([*rows, *extra], (ZERO, DRAWS, MEAN, OPTIMUM))
    rivals = {s.name: t for s, t in zip((ZERO, MEAN), tested, strict=False)}
    shown = headline.tiles(dataclasses.replace(results, rivals=rivals), dict(costs))
    return {tile.label: tile for tile in shown}


def test_the_best_system_is_named_wherever_it_stands_and_yardsticks_are_not():
    tile = tiles(extra=averaging(OPTIMUM, 0.9, 0.9))["best system"]
    assert tile.value == "80.0 ± 0.0 %"
    assert tile.note == "two-stage, K = 8: ACC2 non-zero, mean over all 7 patterns"


@pytest.mark.parametrize(
    ("tested", "label", "note"),
    [
        ([apart(-0.01, 0.3), apart(-0.1, 0.01)], TIE, "zero; not distinguishable"),
        ([apart(-0.01, 0.3), apart(-0.1, 0.2)], TIE, "zero; it and 1 other are not"),
        ([apart(-0.01, 0.05), apart(-0.1, 0.01)], TIE, "zero; not distinguishable"),
        ([apart(-0.01, 0.049)], "ahead of the next", "zero, behind beyond chance (p = 0.049)"),
        ([apart(-0.01, 1e-9, seeds=1)], "ahead of the next", "zero; one seed cannot tell"),
        ([], "ahead of the next", "zero; the difference was not tested"),
    ],
)
def test_a_lead_that_is_not_distinguishable_is_called_a_tie(tested, label, note):
    shown = tiles(*tested)
    assert shown[label].value == "1.0 points" and shown[label].note.startswith(note)
    assert len({TIE, "ahead of the next"} & set(shown)) == 1


def test_the_time_of_a_draw_is_in_milliseconds_and_of_what_was_timed():
    cost = {"nfe": 8, "seconds": 0.0314, "parameters": 1e5, "batch": 32}
    tile = tiles(costs={DRAWS.name: cost}.items())["time of a draw"]
    assert tile.value == "0.0314 ms" and "NFE 8, batches of 32" in tile.note
    assert "time of a draw" not in tiles()


def test_an_optimum_that_is_passed_on_a_finite_test_set_is_explained():
    rows = averaging(DRAWS, 0.70) + averaging(OPTIMUM, 0.77) + averaging(PROBE, 0.78)
    text = words.above_optimum(found(rows, (DRAWS, PROBE, OPTIMUM)))
    assert text.startswith("linear probe stands above Bayes optimum here") and "chance" in text
    assert words.above_optimum(found(rows[:14], (DRAWS, OPTIMUM))) == ""
    assert words.above_optimum(found(averaging(DRAWS, 0.7), (DRAWS, OPTIMUM))) == ""


def test_patterns_are_told_in_words():
    rows = averaging(DRAWS, 0.7)
    rows += [row(DRAWS, "l+a>v", 0, 0.1, "energy_distance", "imputation")]
    results = found(rows)
    told = words.patterns_in_words(results, "fixed") | words.patterns_in_words(
        results, "imputation"
    )
    assert told["l"] == "language observed, acoustic and vision missing"
    assert told["l+a+v"] == "language, acoustic and vision observed, nothing missing"
    assert told["l+a>v"] == "vision completed from language and acoustic"
    assert set(told) == {"l", "a", "v", "l+a", "l+v", "a+v", "l+a+v", "l+a>v"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with everything, in its folder."""
    folder = tmp_path_factory.mktemp("page")
    about = "synthetic data · 1 May 2031"
    return write(folder, full_run(), about=about, fan=fan()[0], commands=COMMAND)


def test_words_regret_and_contents_stand_on_the_page(page):
    html = page.read_text()
    assert '<button title="language and acoustic observed, vision missing">l+a</button>' in html
    assert html.index("1 May 2031") < html.index('class="tiles"') < html.index("<h2")
    assert html.count("best prediction that the observed modalities allow") == 1
    headings = re.findall('<h2 id="([^"]+)">', html)
    assert re.findall('<a href="#([^"]+)">', html) == headings and len(headings) > 5


def test_charts_take_the_colours_of_the_page(page):
    html = page.read_text()
    style, charts = html.split("</style>")[0], re.findall("<svg.*?</svg>", html, re.DOTALL)
    assert len(charts) == 2 * html.count('<figure class="chart">') > 0
    used = set()
    for chart in charts:
        assert not re.search(r"#[0-9a-fA-F]{3,6}\b(?![^<]*[\")])", chart)
        used |= set(re.findall(r"var\((--[a-z0-9]+)\)", chart))
        assert "font-family" not in chart
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)", 1)
    assert used and all(f"{name}:" in light + dark for name in used)
    of_systems = {name for name in used if re.fullmatch("--c[0-9a-f]{6}", name)}
    assert of_systems and all(style.count(f"{name}:") == 2 for name in of_systems)


def test_every_hue_can_be_seen_on_the_dark_page():
    hues = [*figures.COOL, *itertools.chain(*figures.WARM), *figures.GREYS, fans.TRUTH]
    for hue in hues:
        lifted = vectors.dark_of(hue)
        rgb = [int(lifted[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        light = np.dot(linear, (0.2126, 0.7152, 0.0722))
        assert (light + 0.05) / (0.0093 + 0.05) > 3.9, hue  # #17191c has 0.0093


def test_each_mark_tells_whose_it_is_and_its_value(page):
    html = page.read_text()
    group = re.search(
        r'<g data-of="two-stage, K = 8" data-tip="([^"]+)"', html.split("By pattern")[2]
    )
    assert re.match(r"l: \d\d\.\d ± \d\.\d", unescape(group[1]).strip('["]'))
    chips = re.findall(r'<button aria-pressed="true" data-of="([^"]+)">', html)
    assert {"two-stage, K = 8", "zero", "Bayes optimum"} <= set(chips)


def test_what_is_copied_is_what_the_files_hold(page):
    texts = [unescape(text) for text in re.findall('data-copy="([^"]*)"', page.read_text())]
    files = [path.read_bytes().decode() for path in (page.parent / "tables").iterdir()]
    assert sorted(texts) == sorted([*files, COMMAND])


def test_shades_tell_the_gap_to_the_best_of_a_pattern():
    header = ["system", "l", "a"]
    rows = [["x", Best("90.0 ± 0.1"), "50.0"], ["y", "80.0", Best("55.0")],
            [Quiet("probe"), "99.0", "–"]]  # fmt: skip
    assert web._shades("ACC2 ↑", header, rows) == {(0, 1): 100, (1, 1): 0, (0, 2): 50, (1, 2): 100}
    turned = [["l", "90.0", "80.0"], ["a", "50.0", "55.0"]]
    shades = web._shades("ACC2 ↑", ["observed", "x", "y"], turned)
    assert shades == {(0, 1): 100, (0, 2): 0, (1, 1): 50, (1, 2): 100}
    assert web._shades("MAE ↓", header, rows)[1, 1] == 100
    across = tables.turned(header, rows, "observed")
    best = {(0, 1): 100, (0, 2): 0, (1, 1): 50, (1, 2): 100}
    assert web._shades("ACC2 ↑", *across) == best  # the yardstick is a column


def test_numbers_on_an_axis_of_powers_are_shown():
    """Matplotlib sets them as mathematics, in elements of their own."""
    curves = {"epoch": [1, 2, 3], "train": [5e3, 20.0, 0.3], "valid": [4e3, 30.0, 0.4], "best": 3}
    chart = vectors.inline(figures.loss_curves({"score": curves}), "loss", "Loss")
    shown = "".join(re.findall(r"<tspan[^>]*>(.)</tspan>", chart.svg))
    assert "10" in shown and "<tspan" in chart.svg
    assert not re.search(r"<tspan[^>]*/>", chart.svg)


def test_text_that_is_turned_a_little_stays_so():
    figure = figures.blank(3, 2)
    figure.text(0.5, 0.5, "slanted", rotation=0.5)
    figure.text(0.5, 0.2, "level")
    slanted, level = re.findall("<text[^>]*>", vectors.inline(figure, "a", "A").svg)
    assert "rotate(-0.5" in slanted and "rotate" not in level


def test_all_that_a_block_says_is_text(tmp_path):
    blocks = [("h1", "a"), ("details", "<b>one</b>", "{}"), ("words", "<b>two</b>", {"l": "x"})]
    path = pages.write_pages(tmp_path, "a", blocks, {})
    for text in (path.read_text(), (tmp_path / "report.md").read_text()):
        assert "<b>" not in text and "one" in text and "two" in text


def fan(draws=5, frames=4):
    """The lines of one utterance under one pattern: language observed, the others drawn."""
    rng = np.random.default_rng(0)
    true, exists = rng.normal(size=(9, frames, 3)), np.ones((9, frames), bool)
    exists[3, -1] = frames == 1  # one frame is padding
    drawn, lines = rng.normal(size=(draws, frames, 3)), {}
    for m in range(3):
        lines |= fans.strand("l", m, true, exists, 3, drawn if m else None)
    return lines, true, drawn


@pytest.mark.parametrize("frames", [4, 1])
def test_the_fan_shows_draws_where_something_is_hidden_and_their_truth(frames):
    lines, true, drawn = fan(frames=frames)
    assert "l/0/draws" not in lines
    if frames == 1:  # of a vector, its numbers
        assert lines["l/1/channel"] == -1
        np.testing.assert_allclose(lines["l/1/draws"], drawn[:, 0], rtol=1e-6)
    else:
        np.testing.assert_allclose(
            lines["l/1/true"][:3], true[3, :3, lines["l/1/channel"]], rtol=1e-6
        )
        assert np.isnan(lines["l/1/true"][3]) and np.isnan(lines["l/2/draws"][:, 3]).all()
    for narrow in (False, True):
        axes = [ax for ax in fans.picture(lines, MODALITIES, narrow).axes if ax.get_visible()]
        assert [len(ax.patches) for ax in axes] == [0, 1, 1]  # the gap is shaded
        assert [len(ax.lines) for ax in axes] == [1, 5 + 2, 5 + 2]
    assert "given language" in axes[0].get_title(loc="left")


def test_a_report_has_what_was_kept_and_a_card_always(page, tmp_path):
    html, without = page.read_text(), write(tmp_path, full_run()).read_text()
    check_html(html)
    assert (page.parent / "figures" / "fan.pdf").exists()
    for part in ("hidden: the truth", 'id="draws"', 'id="use-this-model"'):
        assert part in html and part not in without
    assert html.count(escape(COMMAND)) == 2  # shown, and to copy
    assert f"```sh\n{COMMAND}\n```" in (page.parent / "report.md").read_text()
    for folder in (page.parent, tmp_path):
        with Image.open(folder / "card.png") as card:
            assert card.size == (1200, 630)


def test_a_report_is_the_same_when_it_is_written_again(page):
    before = [path.read_bytes() for path in (page, page.parent / "card.png")]
    about = "synthetic data · 1 May 2031"
    write(page.parent, full_run(), about=about, fan=fan()[0], commands=COMMAND)
    assert before == [path.read_bytes() for path in (page, page.parent / "card.png")]


def test_the_calibration_curve_is_drawn_from_what_was_measured():
    levels = ("0.1", "0.5", "0.9")
    rows = [row(DRAWS, c, s, float(c) - 0.02, "coverage", "calibration")
            for c in levels for s in (0, 1)]  # fmt: skip
    draw, _ = charts_of(rows)["calibration"]
    line = draw().axes[0].lines[-1]
    np.testing.assert_allclose(line.get_xdata(), [10, 50, 90])
    np.testing.assert_allclose(line.get_ydata(), [8, 48, 88])
    assert "calibration" not in charts_of(averaging(DRAWS, 0.7))


def charts_of(rows):
    from mmdjax.evaluation.charts import charts

    return charts(found(rows, (DRAWS, ZERO)), {}, {})
