"""GSDNet from config to report: variants, going on, classes, and what is hidden."""

import pickle

import jax
import numpy as np
import pytest

from configs import gsdnet_synthetic
from mmdjax import config as configs
from mmdjax import experiment
from mmdjax.data import pipeline
from mmdjax.errors import UserError
from mmdjax.methods.graph_stages import GraphStages
from mmdjax.methods.graph_system import GraphSystem
from mmdjax.runtime.progress import Reporter


def small(**more):
    config = gsdnet_synthetic.get_config()
    config.optimise = False
    config.rounds = 1
    config.data.train, config.data.valid, config.data.test = 24, 6, 8
    config.data.length_buckets = (16,)
    config.graph.variants = ("spectral", "dense")
    config.graph.update(components=4, spectrum_width=8, edge_width=4, refine_width=8, gcn_width=8)
    config.score.update(width=16, layers=1, heads=2, mlp=16, time_features=8)
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.update(epochs=2, batch=12)
    config.diffusion.update(recipe="", sampler="ddim", nfe=2)
    config.evaluation.update(draws=2, rates=(0.0, 0.3, 0.5), batch=16)
    for name, value in more.items():
        config[name].update(value)
    return configs.from_dict(config.to_dict())


@pytest.fixture(autouse=True, scope="module")
def compiled_in_haste():
    """Nearly all time here is compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gsdnet")
    return workdir, experiment.run(small(), workdir)


def values(rows, **fixed):
    found = [r for r in rows if all(r[k] == v for k, v in fixed.items())]
    return {(r["method"], r["condition"]): r["value"] for r in found}


def test_every_variant_stands_beside_its_rivals_and_the_optimum(run):
    _, rows = run
    methods = {m for m, _ in values(rows, protocol="fixed", metric="acc2_nonzero")}
    ours = {"diffusion_k1", "diffusion_k2", "diffusion_complete_k2", "diffusion_dense_k2"}
    assert methods == ours | {"mean", "mean_trained", "linear_probe", "bayes"}
    rmse = values(rows, protocol="random", metric="rmse_mean")
    drawn = {"diffusion", "diffusion_aligned", "diffusion_dense"}
    assert set(rmse) == {
        (m, rate) for m in drawn | {"mean", "bayes", "bayes_alone"} for rate in ("0.3", "0.5")
    }
    assert rmse["bayes", "0.5"] < rmse["bayes_alone", "0.5"] < rmse["mean", "0.5"]
    assert all(np.isfinite(r["value"]) for r in rows)
    assert values(rows, protocol="cost", metric="nfe")["diffusion", "all"] == 2


def test_the_realised_rate_is_exact_and_masks_are_kept(run):
    workdir, rows = run
    rate = values(rows, metric="missing_rate")
    with np.load(workdir / "masks" / "seed_0.npz") as masks:
        mask = masks["0.5"]
        assert mask.any(1).all() and masks["0.0"].all()
    assert rate["protocol", "0.5"] == pytest.approx(1 - mask.mean())
    assert abs(rate["protocol", "0.5"] - 0.5) <= 1 / mask.size


def test_the_report_has_its_graphs_and_pictures(run):
    workdir, _ = run
    text = (workdir / "report.md").read_text()
    for part in ("How much of a graph its spectrum keeps", "diffusion, dense, K = 2"):
        assert part in text
    for name in ("graph_noise", "embedding", "rate_rmse_mean", "per_pattern", "loss"):
        assert (workdir / "figures" / f"{name}.png").stat().st_size > 1000


def test_a_finished_run_is_read_again_and_evaluates_to_the_same_numbers(run):
    workdir, rows = run
    assert experiment.run(small(), workdir) == rows

    def lasting(rows):
        return [r for r in rows if r["metric"] != "seconds"]

    assert lasting(experiment.run(small(), workdir, may_train=False)) == lasting(rows)


@pytest.fixture(scope="module")
def system():
    config = small()
    made = GraphSystem(config, pipeline.load_conversations(config.data), Reporter())
    stages = GraphStages(made)
    score, head = stages._initial_score(0, "spectral"), stages._initial(0, "spectral")
    filled = jax.tree.map(lambda a: a + 0.05, (score, head))  # nothing hidden by a zero gate
    return made, *filled


def test_nan_in_hidden_entries_and_labels_changes_no_output_bit(system):
    system, score, head = system
    test = system.of_split["test"]
    shape = (*system.places["test"].shape, 3)
    observed = np.random.default_rng(0).random(shape) < 0.5
    observed[..., 0] |= ~observed.any(-1)

    def outputs():
        about = (test, observed, 2, jax.random.key(3), "draws")
        sets, _ = system.draw_sets("spectral", score, *about)
        made = system.complete("spectral", head, sets)
        return sets.x, sets.graphs, made.prediction, made.x, made.graphs

    expected, whole = outputs(), system.data

    def spoiled(a, m=None):
        seen = observed if m is None else observed[..., m]
        seen = seen & np.asarray(whole.graphs.valid)[test].reshape(
            *shape[:2], *[1] * (seen.ndim - 2)
        )
        a = np.array(a)
        a[test] = np.where(seen[..., None], a[test], np.nan)
        return a

    system.data = whole._replace(
        x=spoiled(whole.x),
        features=tuple(spoiled(f, m) for m, f in enumerate(whole.features)),
        label=np.full_like(whole.label, np.nan),
    )
    try:
        with jax.debug_nans(False):
            found = outputs()
    finally:
        system.data = whole
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_a_draw_depends_on_its_conversation_and_number_alone(system):
    """Not on the other conversations, the order, or how many draws are made."""
    system, score, _ = system
    test = system.of_split["test"]
    observed = np.ones((*system.places["test"].shape, 3), bool)
    observed[:, ::2, 1] = False
    key = jax.random.key(1)
    many, _ = system.draw_sets("spectral", score, test, observed, 2, key, "draws")
    order = np.array([5, 1])
    few, _ = system.draw_sets("spectral", score, test[order], observed[order], 1, key, "draws")
    np.testing.assert_allclose(few.x, many.x[2 * order], atol=1e-5)
    assert np.abs(many.x[0] - many.x[1]).max() > 0.01


def write_iemocap(folder, rng):
    """A file of IEMOCAP's kind: two speakers, four classes, some dialogues of one utterance."""
    lengths = {f"d{i}": int(n) for i, n in enumerate([1, 5, 3, 6, 2, 4, 1, 5, 3, 4, 6, 2, 3, 1, 4])}
    ids = {d: [f"{d}_{i}" for i in range(n)] for d, n in lengths.items()}
    labels = {d: [int(c) for c in rng.integers(0, 4, n)] for d, n in lengths.items()}
    speakers = {d: [("M", "F")[i % 2] for i in range(n)] for d, n in lengths.items()}
    for name, width in (("text", 6), ("audio", 4)):
        (folder / "features" / name).mkdir(parents=True)
        for d, names in ids.items():
            for i, u in enumerate(names):
                x = rng.standard_normal(width).astype(np.float32)
                x[0] += labels[d][i]
                np.save(folder / "features" / name / f"{u}.npy", x)
    path, test = folder / "iemocap.pkl", {"d1", "d6", "d9"}
    with path.open("wb") as file:
        parts = (set(ids) - test, test)
        pickle.dump((ids, labels, speakers, {d: [] for d in ids}, *parts), file)
    return str(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"graph": {"variants": ("fast",)}}, "allowed: spectral, dense"),
        ({"data": {"length_buckets": (4, 8)}}, "utterances; allowed: at most 8"),
        ({"data": {"name": "synthetic"}}, "allowed: synthetic_conversations, gcnet"),
        ({"diffusion": {"sampler": "adaptive", "nfe": 0}}, "with a fixed grid"),
        ({"data": {"name": "gcnet", "path": "none.pkl", "modalities": ("a:a", "b:b")}}, "none.pkl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_gsdnet_cannot_do_is_refused_in_one_line(change, said, tmp_path):
    with pytest.raises(UserError, match=said) as error:
        experiment.run(small(**change), tmp_path / "run")
    assert "\n" not in str(error.value)
