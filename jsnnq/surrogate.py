"""The spike and its pretended derivatives.

A spiking neuron fires where its charged membrane reaches the threshold,
s = 1[x >= 0] with x = h - v_threshold, whose derivative is zero almost
everywhere. Training replaces that derivative by a published bump g(x); the
forward pass stays the exact step, and an exact tie fires.

Each function below is a factory: `atan(2.0)` returns the function x -> g(x) that
`spike` uses as its backward rule. Factories are cached, so equal constants give
the same object and networks that use it compare equal (one compilation). Names and
default constants are those of SpikingJelly 2.0 (`activation_based.surrogate`).
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError

Derivative = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def spike(x: Float[Array, "..."], derivative: Derivative) -> Float[Array, "..."]:
    """The step 1[x >= 0] whose gradient is `derivative(x)`.

    Args:
        x: charged membrane minus threshold, any shape.
        derivative: a surrogate made by one of the factories of this module.

    Returns:
        Spikes 0 or 1 in the dtype of `x`.
    """
    return _spike(x, derivative)


def _step(x: Array, derivative: Derivative) -> Array:
    del derivative  # Only the backward pass needs it.
    return (x >= 0).astype(x.dtype)


_spike = jax.custom_vjp(_step, nondiff_argnums=(1,))


def _spike_forward(x, derivative):
    return _step(x, derivative), x


def _spike_backward(derivative, x, gradient):
    return (gradient * derivative(x),)


_spike.defvjp(_spike_forward, _spike_backward)


def _factory(make: Callable[[float], Derivative]) -> Callable[..., Derivative]:
    """Caches a factory and refuses a width that is not a positive number."""
    cached = functools.cache(make)
    published = inspect.signature(make).parameters["alpha"].default

    @functools.wraps(make)
    def checked(alpha: Any = published) -> Derivative:
        if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
            raise InputError(
                f"surrogate {make.__name__} got alpha={alpha!r}: "
                "a positive number is needed"
            )
        return cached(float(alpha))

    return checked


@_factory
def sigmoid(alpha: float = 4.0) -> Derivative:
    """g(x) = alpha S (1 - S) with S = sigmoid(alpha x)."""

    def derivative(x):
        s = jax.nn.sigmoid(alpha * x)
        return alpha * s * (1 - s)

    return derivative


@_factory
def atan(alpha: float = 2.0) -> Derivative:
    """g(x) = (alpha / 2) / (1 + (pi alpha x / 2)^2); the choice of SEW-ResNet."""
    return lambda x: (alpha / 2) / (1 + jnp.square(math.pi / 2 * alpha * x))


@_factory
def piecewise_quadratic(alpha: float = 1.0) -> Derivative:
    """g(x) = max(0, alpha - alpha^2 |x|)."""
    return lambda x: jnp.maximum(0, alpha - alpha**2 * jnp.abs(x))


@_factory
def piecewise_exp(alpha: float = 1.0) -> Derivative:
    """g(x) = (alpha / 2) exp(-alpha |x|)."""
    return lambda x: alpha / 2 * jnp.exp(-alpha * jnp.abs(x))


@_factory
def soft_sign(alpha: float = 2.0) -> Derivative:
    """g(x) = 1 / (2 alpha (1 / alpha + |x|)^2)."""
    return lambda x: 1 / (2 * alpha * jnp.square(1 / alpha + jnp.abs(x)))


@_factory
def super_spike(alpha: float = 1.0) -> Derivative:
    """g(x) = alpha / (1 + |x|)^2 (Zenke and Ganguli, 2018)."""
    return lambda x: alpha / jnp.square(1 + jnp.abs(x))


@_factory
def erf(alpha: float = 2.0) -> Derivative:
    """g(x) = (alpha / sqrt(pi)) exp(-(alpha x)^2)."""
    return lambda x: alpha / math.sqrt(math.pi) * jnp.exp(-jnp.square(alpha * x))


@_factory
def rect(alpha: float = 1.0) -> Derivative:
    """g(x) = alpha where |x| < 1 / (2 alpha), else 0."""
    return lambda x: jnp.where(jnp.abs(x) < 0.5 / alpha, alpha, 0.0).astype(x.dtype)


SURROGATES: dict[str, Callable[..., Derivative]] = {
    "sigmoid": sigmoid,
    "atan": atan,
    "piecewise_quadratic": piecewise_quadratic,
    "piecewise_exp": piecewise_exp,
    "soft_sign": soft_sign,
    "super_spike": super_spike,
    "erf": erf,
    "rect": rect,
}
