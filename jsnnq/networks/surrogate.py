"""The spike and its pretended derivatives.

A spiking neuron fires where its charged membrane reaches the threshold, s = 1[x >= 0]
with x = h - v_threshold, whose derivative is zero almost everywhere. Training replaces
that derivative by a published bump g(x); the forward pass stays the exact step.

`atan(2.0)` is the function x -> g(x) that `spike` uses as its backward rule, and a
value, compared by its width, copied and pickled. Any other function of JAX that hashes
may stand in its place. Names and default constants are those of SpikingJelly 2.0
(`activation_based.surrogate`).
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import check_number

Derivative = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def spike(x: Float[Array, "..."], derivative: Derivative) -> Float[Array, "..."]:
    """The step 1[x >= 0], in the dtype of `x`, whose gradient is `derivative(x)`."""
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


@dataclasses.dataclass(frozen=True)
class Surrogate(abc.ABC):
    """A published bump of a certain width.

    Attributes:
        alpha: the width's parameter, above 0; by default the published one.

    Raises:
        InputError: `alpha` is no positive number.
    """

    alpha: Any

    def __post_init__(self):
        check_number(f"alpha of {type(self).__name__}", self.alpha, above=0)

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a membrane that is above its threshold by `x`."""


@dataclasses.dataclass(frozen=True)
class sigmoid(Surrogate):
    """g(x) = alpha S (1 - S) with S = sigmoid(alpha x)."""

    alpha: Any = 4.0

    def __call__(self, x):
        """See above."""
        s = jax.nn.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)


@dataclasses.dataclass(frozen=True)
class atan(Surrogate):
    """g(x) = (alpha / 2) / (1 + (pi alpha x / 2)^2); the choice of SEW-ResNet."""

    alpha: Any = 2.0

    def __call__(self, x):
        """See above."""
        return (self.alpha / 2) / (1 + jnp.square(math.pi / 2 * self.alpha * x))


@dataclasses.dataclass(frozen=True)
class piecewise_quadratic(Surrogate):
    """g(x) = max(0, alpha - alpha^2 |x|)."""

    alpha: Any = 1.0

    def __call__(self, x):
        """See above."""
        return jnp.maximum(0, self.alpha - self.alpha**2 * jnp.abs(x))


@dataclasses.dataclass(frozen=True)
class piecewise_exp(Surrogate):
    """g(x) = (alpha / 2) exp(-alpha |x|)."""

    alpha: Any = 1.0

    def __call__(self, x):
        """See above."""
        return self.alpha / 2 * jnp.exp(-self.alpha * jnp.abs(x))


@dataclasses.dataclass(frozen=True)
class soft_sign(Surrogate):
    """g(x) = 1 / (2 alpha (1 / alpha + |x|)^2)."""

    alpha: Any = 2.0

    def __call__(self, x):
        """See above."""
        return 1 / (2 * self.alpha * jnp.square(1 / self.alpha + jnp.abs(x)))


@dataclasses.dataclass(frozen=True)
class super_spike(Surrogate):
    """g(x) = alpha / (1 + |x|)^2 (Zenke and Ganguli, 2018)."""

    alpha: Any = 1.0

    def __call__(self, x):
        """See above."""
        return self.alpha / jnp.square(1 + jnp.abs(x))


@dataclasses.dataclass(frozen=True)
class erf(Surrogate):
    """g(x) = (alpha / sqrt(pi)) exp(-(alpha x)^2)."""

    alpha: Any = 2.0

    def __call__(self, x):
        """See above."""
        return self.alpha / math.sqrt(math.pi) * jnp.exp(-jnp.square(self.alpha * x))


@dataclasses.dataclass(frozen=True)
class rect(Surrogate):
    """g(x) = alpha where |x| < 1 / (2 alpha), else 0."""

    alpha: Any = 1.0

    def __call__(self, x):
        """See above."""
        inside = jnp.abs(x) < 0.5 / self.alpha
        return jnp.where(inside, self.alpha, 0.0).astype(x.dtype)


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    kind.__name__: kind for kind in Surrogate.__subclasses__()
}
