"""MINT: one learnable scale for the weights of a layer and the membranes they feed.

Yin, Moitra, Bhattacharjee, Kim and Panda (arXiv 2305.09850, ASP-DAC 2024), as in the
authors' code (`w_q` and `u_q`): with n = 2^(b-1) - 1 steps on either side and a
learnable alpha,

    q = (alpha / n) round(n clip(tanh(x) / alpha, -1, 1))

Because weights and membrane share alpha, integer inference needs no multiplication:
the threshold becomes an integer compare. The gradient is straight-through inside the
clip, through the tanh, and alpha is learned with its gradient scaled by
1 / sqrt(N n), N values (papers' notes on the code; as in LSQ). The start is
alpha = 2 mean|w| / sqrt(n).

The tanh sits before the grid, so this quantizer applied to its own output moves it
again wherever tanh bends by more than half a step: the published formula is not
idempotent. `squash=False` leaves the tanh out, and then it is.

In MINT the membrane is quantized after fire, reset and leak (`stored`).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq import parallel
from jsnnq.precision import at_least_float32
from jsnnq.quantizers.base import Quantizer, check_bits
from jsnnq.quantizers.primitives import like


class MintState(NamedTuple):
    """What MINT learns: the scale of the layer, a parameter trained by gradient."""

    alpha: Float[Array, ""]


def mint(bits: int, *, squash: bool = True, shared: bool = False) -> Quantizer:
    """A MINT quantizer for the weights of a layer, or for its membranes.

    Args:
        bits: 2 to 8.
        squash: whether values pass through tanh first, as published.
        shared: for membranes, use the alpha of the kernel that feeds the neurons
            (which must be quantized by MINT too) instead of an own one.

    Raises:
        InputError: `bits` is out of range.
    """
    check_bits("mint", bits, least=2)
    count = 2 ** (bits - 1) - 1

    def init(key, x):
        del key  # Nothing is random here.
        alpha = 2 * jnp.mean(jnp.abs(x)) / math.sqrt(count)
        return MintState(jnp.maximum(at_least_float32(alpha), 1e-6))

    return Quantizer(
        apply=_make_apply(squash, count),
        init=init,
        bits=bits,
        stored_numbers=lambda state: 0 if shared else 1,
        trainable=True,
        shared=shared,
    )


@functools.cache
def _make_apply(squash, count):
    def apply(x, state, train):
        del train  # alpha is trained by gradient, not here.
        values = jnp.tanh(x) if squash else x
        return round_to_scale(values, state.alpha, count), state

    return apply


def round_to_scale(
    x: Float[Array, "..."], alpha: Float[Array, ""], n: int
) -> Float[Array, "..."]:
    """q = (alpha / n) round(n clip(x / alpha, -1, 1)), with MINT's gradients.

    Straight-through for x inside [-alpha, alpha], zero outside. For alpha,
    dq/dalpha = round(n y) / n - y 1[inside] with y = clip(x / alpha, -1, 1), summed
    and scaled by 1 / sqrt(N n).
    """
    return _round_to_scale(x, alpha, n, x.size * parallel.parts())


def _on_scale(x: Array, alpha: Array, n: int, size: Any) -> Array:
    del size  # Only the backward pass needs it.
    a = like(x, alpha)
    return (a / n * jnp.round(n * jnp.clip(x / a, -1, 1))).astype(x.dtype)


_round_to_scale = jax.custom_vjp(_on_scale, nondiff_argnums=(2, 3))


def _round_to_scale_forward(x, alpha, n, size):
    return _on_scale(x, alpha, n, size), (x, alpha)


def _round_to_scale_backward(n, size, residual, gradient):
    x, alpha = residual
    a = like(x, alpha)
    inside = jnp.abs(x) <= a
    y = jnp.clip(x / a, -1, 1)
    for_alpha = jnp.sum(gradient * (jnp.round(n * y) / n - jnp.where(inside, y, 0)))
    # The size may be a symbol (`jax.export`), of which `math` knows no root.
    root = jnp.sqrt(jnp.asarray(size * n, for_alpha.dtype))
    return jnp.where(inside, gradient, 0), for_alpha / root


_round_to_scale.defvjp(_round_to_scale_forward, _round_to_scale_backward)
