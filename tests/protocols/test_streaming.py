"""A split that is larger than the buffer is read in use: same numbers, and memory that is flat."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import builder, pipeline, stored
from mmdjax.data.sources import synthetic, synthetic_parts
from mmdjax.errors import UserError
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.method import registry
from mmdjax.run import run
from mmdjax.runtime.progress import Reporter
from mmdjax.training.reading import in_turn
from mmdjax.training.step import Source
from mmdjax.training.train import train
from mmdjax.types import Batch
from mmdjax.workdir import Places
from tests.conftest import ONCE, TINY
from tests.end_to_end.runs import ROOT, finish, numbers, start_all
from tests.end_to_end.runs import TINY as RUN
from tests.limits import HANGS

PHASES = ("classifier_training", "score_training", "stage2_training")
HARDER = {"complete": 0.7, "labelled": 0.5, "length_buckets": (2, 4)}


def both(root, **data):
    """A config, its data set in memory, and the same read in use."""
    values = TINY | {"data": TINY["data"] | data | {"buffer": 0}, "rounds": 2}
    config = configs.from_dict(values | dict.fromkeys(PHASES, ONCE | {"epochs": 2}))
    sets = [pipeline.dataset(config.data, config.task, root, streams=s) for s in (False, True)]
    assert stored.is_stored(sets[1].splits["train"]) and stored.is_stored(sets[1].splits["test"])
    return config, *sets


@pytest.mark.parametrize("harder", [{}, HARDER])
def test_rows_are_those_of_a_split_in_memory(tmp_path, rng, harder):
    _, held, read = both(tmp_path, train=700, test=300, **harder)
    for split in ("train", "test"):
        one, two = held.splits[split], read.splits[split]
        np.testing.assert_array_equal(one.label, two.label)
        np.testing.assert_array_equal(one.present, two.present)
        rows = rng.permutation(len(one))[:50]
        for a, b in (
            (one, two),
            (held.standardised[split], read.standardised[split]),
            (held.pooled.splits[split], read.pooled.splits[split]),
        ):
            for some in (rows, slice(3, 9)):
                for x, y in zip(*map(columns, (a.at(some), b.at(some))), strict=True):
                    assert x.dtype == y.dtype or x.dtype.kind == y.dtype.kind == "U"
                    np.testing.assert_allclose(x, y, rtol=1e-6) if x.dtype.kind == "f" else (
                        np.testing.assert_array_equal(x, y)
                    )


def columns(batch: Batch) -> list[np.ndarray]:
    return [*batch.features.values(), *batch.valid.values(), batch.label, batch.id]


@pytest.mark.parametrize("labels", synthetic.synthetic_labels.TASKS)
def test_a_synthetic_set_drawn_in_blocks_has_the_numbers_of_one_drawn_at_once(labels, monkeypatch):
    monkeypatch.setattr(synthetic_parts, "FILE_ROWS", 64)
    size = 2 * 64 + 5
    whole = synthetic.read(size, 7, 9, 3, labels=labels)
    for split, parts in synthetic.blocks(size, 7, 9, 3, labels=labels).items():
        parts = [columns(part()) for part in parts]
        for x, *each in zip(columns(whole[split]), *parts, strict=True):
            joined = np.concatenate(each)
            if x.dtype.kind == "f":
                np.testing.assert_allclose(joined, x, rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(joined, x)


@pytest.mark.usefixtures("compiled_in_haste")
@pytest.mark.parametrize("harder", [{}, HARDER])
def test_trained_parameters_and_results_are_those_of_splits_in_memory(tmp_path, harder):
    """Draws are made in blocks of 16 rows here, and read back from their file."""
    config, *sets = both(tmp_path, **harder)
    found = []
    for dataset in sets:
        folder = tmp_path / str(len(found))
        params, rows = {}, []
        for name in ("two_stage", "zero_trained", "linear_probe", "bayes", "imder"):
            method = registry()[name](config, dataset, Reporter())
            places = Places(folder, dataset.content).phase(config, 0)
            params[name] = train(method, 0, places).params
            conditions = conditions_of(dataset, config.evaluation, 0)
            made = evaluate([Member(name, method, params[name], 2)], conditions, 0)[name]
            rows += [r for r in made if r["metric"] != "seconds"]
        keys = ("system", "protocol", "condition", "metric")
        found.append((params, {tuple(r[k] for k in keys): r["value"] for r in rows}))
        assert bool([*folder.glob("**/train.npy")]) == (dataset is sets[1])
    one, two = found
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one[0], two[0]
    )
    assert one[1] == pytest.approx(two[1], rel=1e-4, abs=1e-5, nan_ok=True)


def test_a_record_is_read_once_for_all_columns_of_a_batch_and_its_own_rows_alone(rng):
    values, reads = rng.random((40, 3)).astype(np.float32), []

    def read(rows):
        reads.append(rows.tolist())
        return {"x": values[rows], "valid": values[rows] > 0.5}

    kinds = {"x": stored.Kind((3,), np.dtype("f4")), "valid": stored.Kind((3,), np.dtype(bool))}
    table = stored.Table(read, 40, kinds).mapped(lambda part, _: {**part, "twice": 2 * part["x"]})
    reads.clear()
    own = [rng.permutation(40)[:4] for _ in range(5)]
    made = [*in_turn(Source(table.columns()), own)]
    assert reads == [rows.tolist() for rows in own]
    for rows, batch in zip(own, made, strict=True):
        np.testing.assert_array_equal(batch["twice"], 2 * values[rows])


def test_whoever_takes_a_column_for_an_array_is_told():
    column = stored.Table(lambda rows: {"x": rows}, 3, {"x": stored.Kind((), np.dtype(int))})
    with pytest.raises(TypeError, match="lies on a disk"):
        np.asarray(column.columns()["x"])


RECORDED = """
import json, sys
from mmdjax import main
from mmdjax.training import reading
seen, read = [], reading._Batches.__getitem__

def recorded(self, index):
    seen.append(self._rows[index].tolist())
    return read(self, index)

reading._Batches.__getitem__ = recorded
sys.argv[0] = "mmdjax.main"
try:
    main.console()
finally:
    print("rows", json.dumps(seen))
"""


def test_two_processes_read_their_own_rows_and_get_the_numbers_of_one(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(RUN)
    given, found = ("--config.data.buffer=0", "--config.systems=('linear_probe',)"), {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        program = ("-c", RECORDED)
        running = start_all(
            config, folder, *given, processes=processes, devices=3 - processes, program=program
        )
        seen = [json.loads(finish(p).rpartition("rows ")[2]) for p in running]
        found[processes] = numbers(folder), seen
    (one, (whole,)), (two, (first, second)) = found[1], found[2]
    assert one == pytest.approx(two, rel=1e-4, abs=1e-5, nan_ok=True)
    assert len(whole) == len(first) == len(second) > 0
    for rows, left, right in zip(whole, first, second, strict=True):
        assert rows == left + right and len(left) == len(right)


WIDE = {"one": (40, 100), "two": (40, 100)}
TRAINED = """
import sys, threading
from pathlib import Path
import jax
import tensorflow_datasets as tfds
from mmdjax import config as configs
from mmdjax.data import builder
from mmdjax.data.dataset import Dataset
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import SENTIMENT
from mmdjax.training.train import train
from mmdjax.workdir import Places
from tests.conftest import TINY
from tests.protocols.test_streaming import PHASES, ONCE

def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

most, end = [0.0], threading.Event()

def watch():
    while not end.wait(0.005):
        most[0] = max(most[0], held())

folder, work = map(Path, sys.argv[1:3])
made = tfds.builder_from_directory(folder)
values = TINY | {"rounds": 1} | dict.fromkeys(PHASES, ONCE | {"batch": 64})
evaluation = {"draws": 1, "batch": 256, "rates": (0.3,)}
config = configs.from_dict(values | {"evaluation": evaluation})
jax.config.update("jax_disable_most_optimizations", True)
threading.Thread(target=watch, daemon=True).start()
splits = {s: builder.opened(made, s, 0, True, print) for s in made.info.splits}
dataset = Dataset(splits, SENTIMENT, "wide")
method = TwoStage(config, dataset, Reporter())
params = train(method, 0, Places(work, "wide").phase(config, 0)).params
evaluate([Member("two_stage", method, params, 1)], conditions_of(dataset, config.evaluation, 0), 0)
end.set()
print(most[0])
"""


def test_memory_does_not_grow_with_the_number_of_utterances(tmp_path):
    """Training and evaluation, in a process of their own, of utterances of 32 KB."""
    held = {}
    for size in (256, 1024, 6144):  # the first one compiles
        train, valid = wide(size), wide(256)
        splits = {"train": train, "valid": valid, "test": train}
        builder.prepare("wide", str(size), lambda s=splits: s, tmp_path / "data")
        given = (tmp_path / "data" / "wide" / str(size) / "1.0.0", tmp_path / str(size))
        done = subprocess.run(
            [sys.executable, "-c", TRAINED, *map(str, given)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 0, done.stderr
        held[size] = float(done.stdout.split()[-1])
    # In memory the standardised splits alone would take this.
    more = 2 * (6144 - 1024) * 4 * sum(t * c for t, c in WIDE.values()) / 2**20
    print({size: f"{mebibytes:.0f} MiB" for size, mebibytes in held.items()}, f"{more:.0f} more")
    assert held[6144] - held[1024] < 0.3 * more, held


def wide(size: int) -> list:
    """Blocks of utterances whose label is in their features."""

    def block(start: int) -> Batch:
        rng, rows = np.random.default_rng(start), min(stored.FILE_ROWS, size - start)
        features = {m: rng.standard_normal((rows, *s)).astype(np.float32) for m, s in WIDE.items()}
        label = features["one"].mean((1, 2)).clip(-0.1, 0.1) * 30
        valid = {m: np.ones((rows, s[0]), bool) for m, s in WIDE.items()}
        return Batch(features, valid, label, np.arange(start, start + rows).astype(str))

    return [lambda i=i: block(i) for i in range(0, size, stored.FILE_ROWS)]


def test_epochs_are_not_picked_on_a_test_split_that_is_read_in_use(tmp_path):
    """Said before anything is trained."""
    values = TINY | {"data": TINY["data"] | {"test": 300, "buffer": 0}, "systems": ("zero",)}
    values["evaluation"] = TINY["evaluation"] | {"as_published": True}
    with pytest.raises(UserError, match=r"as_published.*allowed"):
        run(configs.from_dict(values), tmp_path / "work")
    assert not (tmp_path / "work" / "checkpoints").exists()
