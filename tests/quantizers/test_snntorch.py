"""snnTorch's levels, its loops typed again, and its nearest-level rule."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import snntorch
from jsnnq.errors import InputError

BASE = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925, 8: 0.95}


def published(bits, threshold, lower, upper, middle):
    """The level list of `state_quant(uniform=False)`, gap by gap."""
    high = threshold + threshold * upper
    low = -(threshold + threshold * lower)
    below = math.floor(2**bits * (middle - low) / (high - low))
    above = 2**bits - below
    base = BASE[bits]
    down = sum(base**j for j in range(below)) / (middle - low)
    up = sum(base**j for j in range(above)) / (high - middle)
    levels, value = [], low
    for j in range(below - 1):
        levels.append(value)
        value += base**j / down
    value = middle
    for j in reversed(range(above)):
        levels.append(value)
        value += base**j / up
    return np.array([*levels, value])


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("threshold", [1.0, 5.0])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 0.2), (0.3, 0.5)])
@pytest.mark.parametrize("centre", ["threshold", "zero"])
def test_exponential_levels(bits, threshold, lower, upper, centre):
    middle = threshold if centre == "threshold" else 0.0
    expected = published(bits, threshold, lower, upper, middle)[-(2**bits) :]
    quantizer = snntorch(
        bits, threshold=threshold, lower=lower, upper=upper, centre=centre
    )
    levels = quantizer.init(None, jnp.zeros(1)).levels
    np.testing.assert_allclose(levels, expected, atol=1e-6 * threshold)


def test_uniform_levels():
    levels = snntorch(3, spacing="uniform").init(None, jnp.zeros(1)).levels
    np.testing.assert_allclose(levels, np.linspace(-1, 1.2, 8), atol=1e-6)


def test_goes_to_the_nearest_level():
    quantizer = snntorch(4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=500), jnp.float32)
    state = quantizer.init(None, x)
    levels = np.asarray(state.levels)
    expected = levels[np.argmin(np.abs(levels - np.asarray(x)[:, None]), axis=1)]
    np.testing.assert_array_equal(quantizer.apply(x, state, False)[0], expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bits": 0}, "bits=0"),
        ({"bits": 2, "upper": 0.0}, "upper is 0.0: a finite number"),
        ({"bits": 2, "lower": -0.1}, "lower is -0.1: a finite number"),
        ({"bits": 2, "threshold": 0.0}, "threshold is 0.0: a finite number"),
        ({"bits": 2, "spacing": "log"}, "unknown spacing"),
        ({"bits": 2, "centre": "mean"}, "unknown centre"),
    ],
)
def test_refuses(options, says):
    with pytest.raises(InputError, match=says):
        snntorch(**options)
