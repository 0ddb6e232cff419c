"""Does one thing over and over, to be killed or to run out of room: `WHAT MODEL FOLDER [TIMES]`.

Prints a line before each time, and the error of one that fails.
"""

import itertools
import sys
from pathlib import Path

import jax

import mmdjax
from mmdjax.errors import UserError
from mmdjax.serving import bundle, files
from mmdjax.serving.export import export

jax.config.update("jax_disable_most_optimizations", True)


def publishing(imputer, folder: Path, _) -> None:
    bundle.save(folder, imputer._model())


def exporting(imputer, folder: Path, time: int) -> None:
    export(imputer, folder / f"{time}.mmdjax", platforms=("cpu",))


def imputing(imputer, folder: Path, time: int) -> None:
    files.impute(imputer, folder.parent / "gaps.npz", folder / f"{time}.npz")


def main(what: str, model: str, folder: str, times: str = "") -> None:
    imputer = mmdjax.Imputer.load(model, batch=8)
    for time in range(int(times)) if times else itertools.count():
        print("again", flush=True)
        try:
            globals()[what](imputer, Path(folder), time)
        except (UserError, OSError) as error:
            print(f"error: {error}", flush=True)


main(*sys.argv[1:])
