"""Settings of training: the phases, and the devices that they are spread over."""

from __future__ import annotations

import dataclasses

from mmdjax.runtime.settings import field


@dataclasses.dataclass(frozen=True)
class Training:
    """One training phase: AdamW with warm-up, cosine decay and gradient clipping.

    Attributes:
      epochs: at most.
      passes: times that an epoch goes through the data; more than once for small sets, so that
        validation takes its share of the time and no more.
      patience: epochs without a better validation loss before it stops.
      batch: samples a step, over all devices.
      learning_rate: at its peak.
      warmup: steps of linear warm-up; at most half of all steps.
      weight_decay: decoupled (AdamW).
      clip: largest global norm of the gradient.
      ema: decay of the averaged parameters that are validated and kept; 0 is no averaging.
    """

    epochs: int = field(50, low=1)
    passes: int = field(1, low=1, auto=True)
    patience: int = field(10, low=1)
    batch: int = field(32, low=1, auto=True)
    learning_rate: float = field(1e-3, above=0)
    warmup: int = field(100, low=0)
    weight_decay: float = field(5e-3, low=0)
    clip: float = field(1.0, above=0)
    ema: float = field(0.0, low=0, below=1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices of training, data x fsdp of them. Nothing here changes what is learned.

    Attributes:
      data: parts of a batch with parameters of their own; 0 for as many as there are devices (of
        one process: as many of them as divide the batch).
      fsdp: devices that share one copy of the parameters, the average and the optimiser's state.
        Each takes a part of the batch, too.
      shard_from: bytes from which the vector of a phase's parameters is shared rather than copied.
      cpu: devices that `mmdjax.main` divides a CPU into, each of which takes a part of every batch.
        Operations on small networks are too small to be shared by threads: on two idle cores, 2
        trains the score networks of configs/synthetic.py 1.7 times faster. Where other programs
        compete for the cores, 1 is faster.
    """

    data: int = field(0, low=0)
    fsdp: int = field(1, low=1)
    shard_from: int = field(65536, low=1)
    cpu: int = field(1, low=1)


TRAINING, MESH = Training(), Mesh()
STUDENT_TRAINING = Training(epochs=10, warmup=10, ema=0.99)  # of networks that are trained already
