"""Signs without a straight-through estimator: StoMPP's progressive stochastic masks.

Smith and Islam, *StoMPP* (arXiv 2601.22660 and its successor 2606.27759). Weights and
activations start as clipped values and are frozen to hard signs entry by entry (Eq. 1-2
of 2606.27759, in `primitives.freeze`), layer after layer, by a random mask M whose
expected share grows from 0 to 1 while the layer's window lasts. Gradients pass only
what is not frozen; a `surrogate` adds a straight-through gradient on frozen entries and
nowhere else (StoMPP+STE).

The text of the papers leaves open how masks are drawn, so the readings are named:

    soft       every entry holds a uniform threshold, M = [threshold < p]; each step
               a fraction 1/r of the thresholds is drawn anew, every entry once in each
               r steps at a moment of its own. The expected share is p for every r, and
               p = 1 closes the mask by itself. The default.
    bernoulli  each step an entry is drawn anew with probability 1/r, from
               Bernoulli(p); otherwise it stays. The expected share lags behind:
               m <- m + (p - m) / r. It is forced to 1 when the window ends.
    full       all thresholds are drawn anew every r steps.
    fixed      thresholds are drawn once: entries freeze one after the other and stay.

Masks are a function of (seed, step, layer) and are not stored, except for `bernoulli`,
whose mask is its own past. Random numbers are drawn for a layer in transition only.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jsnnq.errors import InputError, check_integer, check_number, choose
from jsnnq.quantizers.base import SignQuantizer
from jsnnq.quantizers.primitives import SURROGATES, freeze, mean_magnitude
from jsnnq.runtime import parallel

LAWS = ("soft", "bernoulli", "full", "fixed")

SCHEDULES: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "quadratic": lambda x: x**2,
    "cubic": lambda x: x**3,
    "cosine": lambda x: (1 - jnp.cos(math.pi * x)) / 2,
    "flipped": lambda x: 1 - (1 - x) ** 2,
}
"""The expected frozen share p over the elapsed share x of a layer's window."""

ORDERS = ("forward", "reverse", "global")

MASKS = ("entry", "position", "sample")
"""A bit for each weight, each position of an activation, or that in each image."""


class Freezing(NamedTuple):
    """How far the freezing of one tensor is.

    Attributes:
        key: of its random numbers (the data of a typed key).
        step: the training step that comes next, counted from 0.
        start: first step of its window.
        length: steps in the window.
        refresh: r.
        mask: the last mask under `bernoulli`, otherwise None.
        scale: magnitude of the signs per channel as of the last step, or None.
    """

    key: UInt32[Array, "K"]
    step: Int[Array, ""]
    start: Int[Array, ""]
    length: Int[Array, ""]
    refresh: Int[Array, ""]
    mask: Bool[Array, "..."] | None
    scale: Float[Array, "C"] | None


@dataclasses.dataclass(frozen=True)
class StoMPP(SignQuantizer):
    """Progressive freezing of weights, or of the activations that kernels read.

    Attributes:
        window: first step and number of steps in which a layer is frozen: nothing is
            before, everything after. None leaves it to a training, see `windows`.
        order: `forward`, `reverse`, `global`, or the layers' numbers in the order
            they freeze. A layer is a kernel and the activation it reads.
        schedule: expected frozen share over a layer's window, a key of `SCHEDULES`.
        law: how masks are drawn, one of `LAWS`.
        refresh: r; `fixed` does not use it.
        surrogate: one of `primitives.SURROGATES`, the gradient of frozen entries:
            `none`, or `identity` as the papers' StoMPP+STE has it, or `clipped`.
        masks: one of `MASKS`: `entry` for weights, the others for activations; None
            leaves it to the place, and is `entry` where there is none.
        scaled: give signs the mean magnitude of their channel, as in XNOR-Net; for
            weights only, since that of a batch is no number to store.
        warmup: epochs before the first window.
        tail: epochs after the last one; by default 5 % of all steps, at least an epoch.
        evaluates: with `closed` masks as in the end, or as training does at `present`.

    Raises:
        InputError: a name is unknown or a number out of range.

    Example:
        >>> x, signs = jnp.array([-0.25, 0.5]), jsnnq.stompp(window=(10, 5))
        >>> state = signs.init(jax.random.key(0), x)
        >>> [signs.apply(x, state, train=train)[0].tolist() for train in (True, False)]
        [[-0.25, 0.5], [-1.0, 1.0]]
    """

    window: tuple[int, int] | None = None
    order: str | tuple[int, ...] = "forward"
    schedule: str = "cubic"
    law: str = "soft"
    refresh: int = 100
    surrogate: str = "none"
    masks: str | None = None
    scaled: bool = False
    warmup: float = 0.0
    tail: float | None = None
    evaluates: str = "closed"

    def __post_init__(self):
        super().__post_init__()
        choose("schedule", self.schedule, SCHEDULES)
        choose("law", self.law, LAWS)
        choose("masks", self._masks, MASKS)
        choose("surrogate", self.surrogate, SURROGATES)
        choose("evaluates", self.evaluates, ("closed", "present"))
        check_integer("refresh", self.refresh)
        check_number("warmup", self.warmup, least=0)
        if self.tail is not None:
            check_number("tail", self.tail, least=0)
        if not isinstance(self.order, str | tuple):
            raise InputError(f"order is {self.order!r}: a name or a tuple is needed")
        if self.window is not None:
            if not isinstance(self.window, tuple) or len(self.window) != 2:
                raise InputError(
                    f"window is {self.window!r}: a pair is needed, its first step and "
                    "how many it has"
                )
            start, length = self.window
            check_integer("start of the window", start, least=0)
            check_integer("length of the window", length)
        if self.law == "bernoulli" and self._masks == "sample":
            raise InputError(
                "law 'bernoulli' remembers its masks, but masks='sample' belong to "
                "images that do not come back: use masks='position', or another law"
            )
        if self.scaled and self._masks != "entry":
            raise InputError(
                f"scaled=True gives signs the scale of a kernel, but masks="
                f"{self._masks!r} are those of activations: leave activations without "
                "scale"
            )

    @property
    def _masks(self) -> str:
        return self.masks or "entry"

    def placed(self, place, threshold=None):
        """With the masks of the place: those of weights are by entry."""
        super().placed(place, threshold)
        masks = "entry" if place == "weights" else self.masks or "position"
        return dataclasses.replace(self, masks=masks)

    @property
    def representative(self):
        """Window and refresh are in the state."""
        usual = {n: getattr(StoMPP, n) for n in ("order", "refresh", "warmup", "tail")}
        return dataclasses.replace(self, window=(0, 1), masks=self._masks, **usual)

    @property
    def present(self):
        """Evaluates with the masks of the training step that comes next."""
        return dataclasses.replace(self, evaluates="present")

    def init(self, key, x):
        """Nothing is frozen yet; the key decides all masks.

        Raises:
            InputError: the window was left to the steps of a training.
        """
        if self.window is None:
            raise InputError(
                f"{self} has no window: give the first step and the number of steps, "
                "or give it to a network whose training is known"
            )
        step, start, length, refresh = map(jnp.int32, (0, *self.window, self.refresh))
        shape, remembers = _mask_shape(x, self._masks), self.law == "bernoulli"
        mask = jnp.zeros(shape, bool) if remembers else None
        scale = mean_magnitude(x) if self.scaled else None
        data = jax.random.key_data(key)
        return Freezing(data, step, start, length, refresh, mask, scale)

    def apply(self, x, state, train):
        """Signs where frozen, clipped values elsewhere; training draws the masks."""
        scale = mean_magnitude(x) if self.scaled else None
        if not train:
            closed = self.evaluates == "closed"
            frozen = jnp.ones((), bool) if closed else self.frozen(x, state)
            return freeze(x, frozen, "none", scale), state
        mask = _advance(self.schedule, self.law, _mask_shape(x, self._masks), state)
        kept = mask if self.law == "bernoulli" else None
        # Drawn whole on every device, so that their number changes no mask.
        mask = parallel.own(mask) if self._masks == "sample" else mask
        state = state._replace(step=state.step + 1, mask=kept, scale=scale)
        return freeze(x, mask, self.surrogate, scale), state

    def planes(self, x, state):
        """Signs, unless it evaluates with some that are none yet."""
        return super().planes(x, state) if self.evaluates == "closed" else None

    def frozen(self, x, state):
        """The mask that training uses next; under `bernoulli` the one it used last."""
        shape = _mask_shape(x, self._masks)
        return _advance(self.schedule, self.law, shape, state, draw=False)


stompp = StoMPP  # The name in `jsnnq`, that of a function.


def windows(
    steps: int, layers: int, order: str | Sequence[int] = "forward"
) -> list[tuple[int, int]]:
    """The window of each layer, first step and length.

    The k-th in the order has the steps floor(k S / L) to floor((k + 1) S / L) - 1.

    Args:
        steps: S.
        layers: L.
        order: `forward` (input to output), `reverse`, `global` (one window of all
            steps for every layer), or all layer numbers in the order they freeze.

    Raises:
        InputError: the order is unknown, or there are fewer steps than layers.
    """
    if order == "global":
        check_integer("steps of freezing", steps)
        return [(0, steps)] * layers
    if isinstance(order, str):
        choose("order", order, ORDERS)
        order = range(layers) if order == "forward" else range(layers)[::-1]
    if len(order) != layers or set(order) != set(range(layers)):
        raise InputError(
            f"order {tuple(order)} is given for {layers} layers: name each number from "
            f"0 to {layers - 1} once, or one of {', '.join(map(repr, ORDERS))}"
        )
    if steps < layers:
        raise InputError(
            f"{steps} steps of freezing are left for {layers} layers: at least one "
            "step a layer is needed; train for more epochs, or with a smaller batch"
        )
    edges = [k * steps // layers for k in range(layers + 1)]
    found = [(first, after - first) for first, after in itertools.pairwise(edges)]
    return [found[order.index(layer)] for layer in range(layers)]


def bernoulli_lag(schedule: str, refresh: int, length: int) -> float:
    """The expected share that is not frozen when a window of `bernoulli` masks ends.

    Schedule and refresh are those of `StoMPP`; the window has `length` steps.
    """
    share = 0.0
    for p in np.asarray(SCHEDULES[schedule](jnp.arange(length) / length), np.float64):
        share += (float(p) - share) / refresh
    return 1 - share


# Outside of a compiled step `cond` would compile its branches anew at every call.
@functools.partial(jax.jit, static_argnames=("schedule", "law", "shape", "draw"))
def _advance(schedule, law, shape, state, draw=True):
    i = state.step - state.start
    before, after = i < 0, i >= state.length

    def moving(state):
        elapsed = i.astype(jnp.float32) / state.length.astype(jnp.float32)
        p = SCHEDULES[schedule](elapsed)
        key = jax.random.wrap_key_data(state.key)
        if law != "bernoulli":
            return _thresholds(law, key, i, state.refresh, shape) < p
        if not draw:
            return state.mask
        again, frozen = jax.random.split(jax.random.fold_in(key, i))
        redrawn = _uniform(again, shape) * state.refresh < 1
        return jnp.where(redrawn, _uniform(frozen, shape) < p, state.mask)

    still = lambda state: jnp.broadcast_to(after, shape)
    return jax.lax.cond(before | after, still, moving, state)


# Random numbers of 32 bits, whether or not JAX computes in 64.
_uniform = functools.partial(jax.random.uniform, dtype=jnp.float32)


def _thresholds(law, key, i, refresh, shape):
    """The threshold every entry holds in the i-th step of the window."""
    cycle, moment = i // refresh, i % refresh
    if law == "fixed":
        return _uniform(jax.random.fold_in(key, 0), shape)
    if law == "full":
        return _uniform(jax.random.fold_in(key, cycle), shape)
    # Within r steps every entry goes from one generation to the next, once, at a
    # moment of its own. One call draws all three, which compiles faster than three.
    streams = 2 * cycle + jnp.array([0, 2, 1])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, streams)
    old, new, due = jax.vmap(functools.partial(_uniform, shape=shape))(keys)
    return jnp.where(jnp.floor(due * refresh) <= moment, new, old)


def _mask_shape(x, masks):
    """The shape of a mask; one by sample is drawn for the whole batch."""
    if masks == "sample":
        return (x.shape[0] * parallel.parts(), *x.shape[1:])
    return x.shape[1:] if masks == "position" else x.shape
