"""How tasks are found from settings and labels, and what they refuse."""

import numpy as np
import pytest

from mmdjax import tasks
from mmdjax.errors import UserError
from mmdjax.tasks import SENTIMENT, Classification, MultiLabel, Regression

AFFECT = Regression(0, 10, ("valence", "arousal", "dominance"))
EMOTION = Classification(("joy", "anger", "calm", "fear", "awe"))
SIGNS = MultiLabel(("joy", "anger", "calm"))
RATING = Regression(0, 100)


def test_tasks_are_found_from_labels():
    floats, make = np.float32, tasks.make
    assert make(label=np.array([-1.2, 2])) == make(label=np.array([0.4, 2.6], floats)) == SENTIMENT
    assert make(label=np.array([0, 1, 2], floats)) == Regression(0, 2)
    assert make(label=np.array([0.3, 9.7], floats)) == Regression(0, 10)
    assert make(label=np.array([3.3, 93], floats)) == Regression(0, 100)
    assert make(label=np.array([4.2, 4.9], floats)) == Regression(4.2, 4.9)
    assert make(low=0, high=5, label=np.array([1, 2])) == Regression(0, 5)
    assert make(label=np.array([-3, 2, 0])) == SENTIMENT
    assert make(label=np.array([0, np.nan, 7])) == Regression(0, 7)
    assert make(label=np.array([0, 2, 1])) == Classification(("0", "1", "2"))
    assert make("classification", label=np.array([0, 3], floats)).outputs == 4
    assert make("classification", names=["a", "b"]) == Classification(("a", "b"))
    assert make(names=["a", "b"], label=np.array([0, 1], floats)) == Classification(("a", "b"))
    assert make(label=np.array([[0, 1], [1, 1]])) == MultiLabel(("0", "1"))
    assert make(label=np.array([[-0.5, 2], [1, 1]])) == Regression(-3, 3, ("0", "1"))
    # Labels within [-1, 1], such as CH-SIMS', are on a scale of their own.
    assert make(label=np.array([-0.5, 1.0])) == Regression(-1, 1)
    assert make(label=np.array([0.2, 0.9])) == Regression(0.2, 0.9)
    assert make("multi_label", names=["a"], label=np.zeros((2, 1), floats)) == MultiLabel(("a",))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: SENTIMENT.check(np.array([0, 3.5]), "f"), "label 3.5; allowed: a number from -3"),
        (lambda: SENTIMENT.check(np.array([0, np.inf]), "f"), "f: row 1: label inf; allowed"),
        (lambda: RATING.check(np.array([-1.0]), "f", ["a_1"]), "f: utterance 'a_1': label -1.0;"),
        (lambda: AFFECT.check(np.array([[1, 2, 11.0]]), "f"), "label 11.0 of 'dominance'; allowed"),
        (lambda: AFFECT.check(np.zeros(4), "f"), "shape (4,); allowed: (N, 3)"),
        (lambda: EMOTION.check(np.array([0, 5]), "f"), "label 5; allowed: a whole number from 0"),
        (lambda: EMOTION.check(np.array([0.5]), "f"), "label 0.5; allowed: a whole number from 0"),
        (lambda: SIGNS.check(np.array([[0, 1, 2]]), "f"), "label 2 of 'calm'; allowed: 0 or 1"),
        (lambda: SENTIMENT.check(np.array(["x"]), "f"), "dtype <U1; allowed: a number"),
        (lambda: Regression(2, 2), "from 2 to 2; allowed"),
        (lambda: Regression(0, 1, metric_set="best"), "'best' is unknown; allowed: auto"),
        (lambda: Regression(0, 1, ("a", "b"), "sentiment"), "of 2 outputs; allowed: auto, plain"),
        (lambda: Classification(("a", "a")), "allowed: at least 2 different words"),
        (lambda: Classification("ab"), "allowed: at least 2 different words"),
        (lambda: tasks.from_dict({"kind": "ranking"}), "'ranking' is unknown; allowed: regression"),
        (lambda: tasks.from_dict({"kind": "multi_label", "lo": 1}), "with lo; allowed: names"),
        (lambda: tasks.make(label=np.ones(3)), "all 1; allowed: two different ones, or a range"),
        (lambda: tasks.make("classification", low=1), "of classification; allowed: of regression"),
        (lambda: tasks.make("classification", label=np.array([0.5])), "allowed: a whole number"),
        (lambda: tasks.make(label=np.array(["joy"])), "labels of dtype <U3; allowed: numbers"),
        (lambda: tasks.make(label=np.array([np.nan])), "none is finite; allowed: at least one"),
        (lambda: tasks.make(label=np.zeros((2, 2, 2))), "(2, 2, 2); allowed: (N, outputs)"),
        (lambda: tasks.make(), "allowed: regression, classification, multi_label"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_said_in_one_line(made, said):
    with pytest.raises(UserError) as found:
        made()
    assert said in str(found.value) and "\n" not in str(found.value)


def test_labels_at_the_ends_of_a_range_are_allowed_in_their_own_precision():
    Regression(0.1, 0.3).check(np.array([0.1, 0.3], np.float32), "f")
    Regression(0.1, 0.3).check(np.array([0.1, 0.3]), "f")
