"""Whose a work directory is, and what of it is used again."""

import dataclasses
import json

import pytest

from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.runtime.files import locked
from mmdjax.workdir import CONTENT, DERIVED, opened

CONFIG = configs.Config()
CHANGED = dataclasses.replace(CONFIG, rounds=2)


def of_file(path: str) -> configs.Config:
    data = configs.Data("mmsa", path, ("text:text", "audio:audio"))
    return dataclasses.replace(CONFIG, data=data)


def test_what_changes_only_how_a_run_goes_may_change(tmp_path):
    with opened(tmp_path, CONFIG, "data") as places:
        before = places.phases(CONFIG, 0)("score"), places.system(CONFIG)
    other = dataclasses.replace(CONFIG, mesh=configs.Mesh(1), keep_last=5, save_seconds=1.0)
    with opened(tmp_path, other, "data") as places:
        assert (places.phases(other, 0)("score"), places.system(other)) == before
    assert json.loads((tmp_path / "config.json").read_text())["keep_last"] == 5


def test_the_same_data_at_another_place_go_on_and_other_data_do_not(tmp_path):
    with opened(tmp_path, of_file("here.pkl"), "one") as places:
        before = places.phases(of_file("here.pkl"), 0)("score")
    with opened(tmp_path, of_file("there.pkl"), "one") as places:
        assert places.phases(of_file("there.pkl"), 0)("score") == before
    with (
        pytest.raises(UserError, match=f"{CONTENT}: 'one' there, 'two' given"),
        opened(tmp_path, of_file("there.pkl"), "two"),
    ):
        pass
    with opened(tmp_path, of_file("there.pkl"), "two", force=True) as places:
        assert places.phases(of_file("there.pkl"), 0)("score") != before


def test_force_forgets_what_depends_on_the_config_and_keeps_checkpoints(tmp_path):
    with opened(tmp_path, CONFIG, "data"):
        for name in ("masks", "systems", "figures", "model", "checkpoints"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "one").write_text("")
        for name in ("results.json", "draw_costs.json", "report.md", "report.html"):
            (tmp_path / name).write_text("")
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


def test_a_lock_is_held_by_one_and_let_go_of(tmp_path):
    with (
        locked(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="process"),
        locked(tmp_path / "lock"),
    ):
        pass
    with locked(tmp_path / "lock"):
        pass
