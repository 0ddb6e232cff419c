"""A served model of conversations: arrays, .npz files, the exported file."""

import csv

import jax
import numpy as np
import pytest

import mmdjax
from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.errors import UserError
from mmdjax.methods.method import of_name
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import files, loader
from mmdjax.serving.bundle import publish
from mmdjax.serving.calls import programs
from mmdjax.serving.export import export
from mmdjax.types import Observed
from tests.conftest import TINY_CONVERSATIONS

TRAINING = {"epochs": 2, "batch": 12}
SMALL = TINY_CONVERSATIONS | {
    "method": "gsdnet",
    "optimise": False,
    "data": {"name": "synthetic_conversations", "train": 24, "valid": 6, "test": 8},
    "task": {"kind": "regression", "low": -3.0, "high": 3.0},
    "score": {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "time_features": 8},
    "diffusion": {"recipe": "", "sampler": "ddim", "nfe": 2},
    "evaluation": {"draws": 2, "batch": 16},
    "classifier_training": TRAINING,
    "score_training": TRAINING,
    "stage2_training": TRAINING,
}


pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield


def untrained(config, folder):
    """A method with random parameters, and its published model."""
    dataset = pipeline.dataset(config.data, config.task)
    method, params = of_name(config.method)(config, dataset, Reporter()), {}
    for number, phase in enumerate(method.phases):
        params[phase.name] = phase.init(jax.random.key(number), params)
        # Networks whose last layer starts at 0 would do nothing.
        params[phase.name] = jax.tree.map(lambda a: a + 0.02, params[phase.name])
    publish(method, params, 0, folder / "model" / "seed_0", dataset.content)
    return method, params


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(method and its parameters, imputer, test split, where it stands, what is observed)."""
    workdir = tmp_path_factory.mktemp("model")
    method, params = untrained(configs.from_dict(SMALL), workdir)
    raw = method.dataset.splits["test"]
    talk = raw.talk._asdict()
    rng = np.random.default_rng(0)
    observed = {m: rng.random(len(raw)) < 0.6 for m in raw.features}
    observed["language"] |= ~(observed["acoustic"] | observed["vision"])
    first = talk["conversation"] == talk["conversation"][0]  # lacks nothing
    observed = {m: seen | first for m, seen in observed.items()}
    return (method, params), mmdjax.Imputer.load(workdir, batch=4), raw, talk, observed


def at(tree, rows):
    return {name: a[rows] for name, a in tree.items()}


def test_what_is_observed_comes_back_to_the_last_bit_and_the_rest_is_drawn(served):
    _, imputer, raw, talk, observed = served
    assert imputer.of_conversations and mmdjax.ConversationImputer is mmdjax.Imputer
    filled = imputer.impute(raw.features, observed, draws=3, **talk)
    for m, x in raw.features.items():
        seen, made = observed[m], filled.features[m]
        assert made.shape == (3, *x.shape) and np.isfinite(made).all()
        np.testing.assert_array_equal(filled.drawn[m][:, 0], ~seen)
        for one in made:
            np.testing.assert_array_equal(one[seen], x[seen])
        assert (made[:, ~seen].std(0) > 0).all()
        np.testing.assert_array_equal(filled.spread[m] > 0, ~seen)


def test_hidden_values_order_and_company_change_no_bit(served):
    _, imputer, raw, talk, observed = served
    whole = imputer.impute(raw.features, observed, draws=2, **talk).features
    other = {m: np.where(observed[m][:, None, None], x, 7 - x) for m, x in raw.features.items()}
    hidden = {m: np.where(observed[m][:, None, None], x, np.nan) for m, x in raw.features.items()}
    order = np.random.default_rng(1).permutation(len(raw))
    alone = np.flatnonzero(raw.talk.conversation == raw.talk.conversation[-1])
    trees = (raw.features, observed, talk)
    made = {
        "other": (imputer.impute(other, observed, draws=2, **talk), slice(None)),
        "hidden": (imputer.impute(hidden, draws=2, **talk), slice(None)),
    }
    for name, rows in (("order", order), ("alone", alone)):
        features, seen, about = (at(tree, rows) for tree in trees)
        made[name] = imputer.impute(features, seen, draws=2, **about), rows
    for name, (found, rows) in made.items():
        for m in raw.features:
            np.testing.assert_array_equal(found.features[m], whole[m][:, rows], err_msg=name)


def test_an_utterance_is_drawn_from_its_own_conversation_alone(served):
    _, imputer, raw, talk, _ = served
    features = {m: x.copy() for m, x in raw.features.items()}
    one = raw.talk.conversation == raw.talk.conversation[-1]
    rows = np.flatnonzero(one)
    seen = {m: np.ones(len(raw), bool) for m in features}
    seen["vision"] = ~one
    first = imputer.predict(features, seen, **talk).draws
    features["language"][rows[0]] += 2
    second = imputer.predict(features, seen, **talk).draws
    np.testing.assert_array_equal(first[~one], second[~one])
    assert (first[rows[1]] != second[rows[1]]).all()  # its neighbour


def test_complete_conversations_are_predicted_as_in_the_evaluation(served):
    (method, params), imputer, raw, talk, _ = served
    found = imputer.predict(raw.features, **talk)
    everything = Observed.of_patterns(np.ones((1, 3), bool), raw.present)
    completion = method.complete(params, "test", everything, 1, jax.random.key(0), "")
    chosen = {"stage2": method.predicts, "complete": "gsdnet_classifier"}
    name = chosen[imputer.signature["predictor"]]
    expected = method.predict(params | {method.predicts: params[name]}, "test", completion)
    np.testing.assert_allclose(found.mean, expected[0, :, 0], atol=1e-5)
    assert (found.low < found.mean).all() and (found.mean < found.high).all()


@pytest.mark.parametrize("name", ["gsdnet_mean", "gcnet"])
def test_what_is_not_drawn_is_predicted_as_in_the_evaluation(name, served, tmp_path):
    _, _, raw, talk, observed = served
    config = configs.from_dict(SMALL | {"method": name, "gcnet": {"width": 8, "hidden": 8}})
    method, params = untrained(config, tmp_path)
    masks = np.stack([observed[m] for m in raw.features], -1)
    completion = method.complete(params, "test", Observed(masks[None]), 1, jax.random.key(0), "")
    expected = method.predict(params, "test", completion)
    imputer = mmdjax.Imputer.load(tmp_path, batch=4)
    named = talk | {"speaker": [f"speaker {s}" for s in talk["speaker"]]}
    found = imputer.predict(raw.features, observed, **named)
    np.testing.assert_allclose(found.mean, expected[0, :, 0], atol=1e-5)
    assert found.draws.shape == (len(raw), 1)
    filled = imputer.impute(raw.features, observed, draws=2, **named)
    for m, made in filled.features.items():
        np.testing.assert_array_equal(
            made[:, observed[m]], np.stack([raw.features[m]] * 2)[:, observed[m]]
        )
        assert np.isfinite(made).all() and (made[0] == made[1]).all()


def test_later_calls_of_any_number_of_conversations_compile_nothing(served):
    _, imputer, raw, talk, _ = served
    imputer.predict(raw.features, **talk)
    compiled = programs(imputer.route)[1]._cache_size()
    for one in np.unique(raw.talk.conversation)[:3]:
        rows = raw.talk.conversation == one
        imputer.predict(at(raw.features, rows), **at(talk, rows))
    assert programs(imputer.route)[1]._cache_size() == compiled


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conversation": None}, "conversation is missing; allowed: a name for each utterance"),
        ({"speaker": ["A"]}, "speaker: 1 of them; allowed: 5"),
        ({"speaker": ["A", None, "B", "C", "D"]}, "speaker of utterance 1 is None; allowed"),
        ({"speaker": [0, 1, np.nan, 1, 1]}, "speaker of utterance 2 is nan; allowed"),
        ({"conversation": [["a"], "b", "c", "d", "e"]}, "conversation of utterance 0 is"),
        ({"position": [np.nan] * 5}, "not finite.*allowed: finite numbers"),
        ({"position": [0, 1, 2, 3, 1e39]}, "not finite.*allowed: finite numbers"),
        ({"position": [1.7e9 + i for i in range(5)]}, "less than float32 tells"),
        ({"position": list("abcde")}, "position is not made of numbers"),
        ({"conversation": ["c"] * 20}, "'c' has 20 utterances; allowed: at most 16"),
    ],
)
def test_what_is_no_conversation_is_refused_in_one_line(change, said, served):
    _, imputer, raw, _, _ = served
    size = len(next(iter(change.values())) or [0] * 5)
    size = 5 if size == 1 else size
    about = {"conversation": ["a"] * size} | change
    with pytest.raises(UserError, match=said) as error:
        imputer.predict({m: x[:size] for m, x in raw.features.items()}, **about)
    assert "\n" not in str(error.value)


def test_what_is_no_request_is_refused_in_one_line(served):
    _, imputer, raw, talk, _ = served
    wrong = ((slice(0), 2, "0 utterances are given"), (slice(9), 2.0, "draws = 2.0"))
    for rows, draws, said in wrong:
        with pytest.raises(UserError, match=said):
            imputer.predict(at(raw.features, rows), draws=draws, **at(talk, rows))


def test_it_is_trained_on_arrays_in_memory(served, tmp_path):
    _, _, raw, talk, _ = served
    config = configs.from_dict(SMALL)
    fitted = mmdjax.Imputer(config, batch=4)
    fitted.fit(raw.features, raw.label, tmp_path, **talk)
    found = fitted.predict(raw.features, draws=2, **talk)
    assert np.isfinite(found.mean).all() and found.draws.shape == (len(raw), 2)
    again = mmdjax.Imputer.load(tmp_path, batch=4)
    np.testing.assert_array_equal(again.predict(raw.features, draws=2, **talk).mean, found.mean)
    with pytest.raises(UserError, match="conversation is missing"):
        mmdjax.Imputer(config).fit(raw.features, raw.label)
    frames = {m: np.concatenate([x] * 3, 1) for m, x in raw.features.items()}
    for given, label, said in (
        (frames, raw.label, "3 frames; allowed"),
        (raw.features, ["good"] * len(raw), "labels of dtype .*allowed: a number"),
        (raw.features, raw.label + 9, "features and labels: utterance '.*allowed: a number from"),
    ):
        with pytest.raises(UserError, match=said):
            fitted.fit(given, label, **talk)


def test_npz_of_conversations_comes_back_filled(served, tmp_path):
    _, imputer, raw, talk, observed = served
    features = {m: np.where(observed[m][:, None, None], x, np.nan) for m, x in raw.features.items()}
    about = {"id": raw.id, "video": raw.talk.conversation, "speaker": raw.talk.speaker}
    about |= {"position": raw.talk.position}
    np.savez(tmp_path / "in.npz", **features, **about)
    counts = files.impute(imputer, tmp_path / "in.npz", tmp_path / "out.npz", seed=3)
    gaps = ~np.all(list(observed.values()), axis=0)
    assert counts == {"utterances": len(raw), "completed": gaps.sum(), "empty": 0, "long": 0}
    expected = imputer.impute(raw.features, observed, seed=3, **talk)
    with np.load(tmp_path / "out.npz") as made:
        for m in features:
            np.testing.assert_array_equal(made[m], expected.features[m])
            np.testing.assert_array_equal(made[f"{m}_drawn"][:, 0], ~observed[m])
    nothing = at(features | about, slice(0, 0))
    np.savez(tmp_path / "empty.npz", **nothing)
    counts = files.predict(imputer, tmp_path / "empty.npz", tmp_path / "empty.csv")
    assert counts == {"utterances": 0, "completed": 0, "empty": 0, "long": 0}
    np.savez(tmp_path / "none.npz", **features, id=raw.id)
    order = np.arange(len(raw))
    order[[0, len(raw) // 2]] = order[[len(raw) // 2, 0]]
    np.savez(tmp_path / "cut.npz", **at(features, order), **at(about, order))
    np.savez(tmp_path / "when.npz", **features, **about | {"position": raw.id})
    long = {"conversation": np.full(len(raw), "c")}
    np.savez(tmp_path / "long.npz", **features, **long)
    for name, said in (
        ("none", "no conversations, by which"),
        ("cut", "is interrupted"),
        ("when", "key 'position'"),
        ("long", f"'c' has {len(raw)} utterances; allowed: at most 16"),
    ):
        with pytest.raises(UserError, match=said):
            files.predict(imputer, tmp_path / f"{name}.npz", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_exported_file_answers_as_the_model_it_was_made_of(served, tmp_path):
    """A row is a conversation, a frame an utterance; padded arrays, and lists without padding."""
    _, imputer, raw, talk, observed = served
    about = export(imputer, tmp_path / "m.mmdjax", draws=2, platforms=("cpu",))
    assert (
        about["beside"] == ["speaker", "position"]
        and [m["frames"] for m in about["modalities"]] == [16] * 5
    )
    model = loader.load(tmp_path / "m.mmdjax", batches=(4,))
    starts = np.flatnonzero(talk["conversation"][1:] != talk["conversation"][:-1]) + 1
    rows, whole = np.split(np.arange(len(raw)), starts), {}
    columns = {m: x[:, 0] for m, x in raw.features.items()}
    columns["speaker"] = raw.talk.speaker[:, None].astype(np.float32)
    for m, x in columns.items():
        seen = observed.get(m, np.ones(len(raw), bool))[:, None]
        whole[m] = [np.where(seen, x, np.nan)[r] for r in rows]
    found = model(whole, seed=5)
    mean = imputer.predict(raw.features, observed, draws=2, seed=5, **talk).mean
    made = imputer.impute(raw.features, observed, draws=2, seed=5, **talk)
    for place, r in enumerate(rows):
        np.testing.assert_allclose(found["mean"][place, : len(r)], mean[r], atol=1e-5)
        assert np.isnan(found["mean"][place, len(r) :]).all()
        for m in raw.features:
            own = found["features"][m][place]
            np.testing.assert_allclose(own[:, : len(r)], made.features[m][:, r, 0], atol=1e-4)
            np.testing.assert_array_equal(found["drawn"][m][place, : len(r)], ~observed[m][r])
    padded = {}
    for m, parts in whole.items():
        padded[m] = np.zeros((len(rows), 16, parts[0].shape[1]), np.float32)
        for row, part in zip(padded[m], parts, strict=True):
            row[: len(part)] = part
    np.testing.assert_array_equal(model(padded, seed=5)["mean"], found["mean"])
    order = [np.random.default_rng(i).permutation(len(r)) for i, r in enumerate(rows)]
    mixed = whole | {"position": [np.arange(len(r), dtype=np.float32)[:, None] for r in rows]}
    mixed = {m: [x[o] for x, o in zip(parts, order, strict=True)] for m, parts in mixed.items()}
    again = model(mixed, seed=5)["mean"]
    for place, o in enumerate(order):
        np.testing.assert_allclose(again[place, : len(o)], found["mean"][place][o], atol=1e-5)


def test_an_utterance_of_which_nothing_is_observed_keeps_its_place(served, tmp_path):
    """In a file, in the Imputer without it, and in the exported model: its neighbours do not move
    together."""
    _, imputer, raw, _, _ = served
    rows = np.arange(9)
    features = {m: x[rows].copy() for m, x in raw.features.items()}
    for x in features.values():
        x[4] = np.nan
    features["vision"][6] = np.nan
    kept = rows[rows != 4]
    about = {"conversation": np.full(8, "c"), "position": kept}
    expected = imputer.predict(at(features, kept), seed=2, **about).mean
    np.savez(tmp_path / "in.npz", **features, conversation=np.full(9, "c"))
    files.predict(imputer, tmp_path / "in.npz", tmp_path / "out.csv", seed=2)
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [line["prediction"] for line in csv.DictReader(file)]
    assert found[4] == ""
    np.testing.assert_allclose([float(found[i]) for i in kept], expected, rtol=1e-4)
    export(imputer, tmp_path / "m.mmdjax", platforms=("cpu",))
    model = loader.load(tmp_path / "m.mmdjax", batches=(4,))
    mean = model({m: x[None, :, 0] for m, x in features.items()}, seed=2)["mean"][0]
    np.testing.assert_allclose(mean[kept], expected, atol=1e-5)
    assert np.isnan(mean[[4, *range(9, 16)]]).all()


def test_the_exported_file_refuses_what_it_cannot_read(served, tmp_path):
    _, imputer, raw, _, _ = served
    export(imputer, tmp_path / "m.mmdjax", platforms=("cpu",))
    model = loader.load(tmp_path / "m.mmdjax", batches=(4,))
    x = raw.features["language"][None, :5, 0]
    speaker = np.zeros((1, 5, 1))
    for given, said in (
        ({"speaker": speaker}, "nothing observed"),
        ({"language": x, "position": speaker + 1e39}, "inf"),
        ({"language": [x[0], x[0]], "speaker": speaker}, "as many of each"),
        ({"language": x, "speaker": [np.full((5, 1), "Ann")]}, "could not convert"),
    ):
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=said):
            model(given)
