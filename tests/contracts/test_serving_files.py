"""Files that come back completed, and predictions from files."""

import csv
import hashlib
import pickle

import jax
import numpy as np
import pytest

import mmdjax
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
from mmdjax.serving import files

from .tiny_models import NAMES, make, nan_says_missing  # noqa: F401


@pytest.fixture(scope="module")
def imputer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    jax.config.update("jax_disable_most_optimizations", True)
    make(folder, 0.5)
    yield mmdjax.Imputer.load(folder, batch=8)
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def features():
    """Nine utterances; 0 to 2 lack vision, 3 some frames of acoustic, 8 everything."""
    made = {m: x.copy() for m, x in synthetic.read(1, 1, 9, 0)["test"].features.items()}
    made["vision"][:3] = 0
    made["acoustic"][3, 2:5] = np.nan
    for x in made.values():
        x[8] = 0
    return made


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_pickle_comes_back_with_its_gaps_filled_and_nothing_else_changed(
    imputer, features, tmp_path
):
    part = features | {"regression_labels": np.zeros(9, np.float32), "raw_text": ["a"] * 9}
    tree = {"train": part, "valid": {k: v[4:7] for k, v in part.items()}, "test": part}
    source, output = tmp_path / "gaps.pkl", tmp_path / "filled.pkl"
    source.write_bytes(pickle.dumps(tree))
    before = digest(source)
    counts = files.impute(imputer, source, output)
    assert (
        counts == {"utterances": 21, "completed": 8, "empty": 2, "long": 0}
        and digest(source) == before
    )
    made = pickle.loads(output.read_bytes())
    for split, given in tree.items():
        assert made[split]["raw_text"] == given["raw_text"]
        for m in NAMES:
            drawn = made[split][f"{m}_drawn"]
            assert drawn.shape == given[m].shape[:2] and drawn.dtype == bool
            np.testing.assert_array_equal(made[split][m][~drawn], given[m][~drawn])
            assert np.isfinite(made[split][m]).all() and made[split][m].dtype == given[m].dtype
    test = made["test"]
    assert test["vision_drawn"].sum(1).tolist() == [10, 10, 10, 0, 0, 0, 0, 0, 0]
    assert np.flatnonzero(test["acoustic_drawn"][3]).tolist() == [2, 3, 4]
    assert (test["vision"][:3] != 0).all() and not made["valid"]["vision_drawn"].any()
    with pytest.raises(UserError, match="exists"):
        files.impute(imputer, source, output)
    assert {p.name for p in tmp_path.iterdir()} == {"gaps.pkl", "filled.pkl"}


def test_keys_that_a_file_calls_otherwise_are_named(imputer, features, tmp_path):
    np.savez(tmp_path / "gaps.npz", **features)
    other = {{"vision": "camera"}.get(m, m): x for m, x in features.items()}
    np.savez(tmp_path / "renamed.npz", **other)
    files.impute(imputer, tmp_path / "gaps.npz", tmp_path / "a.npz")
    names = {"vision": "camera"}
    files.impute(imputer, tmp_path / "renamed.npz", tmp_path / "b.npz", renamed=names)
    made, again = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(again["camera"], made["vision"])
    np.testing.assert_array_equal(again["camera_drawn"], made["vision_drawn"])
    assert set(again) == {name.replace("vision", "camera") for name in made}
    for names, told in (({"smell": "nose"}, "'smell'"), ({"vision": "lens"}, "'lens'.*camera")):
        with pytest.raises(UserError, match=told):
            files.predict(imputer, tmp_path / "renamed.npz", tmp_path / "c.csv", renamed=names)


def test_numbers_of_a_frame_that_lacks_some_are_kept_bit_for_bit(imputer, features, tmp_path):
    features = {m: x.astype(np.float64) / 3 for m, x in features.items()}  # not float32's
    features["acoustic"][3, 2:5] = 0.1
    features["acoustic"][3, 2:5, 0] = np.nan
    filled = imputer.impute(features, draws=2)
    assert filled.drawn["acoustic"][3, 2:5].all()
    kept = features["acoustic"][3, 2:5, 1:].astype(np.float32)
    for x in filled.features["acoustic"][:, 3, 2:5]:
        np.testing.assert_array_equal(x[:, 1:], kept)
        assert np.isfinite(x[:, 0]).all()
    assert (filled.spread["acoustic"][3] > 0) and np.isfinite(filled.spread["acoustic"][3])
    np.savez(tmp_path / "gaps.npz", **features)
    files.impute(imputer, tmp_path / "gaps.npz", tmp_path / "filled.npz", draws=3)
    made = np.load(tmp_path / "filled.npz")
    for m, x in features.items():
        here = np.isfinite(x) & (
            np.isnan(x).any(-1, keepdims=True) | ~made[f"{m}_drawn"][..., None]
        )
        np.testing.assert_array_equal(made[m][here], x[here])
        assert np.isfinite(made[m]).all()


def test_what_is_drawn_does_not_depend_on_the_rest_of_the_file(imputer, features, tmp_path):
    np.savez(tmp_path / "all.npz", **features)
    np.savez(tmp_path / "one.npz", **{m: x[2:3] for m, x in features.items()})
    for name in ("all", "one"):
        files.impute(imputer, tmp_path / f"{name}.npz", tmp_path / f"{name}_filled.npz")
    whole, one = (np.load(tmp_path / f"{name}_filled.npz") for name in ("all", "one"))
    np.testing.assert_array_equal(whole["vision"][2], one["vision"][0])


def test_what_a_file_says_is_not_observed_is_drawn_and_its_lengths_are_kept(
    imputer, features, tmp_path
):
    observed = np.ones((9, 8), bool)
    observed[4, 1:3] = False
    lengths = np.full(9, 8)
    lengths[5] = 4
    about = {"language_observed": observed, "language_lengths": lengths}
    about |= {"vision_observed": np.arange(9) != 6}
    np.savez(tmp_path / "gaps.npz", **features, **about)
    files.impute(imputer, tmp_path / "gaps.npz", tmp_path / "filled.npz", draws=3)
    made = np.load(tmp_path / "filled.npz")
    assert np.flatnonzero(made["language_drawn"][4]).tolist() == [1, 2]
    assert not made["language_drawn"][5].any() and made["vision_drawn"][6].all()
    assert (made["language_spread"] > 0).tolist() == (np.arange(9) == 4).tolist()


def test_a_missing_file_of_a_folder_is_made(imputer, features, tmp_path):
    source = tmp_path / "in"
    for m, x in features.items():
        (source / m).mkdir(parents=True)
        for row in range(8):
            if m != "vision" or row > 2:
                np.save(source / m / f"u{row}.npy", x[row, : 4 + row % 3])
    files.impute(imputer, source, tmp_path / "out")
    made = np.load(tmp_path / "out" / "vision" / "u0.npy")
    assert np.load(tmp_path / "out" / "vision_drawn" / "u0.npy").all()
    # The longest that is observed has a half of its model's frames: so has this.
    assert made.shape == (5, 6) and np.isfinite(made).all()
    assert not (source / "vision" / "u0.npy").exists()
    kept = np.load(tmp_path / "out" / "language" / "u1.npy")
    np.testing.assert_array_equal(kept, features["language"][1, :5])


def test_predictions_are_a_line_an_utterance(imputer, features, tmp_path):
    np.savez(tmp_path / "gaps.npz", **features, id=np.array([f"video${i}" for i in range(9)]))
    files.predict(imputer, tmp_path / "gaps.npz", tmp_path / "found.csv", draws=2)
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["id"] for r in rows] == [f"video${i}" for i in range(9)]
    assert rows[0]["observed"] == "language+acoustic" and rows[8]["prediction"] == ""
    expected = imputer.predict({m: x[:8] for m, x in features.items()}, draws=2)
    found = np.array([[float(r[k]) for k in ("prediction", "low", "high")] for r in rows[:8]])
    columns = np.stack([expected.mean, expected.low, expected.high], 1)
    np.testing.assert_allclose(found, columns, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vision": np.ones((9, 10, 7))}, ["vision", "10 frames of 7", "at most 10 of 6"]),
        ({"language": np.ones((9, 20, 8))}, ["language", "20 frames", "at most 8"]),
        ({"language": np.full((9, 8, 8), np.inf)}, ["utterance '0'", "inf", "NaN"]),
        (
            {"vision": None, "acoustic": None, "language": None, "other": np.ones((9, 8, 8))},
            ["none of the keys", "'language'", "other"],
        ),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_refused(imputer, features, tmp_path, change, words):
    made = {m: x for m, x in (features | change).items() if x is not None}
    np.savez(tmp_path / "gaps.npz", **made)
    for mode in (files.impute, files.predict):
        with pytest.raises(UserError) as refused:
            mode(imputer, tmp_path / "gaps.npz", tmp_path / "out")
        text = str(refused.value)
        assert all(word in text for word in [*words, "gaps.npz"]) and "\n" not in text, text
    assert [p.name for p in tmp_path.iterdir()] == ["gaps.npz"]


@pytest.mark.parametrize("draws", [1, 2])
def test_a_modality_that_a_file_does_not_hold_is_drawn_and_added(
    imputer, features, tmp_path, draws
):
    there = {m: x for m, x in features.items() if m != "vision"}
    np.savez(tmp_path / "gaps.npz", **there)
    counts = files.impute(imputer, tmp_path / "gaps.npz", tmp_path / "filled.npz", draws=draws)
    assert counts["completed"] == 8 and counts["empty"] == 1
    expected = imputer.impute({m: x[:8] for m, x in there.items()}, draws=draws)
    with np.load(tmp_path / "filled.npz") as made:
        found, drawn = made["vision"], made["vision_drawn"]
        assert ("vision_spread" in made) == (draws > 1)
        for m, x in there.items():
            same = ~np.isnan(x) & ~made[f"{m}_drawn"][..., None]
            np.testing.assert_array_equal(made[m][same], x[same])
    mean = expected.features["vision"].reshape(draws, *found[:8].shape).mean(0)
    np.testing.assert_allclose(found[:8], mean, atol=1e-4)
    np.testing.assert_array_equal(drawn[:8], expected.drawn["vision"])
    assert np.isnan(found[8]).all() and not drawn[8].any()  # nothing of it is observed
    files.predict(imputer, tmp_path / "gaps.npz", tmp_path / "found.csv", draws=2)
    with (tmp_path / "found.csv").open() as file:
        lines = list(csv.DictReader(file))
    answer = imputer.predict({m: x[:8] for m, x in there.items()}, draws=2)
    said = [float(line["prediction"]) for line in lines[:8]]
    np.testing.assert_allclose(said, answer.mean, atol=1e-4)
    assert {line["observed"] for line in lines[:8]} <= {"language", "acoustic", "language+acoustic"}


def test_a_folder_without_a_modality_is_given_one(imputer, features, tmp_path):
    source = tmp_path / "in"
    for m in ("language", "acoustic"):
        (source / m).mkdir(parents=True)
        for row in range(4):
            np.save(source / m / f"u{row}.npy", np.nan_to_num(features[m][row, :4]) + 1)
    files.impute(imputer, source, tmp_path / "out")
    made = np.load(tmp_path / "out" / "vision" / "u0.npy")
    assert made.shape[1] == 6 and np.isfinite(made).all() and (made != 0).any()
    assert not (source / "vision").exists()


def test_a_sequence_that_is_too_long_is_left_as_it_is_and_the_others_are_answered(
    imputer, features, tmp_path
):
    source = folder_of({m: features[m] for m in ("language", "acoustic")}, tmp_path / "in")
    np.save(source / "language" / "u1.npy", np.ones((50, 8), np.float32))
    counts = files.impute(imputer, source, tmp_path / "out")
    assert counts == {"utterances": 2, "completed": 1, "empty": 0, "long": 1}
    assert (tmp_path / "out" / "vision" / "u0.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "language" / "u1.npy"), 1)
    files.predict(imputer, source, tmp_path / "found.csv")
    with (tmp_path / "found.csv").open() as file:
        said = {line["id"]: line["prediction"] for line in csv.DictReader(file)}
    assert said["u0"] and said["u1"] == ""


def folder_of(features, source):
    for m, x in features.items():
        (source / m).mkdir(parents=True)
        for row in range(2):
            np.save(source / m / f"u{row}.npy", np.nan_to_num(x[row, :4]) + 1)
    return source


@pytest.mark.parametrize("target", ["..", ".", "../other", "language", "/"])
def test_a_link_that_leaves_the_folder_is_refused_and_nothing_is_touched(
    imputer, features, tmp_path, target
):
    source = folder_of({m: features[m] for m in ("language", "acoustic")}, tmp_path / "in")
    folder_of(features, tmp_path / "other")
    (source / "vision").symlink_to(target)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.npy")}
    for mode in (files.impute, files.predict):
        if target == "language":  # inside: the same frames are another modality, which do not fit
            with pytest.raises(UserError, match="frames of"):
                mode(imputer, source, tmp_path / "out")
            continue
        with pytest.raises(UserError, match=r"vision.* is a link that leads") as refused:
            mode(imputer, source, tmp_path / "out")
        assert "\n" not in str(refused.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.npy")} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "other"]


def test_a_file_larger_than_the_disk_is_refused_before_it_is_copied(imputer, features, tmp_path):
    source = folder_of(features, tmp_path / "in")
    with (source / "video.raw").open("wb") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(UserError, match=r"holds 1099\.5 GB, and .* are free") as refused:
        files.impute(imputer, source, tmp_path / "out")
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()
    files.predict(imputer, source, tmp_path / "found.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["found.csv", "in"]


def test_a_file_of_no_rows_comes_back(imputer, features, tmp_path):
    none = {"conversation": np.zeros(0, "U3"), "id": np.zeros(0, "U3")}
    np.savez(tmp_path / "none.npz", **{m: x[:0] for m, x in features.items()}, **none)
    counts = files.impute(imputer, tmp_path / "none.npz", tmp_path / "filled.npz")
    assert counts == {"utterances": 0, "completed": 0, "empty": 0, "long": 0}
    with np.load(tmp_path / "filled.npz") as made:
        assert all(made[f"{m}_drawn"].shape == x[:0].shape[:2] for m, x in features.items())
