"""Rounding onto grids, level sets and signs, each with its published gradient.

Gradients reach the values only; the numbers of a grid are constants here.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jsnnq.runtime import parallel
from jsnnq.runtime.precision import accumulation

# Up to this many levels, shared or of a channel, a selection per level is written out,
# which XLA fuses into one pass over the values; beyond, bisection runs faster or
# compiles faster.
_WRITE_OUT_SHARED, _WRITE_OUT_BY_CHANNEL = 64, 16


class Grid(NamedTuple):
    """Equally spaced values origin + span (k / count) inside a clipping range.

    Attributes:
        low: lower end of the clipping range.
        high: upper end.
        origin: a value that lies on the grid.
        span: length of `count` steps.
        count: number of steps in `span`.
    """

    low: Float[Array, "*C"]
    high: Float[Array, "*C"]
    origin: Float[Array, "*C"]
    span: Float[Array, "*C"]
    count: Float[Array, ""]


def like(x: Array, numbers: Shaped[Array, "*C"]) -> Array:
    """Gives a scalar or a per-channel vector the rank of `x`."""
    return numbers.reshape((1,) * (x.ndim - numbers.ndim) + numbers.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def round_to_grid(
    x: Float[Array, "..."], grid: Grid, outside: float
) -> Float[Array, "..."]:
    """Clips and rounds to the grid, halves to even: straight-through inside the clip.

    k = round(count (clip(x, low, high) - origin) / span)
    q = origin + span (k / count)

    Args:
        x: values, channels last where the grid has one number per channel.
        grid: the grid.
        outside: gradient outside the clip, 0 or 1; inside, ends included, it is 1.
    """
    del outside  # Only the backward pass needs it.
    _, _, origin, span, count = (like(x, number) for number in grid)
    return (origin + span * share_of(steps_of(x, grid), count)).astype(x.dtype)


def steps_of(x: Float[Array, "..."], grid: Grid) -> Float[Array, "..."]:
    """k above: how many steps from the origin a value is, once it is on the grid."""
    low, high, origin, span, count = (like(x, number) for number in grid)
    # Multiplied first: a step span / count is a rounded number, and halves would move.
    return jnp.round(count * (jnp.clip(x, low, high) - origin) / span)


def share_of(steps: Float[Array, "..."], count: Array | int) -> Float[Array, "..."]:
    """`steps / count`, exactly -1 and 1 at the ends.

    XLA multiplies by a rounded reciprocal where it knows `count`, after which 31 steps
    of 31 are 0.99999994 of the way, and a neuron whose threshold is the clip never
    fires.
    """
    return jnp.where(jnp.abs(steps) >= count, jnp.sign(steps), steps / count)


def _inside(x, low, high):
    # One bit per value is kept for the backward pass, and not the value.
    return (x >= like(x, low)) & (x <= like(x, high))


def _round_to_grid_forward(x, grid, outside):
    inside = _inside(x, grid.low, grid.high)
    return round_to_grid(x, grid, outside), (inside, grid)


def _round_to_grid_backward(outside, residual, gradient):
    inside, grid = residual
    passed = gradient if outside else jnp.where(inside, gradient, 0)
    return passed, jax.tree.map(jnp.zeros_like, grid)


round_to_grid.defvjp(_round_to_grid_forward, _round_to_grid_backward)


def nearest(
    x: Float[Array, "..."], levels: Float[Array, "L *C"], values: Shaped[Array, "L *C"]
) -> Shaped[Array, "..."]:
    """What belongs to the nearest level, halfway to the lower one.

    Args:
        x: numbers, channels last.
        levels: ascending along the first axis, shared or one column per channel.
        values: what each level has one of, such as itself, or its code; selected, not
            computed, so exact.
    """
    midpoints = (levels[1:] + levels[:-1]) / 2
    shared = levels.size == len(levels)
    if len(levels) <= (_WRITE_OUT_SHARED if shared else _WRITE_OUT_BY_CHANNEL):
        found = jnp.broadcast_to(like(x, values[0]), x.shape)
        for midpoint, value in zip(midpoints, values[1:], strict=True):
            found = jnp.where(x > like(x, midpoint), like(x, value), found)
        return found
    channel = tuple(like(x, jnp.arange(n)) for n in levels.shape[1:])
    # A bisection; past the last level there is nothing to exceed.
    steps = (len(levels) - 1).bit_length()
    missing = 2**steps - len(levels)
    padding = ((0, missing), *((0, 0) for _ in channel))
    midpoints = jnp.pad(midpoints, padding, constant_values=jnp.inf)
    index = jnp.zeros(x.shape, jnp.int32)
    for half in (2**step for step in reversed(range(steps))):
        above = x > midpoints[(index + (half - 1), *channel)]
        index += jnp.where(above, half, 0)
    return values[(index, *channel)]


@jax.custom_vjp
def round_to_level(
    x: Float[Array, "..."],
    levels: Float[Array, "L *C"],
    low: Float[Array, ""],
    high: Float[Array, ""],
) -> Float[Array, "..."]:
    """Clips, then moves to the nearest level: straight-through inside the clip.

    Args:
        x: values, channels last.
        levels: as in `nearest`.
        low: lower end of the clip, may be infinite.
        high: upper end. The gradient is 1 inside, ends included, and 0 outside.
    """
    clipped = jnp.clip(x, like(x, low), like(x, high))
    return nearest(clipped, levels, levels).astype(x.dtype)


def _round_to_level_forward(x, levels, low, high):
    residual = _inside(x, low, high), levels, low, high
    return round_to_level(x, levels, low, high), residual


def _round_to_level_backward(residual, gradient):
    inside, *constants = residual
    return jnp.where(inside, gradient, 0), *map(jnp.zeros_like, constants)


round_to_level.defvjp(_round_to_level_forward, _round_to_level_backward)


SURROGATES = ("none", "identity", "clipped")
"""What passes back through a hard sign: nothing, everything, or where |u| < 1."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def freeze(
    u: Float[Array, "..."],
    frozen: Bool[Array, "..."],
    surrogate: str = "none",
    scale: Float[Array, "*C"] | None = None,
) -> Float[Array, "..."]:
    """Hard signs where frozen, the clipped value elsewhere.

    u' = M sign(u) + (1 - M) clip(u, -1, 1)             (arXiv 2606.27759, Eq. 1-2)

    sign(0) is +1. Backward, unfrozen entries pass the gradient where |u| < 1, and
    frozen ones exactly nothing, or what the surrogate says.

    Args:
        u: weights, or values before an activation.
        frozen: M, shaped like the last axes of `u`.
        surrogate: one of `SURROGATES`, for frozen entries only.
        scale: magnitudes of the signs per channel (last axis), a constant for the
            gradient; by default 1.
    """
    del surrogate  # Only the backward pass needs it.
    sign = hard_sign(u)
    if scale is not None:
        sign = sign * like(u, scale).astype(u.dtype)
    return jnp.where(like(u, frozen), sign, jnp.clip(u, -1, 1))


def hard_sign(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 from zero on, -1 below; what is no number stays none."""
    return jnp.where(u >= 0, 1, jnp.where(u < 0, -1, u)).astype(u.dtype)


def _freeze_forward(u, frozen, surrogate, scale):
    smooth = jnp.abs(u) < 1
    hard = {"none": False, "identity": True, "clipped": smooth}[surrogate]
    # One bit of memory per entry is enough where signs have no scale.
    passes = jnp.where(like(u, frozen), hard, smooth)
    return freeze(u, frozen, surrogate, scale), (passes, frozen, scale)


def _freeze_backward(surrogate, residual, gradient):
    del surrogate  # It is in what passes.
    passes, frozen, scale = residual
    passed = jnp.where(passes, gradient, 0)
    if scale is None:
        return passed, None, None
    slope = like(passed, scale).astype(passed.dtype)
    passed = jnp.where(like(passed, frozen), passed * slope, passed)
    return passed, None, jnp.zeros_like(scale)


freeze.defvjp(_freeze_forward, _freeze_backward)


def mean_magnitude(x: Float[Array, "*N C"]) -> Float[Array, "C"]:
    """The scale of XNOR-Net (arXiv 1603.05279, section 3.1): mean |x| per channel."""
    axes = tuple(range(x.ndim - 1))
    magnitude = jnp.abs(jax.lax.stop_gradient(x))
    return parallel.mean(jnp.mean(magnitude, axis=axes, dtype=accumulation(x.dtype)))
