"""Every field with its default, documented in `mmdjax/config/__init__.py`; others start here."""

import ml_collections

from mmdjax import config


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(config.to_dict(config.Config()))
