"""What the report shows of draws comes from the evaluation, and no draw sees what is hidden."""

import dataclasses

import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.evaluation import fans
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import LEVELS, Member, evaluate
from mmdjax.methods.method import of_name
from mmdjax.runtime.progress import Reporter
from tests.conftest import TINY
from tests.protocols.test_groups import initial

CONFIG = configs.from_dict(TINY | {"evaluation": {"draws": 3, "batch": 16, "rates": ()}})


def evaluated(dataset) -> tuple[dict[str, np.ndarray], list[dict]]:
    """The fan and the rows of a system with random parameters."""
    method = of_name("two_stage")(CONFIG, dataset, Reporter())
    kept: dict = {}
    conditions = conditions_of(dataset, CONFIG.evaluation, 0)
    rows = evaluate([Member("a", method, initial(method), 3)], conditions, 0, fans=kept)["a"]
    return kept["a"], rows


@pytest.fixture(scope="module")
def first(tiny_dataset):
    return evaluated(tiny_dataset)


def test_four_utterances_are_shown_each_under_another_pattern(first, tiny_dataset):
    arrays, _ = first
    shown = {key.rsplit("/", 2)[0] for key in arrays}
    assert shown == {"l", "v", "l+a", "a+v"}
    for key, line in arrays.items():
        pattern, m, kind = key.rsplit("/", 2)
        hidden = "lav"[int(m)] not in pattern
        assert (f"{pattern}/{m}/draws" in arrays) == hidden
        assert kind != "draws" or line.shape == (3, *arrays[f"{pattern}/{m}/true"].shape)
    method = of_name("two_stage")(CONFIG, tiny_dataset, Reporter())
    places = fans.places(method, "test", tiny_dataset.patterns)
    assert len({place.row for place in places.values()}) == 4
    block = np.array([places[0].row + 1, places[0].row])  # of a split that comes in blocks
    (found,) = fans.places(method, "test", tiny_dataset.patterns[:1], block).values()
    assert found == fans.Place("l", 1)
    assert fans.places(method, "test", None) == {}


def test_no_draw_of_the_fan_depends_on_the_truth_beside_it(first, tiny_dataset):
    arrays, _ = first
    test = tiny_dataset.splits["test"]
    # Other utterances' features in place of what 'l' hides; their spread, which chooses the number
    # that is shown, stays.
    others = {m: np.roll(test.features[m], 1, axis=0) for m in ("acoustic", "vision")}
    broken = dataclasses.replace(test, features=dict(test.features) | others)
    changed = Dataset(
        tiny_dataset.splits | {"test": broken}, tiny_dataset.task, "", tiny_dataset.optimum
    )
    again, _ = evaluated(changed)
    for m in (1, 2):
        name = f"l/{m}/{{}}"
        assert arrays[name.format("channel")] == again[name.format("channel")]
        np.testing.assert_allclose(
            again[name.format("draws")], arrays[name.format("draws")], atol=1e-5
        )
        assert np.nanmax(abs(again[name.format("true")] - arrays[name.format("true")])) > 1e-3


def test_the_calibration_curve_goes_through_the_coverage_of_the_table(first):
    _, rows = first
    curve = {r["condition"]: r["value"] for r in rows if r["protocol"] == "calibration"}
    assert list(curve) == [f"{level:g}" for level in LEVELS]
    table = [
        r["value"] for r in rows if r["protocol"] == "imputation" and r["metric"] == "coverage"
    ]
    assert len(table) == 9  # what is hidden in each of six patterns
    assert curve["0.9"] == pytest.approx(np.mean(table))
    assert sorted(curve.values()) == list(curve.values())
