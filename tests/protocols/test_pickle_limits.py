"""What a pickle may nest and look up: each limit holds however its content is put together."""

import pickle

import numpy as np
import pytest

from mmdjax.data.formats import pickle_process, safe_pickle
from tests.protocols.attacks import from_outside, nested_objects
from tests.protocols.test_safe_pickle import refusal


def sixteenths(levels: int):
    """A tuple of sixteen parts, each of sixteen, in a few bytes for each level."""
    key = 1
    for _ in range(levels):
        key = (key,) * 16
    return key


def saved(content, path):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 4))
    return path


@pytest.mark.parametrize("order", [nested_objects, from_outside])
def test_arrays_of_objects_are_nested_eight_deep_at_most(order, tmp_path):
    assert "arrays of objects" in refusal(saved(order(20), tmp_path / "deep.pkl"))


def test_an_array_that_others_hold_has_its_content_before(tmp_path):
    inner = np.array([None, 1], object)
    outer = np.empty(2, object)
    outer[:] = [inner, inner]
    found = safe_pickle.load(saved([outer, inner], tmp_path / "shared.pkl"))
    assert found[0][0] is found[0][1] is found[1]
    inner[0] = outer  # now it holds itself
    assert "arrays of objects" in refusal(saved(outer, tmp_path / "itself.pkl"))


def test_keys_that_take_long_to_hash_or_compare_are_refused(tmp_path):
    assert "64 parts" in refusal(saved({sixteenths(2): 1}, tmp_path / "parts.pkl"))
    assert "64 parts" in refusal(saved({("a", sixteenths(2))}, tmp_path / "set.pkl"))
    assert "65536 characters" in refusal(saved({"x" * 70000: 1}, tmp_path / "text.pkl"))
    plain = {sixteenths(1): 1, ("a", (2, 3.5)): "x" * 70000, "x" * 60000: b"y"}
    assert safe_pickle.load(saved(plain, tmp_path / "plain.pkl")) == plain


def test_containers_are_nested_32_deep_however_they_are_met(tmp_path):
    inside, met = [1], []
    for _ in range(5):
        for _ in range(20):
            inside = [inside]
        met.append(inside)  # each is met before the deeper one that holds it
    pickle_process.load(saved(met[:1], tmp_path / "shallow.pkl"))
    assert "nested more than 32" in refusal(saved(met, tmp_path / "a.pkl"), pickle_process.load)
