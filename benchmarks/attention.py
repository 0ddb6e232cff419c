"""Attention on this device: ours, and `jax.nn.dot_product_attention` by XLA and by cuDNN.

Command: python -m benchmarks.attention --workdir=DIR [--smoke] [--rounds=10]

Shapes are those of the networks: of the score transformer's two sizes with and without cached
conditions, of the fusion's transformers, and a long one. Keys have a mask, as everywhere here.
Measured are the output and the gradient of all three inputs, in float32 and bfloat16; ways take
turns, each of as many calls as a fiftieth of a second holds, and microseconds are medians. What a
way cannot do on this device (cuDNN: float32, some widths, a CPU) has its reason in place of a time.
Differences are to ours in float32. Writes attention.json, .md and .png.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.networks.attention import attend, mask_bias

# Batch, heads, queries, keys, width of a head.
SHAPES = {
    "score, joint": (32, 8, 144, 144, 32),
    "score, prefix": (32, 8, 48, 144, 32),
    "score, compact, prefix": (32, 4, 48, 144, 24),
    "fusion, cross": (192, 8, 48, 48, 4),
    "fusion, memory": (96, 8, 48, 48, 8),
    "long": (8, 8, 1024, 1024, 64),
}
DTYPES = ("float32", "bfloat16")
LEAST = 0.02  # seconds of a turn


def ours(query, key, value, mask):
    """Return attention of (B, H, S, d), as the networks compute it."""
    dtype = None if query.dtype == jnp.float32 else query.dtype
    return attend(query, key, value, mask_bias(mask), dtype=dtype)


def library(implementation: str, query, key, value, mask):
    """Return the library's attention, which has time in front of heads."""
    swapped = (jnp.swapaxes(a, 1, 2) for a in (query, key, value))
    out = jax.nn.dot_product_attention(
        *swapped, mask=mask[:, None, None], implementation=implementation
    )
    return jnp.swapaxes(out, 1, 2)


WAYS: dict[str, Callable] = {
    "ours": ours,
    "library, XLA": functools.partial(library, "xla"),
    "library, cuDNN": functools.partial(library, "cudnn"),
}


def inputs(shape: tuple[int, ...], dtype: str) -> tuple:
    """Return query, key, value and the mask of keys."""
    batch, heads, queries, keys, width = shape
    rng = np.random.default_rng(0)
    sizes = ((batch, heads, n, width) for n in (queries, keys, keys))
    arrays = (jnp.asarray(rng.standard_normal(size), dtype) for size in sizes)
    length = rng.integers(1, keys + 1, size=(batch, 1))
    return (*arrays, jnp.asarray(np.arange(keys) < length))


def calls(shape: tuple[int, ...], dtype: str) -> tuple[dict, list[dict]]:
    """Return (way, part) -> timed call, and a row for each, with the reason of those that fail."""
    given, timed, rows = inputs(shape, dtype), {}, []
    truth = ours(*inputs(shape, "float32"))
    for way, function in WAYS.items():

        def squared(*arrays, function=function):
            return (function(*arrays).astype(jnp.float32) ** 2).sum()

        parts = {"output": function, "gradient": jax.grad(squared, (0, 1, 2))}
        for part, call in parts.items():
            row = {"way": way, "part": part, "dtype": dtype, "shape": shape}
            try:
                compiled = jax.jit(call)
                out = jax.block_until_ready(compiled(*given))
                if part == "output":
                    row["difference"] = float(jnp.abs(out.astype(jnp.float32) - truth).max())
                timed[way, part] = turn(functools.partial(compiled, *given))
            except Exception as error:  # whatever the library refuses a shape with
                row["reason"] = " ".join(str(error).split())[:120]
            rows.append(row)
    return timed, rows


def turn(call: Callable) -> Callable[[], float]:
    """Return a call that measures the seconds of one `call` of many that are under way at once."""
    once = common.stopwatch(lambda: jax.block_until_ready(call()))
    once()
    count = max(1, round(LEAST / once()))

    def many() -> None:
        for _ in range(count):
            out = call()
        jax.block_until_ready(out)

    timed = common.stopwatch(many)
    return lambda: timed() / count


def measure(shapes: dict, rounds: int) -> list[dict]:
    """Return a row for each shape, dtype, way and part."""
    rows = []
    for name, shape in shapes.items():
        for dtype in DTYPES:
            timed, each = calls(shape, dtype)
            seconds = common.alternate(timed, rounds)
            for row in each:
                key = row["way"], row["part"]
                rows.append({"name": name} | row)
                if key in seconds:
                    rows[-1] |= common.quartiles(seconds[key])
    return rows


def table(rows: list[dict]) -> tuple:
    """Return microseconds of every way, and how many times faster than ours."""
    header = ["", "dtype", "part", *WAYS, "largest difference to ours in float32"]
    body = []
    for first in (r for r in rows if r["way"] == "ours"):
        same = [r for r in rows if all(r[k] == first[k] for k in ("name", "dtype", "part"))]
        cells, worst = [], [r["difference"] for r in same if "difference" in r]
        for r in same:
            if "seconds" not in r:
                cells.append(r["reason"].split(". ")[0])
                continue
            times = first.get("seconds", np.nan) / r["seconds"]
            cells.append(f"{1e6 * r['seconds']:.0f} ({times:.2f})")
        line = [f"{first['name']} {first['shape']}", first["dtype"], first["part"], *cells]
        body.append([*line, f"{max(worst):.1e}" if worst else ""])
    return "Microseconds (times as fast as ours)", header, body


def chart(rows: list[dict]) -> Figure:
    """Return how many times as fast as ours the library is."""
    figure = Figure(figsize=(8, 0.8 + 0.2 * len(rows)), layout="constrained")
    axes, labels = figure.subplots(), []
    base = {
        (r["name"], r["dtype"], r["part"]): r.get("seconds") for r in rows if r["way"] == "ours"
    }
    for r in rows:
        own = base[r["name"], r["dtype"], r["part"]]
        if r["way"] != "ours" and own and "seconds" in r:
            colour = "#0b5cad" if "cuDNN" in r["way"] else "#b0b0b0"
            axes.barh(len(labels), own / r["seconds"], color=colour)
            labels.append(f"{r['name']}, {r['dtype']}, {r['part']}: {r['way']}")
    axes.axvline(1, color="black", lw=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xlabel("times as fast as ours")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """See above."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="turns of every way")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    shapes = {"smoke": (2, 2, 4, 6, 8)} if options.smoke else SHAPES
    rows = measure(shapes, 1 if options.smoke else options.rounds)
    result = {
        "title": "Attention on this device",
        "command": common.command_line("attention"),
        "machine": machine(),
        "rows": rows,
    }
    common.write(options.workdir, "attention", result, [table(rows)], chart(rows))


if __name__ == "__main__":
    main()
