"""Each derivative against the slope of its published primitive, and g(0)."""

import copy
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jsnnq.errors import InputError
from jsnnq.networks import surrogate

# The primitives whose derivatives are the surrogates, typed in NumPy and SciPy.
PRIMITIVES = {
    "sigmoid": lambda x, a: special.expit(a * x),
    "atan": lambda x, a: np.arctan(math.pi * a * x / 2) / math.pi + 0.5,
    "piecewise_quadratic": lambda x, a: np.where(
        np.abs(x) <= 1 / a,
        -0.5 * a**2 * np.abs(x) * x + a * x + 0.5,
        (x > 0).astype(float),
    ),
    "piecewise_exp": lambda x, a: np.where(
        x < 0, 0.5 * np.exp(a * x), 1 - 0.5 * np.exp(-a * x)
    ),
    "soft_sign": lambda x, a: (a * x / (1 + np.abs(a * x)) + 1) / 2,
    "erf": lambda x, a: special.erfc(-a * x) / 2,
    "rect": lambda x, a: np.clip(a * x + 0.5, 0, 1),
}
AT_ZERO = {"piecewise_exp": 0.5, "erf": 1.12838}


@pytest.mark.parametrize("name", PRIMITIVES)
@pytest.mark.parametrize("alpha", [0.7, 1.0, 3.0])
def test_derivative_of_the_published_primitive(name, alpha):
    x = np.linspace(-2, 2, 81) + 0.0013  # off the kinks
    step = 1e-6
    primitive = PRIMITIVES[name]
    slope = (primitive(x + step, alpha) - primitive(x - step, alpha)) / (2 * step)
    found = surrogate.SURROGATES[name](alpha)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, slope, atol=2e-5)


def test_super_spike_formula():
    x = np.linspace(-2, 2, 41)
    found = surrogate.super_spike(3.0)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, 3 / (1 + np.abs(x)) ** 2, rtol=1e-6)


@pytest.mark.parametrize("name", surrogate.SURROGATES)
def test_value_at_the_threshold_with_default_width(name):
    found = surrogate.SURROGATES[name]()(jnp.zeros(1))
    np.testing.assert_allclose(found, AT_ZERO.get(name, 1.0), atol=1e-5)


@pytest.mark.parametrize("name", surrogate.SURROGATES)
def test_spike_steps_forward_and_bends_backward(name):
    derivative = surrogate.SURROGATES[name]()
    x = jnp.array([-0.6, -1e-7, 0.0, 0.2])
    np.testing.assert_array_equal(surrogate.spike(x, derivative), [0, 0, 1, 1])
    slope = jax.grad(lambda x: jnp.sum(surrogate.spike(x, derivative)))(x)
    np.testing.assert_allclose(slope, derivative(x), rtol=1e-6)


def test_a_surrogate_is_a_value():
    assert surrogate.atan() == surrogate.atan(2.0)
    assert hash(surrogate.atan(2)) == hash(surrogate.atan(alpha=2.0))
    assert surrogate.atan() != surrogate.atan(3.0)
    assert surrogate.atan() != surrogate.erf(2.0)
    for name in surrogate.SURROGATES:
        one = surrogate.SURROGATES[name](1.5)
        assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), "2"])
def test_refuses_a_width_that_is_no_positive_number(alpha):
    with pytest.raises(InputError, match="above 0 is needed"):
        surrogate.atan(alpha)
