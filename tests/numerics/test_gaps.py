"""Generators of gaps against their stated laws: rates, runs, correlations, slopes, independence."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mmdjax.data.missing.gaps import GENERATORS, observed_frames
from mmdjax.data.missing.sample_random import philox
from mmdjax.errors import UserError

NAMES = ("language", "acoustic", "vision")
FRAMES = dict(zip(NAMES, (50, 40, 30), strict=True))
CHANCE = 1e-6  # of a right law to fail a test


def everything(size, frames=FRAMES):
    return {m: np.ones((size, t), bool) for m, t in frames.items()}


def labels(size):
    return np.random.default_rng(0).uniform(-3, 3, size)


def draw(name, size=2000, rate=0.3, seed=0, **more):
    return observed_frames(name, everything(size), rate, seed, labels(size), **more)


def assert_rate(missing, rate):
    """Independent indicators with this probability: their number is binomial."""
    low, high = stats.binom.interval(1 - CHANCE, missing.size, rate)
    assert low <= missing.sum() <= high, (missing.mean(), rate)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # of Random123, the authors' own library: kat_vectors
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_random_words_are_those_of_the_published_generator(counter, key, words):
    assert tuple(int(w) for w in philox(counter, key)) == words


@pytest.mark.parametrize("name", GENERATORS)
def test_a_sample_s_mask_depends_on_its_number_and_seed_alone(name):
    valid, y = everything(12), labels(12)
    for m, v in valid.items():
        v[:, FRAMES[m] - 7 :] = np.arange(12)[:, None] % 3 == 0
    whole = observed_frames(name, valid, 0.4, 3, y)
    again = observed_frames(name, valid, 0.4, 3, y)
    rows = np.array([5, 3])
    part = {m: v[rows] for m, v in valid.items()}
    some = observed_frames(name, part, 0.4, 3, y[rows], rows)
    longer = {m: np.pad(v, ((0, 0), (0, 9))) for m, v in valid.items()}
    padded = observed_frames(name, longer, 0.4, 3, y)
    for m in NAMES:
        np.testing.assert_array_equal(again[m], whole[m])
        np.testing.assert_array_equal(some[m], whole[m][rows])
        np.testing.assert_array_equal(padded[m][:, : FRAMES[m]], whole[m])
        assert not (whole[m] & ~valid[m]).any() and not padded[m][:, FRAMES[m] :].any()
    other = observed_frames(name, valid, 0.4, 4, y)
    assert any((other[m] != whole[m]).any() for m in NAMES)
    elsewhere = observed_frames(name, valid, 0.4, 3, y, np.arange(12) + 2**40)
    assert any((elsewhere[m] != whole[m]).any() for m in NAMES)


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("name", GENERATORS)
def test_every_sample_keeps_something_and_rate_zero_hides_nothing(name, rate):
    tiny = {m: np.arange(3) < np.array([[0], [1], [2]] * 300) for m in ("a", "b")}
    tiny["a"][:, 0] = True
    observed = observed_frames(name, tiny, rate, 0, np.zeros(900), **small_groups(name))
    assert np.any([o.any(1) for o in observed.values()], 0).all()
    hidden = [(v & ~observed[m]).any() for m, v in tiny.items()]
    assert any(hidden) == (rate > 0)


def small_groups(name):
    return {"groups": (("a",), ("b",))} if name == "correlated" else {}


def test_gaps_run_over_the_frames_that_exist():
    """Padding in between neither takes part nor is ever observed."""
    valid = {"a": np.tile(np.arange(40) % 2 == 0, (200, 1)), "b": np.ones((200, 4), bool)}
    dense = {"a": np.ones((200, 20), bool), "b": np.ones((200, 4), bool)}
    for name in ("mcar", "burst", "block"):
        spread, packed = (observed_frames(name, v, 0.4, 1) for v in (valid, dense))
        np.testing.assert_array_equal(spread["a"][:, ::2], packed["a"])
        assert not spread["a"][:, 1::2].any()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_single_frames_are_missing_independently_at_the_rate(rate):
    missing = {m: ~o for m, o in draw("mcar", rate=rate).items()}
    for a in missing.values():
        assert_rate(a, rate)
        assert_rate(a[:, 1:] & a[:, :-1], rate**2)
    assert_rate(missing["language"][:, :30] & missing["vision"], rate**2)


def test_single_frames_of_a_higher_rate_hold_those_of_a_lower_one():
    low, high = draw("mcar", rate=0.2), draw("mcar", rate=0.6)
    assert all((low[m] | ~high[m]).all() for m in NAMES)


def test_the_frame_that_is_always_kept_lowers_the_rate_by_what_is_said():
    """With F = 2 frames: rate - rate^2 / 2, for each frame."""
    two = {"a": np.ones((40000, 1), bool), "b": np.ones((40000, 1), bool)}
    for name in ("mcar", "burst"):
        observed = observed_frames(name, two, 0.6, 0)
        for m in two:
            assert_rate(~observed[m], 0.6 - 0.36 / 2)
        assert (observed["a"] | observed["b"]).all()


@pytest.mark.parametrize(("rate", "length"), [(0.1, 3.0), (0.4, 5.0), (0.7, 2.5), (0.5, 1.0)])
def test_bursts_are_stationary_and_geometric_with_the_mean_asked(rate, length):
    size = 4000
    observed = observed_frames("burst", {"a": np.ones((size, 60), bool)}, rate, 0, length=length)
    missing = ~observed["a"]
    for t in (0, 1, 30, 59):
        assert_rate(missing[:, t], rate)
    # The hazard: wherever a run stands, it ends with the next frame with probability 1 / length.
    since = np.zeros(missing.shape, int)
    for t in range(60):
        since[:, t] = np.where(missing[:, t], since[:, t - 1] + 1 if t else 1, 0)
    for age in (1, 2, 3, 4):
        began_inside = since[:, :-1] == age
        began_inside[:, :age] = False  # not known since when
        if began_inside.sum() > 50:
            assert_rate(~missing[:, 1:][began_inside], 1 / length)
    starts = missing[:, 1:][~missing[:, :-1]]
    assert_rate(starts, rate / (length * (1 - rate)))


def test_modalities_have_bursts_of_their_own():
    missing = [~a[:, 7] for a in draw("burst", size=20000, rate=0.3).values()]
    for a, b in itertools.combinations(missing, 2):
        assert_rate(a & b, 0.09)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.8])
def test_a_block_is_one_run_of_exactly_the_share_at_a_uniform_place(rate):
    size = 12000
    lengths = np.arange(size)[:, None] % 20 + 11
    valid = {m: np.arange(30) < lengths for m in ("a", "b")}
    for observed in observed_frames("block", valid, rate, 0).values():
        missing = valid["a"] & ~observed
        share = np.rint(rate * lengths[:, 0])
        np.testing.assert_array_equal(missing.sum(1), share)
        edges = np.diff(missing.astype(int), axis=1, prepend=0, append=0)
        assert ((edges == 1).sum(1) == (share > 0)).all()
        # Among samples of one length every place is equally likely.
        chosen = lengths[:, 0] == 30
        places = int(30 - np.rint(rate * 30) + 1)
        count = np.bincount(missing[chosen].argmax(1), minlength=places)
        assert len(count) == places and stats.chisquare(count).pvalue > CHANCE


def test_a_block_that_would_be_everything_leaves_one_frame():
    valid = {"a": np.arange(3) < np.array([[1], [2], [3]] * 50), "b": np.ones((150, 1), bool)}
    observed = observed_frames("block", valid, 0.95, 0)
    assert (observed["a"].sum(1) + observed["b"].sum(1) == 1).all()


@pytest.mark.parametrize("name", ["mcar", "block"])
def test_the_frame_that_is_kept_is_any_of_the_sample_s(name):
    valid = {"a": np.ones((3000, 2), bool), "b": np.ones((3000, 3), bool)}
    observed = observed_frames(name, valid, 0.999, 0)
    count = np.concatenate([o.sum(0) for o in observed.values()])
    assert stats.chisquare(count).pvalue > CHANCE


@pytest.mark.parametrize("by", ["label", "size"])
@pytest.mark.parametrize("strength", [1.5, -0.7])
def test_the_rate_follows_the_label_with_the_slope_asked_and_averages_to_the_rate(by, strength):
    size, at = 6000, np.array([-2.0, 0.0, 2.0])
    logits, reference = [], np.linspace(-3, 3, 25)
    for y in at:
        given = (np.full(size, y), None)
        settings = {"strength": strength, "by": by, "reference": reference}
        observed = observed_frames("label_dependent", everything(size), 0.3, 0, *given, **settings)
        shares = np.array([(~o.any(1)).mean() for o in observed.values()])
        p = shares.mean() * 3 / 2
        logits.append(np.log(p / (1 - p)))
    size_of = np.abs(at) if by == "size" else at
    expected = strength * (size_of - size_of[0])
    np.testing.assert_allclose(np.array(logits) - logits[0], expected, atol=0.3)
    many = np.repeat(reference, 400)
    given = (everything(len(many)), 0.3, 0, many, None)
    observed = observed_frames("label_dependent", *given, **settings)
    for o in observed.values():
        # Rates that differ between samples: fewer deviations than a binomial of the mean rate.
        assert_rate(~o.any(1), 0.3)


def test_a_mask_does_not_depend_on_other_samples_labels():
    y = labels(50)
    other = np.where(np.arange(50) < 10, y, -y)
    one, two = (observed_frames("label_dependent", everything(50), 0.4, 0, v) for v in (y, other))
    assert all((one[m][:10] == two[m][:10]).all() for m in NAMES)
    assert any((one[m][10:] != two[m][10:]).any() for m in NAMES)


@pytest.mark.parametrize(
    ("name", "rate", "settings", "words"),
    [
        ("fog", 0.3, {}, "gaps 'fog' is unknown; allowed: mcar, burst"),
        ("mcar", 0.3, {"length": 3}, "setting of gaps 'mcar' 'length' .* allowed: none"),
        ("block", 0.3, {"length": 3}, "allowed: none"),
        ("mcar", 1.0, {}, "below 1"),
        ("block", float("nan"), {}, "below 1"),
        ("burst", 0.8, {"length": 2.0}, "allowed: 0 to 0.667"),
        ("burst", 0.3, {"length": 0.5}, "at least 1 frame"),
        ("correlated", 0.6, {"rho": 1.0}, r"groups of \[1, 2\] modalities; allowed: 0 to 0.5$"),
        ("correlated", 0.3, {"rho": 1.2}, "allowed: 0 to 1"),
        ("correlated", 0.3, {"groups": (("smell",),)}, "'smell' .* allowed: language"),
        ("correlated", 0.3, {"groups": (("vision",), ("vision",))}, "twice"),
        ("imbalanced", 0.4, {"rates": (0.4, 0.4)}, "allowed: 3"),
        ("imbalanced", 0.4, {"rates": (0.1, 0.1, 0.1)}, "allowed: their mean, 0.100"),
        ("imbalanced", 0.8, {"rates": (0.8, 0.8, 0.8)}, "their sum at most 2"),
        ("imbalanced", 0.4, {"rates": (-0.1, 0.3, 1.0)}, "each from 0 to 1"),
        ("imbalanced", 0.4, {"spread": 2.0}, "allowed: 0 to 1"),
        ("imbalanced", 0.75, {}, "allowed: 0.0 to 0.667"),
        ("label_dependent", 0.3, {"by": "mood"}, "'mood' .* allowed: label, size"),
        ("label_dependent", 0.3, {"reference": ()}, "empty"),
        ("label_dependent", 0.9, {}, "allowed: 0.0 to 0.667"),
    ],
)
def test_what_is_not_possible_is_refused_with_what_is(name, rate, settings, words):
    with pytest.raises(UserError, match=words):
        draw(name, size=4, rate=rate, **settings)


def test_arrays_that_do_not_fit_are_refused():
    valid = everything(4)
    for more, words in (
        ({"rows": np.arange(3)}, "rows has 3 samples; allowed: 4"),
        ({"label": np.zeros(5)}, "label has 5 samples"),
        ({"rows": np.arange(4) - 1}, "negative"),
    ):
        with pytest.raises(UserError, match=words):
            observed_frames("mcar", valid, 0.3, 0, **more)
    with pytest.raises(UserError, match="without finite labels"):
        observed_frames("label_dependent", valid, 0.3, 0)
    with pytest.raises(UserError, match="sample 2 has no frame"):
        observed_frames("mcar", {"a": np.arange(4)[:, None] != 2}, 0.3, 0)
