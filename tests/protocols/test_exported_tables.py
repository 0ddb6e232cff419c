"""Tables for other programs, and the chart of ranks."""

import csv

from mmdjax.evaluation.exported import in_latex, write_tables
from mmdjax.evaluation.rank_chart import rank_chart
from mmdjax.evaluation.significance import Rank
from mmdjax.evaluation.tables import Best, Results, Shown
from mmdjax.tasks import SENTIMENT

HEADER = ["system", "ACC2 (%) ↑"]
ROWS = [["a_b & c, 100%", Best("78.3 ± 0.4")], ["\\x{}$", "–"]]


def test_csv_reads_back_and_names_follow_the_caption(tmp_path):
    write_tables(tmp_path, [("Mean over all 7 patterns", HEADER, ROWS), ("", HEADER, ROWS)])
    same = [(caption, HEADER, []) for caption in ("A b", "a, B", "a b 2")]
    write_tables(tmp_path / "two", same)
    with (tmp_path / "mean_over_all_7_patterns.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [HEADER, *ROWS]
    assert {p.name for p in tmp_path.glob("*.*")} == {
        "mean_over_all_7_patterns.csv", "mean_over_all_7_patterns.tex", "table.csv", "table.tex"
    }  # fmt: skip
    assert {p.stem for p in (tmp_path / "two").iterdir()} == {"a_b", "a_b_2", "a_b_2_2"}


def test_latex_is_escaped_and_the_best_is_bold():
    lines = in_latex("50 % & more", HEADER, ROWS).splitlines()
    assert lines[2] == r"\caption{50 \% \& more}" and lines[3] == r"\begin{tabular}{lr}"
    assert lines[5] == r"{}system & ACC2 (\%) $\uparrow$ \\"
    assert lines[7] == r"{}a\_b \& c, 100\% & \textbf{78.3 $\pm$ 0.4} \\"
    assert lines[8] == r"{}\textbackslash{}x\{\}\$ & -- \\"


def test_ranks_are_drawn_from_the_best_down_and_not_for_two_systems():
    systems = tuple(Shown(name, "two_stage", draws=True) for name in ("ours", "b", "c"))
    ranks = {("fixed", s.name): Rank(r, 1, 3) for s, r in zip(systems, (2, 1, 3), strict=True)}
    results = Results({}, systems, SENTIMENT, ("l", "a"), True, {}, {}, ranks=ranks)
    draw, _ = rank_chart(results, "fixed")
    assert [t.get_text() for t in draw().axes[0].get_yticklabels()] == ["b", "ours", "c"]
    few = Results({}, systems[:2], SENTIMENT, ("l", "a"), True, {}, {}, ranks=ranks)
    assert rank_chart(few, "fixed") is None and rank_chart(results, "random") is None
