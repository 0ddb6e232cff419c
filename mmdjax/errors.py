"""The one exception for mistakes a user can mend, and its rules."""

from __future__ import annotations

from collections.abc import Collection


class UserError(ValueError):
    """One line that says what was given and what is allowed.

    `mmdjax.main` prints it without a traceback and exits with 2; code that uses
    mmdjax as a library catches it as a `ValueError`.
    """


def require(holds: object, problem: str, allowed: str) -> None:
    """Raise `UserError` unless `holds` is true; say what the problem is and what is allowed."""
    if not holds:
        raise UserError(f"{problem}; allowed: {allowed}")


def choice(title: str, value: object, allowed: Collection) -> None:
    """Raise `UserError` unless `value` is one of `allowed`."""
    require(value in allowed, f"{title} {value!r} is unknown", ", ".join(map(str, allowed)))
