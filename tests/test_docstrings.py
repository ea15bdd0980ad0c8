"""Every public name has an example of its use, which does what it says."""

import doctest
import inspect
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from jsnnq import networks
from tests.test_public import NAMES

KNOWN = {"jsnnq": jsnnq, "jax": jax, "jnp": jnp, "np": np}
"""What an example need not import."""


def _of(name):
    return operator.attrgetter(name)(jsnnq)


def documented(name):
    """The docstring of a name; of a value, such as `identity`, that of its class."""
    value = _of(name)
    has_own = inspect.isclass(value) or inspect.isroutine(value)
    return inspect.getdoc(value if has_own else type(value)) or ""


BLOCKS = [
    f"networks.{name}"
    for name, value in vars(networks).items()
    if inspect.isroutine(value) or inspect.isclass(value)
]
"""What a network of one's own is built from."""


@pytest.mark.parametrize("name", [*NAMES, *BLOCKS])
def test_a_public_name_has_an_example_that_is_true(name, tmp_path, monkeypatch):
    text = documented(name)
    assert "\nExample:\n    >>> " in text
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(text, dict(KNOWN), name, None, 0)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    runner.run(example, out=said.append)
    assert not said, "".join(said)
