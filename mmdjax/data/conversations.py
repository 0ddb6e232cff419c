"""Where utterances stand in their conversations: speakers and positions, numbered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmdjax.data.formats.lazy import quoted, refused
from mmdjax.types import Batch


def check_apart(where: str, splits: Mapping[str, Batch]) -> None:
    """Raise `UserError` where a conversation stands in two splits, or where some splits have none.

    Args:
      where: of the data, for messages.
    """
    without = [split for split, batch in splits.items() if batch.talk is None]
    if 0 < len(without) < len(splits):
        problem = f"split {quoted(without[0], 64)} has no column of conversations"
        raise refused(where, problem, "one in every split, or in none")
    seen: dict[str, str] = {}
    for split, batch in splits.items():
        for name in dict.fromkeys(batch.talk.conversation.tolist()) if batch.talk else ():
            if name in seen:
                problem = f"conversation {quoted(name)} in splits {seen[name]!r} and {split!r}"
                raise refused(where, problem, "once")
            seen[name] = split


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
