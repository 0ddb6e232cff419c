"""Flags of `--mode=serve`, with their bounds."""

from __future__ import annotations

from typing import NamedTuple

from absl import flags

_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to serve at; 0.0.0.0: all (serve).")
_PORT = flags.DEFINE_integer("port", 8000, "Its port; 0: any free one (serve).", 0, 65535)
_EXAMPLES = flags.DEFINE_string("examples", None, "Utterances for the page, .npz or .json (serve).")
_BATCH = flags.DEFINE_integer("batch", 8, "Utterances in a call of the model (serve).", 1, 4096)
_WAIT = flags.DEFINE_float("wait", 2.0, "Milliseconds that a call waits for others (serve).", 0)
_TIMEOUT = flags.DEFINE_float("timeout", 30.0, "Seconds that a request may take (serve).", 0.001)
_BODY = flags.DEFINE_float("body", 16.0, "MiB of a request's body, unpacked too (serve).", 0.001)
_QUEUE = flags.DEFINE_integer("queue", 256, "Utterances that may wait (serve).", 1)


class Settings(NamedTuple):
    """The flags; wait: seconds. body: bytes."""

    host: str
    port: int
    examples: str | None
    batch: int
    wait: float
    timeout: float
    body: int
    queue: int


def settings() -> Settings:
    """Return what the flags say."""
    return Settings(
        _HOST.value,
        _PORT.value,
        _EXAMPLES.value,
        _BATCH.value,
        _WAIT.value / 1000,
        _TIMEOUT.value,
        int(_BODY.value * 2**20),
        _QUEUE.value,
    )
