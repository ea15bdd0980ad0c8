"""snnTorch's state quantization: fixed levels spread around the firing threshold.

Eshraghian, Lammie, Azghadi and Lu (arXiv 2202.07221), and SQUAT (arXiv 2404.19668);
the levels are those of `snntorch.functional.quant.state_quant`. They span
[-(1 + lower) theta, (1 + upper) theta], 2^b of them, and are spaced

    uniform      equally;
    exponential  ever closer towards the threshold from both sides (or towards 0):
                 neighbouring gaps shrink by the factor `base` below it and grow
                 by it above it.

A value goes to its nearest level, and the gradient is the identity everywhere. In
snnTorch it acts on the membrane before the spike test (`before_fire`).
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

BASES = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925, 8: 0.95}
"""snnTorch's default ratio of neighbouring gaps, by bits."""


class LevelsState(NamedTuple):
    """The levels, ascending, `L`."""

    levels: Float[Array, "L"]


@dataclasses.dataclass(frozen=True)
class SnnTorch(Quantizer):
    """The membrane quantizer of snnTorch.

    Attributes:
        bits: 1 to 8.
        lower: how far the levels reach below -theta, as a share of theta.
        upper: how far they reach above theta, likewise; above 0.
        spacing: `uniform` or `exponential`.
        centre: where exponential levels crowd, `threshold` or `zero`.
        threshold: theta; None is that of the neurons, and 1 where there are none.

    Raises:
        InputError: a setting is out of range.
    """

    bits: int
    lower: float = 0.0
    upper: float = 0.2
    spacing: str = "exponential"
    centre: str = "threshold"
    threshold: float | None = None

    needs_values = False
    places = ("membranes",)

    def __post_init__(self):
        check_bits("snntorch", self.bits)
        check_number("snntorch threshold", self._threshold, above=0)
        check_number("snntorch upper", self.upper, above=0)
        check_number("snntorch lower", self.lower, least=0)
        choose("spacing", self.spacing, ("uniform", "exponential"))
        choose("centre", self.centre, ("threshold", "zero"))

    @property
    def _threshold(self) -> float:
        return 1.0 if self.threshold is None else self.threshold

    def placed(self, place, threshold=None):
        """For membranes, whose threshold it takes unless one is given."""
        super().placed(place, threshold)
        if self.threshold is None and threshold is not None:
            return dataclasses.replace(self, threshold=threshold)
        return self

    @property
    def representative(self):
        """The levels are in the state."""
        return SnnTorch(8)

    @property
    def levels(self) -> Float[np.ndarray, "L"]:
        """All of them, in float64."""
        low, high = -(1 + self.lower), 1 + self.upper
        if self.spacing == "uniform":
            return self._threshold * np.linspace(low, high, 2**self.bits)
        middle = 1.0 if self.centre == "threshold" else 0.0
        return self._threshold * crowded_levels(self.bits, low, middle, high)

    def init(self, key, x):
        """The levels, whatever the values."""
        del key, x
        return LevelsState(jnp.asarray(self.levels, jnp.float32))

    def apply(self, x, state, train):
        """The nearest level, which stays where it is in training."""
        del train
        everywhere = jnp.float32(math.inf)
        return round_to_level(x, state.levels, -everywhere, everywhere), state

    def stored_numbers(self, state):
        """The levels."""
        return state.levels.size


snntorch = SnnTorch
"""What `jsnnq.snntorch` is: the same, by the name that a function would have."""


def crowded_levels(
    bits: int, low: float, middle: float, high: float
) -> Float[np.ndarray, "L"]:
    """2^bits levels from `low` to `high` whose gaps shrink towards `middle`.

    The levels are shared out in proportion to the two ranges. Below, gaps are
    proportional to base^0, base^1, ...; above, to ..., base^1, base^0.
    """
    base = BASES[bits]
    below = math.floor(2**bits * (middle - low) / (high - low))
    falling = base ** np.arange(below)
    rising = base ** np.arange(2**bits - below)[::-1]
    lower = low + (middle - low) * (np.cumsum(falling) - falling) / np.sum(falling)
    upper = middle + (high - middle) * np.cumsum(rising) / np.sum(rising)
    # The last gap below ends in the middle. With one bit around zero snnTorch makes
    # three levels; the upper two are kept.
    return np.concatenate([lower[:-1], [middle], upper])[-(2**bits) :]
