"""What the launchers in Python share: arguments, one-line mistakes, signals, exit statuses."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line on stderr and exit status 2."""

    def __init__(self, description: str) -> None:
        plain = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=plain, allow_abbrev=False)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def parse(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The launcher's own arguments, and the run's flags: whatever follows the first `--`."""
    own, flags = list(argv), []
    if "--" in own:
        at = own.index("--")
        own, flags = own[:at], own[at + 1 :]
    given, unknown = parser.parse_known_args(own)
    if unknown:
        allowed = " ".join(parser.format_usage().split()[2:])
        parser.error(f"argument {unknown[0]!r} is unknown; allowed: {allowed} -- FLAGS")
    return given, flags


def whole(least: int) -> Callable[[str], int]:
    """Reads a whole number that is at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from {least}")
        return int(text)

    return read


def collect_signals() -> list[int]:
    """SIGINT, SIGTERM and SIGHUP from here on, as they come.

    Those that this process was told to ignore (SIGHUP under nohup) stay ignored.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: asked.append(number))
    return asked


def exit_status(returncode: int) -> int:
    """As a shell tells it: 128 + N for a process that signal N ended."""
    return returncode if returncode >= 0 else 128 - returncode


def told(status: int) -> str:
    """The status in words."""
    try:
        return f"status {status} ({signal.Signals(status - 128).name})"
    except ValueError:
        return f"status {status}"
