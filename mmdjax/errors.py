"""The one exception for mistakes a user can mend."""


class UserError(ValueError):
    """One line that says what was given and what is allowed.

    `mmdjax.main` prints it without a traceback and exits with 2; code that uses
    mmdjax as a library catches it as a `ValueError`.
    """


def choice(what: str, given, allowed) -> None:
    """Raises `UserError` unless `given` is one of `allowed`."""
    if given not in allowed:
        raise UserError(f"{what} {given!r} is unknown; allowed: {', '.join(map(str, allowed))}")
