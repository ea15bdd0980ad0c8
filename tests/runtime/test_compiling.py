"""What runs once is compiled once, and may be a part of another program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.runtime.compiling import once


def test_it_computes_what_the_function_does_and_traces_once():
    traces = []

    @functools.partial(once, static_argnames="power")
    def weigh(x, power):
        """Its own words."""
        traces.append(power)
        return jnp.sum(x**power)

    x = jnp.arange(1.0, 4.0)
    assert weigh(x, power=2) == weigh(x, power=2) == 14
    assert weigh(x, power=3) == 36
    assert traces == [2, 3]
    assert weigh.__doc__ == "Its own words."


def test_inside_another_program_it_is_a_part_of_it():
    double = once(lambda x: 2 * x)
    np.testing.assert_array_equal(jax.jit(double)(jnp.arange(3.0)), [0, 2, 4])
    shape = jax.eval_shape(double, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert shape.shape == (3,)
    assert jax.grad(lambda x: double(x) ** 2)(1.0) == 8
