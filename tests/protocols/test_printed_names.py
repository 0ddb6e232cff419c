"""Names are people's own: no terminal, spreadsheet or report takes them for a command."""

import csv
import io

import pytest
from rich.console import Console

from mmdjax.evaluation.exported import write_tables
from mmdjax.runtime.files import csv_cell
from mmdjax.runtime.progress import Reporter


@pytest.mark.parametrize("name", ["[/x]", "[bold", "a [red]b[/red]", "\\[/]"])
def test_a_bar_in_a_terminal_shows_any_name_as_it_is(name):
    reporter, shown = Reporter(), io.StringIO()
    reporter.console = Console(file=shown, force_terminal=True, width=200)
    with reporter.phase(f"seed 0: {name}", 2) as phase:
        phase.epoch(1, 0.5, 0.5)
        phase.note = name
        phase.advance()
    reporter.close()
    assert f"seed 0: {name}" in shown.getvalue()


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+2", "'=1+2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cmd|x", "'-cmd|x"),
        ("+a", "'+a"),
        ("-1.5", "-1.5"),
        ("+7", "+7"),
        ("video_3$_$1", "video_3$_$1"),
        ("", ""),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\t=1", "\\x09=1"),
        ("a\nb", "a\\x0ab"),
        ("é=1", "é=1"),
    ],
)
def test_a_cell_is_never_a_formula_nor_an_escape_code(name, cell):
    assert csv_cell(name) == cell


def test_names_in_a_reports_tables_are_cells_and_numbers_stay_as_they_are(tmp_path):
    write_tables(tmp_path, [("a table", ["system", "=x"], [["=evil", "-2.0 [-3.0, -1.0]"]])])
    with (tmp_path / "a_table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["system", "'=x"], ["'=evil", "-2.0 [-3.0, -1.0]"]]
