"""The benchmark of divisions of a set: its splits, its machines, its tables and figure."""

import numpy as np

from benchmarks import common, divisions, real


def test_every_utterance_is_tested_on_once_and_never_trained_on_then():
    splits = np.array([divisions.divided(203, n) for n in range(divisions.DIVISIONS)])
    np.testing.assert_array_equal((splits == "test").sum(0), 1)
    assert ((splits == "valid").sum(1) >= 25).all()
    assert set(np.unique(splits)) == {"train", "valid", "test"}


def test_machines_see_what_a_pattern_shows_and_nothing_of_the_test():
    rng, n = np.random.default_rng(0), 240
    label = rng.integers(0, 2, n)
    told = label[:, None] + 0.01 * rng.normal(size=(n, 2))
    blind = rng.normal(size=(n, 3))
    blind[::7] = np.nan
    split = divisions.divided(n, 0)
    scores = divisions.machines({"told": told, "blind": blind}, label, split)
    assert scores[0] < 0.75 and scores[1] == 1.0 and scores[2] > 0.9  # blind, told, both
    other = np.where(split == "test", 1 - label, label)
    np.testing.assert_allclose(
        divisions.machines({"told": told, "blind": blind}, other, split), 1 - np.array(scores)
    )
    value = told[:, 0] + 0.1 * rng.normal(size=n)
    assert divisions.machines({"told": told}, value, split)[0] > 0.9


def test_differences_are_paired_by_division():
    runs = [{"model": 0.5 + n, divisions.MACHINES: 0.4 + n} for n in range(divisions.DIVISIONS)]
    (name, values, ahead), (last, *_) = divisions.compared(runs)
    assert (name, last) == ("model", divisions.MACHINES)
    np.testing.assert_allclose(ahead, 0.1)
    np.testing.assert_allclose(values, [0.5, 1.5, 2.5, 3.5])
    figure = divisions.picture(runs, real.tables.metric("corr"))
    assert len(figure.axes[0].lines) == divisions.DIVISIONS


def test_divisions_are_of_all_utterances_of_a_file(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "file.npz"
    split = np.array(["train"] * 6 + ["valid"] * 2 + ["test"] * 2)
    vision = rng.normal(size=(10, 33))
    vision[3] = np.nan
    sizes = {"language": 768, "acoustic": 39}
    features = {m: rng.normal(size=(10, c)) for m, c in sizes.items()} | {"vision": vision}
    np.savez(path, **features, label=rng.normal(size=10), split=split)
    data = common.config_of("mosei_video", name="file", path=str(path)).data
    found, label = divisions.utterances(data)
    assert {m: x.shape[0] for m, x in found.items()} == dict.fromkeys(features, len(label))
    assert np.isnan(found["vision"]).all(1).sum() == 1 and len(label) == 10
