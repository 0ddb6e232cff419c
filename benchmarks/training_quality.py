"""Seconds from the start of a process, with no compiled program, to a validation loss.

A part of `vs_torch_training.py`, which starts this file once for each side. The classifier of
complete data is trained from the same initial parameters on the same batches in the same order, in
mmdjax by its own training loop, and validated after every epoch. Imports and compiling count,
reading the data does not. Where the config's data are a file that is not given, sentiment is made
up: a linear function of the first modality's mean, in [-3, 3], with noise.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.sides import ALL, MALLOC, ONE, SEVERAL, SIDES, TORCH

SIZES = {"train": 1284, "valid": 229, "test": 8}  # of CMU-MOSI; its test split is not read
SMOKE = {"train": 64, "valid": 32, "test": 8}
SHARE = 0.75  # of the median's error, by default
SIGNAL, NOISE = 3.0, 0.5


class Reached(Exception):
    """The validation loss is low enough."""


def dataset_of(config, shapes: dict, smoke: bool):
    """Return the config's data set, or one of made-up arrays."""
    from mmdjax.data import pipeline
    from mmdjax.data.dataset import Dataset
    from mmdjax.tasks import SENTIMENT
    from mmdjax.types import Batch

    if pipeline.SOURCES[config.data.name].synthetic or config.data.path:
        return pipeline.dataset(config.data, config.task)
    rng, splits = np.random.default_rng(0), {}
    first, (_, channels) = next(iter(shapes.items()))
    direction = rng.standard_normal(channels) / np.sqrt(channels)
    for split, count in (SMOKE if smoke else SIZES).items():
        features, valid = {}, {}
        frames = next(iter(shapes.values()))[0]
        length = rng.integers(4, frames + 1, size=(count, 1))
        for m, shape in shapes.items():
            x = rng.standard_normal((count, *shape), np.float32)
            if m == first:  # each utterance has a mean of its own
                x += rng.standard_normal((count, 1, channels), np.float32)
            features[m], valid[m] = x, np.arange(shape[0]) < length
        there = valid[first][..., None]
        mean = (features[first] * there).sum(1) / there.sum(1)
        label = SIGNAL * mean @ direction + NOISE * rng.standard_normal(count)
        names = np.array([f"{split}_{row}" for row in range(count)])
        splits[split] = Batch(features, valid, label.clip(-3, 3).astype(np.float32), names)
    return Dataset(splits, SENTIMENT, "made up")


def wanted_loss(dataset, given: float) -> float:
    """Return the loss to reach: the given one, or a share of the error of the median."""
    train, valid = (dataset.splits[name].label for name in ("train", "valid"))
    return given or SHARE * float(np.abs(valid - np.median(train)).mean())


def measure(values: dict, shapes: dict, loss: float, workdir: Path, smoke: bool) -> list[dict]:
    """Return a row for each side."""
    import jax
    import torch

    from benchmarks.common import torch_on_gpu
    from benchmarks.training_phases import Classifier, from_flax
    from mmdjax.config import from_dict
    from mmdjax.methods.method import of_name
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.streams import phase_keys

    config = from_dict(values)
    dataset = dataset_of(config, shapes, smoke)
    wanted = wanted_loss(dataset, loss)
    method = of_name("two_stage")(config, dataset, Reporter())
    phase = method.phases[0]
    params = jax.device_get(phase.init(phase_keys(0, phase.name)[0], {}))
    features = dataset.splits["train"].features
    sizes = {m: x.shape[2] for m, x in features.items()}
    initial = workdir / "initial.pt"
    torch.save(from_flax(Classifier(config, sizes), params).state_dict(), initial)
    pytorch = TORCH if torch_on_gpu() else MALLOC
    sides = [(pytorch, "eager"), (pytorch, "compile"), (ONE, "mmdjax"), (ALL, "mmdjax")]
    if smoke or torch_on_gpu():
        sides = [(side, form) for side, form in sides if side != ALL]
    if smoke:
        sides = [(side, form) for side, form in sides if form != "compile"]
    about = {"config": values, "shapes": shapes, "wanted": wanted, "smoke": smoke}
    about |= {"initial": str(initial.resolve())}
    rows = []
    for side, form in sides:
        marks = run_side(SIDES[side], about | {"library": form})
        seconds, reached = marks[-1][0], marks[-1][1] <= wanted
        name = side if form == "mmdjax" else f"{side}, {form}"
        row = {"name": name, "wanted": wanted, "loss": marks[-1][1], "reached": reached}
        rows.append(row | {"epochs": len(marks), "seconds": seconds, "first_epoch": marks[0][0]})
        rows[-1]["marks"] = marks
        print(f"{name}: {marks[-1][1]:.4f} after {seconds:.1f} s, {len(marks)} epochs", flush=True)
    initial.unlink()
    return rows


def run_side(environment: dict, request: dict) -> list:
    """Return [seconds, validation loss] after each epoch of a process with empty caches."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"MMDJAX_CACHE": folder, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training_quality"],
            env=os.environ | SEVERAL | environment | caches,
            input=json.dumps(request | {"started": time.time(), "folder": folder}),
            stdout=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"the side {request['library']} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def of_mmdjax(request: dict, config, dataset, mark: Callable[[float], None]) -> None:
    """Train by mmdjax's own loop until `mark` raises `Reached`."""
    from mmdjax.methods.method import of_name
    from mmdjax.runtime.compilation import keep_programs
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.train import train
    from mmdjax.workdir import Places

    keep_programs()
    method = of_name("two_stage")(config, dataset, Reporter())
    phase = method.phases[0]

    def load(params, seed, place):
        source, validate = phase.load(params, seed, place)

        def watched(params) -> float:
            value = validate(params)
            mark(value)
            return value

        return source, watched

    method.__dict__["phases"] = (phase._replace(load=load),)
    train(method, 0, Places(Path(request["folder"]), dataset.content).phase(config, 0))


def of_torch(request: dict, config, dataset, mark: Callable[[float], None]) -> None:
    """Train the twin on the same batches."""
    import torch

    from benchmarks.training_cases import compile_parts, on_torch, torch_step
    from benchmarks.training_phases import Classifier
    from mmdjax.methods.latent.losses import utterance_rows
    from mmdjax.methods.latent.work_list import bucket_of
    from mmdjax.training.step import Source, plan_epoch, steps_per_epoch
    from mmdjax.training.streams import stream

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings, buckets = config.classifier_training, config.data.length_buckets
    splits = dataset.standardised
    sizes = {m: x.shape[2] for m, x in splits["train"].features.items()}
    state = torch.load(request["initial"])
    module, judge = (Classifier(config, sizes) for _ in range(2))
    module.load_state_dict(state)
    module, judge = module.to(device).train(), judge.to(device).eval()
    if request["library"] == "compile":
        compile_parts(module, device.type == "cuda")

    def rows_and_bucket(split: str):
        valid = [v[:, :-2] | v[:, 1:-1] | v[:, 2:] for v in splits[split].valid.values()]
        return Source(utterance_rows(splits[split])), bucket_of(np.stack(valid, 1), buckets)

    train, bucket = rows_and_bucket("train")
    held_out, held_out_bucket = rows_and_bucket("valid")
    total = steps_per_epoch(bucket, settings.batch) * settings.epochs
    step = torch_step(module, settings, total)

    def validate() -> float:
        with torch.no_grad():
            torch._foreach_copy_(list(judge.parameters()), step.averages)
            wrong = 0.0
            for index, frames in enumerate(buckets):
                rows = np.flatnonzero(held_out_bucket == index)
                for start in range(0, len(rows), config.evaluation.batch):
                    part = held_out.at(rows[start : start + config.evaluation.batch])
                    part = on_torch(part, device)
                    output = judge.outputs(part, frames)[:, 0]
                    wrong += float((output - part["label"]).abs().sum())
        return wrong / len(held_out_bucket)

    for epoch in range(settings.epochs):
        rng = np.random.default_rng([0, stream("classifier"), epoch])
        for rows, weight, frames in plan_epoch(bucket, buckets, settings.batch, rng):
            step(on_torch(train.at(rows) | {"weight": weight}, device), frames)
        mark(validate())


def main() -> None:
    """Train as stdin says; print [seconds, validation loss] of each epoch."""
    from mmdjax.config import from_dict

    request, answer = json.load(sys.stdin), sys.stdout
    sys.stdout = sys.stderr
    config, before, marks = from_dict(request["config"]), time.time(), []
    shapes = {m: tuple(shape) for m, shape in request["shapes"].items()}
    dataset = dataset_of(config, shapes, request["smoke"])
    _ = dataset.standardised
    reading = time.time() - before
    if request["library"] != "mmdjax":
        import torch

        torch.manual_seed(0)
    from benchmarks.side_machine import set_precision

    set_precision("tf32")

    def mark(loss: float) -> None:
        marks.append([time.time() - request["started"] - reading, float(loss)])
        if loss <= request["wanted"]:
            raise Reached

    train = of_mmdjax if request["library"] == "mmdjax" else of_torch
    with contextlib.suppress(Reached):
        train(request, config, dataset, mark)
    print(json.dumps(marks), file=answer, flush=True)


if __name__ == "__main__":
    main()
