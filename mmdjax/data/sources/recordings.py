"""Splits drawn at random by recording, so that none is trained on and tested with."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mmdjax.errors import UserError

# What follows the name of a recording in the ids of its utterances: CMU's 'v[3]', MMSA's 'v$_$3'.
_CLIP = re.compile(r"(\[\d+\]|\$_\$.*)$", re.DOTALL)
# The same in many other sets, 'v_3', 'dia0_utt3', 'Ses01F_impro01_F003': if it leaves several.
_NUMBER = re.compile(r"_(utt)?[A-Za-z]?\d+$")


def recordings_of(ids: np.ndarray) -> np.ndarray:
    """(N,) str, what ids (N,) say of the recordings; the ids themselves where that is nothing."""
    names = np.array([_CLIP.sub("", name) for name in ids.tolist()], str)
    if (names != ids).any():
        return names
    names = np.array([_NUMBER.sub("", name) for name in ids.tolist()], str)
    return names if 3 <= len(set(names.tolist())) < len(ids) else ids


def divided(
    where: str, recording: np.ndarray, shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Rows of each part, ascending; every part has a recording.

    Args:
      where: of the data, for messages. recording: (N,) str. shares: part -> share, 1 in all.

    Raises:
      UserError: fewer recordings than parts.
    """
    names, code = np.unique(recording, return_inverse=True)
    count, parts = len(names), len(shares)
    if count < parts:
        raise UserError(
            f"{where}: {count} recordings to be divided into {', '.join(shares)}; allowed: at "
            f"least {parts}, or a file with splits"
        )
    ends: list[int] = []
    for place, total in enumerate(np.cumsum(list(shares.values()))):
        least, most = ends[-1] + 1 if ends else 1, count - (parts - 1 - place)
        ends.append(int(np.clip(round(total * count), least, most)))
    part_of = np.searchsorted(ends, rng.permutation(count)[code], side="right")
    return {name: np.flatnonzero(part_of == i) for i, name in enumerate(shares)}
