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
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import check_number, settle

Derivative = Callable[[Float[Array, "..."]], Float[Array, "..."]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spike(x: Float[Array, "..."], derivative: Derivative) -> Float[Array, "..."]:
    """The step 1[x >= 0] whose gradient is `derivative(x)`.

    Args:
        x: charged membranes minus their threshold.
        derivative: a surrogate, such as those below.

    Returns:
        Spikes 0 or 1, shaped and typed as `x`.
    """
    del derivative  # Only the backward pass needs it.
    return (x >= 0).astype(x.dtype)


def _spike_forward(x, derivative):
    return spike(x, derivative), x


def _spike_backward(derivative, x, gradient):
    return (gradient * derivative(x),)


spike.defvjp(_spike_forward, _spike_backward)


@dataclasses.dataclass(frozen=True)
class Surrogate(abc.ABC):
    """A published bump of a certain width.

    Attributes:
        alpha: the width's parameter, above 0; None is the published one, which stands
            in the head of each class.

    Raises:
        InputError: `alpha` is no positive number.
    """

    alpha: Any = None

    def __init_subclass__(cls, alpha: float):
        cls._published = alpha

    def __post_init__(self):
        if self.alpha is None:
            # The way a frozen dataclass sets its fields itself.
            object.__setattr__(self, "alpha", self._published)
        settle(self)
        check_number(f"alpha of {type(self).__name__}", self.alpha, above=0)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a membrane that is above its threshold by `x`."""
        return self._bump(x)

    @abc.abstractmethod
    def _bump(self, x) -> Any: ...


class sigmoid(Surrogate, alpha=4.0):
    """g(x) = alpha S (1 - S) with S = sigmoid(alpha x)."""

    def _bump(self, x):
        s = jax.nn.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)


class atan(Surrogate, alpha=2.0):
    """g(x) = (alpha / 2) / (1 + (pi alpha x / 2)^2); the choice of SEW-ResNet."""

    def _bump(self, x):
        return (self.alpha / 2) / (1 + jnp.square(math.pi / 2 * self.alpha * x))


class piecewise_quadratic(Surrogate, alpha=1.0):
    """g(x) = max(0, alpha - alpha^2 |x|)."""

    def _bump(self, x):
        return jnp.maximum(0, self.alpha - self.alpha**2 * jnp.abs(x))


class piecewise_exp(Surrogate, alpha=1.0):
    """g(x) = (alpha / 2) exp(-alpha |x|)."""

    def _bump(self, x):
        return self.alpha / 2 * jnp.exp(-self.alpha * jnp.abs(x))


class soft_sign(Surrogate, alpha=2.0):
    """g(x) = 1 / (2 alpha (1 / alpha + |x|)^2)."""

    def _bump(self, x):
        return 1 / (2 * self.alpha * jnp.square(1 / self.alpha + jnp.abs(x)))


class super_spike(Surrogate, alpha=1.0):
    """g(x) = alpha / (1 + |x|)^2 (Zenke and Ganguli, 2018)."""

    def _bump(self, x):
        return self.alpha / jnp.square(1 + jnp.abs(x))


class erf(Surrogate, alpha=2.0):
    """g(x) = (alpha / sqrt(pi)) exp(-(alpha x)^2)."""

    def _bump(self, x):
        return self.alpha / math.sqrt(math.pi) * jnp.exp(-jnp.square(self.alpha * x))


class rect(Surrogate, alpha=1.0):
    """g(x) = alpha where |x| < 1 / (2 alpha), else 0."""

    def _bump(self, x):
        inside = jnp.abs(x) < 0.5 / self.alpha
        return jnp.where(inside, self.alpha, 0.0).astype(x.dtype)


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    kind.__name__: kind for kind in Surrogate.__subclasses__()
}
