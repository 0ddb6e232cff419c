"""The benchmark of training against PyTorch: what is measured and printed, and its short form."""

import numpy as np
import pytest

from benchmarks import training_quality, vs_torch_training
from benchmarks.common import config_of
from benchmarks.vs_torch_training import CHANNELS, TITLES, cases
from mmdjax import config as configs
from tests.end_to_end.benchmark import smoke

SHAPES = {m: (6, channels) for m, channels in CHANNELS.items()}


def test_every_phase_is_measured_in_both_libraries_at_every_size():
    groups = cases({}, SHAPES, list(TITLES), (32, 128), (12, 24, 48), "largest", gpu=False)
    sizes = {(g[0]["phase"], g[0]["batch"], g[0]["frames"]) for g in groups}
    assert len(sizes) == len(groups) == 4 * 2 * 3
    for group in groups:
        libraries = [c["library"] for c in group]
        assert libraries[0] == "eager" and libraries.count("mmdjax") == 2
        largest = (group[0]["batch"], group[0]["frames"]) == (32, 48)
        assert ("compile" in libraries) == largest
        assert {c["side"] for c in group if c["library"] != "mmdjax"} == {"PyTorch, malloc raised"}


def test_on_a_gpu_sides_that_differ_in_malloc_and_devices_are_one():
    (group,) = cases({}, SHAPES, ["score"], (32,), (48,), "all", gpu=True)
    assert [(c["side"], c["library"]) for c in group] == [
        ("PyTorch", "eager"),
        ("PyTorch", "compile"),
        ("mmdjax", "mmdjax"),
    ]


def test_speed_is_printed_against_pytorch_as_it_is_usually_run():
    about = {"group": "g", "operations": 2e9, "ceiling_gflops": 100.0, "peak_bytes": 1e6}
    about |= {"quartiles": (0.1, 0.2), "compiling": 1.0}
    rows = []
    for name, seconds in (("PyTorch, eager", 0.4), ("mmdjax", 0.1)):
        speed = {
            "examples": 32 / seconds,
            "gflops": 2 / seconds,
            "share_of_ceiling": 0.02 / seconds,
        }
        rows.append(about | {"name": name, "seconds": seconds} | speed)
    ((title, header, body),) = vs_torch_training.sections(rows)
    assert title == "g (2.0 GFLOP)"
    assert [line[header.index("times faster than the first")] for line in body] == ["1.00", "4.00"]
    assert [line[header.index("share of ceiling")] for line in body] == ["5 %", "20 %"]


def test_made_up_sentiment_can_be_learned_and_is_the_same_in_every_process():
    config = config_of("mosi_fast")
    first, second = (training_quality.dataset_of(config, SHAPES, smoke=True) for _ in range(2))
    for split, batch in first.splits.items():
        np.testing.assert_array_equal(batch.label, second.splits[split].label)
        assert batch.label.min() >= -3 and batch.label.max() <= 3
    train = first.splits["train"]
    there = train.valid["language"][..., None]
    mean = (train.features["language"] * there).sum(1) / there.sum(1)
    cross = np.corrcoef(mean @ np.linalg.lstsq(mean, train.label, rcond=None)[0], train.label)
    assert cross[0, 1] > 0.9
    constant = np.abs(first.splits["valid"].label - np.median(train.label)).mean()
    assert training_quality.wanted_loss(first, 0.0) == pytest.approx(0.75 * constant)
    assert training_quality.wanted_loss(first, 1.25) == 1.25


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    pytest.importorskip("torch", reason="the twin needs PyTorch, of the extra bench")
    result = smoke(
        "vs_torch_training", tmp_path, "--quality", "--config.classifier_training.epochs=2"
    )
    assert [r["name"] for r in result["rows"]] == ["PyTorch, malloc raised, eager", "mmdjax"]
    for row in result["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high
        numbers = ("operations", "gflops", "share_of_ceiling", "examples", "peak_bytes")
        assert all(row[name] > 0 for name in numbers) and row["compiling"] >= 0
    assert [r["name"] for r in result["quality"]] == ["PyTorch, malloc raised, eager", "mmdjax"]
    first, second = (r["marks"] for r in result["quality"])
    # The same weights, batches and rates; dropout is each side's own.
    assert [loss for _, loss in first] == pytest.approx([loss for _, loss in second], rel=0.1)
    assert configs.from_dict(result["config"]).latents.frames == 8
