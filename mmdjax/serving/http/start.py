"""`--mode=serve`: a model behind an address, until a signal ends it."""

from __future__ import annotations

import json
import signal
import socket
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mmdjax.errors import UserError, require
from mmdjax.serving import loader
from mmdjax.serving.http.settings import Settings, settings

EXPORTED = "a file that --mode=export wrote"


def start(
    archive: str | None,
    workdir: str | None,
    seed: int | None = None,
    draws: int | None = None,
    level: float = 0.9,
    report: Callable[[str], None] = print,
) -> None:
    """Serve an exported model, or that of a run, which is exported first.

    Args:
      archive, workdir: one of them. seed, draws, level: of a run's model, see `Imputer.load` and
        `export`.
      report: called with a line when requests are answered.

    Raises:
      UserError: no such model, an address that is taken, a package that is not installed.
    """
    try:
        import uvicorn

        from mmdjax.serving.http.app import make
    except ImportError as error:
        problem = f"--mode=serve needs {error.name}, which is not installed"
        raise UserError(f"{problem}; allowed: pip install 'mmdjax[serve]'") from None
    from mmdjax.serving.http import examples

    given, chosen = archive or workdir, settings()
    require(given, "--input is missing", f"{EXPORTED}, or --workdir of a finished run")
    require(not (archive and workdir), "--input and --workdir", "one of them")
    fixed = "what the file was exported with; --workdir in place of --input"
    require(workdir or draws is None, f"--draws={draws}", fixed)
    model = load(Path(archive), chosen) if archive else _of_run(workdir, seed, draws, level, chosen)
    path = chosen.examples and Path(chosen.examples)
    shown = examples.of_file(model, path, chosen.body) if path else []
    with _listening(chosen) as listener:
        _warm_up(model)
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        report(f"{given} answers at http://{host}:{port}; Ctrl-C or SIGTERM ends it")
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn waits for open requests, then raises the signal again: that is no failure.
            signal.signal(number, lambda *_: sys.exit(0))
        config = uvicorn.Config(
            make(model, chosen, shown), log_level="warning", access_log=False, server_header=False
        )
        uvicorn.Server(config).run([listener])


def load(archive: Path, chosen: Settings) -> loader.Model:
    """Return a model that answers `chosen.batch` utterances a call, whoever they are."""
    try:
        return loader.load(archive, batches=(chosen.batch,))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{str(archive)!r} is no model ({text}); allowed: {EXPORTED}") from None


def _of_run(
    workdir: str, seed: int | None, draws: int | None, level: float, chosen: Settings
) -> loader.Model:
    from mmdjax.serving.export import export
    from mmdjax.serving.imputer import Imputer

    platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.mmdjax"
        export(Imputer.load(workdir, seed), file, draws, level, (platform,))
        return load(file, chosen)


def _listening(chosen: Settings) -> socket.socket:
    try:
        return socket.create_server((chosen.host, chosen.port), backlog=2048)
    except (OSError, UnicodeError) as error:
        problem = f"--host={chosen.host} --port={chosen.port}: {error}"
        raise UserError(f"{problem}; allowed: a free port of this machine") from None


def _warm_up(model: loader.Model) -> None:
    """Compile, before anyone waits for it."""
    frames = {m: np.ones((1, *shape), np.float32) for m, shape in model.shapes.items()}
    model(frames)
