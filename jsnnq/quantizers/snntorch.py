"""snnTorch's state quantization: fixed levels spread around the firing threshold.

Eshraghian, Lammie, Azghadi and Lu (arXiv 2202.07221), and SQUAT (arXiv 2404.19668);
levels and defaults are those of `snntorch.functional.quant.state_quant` in snnTorch
1.0.0, and the same in 0.9.4. They lie in [-(1 + lower) theta, (1 + upper) theta], 2^b
of them, and are spaced

    uniform      equally, both ends included;
    exponential  ever closer towards the threshold from both sides (or towards 0):
                 neighbouring gaps shrink by the factor `base` below it and grow
                 by it above it.

The centre is no level (`crowded_levels`), and a side whose share of the range is less
than one level has none: around 0 one bit is two positive levels.

A value goes to its nearest level, halfway to the lower one, and the gradient is the
identity everywhere. In snnTorch it acts on the membrane before the spike test
(`before_fire`). A neuron of snnTorch fires above its threshold, one of jsnnq already
at it, which matters where a level is the threshold: with `upper=0` the highest one is,
spaced uniformly or around 0, and around the threshold none reaches it.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq.errors import check_number, choose
from jsnnq.quantizers.base import Quantizer, check_bits
from jsnnq.quantizers.primitives import round_to_level
from jsnnq.runtime.precision import accumulation

BASES = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925, 8: 0.95}
"""snnTorch's default ratio of neighbouring gaps, by bits."""


class LevelsState(NamedTuple):
    """The levels, ascending."""

    levels: Float[Array, "L"]


@dataclasses.dataclass(frozen=True)
class SnnTorch(Quantizer):
    """The membrane quantizer of snnTorch.

    Attributes:
        bits: 1 to 8.
        lower: how far the levels reach below -theta, as a share of theta.
        upper: how far they reach above theta, likewise; from 0.
        spacing: `uniform` or `exponential`.
        centre: where exponential levels crowd, `threshold` or `zero`.
        threshold: theta; None is that of the neurons, and 1 where there are none.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> jsnnq.snntorch(2, upper=1.0, threshold=1.0).levels
        array([-1.,  0.,  1.,  2.])
    """

    bits: int
    lower: float = 0.0
    upper: float = 0.2
    spacing: str = "uniform"
    centre: str = "threshold"
    threshold: float | None = None

    needs_values = False
    places = ("membranes",)

    def __post_init__(self):
        super().__post_init__()
        check_bits("snntorch", self.bits)
        check_number("snntorch threshold", self._threshold, above=0)
        check_number("snntorch upper", self.upper, least=0)
        check_number("snntorch lower", self.lower, least=0)
        choose("spacing", self.spacing, ("uniform", "exponential"))
        choose("centre", self.centre, ("threshold", "zero"))

    @property
    def _threshold(self) -> float:
        return 1.0 if self.threshold is None else self.threshold

    def placed(self, place, threshold=None):
        """For membranes, whose threshold it takes unless one is given."""
        super().placed(place, threshold)
        theta = threshold if self.threshold is None else self.threshold
        return dataclasses.replace(self, threshold=theta)

    @property
    def representative(self):
        """The levels are in the state."""
        return SnnTorch(8)

    @property
    def levels(self) -> Float[np.ndarray, "L"]:
        """All of them, in float64."""
        theta = self._threshold
        # As snnTorch computes them: where a side's share of the levels is a whole
        # number, their rounding decides it.
        low, high = -(theta + theta * self.lower), theta + theta * self.upper
        if self.spacing == "uniform":
            return np.linspace(low, high, 2**self.bits)
        middle = theta if self.centre == "threshold" else 0.0
        return crowded_levels(self.bits, low, middle, high)

    def init(self, key, x):
        """The levels, whatever the values."""
        return LevelsState(jnp.asarray(self.levels, accumulation(x.dtype)))

    def apply(self, x, state, train):
        """The nearest level, which stays where it is in training."""
        everywhere = jnp.asarray(math.inf, state.levels.dtype)
        return round_to_level(x, state.levels, -everywhere, everywhere), state

    def stored_numbers(self, state):
        """The levels."""
        return state.levels.size


snntorch = SnnTorch  # The name in `jsnnq`, that of a function.


def crowded_levels(
    bits: int, low: float, middle: float, high: float
) -> Float[np.ndarray, "L"]:
    """2^bits levels from `low` to `high` whose gaps shrink towards `middle`.

    They are shared out in proportion to the two ranges. Gaps are proportional to
    base^0, base^1, ... below, the last of which would end in `middle`, and to ...,
    base^1, base^0 above, the first of which begins there.
    """
    base = BASES[bits]
    below = math.floor(2**bits * (middle - low) / (high - low))
    falling = base ** np.arange(below)
    rising = base ** np.arange(2**bits - below)[::-1]
    lower = low + (middle - low) * (np.cumsum(falling) - falling) / np.sum(falling)
    upper = middle + (high - middle) * np.cumsum(rising) / np.sum(rising)
    return np.concatenate([lower, upper])
