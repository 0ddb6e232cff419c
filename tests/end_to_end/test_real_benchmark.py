"""The benchmark of incomplete, unlabelled and real data: its commands, tables and figures."""

import numpy as np
import pytest

from benchmarks import common, real
from mmdjax import config as configs
from mmdjax.config.resolve import changed, systems_of

PATTERNS = ("a", "b", "ab")


def of_case(level: float, metric: str) -> dict:
    """Rows of two systems, three patterns and two seeds, the second ahead of the first by 1."""
    rows = [
        {"system": s, "condition": p, "seed": seed, "metric": metric, "protocol": "fixed",
         "value": level + i + seed / 10 + j}
        for i, s in enumerate(("first", "second"))
        for j, p in enumerate(PATTERNS)
        for seed in (0, 1)
    ]  # fmt: skip
    return {"rows": rows, "minutes": 1.0}


@pytest.mark.parametrize("name", real.STUDIES)
def test_the_flags_of_every_case_make_a_run(name):
    for case in real.STUDIES[name].cases:
        values = configs.to_dict(common.config_of(case.config))
        flags = [*case.flags, *real.FEW, *real.EPOCHS]
        changes = [flag.removeprefix("config.") for flag in flags]
        config = configs.from_dict(changed(values, changes))
        assert len(systems_of(config)) >= 3
        assert case.alone == (not config.data.incomplete)
        if case.at is not None:
            assert case.at in (config.data.complete, config.data.labelled)


def test_a_row_averages_patterns_inside_a_seed():
    rows = of_case(0.5, "corr")["rows"]
    np.testing.assert_allclose(real.by_seed(rows, "second", "corr"), [2.5, 2.6])
    np.testing.assert_allclose(real.by_seed(rows, "first", "corr", "ab"), [2.5, 2.6])
    assert real.by_seed(rows, "third", "corr") == []


@pytest.mark.parametrize("name", ["mmmo", "incomplete"])
def test_tables_and_figures_show_every_case(name):
    study = real.STUDIES[name]
    results = {c.name: of_case(float(i), study.metrics[0]) for i, c in enumerate(study.cases)}
    title, header, body = real.sections(study, results)[0]
    assert header == ["system", *results] and "mean over the patterns" in title
    assert [line[0] for line in body] == ["first", "second"]
    digits = real.tables.metric(study.metrics[0]).decimals(1.0)
    assert body[1][1] == f"{2.05:.{digits}f} ± {0.0707:.{digits}f}"
    compared = [part for part in real.sections(study, results) if "difference" in part[0]]
    assert len(compared) == (len(results) == 2)
    for _, _, lines in compared:  # a case is 1 below the next, in every seed
        assert [line[1] for line in lines] == ["-1.000 ± 0.000"] * 2
    figure = real.picture(study, results)
    assert len(figure.axes) == (1 if study.axis else 2)
    shown = figure.legends[0].get_texts()
    assert len(shown) == (4 if study.axis else 2)
