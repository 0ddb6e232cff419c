"""Error against network evaluations: every sampler on every SDE and time grid, with exact scores.

Command: python -m benchmarks.accuracy_vs_nfe --workdir=DIR [--smoke]

The target is the conditional law of unit-variance Gaussian latents of which a condition explains a
part: eight independent directions with conditional variances from 1 to 0.02 and means to match. Its
score is known at every time, every sampler is an affine map of it, and the law of the draws is
propagated in float64 through the compiled steps: no sampling noise in these numbers. The error is
the 2-Wasserstein distance of draws to data over the data's total deviation; it holds
discretisation, the prior in place of x(t_max) and the noise left at t_min. Grid `optimised` is
searched for every sampler and number of evaluations. Slopes are measured between 256 and 1024
evaluations, from the exact law at t_max to that at t_min; beside them the order of the method.

A last part shows conditioning: the error that remains when the condition is noised as well, with
the exact score given the noisy condition (`diffusion/conditioning.py`), from 40,000 draws.

Writes accuracy_vs_nfe.json, .md and .png. About 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.progress import track

from mmdjax.diffusion import conditioning, exact, sample, time_grid
from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.time_grids import REGISTRY as GRIDS
from mmdjax.diffusion.time_grids import find_warp, log_snr
from mmdjax.evaluation import figures, tables
from mmdjax.runtime.files import write_bytes, write_json
from mmdjax.runtime.machine import machine

VARIANCE = tuple(np.geomspace(1.0, 0.02, 8).tolist())
MEAN = tuple(((-1) ** i * (1 - v) ** 0.5) for i, v in enumerate(VARIANCE))
NFE = (4, 6, 8, 10, 12, 16, 20, 30, 60, 100)
TOLERANCES = (0.1, 1e-2, 1e-3, 1e-4, 1e-5)
# For every kind of method one hue: stochastic, one step, several steps, the reference.
STYLE = {
    "euler_maruyama": ("#d55e00", "o"),
    "ancestral": ("#e69f00", "v"),
    "heun_sde": ("#a8324a", "s"),
    "predictor_corrector": ("#f0b8a0", "D"),
    "sde_dpmpp_2m": ("#882e72", "P"),
    "ddim": ("#8a8a8a", "o"),
    "heun": ("#4d4d4d", "s"),
    "dpmpp_2m": ("#0b5cad", "o"),
    "dpmpp_3m": ("#6bb3ea", "v"),
    "unipc": ("#3a3f9f", "s"),
    "adams_bashforth": ("#009e73", "D"),
    "deis": ("#7ac36a", "P"),
    "adaptive": ("#000000", "*"),
}
CONDITIONING = ("euler_maruyama", "ddim", "heun", "dpmpp_2m", "unipc")
CORRELATION = 0.6


def errors(name: str, method: str, budgets) -> list[dict]:
    """Rows of one sampler on one SDE: every grid, every number of evaluations it can spend."""
    sde, rows = sdes.REGISTRY[name](), []
    each = registry.make(method, sde, None).nfe
    for nfe in budgets:
        if nfe % each:
            continue
        for grid in GRIDS:
            aim = {"method": method, "mean": MEAN, "variance": VARIANCE}
            times = time_grid(grid, sde, nfe // each, **(aim if grid == "optimised" else {}))
            error = exact.relative_error(method, sde, times, MEAN, VARIANCE)
            row = {"sde": name, "sampler": method, "grid": grid, "nfe": nfe, "error": error}
            rows.append(row)
    return rows


def slopes(name: str, method: str) -> list[dict]:
    """Rows of measured slopes; the optimised grid is that for 10 evaluations, refined."""
    sde, rows = sdes.REGISTRY[name](), []
    sampler = registry.make(method, sde, None)
    for grid in GRIDS:
        if grid == "optimised":
            warp = find_warp(sde, 10 // sampler.nfe, method, MEAN, VARIANCE)
            times = functools.partial(log_snr, sde, warp=warp)
        else:
            times = functools.partial(time_grid, grid, sde)
        slope = exact.slope(method, sde, times, MEAN, VARIANCE)
        rows.append({"sde": name, "sampler": method, "grid": grid, "slope": slope})
        rows[-1]["order"] = sampler.order
    return rows


def adaptive(name: str) -> list[dict]:
    """The adaptive solver by tolerance. Its flow is affine: two points give mean and deviation."""
    sde, rows = sdes.REGISTRY[name](), []
    with jax.enable_x64(True):
        mean, std = np.asarray(MEAN), np.sqrt(VARIANCE)

        def noise_fn(x, t):
            return exact.gaussian_noise(sde, x, mean, std**2, t[:, None])

        start = sde.prior_std * jnp.stack([-jnp.ones(len(mean)), jnp.ones(len(mean))])
        for tolerance in TOLERANCES:
            options = {"rtol": tolerance, "atol": tolerance}
            sampler = registry.make("adaptive", sde, noise_fn, **options)
            carry = sampler.step(sampler.init(start, sde.t_max), sde.t_max, sde.t_min, None)
            low, high = np.asarray(sampler.state(carry))
            law = (high + low) / 2, ((high - low) / 2) ** 2
            error = exact.wasserstein(law, (mean, std**2)) / np.sqrt((std**2).sum())
            row = {"sde": name, "sampler": "adaptive", "grid": f"rtol {tolerance:g}"}
            rows.append(row | {"nfe": int(sampler.evaluations(carry)), "error": error})
    return rows


def conditioning_rows(mode: str, method: str, budgets, count: int = 40_000) -> list[dict]:
    """VP: relative error of the conditional law for unit Gaussians of correlation 0.6."""
    sde, rows = sdes.VP(), []
    grid = "log_snr" if method in ("dpmpp_2m", "unipc") else "quadratic"
    each = registry.make(method, sde, None).nfe
    keys = jax.random.split(jax.random.key(0), count)
    condition = jax.random.normal(jax.random.key(1), (count, 1))

    @functools.partial(jax.jit, static_argnames="steps")
    def draw(keys, condition, steps):
        noise_keys = jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)

        def noise_fn(x, t):
            shown = conditioning.in_sampling(mode, sde, condition, t, noise_keys)
            return exact.exact_conditional_noise(mode, sde, x, shown, CORRELATION, t)

        return sample(keys, (1,), noise_fn, sde, time_grid(grid, sde, steps), method).x

    for nfe in budgets:
        if nfe % each:
            continue
        x = np.asarray(draw(keys, condition, nfe // each), np.float64)[:, 0]
        c = np.asarray(condition, np.float64)[:, 0]
        slope = (x @ c) / (c @ c)
        spread, exact_spread = (x - slope * c).std(), np.sqrt(1 - CORRELATION**2)
        error = np.hypot(slope - CORRELATION, spread - exact_spread) / exact_spread
        row = {"sde": "vp", "conditioning": mode, "sampler": method, "grid": grid}
        rows.append(row | {"nfe": nfe, "error": float(error)})
    return rows


def chart(rows: list[dict], conditioned: list[dict]) -> Figure:
    """A panel an SDE, every sampler on its best plain grid; and one for conditioning."""
    names = [name for name in sdes.REGISTRY if any(r["sde"] == name for r in rows)]
    columns = min(4, len(names) + 1)
    lines = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.7 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for method, (colour, marker) in STYLE.items():
            x, y = best(rows, name, method, plain=True)
            kind = "--" if method == "adaptive" else "-"
            axes.plot(x, y, kind, color=colour, marker=marker, markersize=4, linewidth=1.3)
        axes.plot(*best(rows, name, "dpmpp_2m", plain=False), ":", color="#0b5cad", linewidth=1.8)
        axes.set_title(name, loc="left", fontweight="bold")
    axes = panels[len(names)]
    for mode, kind in (("clean", "-"), ("independent", "--"), ("shared", ":")):
        for method in CONDITIONING:
            part = [r for r in conditioned if (r["conditioning"], r["sampler"]) == (mode, method)]
            colour, marker = STYLE[method]
            x, y = [r["nfe"] for r in part], [r["error"] for r in part]
            axes.plot(x, y, kind, color=colour, marker=marker, markersize=4, linewidth=1.3)
    for mode, kind in (("clean", "-"), ("independent", "--"), ("shared", ":")):
        axes.plot([], [], kind, color="#333333", label=f"condition {mode}")
    axes.set_title("vp, noisy conditions: a floor", loc="left", fontweight="bold")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    for axes in panels[len(names) + 1 :]:
        axes.set_visible(False)
    for axes in panels[: len(names) + 1]:
        axes.set(xscale="log", yscale="log", ylim=(2e-4, 50), xlim=(3.5, 130))
        axes.set_xticks([4, 6, 10, 20, 30, 60, 100], ["4", "6", "10", "20", "30", "60", "100"])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.supxlabel("network evaluations")
    figure.supylabel("relative 2-Wasserstein error")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, label=method)
        for method, (colour, marker) in STYLE.items()
    ]
    dotted = Line2D([], [], color="#0b5cad", linestyle=":", label="dpmpp_2m, optimised grid")
    handles.append(dotted)
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False)
    return figure


def best(rows: list[dict], name: str, method: str, plain: bool):
    """x, y of the least error over the plain grids (or of the optimised one) at each NFE."""
    least: dict[int, float] = {}
    for row in rows:
        right = (row["sde"], row["sampler"]) == (name, method)
        if right and "error" in row and (row["grid"] != "optimised") == plain:
            least[row["nfe"]] = min(row["error"], least.get(row["nfe"], np.inf))
    x = sorted(least)
    return x, [least[n] for n in x]


def page(rows: list[dict], conditioned: list[dict], about: dict, command: str) -> str:
    """The table: a section an SDE, a line a sampler and grid."""
    parts = [f"# Error against network evaluations\n\n`{command}`\n"]
    parts.append("Slope (order of the method in brackets) and relative 2-Wasserstein error.\n")
    for name in sdes.REGISTRY:
        here = [r for r in rows if r["sde"] == name]
        if not here:
            continue
        shown = [n for n in NFE if any(r.get("nfe") == n for r in here)]
        body = []
        for slope in (r for r in here if "slope" in r):
            key = (slope["sampler"], slope["grid"])
            at = {
                r["nfe"]: r["error"]
                for r in here
                if (r["sampler"], r["grid"]) == key and "nfe" in r
            }
            cells = [f"{at[n]:.4f}" if n in at and at[n] < 100 else "–" for n in shown]
            body.append([*key, f"{slope['slope']:.2f} ({slope['order']})", *cells])
        header = ["sampler", "grid", "slope", *(f"{n} NFE" for n in shown)]
        parts.append(f"## {name}\n\n{tables.markdown(header, body)}\n")
        reference = [r for r in here if r["sampler"] == "adaptive"]
        body = [[r["grid"], str(r["nfe"]), f"{r['error']:.4f}"] for r in reference]
        parts.append(tables.markdown(["adaptive", "NFE", "error"], body) + "\n")
    if conditioned:
        shown = sorted({r["nfe"] for r in conditioned})
        body = []
        for mode in conditioning.MODES:
            for method in CONDITIONING:
                at = {
                    r["nfe"]: r["error"]
                    for r in conditioned
                    if (r["conditioning"], r["sampler"]) == (mode, method)
                }
                cells = [f"{at[n]:.3f}" if n in at else "–" for n in shown]
                if at:
                    body.append([mode, method, *cells])
        header = ["condition", "sampler", *(f"{n} NFE" for n in shown)]
        parts.append(f"## Noisy conditions (vp)\n\n{tables.markdown(header, body)}\n")
    parts.append("\n".join(f"- {k}: {v}" for k, v in about.items()) + "\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="one SDE, three samplers: a minute")
    options = parser.parse_args()
    try:
        options.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--workdir {str(options.workdir)!r} cannot be made: {error.strerror}")
    methods = [m for m in registry.names() if m != "adaptive"]
    names, budgets = list(sdes.REGISTRY), NFE
    if options.smoke:
        methods, names, budgets = ["ddim", "dpmpp_2m", "heun"], ["vp"], (10, 30, 100)
    pairs = [(n, m) for n in names for m in methods if registry.supports(m, sdes.REGISTRY[n]())]
    cases = [(mode, m) for mode in conditioning.MODES for m in CONDITIONING]
    conditioned: list[dict] = []
    for mode, method in track(cases[::4] if options.smoke else cases, "noisy conditions"):
        conditioned += conditioning_rows(mode, method, (10, 30, 100) if options.smoke else NFE[3:])
    rows: list[dict] = []
    for name in track(names, "adaptive reference"):
        rows += adaptive(name)
    for name, method in track(pairs, "errors and slopes"):
        rows += errors(name, method, budgets) + slopes(name, method)
    command = "python -m benchmarks.accuracy_vs_nfe --workdir=DIR" + " --smoke" * options.smoke
    about = machine()
    result = {"command": command, "machine": about, "rows": rows, "conditioning": conditioned}
    write_json(options.workdir / "accuracy_vs_nfe.json", result)
    text = page(rows, conditioned, about, command)
    write_bytes(options.workdir / "accuracy_vs_nfe.md", text.encode())
    figures.save(chart(rows, conditioned), options.workdir / "accuracy_vs_nfe.png")
    print(f"{len(rows)} rows in {options.workdir / 'accuracy_vs_nfe.json'}")


if __name__ == "__main__":
    main()
