"""The three grids against their formulas, typed a second time in `witness`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import uniform
from tests import witness

GRIDS = {
    "even": witness.on_even_grid,
    "symmetric": witness.on_symmetric_grid,
    "unsigned": witness.on_unsigned_grid,
}


def formula(x, bits, c, grid):
    return GRIDS[grid](np.asarray(x, np.float64), bits, c)[0]


def grid_of(bits, c, grid):
    low = 0 if grid == "unsigned" else -c
    return np.linspace(low, c, 2**bits - (grid == "symmetric"))


def quantized(x, *settings, train=False, **options):
    quantizer = uniform(*settings, **options)
    x = jnp.asarray(x, jnp.float32)
    return quantizer.apply(x, quantizer.init(None, x), train)[0]


CASES = [
    (grid, bits, clip)
    for grid in GRIDS
    for bits in range(1, 9)
    for clip in (1.0, 10.0, 0.3)
    if (grid, bits) != ("symmetric", 1)
]


@pytest.mark.parametrize(("grid", "bits", "clip"), CASES)
def test_equals_the_formula(grid, bits, clip):
    x = np.random.default_rng(bits).normal(0, clip, 4000).astype(np.float32)
    # Away from the midpoints, where float32 and float64 may round to either side.
    levels = grid_of(bits, clip, grid)
    midpoints = (levels[1:] + levels[:-1]) / 2
    x = x[np.min(np.abs(x[:, None] - midpoints), axis=1) > 1e-5 * clip]
    found = quantized(x, bits, clip, grid=grid)
    np.testing.assert_allclose(found, formula(x, bits, clip, grid), atol=2e-6 * clip)


@pytest.mark.parametrize(
    ("grid", "x", "expected"),
    [
        ("even", 0.0, 1 / 3),  # (0 + 1) / (2/3) = 1.5 goes to 2
        ("even", -2 / 3, -1.0),  # 0.5 goes to 0
        ("symmetric", 0.5, 0.0),  # 0.5 goes to 0
        ("symmetric", -0.5, 0.0),
        ("unsigned", 0.5, 2 / 3),  # 1.5 goes to 2
    ],
)
def test_halves_go_to_even(grid, x, expected):
    np.testing.assert_allclose(quantized([x], 2, 1.0, grid=grid), expected, atol=1e-6)


@pytest.mark.parametrize(("clip", "share"), [("max", 100), ("percentile", 90)])
@pytest.mark.parametrize(("channelwise", "axes"), [(False, None), (True, (0, 1))])
def test_clip_from_the_data(clip, share, channelwise, axes):
    x = np.random.default_rng(0).normal(size=(5, 200, 3)).astype(np.float32)
    x[..., 2] *= 10
    quantizer = uniform(4, clip, percentile=90, channelwise=channelwise)
    found = quantizer.init(None, jnp.asarray(x)).high
    expected = np.percentile(np.abs(x), share, axis=axes)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if share == 100 else 1e-5)


def test_clip_from_the_data_follows_in_training_and_stays_in_evaluation():
    quantizer = uniform(3, "max")
    state = quantizer.init(None, jnp.array([1.0, -2.0]))
    larger = jnp.array([5.0, 0.1])
    x_hat, after = quantizer.apply(larger, state, True)
    np.testing.assert_allclose(after.high, 5.0, rtol=1e-6)
    np.testing.assert_allclose(x_hat, formula(larger, 3, 5.0, "even"), rtol=1e-5)
    x_hat, after = quantizer.apply(larger, state, False)
    assert after.high == 2.0
    np.testing.assert_allclose(x_hat, formula(larger, 3, 2.0, "even"), rtol=1e-5)


def test_gradient_outside_the_clip_is_an_option():
    x = jnp.array([-2.0, -1.0, 0.3, 1.0, 2.0])

    def slope(**options):
        quantizer = uniform(2, 1.0, **options)
        state = quantizer.init(None, x)
        return jax.grad(lambda x: jnp.sum(quantizer.apply(x, state, True)[0]))(x)

    np.testing.assert_array_equal(slope(), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(slope(outside=1), [1, 1, 1, 1, 1])
