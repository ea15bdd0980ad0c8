"""Commands as they are typed, entered in this process."""

import contextlib
import io
from typing import NamedTuple

from jsnnq import cli

SMALL_NETWORK = (  # as typed, `tiny.SMALL`
    "--network sew_resnet_tiny --timesteps 2 --epochs 2 --batch 128 --optimizer adam "
    "--rate 0.01 --quiet"
).split()


class Finished(NamedTuple):
    """Status, standard output and standard error of a command."""

    status: int
    out: str
    err: str


def enter(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
    return Finished(status, out.getvalue(), err.getvalue())


def done(*arguments):
    """What a command prints that has to succeed without a word of complaint."""
    found = enter(*arguments)
    assert found.status == 0, found
    assert not found.err.strip(), found
    return found.out


def refused(*arguments, status=2):
    """The one sentence with which a command is refused."""
    found = enter(*arguments)
    assert found.status == status, found
    assert found.err.startswith("jsnnq: ")
    assert found.err.count("\n") == 1
    assert found.err.endswith("\n")
    return found.err
