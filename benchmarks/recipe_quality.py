"""What recipes and network forms cost in quality: paired comparisons on trained networks.

Command: python -m benchmarks.recipe_quality --config=configs/NAME.py --workdir=DIR \\
    [--patch=4] [--without=joint:imder] [--config.seeds='(0,1,2)'] [--config.evaluation.draws=8] \\
    [--config.x.y=v]

For every seed: encoders and classifier on complete data, then score networks of three forms on the
same latents: joint (all tokens at every evaluation), prefix (conditions encoded once a draw), and
prefix with `patch` frames to a token. Each draws all incomplete patterns of the test split with
several recipes, on the same keys. Energy distance and RMSE of one draw an utterance, and metrics
of the complete-data classifier on K draws, are means over the patterns. (Speed: `vs_torch.py` and
`nfe_latency.py`.)

Comparisons are paired by seed: mean, deviation and the lower end of the 95 % interval (Student's t)
of the difference in ACC2 points; a recipe is no worse at a margin of 1.0 if that end is above -1.0.
Goes on where it stopped. Writes recipe_quality.json, .md and .png.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import common
from mmdjax import main as command

PATCH = flags.DEFINE_integer("patch", 4, "Frames to a token of the third network form.")
WITHOUT = flags.DEFINE_list("without", [], "What to leave out, as network:recipe.")
RECIPES = {
    "joint": ("imder", "thesis-quality", "thesis-speed", "fast-8"),
    "prefix": ("imder", "thesis-speed", "quality-16", "fast-8", "fast-4"),
    "patch": ("imder", "thesis-speed", "fast-8"),
}
# One minus the other: (network, recipe) each.
PAIRS = (
    (("prefix", "thesis-speed"), ("joint", "thesis-speed")),
    (("patch", "thesis-speed"), ("joint", "thesis-speed")),
    (("joint", "fast-8"), ("joint", "imder")),
    (("prefix", "fast-8"), ("prefix", "imder")),
    (("patch", "fast-8"), ("patch", "imder")),
    (("prefix", "fast-8"), ("joint", "imder")),
    (("patch", "fast-8"), ("joint", "imder")),
    (("prefix", "fast-4"), ("prefix", "imder")),
)
METRICS = ("energy_distance", "rmse", "acc2_nonzero", "f1_nonzero", "acc7", "mae")
STREAM = 300  # of a seed's randomness, apart from training's and evaluation's


def variants(patch: int) -> dict[str, dict]:
    prefix = {"attention": "prefix", "patch": 1}
    joint = {"attention": "joint", "patch": 1}
    return {"joint": joint, "prefix": prefix, "patch": prefix | {"patch": patch}}


def quality(system, one, drawer, seed: int, name: str) -> dict[str, float]:
    """Means over the incomplete patterns, on the test split."""
    from mmdjax.data.missing.patterns import pattern_name
    from mmdjax.evaluation.evaluate import imputation_rows, predict_draws
    from mmdjax.evaluation.metrics import sentiment_metrics
    from mmdjax.methods.latent.completion import draw_patterns

    z, draws = one.z["test"], system.config.evaluation.draws
    size, values = len(z.label), {}
    for pattern in system.patterns[:-1]:
        observed = np.tile(pattern, (size, 1))
        key = jax.random.fold_in(jax.random.key(seed), STREAM)
        title = f"{name}, observed {pattern_name(pattern, system.modalities)}"
        (drawn,), _ = draw_patterns(system, one.score, z, pattern[None], draws, key, title, drawer)
        predicted = predict_draws(system, one.complete, one.scale, drawn, z.valid, observed)
        found = sentiment_metrics(predicted.mean(1), z.label)
        rows = imputation_rows("", drawn[:, 0], None, z, pattern, system.modalities, seed)
        for metric in ("energy_distance", "rmse"):
            found[metric] = np.mean([r["value"] for r in rows if r["metric"] == metric])
        for metric in METRICS:
            values.setdefault(metric, []).append(found[metric])
    return {metric: float(np.mean(v)) for metric, v in values.items()}


def difference(rows, one, other, metric: str) -> np.ndarray:
    """Over seeds, in the seeds' order."""

    def of(pair):
        return {r["seed"]: r[metric] for r in rows if (r["network"], r["recipe"]) == pair}

    first, second = of(one), of(other)
    return np.array([first[seed] - second[seed] for seed in first])


def interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, deviation, and the two ends of the 95 % interval of the mean; nan for one seed."""
    if len(values) < 2:
        return float(values.mean()), np.nan, np.nan, np.nan
    mean, std = values.mean(), values.std(ddof=1)
    half = stats.t.ppf(0.975, len(values) - 1) * std / len(values) ** 0.5
    return float(mean), float(std), float(mean - half), float(mean + half)


def sections(rows) -> list:
    body, keys = [], dict.fromkeys((r["network"], r["recipe"]) for r in rows)
    for network, recipe in keys:
        part = [r for r in rows if (r["network"], r["recipe"]) == (network, recipe)]
        line = [network, recipe]
        for metric in METRICS:
            scale = 1 if metric in ("energy_distance", "rmse", "mae") else 100
            values = scale * np.array([r[metric] for r in part])
            digits = 4 if metric == "energy_distance" else 3 if scale == 1 else 2
            spread = values.std(ddof=1) if len(values) > 1 else np.nan
            line.append(f"{values.mean():.{digits}f} ± {spread:.{digits}f}")
        body.append(line)
    header = ["network", "recipe", *METRICS]
    paired = []
    for one, other in (pair for pair in PAIRS if keys.keys() >= set(pair)):
        mean, std, low, high = interval(100 * difference(rows, one, other, "acc2_nonzero"))
        energy = interval(difference(rows, one, other, "energy_distance"))
        paired.append(
            [
                " ".join(one),
                " ".join(other),
                f"{mean:+.2f} ± {std:.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{energy[0]:+.4f} ± {energy[1]:.4f}",
                f"{energy[2]:+.4f} to {energy[3]:+.4f}",
            ]
        )
    head = ["", "minus", "ACC2 (points)", "95 % interval", "energy distance", "95 % interval"]
    return [
        ("Means over patterns, ± deviation over seeds", header, body),
        ("Paired differences", head, paired),
    ]


def chart(rows) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, metric, scale in zip(
        figure.subplots(1, 2), ("energy_distance", "acc2_nonzero"), (1, 100), strict=True
    ):
        keys = list(dict.fromkeys((r["network"], r["recipe"]) for r in rows))[::-1]
        colours = {"joint": "#8a8a8a", "prefix": "#0b5cad", "patch": "#009e73"}
        for y, key in enumerate(keys):
            values = [scale * r[metric] for r in rows if (r["network"], r["recipe"]) == key]
            axes.plot(values, [y] * len(values), "o", color=colours[key[0]], alpha=0.35, ms=4)
            axes.plot(np.mean(values), y, "D", color=colours[key[0]])
        axes.set_yticks(range(len(keys)), [" ".join(k) for k in keys])
        axes.locator_params(axis="x", nbins=5)
        axes.set_title("energy distance" if scale == 1 else "ACC2 non-zero (%)", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    return figure


def main(argv: list[str]) -> None:
    config, workdir = command.given(argv)
    from mmdjax.config import Diffusion, to_dict
    from mmdjax.data import pipeline
    from mmdjax.experiment import machine
    from mmdjax.methods.latent.draw import make_drawer
    from mmdjax.methods.settings import with_recipe
    from mmdjax.methods.stages import Stages
    from mmdjax.methods.two_stage import TwoStage
    from mmdjax.runtime.progress import Reporter
    from mmdjax.workdir import claim

    written = {"config": to_dict(config), "patch": PATCH.value}
    claim(workdir, written)
    splits, reporter = pipeline.standardise(pipeline.load(config.data)), Reporter()
    rows = []
    for network, changes in variants(PATCH.value).items():
        score = dataclasses.replace(config.score, **changes)
        system = TwoStage(dataclasses.replace(config, score=score), splits, reporter)
        stages = Stages(system)
        drawers = {
            recipe: make_drawer(
                system.modules,
                with_recipe(Diffusion(sde=config.diffusion.sde, recipe=recipe)),
            )
            for recipe in RECIPES[network]
            if f"{network}:{recipe}" not in WITHOUT.value
        }
        for seed in config.seeds:
            folder = workdir / network / f"seed_{seed}"
            first = workdir / "joint" / f"seed_{seed}" / "classifier"
            if first.exists() and not folder.exists():  # the same in every form
                shutil.copytree(first, folder / "classifier")
            one = stages.stage_one(seed, folder.joinpath)
            for recipe, drawer in drawers.items():
                row = {"network": network, "recipe": recipe, "seed": seed}
                name = f"{network}, {recipe}, seed {seed}"
                measure = functools.partial(quality, system, one, drawer, seed, name)
                path = workdir / "parts" / f"{network}_{recipe}_{seed}.json"
                rows.append(row | common.kept(path, measure))
                reporter.print(
                    "{network:7} {recipe:15} seed {seed}: energy distance {energy_distance:.4f}, "
                    "ACC2 {acc2_nonzero:.4f}".format(**rows[-1])
                )
    result = {
        "title": f"Quality of recipes: {config.title}",
        "command": common.command_line("recipe_quality"),
        "machine": machine(),
        "config": to_dict(config),
        "rows": rows,
    }
    common.write(workdir, "recipe_quality", result, sections(rows), chart(rows))


if __name__ == "__main__":
    command.console(main)
