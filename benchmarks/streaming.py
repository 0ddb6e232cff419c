"""Memory and time of imputing a file that is larger than memory allows.

Command: python -m benchmarks.streaming --workdir=DIR [--gigabytes=10] [--smoke]
Time: five minutes on two cores, and twice the size of the file on the disk.

Writes an .npz of random utterances in the shapes of `aligned_50.pkl`, one in a hundred without its
acoustic modality, completes it with `--mode=impute` in a process of its own, and reads how much
memory that process held at most. The model has random parameters and small networks.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.evaluation.figures import INK, QUIET

SHAPES = {"language": (50, 768), "acoustic": (50, 74), "timing": (50, 35)}
GAPS = 100  # one utterance in so many
ROWS = 256  # written at once
PROGRAM = """
import resource, sys
sys.argv[0] = "mmdjax.main"
from mmdjax import main
try:
    main.console()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def model(folder: Path) -> None:
    """Write a model with random parameters."""
    from benchmarks.cold_start import configured, untrained
    from mmdjax.serving.bundle import publish

    config = configured("mosi_fast")
    score = dataclasses.replace(config.score, width=64, layers=1, heads=2, mlp=64)
    fusion = dataclasses.replace(config.fusion, layers=1)
    decoder = dataclasses.replace(config.decoder, blocks=1)
    config = dataclasses.replace(config, score=score, fusion=fusion, decoder=decoder)
    method, params = untrained(config, SHAPES)
    publish(method, params, 0, folder, method.dataset.content)


def write_file(path: Path, size: int) -> int:
    """An uncompressed .npz of about `size` bytes; its utterances."""
    rows = max(2 * GAPS, size // (4 * sum(t * c for t, c in SHAPES.values())))
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, shape in SHAPES.items():
            block = rng.standard_normal((ROWS, *shape)).astype(np.float32)
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, *shape)}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, rows, ROWS):
                    part = block[: min(ROWS, rows - start)].copy()
                    part[:, 0, 0] += np.arange(start, start + len(part), dtype=np.float32)
                    if name == "acoustic":
                        part[(-start) % GAPS :: GAPS] = np.nan
                    file.write(part.tobytes())
    return rows


def impute(folder: Path) -> tuple[float, float]:
    """Seconds, and the most MiB that the process held."""
    output = folder / "filled.npz"
    output.unlink(missing_ok=True)
    given = (f"--workdir={folder / 'model'}", f"--input={folder / 'gaps.npz'}")
    root = str(Path(__file__).parents[1])
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--mode=impute", *given, f"--output={output}"],
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, int(done.stdout.split()[-1]) / 1024


def check(folder: Path, rows: int) -> int:
    """Frames that were drawn; raises where something else was changed, looking at some blocks."""
    from mmdjax.data.formats.contents import open_contents

    with (
        open_contents(folder / "gaps.npz") as before,
        open_contents(folder / "filled.npz") as after,
    ):
        (given,), (made,) = before.splits.values(), after.splits.values()
        for start in np.linspace(0, rows - GAPS, 20).astype(int):
            for name in SHAPES:
                a, b = (part.features[name][start : start + GAPS] for part in (given, made))
                known = ~np.isnan(a)
                if not (np.array_equal(a[known], b[known]) and np.isfinite(b).all()):
                    raise SystemExit(f"{name}: rows from {start} came back changed or with gaps")
    with np.load(folder / "filled.npz") as arrays:
        return int(arrays["acoustic_drawn"].sum())


def picture(row: dict) -> Figure:
    figure = Figure(figsize=(7.4, 1.7), layout="constrained", facecolor="white")
    ax = figure.subplots()
    values = {"the file": row["gigabytes"], "memory, at most": row["peak_mib"] / 1024}
    ax.barh(list(values), list(values.values()), 0.6, color=("#c9c9c9", "#2a6fb0"))
    for place, value in enumerate(values.values()):
        ax.text(value, place, f" {value:.2f}", va="center", color=INK, fontsize=9.5)
    ax.set_xlabel("GiB", color=QUIET)
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, colors=INK)
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="size of the file, in GiB")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    folder, wanted = options.workdir, 0.2 if options.smoke else options.gigabytes
    model(folder / "model")
    rows = write_file(folder / "gaps.npz", int(wanted * 2**30))
    size = (folder / "gaps.npz").stat().st_size / 2**30
    seconds, peak = impute(folder)
    drawn = check(folder, rows)
    row = {"gigabytes": size, "utterances": rows, "drawn_frames": drawn}
    row |= {"seconds": seconds, "peak_mib": peak}
    for name in ("gaps.npz", "filled.npz"):
        (folder / name).unlink()
    result = {
        "title": "Imputing a large file",
        "command": common.command_line("streaming"),
        "machine": machine(),
        "rows": [row],
    }
    header = ["file (GiB)", "utterances", "frames drawn", "seconds", "memory, at most (MiB)"]
    body = [[f"{size:.2f}", str(rows), str(drawn), f"{seconds:.0f}", f"{peak:.0f}"]]
    about = " ".join(__doc__.split("\n\n")[2].split())
    common.write(folder, "streaming", result, [about, ("One run", header, body)], picture(row))
    print((folder / "streaming.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
