"""Whose a work directory is, and what of it is used again."""

import dataclasses
import json
import resource
from pathlib import Path

import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import systems_of
from mmdjax.data.stored import open_npy
from mmdjax.errors import UserError
from mmdjax.methods.latent.phases import SCORE
from mmdjax.runtime import sums
from mmdjax.runtime.files import load_arrays, load_json, locked, save_arrays
from mmdjax.workdir import CONTENT, DERIVED, Places, claim, opened

LIMIT = resource.getrlimit(resource.RLIMIT_FSIZE)
CONFIG = configs.Config()
CHANGED = dataclasses.replace(CONFIG, rounds=2)


def placed(places, config):
    """Where the score networks and the results of a config's first system are."""
    return places.phase(config, 0)("score", SCORE), places.system(systems_of(config)[0])


def of_file(path: str) -> configs.Config:
    data = configs.Data("mmsa", path, modalities=("text:text", "audio:audio", "vision:vision"))
    return dataclasses.replace(CONFIG, data=data)


def test_what_changes_only_how_a_run_goes_may_change(tmp_path):
    with opened(tmp_path, CONFIG, "data") as places:
        before = placed(places, CONFIG)
    other = dataclasses.replace(CONFIG, mesh=configs.Mesh(1), keep_last=5, save_seconds=1.0)
    with opened(tmp_path, other, "data") as places:
        assert placed(places, other) == before
    assert json.loads((tmp_path / "config.json").read_text())["keep_last"] == 5


def test_the_same_data_at_another_place_go_on_and_other_data_do_not(tmp_path):
    with opened(tmp_path, of_file("here.pkl"), "one") as places:
        before = placed(places, of_file("here.pkl"))
    with opened(tmp_path, of_file("there.pkl"), "one") as places:
        assert placed(places, of_file("there.pkl")) == before
    with (
        pytest.raises(UserError, match=f"{CONTENT}: 'one' there, 'two' given"),
        opened(tmp_path, of_file("there.pkl"), "two"),
    ):
        pass
    with opened(tmp_path, of_file("there.pkl"), "two", force=True) as places:
        other = placed(places, of_file("there.pkl"))
        assert all(a != b for a, b in zip(other, before, strict=True))


def test_force_forgets_what_depends_on_the_config_and_keeps_checkpoints(tmp_path):
    with opened(tmp_path, CONFIG, "data"):
        for name in (*DERIVED, "checkpoints"):
            if "." in name:
                (tmp_path / name).write_text("")
            else:
                (tmp_path / name).mkdir()
                (tmp_path / name / "one").write_text("")
    with opened(tmp_path, CONFIG, "data", force=True):
        assert all((tmp_path / name).exists() for name in DERIVED)  # nothing has changed
    with (
        pytest.raises(UserError, match="rounds: 6 there, 2 given"),
        opened(tmp_path, CHANGED, "data"),
    ):
        pass
    with opened(tmp_path, CHANGED, "data", force=True):
        assert not any((tmp_path / name).exists() for name in DERIVED)
        assert (tmp_path / "checkpoints" / "one").exists()


def test_results_of_a_system_do_not_depend_on_its_company():
    """Its name, the other systems and other seeds may change; what it computes may not."""
    places = Places(Path("run"), "data")
    alone = systems_of(CONFIG)[0]
    other = dataclasses.replace(CONFIG, title="x", seeds=(0, 1), systems=("zero",), optimise=False)
    system = {"name": "mine", "changes": ("title=y",)}
    compared = configs.from_dict({"comparison": {"systems": (system,)}})
    for config in (other, compared):
        assert places.system(systems_of(config)[0]) == places.system(alone)
    one_draw = systems_of(dataclasses.replace(CONFIG, systems=("two_stage evaluation.draws=1",)))
    assert len({places.system(s) for s in one_draw}) == 2


def test_a_lock_is_held_by_one_and_let_go_of(tmp_path):
    with (
        locked(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="process"),
        locked(tmp_path / "lock"),
    ):
        pass
    with locked(tmp_path / "lock"):
        pass


def test_a_field_that_a_run_did_not_know_had_its_default(tmp_path):
    """A new method brings options; runs of other methods go on."""
    values = configs.to_dict(configs.Config())
    older = {name: value for name, value in values.items() if name != "mmin"}
    claim(tmp_path, older)
    claim(tmp_path, values)
    with pytest.raises(UserError, match=r"mmin\.width"):
        claim(tmp_path, values | {"mmin": values["mmin"] | {"width": 7}})


def test_arrays_that_do_not_fit_say_which_file(tmp_path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, LIMIT[1]))
    try:
        with pytest.raises(OSError, match="cannot be written") as error:
            save_arrays(tmp_path / "draws.npz", x=np.zeros(10000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, LIMIT)
    assert error.value.filename == str(tmp_path / "draws.npz") and not list(tmp_path.iterdir())


def test_files_of_earlier_versions_have_no_checksum_and_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    (tmp_path / "a.json").write_text('{"rows": [1], "history": {}}')
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.npz")["x"], np.arange(3))
    np.testing.assert_array_equal(open_npy(tmp_path / "a.npy")[:], np.ones((3, 2)))
    assert load_json(tmp_path / "a.json") == {"rows": [1], "history": {}}
    assert not sums.changed(tmp_path)
