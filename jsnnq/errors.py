"""The one exception for what a user can put right.

Everything that is wrong with an argument, a file or a directory is an
`InputError` whose message is one sentence: what was given, what is accepted, what
to do. The command line prints that sentence and exits with status 2; any other
exception is a defect of jsnnq and keeps its traceback.
"""

from collections.abc import Iterable


class InputError(ValueError):
    """What was given cannot be used; the message says why and what to do."""


def choose(what: str, given: object, accepted: Iterable[str]) -> None:
    """Refuses a name that is not among the accepted ones.

    Args:
        what: what is being named, for example `"connect"`.
        given: the name that was given.
        accepted: the names that exist.

    Raises:
        InputError: `given` is not one of `accepted`.
    """
    names = sorted(accepted)
    if given not in names:
        raise InputError(
            f"unknown {what} {given!r}: accepted are {', '.join(map(repr, names))}"
        )
