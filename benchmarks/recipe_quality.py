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


def variants(patch: int) -> dict[str, dict]:
    prefix = {"attention": "prefix", "patch": 1}
    joint = {"attention": "joint", "patch": 1}
    return {"joint": joint, "prefix": prefix, "patch": prefix | {"patch": patch}}


def with_changes(config, sizes: dict, recipe: str):
    """Return the config with a network form, and with a recipe in place of its own solver."""
    from mmdjax.config import Diffusion
    from mmdjax.methods.recipes import FIELDS
    from mmdjax.methods.settings import with_recipe

    plain = {name: getattr(Diffusion(), name) for name in FIELDS}
    diffusion = with_recipe(dataclasses.replace(config.diffusion, **plain, recipe=recipe))
    score = dataclasses.replace(config.score, **sizes)
    return dataclasses.replace(config, score=score, diffusion=diffusion)


def quality(method, params, seed: int) -> dict[str, float]:
    """Return means over the incomplete patterns, on the test split."""
    from mmdjax.evaluation.conditions import conditions_of
    from mmdjax.evaluation.evaluate import Member, evaluate

    config = method.config
    conditions = [
        c
        for c in conditions_of(method.dataset, config.evaluation, seed)
        if c.protocol == "fixed" and not c.observed.everything
    ]
    member = Member("recipe", method, params, config.evaluation.draws)
    values: dict[str, dict[str, list[float]]] = {}
    for row in evaluate([member], conditions, seed)["recipe"]:
        pattern = row["condition"].partition(">")[0]  # 'l>a': acoustic drawn from language
        values.setdefault(row["metric"], {}).setdefault(pattern, []).append(row["value"])
    return {m: float(np.mean([np.mean(v) for v in values[m].values()])) for m in METRICS}


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
    config, workdir = command.configured()
    from mmdjax.config import to_dict
    from mmdjax.data import pipeline
    from mmdjax.methods.method import of_name
    from mmdjax.runtime.machine import machine
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.train import Known, train
    from mmdjax.workdir import Places, claim

    claim(workdir, {"config": to_dict(config), "patch": PATCH.value})
    dataset, reporter = pipeline.dataset(config.data, config.task), Reporter()
    common.need_sentiment(dataset.task)
    places, known, rows = Places(workdir, dataset.content), Known(), []
    for network, sizes in variants(PATCH.value).items():
        recipes = [r for r in RECIPES[network] if f"{network}:{r}" not in WITHOUT.value]
        for seed in config.seeds:
            for recipe in recipes:
                changed = with_changes(config, sizes, recipe)

                def measure(changed=changed, seed=seed):
                    method = of_name("two_stage_complete")(changed, dataset, reporter)
                    trained = train(method, seed, places.phase(changed, seed), known=known)
                    return quality(method, trained.params, seed)

                path = workdir / "parts" / f"{network}_{recipe}_{seed}.json"
                row = {"network": network, "recipe": recipe, "seed": seed}
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
