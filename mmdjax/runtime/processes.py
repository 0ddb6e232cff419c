"""Several processes of one run (`jax.distributed`): which one writes, and how work is shared.

Every process runs the same program on the same numbers. Only the first one writes; what depends on
a clock or on a folder is decided by the first one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmdjax.errors import UserError
from mmdjax.runtime import stopping

HEARTBEAT_SECONDS = 20  # a process that is silent for so long is dead, and the others end
LEAVING_SECONDS = 30  # a process waits so long for the others when it ends


def start(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Joins the processes of a run; before anything else is asked of JAX.

    Args:
      coordinator: HOST:PORT of process 0; '' to detect all three (TPU pods, SLURM, MPI).
      processes: how many. process: number of this one.

    Raises:
      UserError: some of the three are missing or wrong, or cannot be detected.
    """
    settings = {}
    if coordinator or processes or process >= 0:
        if ":" not in coordinator or not 0 <= process < processes:
            raise UserError(
                f"--coordinator={coordinator!r} --processes={processes} --process={process}; "
                "allowed: HOST:PORT, a number N, and 0 to N - 1"
            )
        settings = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **settings,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=LEAVING_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        allowed = "a TPU pod, SLURM or MPI job, or --coordinator, --processes and --process"
        raise UserError(f"processes do not meet ({reason}); allowed: {allowed}") from None
    # A first exchange waits half a minute for the others and no longer: it is made here, where all
    # arrive at once, and not where some are still compiling.
    meet("start")


def several() -> bool:
    return jax.process_count() > 1


def is_first() -> bool:
    """Returns whether this is the process that writes."""
    return jax.process_index() == 0


def agreed(value: float) -> float:
    """Returns the first process' number on all processes, bit for bit."""
    if not several():
        return value
    words = np.array([value], np.float64).view(np.uint32)  # JAX would round to 32 bits
    return float(np.asarray(multihost_utils.broadcast_one_to_all(words)).view(np.float64)[0])


def all_agree(value: bool) -> bool:
    """Returns whether it is true on every process."""
    if not several():
        return bool(value)
    return bool(multihost_utils.process_allgather(np.int32(value)).all())


def meet(name: str) -> None:
    """Waits for all processes, such as for what the first one wrote."""
    if several():
        multihost_utils.sync_global_devices(name)


def dealt(count: int, call: Callable[[int], object]) -> Iterator:
    """Yields call(0), ..., call(count - 1) on every process; each makes its share of the calls.

    Args:
      call: to a pytree of arrays whose shapes do not depend on the index.
    """
    if not several():
        for index in range(count):
            stopping.check()
            yield call(index)
        return
    processes = jax.process_count()
    for first in range(0, count, processes):
        stopping.check()
        # In the last round some repeat the last call: all have to take part in the exchange.
        result = call(min(first + jax.process_index(), count - 1))
        results = multihost_utils.process_allgather(jax.tree.map(np.asarray, result))
        for place in range(min(processes, count - first)):
            yield jax.tree.map(lambda a, place=place: a[place], results)
