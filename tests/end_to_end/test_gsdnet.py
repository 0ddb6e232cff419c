"""GSDNet from config to report: variants beside their rivals and the optimum, and going on."""

import numpy as np
import pytest

from configs import gsdnet_synthetic
from mmdjax import config as configs
from mmdjax import run as runs
from mmdjax.errors import UserError

SYSTEMS = (
    "gsdnet evaluation.draws=1",
    "gsdnet graph.variant=dense",
    "gsdnet_complete",
    "gsdnet_mean_trained",
    "gsdnet_mean",
    "linear_probe",
    "bayes_alone",
    "bayes",
)


def small(**more):
    """A config of seconds; more: changes of its groups."""
    config = gsdnet_synthetic.get_config()
    config.optimise = False
    config.rounds = 1
    config.data.train, config.data.valid, config.data.test = 24, 6, 8
    config.graph.lengths = (16,)
    config.graph.update(components=4, spectrum_width=8, edge_width=4, refine_width=8, gcn_width=8)
    config.score.update(width=16, layers=1, heads=2, mlp=16, time_features=8)
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.update(epochs=2, batch=12)
    config.diffusion.update(recipe="", sampler="ddim", nfe=2)
    config.evaluation.update(draws=2, rates=(0.0, 0.3, 0.5), batch=16)
    for name, value in more.items():
        config[name].update(value)
    # The optimum of other data is not known: () leaves it out.
    config.systems = SYSTEMS if config.data.name == "synthetic_conversations" else ()
    return configs.from_dict(config.to_dict())


pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gsdnet")
    return workdir, runs.run(small(), workdir)


def values(rows, **fixed):
    chosen = [r for r in rows if all(r[k] == v for k, v in fixed.items())]
    return {(r["system"], r["condition"]): r["value"] for r in chosen}


DRAWING = {"GSDNet, K = 2", "GSDNet, K = 1", "GSDNet, dense, K = 2", "GSDNet, complete, K = 2"}
FILLING = {"GCN, mean", "GCN, mean (trained)"}
OPTIMA = {"Bayes optimum", "Bayes optimum, alone"}


def test_every_variant_stands_beside_its_rivals_and_the_optimum(run):
    _, rows = run
    systems = {s for s, _ in values(rows, protocol="fixed", metric="acc2_nonzero")}
    assert systems == DRAWING | FILLING | OPTIMA | {"linear probe"}
    rmse = values(rows, protocol="random", metric="rmse_mean")
    completing = DRAWING | FILLING | OPTIMA
    assert set(rmse) == {(s, rate) for s in completing for rate in ("0.3", "0.5")}
    best, alone = rmse["Bayes optimum", "0.5"], rmse["Bayes optimum, alone", "0.5"]
    assert best < alone < rmse["GCN, mean", "0.5"]
    assert all(np.isfinite(r["value"]) for r in rows)
    evaluations = values(rows, protocol="cost", metric="nfe")
    assert {v for (s, _), v in evaluations.items() if s in DRAWING} == {2}


def test_phases_that_variants_share_are_trained_once(run):
    workdir, _ = run
    names = [p.name.rpartition("-")[0] for p in (workdir / "checkpoints").iterdir()]
    counts = {name: names.count(name) for name in set(names)}
    expected = {"gsdnet_classifier": 1, "gsdnet_mean": 1, "gsdnet_score": 2, "gsdnet_stage2": 2}
    assert counts == expected


def test_the_realised_rate_is_exact_and_masks_are_kept(run):
    workdir, rows = run
    rate = values(rows, metric="missing_rate")
    with np.load(workdir / "masks" / "seed_0.npz") as masks:
        mask = masks["0.5"]
        assert mask.any(1).all() and masks["0.0"].all()
    assert rate["protocol", "0.5"] == pytest.approx(1 - mask.mean())
    assert abs(rate["protocol", "0.5"] - 0.5) <= 1 / mask.size


def test_the_report_has_its_graphs(run):
    workdir, _ = run
    text = (workdir / "report.md").read_text()
    for part in ("How much of a graph its spectrum keeps", "GSDNet, dense, K = 2"):
        assert part in text
    assert (workdir / "figures" / "graph_noise.png").stat().st_size > 1000


def test_a_finished_run_is_read_again_and_evaluates_to_the_same_numbers(run):
    workdir, rows = run

    def lasting(rows):
        return [r for r in rows if r["metric"] != "seconds"]

    assert lasting(runs.run(small(), workdir)) == lasting(rows)
    assert lasting(runs.run(small(), workdir, may_train=False)) == lasting(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"graph": {"variant": "fast"}}, "allowed: spectral, dense"),
        ({"graph": {"lengths": (4, 8)}}, "utterances; allowed: at most 8"),
        ({"diffusion": {"sampler": "adaptive", "nfe": 0}}, "with a fixed grid"),
        ({"data": {"name": "gcnet", "path": "none.pkl", "modalities": ("a:a", "b:b")}}, "none.pkl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_gsdnet_cannot_do_is_refused_in_one_line(change, said, tmp_path):
    with pytest.raises(UserError, match=said) as error:
        runs.run(small(**change), tmp_path / "run")
    assert "\n" not in str(error.value)
