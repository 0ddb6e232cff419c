"""The configs that come with mmdjax, wherever it is installed.

A checkout has them in `configs/`, an installed package in `mmdjax/configs/`. `--config=synthetic`,
`--config=experiments/sota:smoke` and `--config=configs/synthetic.py` name the same files in both,
from any folder; a file that exists under the given path is preferred.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

HIDDEN = ("base", "__init__")  # no configs of their own


def folder() -> Path:
    """Return the folder of the shipped configs."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """Return the names of the shipped configs, such as 'synthetic' and 'experiments/sota'."""
    root = folder()
    paths = (path for path in root.rglob("*.py") if path.stem not in HIDDEN)
    return sorted(str(path.relative_to(root).with_suffix("")) for path in paths)


def importable() -> None:
    """Make `from configs import base` find the shipped configs, not a folder of that name."""
    package = types.ModuleType("configs")
    package.__path__ = [str(folder())]
    sys.modules.setdefault("configs", package)


def resolve(given: str) -> str:
    """Return the path of the config that `given` ('NAME', or a path, and ':argument') names.

    What names no shipped config is returned as it is.
    """
    name, colon, argument = given.partition(":")
    if Path(name).is_file():
        return given
    shipped = Path(name).with_suffix("") if name.endswith(".py") else Path(name)
    if shipped.parts[:1] == ("configs",):
        shipped = Path(*shipped.parts[1:])
    found = folder() / f"{shipped}.py"
    return f"{found}{colon}{argument}" if str(shipped) in names() else given


def with_path(argv: list[str]) -> list[str]:
    """Return the command line with the path of its config in place of a shipped config's name."""
    argv = list(argv)
    for i, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        if equals:
            argv[i] = f"{flag}={resolve(value)}"
        elif i + 1 < len(argv):
            argv[i + 1] = resolve(argv[i + 1])
    return argv
