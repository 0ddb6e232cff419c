"""Scaling over devices: the formulas against hand-worked numbers, a program read, and a run."""

import pytest

from benchmarks import pod_model, scaling
from benchmarks.pod_model import Chip, Work
from tests.end_to_end.benchmark import smoke

# Round numbers: 4 GB of parameters, 1e12 operations a sample, two layers.
WORK = Work(parameters=10**9, operations=1e12, layers=2)
CHIP = Chip(
    peak=1e14, memory=1e12, links=2e11, group=1e11, across=1e11, reduce_seconds=1e-3,
    gather_seconds=1e-4,
)  # fmt: skip
HLO = """\
HloModule step

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%body (state: (s32[], f32[10,4])) -> (s32[], f32[10,4]) {
  %reduced = (f32[10,4]{1,0}, /*index=1*/bf16[6]{0}) all-reduce(%a, %b), channel_id=1, \
replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}, to_apply=%add
}

%condition (state: (s32[], f32[10,4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: f32[10,4]) -> f32[10,4] {
  %loop = (s32[], f32[10,4]{1,0}) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %gathered = f32[16]{0} all-gather(%c), channel_id=2, replica_groups=[4,2]<=[8], dimensions={0}
  %part = f32[3]{0} reduce-scatter(%d), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
}
"""


def test_what_a_program_sends_counts_loops_as_often_as_they_run():
    found = pod_model.exchanged(HLO)
    # 10 * 4 floats and 6 of two bytes: 172 bytes, five times; 2 * 3/4 of them by a ring of four.
    assert found["all-reduce"] == {"times": 5, "operands": 5 * 172, "sent": 5 * 172 * 1.5}
    # 64 bytes out of two parts of 32; three floats left of four times as many.
    assert found["all-gather"] == {"times": 1, "operands": 32, "sent": 32}
    assert found["reduce-scatter"] == {"times": 1, "operands": 48, "sent": 36}


def test_a_group_that_cannot_be_read_is_an_error_not_a_guess():
    with pytest.raises(ValueError, match="groups"):
        pod_model.exchanged(HLO.replace("{{0,1,2,3},{4,5,6,7}}", "somehow"))


def test_a_device_sends_what_rings_send():
    assert pod_model.sent_bytes(0, 800, 8, 1) == {"group": 0, "across": 0, "all": 2 * 700}
    # Three times 3/4 in the group of four, then 2 * 1/2 of a quarter, and copies among all eight.
    sent = pod_model.sent_bytes(800, 80, 2, 4)
    assert sent == {"group": 1800, "across": 200, "all": 140}


def test_data_parallel_communication_by_hand():
    found = pod_model.communication(WORK, CHIP, 256)
    assert found["bytes"] == pytest.approx(2 * 255 / 256 * 4e9)
    assert found["latency"] == pytest.approx(0.002)
    assert found["seconds"] == pytest.approx(0.03984375 + 0.002)


def test_fully_sharded_communication_by_hand():
    found = pod_model.communication(WORK, CHIP, 256, fsdp=8)
    group, across = 3 * 7 / 8 * 4e9, 2 * 31 / 32 * 0.5e9
    assert found["bytes"] == pytest.approx(group + across)
    assert found["latency"] == pytest.approx(2 * (3e-4 + 1e-3))
    assert found["seconds"] == pytest.approx(0.105 + 0.0096875 + 0.0026)


def test_compute_update_and_efficiency_by_hand():
    assert pod_model.compute_seconds(WORK, CHIP, 8, 0.5) == pytest.approx(0.16)
    assert pod_model.update_seconds(WORK, CHIP, fsdp=4) == pytest.approx(0.009)
    assert pod_model.efficiency(3.0, 1.0, overlap=False) == 0.75
    assert pod_model.efficiency(3.0, 1.0, overlap=True) == 1.0
    assert pod_model.efficiency(1.0, 4.0, overlap=True) == 0.25


def test_the_smallest_batch_is_the_first_that_reaches_the_target():
    seconds = 0.0418  # of 0.01 a sample at full peak: nine times 4.18
    batch = pod_model.smallest_batch(WORK, CHIP, seconds, 1.0, 0.9)
    assert batch == 38
    for samples, reached in ((batch - 1, False), (batch, True)):
        compute = pod_model.compute_seconds(WORK, CHIP, samples, 1.0)
        assert (pod_model.efficiency(compute, seconds, overlap=False) >= 0.9) == reached


def test_a_torus_has_the_bandwidth_its_maker_publishes():
    for name, chip in (("TPU v4", 1.1e15 / 4096), ("TPU v5e", 51.2e12 / 256)):
        assert pod_model.CHIPS[name].links == pytest.approx(chip, rel=0.01)
    assert pod_model.CHIPS["TPU v5p"].links == 1200e9 / 2  # published for both directions
    assert pod_model.CHIPS["TPU v5e"].reduce_seconds == pytest.approx(32e-6)
    assert pod_model.CHIPS["H100"].reduce_seconds == pytest.approx(106.2e-6)


def test_cases_are_powers_of_two_and_share_what_strong_and_weak_have_in_common():
    assert scaling.cases(1, 64) == [(1, 1, 64)]
    assert scaling.cases(2, 64) == [(1, 1, 32), (1, 1, 64), (1, 2, 64), (2, 1, 64)]
    assert len(scaling.cases(8, 64)) == 12


def test_overhead_is_seconds_a_sample_over_those_of_one_device():
    keys = ("devices", "batch", "seconds")
    given = [dict(zip(keys, row, strict=True)) for row in ((1, 4, 1), (1, 8, 2), (2, 8, 3))]
    shared = scaling.with_overhead(given, real=False)[-1]
    assert (shared["strong"], shared["weak"]) == (1.5, 1.5)
    assert scaling.with_overhead(given, real=True)[-1]["strong"] == 3.0


@pytest.mark.benchmark
def test_the_command_writes_its_tables_and_figure(tmp_path):
    result = smoke("scaling", tmp_path)
    assert {(r["data"], r["fsdp"]) for r in result["rows"]} == {(1, 1), (2, 1), (1, 2)}
    for row in result["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high
    spread = next(r for r in result["rows"] if (r["data"], r["fsdp"]) == (2, 1))
    assert spread["sent"] == pytest.approx(spread["predicted"], rel=0.1)
    alone = next(r for r in result["rows"] if r["devices"] == 1)
    shared = next(r for r in result["rows"] if r["fsdp"] == 2)
    assert alone["sent"] == 0 and shared["held"] < 0.8 * spread["held"]
    assert {r["chip"] for r in result["pod"]} == set(pod_model.CHIPS)
