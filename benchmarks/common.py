"""What every benchmark shares: its folder, alternating timings, operations, ceilings, output."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.errors import UserError
from mmdjax.evaluation import figures, tables
from mmdjax.runtime.files import write_bytes, write_json


def parser(doc: str) -> argparse.ArgumentParser:
    """--workdir and --smoke, for a benchmark with this docstring."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--workdir", type=Path, required=True, help="where results are written")
    made.add_argument("--smoke", action="store_true", help="small, within a minute")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; creates the work directory or leaves with one line and status 2."""
    options = made.parse_args()
    try:
        options.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        made.error(f"--workdir {str(options.workdir)!r} cannot be made: {error.strerror}")
    return options


def config_of(name: str, /, **data):
    """Return the checked `configs/NAME.py`.

    Args:
      data: changes of its group `data`, which a config for a user's file needs.
    """
    from mmdjax import config as configs

    path = Path(__file__).parents[1] / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config().to_dict()
    return configs.from_dict(values | {"data": values["data"] | data})


def need_sentiment(task) -> None:
    """Raise `UserError` for labels that have no ACC2, ACC7 and so on."""
    if "acc2_nonzero" not in task.metric_names:
        raise UserError(
            f"labels of kind {task.kind!r} have no ACC2; allowed: sentiment in [-3, 3], or "
            "config.task.metrics='sentiment'"
        )


def command_line(name: str) -> str:
    """This run's command, without the folders of this machine."""
    shown = []
    for argument in sys.argv[1:]:
        key, equals, value = argument.partition("=")
        if key == "--workdir":
            value = "DIR"
        elif key == "--imder":
            value = "CHECKOUT"
        elif key == "--config.data.path":
            value = Path(value).name
        shown.append(shlex.quote(key + equals + value))
    before = [f"XLA_FLAGS={shlex.quote(xla)}"] if (xla := os.environ.get("XLA_FLAGS")) else []
    return " ".join([*before, f"python -m benchmarks.{name}", *shown])


def alternate(cases: Mapping[str, Callable[[], float]], rounds: int, advance=lambda: None) -> dict:
    """name -> seconds of every round. Cases take turns, so that all see the same machine.

    Args:
      cases: name -> a call that returns the seconds it measured; compiled and warm.
    """
    seconds = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            seconds[name].append(case())
            advance()
    return seconds


def stopwatch(run: Callable[[], object]) -> Callable[[], float]:
    """A call of `run` that returns its seconds; `run` itself waits for the device."""

    def timed() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return timed


def quartiles(seconds) -> dict:
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {"seconds": float(middle), "quartiles": [float(low), float(high)]}


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """What `measure` returned in this or an earlier start, as JSON keeps it."""
    if not path.exists():
        write_json(path, measure())
    return json.loads(path.read_text())


def draw_operations(sizes: Mapping, nfe: int, frames: int = 48, conditions: int = 2) -> float:
    """Operations (two for a multiply-add) of one draw by ScoreTransformer1D, exact savings made:
    last layer for the target only, condition encoded once; 'prefix' caches all of it.

    Args:
      sizes: width, layers, mlp, channels, attention, patch.
    """
    width, layers, mlp, patch = (sizes[k] for k in ("width", "layers", "mlp", "patch"))
    features = patch * (sizes["channels"] + (patch > 1))
    target, condition = frames // patch, conditions * frames // patch

    def layer(queries: int, own: int, attended: int) -> float:
        """`queries` tokens through a layer; keys and values of `own`; `attended` keys in all."""
        dense = queries * (2 * width**2 + 2 * width * mlp) + own * 2 * width**2
        return 2 * (dense + 2 * queries * attended * width)

    ends = 2 * target * width * (features + patch * sizes["channels"])
    into = 2 * condition * width * features
    if sizes["attention"] == "joint":
        tokens = target + condition
        each = (layers - 1) * layer(tokens, tokens, tokens) + layer(target, tokens, tokens) + ends
        return into + nfe * each
    tokens = target + condition
    encode = (layers - 1) * layer(condition, condition, condition) + 4 * condition * width**2
    return into + encode + nfe * (layers * layer(target, target, tokens) + ends)


def torch_on_gpu() -> bool:
    """Whether PyTorch is installed and has a GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of those that are installed."""
    known = (name for name in packages if importlib.util.find_spec(name))
    return {name: importlib.metadata.version(name) for name in known}


def jax_ceiling(dtype, repeats: int = 5) -> float:
    """Operations a second of a JAX matrix product with operands of `dtype`, a float32 sum.

    Args:
      dtype: 'float32' and 'tf32' in the precision that the process was told.
    """
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    operands = "float32" if dtype == "tf32" else dtype
    a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), operands)
    run = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    timed = stopwatch(lambda: run(a).block_until_ready())
    timed()
    return 2 * size**3 / min(timed() for _ in range(repeats))


def write(workdir: Path, name: str, result: dict, sections: list, figure=None) -> None:
    """name.json, name.md and name.png.

    Args:
      result: {'command', 'machine', ...}.
      sections: (title, header, body) tables, or paragraphs of text.
    """
    write_json(workdir / f"{name}.json", result)
    parts = [f"# {result['title']}", f"`{result['command']}`"]
    for section in sections:
        if isinstance(section, str):
            parts.append(section)
        else:
            title, header, body = section
            parts += [f"## {title}", tables.markdown(header, body)]
    parts.append("\n".join(f"- {k}: {v}" for k, v in result["machine"].items()))
    write_bytes(workdir / f"{name}.md", ("\n\n".join(parts) + "\n").encode())
    if figure is not None:
        figures.save(figure, workdir / f"{name}.png")
