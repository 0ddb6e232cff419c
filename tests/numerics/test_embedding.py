"""Two-sample accuracy against its limit; t-SNE and the grid of pictures."""

import re
import types

import numpy as np
import pytest
from scipy import integrate, stats

from mmdjax.config import Comparison
from mmdjax.errors import UserError
from mmdjax.evaluation import effectiveness, figures
from mmdjax.evaluation.effectiveness import Panel, embed, pictures, two_sample_accuracy
from mmdjax.methods.method import Completion, Method
from mmdjax.types import Batch


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 8.0])
def test_the_accuracy_of_a_mean_shift_is_that_of_two_gaussians(rng, shift):
    values = [
        two_sample_accuracy(rng.normal(size=(150, 1)), rng.normal(shift, size=(150, 1)))
        for _ in range(60)
    ]
    # A point's neighbour has, in the limit, the point's own law: E (p^2 + q^2) / (p + q)^2.
    p, q = stats.norm(0).pdf, stats.norm(shift).pdf
    limit, _ = integrate.quad(lambda t: (p(t) ** 2 + q(t) ** 2) / (p(t) + q(t)) / 2, -9, shift + 9)
    assert abs(np.mean(values) - limit) < 0.01, (np.mean(values), limit)


def test_pairs_lower_the_accuracy_unless_the_counterpart_is_left_out(rng):
    common = rng.normal(size=(300, 3))
    x, y = (0.99 * common + 0.14 * rng.normal(size=common.shape) for _ in range(2))
    assert two_sample_accuracy(x, y) < 0.3
    assert two_sample_accuracy(x, x) == 0
    assert abs(two_sample_accuracy(x, y, paired=True) - 0.5) < 0.08
    assert two_sample_accuracy(x, y + 5, paired=True) > 0.99


def test_points_that_tie_share_the_vote():
    one = np.full((10, 3), 0.1)
    assert two_sample_accuracy(one, one) == pytest.approx(9 / 19)
    assert two_sample_accuracy(one, one, paired=True) == 0.5
    assert two_sample_accuracy(one, one + 1) == 1
    # 0, 0 | 0, 2: both x have one x and one y at distance 0; y's 0 has two x, y's 2 three at 2.
    x, y = np.array([[0.0], [0.0]]), np.array([[0.0], [2.0]])
    assert two_sample_accuracy(x, y) == pytest.approx((1 / 2 + 1 / 2 + 0 + 1 / 3) / 4)


@pytest.mark.parametrize("y", [np.zeros((3, 2)), np.zeros((4, 3)), np.full((4, 2), np.nan)])
def test_samples_that_do_not_fit_are_refused(y):
    with pytest.raises(UserError, match="allowed"):
        two_sample_accuracy(np.zeros((4, 2)), y)


def clusters(rng) -> dict:
    return {name: rng.normal(i * 4, size=(60, 12)) for i, name in enumerate("ab")}


def test_the_embedding_is_deterministic_and_keeps_clusters_apart(rng):
    groups, told = clusters(rng), []
    first = embed(groups, iterations=430, advance=lambda: told.append(1))
    assert len(told) == 430 // 50
    assert {name: points.shape for name, points in first.items()} == {"a": (60, 2), "b": (60, 2)}
    assert two_sample_accuracy(first["a"], first["b"]) == 1
    second = embed(groups, iterations=430)
    for name in groups:
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["a"], embed(groups, iterations=430, seed=1)["a"])


@pytest.mark.parametrize(
    "rows", [np.ones((40, 5)), np.repeat(np.eye(3), 20, axis=0), np.arange(40.0)[:, None]]
)
def test_rows_that_repeat_and_one_dimension_can_be_embedded(rows):
    assert np.isfinite(embed({"a": rows, "b": rows[:7]}, iterations=300)["b"]).all()


def test_groups_that_cannot_be_embedded_are_refused_in_one_line(rng):
    embed({"a": rng.normal(size=(25, 4))}, iterations=50)
    for groups, match in (
        ({"a": np.zeros((24, 4))}, "perplexity 8 for 24 points; allowed: 1/3 to 7.67"),
        ({"a": np.zeros((30, 4)), "b": np.zeros((30, 5))}, r"\(30, 4\), \(30, 5\) given"),
        ({"a": np.full((30, 4), np.inf)}, "'a'.*finite"),
        ({"a": np.zeros((30, 4, 2))}, r"'a' \(30, 4, 2\) given"),
        ({}, "none given"),
    ):
        with pytest.raises(UserError, match=match) as error:
            embed(groups)
        assert "\n" not in str(error.value)


def test_the_pictures_hold_every_panel_and_number(rng, tmp_path):
    shown = [("l", "true"), ("l", "drawn"), ("v", "true"), ("v", "drawn"), ("a", "observed")]
    panels = {
        place: Panel({key: rng.normal(size=(9, 2)) for key in shown},
                     {"l": tuple(rng.random(2)), "v": tuple(rng.random(2))})
        for place in [(r, c) for r in ("DDIM", "Heun") for c in ("10", "20", "30")][:-1]
    }  # fmt: skip
    figure = pictures(panels, ("l", "a", "v"))
    assert len(figure.axes) == 6
    for ax, ((_, column), panel) in zip(figure.axes, panels.items(), strict=False):
        assert ax.get_title(loc="left") == f"observed: {column}"
        texts = {t.get_text().split()[0]: t for t in ax.texts}
        assert texts.keys() == panel.numbers.keys()
        for name, numbers in panel.numbers.items():
            got = re.fullmatch(r"\w+  energy (\S+)  1-NN (\S+)", texts[name].get_text()).groups()
            assert got == (f"{numbers[0]:.3f}", f"{numbers[1]:.2f}")
        # Colour ties a modality's numbers to its crosses; circles are its truth.
        marks = dict(zip(panel.points, ax.lines, strict=True))
        assert marks["l", "drawn"].get_markeredgecolor() == texts["l"].get_color()
        assert [marks[key].get_marker() for key in shown] == ["o", "x", "o", "x", "o"]
    assert not figure.axes[-1].lines
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == ["DDIM", "Heun"]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [f"{m}, {kind}" for m, kind in shown]
    figures.save(figure, tmp_path / "grid.png")
    # Nothing is cut off: the first title ends below the figure's upper edge.
    assert figure.axes[0].get_tightbbox().y1 < figure.bbox.y1


class Drawn(Method):
    """Draws the truth of other utterances, in modalities of different widths."""

    modalities = ("language", "acoustic", "vision")

    def __init__(self, rng, whole: int = 60):
        present = {m: np.arange(60)[:, None] < whole for m in self.modalities[1:]}
        present["language"] = np.ones((60, 1), bool)
        test = Batch({}, present, np.zeros(60), np.arange(60).astype(str))
        self.dataset = types.SimpleNamespace(splits={"test": test})
        self.frames = np.ones((60, 2), bool)
        self.frames[:30, 1] = False
        self.true = [rng.normal(size=(60, 2, width)) for width in (2, 3, 4)]
        for x in self.true:
            x[:30, 1] = np.nan  # what does not exist is not read

    def truth(self, params, split):
        return tuple((x, self.frames) for x in self.true)

    def complete(self, params, split, observed, draws, key, title):
        return Completion(None, observed)

    def compared(self, params, completion, modality):
        other = np.roll(self.true[modality], 30, axis=0)[None, :, None]
        return np.repeat(np.nan_to_num(other), len(completion.observed.modalities), axis=0)


def test_any_method_with_a_truth_is_pictured(rng):
    comparison, calls = Comparison(pictures=40, iterations=100, perplexity=5), []
    points = effectiveness.embedded(Drawn(rng), {}, 0, comparison, lambda: calls.append(1))
    assert [*points] == ["l", "a", "v"]
    assert len(calls) == effectiveness.steps(comparison, Drawn.modalities)
    kinds = [(m, kind, len(xy)) for m, kind, xy in points["a"]["points"]]
    assert kinds == [
        ("language", "true", 40), ("language", "drawn", 40), ("acoustic", "observed", 40),
        ("vision", "true", 40), ("vision", "drawn", 40),
    ]  # fmt: skip
    assert set(points["a"]["numbers"]) == {"language", "vision"}
    few = effectiveness.embedded(Drawn(rng, whole=1), {}, 0, comparison)
    assert few == {}  # a truth beside every draw: too few utterances are whole
    many = {f"system {i}": points | {"l": points["l"] | {"numbers": {}}} for i in range(8)}
    for i, of in enumerate(many.values()):
        of["l"]["numbers"]["vision"] = [0.1 * i, 0.5]
    many["the same"] = many["system 7"]
    ((_, blocks),), shown = effectiveness.sections(many | {"none": {}}, Drawn.modalities)
    assert [block[1] for block in blocks] == [*shown] == ["tsne_1", "tsne_2"]
    assert len(shown["tsne_1"][0].axes) == 18
    assert effectiveness.sections({"none": {}}, Drawn.modalities) == ([], {})
