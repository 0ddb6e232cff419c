"""A served model: what it fills, what it keeps, and what its answers depend on."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import mmdjax
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
from mmdjax.methods.latent.work_list import draw_missing
from mmdjax.serving.calls import programs
from mmdjax.types import Observed

from .tiny_models import NAMES, make, nan_says_missing, quick_compiling  # noqa: F401


def test_what_is_observed_comes_back_to_the_last_bit_and_the_rest_is_drawn(served):
    *_, imputer, features, observed, _ = served
    filled = imputer.impute(features, observed, draws=3)
    for m, x in features.items():
        assert filled.features[m].shape == (3, *x.shape)
        np.testing.assert_array_equal(filled.drawn[m], ~observed[m])
        for one in filled.features[m]:
            np.testing.assert_array_equal(one[observed[m]], x[observed[m]])
        assert np.isfinite(filled.features[m]).all()
        drawn = filled.features[m][:, ~observed[m]]
        assert (drawn.std(0) > 0).all()  # three different draws
        assert (filled.spread[m] > 0).tolist() == (~observed[m]).any(1).tolist()


def test_hidden_values_change_nothing(served):
    *_, imputer, features, observed, _ = served
    other = {m: np.where(observed[m][..., None], x, 7 - x) for m, x in features.items()}
    missing = {m: np.where(observed[m][..., None], x, np.nan) for m, x in features.items()}
    first = imputer.predict(features, observed).draws
    np.testing.assert_array_equal(first, imputer.predict(other, observed).draws)
    np.testing.assert_array_equal(first, imputer.predict(missing).draws)


def test_answers_depend_on_neither_order_nor_company_nor_size(served):
    *_, imputer, features, observed, folder = served
    whole = imputer.predict(features, observed).draws
    order = np.random.default_rng(1).permutation(12)
    mixed = [{m: a[order] for m, a in tree.items()} for tree in (features, observed)]
    np.testing.assert_array_equal(imputer.predict(*mixed).draws, whole[order])
    alone = [{m: a[5:6] for m, a in tree.items()} for tree in (features, observed)]
    np.testing.assert_array_equal(imputer.predict(*alone).draws, whole[5:6])
    larger = mmdjax.Imputer.load(folder, batch=32).predict(features, observed).draws
    np.testing.assert_allclose(larger, whole, atol=1e-5)  # another program rounds otherwise


def test_a_missing_modality_may_be_none_nan_zero_or_not_given(served):
    *_, imputer, features, _, _ = served
    kept = {m: features[m] for m in NAMES[:2]}
    first = imputer.predict(kept).draws
    for missing in (None, features["vision"] * np.nan, features["vision"] * 0, [None] * 12):
        np.testing.assert_array_equal(imputer.predict(kept | {"vision": missing}).draws, first)


def test_what_is_masked_is_missing(served):
    imputer, features, observed = served[2:5]
    masked, nan = {}, {}
    for m, x in features.items():
        hidden = np.broadcast_to(~observed[m][..., None], x.shape)
        masked[m], nan[m] = np.ma.masked_array(x, hidden), np.where(hidden, np.nan, x)
    want = imputer.predict(nan).draws
    np.testing.assert_array_equal(imputer.predict(masked).draws, want)
    listed = {m: list(x) for m, x in masked.items()}
    assert isinstance(listed["vision"][0], np.ma.MaskedArray)
    found = imputer.predict(listed).draws
    np.testing.assert_array_equal(
        found, imputer.predict({m: list(x) for m, x in nan.items()}).draws
    )


def test_an_utterance_that_cannot_be_answered_leaves_answers_to_the_others(served):
    imputer, features = served[2:4]
    given = {"language": list(features["language"][:6]), "vision": list(features["vision"][:6])}
    given["language"][2] = given["vision"][2] = None
    given["vision"][4] = np.ones((99, 6), np.float32)
    said = r"utterance 2 has nothing observed; utterance 4 has 99 frames of vision, of at most 10"
    with pytest.warns(UserWarning, match=said):
        predicted, filled = imputer.predict(given), imputer.impute(given)
    kept = [0, 1, 3, 5]
    others = {m: [x[row] for row in kept] for m, x in given.items()}
    expected, whole = imputer.predict(others), imputer.impute(others)
    np.testing.assert_array_equal(predicted.draws[kept], expected.draws)
    np.testing.assert_array_equal(filled.features["vision"][kept], whole.features["vision"])
    for row in (2, 4):
        assert np.isnan(predicted.mean[row]) and np.isnan(predicted.low[row])
        assert (
            np.isnan(filled.features["vision"][row]).all() and not filled.drawn["vision"][row].any()
        )
    nothing = {"language": [None, np.ones((99, 8))]}
    with pytest.raises(UserError, match="utterance 0 has nothing observed; allowed: at least"):
        imputer.predict(nothing)


def test_lists_of_unequal_length_are_what_padded_arrays_are(served):
    *_, imputer, features, _, _ = served
    lengths = {m: 1 + np.arange(12) * (x.shape[1] - 1) // 11 for m, x in features.items()}
    lists = {m: [a[:n] for a, n in zip(x, lengths[m], strict=True)] for m, x in features.items()}
    padded = {m: x.copy() for m, x in features.items()}
    for m, x in padded.items():
        x[np.arange(x.shape[1]) >= lengths[m][:, None]] = 0
    one, two = imputer.impute(lists), imputer.impute(padded)
    for m in NAMES:
        np.testing.assert_array_equal(one.features[m], two.features[m])
        np.testing.assert_array_equal(one.exists[m].sum(1), lengths[m])


@pytest.mark.parametrize("coupling", ["chain", "independent"])
def test_completions_are_those_of_an_evaluation_with_the_same_keys(tmp_path, coupling):
    """The one program for every pattern against the work list's, gaps inside modalities too."""
    system, params = make(tmp_path, 0.5, coupling)
    imputer = mmdjax.Imputer.load(tmp_path)
    features = synthetic.read(1, 1, 6, 0)["test"].features
    rng = np.random.default_rng(0)
    gaps = {m: rng.random(x.shape[:2]) < 0.3 for m, x in features.items()}
    gaps["vision"][:3] = True
    gaps["language"][2:5] = False
    shown = {m: jnp.where(gaps[m][..., None], jnp.nan, x) for m, x in features.items()}
    said = {m: jnp.full(6, x.shape[1]) for m, x in features.items()}
    route, parameters = imputer.route, imputer.parameters
    z, cover, number, _ = route.encode(parameters, shown, said, {}).rows
    made = route.complete(parameters, z, cover, number, np.uint32(3), 2)
    expected, _ = draw_missing(
        system.drawer,
        params["score"],
        *(np.asarray(a) for a in (z, cover.valid, cover.cover)),
        ids=np.asarray(number).view(np.int32),  # int32 there: the same bits
        draw_index=np.tile(np.arange(2), (6, 1)),
        key=jax.random.key(3),
        buckets=system.buckets,
        batch=8,
    )
    np.testing.assert_allclose(
        np.asarray(made).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4
    )


def test_complete_utterances_are_predicted_as_in_an_evaluation(served):
    system, params, imputer, *_ = served
    test = synthetic.read(48, 16, 24, 0)["test"]
    found = imputer.predict(test.features)
    everything = Observed.of_patterns(np.ones((1, 3), bool), test.present)
    completion = system.complete(params, "test", everything, 1, jax.random.key(0), "")
    predictor = system.classifier(params)
    if imputer.signature["predictor"] == "stage2":
        predictor = system.predictor(params)
    expected = system.predict_with(predictor, params, "test", completion)[0, :, 0]
    np.testing.assert_allclose(found.mean, expected, atol=1e-5)
    assert (found.draws == found.draws[:, :1]).all()


def test_later_calls_of_any_size_compile_nothing(served):
    *_, imputer, features, observed, _ = served
    imputer.predict(features, observed)
    compiled = programs(imputer.route)
    before = [program._cache_size() for program in compiled]
    for rows in (1, 2, 7, 12):
        some = [{m: a[:rows] for m, a in tree.items()} for tree in (features, observed)]
        imputer.predict(*some)
    imputer.predict({"vision": features["vision"]})
    assert [program._cache_size() for program in compiled] == before


def test_a_model_of_whole_modalities_refuses_gaps_inside_them(tmp_path):
    make(tmp_path, 0.0)
    imputer = mmdjax.Imputer.load(tmp_path)
    features = dict(synthetic.read(1, 1, 3, 0)["test"].features)
    features["acoustic"][1, 2] = np.nan
    with pytest.raises(UserError, match=r"acoustic: utterance 1 lacks some .*frame_gaps above 0"):
        imputer.impute(features)
    features["acoustic"][1] = np.nan
    assert imputer.impute(features).drawn["acoustic"][1].all()
    with pytest.raises(UserError, match=r"conversation is given, .*'two_stage'.*one by one"):
        imputer.impute(features, conversation=["a", "a", "b"])


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"sound": np.zeros((2, 3, 4))}, ["'sound'", "language, acoustic, vision"]),
        ({"language": np.zeros((2, 8, 7))}, ["language", "(2, 8, 7)", "(2, at most 8, 8)"]),
        ({"language": np.ones((2, 9, 8))}, ["language", "(2, 9, 8)", "at most 8"]),
        ({"language": np.ones((2, 8, 8)), "vision": np.ones((3, 10, 6))}, ["vision: 3", "2, as"]),
        ({"language": np.full((1, 8, 8), np.inf)}, ["utterance 0, frame 0, column 0", "infinite"]),
        ({"language": np.zeros((2, 8, 8))}, ["utterance 0 has nothing observed"]),
        ({"language": [np.ones((2, 8)), np.ones(8)]}, ["language: utterance 1", "(8,)"]),
        ({"language": np.array([["a"]])}, ["language", "<U1"]),
        ([1, 2], ["a list", "dict"]),
    ],
)
def test_wrong_input_is_refused_with_what_is_allowed(served, features, words):
    with pytest.raises(UserError) as refused:
        served[2].predict(features)
    assert all(word in str(refused.value) for word in words), refused.value
