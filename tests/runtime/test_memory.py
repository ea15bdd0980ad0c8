"""What fits into a device's memory, against bytes counted by hand."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq.runtime import memory


def device(stats):
    return SimpleNamespace(memory_stats=lambda: stats)


def test_three_quarters_of_the_smallest_device_are_for_a_program():
    devices = [device({"bytes_limit": 1000}), device({"bytes_limit": 800})]
    mesh = SimpleNamespace(devices=np.array(devices))
    assert memory.limit(mesh) == 600


@pytest.mark.parametrize("silent", [None, {}, {"bytes_in_use": 7}])
def test_a_device_that_does_not_say_has_no_limit(silent, monkeypatch):
    mesh = SimpleNamespace(
        devices=np.array([device({"bytes_limit": 1000}), device(silent)])
    )
    assert memory.limit(mesh) is None
    monkeypatch.setattr(jax, "local_devices", lambda: [device(silent)])
    assert memory.limit() is None


def test_a_cpu_does_not_say():
    assert memory.limit() is None


def test_arguments_results_and_what_is_between_are_counted():
    """A sorted copy lies between: 4 kB in, 4 kB between at least, 4 bytes out."""
    last = jax.jit(lambda x: jnp.cumsum(jnp.sort(x))[500])
    found = memory.needed(last, jax.ShapeDtypeStruct((1000,), jnp.float32))
    assert 4000 + 4 + 4000 <= found <= 4000 + 4 + 5 * 4000
    twice = memory.needed(last, jax.ShapeDtypeStruct((2000,), jnp.float32))
    assert 1.9 * found < twice < 2.1 * found


def refusing(message):
    def lower(*arguments):
        raise jax.errors.JaxRuntimeError(message)

    return SimpleNamespace(lower=lower)


def test_what_the_compiler_refuses_as_too_large_fits_nowhere():
    too_large = refusing("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm")
    assert memory.needed(too_large) == math.inf
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        memory.needed(refusing("INTERNAL: something else"))
