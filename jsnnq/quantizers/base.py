"""What a quantizer is: a pair of pure functions with a state you can print.

    state = quantizer.init(key, x)
    x_hat, state = quantizer.apply(x, state, train)

`init` looks at a tensor once (a kernel, or the membranes of a calibration batch) and
makes the state; `apply` maps values onto the grid the state describes and, in
training, returns the state of the next step. What is not in the state is not
remembered, so a resumed run continues exactly.

Numbers such as the clip, the bit-width of a grid or a learned basis live in the
state as arrays. What decides the compiled program lives in `apply`. Two quantizers
with the same `apply` therefore compare equal and share one compilation, whatever
their numbers are: a study compiles once for all its uniform rows.

Channels are last, as everywhere in jsnnq: a kernel is `H W I O` with one group of
numbers per output channel O where a quantizer works per channel.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from jsnnq.errors import InputError

State = Any
"""A NamedTuple of arrays; empty for a quantizer that remembers nothing."""


def _no_numbers(state: State) -> int:
    del state
    return 0


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A named pair of pure functions; equal when it compiles to the same program.

    Attributes:
        apply: `(x, state, train) -> (x_hat, state)`; a module-level function or a
            cached one, so that equal settings give the same object.
        init: `(key, x) -> state`; unless it `needs_values`, `x` may be a shape only.
        bits: bits of one stored value.
        stored_numbers: float32 numbers (scales, bases) a device must keep beside
            the values, as a function of the state.
        trainable: whether the state is learned by gradient; it then lives among
            the parameters instead of the collection `quant`.
        shared: for a membrane quantizer: it uses the state of the quantizer of the
            kernel that feeds the neuron (MINT).
        needs_values: whether `init` looks at the values and not at their shape only.
        each_timestep: for a membrane quantizer: it learns at every timestep, and not
            once per step from the potentials of all timesteps.
        frozen: `(x, state) -> mask` of the entries that have become hard signs, for a
            quantizer that makes signs; shaped like the last axes of `x`.
        present: for a quantizer whose training is not yet what evaluation will be
            (StoMPP): an `apply` that evaluates as training does now.
    """

    apply: Callable[[Array, State, bool], tuple[Array, State]]
    init: Callable[[jax.Array, Any], State] = dataclasses.field(compare=False)
    bits: int = dataclasses.field(compare=False)
    stored_numbers: Callable[[State], int] = dataclasses.field(
        compare=False, default=_no_numbers
    )
    trainable: bool = False
    shared: bool = False
    each_timestep: bool = False
    needs_values: bool = dataclasses.field(compare=False, default=True)
    frozen: Callable[[Array, State], Array] | None = dataclasses.field(
        compare=False, default=None
    )
    present: Callable[[Array, State, bool], tuple[Array, State]] | None = (
        dataclasses.field(compare=False, default=None)
    )


def _apply_identity(x, state, train):
    del train  # Identity is the same in training and evaluation.
    return x, state


identity = Quantizer(
    apply=_apply_identity, init=lambda key, x: (), bits=32, needs_values=False
)
"""Leaves values as they are: the full-precision network, 32 bits a value."""


def storage_bits(quantizer: Quantizer, size: int, state: State) -> int:
    """Bits that `size` quantized values take, with their scales or bases.

    Args:
        quantizer: how the values are stored.
        size: how many values.
        state: the quantizer's state for them.
    """
    return size * quantizer.bits + 32 * quantizer.stored_numbers(state)


def check_bits(method: str, bits: int, least: int = 1) -> None:
    """Refuses a number of bits the quantizer cannot have.

    Raises:
        InputError: `bits` is not an integer between `least` and 8.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= 8:
        raise InputError(
            f"{method} got bits={bits!r}: an integer from {least} to 8 is needed"
        )


def per_channel(x: Float[Array, "*N C"]) -> Float[Array, "M C"]:
    """Flattens all axes but the channels."""
    return x.reshape(-1, x.shape[-1])
