"""What every registered method promises; a new file in `mmdjax/methods` is held to it.

Most promises do not depend on what was learned, so that parameters are the initial ones.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax import tasks
from mmdjax.config.resolve import systems_of
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate, with_regrets
from mmdjax.methods.method import phase_keys, registry
from mmdjax.runtime import stopping
from mmdjax.runtime.compilation import Counter
from mmdjax.runtime.progress import Reporter
from mmdjax.serving.bundle import publish
from mmdjax.serving.export import export
from mmdjax.serving.imputer import Imputer
from mmdjax.serving.loader import load
from mmdjax.training.train import train
from mmdjax.types import Observed
from mmdjax.workdir import Places
from tests.conftest import ONCE, TINY, TINY_OPTIONS

METHODS = tuple(registry())
SERVED = tuple(n for n, cls in registry().items() if cls.serving)
TRAINED = tuple(n for n in METHODS if n not in ("linear_probe", "bayes", "bayes_alone"))
QUICK = {"epochs": 2, "batch": 16, "patience": 2}
PHASES = ("classifier_training", "score_training", "stage2_training", "imder_training")
TRAINING = dict.fromkeys(PHASES, QUICK)
CONVERSATIONS = {"name": "synthetic_conversations", "train": 6, "valid": 3, "test": 4}
GRAPH = {"components": 4, "gcn_width": 8, "gcn_layers": 1, "refine_width": 8, "spectrum_width": 8}
LABELS = ("sentiment", "rating", "emotion", "affect", "signs")


def config_of(name: str, labels: str = "sentiment", **evaluation):
    """A tiny config of a method, on conversations where it sees them."""
    values = TINY | TRAINING | {"method": name, "rounds": 2, "graph": GRAPH, "optimise": False}
    values["evaluation"] = TINY["evaluation"] | {"rates": (0.0, 0.5)} | evaluation
    values["data"] = TINY["data"] | {"labels": labels}
    if registry()[name].sees == "conversations" or name == "bayes_alone":
        values["data"] = CONVERSATIONS | {"length_buckets": (4,)}
    if name in TINY_OPTIONS:
        options = TINY_OPTIONS[name]
        values[name] = {k: QUICK if v == ONCE else v for k, v in options.items()}
    return configs.from_dict(values)


@functools.cache
def dataset_of(data, task) -> Dataset:
    return pipeline.dataset(data, task)


def method_of(name: str, dataset: Dataset | None = None, labels: str = "sentiment", **evaluation):
    config = config_of(name, labels, **evaluation)
    dataset = dataset or dataset_of(config.data, config.task)
    return registry()[name](config, dataset, Reporter())


def untrained(method) -> dict:
    """Phase -> initial parameters."""
    params: dict = {}
    for phase in method.phases:
        params[phase.name] = phase.init(phase_keys(0, phase.name)[0], params)
    return params


def answer(method, params, observed: Observed, draws: int = 2) -> np.ndarray:
    completion = method.complete(params, "test", observed, draws, jax.random.key(3), "test")
    return np.asarray(method.predict(params, "test", completion))


def some_observed(method, seed: int = 0) -> Observed:
    """A random mask that keeps something of every utterance."""
    rng = np.random.default_rng(seed)
    shape = (len(method.dataset.splits["test"]), len(method.modalities))
    mask = rng.random(shape) < 0.5
    mask[np.arange(len(mask)), rng.integers(shape[1], size=len(mask))] = True
    return Observed(mask[None])


def changed(dataset: Dataset, test) -> Dataset:
    """The same data with another test split."""
    return Dataset(dataset.splits | {"test": test}, dataset.task, "other", dataset.optimum)


@pytest.mark.parametrize("name", METHODS)
def test_hidden_values_change_no_bit(name):
    method = method_of(name)
    params, observed = untrained(method), some_observed(method)
    expected = answer(method, params, observed)
    batch = method.dataset.splits["test"]
    features = {m: x.copy() for m, x in batch.features.items()}
    for i, x in enumerate(features.values()):
        x[~observed.modalities[0, :, i]] = np.nan
    hidden = type(batch)(features, batch.valid, batch.label, batch.id, batch.talk)
    with jax.debug_nans(False):
        other = method_of(name, changed(method.dataset, hidden))
        got = answer(other, params, observed)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", METHODS)
def test_an_answer_depends_on_neither_batch_nor_company(name):
    """A call of another size is another program, so that sums may round differently."""
    method = method_of(name)
    params, observed = untrained(method), some_observed(method)
    expected = answer(method, params, observed)
    other = method_of(name, method.dataset, batch=7)
    np.testing.assert_allclose(answer(other, params, observed), expected, atol=2e-5)
    batch = method.dataset.splits["test"]
    count = 6
    if batch.talk is not None:  # whole conversations
        count = int((batch.talk.conversation == batch.talk.conversation[0]).sum())
    alone = method_of(name, changed(method.dataset, batch.at(np.arange(count))))
    got = answer(alone, params, Observed(observed.modalities[:, :count]))
    np.testing.assert_allclose(got, expected[:, :count], atol=2e-5)


@pytest.mark.parametrize("name", [n for n in METHODS if not registry()[n].draws])
def test_permuted_rows_give_permuted_answers(name):
    """Of methods that draw the noise belongs to a place; `Imputer` keys it by values instead."""
    method = method_of(name)
    if method.dataset.splits["test"].talk is not None:
        pytest.skip("rows of a conversation stand in its order")
    params, observed = untrained(method), some_observed(method)
    expected = answer(method, params, observed)
    order = np.random.default_rng(1).permutation(len(method.dataset.splits["test"]))
    shuffled = changed(method.dataset, method.dataset.splits["test"].at(order))
    got = answer(method_of(name, shuffled), params, Observed(observed.modalities[:, order]))
    np.testing.assert_allclose(got, expected[:, order], atol=2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_new_patterns_compile_nothing(name):
    method = method_of(name)
    params, present = untrained(method), method.dataset.splits["test"].present
    patterns = method.dataset.patterns
    # One, two and three observed modalities: every number of conditions was met.
    answer(method, params, Observed.of_patterns(patterns[[0, 3, -1]], present))
    answer(method, params, Observed.of_patterns(patterns[[1, 5, -1]], present))
    before = Counter()
    answer(method, params, Observed.of_patterns(patterns[[2, 4, -1]], present))
    assert before.programs == 0


@pytest.mark.parametrize("name", TRAINED)
def test_a_stopped_training_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    method = method_of(name)
    whole = train(method, 0, Places(tmp_path / "whole", "x").phase(method.config, 0))
    place, check, count = Places(tmp_path / "cut", "x").phase(method.config, 0), stopping.check, [0]

    def stops():
        count[0] += 1
        if count[0] in (2, 6, 14, 31):
            raise stopping.Stopped("SIGTERM")
        check()

    monkeypatch.setattr(stopping, "check", stops)
    again, stops_so_far = None, 0
    while again is None:
        try:
            again = train(method, 0, place)
        except stopping.Stopped:
            stops_so_far += 1
    assert stops_so_far >= 2
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    for title, curves in whole.history.items():
        assert again.history[title]["valid"] == curves["valid"]


@pytest.mark.parametrize("name", SERVED)
def test_served_exported_and_evaluated_answers_agree(name, tmp_path):
    """With everything observed nothing is drawn, so that all three say the same."""
    with jax.debug_nans(False):  # a single draw has no spread
        check_answers_agree(method_of(name), tmp_path)


def test_a_small_set_s_fusion_is_served_and_exported(tmp_path):
    """`configs/auto.py` takes it for hundreds of utterances."""
    config = config_of("two_stage")
    config = dataclasses.replace(
        config, fusion=dataclasses.replace(config.fusion, network="pooled")
    )
    dataset = dataset_of(config.data, config.task)
    with jax.debug_nans(False):
        check_answers_agree(registry()["two_stage"](config, dataset, Reporter()), tmp_path)


def check_answers_agree(method, tmp_path) -> None:
    params, batch = untrained(method), method.dataset.splits["test"]
    publish(method, params, 0, tmp_path / "model", "x")
    imputer = Imputer.load(tmp_path / "model", batch=16)
    talk = {}
    if batch.talk is not None:
        talk = {"conversation": batch.talk.conversation, "speaker": batch.talk.speaker}
        talk |= {"position": batch.talk.position}
    elif method.sees == "conversations":
        talk = {"conversation": batch.id}
    served = imputer.predict(dict(batch.features), draws=1, **talk)
    assert np.isfinite(served.mean).all()
    complete = Observed.of_patterns(method.dataset.patterns[-1:], batch.present)
    if imputer.signature["predictor"] not in ("complete",):
        expected = answer(method, params, complete, 1)[0, :, 0]
        np.testing.assert_allclose(served.mean, expected, atol=3e-4)
    export(imputer, tmp_path / "model.mmdjax", draws=1)
    if talk:
        return  # tests/end_to_end/test_served_conversations.py
    exported = load(tmp_path / "model.mmdjax")(dict(batch.features))
    np.testing.assert_allclose(exported["mean"], served.mean, atol=2e-5)
    hidden = dict(batch.features)
    hidden[method.modalities[0]] = None
    one, other = imputer.predict(hidden, draws=1), load(tmp_path / "model.mmdjax")(hidden)
    np.testing.assert_allclose(other["mean"], one.mean, atol=2e-5)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", [n for n in METHODS if registry()[n].sees == "utterances"])
def test_every_method_has_every_metric_of_every_task(name, labels):
    if name == "bayes_alone":
        pytest.skip("conversations have sentiment")
    method = method_of(name, labels=labels)
    optimum = method_of("bayes", method.dataset, labels)
    conditions = conditions_of(method.dataset, method.config.evaluation, 0)[-3:]
    rows = evaluate([Member(name, method, untrained(method), 2)], conditions, 0)[name]
    rows = rows + evaluate([Member("best", optimum, {}, 1)], conditions, 0)["best"]
    rows = with_regrets(rows, method.task)
    for condition in conditions:
        values = {
            r["metric"]: r["value"]
            for r in rows
            if r["system"] == name and r["protocol"] == condition.protocol
            and r["condition"] == condition.name
        }  # fmt: skip
        assert set(method.task.metric_names) <= set(values)
        assert all(np.isfinite(values[m]) for m in method.task.metric_names)
    assert isinstance(method.task, tuple(tasks.KINDS.values()))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    cls = registry()[name]
    assert cls.name == name and cls.label and cls.sees in ("utterances", "conversations")
    assert cls.__doc__ and cls.__module__.startswith("mmdjax.methods.")
    method = method_of(name)
    names = [phase.name for phase in method.phases]
    assert len(set(names)) == len(names)
    assert set(method.completes[1:]) - set(names) <= {
        text for text in method.completes if "." in text or hasattr(method.config, text)
    }
    systems = systems_of(method.config)
    assert systems[0].method is cls and len({s.name for s in systems}) == len(systems)
