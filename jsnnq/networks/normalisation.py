"""Normalisation over the batch, and with it what follows each value by itself.

In training a layer of neurons reads the normalised currents of all timesteps, writes
spikes, and for its gradient needs the currents again. As operations of their own,
normalisation and neurons would keep currents, membranes and derivatives for that.
`normalise` makes one unit of both that keeps its input, as the convolution left it, and
computes everything else again. Forward it reads its input for the statistics, and once
more to write spikes; backward it reads input and gradient for two sums by channel, and
once more to write the gradient of the input (Ioffe and Szegedy, arXiv 1502.03167,
section 3).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq.networks.timesteps import Timesteps
from jsnnq.quantizers.primitives import like
from jsnnq.runtime import cpu, parallel
from jsnnq.runtime.precision import accumulation, at_least_float32


class Affine(NamedTuple):
    """What normalised values are multiplied by, and what is added, by channel."""

    gain: Float[Array | np.ndarray, "C"]
    shift: Float[Array | np.ndarray, "C"]


def moments(x: Timesteps) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Mean and biased variance of each channel, over the batch and all timesteps.

    In one pass on each device, of differences to the mean at one position: without them
    mean(x^2) - mean^2 would cancel where the mean is large. The parts are then joined
    exactly (Chan, Golub and LeVeque 1979): the variance is that inside the parts plus
    that of their means.

    Args:
        x: timesteps `B H W C`.
    """
    _, height, width, _ = x[0].shape
    there = [at_least_float32(one[:, height // 2, width // 2]) for one in x]
    near = _added(there).mean(axis=0) / len(x)
    away = [at_least_float32(one) - like(one, near) for one in x]
    mean, square = channel_sums(away, [jnp.square(one) for one in away]) / count(x)
    parts = jnp.stack([near + mean, square - jnp.square(mean)])[None]
    means, variances = parallel.gathered(parts).swapaxes(0, 1)
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + jnp.square(means - mean[None]), axis=0)


def count(x: Timesteps) -> Any:
    """How many values a channel has on this device; a symbol where the batch is one."""
    return len(x) * (x[0].size // x[0].shape[-1])


def channel_sums(a: Any, b: Any) -> Float[Array, "2 C"]:
    """The sums of two sequences by channel; timesteps first, so that one pass does."""

    def two(a, b):
        return jnp.stack([term.sum(axis=(0, 1, 2)) for term in (a, b)])

    def as_complex(a, b):
        # XLA for GPUs would write what both sums have in common, and read it again.
        both = jax.lax.complex(a, b).sum(axis=(0, 1, 2))
        return jnp.stack([both.real, both.imag])

    terms = _added(a), _added(b)
    return jax.lax.platform_dependent(*terms, cuda=as_complex, default=two)


def _added(x):
    return functools.reduce(jnp.add, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def normalise(
    then: Callable[..., Any],
    epsilon: float,
    x: Timesteps,
    affine: Affine,
    given: tuple[Any, ...] = (),
) -> tuple[Any, Float[Array, "C"], Float[Array, "C"]]:
    """What follows gain (x - mean) / sqrt(var + epsilon) + shift; mean and variance.

    Args:
        then: of the normalised timesteps and `given`; at each position and channel it
            looks at nothing but the values there.
        epsilon: added to the variance.
        x: timesteps `B H W C`.
        affine: gain and shift.
        given: whatever else `then` reads and has gradients.

    Returns:
        What `then` returns; mean and variance, through which no gradient flows.
    """
    return _forward(then, epsilon, x, affine, given)[0]


class _Residual(NamedTuple):
    x: Timesteps
    affine: Affine
    given: tuple[Any, ...]
    mean: Array
    inverse: Array  # Of the deviation.

    def normalised(self) -> Timesteps:
        return _transformed(self.x, self.affine, self.mean, self.inverse)


def _transformed(x, affine, mean, inverse):
    return _multiplied(x, _folded(affine, mean, inverse))


def _folded(affine, mean, inverse):
    factor = affine.gain * inverse
    return Affine(factor, affine.shift - mean * factor)


def _multiplied(x, affine):
    return tuple(scaled(one, *affine) for one in x)


def fold_statistics(
    affine: Affine,
    mean: Float[Array | np.ndarray, "C"],
    var: Float[Array | np.ndarray, "C"],
    epsilon: float,
) -> Affine:
    """What values are multiplied by, and what is added, once statistics stand still."""
    return _folded(affine, mean, jax.lax.rsqrt(var + epsilon))


FOLDED = "folded"
"""The parameter of a normalisation that is folded, an `Affine`."""


def _forward(then, epsilon, x, affine, given):
    mean, var = moments(x)
    inverse = jax.lax.rsqrt(var + epsilon)
    residual = _Residual(x, affine, given, mean, inverse)
    return (then(residual.normalised(), *given), mean, var), residual


def _forward_values(then, epsilon, *primals):
    is_primal = lambda leaf: hasattr(leaf, "perturbed")
    values = jax.tree.map(lambda leaf: leaf.value, primals, is_leaf=is_primal)
    return _forward(then, epsilon, *values)


def _backward(then, epsilon, residual, gradients):
    del epsilon  # It is in the inverse of the deviation.
    is_zero = lambda g: isinstance(g, jax.custom_derivatives.SymbolicZero)
    leaves = jax.tree.leaves(gradients[0], is_leaf=is_zero)
    arrive = cpu.computed_once([g for g in leaves if not is_zero(g)])

    def outputs(*arguments):
        # Zeros in the place of the others would be arrays as large as they.
        found = jax.tree.leaves(then(*arguments))
        return [y for y, g in zip(found, leaves, strict=True) if not is_zero(g)]

    def currents_and_given(residual, arrive):
        _, back = jax.vjp(outputs, residual.normalised(), *residual.given)
        return back(arrive)

    # Otherwise XLA would find what the forward pass has computed, and keep it for here.
    x = jax.lax.optimization_barrier(residual.x)
    residual = residual._replace(x=x)
    currents, *given = currents_and_given(residual, arrive)
    currents = cpu.computed_once(currents)
    standard = [_standard(residual, one) for one in x]
    wide = [at_least_float32(g) for g in currents]
    of_both = [g * z for g, z in zip(wide, standard, strict=True)]
    sums = channel_sums(wide, of_both)
    means = parallel.total(sums) / (count(x) * parallel.parts())

    def of_x(residual, means, currents):
        factor = residual.affine.gain * residual.inverse
        back = []
        for one, g in zip(residual.x, currents, strict=True):
            away = at_least_float32(g)
            away = away - scaled(_standard(residual, one), means[1], means[0])
            back.append((away * like(away, factor)).astype(one.dtype))
        return tuple(back)

    def again(residual, means, arrive, _):
        held = jax.lax.optimization_barrier((residual.x, means, arrive))
        x, means, arrive = held
        residual = residual._replace(x=x)
        return of_x(residual, means, currents_and_given(residual, arrive)[0])

    kept = lambda residual, means, _, currents: of_x(residual, means, currents)
    back = jax.lax.platform_dependent(
        residual, means, arrive, currents, cpu=kept, default=again
    )
    return back, Affine(sums[1], sums[0]), tuple(given)


def _standard(residual, one):
    """Values of mean 0 and deviation 1."""
    inverse = residual.inverse
    return scaled(at_least_float32(one), inverse, -residual.mean * inverse)


normalise.defvjp(_forward_values, _backward, symbolic_zeros=True)


def scaled(
    x: Float[Array, "N H W C"],
    factor: Float[Array | np.ndarray, "C"],
    offset: Float[Array | np.ndarray, "C"],
) -> Float[Array, "N H W C"]:
    """factor x + offset by channel, in the dtype of `x`."""
    y = x * factor[None, None, None] + offset[None, None, None]
    return y.astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation as torch keeps it: the running variance is unbiased.

    Flax's own keeps the biased one. Statistics have the accumulation dtype.

    Attributes:
        scale: start of the scale (0 for a branch that starts silent).
        bias: start of the bias (1 together with scale 0 for AND).
        momentum: share of the past in the running statistics.
        epsilon: added to the variance.

    Example:
        >>> layer, x = jsnnq.networks.BatchNorm(), jnp.ones((2, 3, 3, 4))
        >>> sorted(layer.init(jax.random.key(0), x, False)["batch_stats"])
        ['mean', 'var']
    """

    scale: float = 1.0
    bias: float = 0.0
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "N H W C"] | Timesteps,
        train: bool,
        repeats: int = 1,
        *,
        then: Callable[..., Any] | None = None,
        given: tuple[Any, ...] = (),
    ) -> Any:
        """Normalises over all axes but the last, and over timesteps.

        Args:
            x: values, or timesteps of them.
            train: use the batch's statistics and update the running ones.
            repeats: T for a stem that is computed once on a still image: the correction
                n / (n - 1) of the running variance counts every timestep.
            then: what follows, as in `normalise`, which `Spiking` uses.
            given: what it reads beside the normalised timesteps.

        Returns:
            Normalised values as `x`, or what `then` returns.
        """
        parts = x if isinstance(x, tuple) else (x,)
        if then is None:
            then = (lambda y: y) if isinstance(x, tuple) else (lambda y: y[0])
        if self.has_variable("params", FOLDED):
            return then(_multiplied(parts, self.get_variable("params", FOLDED)), *given)
        channels, dtype = parts[0].shape[-1:], accumulation(parts[0].dtype)
        filled = functools.partial(jnp.full, channels, dtype=dtype)
        affine = Affine(
            self.param("scale", lambda key: filled(self.scale)),
            self.param("bias", lambda key: filled(self.bias)),
        )
        running_mean = self.variable("batch_stats", "mean", filled, 0)
        running_var = self.variable("batch_stats", "var", filled, 1)
        if not train:
            statistics = running_mean.value, running_var.value, self.epsilon
            affine = fold_statistics(affine, *statistics)
            return then(_multiplied(parts, affine), *given)
        found: Any = normalise(then, self.epsilon, parts, affine, given)
        y, mean, var = found
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            # torch's correction; one value alone has no unbiased variance.
            n = count(parts) * repeats * parallel.parts()
            self._follow(running_mean, mean)
            self._follow(running_var, var * (n / max(n - 1, 1)))
        return y

    def _follow(self, running, value):
        running.value = self.momentum * running.value + (1 - self.momentum) * value
