"""Direct encoding: the same input at every timestep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import encode
from jsnnq.errors import InputError


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("timesteps", [1, 4])
def test_repeats_the_input_at_every_timestep(shape, timesteps):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = encode.direct(jnp.asarray(x), timesteps)
    np.testing.assert_array_equal(found, np.stack([x] * timesteps))


def test_keeps_the_dtype():
    assert encode.direct(jnp.ones((2, 3), jnp.bfloat16), 4).dtype == jnp.bfloat16


def test_gradient_is_the_sum_over_time():
    weights = jnp.array([[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]])
    slope = jax.grad(lambda x: jnp.sum(weights * encode.direct(x, 3)))(jnp.ones(2))
    np.testing.assert_array_equal(slope, [12.0, 20.0])


@pytest.mark.parametrize("timesteps", [0, -1])
def test_refuses_no_timesteps(timesteps):
    with pytest.raises(InputError, match=f"timesteps is {timesteps}: at least 1"):
        encode.direct(jnp.ones((2, 3)), timesteps)
