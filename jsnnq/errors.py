"""The one exception for what a user can put right.

Everything that is wrong with an argument, a file or a directory is an
`InputError` whose message is one sentence: what was given, what is accepted, what
to do. The command line prints that sentence and exits with status 2; any other
exception is a defect of jsnnq and keeps its traceback.
"""

import functools
import importlib.metadata
import math
from collections.abc import Iterable


class InputError(ValueError):
    """What was given cannot be used; the message says why and what to do."""


WRONG_COMPILERS = {
    "0.10.2": "computes wrong sums on CPUs (jax-ml/jax issue 39103)",
    "0.11.0": "crashes in sums of many axes on CPUs (jax-ml/jax issue 39257)",
}
"""Releases of jaxlib that no number of this library may come from."""


def check_compiler(version: str | None = None) -> None:
    """Refuses a jaxlib that is known to compute wrong numbers.

    Args:
        version: of jaxlib; by default that of the one that is installed.

    Raises:
        InputError: it is one of `WRONG_COMPILERS`.
    """
    version = version or _installed()
    if version in WRONG_COMPILERS:
        raise InputError(
            f"jaxlib {version} {WRONG_COMPILERS[version]}: install another release, "
            f"with `pip install 'jax!={version}' 'jaxlib!={version}'`"
        )


@functools.cache
def _installed() -> str:
    # Every use of a public name asks, and looking it up takes a millisecond.
    return importlib.metadata.version("jaxlib")


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


def check_number(
    name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float:
    """Returns `value` as a float if it is a finite number in range.

    Args:
        name: what the number is.
        value: the number that was given.
        above: it must be larger than this.
        least: it must be at least this.

    Raises:
        InputError: it is no number, not finite, or out of range.
    """
    bound = f" above {above}" if above is not None else ""
    bound += f" from {least}" if least is not None else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        fits = math.isfinite(value) and (above is None or value > above)
        if fits and (least is None or value >= least):
            return float(value)
    raise InputError(f"{name} is {value!r}: a finite number{bound} is needed")


def check_seed(seed: object) -> None:
    """Refuses a seed that JAX would take for another one.

    Raises:
        InputError: it is no integer from 0 to 2^32 - 1.
    """
    # JAX would take a larger one modulo 2^32.
    if check_integer("seed", seed, least=0) >= 2**32:
        raise InputError(f"seed is {seed}: an integer from 0 to {2**32 - 1} is needed")


def check_integer(name: str, value: object, least: int = 1) -> int:
    """Returns `value` if it is an integer of at least `least`.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: an integer from {least} is needed")
    return value
