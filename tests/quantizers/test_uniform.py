"""The three grids against their formulas, typed a second time in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import uniform
from jsnnq.errors import InputError


def formula(x, bits, c, grid):
    x = np.asarray(x, np.float64)
    if grid == "even":
        s = 2 * c / (2**bits - 1)
        return -c + s * np.round((np.clip(x, -c, c) + c) / s)
    if grid == "symmetric":
        n = 2 ** (bits - 1) - 1
        return c / n * np.round(n * np.clip(x, -c, c) / c)
    s = c / (2**bits - 1)
    return s * np.round(np.clip(x, 0, c) / s)


def grid_of(bits, c, grid):
    if grid == "even":
        return np.linspace(-c, c, 2**bits)
    if grid == "symmetric":
        return np.linspace(-c, c, 2**bits - 1)
    return np.linspace(0, c, 2**bits)


def quantized(x, *settings, train=False, **options):
    quantizer = uniform(*settings, **options)
    x = jnp.asarray(x, jnp.float32)
    return quantizer.apply(x, quantizer.init(None, x), train)[0]


CASES = [
    (grid, bits, clip)
    for grid in ("even", "symmetric", "unsigned")
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


@pytest.mark.parametrize(("grid", "bits", "clip"), CASES)
def test_levels_are_the_whole_grid(grid, bits, clip):
    x = np.linspace(-1.2 * clip, 1.2 * clip, 20001)
    found = np.unique(quantized(x, bits, clip, grid=grid))
    np.testing.assert_allclose(found, grid_of(bits, clip, grid), atol=2e-6 * clip)


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


def test_one_bit_has_two_values():
    np.testing.assert_array_equal(quantized([-3, -0.1, 0.2, 9], 1, 1.0), [-1, -1, 1, 1])


def test_clip_from_the_data():
    x = np.random.default_rng(0).normal(size=(5, 200, 3)).astype(np.float32)
    x[..., 2] *= 10
    whole = uniform(4, "max").init(None, jnp.asarray(x))
    np.testing.assert_allclose(whole.high, np.abs(x).max(), rtol=1e-6)
    each = uniform(4, "max", channelwise=True).init(None, jnp.asarray(x))
    np.testing.assert_allclose(each.high, np.abs(x).max((0, 1)), rtol=1e-6)
    part = uniform(4, "percentile", percentile=90).init(None, jnp.asarray(x))
    np.testing.assert_allclose(part.high, np.percentile(np.abs(x), 90), rtol=1e-5)
    parts = uniform(4, "percentile", percentile=90, channelwise=True)
    expected = np.percentile(np.abs(x).reshape(-1, 3), 90, axis=0)
    state = parts.init(None, jnp.asarray(x))
    np.testing.assert_allclose(state.high, expected, rtol=1e-5)


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


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ((0,), {}, "bits=0: an integer from 1 to 8"),
        ((9,), {}, "bits=9"),
        ((1,), {"grid": "symmetric"}, "bits=1: an integer from 2 to 8"),
        ((True,), {}, "bits=True"),
        ((2, 0.0), {}, "clip is 0.0: a finite number"),
        ((2, -1.0), {}, "clip is -1.0: a finite number"),
        ((2, float("nan")), {}, "clip is nan: a finite number"),
        ((2, float("inf")), {}, "clip is inf: a finite number"),
        ((2, "mean"), {}, "unknown clip 'mean'"),
        ((2,), {"grid": "odd"}, "unknown grid 'odd'"),
        ((2,), {"outside": 0.5}, "outside=0.5"),
        ((2, "percentile"), {"percentile": 0}, "percentile is 0: a finite number"),
    ],
)
def test_refuses(settings, options, says):
    with pytest.raises(InputError, match=says):
        uniform(*settings, **options)
