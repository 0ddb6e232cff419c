"""Which systems may share a phase of training: those that agree on all that it reads."""

import dataclasses

import pytest

from mmdjax import config as configs
from mmdjax.config.systems import changed
from mmdjax.errors import UserError
from mmdjax.methods.phases import UNREAD, fingerprint

VALUES = configs.to_dict(configs.Config())
# A change -> the phases that have to be done again for it.
REDONE = {
    "data.seed=1": set(UNREAD),
    "latents.dropout=0.1": set(UNREAD),
    "fusion.layers=2": set(UNREAD),
    "classifier_training.epochs=3": set(UNREAD) - {"imder"},
    "score.width=64": {"score", "completions", "draws", "imder"},
    "score_training.epochs=3": {"score", "completions", "draws"},
    "diffusion.sde=ve": {"score", "completions", "draws", "imder"},
    "diffusion.unconditional=0.1": {"score", "completions", "draws", "imder"},
    "diffusion.sampler=heun": {"completions", "draws", "imder"},
    "diffusion.nfe=8": {"completions", "draws", "imder"},
    "diffusion.coupling=independent": {"completions", "draws", "imder"},
    "rounds=2": {"completions", "draws", "zero", "mean"},
    "training_rate=0.5": {"completions", "draws", "zero", "mean"},
    "stage2_training.epochs=3": {"draws", "zero", "mean"},
    "decoder.use=False": {"draws", "imder"},
    "decoder.weight=1.0": {"draws", "imder"},
    "imder.faithful=True": {"imder"},
    "imder_training.epochs=3": {"imder"},
    "graph.components=8": set(),
    "evaluation.draws=2": set(),
    "fills=('draws',)": set(),
    "method=imder": set(),
    "seeds=(3,)": set(),
    "title=other": set(),
    "optimise=False": set(),
    "keep_last=5": set(),
    "mesh.fsdp=2": set(),
}


@pytest.mark.parametrize("change", REDONE)
def test_a_phase_is_shared_unless_what_it_reads_differs(change):
    other = changed(VALUES, [change])
    assert {p for p in UNREAD if fingerprint(VALUES, p) != fingerprint(other, p)} == REDONE[change]


def test_a_phase_of_gsdnet_reads_its_graphs_and_not_its_evaluation():
    values = VALUES | {"method": "gsdnet"}
    names = ("graph.components=8", "score.width=64", "evaluation.draws=2", "mesh.data=1")
    changes = [fingerprint(changed(values, [c]), "score_spectral") for c in names]
    same = [found == fingerprint(values, "score_spectral") for found in changes]
    assert same == [False, False, True, True]


def test_every_group_of_the_config_is_tried():
    tried = {change.partition("=")[0].split(".")[0] for change in REDONE}
    groups = {field.name for field in dataclasses.fields(configs.Config)}
    assert groups - tried == {"save_seconds", "comparison"}


def test_changes_read_like_flags():
    given = ["diffusion.nfe=8", "fills=('zero',)", "score.network=unet", "diffusion.guidance=2"]
    config = configs.from_dict(changed(VALUES, [*given[:3], "decoder.use=False"]))
    assert (config.diffusion.nfe, config.fills, config.score.network) == (8, ("zero",), "unet")
    assert config.decoder.use is False
    assert changed(VALUES, given)["diffusion"]["guidance"] == 2
    assert configs.to_dict(configs.Config()) == VALUES  # untouched


@pytest.mark.parametrize("change", ["diffusion.steps=3", "nothing=1", "title.x=1", "diffusion"])
def test_a_change_of_what_is_not_there_is_refused(change):
    with pytest.raises(UserError, match=r"names no field|is not a group"):
        configs.from_dict(changed(VALUES, [change]))
