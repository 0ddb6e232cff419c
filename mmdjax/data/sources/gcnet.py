"""Conversations of any layout that `from_file` reads and that names them.

Such are GCNet's folder (see `formats/gcnet_folder.py`), and an `.npz` of arrays over utterances
with `conversation` or `video`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mmdjax.data.formats.lazy import quoted, refused
from mmdjax.data.sources import from_file
from mmdjax.types import Batch


def read(
    path: str,
    modalities: Mapping[str, str],
    seed: int = 0,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Batch]:
    """Read the three splits, each conversation in one of them; arguments as of `from_file.read`.

    Raises:
      UserError: naming file and utterance: what `from_file.read` refuses, no conversations, or an
        utterance that is there twice.
    """
    splits = from_file.read(path, modalities, seed=seed, tell=tell)
    if splits["train"].talk is None:
        raise refused(path, "no array 'conversation' or 'video'", "a name for each utterance")
    seen: dict[str, str] = {}
    for split, batch in splits.items():
        for id in batch.id.tolist():
            if id in seen:
                problem = f"utterance {quoted(id)} in splits {seen[id]!r} and {split!r}"
                raise refused(path, problem, "once")
            seen[id] = split
    return splits
