"""Signs trained through a straight-through estimator, the baseline of StoMPP.

Courbariaux et al., *BinaryConnect* (arXiv 1511.00363), for weights, and *Binarized
Neural Networks* (arXiv 1602.02830), for activations: the sign forward, from the first
step, and backward the identity (the baseline of arXiv 2606.27759) or the identity
where |u| < 1. sign(0) is +1.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import choose
from jsnnq.quantizers.base import SignQuantizer
from jsnnq.quantizers.primitives import freeze, mean_magnitude


class Signs(NamedTuple):
    """What signs remember: their magnitude as of the last training step, or None."""

    scale: Float[Array, "C"] | None


@dataclasses.dataclass(frozen=True)
class STE(SignQuantizer):
    """Signs with a straight-through gradient.

    Attributes:
        gradient: `identity`, or `clipped` to pass nothing where |u| >= 1.
        scaled: multiply the signs by the mean magnitude of their channel, as XNOR-Net
            does; for weights only, since that of a batch is no number to store.

    Raises:
        InputError: the gradient is unknown.

    Example:
        >>> x, signs = jnp.array([-0.25, 0.0, 2.0]), jsnnq.ste()
        >>> signs.apply(x, signs.init(jax.random.key(0), x), train=True)[0].tolist()
        [-1.0, 1.0, 1.0]
    """

    gradient: str = "identity"
    scaled: bool = False

    def __post_init__(self):
        super().__post_init__()
        choose("gradient", self.gradient, ("identity", "clipped"))

    def init(self, key, x):
        """The magnitudes of the values; nothing is random here."""
        return Signs(mean_magnitude(x) if self.scaled else None)

    def apply(self, x, state, train):
        """The signs of the values, and the magnitudes in use."""
        scale = mean_magnitude(x) if self.scaled else None
        signs = freeze(x, jnp.ones((), bool), self.gradient, scale)
        return signs, Signs(scale) if train else state

    def frozen(self, x, state):
        """All of them, from the first step."""
        return jnp.ones(x.shape, bool)


ste = STE  # The name in `jsnnq`, that of a function.
