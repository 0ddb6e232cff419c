"""Other labels of the synthetic utterances: the same features, and optima that are optimal."""

import hashlib

import numpy as np
import pytest

from mmdjax import tasks
from mmdjax.data.sources import synthetic
from mmdjax.data.sources.synthetic import EMOTIONS, FIVE, FREQUENCY, MODALITIES, Law
from mmdjax.data.sources.synthetic_labels import AFFECT, TASKS, optimum
from mmdjax.errors import UserError

# Of features and sentiment before there were other labels.
HASHES = {
    3: "d1f5a43371815142655792dbc43ec38879f5c8b9baa5c8b366960f3f03e67e4d",
    5: "57d8565bea1eadfb4adf77d782ea3624951439d37631eebbd1ced7cfd1791eab",
}
ROWS = 4000
GIVEN = [(), ("vision",), ("acoustic", "vision"), tuple(MODALITIES)]


@pytest.fixture(scope="module")
def law():
    return Law(0)


@pytest.fixture(scope="module")
def batches(law):
    return {labels: law.sample(ROWS, 5, "u", labels) for labels in TASKS}


def best(law, labels, batch, given):
    return optimum(law, labels, law.indices(given), law.flatten(batch.features, given))


@pytest.mark.parametrize("modalities", [MODALITIES, FIVE], ids=len)
def test_features_and_sentiment_are_what_they_were_bit_for_bit(modalities):
    digest = hashlib.sha256()
    for batch in synthetic.read(30, 20, 20, 0, modalities).values():
        for x in (*batch.features.values(), batch.label):
            digest.update(x.tobytes())
    assert digest.hexdigest() == HASHES[len(modalities)]


def test_labels_change_no_feature_and_are_their_tasks(batches):
    plain = batches["sentiment"]
    for labels, batch in batches.items():
        for m, x in batch.features.items():
            assert (x == plain.features[m]).all()
        TASKS[labels].check(batch.label, labels)
        assert (batch.id == plain.id).all()
        if labels in ("emotion", "signs"):  # that a task is found from the labels alone
            assert tasks.make(names=TASKS[labels].names, label=batch.label) == TASKS[labels]
    np.testing.assert_allclose(batches["rating"].label, (plain.label + 3) / 0.6, atol=1e-5)
    assert ((batches["affect"].label > 0) == batches["signs"].label).all()
    again = [synthetic.read(5, 2, 2, 0, labels="affect")["valid"].label for _ in range(2)]
    assert (again[0] == again[1]).all()
    with pytest.raises(UserError, match="labels 'mood' is unknown; allowed: sentiment, rating"):
        synthetic.read(2, 2, 2, 0, labels="mood")


def test_labels_follow_the_law_of_the_model(batches):
    """The emotion's frequency, and z around its centre; the sentiment as it is read out of z."""
    emotion, z = batches["emotion"].label, batches["affect"].label
    count = np.bincount(emotion, minlength=6)
    assert (np.abs(count / ROWS - FREQUENCY) < 4 * (FREQUENCY / ROWS) ** 0.5).all()
    for g in range(6):
        own = z[emotion == g]
        error = synthetic.LATENT_STD / len(own) ** 0.5
        assert (np.abs(own.mean(0) - EMOTIONS[g]) < 4.5 * error).all()
        wanted = synthetic.LATENT_STD**2 * np.eye(3)
        np.testing.assert_allclose(np.cov(own.T), wanted, atol=6 * 0.2 / len(own) ** 0.5)
    y = batches["sentiment"].label
    inside = np.abs(z @ synthetic.LABEL_READOUT) < 1.5
    rest = (y - z @ synthetic.LABEL_READOUT)[inside]
    assert abs(rest.mean()) < 4 * synthetic.LABEL_NOISE / len(rest) ** 0.5
    assert abs(rest.std() / synthetic.LABEL_NOISE - 1) < 4 / (2 * len(rest)) ** 0.5
    # What is left of features given z and g knows neither.
    x = batches["affect"].features["language"][:, :, 0].mean(1)
    design = np.column_stack([np.eye(6)[emotion], z, np.eye(6)[emotion] * z[:, :1]])
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    linear = x - design[:, :9] @ np.linalg.lstsq(design[:, :9], x, rcond=None)[0]
    assert (linear**2).sum() / (left**2).sum() - 1 < 25 / ROWS


def surer(labels, p, power):
    """Probabilities that are surer (power above 1) or less sure of themselves."""
    if labels == "emotion":
        return p**power / (p**power).sum(1, keepdims=True)
    return p**power / (p**power + (1 - p) ** power)


@pytest.mark.parametrize("given", GIVEN, ids="+".join)
@pytest.mark.parametrize("labels", ["emotion", "signs"])
def test_said_probabilities_are_frequencies(law, batches, labels, given):
    p, y = best(law, labels, batches[labels], given), batches[labels].label
    truth = np.eye(6)[y] if labels == "emotion" else y
    assert p.shape == truth.shape and p.min() >= 0 and p.max() <= 1 + 1e-12
    if labels == "emotion":
        np.testing.assert_allclose(p.sum(1), 1)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.95), (0.95, 1.01)):
        inside = (p >= low) & (p < high)
        spread = (p * (1 - p))[inside].sum() ** 0.5
        assert abs((truth - p)[inside].sum()) < 4.5 * spread + 1e-6
    assert (np.abs((truth - p).sum(0)) < 4.5 * (p * (1 - p)).sum(0) ** 0.5).all()


@pytest.mark.parametrize("given", GIVEN, ids="+".join)
@pytest.mark.parametrize("labels", ["emotion", "signs"])
def test_the_log_loss_of_the_posterior_is_its_entropy_and_is_not_beaten(
    law, batches, labels, given
):
    task, batch = TASKS[labels], batches[labels]
    p, y = best(law, labels, batch, given), batch.label
    own = task.error(p, y)
    parts = [p] if labels == "emotion" else [p, 1 - p]
    entropy = sum(-x * np.log(np.maximum(x, 1e-300)) for x in parts)
    gap = own - (entropy.sum(1) if labels == "emotion" else entropy.mean(1))
    assert abs(gap.mean()) < 4 * gap.std() / ROWS**0.5
    even = np.full_like(p, 1 / 6 if labels == "emotion" else 0.5)
    for other in (surer(labels, p, 0.7), surer(labels, p, 1.4), 0.8 * p + 0.2 * even):
        gap = task.error(other, y) - own
        assert gap.mean() > -3 * gap.std() / ROWS**0.5
        assert not given or gap.mean() > 0


@pytest.mark.parametrize("given", GIVEN, ids="+".join)
@pytest.mark.parametrize("labels", ["sentiment", "rating", "affect"])
def test_medians_halve_the_labels_and_nothing_like_them_is_closer(law, batches, labels, given):
    task, batch = TASKS[labels], batches[labels]
    p, y = best(law, labels, batch, given), batch.label
    assert p.shape == y.shape
    assert (np.abs((y > p).mean(0) - 0.5) < 4.5 * 0.5 / ROWS**0.5).all()
    for other in (p + 0.1 * task.unit, p - 0.1 * task.unit, 1.1 * p, task.middle + 0 * p):
        gap = task.error(other, y) - task.error(p, y)
        assert gap.mean() > -3 * gap.std() / ROWS**0.5
    if labels == "rating":
        plain = best(law, "sentiment", batch, given)
        np.testing.assert_allclose(p, (plain + 3) / 0.6)
    if labels == "sentiment":
        assert (p == law.bayes_prediction(given, batch.features)).all()


@pytest.mark.parametrize("labels", TASKS)
def test_the_regret_of_the_optimum_is_the_lowest(law, batches, labels):
    """Against what is optimal for other things that are observed, or for a shuffled utterance."""
    task, batch = TASKS[labels], batches[labels]
    given = ("acoustic", "vision")
    values = {name: task.metrics(best(law, labels, batch, g), batch.label) for name, g in (
        ("best", given), ("less", ("vision",)), ("nothing", ()))}  # fmt: skip
    wrong = np.roll(best(law, labels, batch, given), 1, axis=0)
    values["wrong"] = task.metrics(wrong, batch.label)
    for name, own in values.items():
        regrets = task.regrets(own, values["best"]).values()
        assert all(r == 0 for r in regrets) if name == "best" else all(r > 0 for r in regrets)


@pytest.mark.parametrize("labels", TASKS)
def test_single_frames_tell_more_than_nothing_and_less_than_all(law, batches, labels):
    task, batch = TASKS[labels], batches[labels]
    every = law.indices(tuple(MODALITIES))
    values = law.flatten(batch.features, tuple(MODALITIES))
    some = np.random.default_rng(0).random(len(every)) < 0.05
    errors = [
        task.error(optimum(law, labels, every[kept], values[:, kept]), batch.label).mean()
        for kept in (np.zeros(len(every), bool), some, np.ones(len(every), bool))
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_mean_of_the_posterior_over_draws_of_what_is_missing_is_the_posterior(law, batches):
    """The tower rule: what sampling the missing modality and averaging tends to."""
    batch, given = batches["emotion"], ("language",)
    where = law.indices(given)
    values = law.flatten(batch.features, given)[:1]
    rest = law.indices(("acoustic", "vision"))
    rows = np.repeat(values, 3000, axis=0)
    drawn = law.mixture.condition(rest, where, rows).sample(np.random.default_rng(1))
    both = np.concatenate([rows, drawn], axis=1)
    for labels in ("emotion", "signs"):
        each = optimum(law, labels, np.concatenate([where, rest]), both)
        error = each.std(0) / len(each) ** 0.5
        gap = np.abs(each.mean(0) - optimum(law, labels, where, values)[0])
        assert (gap < 4.5 * error + 1e-6).all()
    assert len(AFFECT) == each.shape[1]
