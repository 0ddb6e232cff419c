"""Where utterances stand in their conversations: speakers and positions, numbered."""

from __future__ import annotations

import numpy as np


def speakers_of(conversation: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return (U,) int32: 0, 1, ... within each conversation, in the order of first appearance."""
    numbers: dict = {}
    result = np.zeros(len(names), np.int32)
    for row, (talk, name) in enumerate(zip(conversation.tolist(), names.tolist(), strict=True)):
        known = numbers.setdefault(talk, {})
        result[row] = known.setdefault(name, len(known))
    return result


def positions_of(conversation: np.ndarray) -> np.ndarray:
    """Return (U,) float32: 0, 1, ... within each conversation, in the order of the file."""
    count: dict[str, int] = {}
    result = np.zeros(len(conversation), np.float32)
    for row, name in enumerate(conversation.tolist()):
        result[row] = count.get(name, 0)
        count[name] = count.get(name, 0) + 1
    return result
