"""MINT: one learnable scale for the weights of a layer and the membranes they feed.

Yin, Moitra, Bhattacharjee, Kim and Panda (arXiv 2305.09850, ASP-DAC 2024), as in the
authors' code (`w_q` and `u_q`): with n = 2^(b-1) - 1 steps on either side and a
learnable alpha,

    q = (alpha / n) round(n clip(tanh(x) / alpha, -1, 1))

The formula is even in alpha, and only |alpha| counts: an optimizer may carry alpha
through zero, and the layer is as it was. At alpha = 0 every value is 0.

The gradient is straight-through inside the clip, through the tanh. That of alpha is
scaled by 1 / sqrt(N n), N values: as in LSQ (arXiv 1902.08153, section 2.2), and as in
the authors' training loop (`train_snn.py`), which takes N and n of the kernel for all
of it; here membranes that share alpha scale their part by their own.

**The start.** The authors start from alpha = 2 mean|w| / sqrt(n), which is LSQ's start
of a step, where alpha is n steps: from 3 bits on it clips more with every bit, and at 8
bits most of a layer (`start="published"`). Here alpha starts where the squared error of
the grid is least, among 128 scales from the largest magnitude down to a 245th of it,
and where all values are zero, at 1, the range of tanh.

**Membranes.** Since they share alpha with the weights that feed them (`shared`),
integer inference needs no multiplication: the threshold becomes an integer compare
(`lif_forward` in the authors' code). A learned alpha of their own is jsnnq's: where
nothing is shared, the authors take max|tanh(x)| of the values at hand. They quantize a
membrane after fire, reset and leak; `stored` does after fire and reset, for a neuron of
jsnnq leaks when it charges.

The published formula is not idempotent: applied to its own output it moves it wherever
tanh bends by more than half a step. `squash=False` leaves the tanh out.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import choose
from jsnnq.quantizers.base import Planes, Quantizer, at_random, check_bits, sample
from jsnnq.quantizers.primitives import like, share_of
from jsnnq.runtime import parallel
from jsnnq.runtime.precision import at_least_float32


class MintState(NamedTuple):
    """What MINT learns: the scale of the layer, a parameter trained by gradient."""

    alpha: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Mint(Quantizer):
    """A MINT quantizer for the weights of a layer, or for its membranes.

    Attributes:
        bits: 2 to 8.
        squash: whether values pass through tanh first, as published.
        shared: for membranes, use the alpha of the kernel that feeds the neurons
            (which must be quantized by MINT too) instead of an own one.
        start: `fitted` or `published`.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> jsnnq.mint(4).places, jsnnq.mint(4, shared=True).places
        (('weights', 'membranes'), ('membranes',))
    """

    bits: int
    squash: bool = True
    shared: bool = False
    start: str = "fitted"

    trainable = True

    def __post_init__(self):
        super().__post_init__()
        check_bits("mint", self.bits, least=2)
        choose("start", self.start, ("fitted", "published"))

    @property
    def representative(self):
        """Where it starts is in the state."""
        return dataclasses.replace(self, start="fitted")

    @property
    def _count(self) -> int:
        """n above."""
        return 2 ** (self.bits - 1) - 1

    @property
    def needs_values(self) -> bool:
        """Unless the scale is that of a kernel."""
        return not self.shared

    @property
    def draw(self):
        """One scale is fitted to values of all channels."""
        return sample

    @property
    def places(self) -> tuple[str, ...]:
        """Weights, and membranes, which alone can share a scale."""
        return ("membranes",) if self.shared else ("weights", "membranes")

    def init(self, key, x):
        """The scale for the values; for many, from a random part of them."""
        if self.start == "published":
            alpha = 2 * jnp.mean(jnp.abs(x)) / math.sqrt(self._count)
            return MintState(at_least_float32(alpha))
        x = at_least_float32(sample(at_random(key), x).reshape(-1))
        values = jnp.tanh(x) if self.squash else x
        return MintState(least_error(values, jnp.asarray(self._count, x.dtype)))

    def apply(self, x, state, train):
        """Values on the grid; alpha is trained by gradient, not here."""
        values = jnp.tanh(x) if self.squash else x
        # Counted here: the backward pass runs outside of `parallel.whole`.
        size = x.size * parallel.parts()
        return round_to_scale(values, state.alpha, self._count, size), state

    def planes(self, x, state):
        """Steps from zero."""
        values = jnp.tanh(x) if self.squash else x
        a, y = _inside_scale(values, state.alpha)
        codes = jnp.round(self._count * y).astype(x.dtype)
        return Planes((codes,), (a.reshape(()) / self._count,))

    def stored_numbers(self, state):
        """The scale, unless it is stored with the kernel."""
        return 0 if self.shared else 1


mint = Mint  # The name in `jsnnq`, that of a function.


@jax.jit
def least_error(x: Float[Array, "N"], n: Float[Array, ""]) -> Float[Array, ""]:
    """The alpha with the least squared error of max|x| 2^(-k/16), k = 0 to 127.

    Args:
        x: values, after the tanh if there is one; of zeros alone max|x| is taken as 1.
        n: steps on either side; an array, so that all bits are one program.
    """
    reach = jnp.max(jnp.abs(x))
    shares = jnp.exp2(-jnp.arange(128, dtype=x.dtype) / 16)
    alphas = jnp.where(reach > 0, reach, 1) * shares
    error = lambda alpha: jnp.sum(jnp.square(x - _on_scale(x, alpha, n)))
    # One after the other: all at once would take 128 times the memory of the values.
    return alphas[jnp.argmin(jax.lax.map(error, alphas))]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def round_to_scale(
    x: Float[Array, "..."], alpha: Float[Array, ""], n: int, size: Any
) -> Float[Array, "..."]:
    """q = (a / n) round(n y), y = clip(x / a, -1, 1), a = |alpha|, by MINT's gradients.

    Straight-through for x inside [-a, a], zero outside. For alpha, sign(alpha) times
    dq/da = round(n y) / n - y 1[inside], summed and scaled by 1 / sqrt(N n). The sign
    of 0 is +1, so that alpha leaves it. N is `size`, the number of values on all
    devices, which may be a symbol (`jax.export`).
    """
    del size  # Only the backward pass needs it.
    return _on_scale(x, alpha, n)


def _inside_scale(x, alpha):
    a = like(x, jnp.abs(alpha))
    # Where alpha is 0, y is the sign of x, and no gradient is NaN.
    return a, jnp.clip(x / jnp.maximum(a, jnp.finfo(a.dtype).tiny), -1, 1)


def _on_scale(x: Array, alpha: Array, n: Array | int) -> Array:
    a, y = _inside_scale(x, alpha)
    return (a * share_of(jnp.round(n * y), n)).astype(x.dtype)


def _round_to_scale_forward(x, alpha, n, size):
    return round_to_scale(x, alpha, n, size), (x, alpha)


def _round_to_scale_backward(n, size, residual, gradient):
    x, alpha = residual
    a, y = _inside_scale(x, alpha)
    inside = jnp.abs(x) <= a
    for_a = jnp.sum(gradient * (jnp.round(n * y) / n - jnp.where(inside, y, 0)))
    # `math` knows no root of a symbol.
    root = jnp.sqrt(jnp.asarray(size * n, for_a.dtype))
    for_alpha = jnp.where(alpha < 0, -for_a, for_a) / root
    return jnp.where(inside, gradient, 0), for_alpha


round_to_scale.defvjp(_round_to_scale_forward, _round_to_scale_backward)
