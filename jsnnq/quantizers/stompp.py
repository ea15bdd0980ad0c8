"""Signs without a straight-through estimator: StoMPP's progressive stochastic masks.

Smith and Islam, *StoMPP* (arXiv 2601.22660 and its successor 2606.27759). Weights and
activations start as clipped values and are frozen to hard signs entry by entry,

    u' = M sign(u) + (1 - M) clip(u, -1, 1)             (2606.27759, Eq. 1-2)

layer after layer, by a random mask M whose expected share grows from 0 to 1 while the
layer's window lasts. Gradients pass only what is not frozen; a `surrogate` adds a
straight-through gradient on frozen entries and nowhere else (StoMPP+STE).

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

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jsnnq import parallel
from jsnnq.errors import InputError, check_integer, choose
from jsnnq.quantizers.base import Quantizer
from jsnnq.quantizers.primitives import SURROGATES, freeze, mean_magnitude

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
"""One mask bit for each weight, for each position of an activation whatever the
image, or for each position of each image of the batch."""


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


def stompp(
    window: tuple[int, int],
    *,
    schedule: str = "cubic",
    law: str = "soft",
    refresh: int = 100,
    surrogate: str = "none",
    masks: str = "entry",
    scaled: bool = False,
) -> Quantizer:
    """Progressive freezing of one layer's weights, or of the activations it reads.

    Args:
        window: first step and number of steps in which the layer is frozen; see
            `windows`. Before it nothing is frozen, after it everything.
        schedule: a key of `SCHEDULES`.
        law: one of `LAWS`.
        refresh: r; `fixed` does not use it.
        surrogate: one of `primitives.SURROGATES`, the gradient of frozen entries:
            `none`, or `identity` as the papers' StoMPP+STE has it, or `clipped`.
        masks: one of `MASKS`: `entry` for weights, the others for activations.
        scaled: give signs the mean magnitude of their channel, as in XNOR-Net; for
            weights only, since that of a batch is no number to store.

    Raises:
        InputError: a name is unknown or a number out of range.
    """
    choose("schedule", schedule, SCHEDULES)
    choose("law", law, LAWS)
    choose("masks", masks, MASKS)
    choose("surrogate", surrogate, SURROGATES)
    check_integer("refresh", refresh)
    start, length = window
    check_integer("start of the window", start, least=0)
    check_integer("length of the window", length)
    remembers = law == "bernoulli"
    if remembers and masks == "sample":
        raise InputError(
            "law 'bernoulli' remembers its masks, but masks='sample' belong to images "
            "that do not come back: use masks='position', or another law"
        )

    if scaled and masks != "entry":
        raise InputError(
            f"scaled=True gives signs the scale of a kernel, but masks={masks!r} are "
            "those of activations: leave activations without scale"
        )

    def init(key, x):
        return Freezing(
            key=jax.random.key_data(key),
            step=jnp.int32(0),
            start=jnp.int32(start),
            length=jnp.int32(length),
            refresh=jnp.int32(refresh),
            mask=jnp.zeros(_mask_shape(x, masks), bool) if remembers else None,
            scale=mean_magnitude(x) if scaled else None,
        )

    settings = (SCHEDULES[schedule], law, surrogate, masks, scaled)
    return Quantizer(
        apply=_make_apply(*settings, present=False),
        init=init,
        bits=1,
        stored_numbers=lambda state: 0 if state.scale is None else state.scale.size,
        frozen=functools.partial(_frozen, SCHEDULES[schedule], law, masks),
        present=_make_apply(*settings, present=True),
        needs_values=scaled,
    )


def windows(
    steps: int, layers: int, order: str | Sequence[int] = "forward"
) -> list[tuple[int, int]]:
    """The window of each layer, first step and length.

    The k-th layer in the order owns the steps floor(k S / L) to
    floor((k + 1) S / L) - 1 of S steps for L layers.

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
    place = {layer: k for k, layer in enumerate(order)}
    edges = [k * steps // layers for k in range(layers + 1)]
    return [
        (edges[place[layer]], edges[place[layer] + 1] - edges[place[layer]])
        for layer in range(layers)
    ]


def bernoulli_lag(schedule: str, refresh: int, length: int) -> float:
    """The expected share that is not frozen when a window of `bernoulli` masks ends.

    From m = 0, m <- m + (p - m) / r in each of the window's steps.
    """
    share = 0.0
    for p in np.asarray(SCHEDULES[schedule](jnp.arange(length) / length), np.float64):
        share += (float(p) - share) / refresh
    return 1 - share


@functools.cache
def _make_apply(schedule, law, surrogate, masks, scaled, present):
    """One function for each program; `present` keeps the masks in evaluation too."""

    def apply(x, state, train):
        scale = mean_magnitude(x) if scaled else None
        if not train:
            closed = jnp.ones((), bool)
            frozen = _frozen(schedule, law, masks, x, state) if present else closed
            return freeze(x, frozen, "none", scale), state
        mask = _advance(schedule, law, _mask_shape(x, masks), state)
        mask = parallel.own(mask) if masks == "sample" else mask
        kept = mask if law == "bernoulli" else None
        state = state._replace(step=state.step + 1, mask=kept, scale=scale)
        return freeze(x, mask, surrogate, scale), state

    return apply


def _frozen(schedule, law, masks, x, state):
    """The mask that training uses next; under `bernoulli` the one it used last."""
    return _advance(schedule, law, _mask_shape(x, masks), state, draw=False)


# Outside of a compiled step `cond` would compile its branches anew at every call.
@functools.partial(jax.jit, static_argnames=("schedule", "law", "shape", "draw"))
def _advance(schedule, law, shape, state, draw=True):
    """The mask of the step in `state`."""
    i = state.step - state.start
    before, after = i < 0, i >= state.length

    def still(state):
        return jnp.broadcast_to(after, shape)

    def moving(state):
        p = schedule(i.astype(jnp.float32) / state.length.astype(jnp.float32))
        key = jax.random.wrap_key_data(state.key)
        if law != "bernoulli":
            return _thresholds(law, key, i, state.refresh, shape) < p
        if not draw:
            return state.mask
        again, frozen = jax.random.split(jax.random.fold_in(key, i))
        redrawn = _uniform(again, shape) * state.refresh < 1
        return jnp.where(redrawn, _uniform(frozen, shape) < p, state.mask)

    return jax.lax.cond(before | after, still, moving, state)


def _uniform(key, shape):
    """Random numbers of 32 bits, whether or not JAX computes in 64."""
    return jax.random.uniform(key, shape, jnp.float32)


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
    old, new, due = jax.vmap(lambda key: _uniform(key, shape))(keys)
    return jnp.where(jnp.floor(due * refresh) <= moment, new, old)


def _mask_shape(x, masks):
    """The shape of a mask; one by sample is drawn for the whole batch."""
    if masks == "sample":
        return (x.shape[0] * parallel.parts(), *x.shape[1:])
    return x.shape[1:] if masks == "position" else x.shape
