"""Every public name has an example of its use, which does what it says."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from tests.test_public import NAMES

KNOWN = {"jsnnq": jsnnq, "jax": jax, "jnp": jnp, "np": np}
"""What an example need not import."""


def documented(name):
    """The docstring of a name; of a value, such as `identity`, that of its class."""
    value = getattr(jsnnq, name)
    has_own = inspect.isclass(value) or inspect.isroutine(value)
    return inspect.getdoc(value if has_own else type(value)) or ""


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_an_example_that_is_true(name, tmp_path, monkeypatch):
    text = documented(name)
    assert "\nExample:\n    >>> " in text
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(text, dict(KNOWN), name, None, 0)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    runner.run(example, out=said.append)
    assert not said, "".join(said)
