"""Quality against latency on a trained model: every sampler, time grid and number of evaluations,
and every student that learned to need few.

Command: python -m benchmarks.nfe_latency --config=configs/NAME.py --workdir=DIR [--smoke]
    [--samplers=a,b] [--grids=a,b] [--nfe=4,8] [--students=a,b] [--config.x.y=v]

Trains encoders, classifier, score networks and students of the config (the first seed; goes on
where it stopped), then draws the test split with each combination. Every utterance misses what one
of the incomplete patterns says, in turn; masks and keys are the same for all. Energy distance and
RMSE are those of one draw an utterance; ACC2, F1 and ACC7 come from the complete-data classifier on
that completed set. Latency is that of one missing modality given all others, whole draw with
encoding, for batches of 1, 32 and 128: the median of five; cases of a sampler take turns. All
latencies are measured after all qualities, each sampler is kept in DIR/parts.
`temporary_bytes` is what XLA reserves for a batch of 32. Recipes are marked in the chart. The
dashed line there is the network's own law, which every sampler tends to; what lies below it has
errors of two kinds that happen to cancel.

Writes nfe_latency.json, .md and .png. For configs/synthetic.py about an hour on two cores
(latencies 23 minutes, nearly all of it compiling).
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from absl import flags
from rich.progress import track

from benchmarks import common
from benchmarks.pareto import BATCHES, METRICS, chart, joined, sections
from mmdjax import main as command

NFE = (1, 2, 4, 6, 8, 10, 16, 20, 30, 60, 100)
ROUNDS = 5
STREAM = 400  # of the seed's randomness, apart from training's and evaluation's

_SMOKE = flags.DEFINE_bool("smoke", False, "Two samplers, two grids, two numbers of evaluations.")
_SAMPLERS = flags.DEFINE_list("samplers", [], "Samplers; all by default.")
_GRIDS = flags.DEFINE_list("grids", [], "Time grids; all by default.")
_STUDENTS = flags.DEFINE_list("students", [], "Students; all by default.")
_NFE = flags.DEFINE_list("nfe", [], f"Evaluations; by default {', '.join(map(str, NFE))}.")


def combinations(sde) -> list[tuple[str, int]]:
    """(sampler, NFE) that can be spent exactly; 'adaptive' chooses its own."""
    from mmdjax.diffusion.samplers import registry

    samplers = _SAMPLERS.value or registry.names()
    budgets = [int(n) for n in _NFE.value] or NFE
    if _SMOKE.value:
        samplers, budgets = ("ddim", "dpmpp_2m"), (2, 4)
    found = []
    for sampler in samplers:
        each = registry.make(sampler, sde, None).nfe
        found += [(sampler, 0)] if each == 0 else [(sampler, n) for n in budgets if n % each == 0]
    return found


def grids_for(sampler: str) -> tuple[str, ...]:
    from mmdjax.diffusion.time_grids import REGISTRY

    if sampler == "adaptive":  # reads the ends only
        return ("uniform",)
    if _SMOKE.value:
        return ("quadratic", "log_snr")
    return tuple(_GRIDS.value or REGISTRY)


class Study:
    """A trained model with its test split, and what every combination is measured on."""

    def __init__(self, method, params, seed: int):
        """method: 'two_stage_complete', whose parameters by phase are `params`."""
        self.space, self.task, self.seed = method, method.task, seed
        self.score, self.predictor = method.score(params), method.predictor(params)
        self.scale, self.z = method.scale(params), method.latents(params, "test")
        patterns = method.dataset.patterns[:-1]
        self.observed = patterns[np.arange(len(self.z.label)) % len(patterns)]

    def quality(self, drawer) -> dict[str, float]:
        """Return metrics and distances of one draw of each test utterance, and the NFE."""
        from mmdjax.methods.latent.work_list import draw_missing
        from mmdjax.metrics import energy_distance, rmse

        z, observed, size = self.z, self.observed, len(self.z.label)
        key = jax.random.fold_in(jax.random.key(self.seed), STREAM)
        drawn, nfe = draw_missing(
            drawer,
            self.score,
            z.x,
            z.valid,
            observed,
            np.arange(size),
            np.zeros((size, 1), int),
            key,
            self.space.buckets,
            BATCHES[-1],
        )
        drawn = drawn[:, 0]
        prediction = self.space.predict_latents(
            self.predictor, self.scale, drawn, z.valid, observed
        )
        metrics = self.task.metrics(prediction, z.label)
        distances, errors = [], []
        for m in range(observed.shape[1]):
            rows = ~observed[:, m]
            mask = z.valid[rows, m]
            ours, truth = (np.where(mask[..., None], x[rows, m], 0) for x in (drawn, z.x))
            distances.append(energy_distance(*(x.reshape(len(x), -1) for x in (ours, truth))))
            errors.append(rmse(ours, truth, mask))
        return {metric: metrics[metric] for metric in METRICS} | {
            "nfe": nfe,
            "energy_distance": float(np.mean(distances)),
            "rmse": float(np.mean(errors)),
        }

    def call(self, drawer, batch: int):
        """A draw of the first modality given the others, for `batch` utterances."""
        rows = np.resize(np.arange(len(self.z.label)), batch)
        others = np.arange(1, self.observed.shape[1], dtype=np.int32)
        condition, mask = self.z.x[rows][:, others], self.z.valid[rows][:, others]
        keys = jax.random.split(jax.random.key(0), (1, batch, 1))
        return (
            self.score,
            np.zeros(1, np.int32),
            condition,
            np.tile(others, (batch, 1)),
            mask.any(1),
            mask,
            keys,
            drawer.grid,
            np.float32(1),
        )


def quality_of(study: Study, sampler: str, budgets, make) -> list[dict]:
    """A row for each grid and NFE.

    Args:
      make: Diffusion settings -> drawer.
    """
    rows = []
    for nfe in budgets:
        base = None
        for grid in grids_for(sampler):
            drawer = make(sampler=sampler, nfe=nfe, grid=grid)
            # One program for all grids: times are data.
            base = base or drawer
            row = {"sampler": sampler, "grid": grid, "asked": nfe}
            rows.append(row | study.quality(base._replace(grid=drawer.grid)))
    return rows


def latency_of(sampler: str, drawers) -> list[dict]:
    """A row for each NFE and batch. Every call takes one turn in each round.

    Args:
      drawers: (NFE, study, drawer) each.
    """
    calls, first, memory = {}, {}, {}
    for nfe, study, drawer in drawers:
        for batch in BATCHES:
            arguments = study.call(drawer, batch)
            run = lambda d=drawer, a=arguments: jax.block_until_ready(d.draw(*a))  # noqa: E731
            case = nfe, batch
            calls[case] = common.stopwatch(run)
            first[case] = calls[case]()
            if batch == 32:
                analysis = drawer.draw.jitted.lower(*arguments).compile().memory_analysis()
                memory[case] = getattr(analysis, "temp_size_in_bytes", None)
    rows = []
    for (nfe, batch), seconds in common.alternate(calls, ROUNDS).items():
        row = {"sampler": sampler, "nfe": nfe, "batch": batch} | common.quartiles(seconds)
        row |= {"first_call": first[nfe, batch], "temporary_bytes": memory.get((nfe, batch))}
        rows.append(row | {"items_per_second": batch / row["seconds"]})
    return rows


def measure(study: Study, sde, make, folder: Path) -> tuple[list[dict], list[dict]]:
    """Rows of quality by (sampler, grid, NFE), and of latency by (sampler, NFE, batch)."""
    budgets, quality, latency = {}, {}, []
    for sampler, nfe in combinations(sde):
        budgets.setdefault(sampler, []).append(nfe)
    for sampler in track(budgets, description="quality"):
        find = functools.partial(quality_of, study, sampler, budgets[sampler], make)
        quality[sampler] = common.kept(folder / f"quality_{sampler}.json", find)
        jax.clear_caches()  # hundreds of live programs exhaust a process' memory maps
    for sampler in track(budgets, description="latency"):

        def find(sampler=sampler):
            grid = grids_for(sampler)[0]
            asked = [r for r in quality[sampler] if r["grid"] == grid]
            drawers = [(r["nfe"], make(sampler=sampler, nfe=r["asked"], grid=grid)) for r in asked]
            return latency_of(sampler, [(nfe, study, drawer) for nfe, drawer in drawers])

        latency += common.kept(folder / f"latency_{sampler}.json", find)
        jax.clear_caches()
    return [row for rows in quality.values() for row in rows], latency


def learned(config, train_method, folder: Path) -> tuple[list[dict], list[dict]]:
    """The same of students, each of which is trained for each number of evaluations.

    Args:
      train_method: config -> (`Study`, drawer).
    """
    from mmdjax.methods.latent.students import STUDENTS

    quality, latency = [], []
    for name in track(_STUDENTS.value or STUDENTS, description="students"):

        def find(name=name):
            student, rows, drawers = STUDENTS[name], [], []
            for nfe in student.NEEDS[:1] if _SMOKE.value else student.NEEDS:
                about = {"sampler": student.SAMPLER, "grid": "log_snr", "nfe": nfe, "student": name}
                changed = dataclasses.replace(config.diffusion, recipe="", **about)
                study, drawer = train_method(dataclasses.replace(config, diffusion=changed))
                row = {"sampler": name, "grid": about["grid"], "asked": nfe}
                rows.append(row | study.quality(drawer))
                drawers.append((nfe, study, drawer))
            return {"quality": rows, "latency": latency_of(name, drawers)}

        found = common.kept(folder / f"student_{name}.json", find)
        quality, latency = quality + found["quality"], latency + found["latency"]
        jax.clear_caches()
    return quality, latency


def main(argv: list[str]) -> None:
    config, workdir = command.configured()
    from mmdjax.config import Diffusion, to_dict
    from mmdjax.data import pipeline
    from mmdjax.methods.latent.draw import make_drawer
    from mmdjax.methods.method import of_name
    from mmdjax.methods.recipes import RECIPES
    from mmdjax.methods.settings import with_recipe
    from mmdjax.runtime.machine import machine
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.train import train
    from mmdjax.workdir import Places, claim

    written = {"config": to_dict(config), "asked": [_SMOKE.value, _GRIDS.value, _NFE.value]}
    claim(workdir, written)
    dataset, seed = pipeline.dataset(config.data, config.task), config.seeds[0]
    common.need_sentiment(dataset.task)

    def train_method(config):
        method = of_name("two_stage_complete")(config, dataset, Reporter())
        trained = train(method, seed, Places(workdir, dataset.content).phase(config, seed))
        study = Study(method, trained.params, seed)
        return study, make_drawer(method.modules, config.diffusion)

    study, _ = train_method(config)
    modules = study.space.modules

    def make(**changes):
        wanted = Diffusion(sde=config.diffusion.sde, dtype=config.diffusion.dtype, **changes)
        return make_drawer(modules, with_recipe(wanted))

    quality, latency = measure(study, modules.sde, make, workdir / "parts")
    parts = learned(config, train_method, workdir / "parts")
    quality, latency = quality + parts[0], latency + parts[1]
    rows = joined(quality, latency)
    # Latency belongs to sampler and NFE: recipes have it from there where it was measured.
    seconds = {(r["sampler"], r["nfe"]): r for r in rows}
    recipes = {}
    for name, recipe in RECIPES.items():
        student = recipe.get("student", "")
        same = seconds.get((student or recipe["sampler"], recipe["nfe"]))
        if same and student:
            recipes[name] = same
        elif same:
            known = {k: v for k, v in same.items() if k.startswith("seconds") or k == "sampler"}
            recipes[name] = known | study.quality(make(recipe=name)) | {"grid": "recipe"}
    result = {
        "title": f"Quality against latency: {config.title}",
        "command": common.command_line("nfe_latency"),
        "machine": machine(),
        "config": to_dict(config),
        "rows": rows,
        "recipes": recipes,
        "latency": latency,
    }
    common.write(
        workdir,
        "nfe_latency",
        result,
        sections(rows, recipes, latency),
        chart(rows, recipes, len(study.z.label)),
    )


if __name__ == "__main__":
    command.console(main)
