"""Signs trained through a straight-through estimator, the baseline of StoMPP.

Courbariaux et al., *BinaryConnect* (arXiv 1511.00363), for weights, and *Binarized
Neural Networks* (arXiv 1602.02830), for activations: the sign forward, from the first
step, and backward the identity (the baseline of arXiv 2606.27759) or the identity
where |u| < 1. sign(0) is +1.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import choose
from jsnnq.quantizers.base import Quantizer
from jsnnq.quantizers.primitives import freeze, mean_magnitude

GRADIENTS = ("identity", "clipped")


class Signs(NamedTuple):
    """What signs remember.

    Attributes:
        scale: their magnitude per channel as of the last training step, or None.
    """

    scale: Float[Array, "C"] | None


def ste(gradient: str = "identity", *, scaled: bool = False) -> Quantizer:
    """Signs with a straight-through gradient.

    Args:
        gradient: `identity`, or `clipped` to pass nothing where |u| >= 1.
        scaled: multiply the signs by the mean magnitude of their channel, as
            XNOR-Net does.

    Raises:
        InputError: the gradient is unknown.
    """
    choose("gradient", gradient, GRADIENTS)

    def init(key, x):
        del key  # Nothing is random here.
        return Signs(mean_magnitude(x) if scaled else None)

    return Quantizer(
        apply=_make_apply(gradient, scaled),
        init=init,
        bits=1,
        stored_numbers=lambda state: 0 if state.scale is None else state.scale.size,
        frozen=lambda x, state: jnp.ones(x.shape, bool),
        needs_values=scaled,
    )


@functools.cache
def _make_apply(gradient, scaled):
    def apply(x, state, train):
        scale = mean_magnitude(x) if scaled else None
        signs = freeze(x, jnp.ones((), bool), gradient, scale)
        return signs, Signs(scale) if train else state

    return apply
