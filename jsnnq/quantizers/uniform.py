"""Uniform quantization of b bits on a clipping range, with a straight-through gradient.

Which grid arXiv 2604.14487 uses is not known (its text says "uniform symmetric"), so
the candidates are named:

    even       q = -c + s round((clip(x, -c, c) + c) / s),  s = 2c / (2^b - 1)
               2^b levels, both ends included, no zero level; 1 to 8 bits
    symmetric  q = (c / n) round(n clip(x, -c, c) / c),     n = 2^(b-1) - 1
               2^b - 1 levels, zero included; 2 to 8 bits
    unsigned   q = s round(clip(x, 0, c) / s),              s = c / (2^b - 1)
               2^b levels from 0 to c; 1 to 8 bits

The default depends on the place. For weights it is `even`: at 2 bits and clip 10 a grid
with a zero level would put every ordinary weight at zero, and the paper's 51.6 %
accuracy there speaks against it. For membranes it is `symmetric`, and with one bit
`unsigned`, because a membrane rests at 0, which must be a level. Halves are rounded to
even.

The clip is a number, or taken from the data, over the tensor or per channel: `max` is
the largest magnitude, `percentile` a percentile of the magnitudes. It is then measured
anew in every training step and kept as it was last for evaluation.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq.errors import InputError, check_number, choose
from jsnnq.quantizers.base import (
    Planes,
    Quantizer,
    check_bits,
    per_channel,
    rows,
    sample,
)
from jsnnq.quantizers.primitives import Grid, like, round_to_grid, steps_of
from jsnnq.runtime import parallel
from jsnnq.runtime.precision import accumulation, at_least_float32


@dataclasses.dataclass(frozen=True)
class Uniform(Quantizer):
    """A uniform quantizer.

    Attributes:
        bits: 1 to 8 (`symmetric`: 2 to 8).
        clip: c above, or `max` or `percentile` to take it from the data.
        grid: `even`, `symmetric` or `unsigned`; None leaves it to the place, and is
            `even` where there is none.
        channelwise: one clip per channel (last axis) where it comes from the data.
        outside: gradient outside the clip, 0 or 1.
        percentile: which percentile of the magnitudes `clip="percentile"` means.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> jsnnq.uniform(2, clip=3.0).levels, jsnnq.uniform(2, grid="symmetric").levels
        (array([-3., -1.,  1.,  3.]), array([-1.,  0.,  1.]))
    """

    bits: int
    clip: float | str = 1.0
    grid: str | None = None
    channelwise: bool = False
    outside: float = 0.0
    percentile: float = 99.9

    def __post_init__(self):
        super().__post_init__()
        if self.grid is not None:
            choose("grid", self.grid, ("even", "symmetric", "unsigned"))
        least = 2 if self.grid == "symmetric" else 1
        check_bits(f"uniform ({self._grid})", self.bits, least=least)
        if isinstance(self.clip, str):
            choose("clip", self.clip, ("max", "percentile"))
        else:
            check_number("uniform clip", self.clip, above=0)
        if check_number("percentile", self.percentile, above=0) > 100:
            raise InputError(
                f"percentile is {self.percentile!r}: at most 100 is possible"
            )
        if check_number("uniform outside", self.outside) not in (0, 1):
            raise InputError(f"uniform got outside={self.outside!r}: 0 or 1 is needed")

    @property
    def _grid(self) -> str:
        return self.grid or "even"

    @property
    def _percentile(self) -> float:
        return float(self.percentile) if self.clip == "percentile" else 100.0

    @property
    def needs_values(self) -> bool:
        """Whether the clip is taken from them."""
        return isinstance(self.clip, str)

    @property
    def draw(self):
        """The largest magnitudes themselves; of a percentile what it is taken of."""
        if self._percentile == 100:
            return _largest_magnitudes
        return rows if self.channelwise else sample

    def placed(self, place, threshold=None):
        """With the grid that the place asks for, unless one is given."""
        super().placed(place, threshold)
        resting = "symmetric" if self.bits > 1 else "unsigned"
        usual = resting if place == "membranes" else "even"
        return dataclasses.replace(self, grid=self.grid or usual)

    @property
    def representative(self):
        """All numbers of a grid are in the state."""
        return Uniform(
            bits=8,
            clip=self.clip if isinstance(self.clip, str) else 1.0,
            grid="even",
            channelwise=self.channelwise and self.needs_values,
            outside=float(self.outside),
            percentile=self._percentile,
        )

    @property
    def levels(self) -> Float[np.ndarray, "L"] | None:
        """Those of the grid, unless the clip comes from the data."""
        if isinstance(self.clip, str):
            return None
        low = 0 if self._grid == "unsigned" else -1
        count = 2**self.bits - (self._grid == "symmetric")
        return self.clip * np.linspace(low, 1, count)

    def init(self, key, x):
        """The numbers of the grid; nothing is random here."""
        dtype = accumulation(x.dtype)
        clip = self._measure(x) if self.needs_values else jnp.asarray(self.clip, dtype)
        symmetric = self._grid == "symmetric"
        steps = 2 ** (self.bits - 1) - 1 if symmetric else 2**self.bits - 1
        zero, count = jnp.zeros_like(clip), jnp.asarray(steps, clip.dtype)
        if self._grid == "even":
            return Grid(-clip, clip, -clip, 2 * clip, count)
        return Grid(-clip if symmetric else zero, clip, zero, clip, count)

    def apply(self, x, state, train):
        """Values on the grid; in training one that follows them, if it is to."""
        if train and self.needs_values:
            scale = self._measure(x) / state.high
            # Scaled: the state alone knows the grid's form, see `representative`.
            low, high, origin, span = (number * scale for number in state[:4])
            state = Grid(low, high, origin, span, state.count)
        return round_to_grid(x, state, float(self.outside)), state

    def planes(self, x, state):
        """Steps from zero, counted in halves: of an even number of levels none is 0."""
        half = state.span / (2 * state.count)
        start = jnp.round(state.origin / half)
        codes = 2 * steps_of(x, state) + like(x, start)
        return Planes((codes.astype(x.dtype),), (half,))

    def stored_numbers(self, state):
        """An offset and a step for each clip."""
        return 2 * state.high.size

    def _measure(self, x: Array) -> Float[Array, "*C"]:
        """The clip that data ask for, never zero: an all-zero tensor stays all zero."""
        magnitude = at_least_float32(jnp.abs(jax.lax.stop_gradient(x)))
        values = per_channel(magnitude) if self.channelwise else magnitude.reshape(-1)
        if self._percentile == 100:
            clip = parallel.largest(jnp.max(values, axis=0))
        else:
            clip = _percentile(parallel.gathered(values), self._percentile)
        return jnp.maximum(clip, 1e-30)


def _largest_magnitudes(choose: Any, x: Float[Array, "*N C"]) -> Float[Array, "1 C"]:
    """That of each channel; a clip measured of these is that of all values."""
    return jnp.max(per_channel(jnp.abs(x)), axis=0, keepdims=True)


def _percentile(values: Float[Array, "N *C"], share: float) -> Float[Array, "*C"]:
    """Linear between neighbours in order, as `numpy.percentile` has it."""
    # float32, as in `jnp.percentile`, is off by whole places in a layer of millions.
    place = share / 100 * (len(values) - 1)
    below = math.floor(place)
    ordered = jnp.sort(values, axis=0)
    low, high = ordered[below], ordered[min(below + 1, len(values) - 1)]
    return low + (high - low) * (place - below)


uniform = Uniform  # The name in `jsnnq`, that of a function.
