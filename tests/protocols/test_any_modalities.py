"""Two to six modalities: exact answers, names, masks, and a small system from data to report."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.patterns import pattern_name, patterns, random_mask
from mmdjax.data.sources import mixture, synthetic
from mmdjax.data.sources.synthetic import FIVE, MODALITIES, Law, Modality
from mmdjax.errors import UserError
from mmdjax.evaluation import pattern_chart, report, tables
from mmdjax.methods.latent.work_list import draw_missing
from mmdjax.methods.two_stage import TwoStage
from mmdjax.run import run
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import SENTIMENT
from tests.conftest import TINY
from tests.numerics.exact_laws import moments
from tests.protocols.report_rows import select

# Two names begin with a p: patterns are spelled out.
SIX = FIVE | {"posture": Modality(7, 5, (0.4, 0.5, 0.2), 0.2, 0.5, 0.4)}
TABLES = {
    2: {name: MODALITIES[name] for name in ("language", "vision")},
    5: FIVE,
    6: SIX,
}


def test_the_law_of_three_modalities_is_the_published_one():
    """Its numbers stand in reports: what is added beside it changes none of them."""
    assert Law(0).fingerprint().startswith("666f7f06646f0b4b8607fd74e42e4a00")
    three, five = Law(3).mixture, Law(3, FIVE).mixture
    size = three.mean.shape[1] - 1
    np.testing.assert_array_equal(five.mean[:, :size], three.mean[:, :size])
    np.testing.assert_array_equal(five.cov[:, :size, :size], three.cov[:, :size, :size])


@pytest.mark.parametrize("modalities", TABLES)
def test_a_law_has_the_modalities_and_shapes_asked_and_samples_follow_it(modalities):
    table = TABLES[modalities]
    law, count = Law(0, table), 8000
    batch = law.sample(count, 1, "x")
    assert batch.modalities == tuple(table)
    shapes = {name: x.shape for name, x in batch.features.items()}
    assert shapes == {name: (count, m.frames, m.channels) for name, m in table.items()}
    joint = law.flatten(batch.features, list(table))
    columns = law.indices(list(table))
    given_nothing = law.mixture.condition(columns, np.arange(0), np.zeros((1, 0)))
    mean, cov = (a[0] for a in moments(given_nothing))
    assert (np.abs(joint.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / count)).all()
    np.testing.assert_allclose(np.cov(joint.T), cov, atol=0.15)


@pytest.mark.parametrize("modalities", TABLES)
def test_the_bayes_optimum_gains_with_every_modality_that_is_observed(modalities):
    """Inside an emotion the variance of the label can only fall; over utterances the error does."""
    names = list(TABLES[modalities])
    # Few frames, for speed.
    law = Law(0, {name: dataclasses.replace(m, frames=3) for name, m in TABLES[modalities].items()})
    batch, variance, error = law.sample(600, 2, "x"), {}, {}
    for pattern in patterns(modalities):
        given = frozenset(name for name, kept in zip(names, pattern, strict=True) if kept)
        posterior = law.label_posterior([name for name in names if name in given], batch.features)
        variance[given] = posterior.cov[:, 0, 0]
        error[given] = np.abs(mixture.median(posterior).clip(-3, 3) - batch.label)
    for fewer, added in itertools.product(variance, names):
        more = fewer | {added}
        if added not in fewer:
            assert (variance[more] <= variance[fewer] + 1e-9).all()
            assert (variance[more] < variance[fewer]).any()
            gain = error[fewer] - error[more]
            assert gain.mean() > -4 * gain.std() / np.sqrt(len(gain))
    alone = {name: error[frozenset([name])].mean() for name in names}
    assert error[frozenset(names)].mean() < min(alone.values()) == alone["language"]


@pytest.mark.parametrize("modalities", range(2, 7))
def test_patterns_and_their_names_are_unique(modalities):
    rows, names = patterns(modalities), list(SIX)[:modalities]
    assert len(rows) == 2**modalities - 1 == len({tuple(r) for r in rows})
    assert len({pattern_name(row, names) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"language": MODALITIES["language"]}, "1 modalities; allowed: 2 to 6"),
        (SIX | {"x": SIX["gaze"]}, "7 modalities"),
        (FIVE | {"gaze": Modality(6, 3, (1, 1, 1), 0.0, 0.1, 0.1)}, "'gaze' .* 3 channels"),
        (FIVE | {"gaze": Modality(6, 4, (1, 1), 0.0, 0.1, 0.1)}, "2 gains"),
    ],
)
def test_a_law_that_cannot_be_is_refused(table, words):
    with pytest.raises(UserError, match=words):
        Law(0, table)


def tiny(modalities):
    values = TINY | {"seeds": (0,), "rounds": 2}
    values |= {"systems": ("two_stage_complete", "linear_probe", "bayes")}
    once = {"epochs": 1, "batch": 16}
    values |= {f"{phase}_training": once for phase in ("classifier", "score", "stage2")}
    values["data"] = TINY["data"] | {"name": "synthetic_five", "seed": modalities}
    values["evaluation"] = {"draws": 1, "batch": 16, "rates": (0.0, 0.3, 0.5, 0.7)}
    return configs.from_dict(values)


@pytest.fixture(params=[2, 5, pytest.param(6, marks=pytest.mark.long)])
def modalities(request, monkeypatch):
    """How many; the source 'synthetic_five' has these. Programs compile fast and run once."""
    monkeypatch.setitem(synthetic.LAWS, "synthetic_five", TABLES[request.param])
    jax.config.update("jax_disable_most_optimizations", True)
    yield request.param
    jax.config.update("jax_disable_most_optimizations", False)


def test_a_system_goes_from_data_to_report_with_any_number_of_modalities(
    modalities, tmp_path, capsys
):
    config, names = tiny(modalities), list(TABLES[modalities])
    rows = run(config, tmp_path)
    assert rows == json.loads((tmp_path / "results.json").read_text())
    expected = [pattern_name(p, names) for p in patterns(modalities)]
    first = "diffusion, K = 1"
    for system in (first, "diffusion, complete, K = 1", "linear probe", "Bayes optimum"):
        found = select(rows, system=system, protocol="fixed", metric="mae")
        assert [r["condition"] for r in found] == expected
        assert all(np.isfinite(r["value"]) for r in found)
    drawn = select(rows, system=first, protocol="imputation", metric="rmse")
    assert len({r["condition"] for r in drawn}) == modalities * (2 ** (modalities - 1) - 1)
    realised = tables.results(rows, (), SENTIMENT, names, complete=True).rates
    asked = {"0.0": 0, "0.3": 0.3, "0.5": 0.5} | ({"0.7": 0.7} if modalities > 2 else {})
    assert realised == pytest.approx(asked, abs=1 / 24)
    said = "config.evaluation.rates: 0.7 left out, of 2 modalities at most 0.5 can be missing"
    assert (said in (tmp_path / "report.md").read_text()) == (modalities == 2)
    assert (said in capsys.readouterr().out) == (modalities == 2)
    masks = np.load(tmp_path / "masks" / "seed_0.npz")
    np.testing.assert_array_equal(masks["0.3"], random_mask(24, modalities, 0.3, 0))
    text = (tmp_path / "report.md").read_text()
    assert f"over all {2**modalities - 1} patterns" in text
    assert all(c.replace("+", r"\+") in text or c in text for c in expected)
    assert (tmp_path / "figures" / "per_pattern.png").stat().st_size > 0


def test_what_is_hidden_reaches_no_draw_and_no_prediction(modalities):
    """NaN in every modality that is missing, under every pattern, changes no bit."""
    config = tiny(modalities)
    splits = synthetic.read(32, 16, 16, 0, TABLES[modalities])
    system = TwoStage(config, Dataset(splits, SENTIMENT, ""), Reporter())
    scale, z = system.standardised(system.init_encoders(jax.random.key(0)))
    score = system.initial_score(jax.random.key(1))
    observed = system.patterns[:-1][-14:]
    rows = np.arange(len(observed))
    latents, valid = z["train"].x[rows], z["train"].valid[rows]

    def completed(x, valid):
        key, draws = jax.random.key(5), np.zeros((len(rows), 1), int)
        about = (rows, draws, key, system.buckets, 16)
        filled = draw_missing(system.drawer, score, x, valid, observed, *about)[0][:, 0]
        fusion = {"fusion": system.initial_classifier(jax.random.key(2))["fusion"]}
        return filled, system.predict_latents(fusion, scale, filled, valid, observed)

    with jax.debug_nans(False):
        hidden = np.where(observed[..., None, None], latents, np.nan)
        found = completed(hidden, valid & observed[..., None])
    for a, b in zip(found, completed(latents, valid), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


SYSTEMS = (
    tables.Shown("diffusion, K = 8", "two_stage", draws=True, k=8),
    tables.Shown("zero", "zero"),
    tables.Shown("Bayes optimum", "bayes", yardstick=True),
)


def results_of(names) -> tables.Results:
    values = np.random.default_rng(0).uniform(0.5, 1, (3, 2 ** len(names)))
    rows = [
        {"system": system.name, "method": system.method, "protocol": "fixed", "seed": 0,
         "condition": pattern_name(p, names), "metric": "acc2_nonzero", "value": float(value)}
        for system, of in zip(SYSTEMS, values, strict=True)
        for p, value in zip(patterns(len(names)), of, strict=False)
    ]  # fmt: skip
    return tables.results(rows, SYSTEMS, SENTIMENT, names, complete=True)


@pytest.mark.parametrize(("modalities", "turned"), [(3, False), (4, True), (5, True), (6, True)])
def test_many_patterns_are_rows_of_a_table_and_hold_the_same_cells(modalities, turned):
    names = tuple(SIX)[:modalities]
    results = results_of(names)
    header, body = tables.condition_table(results, "fixed", "acc2_nonzero")
    assert header[0] == ("observed" if turned else "system")
    heads = header[1:] if turned else [line[0] for line in body]
    assert heads == [system.name for system in SYSTEMS]
    cells = {(line[0], head) if turned else (head, line[0]): cell
             for line in body for head, cell in zip(header[1:], line[1:], strict=True)}  # fmt: skip
    for key, seeds in results.values.items():
        assert cells[key.condition, key.system] == f"{100 * seeds[0]:.1f}"
    best = {
        key.condition: f"{100 * max(seeds[0], results.values[key._replace(system='zero')][0]):.1f}"
        for key, seeds in results.values.items()
        if key.system == "diffusion, K = 8"
    }
    bold = {key[0]: cell for key, cell in cells.items() if isinstance(cell, tables.Best)}
    assert best.items() <= bold.items()
    assert all(len(line) == len(header) for line in body)
    conditions = [line[0] for line in body] if turned else header[1:]
    assert conditions == [*(pattern_name(p, names) for p in patterns(modalities)), "average"]


@pytest.mark.parametrize("modalities", [5, 6])
def test_the_figure_of_many_patterns_fits_a_page_and_names_each_of_them(modalities):
    names = tuple(SIX)[:modalities]
    figure = pattern_chart.by_pattern(results_of(names), "acc2_nonzero")
    width, height = figure.get_size_inches()
    assert width <= 10 and height < 0.5 * 2**modalities
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [*(pattern_name(p, names) for p in patterns(modalities)), "average"]
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(boxes))
    assert report.letters_of(names).count(",") == modalities - 1
