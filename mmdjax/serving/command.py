"""The modes of the command line that use a trained model, or look at a file."""

from __future__ import annotations

from pathlib import Path

from mmdjax.runtime.progress import Reporter, terminal


def inspect(source: str, layout: str = "") -> None:
    """Prints what a file holds."""
    from mmdjax.data.formats import inspect_file

    inspect_file.inspect(source, terminal(), layout)


def _load(model: tuple[Path, int | None]):
    from mmdjax.runtime.compilation import keep_programs
    from mmdjax.serving.imputer import Imputer

    keep_programs()
    return Imputer.load(*model)


def export(model: tuple[Path, int | None], output: Path, draws: int, level: float) -> None:
    """Writes the artefact; model: folder and seed, see `Imputer.load`."""
    from mmdjax.serving.export import export as write

    signature = write(_load(model), output, draws or None, level)
    platforms = ", ".join(signature["platforms"])
    size = output.stat().st_size / 2**20
    Reporter().print(
        f"{output}: {size:.1f} MiB for {platforms}, {signature['draws']} draws an answer; "
        "loader.py inside needs jax and numpy"
    )


def on_file(
    mode: str, model: tuple[Path, int | None], source: Path, output: Path, settings: dict
) -> None:
    """Imputes a file, or predicts from it.

    Args:
      settings: of `files.impute` or `files.predict`.
    """
    from mmdjax.serving import files

    if mode == "impute":
        settings["draws"] = settings["draws"] or 1
    imputer, reporter = _load(model), Reporter()
    with reporter.phase("utterances", 0) as phase:
        counts = getattr(files, mode)(imputer, source, output, advance=phase.at, **settings)
    empty = f", {counts['empty']} with nothing observed, left out" if counts["empty"] else ""
    done = f"{counts['utterances']} utterances, {counts['completed']} of them had gaps"
    reporter.print(f"{output}: {done}{empty}")
