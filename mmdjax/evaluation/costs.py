"""The cost of draws: seconds, evaluations and parameters."""

from __future__ import annotations

import time
from collections.abc import Mapping

import jax
import numpy as np

from mmdjax.methods.method import Method
from mmdjax.runtime.progress import Reporter

ROUNDS = 5  # of timing, after one that compiles


def draw_costs(methods: Mapping[str, Method], reporter: Reporter) -> dict[str, dict]:
    """Return the cost of a thousand draws of one modality given all others, by system.

    Systems take turns, so that all see the same machine.

    Args:
      methods: name of a system -> its method, which draws.

    Returns:
      name -> {'seconds', 'quartiles', 'nfe', 'parameters' of one modality's network, 'batch'}.
    """
    calls, costs = {}, {}
    for name, method in methods.items():
        measured = method.draw_call()
        if measured is not None:
            calls[name], costs[name] = measured
    with reporter.phase("time of draws", (ROUNDS + 1) * len(calls)) as progress:
        for name, call in calls.items():
            costs[name]["nfe"] = int(np.max(call()[1]))
            progress.advance()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                begun = time.perf_counter()
                jax.block_until_ready(call())
                spent = time.perf_counter() - begun
                seconds[name].append(1000 * spent / costs[name]["batch"])
                progress.advance()
    for name, spent in seconds.items():
        low, middle, high = np.quantile(spent, (0.25, 0.5, 0.75))
        costs[name] |= {"seconds": float(middle), "quartiles": [float(low), float(high)]}
    return costs
