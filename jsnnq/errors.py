"""The one exception for what a user can put right.

Everything that is wrong with an argument, a file or a directory is an
`InputError` whose message is one sentence: what was given, what is accepted, what
to do. The command line prints that sentence and exits with status 2; any other
exception is a defect of jsnnq and keeps its traceback.
"""

import dataclasses
import functools
import importlib.metadata
import math
import numbers
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """What was given cannot be used; the message says why and what to do.

    Example:
        >>> try:
        ...     jsnnq.uniform(9)
        ... except jsnnq.InputError as error:
        ...     print(error)
        uniform (even) got bits=9: an integer from 1 to 8 is needed
    """


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


def as_python(value: Any) -> Any:
    """A setting with Python's own numbers, which compare, hash and print alike.

    A scalar of NumPy, or an array without axes of NumPy or JAX, is a number. Lists
    become tuples, which have a hash. Anything else, a traced number too, stays as it
    is.
    """
    if type(value) in (tuple, list):  # No named tuple, which keeps its names.
        return tuple(as_python(item) for item in value)
    # Asked for in words: importing NumPy takes longer than a command's help.
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            value = value.item()
        except TypeError:  # A traced number has no value yet.
            return value
    if isinstance(value, numbers.Real) and not isinstance(value, int | float):
        return float(value)  # `item` of a long double is one again.
    return value


def settle(settings: Any) -> None:
    """Gives a dataclass that is being made its settings `as_python` has them."""
    for field in dataclasses.fields(settings):
        value = as_python(getattr(settings, field.name))
        # The way a frozen dataclass sets its fields itself.
        object.__setattr__(settings, field.name, value)


def check_number(
    name: str, value: Any, *, above: float | None = None, least: float | None = None
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
    value = as_python(value)
    bound = f" above {above}" if above is not None else ""
    bound += f" from {least}" if least is not None else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        fits = math.isfinite(value) and (above is None or value > above)
        if fits and (least is None or value >= least):
            return float(value)
    raise InputError(f"{name} is {value!r}: a finite number{bound} is needed")


def check_seed(seed: Any) -> int:
    """Returns a seed, unless JAX would take it for another one.

    Raises:
        InputError: it is no integer from 0 to 2^32 - 1.
    """
    # JAX would take a larger one modulo 2^32.
    if (seed := check_integer("seed", seed, least=0)) >= 2**32:
        raise InputError(f"seed is {seed}: an integer from 0 to {2**32 - 1} is needed")
    return seed


def check_integer(name: str, value: Any, least: int = 1) -> int:
    """Returns `value` as an int if it is an integer of at least `least`.

    Raises:
        InputError: it is not.
    """
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: an integer from {least} is needed")
    return value
