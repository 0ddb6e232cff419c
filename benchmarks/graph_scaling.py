"""Diffusion of graphs against conversation length: time and memory of spectra and of matrices.

Command: python -m benchmarks.graph_scaling --workdir=DIR [--smoke] [--rounds=10]

One conversation of N utterances, three modalities of 32 components, networks at the sizes of
configs/gsdnet_mosi.py with random weights, float32. An evaluation is what a draw repeats: the noise
of features and of graphs. `spectral` is GSDNet, `dense` diffuses the adjacency matrices (GDSS),
`none` draws features alone on the known graph; `eigenvectors` is the decomposition that a
conversation needs once. Cases of one length take turns, every timing waits for the device; medians
with quartiles. Memory is what the compiled evaluation holds: arguments without parameters, outputs
and temporaries. The exponent is the slope of log seconds (or bytes) over log N from N = 64 on.

Writes graph_scaling.json, .md and .png; about a minute on two cores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.config import Config, Score
from mmdjax.methods.graph.diffusion import features_noise, graph_noise, graph_tokens, shown
from mmdjax.methods.graph.modules import build
from mmdjax.methods.graph.settings import Graph
from mmdjax.methods.graph.states import known_graphs
from mmdjax.runtime.compilation import keep_programs

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
MODALITIES, COMPONENTS = 3, 32
SCORE = Score(width=96, layers=3, heads=4, mlp=192, time_features=64)
KINDS = {"spectral": "spectral", "dense": "dense", "none": "structure"}
HUES = {"spectral": "#0b5cad", "dense": "#c44e00", "none": "#44aa99", "eigenvectors": "#8f8f8f"}
FROM = 64  # exponents are fitted from here on, where overheads no longer rule


def modules():
    """Kind -> its networks."""
    result = {}
    for kind, variant in KINDS.items():
        graph = Graph(variant=variant, components=COMPONENTS)
        result[kind], _ = build(Config(method="gsdnet", score=SCORE, graph=graph), MODALITIES, 1)
    return result


def conversation(count: int):
    """position, speaker, valid (1, N), x (1, N, M, D), observed (1, N, M): half is missing."""
    rng = np.random.default_rng(0)
    observed = rng.random((1, count, MODALITIES)) < 0.5
    observed[:, 0] = [True, False, False]  # no modality is whole: every graph is drawn
    x = rng.standard_normal((1, count, MODALITIES, COMPONENTS)).astype(np.float32)
    position = np.arange(count, dtype=np.float32)[None]
    return position, rng.integers(0, 2, (1, count)), np.ones((1, count), bool), x, observed


def evaluation(own):
    """(params, graphs, x, observed, state) -> noise of the features and of the graphs."""

    def run(params, graphs, x, observed, state):
        given, t = shown(own.state, graphs, x, observed, 0.1), jnp.full(1, 0.5)
        noise = features_noise(own, params["features"], graphs, given)(x, state, t)
        if own.graph is None:
            return noise, state
        return noise, graph_noise(own, params["graph"], graphs, given)(x, state, t)

    return run


def parameters(own, graphs, x, observed):
    """Small random numbers; compiling the networks' own init takes longer than what is measured."""
    rng = np.random.default_rng(0)

    def init(key):
        given = shown(own.state, graphs, x, observed, 0.1)
        tokens = jnp.zeros((1, x.shape[1], 2 * MODALITIES * COMPONENTS + MODALITIES))
        edges = jnp.zeros((1, MODALITIES, x.shape[1], x.shape[1])) if own.graph else None
        t = jnp.ones(1)
        made = {"features": own.features.init(key, tokens, t, graphs.valid, graphs.weights, edges)}
        if own.graph is None:
            return made
        tokens = graph_tokens(own, graphs, given, given.x, given.partial)
        return made | {"graph": own.graph.init(key, tokens, t, own.state.seen(graphs))}

    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(0.05 * rng.standard_normal(a.shape), a.dtype), shapes)


def measure(count: int, rounds: int) -> list[dict]:
    """One row for each kind, and one for the eigenvectors."""
    *about, x, observed = conversation(count)
    of_graph = jax.jit(known_graphs)
    graphs = of_graph(*about)
    calls = {"eigenvectors": lambda: jax.block_until_ready(of_graph(*about))}
    held = {"eigenvectors": _held(of_graph.lower(*about).compile(), 0)}
    for kind, own in modules().items():
        params = parameters(own, graphs, x, observed)
        state = jnp.zeros((1, count, own.state.columns(count, MODALITIES)))
        arguments = jax.device_put((params, graphs, x, observed, state))
        compiled = jax.jit(evaluation(own)).lower(*arguments).compile()
        calls[kind] = lambda f=compiled, a=arguments: jax.block_until_ready(f(*a))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        held[kind] = _held(compiled, size)
    for call in calls.values():
        call()
    timed = {kind: common.stopwatch(call) for kind, call in calls.items()}
    return [
        {"kind": kind, "utterances": count, "bytes": held[kind]} | common.quartiles(seconds)
        for kind, seconds in common.alternate(timed, rounds).items()
    ]


def _held(compiled, parameters: int) -> int:
    found = compiled.memory_analysis()
    sizes = (getattr(found, f"{k}_size_in_bytes") for k in ("argument", "output", "temp"))
    return int(sum(sizes)) - parameters


def exponents(rows: list[dict], field: str) -> dict[str, float]:
    """Kind -> slope of log `field` over log N."""
    result = {}
    for kind in HUES:
        own = [r for r in rows if r["kind"] == kind and r["utterances"] >= FROM]
        own = own if len(own) > 1 else [r for r in rows if r["kind"] == kind]
        x, y = (np.log([r[name] for r in own]) for name in ("utterances", field))
        result[kind] = float(np.polyfit(x, y, 1)[0])
    return result


def sections(rows: list[dict], slopes: dict) -> list:
    lengths = sorted({r["utterances"] for r in rows})
    of = {(r["kind"], r["utterances"]): r for r in rows}
    header = ["", *(f"N = {n}" for n in lengths), "exponent"]

    def body(cell, field):
        return [
            [kind, *(cell(of[kind, n]) for n in lengths), f"{slopes[field][kind]:.2f}"]
            for kind in HUES
        ]

    def milliseconds(r):
        low, high = (1e3 * s for s in r["quartiles"])
        return f"{1e3 * r['seconds']:.3g} ({low:.3g}–{high:.3g})"

    return [
        (
            "Milliseconds of one evaluation, median (quartiles)",
            header,
            body(milliseconds, "seconds"),
        ),
        (
            "MiB held by the compiled evaluation, without parameters",
            header,
            body(lambda r: f"{r['bytes'] / 2**20:.3g}", "bytes"),
        ),
        "`eigenvectors`: the known graph and its decomposition, once a conversation; it holds no "
        "network. Attention over utterances makes every kind quadratic in the end.",
    ]


def chart(rows: list[dict], slopes: dict) -> Figure:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for ax, field, scale, title in zip(
        panels,
        ("seconds", "bytes"),
        (1e3, 2.0**-20),
        ("Milliseconds an evaluation", "MiB held"),
        strict=True,
    ):
        for kind, hue in HUES.items():
            own = [r for r in rows if r["kind"] == kind]
            x, y = [r["utterances"] for r in own], [scale * r[field] for r in own]
            label = f"{kind}, N^{slopes[field][kind]:.1f}"
            ax.plot(x, y, "o-", color=hue, label=label, ms=4)
        ax.set(xscale="log", yscale="log", xlabel="utterances N")
        ax.set_xticks(x, [str(n) for n in x])
        ax.minorticks_off()
        ax.set_title(title, loc="left", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="timings of a case")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    keep_programs()
    lengths = LENGTHS[:3] if options.smoke else LENGTHS
    if options.smoke:  # nearly all of its time is compiling
        jax.config.update("jax_disable_most_optimizations", True)
    rows = [r for n in lengths for r in measure(n, 3 if options.smoke else options.rounds)]
    slopes = {field: exponents(rows, field) for field in ("seconds", "bytes")}
    result = {
        "title": "Graph diffusion against conversation length"
        + (", smoke run: short, not optimised" if options.smoke else ""),
        "command": common.command_line("graph_scaling"),
        "machine": machine(),
        "exponents": slopes,
        "rows": rows,
    }
    common.write(
        options.workdir, "graph_scaling", result, sections(rows, slopes), chart(rows, slopes)
    )


if __name__ == "__main__":
    main()
