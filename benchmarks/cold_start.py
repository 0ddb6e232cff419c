"""From the start of a process to its first answer: cold, and with programs kept from before.

Command: python -m benchmarks.cold_start --workdir=DIR [--smoke]
Time: five minutes on two cores.

Each process imports, loads a model and completes and predicts one utterance of which two modalities
are missing, with K = 8 draws; then a second one, which is what an answer takes from then on. Two
ways: `mmdjax.Imputer` from the files of a run, and the exported file through its loader, without
mmdjax or flax. Cold: the cache of compiled programs is empty. Warm: an earlier process filled it.
Parameters are random: they change no time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.evaluation.figures import INK, QUIET

ROUNDS = 3
DRAWS = 8
CONFIGS = ("synthetic", "mosi_fast")
SHAPES = {  # of an `aligned_50.pkl`; None: those of the embedded data
    "mosi_fast": {"language": (50, 768), "acoustic": (50, 74), "timing": (50, 35)},
}
PARTS = {"imports": "#9db8d2", "load": "#e0b04b", "first answer": "#2a6fb0"}
COMMON = """
import json, os, sys, time
import numpy as np
marks = [time.perf_counter()]
{imports}
marks.append(time.perf_counter())
{load}
marks.append(time.perf_counter())
x = np.load("row.npy")
for seed in (0, 1):
    answer({{"{modality}": x}}, seed)
    marks.append(time.perf_counter())
print(json.dumps(marks))
"""
WAYS = {
    "Imputer": {
        "imports": "import jax, mmdjax.serving.imputer",
        "load": """
jax.config.update("jax_compilation_cache_dir", "cache_imputer")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
imputer = mmdjax.serving.imputer.Imputer.load("model", batch=8)
answer = lambda x, seed: imputer.impute(x, draws=8, seed=seed)""",
    },
    "exported file": {
        "imports": "import jax, loader",
        "load": """
answer = loader.load("model.mmdjax", cache="cache_exported", batches=(1,))""",
    },
}


def configured(name: str):
    """Return a config of `configs/`, with the data's names filled in where it has none."""
    shapes = SHAPES.get(name)
    if shapes is None:
        return common.config_of(name)
    return common.config_of(name, path="aligned_50.pkl", modalities=[f"{m}:{m}" for m in shapes])


def untrained(config, shapes=None):
    """Return the config's method on random data, and random parameters of each of its phases.

    Args:
      shapes: modality -> (T_m, C_m) of the data; None for those of the embedded data.
    """
    from mmdjax.data.dataset import Dataset
    from mmdjax.data.sources import synthetic
    from mmdjax.methods.method import of_name
    from mmdjax.runtime.progress import Reporter
    from mmdjax.tasks import SENTIMENT
    from mmdjax.types import Batch

    splits, rng = synthetic.read(32, 16, 8, 0), np.random.default_rng(0)
    for split, batch in splits.items() if shapes else ():
        features = {
            m: rng.standard_normal((len(batch), *shape)).astype(np.float32)
            for m, shape in shapes.items()
        }
        valid = {m: np.ones(x.shape[:2], bool) for m, x in features.items()}
        splits[split] = Batch(features, valid, batch.label, batch.id)
    dataset = Dataset(splits, SENTIMENT, "random")
    method, params = of_name(config.method)(config, dataset, Reporter()), {}
    for number, phase in enumerate(method.phases):
        params[phase.name] = phase.init(jax.random.key(number), params)
    return method, params


def publish(name: str, folder: Path) -> str:
    """Write a model with random parameters, as files of a run and exported.

    Returns:
      The modality that is given in requests.
    """
    from mmdjax.serving import bundle, export
    from mmdjax.serving.imputer import Imputer

    method, params = untrained(configured(name), SHAPES.get(name))
    bundle.publish(method, params, 0, folder / "model", method.dataset.content)
    export.export(Imputer.load(folder / "model"), folder / "model.mmdjax", draws=DRAWS)
    with zipfile.ZipFile(folder / "model.mmdjax") as archive:
        archive.extract("loader.py", folder)
    modality = method.modalities[0]
    np.save(folder / "row.npy", method.dataset.splits["test"].features[modality][:1])
    return modality


def start(way: str, modality: str, folder: Path) -> dict[str, float]:
    """Seconds of each part of one process; `second answer` beside them."""
    program = COMMON.format(modality=modality, **WAYS[way])
    root = str(Path(__file__).parents[1])
    # The exported file runs without this repository.
    path = {"PYTHONPATH": root} if way == "Imputer" else {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | path,
        capture_output=True,
        text=True,
        check=True,
    )
    marks = json.loads(done.stdout.splitlines()[-1])
    names = (*PARTS, "second answer")
    return dict(zip(names, np.diff(marks).tolist(), strict=True))


def measure(name: str, folder: Path, rounds: int) -> list[dict]:
    """Rows {config, way, cache, imports, load, first answer, second answer}: medians."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / "model.mmdjax").unlink(missing_ok=True)
    modality, runs = publish(name, folder), {}
    for _ in range(rounds):
        for way in WAYS:
            cache = folder / ("cache_imputer" if way == "Imputer" else "cache_exported")
            shutil.rmtree(cache, ignore_errors=True)
            for state in ("cold", "warm"):
                runs.setdefault((way, state), []).append(start(way, modality, folder))
    rows = []
    for (way, state), each in runs.items():
        medians = {part: float(np.median([e[part] for e in each])) for part in each[0]}
        total = [sum(e[part] for part in PARTS) for e in each]
        row = {"config": name, "way": way, "cache": state, "total": float(np.median(total))}
        rows.append(row | {"least": min(total), "most": max(total)} | medians)
    return rows


def picture(rows: list[dict]) -> Figure:
    """A bar a row, its parts side by side."""
    figure = Figure(figsize=(8.4, 1.2 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    ax = figure.subplots()
    for place, row in enumerate(rows):
        left = 0.0
        for part, colour in PARTS.items():
            label = part if place == 0 else None
            ax.barh(place, row[part], 0.62, left=left, color=colour, label=label)
            left += row[part]
        ax.text(left, place, f" {left:.1f} s", va="center", color=INK, fontsize=9.5)
    names = [f"{r['config']}, {r['way']}, {r['cache']}" for r in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.set_xlabel("seconds from the start of Python", color=QUIET)
    ax.legend(frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.12), fontsize=9.5)
    ax.margins(x=0.1)
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, colors=INK)
    return figure


def main() -> None:
    options = common.parse(common.parser(__doc__))
    from mmdjax.runtime.machine import machine

    names = ["synthetic"] if options.smoke else CONFIGS
    rows = []
    for name in names:
        rows += measure(name, options.workdir / name, 1 if options.smoke else ROUNDS)
    result = {
        "title": "From the start of a process to its first answer",
        "command": common.command_line("cold_start"),
        "machine": machine(),
        "rows": rows,
    }
    columns = (*PARTS, "total", "least", "most", "second answer")
    header = ["config", "way", "programs", *(f"{c} (s)" for c in columns)]
    body = [[r["config"], r["way"], r["cache"], *(f"{r[c]:.2f}" for c in columns)] for r in rows]
    about = " ".join(__doc__.split("\n\n")[2].split())
    rounds = "one round" if options.smoke else f"medians of {ROUNDS} rounds, alternating"
    sections = [about, (f"One utterance, K = {DRAWS}; {rounds}", header, body)]
    common.write(options.workdir, "cold_start", result, sections, picture(rows))
    print((options.workdir / "cold_start.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
