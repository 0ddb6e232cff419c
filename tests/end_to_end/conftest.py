"""The command in the process of the tests."""

import sys
from pathlib import Path

import jax
import pytest
from absl import flags, logging

from mmdjax import main

ROOT = Path(__file__).parents[2]
SETTINGS = ("jax_disable_most_optimizations", "jax_compilation_cache_dir")


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs the command in this process: (exit status, stderr)."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(main.stopping, "listen", lambda **_: None)
    monkeypatch.chdir(ROOT)
    verbosity = logging.get_verbosity()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mmdjax", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.console()
        return ended.value.code, capfd.readouterr().err

    yield run
    logging.set_verbosity(verbosity)
    for name, value in before.items():
        jax.config.update(name, value)
    as_never_parsed()


def as_never_parsed() -> None:
    """absl's flags are global; a config adds one for each of its fields."""
    for name in list(flags.FLAGS):
        if name.startswith("config."):
            delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()


def refusal(ended: tuple[int, str], workdir: Path) -> str:
    """The one line of a command that ended with (exit status, stderr), and wrote nothing."""
    status, told = ended
    assert status == 2, told
    lines = told.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmdjax: "), told
    assert not workdir.exists()  # nothing half-written
    return lines[0]
