"""Which systems may share a phase of training: those that agree on all that it reads."""

import copy
import dataclasses

import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import changed, systems_of
from mmdjax.errors import UserError
from mmdjax.methods.latent import completion
from mmdjax.methods.latent.phases import COMPLETIONS
from mmdjax.methods.method import options_group, registry
from mmdjax.workdir import Places, fingerprint

VALUES = configs.to_dict(configs.Config())

TWO_STAGE = {"classifier", "score", "completions", "draws", "zero", "mean"}
GSDNET = {"gsdnet_classifier", "gsdnet_score", "gsdnet_stage2", "gsdnet_mean"}
MMIN = {"mmin_teacher", "mmin"}
DCCA, DCCAE = {"dcca", "dcca_head"}, {"dccae", "dccae_head"}
OTHERS = {"imder", "modality_dropout", "cra", "shaspec", "gcnet", "mctn", "dicmor"}
ALL = TWO_STAGE | GSDNET | MMIN | DCCA | DCCAE | OTHERS
DRAWS, ON_DRAWS = {"score", "completions", "draws"}, {"completions", "draws"}
# A change -> the phases that have to be done again for it. Phases of methods that are not here may
# read what they like.
REDONE = {
    "data.seed=1": ALL,
    "data.labels=rating": ALL,
    "task.kind=classification": ALL,
    "latents.dropout=0.1": TWO_STAGE | {"imder", "dicmor"},
    "latents.frames=8": TWO_STAGE | {"imder", "dicmor", "mctn"},
    "fusion.layers=2": TWO_STAGE | {"imder", "dicmor"},
    "fusion.told=True": TWO_STAGE | {"imder", "dicmor"},
    "classifier_training.epochs=3": TWO_STAGE | {"dicmor"} | GSDNET - {"gsdnet_score"},
    "score.width=64": DRAWS | {"imder", "gsdnet_score", "gsdnet_stage2"},
    "score.network=unet": DRAWS | {"imder"},
    "score.patch=2": DRAWS | {"imder"},
    "score_training.epochs=3": DRAWS | {"gsdnet_score", "gsdnet_stage2"},
    "diffusion.sde=ve": DRAWS | {"imder", "gsdnet_score", "gsdnet_stage2"},
    "diffusion.weighting=edm": DRAWS | {"imder", "gsdnet_score", "gsdnet_stage2"},
    "diffusion.conditioning=shared": DRAWS | {"imder"},
    "diffusion.unconditional=0.1": DRAWS | {"imder"},
    "diffusion.frame_gaps=0.5": DRAWS | {"imder"},
    "diffusion.recipe=fast-8": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.sampler=heun": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.sampler_options=('eta=0.5',)": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.grid=karras": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.grid_options=('rho=5',)": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.nfe=8": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.prior=matched": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.guidance=2.0": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.coupling=independent": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.dtype=bfloat16": ON_DRAWS | {"imder", "gsdnet_stage2"},
    "diffusion.student=energy": {"imder"},  # of others it names phases of its own
    "student.draws=8": set(),
    "student_training.epochs=3": set(),
    "rounds=2": ON_DRAWS | {"zero", "mean", "gsdnet_stage2"},
    "training_rate=0.5": ON_DRAWS | {"zero", "mean"},
    "stage2_training.epochs=3": {"draws", "zero", "mean", "gsdnet_stage2", "gsdnet_mean"},
    "decoder.use=False": {"draws", "imder", "dicmor"},
    "decoder.weight=1.0": {"draws", "imder", "dicmor"},
    "imder.faithful=True": {"imder"},
    "imder_training.epochs=3": {"imder"},
    "graph.components=8": GSDNET,
    "graph.past=5": GSDNET,
    "graph.basis=time": GSDNET,
    "graph.gcn_width=8": GSDNET - {"gsdnet_score"},
    "graph.dropout=0.1": GSDNET - {"gsdnet_score"},
    "graph.variant=dense": {"gsdnet_score", "gsdnet_stage2"},
    "graph.edge_width=8": {"gsdnet_score", "gsdnet_stage2"},
    "graph.beta=1.0": {"gsdnet_stage2"},
    "graph.published=MOSI": set(),
    "graph.lengths=(64,)": GSDNET | {"gcnet"},
    "gcnet.window=3": {"gcnet"},
    "mctn.cycle=1.0": {"mctn"},
    "dicmor.steps=2": {"dicmor"},
    "modality_dropout.token=False": {"modality_dropout"},
    "cra.faithful=True": {"cra"},
    "shaspec.common=1.0": {"shaspec"},
    "dcca.outputs=8": DCCA,
    "dccae.reconstruction=1.0": DCCAE,
    "mmin.width=8": MMIN,
    "mmin.training.epochs=3": MMIN,
    "evaluation.draws=2": set(),
    "systems=('zero',)": set(),
    "method=imder": set(),
    "seeds=(3,)": set(),
    "title=other": set(),
    "optimise=False": set(),
    "keep_last=5": set(),
    "save_seconds=1.0": set(),
    "mesh.fsdp=2": set(),
}


@pytest.fixture(scope="module")
def reads(tiny_method) -> dict[str, tuple[str, ...]]:
    """Name -> what is read, of the phases of every method and of what is made once and kept."""
    found = {completion.NAME: COMPLETIONS}
    for name in registry():
        for phase in tiny_method(name).phases:
            # Methods share a phase of the same name, so it has to read the same.
            assert set(found.setdefault(phase.name, phase.reads)) == set(phase.reads), phase.name
    return found


@pytest.mark.parametrize("change", REDONE)
def test_a_phase_is_shared_unless_what_it_reads_differs(change, reads):
    other = changed(VALUES, [change])
    redone = {p for p, r in reads.items() if fingerprint(VALUES, p, r) != fingerprint(other, p, r)}
    assert redone & ALL == REDONE[change]


def test_every_phase_is_known_here(reads):
    """A new method's phases belong into the table above, with what changes them."""
    assert set(reads) == ALL


def test_what_goes_on_around_training_is_read_by_no_phase(reads):
    """Nor is a group that does not exist, whose name no change would ever reach."""
    ignored = ("title", "method", "systems", "seeds", "save_seconds", "keep_last", "optimise")
    ignored += ("evaluation", "mesh", "comparison")
    for name, fields in reads.items():
        assert not {field.partition(".")[0] for field in fields} & set(ignored), name
        fingerprint(VALUES, name, fields)


def test_phases_of_other_names_never_share_a_folder():
    assert fingerprint(VALUES, "zero", ("latents",)) != fingerprint(VALUES, "mean", ("latents",))


def test_the_order_in_which_groups_are_named_does_not_matter():
    one, two = (fingerprint(VALUES, "x", r) for r in (("score", "rounds"), ("rounds", "score")))
    assert one == two


def test_every_group_of_the_config_is_tried():
    tried = {change.partition("=")[0].split(".")[0] for change in REDONE}
    groups = {field.name for field in dataclasses.fields(configs.Config)}
    assert groups - tried == {"comparison"}


def test_every_field_of_the_diffusion_is_tried():
    tried = {change.partition("=")[0] for change in REDONE}
    fields = {f"diffusion.{field.name}" for field in dataclasses.fields(configs.Diffusion)}
    assert fields <= tried


def test_another_recipe_takes_the_place_of_the_configs_own():
    config = configs.to_dict(configs.from_dict(VALUES | {"diffusion": {"recipe": "fast-8"}}))
    assert config["diffusion"]["nfe"] == 8
    diffusion = configs.from_dict(changed(config, ["diffusion.recipe=fast-1"])).diffusion
    assert (diffusion.nfe, diffusion.sampler, diffusion.student) == (1, "ddim", "energy")
    own = changed(config, ["diffusion.recipe=''", "diffusion.nfe=4"])
    assert configs.from_dict(own).diffusion.sampler == "dpmpp_2m"
    with pytest.raises(UserError, match="nfe = 10 while recipe 'fast-1' says 1"):
        values = configs.to_dict(configs.from_dict(VALUES | {"diffusion": {"nfe": 10}}))
        configs.from_dict(changed(values, ["diffusion.recipe=fast-1"]))


def test_the_recommended_recipe_is_what_a_method_and_its_settings_allow():
    fast = configs.to_dict(configs.from_dict(VALUES | {"diffusion": {"recipe": "fast"}}))

    def named(*changes, **values):
        diffusion = configs.from_dict(changed(fast | values, changes)).diffusion
        assert diffusion.recipe == "fast"
        return diffusion.nfe, diffusion.student

    anew = "diffusion.recipe=fast"
    assert named() == named(anew) == (2, "solver")
    assert named(anew, "diffusion.guidance=2", "diffusion.unconditional=0.1") == (8, "")
    assert named(anew, method="imder") == named(anew, method="gsdnet") == (8, "")
    values = fast | {"systems": ("imder", "zero", "two_stage diffusion.recipe=fast-1")}
    systems = {s.method.name: s.config.diffusion for s in systems_of(configs.from_dict(values))}
    assert {name: d.nfe for name, d in systems.items()} == {"two_stage": 1, "imder": 8, "zero": 2}
    with pytest.raises(UserError, match="nfe = 10 while recipe 'fast' says 2"):
        named(anew, "diffusion.nfe=10")


def test_changes_read_like_flags():
    given = ["diffusion.nfe=8", "systems=('zero',)", "score.network=unet", "diffusion.guidance=2"]
    config = configs.from_dict(changed(VALUES, [*given[:3], "decoder.use=False"]))
    assert (config.diffusion.nfe, config.systems, config.score.network) == (8, ("zero",), "unet")
    assert config.decoder.use is False
    assert changed(VALUES, given)["diffusion"]["guidance"] == 2
    assert configs.to_dict(configs.Config()) == VALUES  # untouched


@pytest.mark.parametrize("change", ["diffusion.steps=3", "nothing=1", "title.x=1", "diffusion"])
def test_a_change_of_what_is_not_there_is_refused(change):
    with pytest.raises(UserError, match=r"names no field|is not a group"):
        configs.from_dict(changed(VALUES, [change]))


@pytest.mark.parametrize("name", [n for n, cls in registry().items() if cls.options is not None])
def test_systems_with_other_phases_are_not_completed_as_one(name, tiny_method, tmp_path):
    """Nor with other parameters of what completes: its options are read by its phases."""
    method, places = copy.copy(tiny_method(name)), Places(tmp_path, "x")
    (group,) = options_group(registry()[name])
    options = getattr(method.config, group)
    if hasattr(options, "faithful"):
        changes = {"faithful": True}
    else:
        field = next(f.name for f in dataclasses.fields(options) if f.name.endswith("training"))
        changes = {field: dataclasses.replace(getattr(options, field), epochs=7)}
    before = places.completion(method)
    other = dataclasses.replace(options, **changes)
    method.config = dataclasses.replace(method.config, **{group: other})
    assert places.completion(method) != before
