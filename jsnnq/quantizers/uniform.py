"""Uniform quantization of b bits on a clipping range, with a straight-through gradient.

Which grid arXiv 2604.14487 uses is not known (its text says "uniform symmetric"), so
the candidates are named:

    even       q = -c + s round((clip(x, -c, c) + c) / s),  s = 2c / (2^b - 1)
               2^b levels, both ends included, no zero level; 1 to 8 bits
    symmetric  q = (c / n) round(n clip(x, -c, c) / c),     n = 2^(b-1) - 1
               2^b - 1 levels, zero included; 2 to 8 bits
    unsigned   q = s round(clip(x, 0, c) / s),              s = c / (2^b - 1)
               2^b levels from 0 to c; 1 to 8 bits

`even` is the default for weights: at 2 bits and clip 10 a grid with a zero level would
put every ordinary weight at zero, and the paper's 51.6 % accuracy there speaks
against it. Halves are rounded to even.

The clip is a number, or taken from the data: `max` is the largest magnitude,
`percentile` the given percentile of the magnitudes, over the tensor or per channel.
A clip from the data follows them: it is measured anew in every training step and
kept as it was last for evaluation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq import parallel
from jsnnq.errors import InputError, check_number, choose
from jsnnq.precision import accumulation, at_least_float32
from jsnnq.quantizers.base import (
    Quantizer,
    check_bits,
    per_channel,
)
from jsnnq.quantizers.primitives import Grid, round_to_grid

GRIDS = ("even", "symmetric", "unsigned")

_LEAST_CLIP = 1e-30


def uniform(
    bits: int,
    clip: float | str = 1.0,
    *,
    grid: str = "even",
    channelwise: bool = False,
    outside: float = 0.0,
    percentile: float = 99.9,
) -> Quantizer:
    """A uniform quantizer.

    Args:
        bits: 1 to 8 (`symmetric`: 2 to 8).
        clip: c above, or `max` or `percentile` to take it from the data.
        grid: `even`, `symmetric` or `unsigned`.
        channelwise: one clip per channel (last axis) where it comes from the data.
        outside: gradient outside the clip, 0 or 1.
        percentile: which percentile of the magnitudes `clip="percentile"` means.

    Raises:
        InputError: a setting is out of range.
    """
    choose("grid", grid, GRIDS)
    check_bits(f"uniform ({grid})", bits, least=2 if grid == "symmetric" else 1)
    if isinstance(clip, str):
        choose("clip", clip, ("max", "percentile"))
    else:
        check_number("uniform clip", clip, above=0)
    if check_number("percentile", percentile, above=0) > 100:
        raise InputError(f"percentile is {percentile!r}: at most 100 is possible")
    if outside not in (0, 1):
        raise InputError(f"uniform got outside={outside!r}: 0 or 1 is needed")
    measure = None
    if isinstance(clip, str):
        measure = _measure(100.0 if clip == "max" else float(percentile), channelwise)

    def init(key, x):
        del key  # Nothing is random here.
        limit = measure(x) if measure else jnp.asarray(clip, accumulation(x.dtype))
        return make_grid(bits, limit, grid)

    return Quantizer(
        apply=_make_apply(float(outside), measure),
        init=init,
        bits=bits,
        # An offset and a step for each clip.
        stored_numbers=lambda state: 2 * state.high.size,
    )


def make_grid(bits: int, clip: Float[Array, "*C"], grid: str) -> Grid:
    """The numbers of a grid of `bits` bits on the range that `clip` spans."""
    zero, count = jnp.zeros_like(clip), functools.partial(jnp.asarray, dtype=clip.dtype)
    if grid == "unsigned":
        return Grid(zero, clip, zero, clip, count(2**bits - 1))
    if grid == "symmetric":
        return Grid(-clip, clip, zero, clip, count(2 ** (bits - 1) - 1))
    return Grid(-clip, clip, -clip, 2 * clip, count(2**bits - 1))


@functools.cache
def _measure(percentile: float, channelwise: bool) -> Callable[[Array], Array]:
    """The clip that data ask for, never zero: an all-zero tensor stays all zero."""

    def measure(x):
        magnitude = at_least_float32(jnp.abs(jax.lax.stop_gradient(x)))
        values = per_channel(magnitude) if channelwise else magnitude.reshape(-1)
        if percentile == 100:
            clip = parallel.largest(jnp.max(values, axis=0))
        else:
            clip = jnp.percentile(parallel.gathered(values), percentile, axis=0)
        return jnp.maximum(clip, _LEAST_CLIP)

    return measure


@functools.cache
def _make_apply(outside, measure):
    """One function for each program, so that equal settings compile once."""

    def apply(x, state, train):
        if train and measure is not None:
            scale = measure(x) / state.high
            low, high, origin, span = (number * scale for number in state[:4])
            state = Grid(low, high, origin, span, state.count)
        return round_to_grid(x, state, outside), state

    return apply
