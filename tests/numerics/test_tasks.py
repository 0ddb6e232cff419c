"""Tasks against scikit-learn, closed forms and simulated labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from mmdjax import tasks
from mmdjax.errors import UserError
from mmdjax.tasks import SENTIMENT, Classification, MultiLabel, Regression, conformal, metric

AFFECT = Regression(0, 10, ("valence", "arousal", "dominance"))
EMOTION = Classification(("joy", "anger", "calm", "fear", "awe"))
SIGNS = MultiLabel(("joy", "anger", "calm"))
RATING = Regression(0, 100)
ALL = [SENTIMENT, RATING, AFFECT, EMOTION, SIGNS, Regression(-1, 1, metric_set="sentiment")]
ALL += [Regression(-1, 1, metric_set="ch_sims"), RATING.fitted(np.array([5.0, 7, 40]))]
ALL.append(AFFECT.fitted(np.array([[1.0, 2, 0], [2, 8, 0.5], [9, 3, 0]])))


def labels_of(task, rng, size):
    if isinstance(task, Regression):
        return rng.uniform(task.low, task.high, (size, *task.label_shape)).astype(np.float32)
    return rng.integers(0, 2 if task is SIGNS else task.outputs, (size, *task.label_shape))


def everything(task, rng, size=60):
    """Outputs (N, K, outputs), predictions (N, K, ...), labels (N, ...), patterns (N,)."""
    outputs = rng.standard_normal((size, 4, task.outputs)).astype(np.float32)
    return outputs, task.read(outputs), labels_of(task, rng, size), np.ones(size, int)


def test_plain_regression_is_judged_as_its_closed_forms_say(rng):
    y, p = rng.uniform(0, 100, 80), rng.uniform(0, 100, 80)
    found = RATING.metrics(p, y)
    assert found.keys() == {"mae", "corr", "rmse_label", "ccc"}
    np.testing.assert_allclose(found["mae"], sk.mean_absolute_error(y, p))
    np.testing.assert_allclose(found["rmse_label"], sk.mean_squared_error(y, p) ** 0.5)
    np.testing.assert_allclose(found["corr"], stats.pearsonr(p, y)[0])
    ccc = 2 * np.cov(p, y, ddof=0)[0, 1] / (p.var() + y.var() + (p.mean() - y.mean()) ** 2)
    np.testing.assert_allclose(found["ccc"], ccc)
    assert RATING.metrics(y, y)["ccc"] == pytest.approx(1)
    # A shift and a wrong scale spoil concordance, not correlation.
    shifted = RATING.metrics(0.5 * y + 3, y)
    assert shifted["corr"] == pytest.approx(1) and shifted["ccc"] < 0.9
    assert RATING.metrics(np.zeros(80), y)["corr"] == RATING.metrics(np.ones(80), y * 0)["ccc"] == 0


def test_several_outputs_are_judged_one_by_one_and_on_average(rng):
    y, p = rng.uniform(0, 10, (2, 50, 3))
    found = AFFECT.metrics(p, y)
    own = [Regression(0, 10).metrics(p[:, i], y[:, i]) for i in range(3)]
    for m in ("mae", "corr", "ccc"):
        assert found[m] == pytest.approx(np.mean([values[m] for values in own]))
        for name, values in zip(AFFECT.names, own, strict=True):
            assert found[f"{m}_{name}"] == values[m]


def test_sentiment_has_the_metrics_of_its_field_and_a_range_of_its_own_the_plain_ones(rng):
    y = rng.integers(-3, 4, 60).astype(np.float32)
    p = rng.normal(y, 1).astype(np.float32)
    found, kept = SENTIMENT.metrics(p, y), y != 0
    assert found["acc2_nonzero"] == sk.accuracy_score(y[kept] > 0, p[kept] > 0)
    assert found["f1_with_zero"] == sk.f1_score(y >= 0, p >= 0, average="weighted")
    assert found["acc5"] == (np.round(np.clip(p, -2, 2)) == np.clip(y, -2, 2)).mean()
    assert Regression(-1, 1).convention == Regression(-3, 3, ("a", "b")).convention == "plain"
    assert Regression(-1, 1, metric_set="sentiment").headline == "acc2_nonzero"
    assert "acc7" not in Regression(-3, 3, metric_set="plain").metrics(p, y)


def test_ch_sims_has_its_own_classes():
    """Their ends belong to the class below, and float32 labels to that of their decimals."""
    task = Regression(-1, 1, metric_set="ch_sims")
    label = np.array([-1.0, -0.7, -0.6, -0.1, 0.0, 0.1, 0.2, 0.7, 0.8], np.float32)
    classes = {"acc2": [0] * 5 + [1] * 4, "acc3": [0] * 4 + [1] * 2 + [2] * 3}
    classes["acc5"] = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    scores = task.metrics(np.full(len(label), -2.0), label)  # all in the first class
    for name, expected in classes.items():
        assert scores[name] == pytest.approx(np.mean(np.array(expected) == 0))
    perfect = task.metrics(label, label)
    assert perfect["f1"] == perfect["acc2"] == perfect["acc3"] == perfect["acc5"] == 1
    assert task.headline == "acc2" and set(task.metric_names) > set(perfect)
    with pytest.raises(UserError, match=r"'ch_sims' of labels from -3 to 3; allowed: from -1 to 1"):
        Regression(-3, 3, metric_set="ch_sims")


def test_classes_are_judged_as_scikit_learn_judges_them(rng):
    y = rng.integers(0, 4, 90)  # class 4 occurs in predictions alone
    p = rng.dirichlet(np.ones(5), 90)
    chosen, found = p.argmax(1), EMOTION.metrics(p, y)
    assert found["acc"] == sk.accuracy_score(y, chosen)
    assert found["f1"] == sk.f1_score(y, chosen, average="weighted")
    assert found["f1_macro"] == sk.f1_score(y, chosen, average="macro")
    recalls = [(chosen[y == c] == c).mean() for c in range(4)]
    assert found["uar"] == pytest.approx(np.mean(recalls))


def test_labels_are_judged_as_scikit_learn_judges_them(rng):
    y, p = rng.integers(0, 2, (70, 3)), rng.random((70, 3))
    y[:, 2] = 0
    found = SIGNS.metrics(p, y)
    f1 = [sk.f1_score(y[:, i], p[:, i] > 0.5, average="weighted") for i in range(3)]
    ap = [sk.average_precision_score(y[:, i], p[:, i]) for i in range(2)]
    assert found["f1"] == pytest.approx(np.mean(f1)) and found["f1_anger"] == f1[1]
    assert found["ap"] == pytest.approx(np.mean(ap)) and found["ap_joy"] == ap[0]
    assert found["ap_calm"] == 0 and found["acc"] == ((p > 0.5) == y).mean()


@pytest.mark.parametrize("task", ALL, ids=str)
def test_every_metric_is_one_of_the_entries_and_the_optimum_has_no_regret(task, rng):
    _, each, label, _ = everything(task, rng)
    values = task.metrics(each.mean(1), label)
    regrets = task.regrets(values, values)
    assert (*values, *regrets) == task.metric_names
    assert set(regrets.values()) == {0.0} and {task.headline, *task.main} <= {*task.metric_names}
    assert all(isinstance(v, float) and np.isfinite(v) for v in values.values())
    worse = {name: v - 0.1 if metric(name).higher else v + 0.1 for name, v in values.items()}
    assert min(task.regrets(worse, values).values()) > 0


def test_names_of_metrics_are_printed_as_ever():
    told = {
        "acc2_nonzero": "ACC2 non-zero (%) ↑",
        "f1_with_zero": "F1 with zero (%) ↑",
        "acc7": "ACC7 (%) ↑",
        "acc": "accuracy (%) ↑",
        "mae": "MAE ↓",
        "corr": "correlation ↑",
        "regret_acc2": "regret ACC2 (points) ↓",
        "regret_mae": "regret MAE ↓",
        "rmse": "RMSE, one draw ↓",
        "rmse_mean": "RMSE, mean of K draws ↓",
        "energy_distance": "energy distance ↓",
        "coverage": "coverage of 90 % intervals (%) ↑",
        "nfe": "NFE ↓",
        "missing_rate": "missing rate ↓",
        "mae_valence": "MAE valence ↓",
        "f1_very_happy": "F1 very happy (%) ↑",
        "something_new": "something new ↓",
    }
    assert {name: metric(name).title(arrow=True) for name in told} == told
    assert [metric("nfe").decimals(x) for x in (100.0, 12.34, 0.0123)] == [0, 1, 4]
    assert metric("acc").scale == 100 and metric("mae_valence").decimals(0.5) == 3


def test_the_head_of_sentiment_predicts_the_label_itself_bit_for_bit(rng):
    output = rng.standard_normal((50, 1)).astype(np.float32)
    label = labels_of(SENTIMENT, rng, 50)
    assert (SENTIMENT.read(output) == output[:, 0]).all()
    loss = np.asarray(SENTIMENT.loss(jnp.asarray(output), jnp.asarray(label)))
    assert (loss == np.abs(output[:, 0] - label)).all()
    assert (SENTIMENT.error(output[:, 0], label) == loss).all()


@pytest.mark.parametrize("task", [RATING, AFFECT, Regression(-7, -6.5)], ids=str)
def test_heads_of_other_ranges_work_in_units_of_a_sixth_of_them(task, rng):
    ends = np.array([-3.0, 0.0, 3.0])[:, None] * np.ones(task.outputs)
    label = task.read(ends)
    expected = np.array([task.low, (task.low + task.high) / 2, task.high])
    np.testing.assert_allclose(label.reshape(3, -1)[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(task.loss(jnp.asarray(ends), jnp.asarray(label)), 0, atol=1e-5)
    output, _, label, _ = everything(task, rng)
    loss = task.loss(jnp.asarray(output[:, 0]), jnp.asarray(label))
    np.testing.assert_allclose(loss, task.error(task.read(output[:, 0]), label), rtol=1e-4)


@pytest.mark.parametrize("task", [RATING, AFFECT], ids=str)
def test_training_starts_at_the_median_of_the_labels_whatever_their_range(task, rng):
    """Labels of which most lie near an end of their range: a head of its middle starts far off."""
    label = 10 * rng.beta(1, 12, (101, task.outputs))
    label = label if task.label_shape else label[:, 0]
    given = np.concatenate([label, np.full_like(label[:5], np.nan)])
    fitted = task.fitted(given)
    start = fitted.read(np.zeros((1, task.outputs), np.float32))
    np.testing.assert_allclose(start[0], np.median(label, axis=0), rtol=1e-6)
    best = task.mean_error(np.broadcast_to(start, label.shape), label)
    assert best < task.mean_error(task.read(np.zeros((101, task.outputs), np.float32)), label) / 1.5
    # In other units of the label nothing changes but the unit.
    output = jnp.asarray(rng.standard_normal((101, task.outputs)).astype(np.float32))
    other = Regression(-50, 450, task.names).fitted(4 * given - 30)
    np.testing.assert_allclose(fitted.loss(output, label), other.loss(output, 4 * label - 30), 1e-4)
    np.testing.assert_allclose(4 * fitted.read(output) - 30, other.read(output), 1e-4, 1e-4)
    assert fitted.read(np.zeros((1, task.outputs), np.float32)).dtype == np.float32
    assert SENTIMENT.fitted(np.array([0.5, 1, 3])) == SENTIMENT
    still = task.fitted(np.ones_like(label))
    assert np.all(still.unit == np.float32(task.unit))
    assert tasks.from_dict(fitted.describe()) == fitted


@pytest.mark.parametrize("task", ALL, ids=str)
def test_loss_and_gradient_are_finite_and_the_loss_is_the_error_of_what_is_read(task, rng):
    output, _, label, _ = everything(task, rng)
    output = jnp.asarray(output[:, 0])
    assert task.loss(output, label).shape == (60,)
    read = jax.jit(lambda task, x: task.read(x), static_argnums=0)
    np.testing.assert_allclose(read(task, output), task.read(np.asarray(output)), 1e-5, 1e-6)
    loss = np.asarray(task.loss(output, label))
    np.testing.assert_allclose(loss, task.error(np.asarray(task.read(output)), label), rtol=1e-4)
    for scale in (1.0, 1e4):
        grad = jax.grad(lambda x: task.loss(x, jnp.asarray(label)).mean())(scale * output)
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0
    assert np.isfinite(task.error(task.read(np.asarray(1e4 * output)), label)).all()


def simulated(task, rng, size):
    """(predictions (2, N, K, ...), labels (2, N, ...)): said honestly in the first pattern, and too
    surely in the second."""
    shape, sure = (2, size, *task.label_shape), np.array([1.0, 3.0])
    if isinstance(task, Regression):
        signal, scale = rng.standard_normal(shape), rng.uniform(0.2, 2, shape)
        noise = rng.standard_normal((2, size, 8, *task.label_shape))
        noise = noise / sure.reshape(2, *[1] * (noise.ndim - 1))
        draws = signal[:, :, None] + scale[:, :, None] * noise
        label = signal + scale * rng.standard_normal(shape)
        return task.middle + task.unit * draws, task.middle + task.unit * label
    if task is SIGNS:
        true = rng.beta(0.8, 0.8, shape)
        label = (rng.random(shape) < true).astype(int)
        odds = (true / (1 - true)) ** sure[:, None, None]
        return (odds / (1 + odds))[:, :, None], label
    true = rng.dirichlet(np.full(task.outputs, 0.7), (2, size))
    label = (true.cumsum(-1) > rng.random((2, size, 1))).argmax(-1)
    said = true ** sure[:, None, None]
    return (said / said.sum(-1, keepdims=True))[:, :, None], label


@pytest.mark.parametrize("task", [SENTIMENT, RATING, AFFECT, EMOTION, SIGNS], ids=str)
def test_bounds_cover_their_share_of_labels_in_every_pattern_however_sure_they_sound(task, rng):
    said, label = simulated(task, rng, 2000)
    code = np.repeat([1, 3], 2000)
    flat = (said.reshape(-1, *said.shape[2:]), label.reshape(-1, *label.shape[2:]))
    table = task.calibrate(*flat, code, 4)
    assert {a.dtype for a in table.values()} == {np.dtype(np.float32)}
    fresh, truth = simulated(task, rng, 4000)
    for index, pattern in enumerate(([True, False], [True, True])):
        for level in conformal.LEVELS:
            known = np.tile(pattern, (4000, 1))
            found = task.bounds(table, fresh[index], conformal.cells(known), level)
            if task is EMOTION:
                covered = found["within"][np.arange(4000), truth[index]]
                least = (fresh[index, :, 0].argmax(1) == truth[index]).mean()
                assert found["within"].any(1).all()
            else:
                covered = (found["low"] <= truth[index]) & (truth[index] <= found["high"])
                least = ((fresh[index, :, 0] > 0.5) == truth[index]).mean(0) if task is SIGNS else 0
            # Calibration on 2,000 rows moves the level by a beta law of its own; what is more
            # probable is always there, which at low levels covers more.
            slack = 4 * (level * (1 - level) * (1 / 2000 + 1 / 4000)) ** 0.5
            share = covered.mean(0)
            assert (share >= level - slack).all(), (index, level, share)
            assert (share <= np.maximum(level, least) + slack).all(), (index, level, share)


@pytest.mark.parametrize("task", ALL, ids=str)
@pytest.mark.parametrize("draws", [1, 4])
def test_jitted_bounds_and_spread_are_those_of_numpy(task, draws, rng):
    _, each, label, code = everything(task, rng)
    table, known = task.calibrate(each, label, code, 4), np.tile([True, False], (60, 1))
    each = each[:, :draws]
    known = conformal.cells(known)
    found = task.bounds(table, each, known, 0.9)
    run = jax.jit(lambda table, each, known: task.bounds(table, each, known, 0.9))
    held = jax.jit(lambda each, known: task.bounds(table, each, known, 0.9))
    for made in (run(table, each, known), held(each, known)):
        assert made.keys() == found.keys()
        for name, values in made.items():
            np.testing.assert_allclose(values, found[name], rtol=1e-4, atol=1e-4)
    spread = task.spread(each)
    assert spread.shape == ((60, 3) if isinstance(task, Regression) and task.label_shape else (60,))
    assert np.isnan(spread).all() if draws == 1 else (spread > 0).all()


def test_a_label_of_which_nothing_is_sure_may_be_both():
    said = np.full((100, 1, 3), 0.6)
    label = np.zeros((100, 3), int)
    label[:60] = 1
    table = SIGNS.calibrate(said, label, np.ones(100, int), 2)
    known = conformal.cells(np.ones((100, 1), bool))
    sure, wide = (SIGNS.bounds(table, said, known, level) for level in (0.5, 0.9))
    assert (sure["low"] == 1).all() and (sure["high"] == 1).all()
    assert (wide["low"] == 0).all() and (wide["high"] == 1).all() and wide["within"].all()


@pytest.mark.parametrize("task", ALL, ids=str)
def test_a_task_is_made_again_of_its_description_and_equal_to_it(task):
    again = tasks.from_dict(task.describe())
    assert again == task and hash(again) == hash(task) and {task: 1}[again] == 1
    assert isinstance(task.describe()["names"], list)


@pytest.mark.parametrize("task", ALL, ids=str)
def test_lines_fill_the_columns(task, rng):
    _, each, label, code = everything(task, rng)
    table, known = task.calibrate(each, label, code, 4), np.tile([True, False], (60, 1))
    found = {"mean": each.mean(1), "spread": task.spread(each)}
    lines = list(task.lines(found | task.bounds(table, each, conformal.cells(known), 0.9)))
    assert len(lines) == 60 and {len(line) for line in lines} == {len(task.columns())}
    assert len(set(task.columns())) == len(task.columns())
    assert all(isinstance(cell, str) for cell in lines[0])


def test_lines_name_classes_labels_and_outputs():
    row = {"mean": [[0.1, 0.7, 0.2, 0, 0]], "within": [[False, True, True, False, False]]}
    found = {k: np.array(v) for k, v in row.items()} | {"spread": np.array([0.25])}
    assert EMOTION.columns()[:4] == ("prediction", "within", "spread", "p_joy")
    assert next(EMOTION.lines(found))[:4] == ("anger", "anger+calm", "0.25", "0.1")
    row = {"mean": [[0.9, 0.7, 0.2]], "low": [[1, 0, 0]], "within": [[True, True, False]]}
    found = {k: np.array(v) for k, v in row.items()} | {"spread": np.array([np.nan])}
    line = dict(zip(SIGNS.columns(), next(SIGNS.lines(found)), strict=True))
    assert (line["prediction"], line["certain"], line["within"]) == (
        "joy+anger",
        "joy",
        "joy+anger",
    )
    assert AFFECT.columns()[3:5] == ("spread_valence", "prediction_arousal")
