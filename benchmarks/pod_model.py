"""What a training step exchanges: read from a compiled program, and predicted for a pod of chips.

A chip's numbers come from public documents:

- Google, cloud.google.com/tpu/docs v4, v5e, v5p: peak bf16 operations, memory, topology.
- "How to Scale Your Model", jax-ml.github.io/scaling-book, parts "TPUs" (bytes a second of a link,
  one way), "Sharding" (time of collectives on a torus, about 1 us a hop) and "GPUs" (H100: 450e9
  bytes a second out of a GPU inside a node of 8, 400e9 out of a node, 3.35e12 of memory). Google's
  all-reduce bandwidth of a pod over its chips says the same: v4 1.1e15 / 4096, v5e 51.2e12 / 256.
- NVIDIA NCCL, src/graph/tuning.cc: latency of a hop over NVLink and over the network.
- H100 in TF32, 494.7e12: glennklockwood.com/garden/processors/h100, after NVIDIA's white paper.

Training multiplies float32 operands. By default JAX does so in bf16 on a TPU and in TF32 on an H100
(docs.jax.dev, "Matmul precision"); peaks are those.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

from benchmarks.common import draw_operations

FLOAT = 4  # bytes
POD, TARGET = 256, 0.9  # chips; efficiency to reach
BATCHES = (8, 16, 32, 64, 128, 256, 512)  # samples a chip
GROUP = 8  # chips that share one copy of the parameters in the fsdp rows
HOP = 1e-6  # seconds, one hop between neighbouring TPUs
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
SIZES |= {"s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Chip(NamedTuple):
    """One chip of a pod of 256. Bytes a second are those that leave it, all in one direction.

    Attributes:
      peak: operations a second of a float32 matrix product at default precision.
      memory: bytes a second.
      links: of one ring (or several at once) through all chips.
      group: among the 8 chips of an fsdp group.
      across: between fsdp groups, all chips of a group at once.
      reduce_seconds, gather_seconds: latency of one all-reduce over all chips, and of one
        all-gather or reduce-scatter in a group.
    """

    peak: float
    memory: float
    links: float
    group: float
    across: float
    reduce_seconds: float
    gather_seconds: float


def tpu(peak: float, memory: float, link: float, torus: tuple[int, ...]) -> Chip:
    """A TPU in a torus of 256 chips, an fsdp group along one of its axes.

    An all-reduce is a reduce-scatter and an all-gather, each half way around every axis: latency
    2 * sum(axes) / 2 hops. Eight chips are a ring where an axis has eight, else a line, of which
    only one direction counts.

    Args:
      link: bytes a second, one link, one way. torus: chips along each axis.
    """
    axes = len(torus)
    ring = 2 if GROUP in torus else 1
    across = 2 * (axes - 1) * link
    return Chip(
        peak, memory, 2 * axes * link, ring * link, across, HOP * sum(torus), HOP * (GROUP - 1)
    )


def nccl_tree_seconds(nodes: int, gpus: int) -> float:
    """Latency of one all-reduce by a tree over `nodes` of `gpus` each (tuning.cc, LL128)."""
    return 1e-6 * (4.4 + 2 * ((gpus - 1) * 1.2 + math.log2(nodes) * 8.5))


def nccl_ring_seconds(gpus: int) -> float:
    """Latency of one all-gather or reduce-scatter inside a node (tuning.cc, ring, LL128)."""
    return 1e-6 * (10.0 + (gpus - 1) * 1.9)


CHIPS = {
    "TPU v4": tpu(275e12, 1.2e12, 4.5e10, (4, 8, 8)),
    "TPU v5e": tpu(197e12, 8.19e11, 5e10, (16, 16)),
    "TPU v5p": tpu(459e12, 2.765e12, 1e11, (4, 8, 8)),
    # 32 nodes of 8: rings cross between nodes over 8 network cards of 50e9 bytes a second.
    "H100": Chip(
        494.7e12, 3.35e12, 400e9, 450e9, 50e9, nccl_tree_seconds(32, 8), nccl_ring_seconds(8)
    ),
}


class Work(NamedTuple):
    """parameters of all networks; operations of one sample's step; layers, exchanged in turn."""

    parameters: int
    operations: float
    layers: int


def step_operations(sizes: dict, modalities: int = 3) -> float:
    """Operations of one sample's optimiser step: a forward pass of each modality's network given
    the others, and a backward pass that is twice as much (Kaplan et al. 2020, section 2.1).

    Args:
      sizes: see `common.draw_operations`.
    """
    return 3 * modalities * draw_operations(sizes, nfe=1, conditions=modalities - 1)


def ring_bytes(kind: str, whole: float, group: int) -> float:
    """Bytes a device sends in one collective of bandwidth-optimal rings (Patarasuk & Yuan 2009).

    Args:
      kind: of `KINDS`. whole: bytes of the array before it is scattered, or once it is gathered.
      group: devices that take part.
    """
    if kind == "collective-permute":
        return whole
    return (2 if kind == "all-reduce" else 1) * (group - 1) / group * whole


def sent_bytes(shared: float, copied: float, data: int, fsdp: int) -> dict[str, float]:
    """Bytes a device sends in a step: within its fsdp group, across groups, and among all.

    Shared parameters are gathered forward and backward, their gradients scattered in the group and
    reduced across groups; gradients of copied ones are reduced among all.

    Args:
      shared, copied: bytes of parameters that are spread over 'fsdp', and of those that are not.
    """
    gathered = 2 * ring_bytes("all-gather", shared, fsdp)
    return {
        "group": gathered + ring_bytes("reduce-scatter", shared, fsdp),
        "across": ring_bytes("all-reduce", shared / fsdp, data),
        "all": ring_bytes("all-reduce", copied, data * fsdp),
    }


def communication(work: Work, chip: Chip, chips: int, fsdp: int = 1) -> dict[str, float]:
    """Bytes that a chip sends and seconds that this takes, of these latency; layer after layer.

    Args:
      fsdp: 1 for data parallel, or `GROUP`.
    """
    whole = FLOAT * work.parameters
    if fsdp == 1:
        sent, latency = sent_bytes(0, whole, chips, 1), work.layers * chip.reduce_seconds
    else:
        sent = sent_bytes(whole, 0, chips // fsdp, fsdp)
        latency = work.layers * (3 * chip.gather_seconds + chip.reduce_seconds)
    moving = sent["group"] / chip.group + sent["across"] / chip.across + sent["all"] / chip.links
    return {"bytes": sum(sent.values()), "seconds": moving + latency, "latency": latency}


def compute_seconds(work: Work, chip: Chip, batch: float, fraction: float) -> float:
    """Of `batch` samples on one chip at a fraction of its peak."""
    return batch * work.operations / (fraction * chip.peak)


def update_seconds(work: Work, chip: Chip, fsdp: int = 1) -> float:
    """Of AdamW and the average, at memory speed: gradient, parameters, average and two moments are
    read, all but the gradient written."""
    return 9 * FLOAT * work.parameters / fsdp / chip.memory


def efficiency(compute: float, communication: float, overlap: bool) -> float:
    """Compute over compute and what of the communication it does not hide.

    Args:
      overlap: True for all that can be hidden, behind all of compute; False for none.
    """
    exposed = max(0.0, communication - compute) if overlap else communication
    return compute / (compute + exposed)


def smallest_batch(work: Work, chip: Chip, seconds: float, fraction: float, target: float) -> int:
    """Samples a chip from which efficiency without overlap is at least `target`."""
    one = compute_seconds(work, chip, 1, fraction)
    return math.ceil(target / (1 - target) * seconds / one)


def predicted(work: Work, fraction: float) -> list[dict]:
    """A row for each chip, data parallel and with groups of eight."""
    rows = []
    for name, chip in CHIPS.items():
        for fsdp in (1, GROUP):
            row = {"chip": name, "fsdp": fsdp} | communication(work, chip, POD, fsdp)
            one, update = compute_seconds(work, chip, 1, fraction), (work, chip, fsdp)
            row |= {"compute": one, "update": update_seconds(*update)}
            for key, overlap in (("exposed", False), ("hidden", True)):
                row[key] = [efficiency(b * one, row["seconds"], overlap) for b in BATCHES]
            smallest = smallest_batch(work, chip, row["seconds"], fraction, TARGET)
            rows.append(row | {"smallest": smallest})
    return rows


def chip_table() -> tuple:
    """Title, header and body for `common.write`."""
    body = [
        [
            name,
            f"{c.peak / 1e12:.0f}",
            *(f"{bandwidth / 1e9:.0f}" for bandwidth in (c.memory, c.links, c.group, c.across)),
            f"{1e6 * c.reduce_seconds:.0f}",
            f"{1e6 * c.gather_seconds:.0f}",
        ]
        for name, c in CHIPS.items()
    ]
    header = ["chip", "peak TFLOP/s", "memory GB/s", "links GB/s, one way", "in a group of 8"]
    header += ["between groups", "us an all-reduce", "us a gather in a group"]
    return "Chips: public numbers", header, body


def pod_table(rows: list[dict]) -> tuple:
    """Of rows of `predicted`, as `chip_table`."""
    shown = [BATCHES.index(b) for b in (8, 32, 128, 512)]
    body = []
    for r in rows:
        times = [f"{1e3 * r[k]:.3f}" for k in ("seconds", "latency", "compute", "update")]
        both = [f"{r['exposed'][i]:.2f} / {r['hidden'][i]:.2f}" for i in shown]
        mesh, size = f"{POD // r['fsdp']} x {r['fsdp']}", f"{r['bytes'] / 2**20:.1f}"
        body.append([r["chip"], mesh, size, *times, *both, str(r["smallest"])])
    header = ["chip", "data x fsdp", "MiB sent", "ms exchange", "ms of it latency"]
    header += ["ms compute a sample", "ms update", *(f"batch {BATCHES[i]}" for i in shown)]
    return f"Predicted: {POD} chips", [*header, f"batch a chip for {TARGET:.0%}"], body


def _whole(line: str, shapes: str, kind: str, start: bool) -> tuple[float, int]:
    """Bytes of the whole array of a collective, and its group."""
    found = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes)
    sizes = [SIZES[d] * math.prod(int(n) for n in shape.split(",") if n) for d, shape in found]
    if start and kind != "all-reduce":  # the operands are named before the results
        sizes = sizes[len(sizes) // 2 :]
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line):
        axes = dict(re.findall(r"('\w+')=(\d+)", mesh[1]))
        parts = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", mesh[2])
        group = math.prod(int(part or axes[name]) for name, part in parts)
    elif iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        group = int(iota[1])
    elif listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        group = listed[1].count(",") + 1
    elif kind == "collective-permute":
        group = 2
    else:
        raise ValueError(f"a collective whose groups cannot be read: {line.strip()[:200]}")
    return sum(sizes) * (group if kind == "reduce-scatter" else 1), group


def exchanged(hlo: str) -> dict[str, dict[str, float]]:
    """Collective -> times run, bytes of its operands and bytes sent, of one device, in one run of a
    compiled program. A loop's body counts as often as it runs.

    Args:
      hlo: `compiled.as_text()`.
    """
    own: dict[str, list[tuple[str, Counter]]] = {}
    inner: dict[str, list[tuple[str, int]]] = {}
    entry = name = ""
    for line in hlo.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = head[2]
            entry, own[name], inner[name] = name if head[1] else entry, [], []
            continue
        if op := re.search(rf" = (.+?) ({'|'.join(KINDS)})(-start)?\(", line):
            kind = op[2]
            whole, group = _whole(line, op[1], kind, bool(op[3]))
            operand = whole / group if kind == "all-gather" else whole
            sent = ring_bytes(kind, whole, group)
            own[name].append((kind, Counter(times=1, operands=operand, sent=sent)))
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        for role, callee in re.findall(r"(calls|to_apply|body)=%?([\w.\-]+)", line):
            inner[name].append((callee, int(trips[1]) if trips and role == "body" else 1))

    @functools.cache
    def total(name: str) -> dict[str, Counter]:
        sums = {kind: Counter() for kind in KINDS}
        for kind, counts in own[name]:
            sums[kind].update(counts)
        for callee, times in inner[name]:
            for kind, counts in total(callee).items():
                sums[kind].update({k: times * v for k, v in counts.items()})
        return sums

    return {kind: dict(counts) for kind, counts in total(entry).items() if counts}
