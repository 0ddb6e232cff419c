"""What every student promises: it draws by the evaluations it is asked for, and finds its place."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import changed
from mmdjax.data import pipeline
from mmdjax.errors import UserError
from mmdjax.methods.gsdnet import GSDNet
from mmdjax.methods.imder import Imder
from mmdjax.methods.latent import students
from mmdjax.methods.latent.students import STUDENTS
from mmdjax.methods.method import registry
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.progress import Reporter
from mmdjax.serving.bundle import publish
from mmdjax.serving.imputer import Imputer
from mmdjax.training.train import train
from mmdjax.types import Observed
from mmdjax.workdir import Places
from tests.conftest import TINY, TINY_CONVERSATIONS

QUICK = {"epochs": 2, "batch": 16, "patience": 2}
PHASES = ("classifier_training", "score_training", "student_training", "stage2_training")
pytestmark = pytest.mark.usefixtures("compiled_in_haste")
ASKED = [(name, nfe) for name, student in STUDENTS.items() for nfe in student.NEEDS]


def config_of(student: str, nfe: int, gaps: float = 0.0):
    sampler = STUDENTS[student].SAMPLER if student else "ddim"
    diffusion = {"sampler": sampler, "grid": "log_snr", "nfe": nfe, "student": student}
    values = TINY | dict.fromkeys(PHASES, QUICK) | {"rounds": 1, "optimise": False}
    values["diffusion"] = diffusion | {"frame_gaps": gaps}
    return configs.from_dict(values)


def method_of(*asked):
    config = config_of(*asked)
    return TwoStage(config, pipeline.dataset(config.data, config.task), Reporter())


@pytest.mark.parametrize(
    ("student", "nfe", "gaps"),
    [
        ("energy", 1, 0.5),
        ("progressive", 4, 0.0),
        ("mean", 1, 0.0),
        ("solver", 3, 0.0),
        ("shortcut", 2, 0.5),
    ],
)
def test_what_was_trained_draws_by_so_many_evaluations_and_is_served(student, nfe, gaps, tmp_path):
    method = method_of(student, nfe, gaps)
    places = Places(tmp_path, "data")
    trained = train(method, 0, places.phase(method.config, 0))
    names = [phase.name for phase in method.phases]
    assert names[:2] == ["classifier", "score"] and names[-1] == "draws" and len(names) > 3
    drawn_by, begun = method.score(trained.params), method.phases[2].init(None, trained.params)
    if student == "solver":
        drawn_by = drawn_by["solver"]
    assert drawn_by is trained.params[names[-2]]
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), drawn_by, begun)
    assert not all(jax.tree.leaves(same))
    observed = Observed.of_patterns(method.patterns, method.dataset.splits["test"].present)
    completion = method.complete(trained.params, "test", observed, 2, jax.random.key(0), "")
    assert completion.nfe == nfe and np.isfinite(completion.x).all()
    if student != "energy":  # served alike
        return
    batch = method.dataset.splits["test"]
    publish(method, trained.params, 0, tmp_path / "model", "data")
    answer = Imputer.load(tmp_path / "model").predict({m: batch.features[m] for m in ("language",)})
    assert np.isfinite(answer.mean).all()


@pytest.mark.parametrize(("student", "nfe"), ASKED)
def test_rounds_end_with_the_evaluations_that_are_asked_for(student, nfe):
    method = method_of(student, nfe)
    assert method.drawer.draw is not None and len(method.drawer.grid) == nfe + 1
    shapes = students.shapes(method.modules, method.config)  # known while nothing is trained
    begun = [p.init(None, {"score": method.initial_score(jax.random.key(0))})
             for p in method.phases[2:3]]  # fmt: skip
    of_begun = jax.tree.map(lambda a: a.shape, begun[0])
    of_drawn = jax.tree.map(lambda a: a.shape, shapes)
    assert of_begun == (of_drawn["solver"] if student == "solver" else of_drawn)
    names = [phase.name for phase in method.phases]
    if student == "progressive":
        assert names[-2] == f"progressive_{nfe}"


def test_students_share_what_they_start_from(tmp_path):
    """Of one run those with fewer evaluations find the rounds of those with more."""
    places = Places(tmp_path, "data")

    def folders(*asked):
        method = method_of(*asked)
        place = places.phase(method.config, 0)
        return {phase.name: place(phase.name, phase.reads) for phase in method.phases}

    four, one, energy = (
        folders("progressive", 4),
        folders("progressive", 1),
        folders("energy", 1),
    )
    plain = folders("", 8)
    for name in ("classifier", "score"):
        assert four[name] == one[name] == energy[name] == plain[name]
    for name in ("progressive_8", "progressive_4"):
        assert four[name] == one[name]
    assert len({found["draws"] for found in (four, one, energy, plain)}) == 4
    completions = {places.completion(method_of(*a)) for a in (("energy", 1), ("mean", 1), ("", 1))}
    assert len(completions) == 3


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        (TwoStage, "diffusion.sampler=deis", "sampler 'deis' with student 'energy'; allowed: ddim"),
        (TwoStage, "diffusion.nfe=3", "nfe 3 with student 'energy'; allowed: 1, 2, 4"),
        (TwoStage, "diffusion.conditioning=shared", "'shared' with student 'energy'; allowed: cl"),
        (Imder, "rounds=1", "student = 'energy' with method 'imder'; allowed: ''"),
        (GSDNet, "diffusion.student=mean", "'mean' with method 'gsdnet'; allowed: '', 'energy'"),
    ],
)
def test_what_a_student_cannot_learn_is_refused_in_one_line(method, change, said):
    values = changed(configs.to_dict(config_of("energy", 1)), [change])
    with pytest.raises(UserError, match=r"config\.diffusion") as error:
        method.check(configs.from_dict(values))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_stands_beside_a_student_and_does_not_draw_has_none():
    config = config_of("energy", 1)
    dataset = pipeline.dataset(config.data, config.task)
    for name in ("zero", "zero_trained", "dicmor"):
        method = registry()[name](config, dataset, Reporter())
        assert "energy_1" not in {phase.name for phase in method.phases}
        assert method.score({"classifier": {}}) is None


def test_networks_that_are_not_told_the_steps_take_no_shortcut():
    values = changed(configs.to_dict(config_of("shortcut", 2)), ["score.network=dit"])
    with pytest.raises(UserError, match="'dit' with student 'shortcut'; allowed: score_transf"):
        TwoStage.check(configs.from_dict(values))


def test_a_recipe_names_its_student():
    fast = configs.from_dict({"diffusion": {"recipe": "fast-1"}}).diffusion
    assert (fast.student, fast.nfe, fast.sampler) == ("energy", 1, "ddim")


def test_few_numbers_are_learned_in_few_steps():
    """48 rows in batches of 16 are three steps an epoch."""
    for student, epochs in (("solver", 21), ("energy", 40)):
        config = config_of(student, 2)
        training = dataclasses.replace(config.student_training, epochs=40)
        config = dataclasses.replace(config, student_training=training)
        method = TwoStage(config, pipeline.dataset(config.data, config.task), Reporter())
        assert len(method.dataset.splits["train"]) == 48
        assert method.phases[2].settings.epochs == epochs


@pytest.mark.parametrize("variant", ["spectral", "structure"])
def test_conversations_are_drawn_by_one_evaluation_and_served(variant, tmp_path):
    values = TINY | TINY_CONVERSATIONS | dict.fromkeys(PHASES, QUICK | {"batch": 4})
    values["graph"] = TINY_CONVERSATIONS["graph"] | {"variant": variant}
    diffusion = {"recipe": "fast-1"}
    config = configs.from_dict(values | {"method": "gsdnet", "diffusion": diffusion})
    method = GSDNet(config, pipeline.dataset(config.data, config.task), Reporter())
    trained = train(method, 0, Places(tmp_path, "data").phase(config, 0))
    names = [phase.name for phase in method.phases]
    assert names == ["gsdnet_classifier", "gsdnet_score", "gsdnet_energy_1", "gsdnet_stage2"]
    score, student = (trained.params[name] for name in names[1:3])
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), score, student)
    assert any(jax.tree.leaves(moved))
    test = method.dataset.splits["test"]
    observed = Observed.of_patterns(method.dataset.patterns[:1], test.present)
    completion = method.complete(trained.params, "test", observed, 2, jax.random.key(0), "")
    assert completion.nfe == 1 and np.isfinite(completion.x.x).all()
    publish(method, trained.params, 0, tmp_path / "model", "data")
    model = Imputer.load(tmp_path / "model")
    assert model.config.diffusion.student == "energy"


def test_one_evaluation_is_no_loop_over_time():
    """Loops of random numbers and of layers are in programs of any number of evaluations."""

    def loops(nfe):
        method, shape = method_of("energy", nfe), jax.ShapeDtypeStruct
        key = jax.eval_shape(lambda: jax.random.key(0))
        given = (
            students.shapes(method.modules, method.config),
            shape((1,), np.int32),
            shape((4, 2, 4, 8), np.float32),
            shape((4, 2), np.int32),
            shape((4, 4), bool),
            shape((4, 2, 4), bool),
            shape((1, 4, 1), key.dtype),
            shape(method.drawer.grid.shape, np.float32),
            shape((), np.float32),
        )
        return method.drawer.draw.jitted.lower(*given).as_text().count("stablehlo.while")

    assert loops(1) == loops(2) - 1
