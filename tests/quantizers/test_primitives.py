"""The primitives below the quantizers, held against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq.quantizers.primitives import nearest


@pytest.mark.parametrize("count", [2, 3, 16, 63, 64, 65, 100, 128, 256])
@pytest.mark.parametrize("channels", [(), (1,), (5,)])
def test_the_nearest_level_is_that_of_a_sorted_search(count, channels):
    rng = np.random.default_rng(count)
    levels = np.sort(rng.standard_normal((count, *channels)).astype(np.float32), axis=0)
    levels[1] = levels[0]  # two may coincide
    midpoints = (levels[1:] + levels[:-1]) / np.float32(2)
    last = channels or (1,)
    x = np.concatenate(
        [
            rng.standard_normal((300, *last)),
            np.broadcast_to(midpoints.reshape(len(midpoints), -1), (count - 1, *last)),
            np.full((1, *last), np.inf),
            np.full((1, *last), -np.inf),
        ]
    ).astype(np.float32)
    values = rng.permutation(count).astype(np.int32)
    expected = np.empty(x.shape, np.int32)
    for channel in range(x.shape[1]):
        column = midpoints[..., channel] if channels else midpoints
        expected[:, channel] = np.searchsorted(column, x[:, channel], side="left")
    found = jax.jit(nearest)(
        jnp.asarray(x),
        jnp.asarray(levels),
        jnp.asarray(
            np.broadcast_to(values.reshape(-1, *(1,) * len(channels)), levels.shape)
        ),
    )
    np.testing.assert_array_equal(found, values[expected])
