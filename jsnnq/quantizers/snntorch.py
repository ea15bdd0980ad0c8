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

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq.errors import check_number, choose
from jsnnq.precision import accumulation
from jsnnq.quantizers.base import Quantizer, check_bits
from jsnnq.quantizers.primitives import round_to_level

BASES = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925, 8: 0.95}
"""snnTorch's default ratio of neighbouring gaps, by bits."""


class LevelsState(NamedTuple):
    """The levels, ascending, `L`."""

    levels: Float[Array, "L"]


def snntorch(
    bits: int,
    *,
    threshold: float = 1.0,
    lower: float = 0.0,
    upper: float = 0.2,
    spacing: str = "exponential",
    centre: str = "threshold",
) -> Quantizer:
    """The membrane quantizer of snnTorch.

    Args:
        bits: 1 to 8.
        threshold: the neuron's threshold theta.
        lower: how far the levels reach below -theta, as a share of theta.
        upper: how far they reach above theta, likewise; above 0.
        spacing: `uniform` or `exponential`.
        centre: where exponential levels crowd, `threshold` or `zero`.

    Raises:
        InputError: a setting is out of range.
    """
    check_bits("snntorch", bits)
    check_number("snntorch threshold", threshold, above=0)
    check_number("snntorch upper", upper, above=0)
    check_number("snntorch lower", lower, least=0)
    choose("spacing", spacing, ("uniform", "exponential"))
    choose("centre", centre, ("threshold", "zero"))
    low, high = -(1 + lower) * threshold, (1 + upper) * threshold
    if spacing == "uniform":
        levels = np.linspace(low, high, 2**bits)
    else:
        middle = threshold if centre == "threshold" else 0.0
        levels = crowded_levels(bits, low, middle, high)

    def init(key, x):
        del key  # Nothing is random here.
        return LevelsState(jnp.asarray(levels, accumulation(x.dtype)))

    return Quantizer(
        apply=_apply,
        init=init,
        bits=bits,
        stored_numbers=lambda state: state.levels.size,
    )


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


def _apply(x, state, train):
    del train  # The levels are fixed.
    everywhere = jnp.asarray(math.inf, state.levels.dtype)
    return round_to_level(x, state.levels, -everywhere, everywhere), state
