"""From a trained method to a `bundle`, which needs neither its data nor its checkpoints."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

import mmdjax
from mmdjax import config as configs
from mmdjax.methods.method import Method
from mmdjax.runtime import processes
from mmdjax.serving import bundle


def publish(method: Method, params, seed: int, folder: Path, content: str) -> None:
    """Write the model of one seed into `folder`.

    Args:
      method: with its data, of which 'train' and 'valid' are read. params: phase -> parameters.
      content: names the data.

    Raises:
      UserError: the method cannot be served.
    """
    served = method.served(params, seed)
    if not processes.is_first():
        return
    config, conversations = method.config, method.sees == "conversations"
    keys = {name: key for key, name in config.data.names_by_key().items()}
    modalities = []
    for m, x in method.dataset.splits["train"].features.items():
        explained = served.explained.get(m)
        modality = {
            "name": m,
            "key": keys.get(m, m),
            "frames": 1 if conversations else x.shape[1],  # one vector an utterance
            "channels": x.shape[2],
            "explained": None if explained is None else round(explained, 4),
        }
        modalities.append(modality)
    signature = {
        "mmdjax": mmdjax.__version__,
        "title": config.title,
        "modalities": modalities,
        "task": method.task.describe(),
        "draws": config.evaluation.draws if method.draws else 1,
        "seed": seed,
        "data": content,
        "config": configs.to_dict(config),
    }
    arrays = jax.tree.map(np.asarray, served.arrays)
    bundle.save(folder, bundle.Bundle(signature | served.about, arrays))
