"""LQ-Net: levels that are learned by least squares, not by gradient.

LQ-Nets (arXiv 1807.10029, section 3). A basis v of K numbers spans 2^K levels, the
inner products v . e with all codes e; a value is sent to the nearest level:

    weights   codes e in {-1, +1}^K, one basis per output channel
    membrane  codes e in {0, 1}^K, one basis per layer, on potentials clipped to [0, c]

The basis follows the values by quantization error minimisation (QEM, section 3.2):
with the codes B fixed, v minimises |B^T v - x|^2; with v fixed, the codes are those
of the nearest levels. In training one QEM iteration runs per step, and its result
enters the stored basis by a moving average of 0.9; the forward pass uses the basis
stored before. The basis starts from QEM run to convergence on the given values;
`start="published"` takes the constant start of the authors' code instead.

The average is debiased, as by TensorFlow's helper in the authors' code, so that the
first step replaces the start by the first solution; `debias=False` is the plain average
of the PyTorch ports. The gradient is the identity for weights, and for the membrane the
identity up to the largest level and zero above. A clip (arXiv 2604.14487 puts one
before the encoding; LQ-Nets has none) adds its own derivative: zero outside.

**The ridge.** Codes can be collinear (a channel of equal weights, a layer that never
charges), and the normal equations singular. For weights the authors add 1e-4 to the
Gram matrix and 1e-4 v_old to the right-hand side, for activations nothing. Here the
Gram matrix is divided by the number of values N before eps is added, for both, and the
system is solved for the difference d = v - v_old,

    (B B^T / N + eps I) d = B (x - B^T v_old) / N,     eps = 1e-4

whose right-hand side vanishes where the old basis fits already, so that degenerate
channels keep their levels. Both forms stand still at the same bases. A step of one
differs from that of the authors' by at most eps / (eps + lambda) of it, lambda the
least eigenvalue of B B^T / N: 1.5 to 3 eps for 2 to 4 bits on normally distributed
weights, a fifth in a direction that one of 4608 values decides alone.

Sums are taken in float32, and the system, whose condition may be 1 / eps, is solved in
float64, whatever JAX's default is: the new basis is that of float64 to 1e-5 of the
largest entry of both. `ridge=0` solves the normal equations as they are; where they are
singular, a basis without meaning comes out, NaN as a rule.
"""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jsnnq.errors import InputError, check_number, choose
from jsnnq.quantizers.base import (
    PLACES,
    Planes,
    Quantizer,
    at_random,
    check_bits,
    per_channel,
    rows,
    sample,
)
from jsnnq.quantizers.primitives import nearest, round_to_level
from jsnnq.runtime import cpu, parallel
from jsnnq.runtime.precision import accumulation, at_least_float32

RIDGE = 1e-4
NORMAL_QUARTILE = 0.6745  # Of the standard normal, in the authors' start values.


class LQNetState(NamedTuple):
    """What LQ-Net remembers, for G groups: channels, or 1 for a layer.

    Attributes:
        basis: in use, `average / weight`.
        average: the sum behind the moving average.
        weight: the weights behind `average` added up.
        clip: values are clipped to this magnitude before encoding.
    """

    basis: Float[Array, "K G"]
    average: Float[Array, "K G"]
    weight: Float[Array, ""]
    clip: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class LQNet(Quantizer):
    """An LQ-Net quantizer.

    Attributes:
        bits: K, 1 to 8.
        clip: values are clipped to [-clip, clip] (signed codes) or [0, clip] (unsigned)
            before encoding; None clips nothing, and for membranes is 1.
        start: `qem` or `published`.
        debias: whether the moving average is debiased.
        average: weight of the past in the moving average, from 0 to below 1.
        ridge: eps above, from 0.
        follow: when a membrane's basis moves, once per `step` or at each `timestep`.
        codes: `signed` (+-1, a basis per channel) or `unsigned` (0 and 1, a basis per
            layer); None is unsigned for membranes and activations, else signed.
        padded: None, or the K of the arrays, of which those beyond `bits` stay zero:
            quantizers of so many bits and fewer share a compilation, and the numbers
            are those without it, to rounding. A step then takes as long as with so
            many bits. Where one of the first `bits` numbers is zero in every channel,
            it stays so too.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> kernel = jnp.array([[-3.0], [-1.0], [1.0], [3.0]])
        >>> state = jsnnq.lqnet(2).init(jax.random.key(0), kernel)
        >>> state.basis.round(3).tolist()  # Levels -1 - 2, 1 - 2, 2 - 1, 1 + 2.
        [[1.0], [2.0]]
    """

    bits: int
    clip: float | None = None
    start: str = "qem"
    debias: bool = True
    average: float = 0.9
    ridge: float = RIDGE
    follow: str = "step"
    codes: str | None = None
    padded: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_bits("lqnet", self.bits)
        if self.padded is not None:
            check_bits("lqnet padded", self.padded, least=self.bits)
        choose("start", self.start, ("qem", "published"))
        choose("follow", self.follow, ("step", "timestep"))
        if check_number("lqnet average", self.average, least=0) >= 1:
            raise InputError(f"lqnet average is {self.average!r}: below 1 is needed")
        check_number("lqnet ridge", self.ridge, least=0)
        if self.clip is not None:
            check_number("lqnet clip", self.clip, above=0)
        if self.codes is not None:
            choose("codes", self.codes, ("signed", "unsigned"))
        if self.codes == "unsigned" and self.clip is None:
            raise InputError("lqnet got no clip for unsigned codes: a number is needed")

    @property
    def _signed(self) -> bool:
        return self.codes != "unsigned"

    @property
    def each_timestep(self) -> bool:
        """Whether the basis moves within the timesteps."""
        return self.follow == "timestep"

    @property
    def needs_values(self) -> bool:
        """Unless it starts from the published basis."""
        return self.start != "published"

    @property
    def draw(self):
        """Unsigned codes have one basis for all channels, signed ones have one each."""
        return rows if self._signed else sample

    @property
    def places(self) -> tuple[str, ...]:
        """Everywhere, unless it follows timesteps, which membranes alone have."""
        return ("membranes",) if self.each_timestep else PLACES

    def placed(self, place, threshold=None):
        """With the codes, and for membranes the clip, that the place asks for."""
        super().placed(place, threshold)
        clip = 1.0 if self.clip is None and place == "membranes" else self.clip
        usual = "signed" if place == "weights" else "unsigned"
        return dataclasses.replace(self, clip=clip, codes=self.codes or usual)

    @property
    def representative(self):
        """The number of bits is a shape, and the clip is in the state."""
        codes = "signed" if self._signed else "unsigned"
        bits = self.padded or 8
        usual = {"bits": bits, "clip": 1.0, "start": "qem", "debias": True}
        return dataclasses.replace(self, codes=codes, **usual)

    def init(self, key, x):
        """A basis for the values; of many membranes, for a random part of them."""
        as_array = functools.partial(jnp.asarray, dtype=accumulation(x.dtype))
        limit = as_array(math.inf if self.clip is None else self.clip)
        size = self.padded or self.bits
        if self.start == "published":
            start = _published(x.shape, self.bits, self._signed, limit.dtype)
            basis = as_array(np.pad(start, ((0, size - self.bits), (0, 0))))
        else:
            x = x if self._signed else sample(at_random(key), x)
            basis = _fitted(x, limit, self.bits, size, signed=self._signed)
        total, weight = (jnp.zeros_like(basis), 0.0) if self.debias else (basis, 1.0)
        return LQNetState(basis, total, as_array(weight), limit)

    def apply(self, x, state, train):
        """The nearest levels; in training, the basis takes a step to the values."""
        levels, _ = sorted_levels(state.basis, self._signed)
        low, high = -state.clip, state.clip
        if not self._signed:
            levels = levels[:, 0]
            # Above the largest level the gradient is zero; clipping changes no value.
            high = jnp.minimum(state.clip, levels[-1])
            low = jnp.zeros_like(high)
        x_hat = round_to_level(x, levels, low, high)
        if not train:
            return x_hat, state
        return x_hat, self.learn((x,), state)

    def learn(self, parts, state):
        """One step of the basis to the values of all parts."""
        # No gradient flows through the state: it would have to pass the solution.
        state = jax.lax.stop_gradient(state)
        encoded = functools.partial(_encoded, limit=state.clip, signed=self._signed)
        values = tuple(encoded(jax.lax.stop_gradient(one)) for one in parts)
        used = None if self.padded is None else jnp.any(state.basis != 0, axis=1)
        fresh = refit(values, state.basis, self._signed, self.ridge, used=used)
        total = self.average * state.average + (1 - self.average) * fresh
        weight = self.average * state.weight + (1 - self.average)
        return LQNetState(total / weight, total, weight, state.clip)

    def planes(self, x, state):
        """The code of each number of the basis."""
        levels, codes = sorted_levels(state.basis, self._signed)
        if not self._signed:
            levels, codes = levels[:, 0], codes[..., 0]
        clipped = jnp.clip(x, -state.clip if self._signed else 0, state.clip)
        found = (nearest(clipped, levels, codes[:, k]) for k in range(len(state.basis)))
        scales = state.basis if self._signed else state.basis[:, 0]
        return Planes(tuple(one.astype(x.dtype) for one in found), tuple(scales))

    def stored_numbers(self, state):
        """The bases."""
        return self.bits * state.basis.shape[1]


lqnet = LQNet  # The name in `jsnnq`, that of a function.


def sorted_levels(
    basis: Float[Array, "K G"], signed: bool
) -> tuple[Float[Array, "L G"], Float[Array, "L K G"]]:
    """The levels in ascending order and the code behind each (section 3.1)."""
    alphabet = (-1, 1) if signed else (0, 1)
    codes = list(itertools.product(alphabet, repeat=len(basis)))
    words = jnp.asarray(codes, basis.dtype)
    levels = jnp.sum(words[:, :, None] * basis[None], axis=1)
    order = jnp.argsort(levels, axis=0)
    return jnp.take_along_axis(levels, order, axis=0), words[order].swapaxes(1, 2)


def refit(
    x: Float[Array, "N G"] | tuple[Float[Array, "..."], ...],
    basis: Float[Array, "K G"],
    signed: bool,
    ridge: float = RIDGE,
    *,
    used: Bool[Array, "K"] | None = None,
) -> Float[Array, "K G"]:
    """One QEM iteration on clipped values: encode, then solve for the best basis.

    Values may come in parts, of rows `N G` or, where G is 1, of any shape. Codes are -1
    and 1 if `signed`, else 0 and 1. Numbers of the basis that are not `used` are zero
    and stay so; None uses all.
    """
    levels, codes = sorted_levels(basis, signed)
    # Each code as a number whose j-th bit says whether e_j is +1: no array of all
    # codes of all values is ever formed.
    places = 2 ** jnp.arange(len(basis))[None, :, None]
    numbers = jnp.sum((codes > 0) * places, axis=1, dtype=jnp.int32)
    parts, groups = x if isinstance(x, tuple) else (x,), basis.shape[1]
    # Eight bits at most: a byte is what is kept of a value while sums are taken.
    coded = [
        (
            nearest(one, levels, numbers).astype(jnp.uint8),
            one - nearest(one, levels, levels),
        )
        for one in parts
    ]
    terms = functools.partial(_terms, bits=len(basis), signed=signed)
    sums = cpu.column_sums(terms, coded, groups)
    count = sum(one.size // groups for one in parts) * parallel.parts()
    return _moved(basis, parallel.total(sums), count, ridge, used=used)


def _moved(basis, sums, count, ridge, *, used=None):
    """The basis that the sums of `_terms` over `count` values ask for."""
    size = len(basis)
    # float32 is off by a thousandth of the ridge, which is all some directions have.
    with jax.enable_x64(True):
        means = sums.astype(jnp.float64) / count
        right, products = means[:size], means[size:]
        gram = products[_places_of_pairs(size)]
        if used is not None:
            right = jnp.where(used[:, None], right, 0)
            both = (used[:, None] & used[None])[:, :, None]
            gram = jnp.where(both, gram, jnp.eye(size)[:, :, None])
        moved = basis.astype(jnp.float64) + _solve_with_ridge(gram, right, ridge)
        return moved.astype(basis.dtype)


def _pairs(bits):
    return itertools.combinations_with_replacement(range(bits), 2)


def _places_of_pairs(bits):
    """Where among the pairs that of each row and column stands."""
    places = np.zeros((bits, bits), int)
    for place, (i, j) in enumerate(_pairs(bits)):
        places[i, j] = places[j, i] = place
    return places


def _terms(word, away, *, bits, signed):
    """What is added up for each value: e_i (x - level) by i, then e_i e_j by pair."""
    low = -1.0 if signed else 0.0
    on = [(word >> i) & 1 == 1 for i in range(bits)]
    both = (on[i] == on[j] if signed else on[i] & on[j] for i, j in _pairs(bits))
    return [jnp.where(one, away, low * away) for one in on] + [
        jnp.where(one, 1.0, low).astype(away.dtype) for one in both
    ]


def minimise(
    x: Float[Array, "N G"],
    basis: Float[Array, "K G"],
    signed: bool,
    used: Bool[Array, "K"] | None = None,
) -> Float[Array, "K G"]:
    """QEM iterated until the basis stands still (or 200 times); as in `refit`."""
    # Relative to the basis; float32 moves about its last digits for ever.
    moving = lambda carry: (carry[1] > 1e-6) & (carry[2] < 200)

    def iterate(carry):
        basis, _, iteration = carry
        new = refit(x, basis, signed, used=used)
        scale = jnp.maximum(jnp.max(jnp.abs(new)), jnp.finfo(new.dtype).tiny)
        return new, jnp.max(jnp.abs(new - basis)) / scale, iteration + 1

    start = (basis, jnp.asarray(jnp.inf, basis.dtype), jnp.int32(0))
    return jax.lax.while_loop(moving, iterate, start)[0]


def _solve_with_ridge(gram, right, ridge):
    """Solves (gram + ridge I) d = right for each group, `K K G` and `K G`."""
    # Elimination (Gauss and Jordan's) without pivots: the matrices are at most 8 x 8,
    # positive definite, and there is one for every channel. Whole matrices at a time,
    # since each row by itself would be code of its own, which takes longer to compile.
    size = len(right)
    columns = jnp.arange(size)[:, None, None]
    gram = gram + ridge * (columns == columns.swapaxes(0, 1))
    rows = jnp.concatenate([gram, right[:, None]], axis=1)
    for i in range(size):
        row = rows[i : i + 1] / rows[i : i + 1, i : i + 1]
        rows = jnp.where(columns == i, row, rows - rows[:, i : i + 1] * row)
    return rows[:, size]


def _encoded(x, limit, signed):
    """What codes are found for: clipped values, rows `N G` if there are G bases."""
    x = at_least_float32(per_channel(x) if signed else x)
    return jnp.clip(x, -limit if signed else jnp.zeros_like(limit), limit)


def _published(shape, bits, signed, dtype):
    """The start of the authors' code, which looks at no value."""
    powers = 2 ** np.arange(bits, dtype=dtype)[:, None]
    if not signed:
        return powers * NORMAL_QUARTILE * 2 / (2**bits - 1)
    fan_out = math.prod(shape) // shape[-2]  # k k C_out of a kernel H W I O
    scale = NORMAL_QUARTILE * math.sqrt(2 / fan_out) / 2 ** (bits - 1)
    return np.broadcast_to(powers * scale, (bits, shape[-1]))


@functools.partial(jax.jit, static_argnames=("size", "signed"))
def _fitted(x, limit, bits, size, *, signed):
    """A basis of `size` numbers, of which the first `bits` are used."""
    values = _encoded(x if signed else x.reshape(-1, 1), limit, signed)
    place = jnp.arange(size)[:, None]
    used = place < bits
    powers = jnp.where(used, 2.0**place, 0).astype(values.dtype)
    levels = jnp.asarray(2.0**bits, values.dtype)
    reach = jnp.max(jnp.abs(values), axis=0, keepdims=True)
    if not signed:
        # A layer that has not charged yet starts from the whole range.
        reach = jnp.where(reach > 0, reach, limit)
    return minimise(values, powers * reach / (levels - 1), signed, used[:, 0])
