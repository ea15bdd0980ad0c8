"""What a quantizer is: settings, and a pair of pure functions with a printable state.

    state = quantizer.init(key, x)
    x_hat, state = quantizer.apply(x, state, train)

`init` looks at a tensor once (a kernel, or the membranes of a calibration batch) and
makes the state; `apply` maps values onto the grid the state describes and, in
training, returns the state of the next step. What is not in the state is not
remembered, so a resumed run continues exactly.

A quantizer is a value: a frozen dataclass of its settings, compared by them, with a
hash, and easily copied and pickled. Wrong settings are refused when it is made.

Numbers such as the clip, the bit-width of a grid or a learned basis live in the state
as arrays; only the settings that `apply` itself reads decide the compiled program.
`representative` is one quantizer for all that differ in nothing `apply` reads.

Channels are last: a kernel is `H W I O`, with one group of numbers per output channel
O where a quantizer works per channel.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jsnnq.errors import InputError, choose, settle
from jsnnq.quantizers.primitives import hard_sign, mean_magnitude
from jsnnq.runtime.precision import accumulation

State = Any
"""A NamedTuple of arrays; empty for a quantizer that remembers nothing."""

ENOUGH = 2**18
"""Values that a start is fitted to: thousands a level. A layer of membranes has
millions, which hundreds of iterations would take minutes for."""

ENOUGH_OF_CHANNEL = 2**12
"""Values of one channel that a start is fitted to, for those that look at channels."""

Choose = Callable[[int, int], Int[Array, "M"]]
"""So many numbers below a bound, drawn at random."""

PLACES = ("weights", "membranes", "activations")
"""What a quantizer may stand on: kernels, neurons' membranes, what is between
convolutions in a network without spikes."""


class Planes(NamedTuple):
    """Quantized values as sums of whole numbers: of each plane scale times code.

    Attributes:
        codes: whole numbers in the dtype of the values, plane by plane.
        scales: of each plane, one for all values or one per channel.
    """

    codes: tuple[Float[Array, "..."], ...]
    scales: tuple[Float[Array, "*C"], ...]


class Quantizer(abc.ABC):
    """What all quantizers have in common; a member is a frozen dataclass of settings.

    Attributes:
        bits: bits of one stored value.
        trainable: whether the state is learned by gradient; it then lives among
            the parameters instead of the collection `quant`.
        shared: for a membrane quantizer: it uses the state of the quantizer of the
            kernel that feeds the neuron (MINT).
        needs_values: whether `init` looks at the values and not at their shape only.
        each_timestep: for a membrane quantizer: it learns at every timestep, and not
            once per step from the potentials of all timesteps.
        makes_signs: whether its values become hard signs; `frozen` says which are.
        places: where it has a meaning.

    Example:
        >>> quantizer, x = jsnnq.uniform(2, clip=3.0), jnp.array([-5.0, -0.5, 1.5])
        >>> state = quantizer.init(jax.random.key(0), x)
        >>> quantizer.apply(x, state, train=False)[0].tolist()
        [-3.0, -1.0, 1.0]
    """

    bits: int
    trainable: bool = False
    shared: bool = False
    needs_values: bool = True
    each_timestep: bool = False
    makes_signs: bool = False
    places: tuple[str, ...] = PLACES

    def __post_init__(self):
        """Takes scalars of any kind; a member with checks of its own calls it first."""
        settle(self)

    @abc.abstractmethod
    def init(self, key: jax.Array, x: Any) -> State:
        """The state to start from.

        Args:
            key: for what is random.
            x: a kernel `H W I O`, or of values between kernels `... C` what `draw`
                leaves; unless the quantizer `needs_values`, a `jax.ShapeDtypeStruct`
                is enough.
        """

    @abc.abstractmethod
    def apply(self, x: Array, state: State, train: bool) -> tuple[Array, State]:
        """Maps values onto the grid of the state.

        Args:
            x: values, channels last.
            state: from `init` or the step before.
            train: whether the state follows the values; else it comes back as it is.

        Returns:
            The quantized values, shaped and typed as `x`; the state of the next step.
        """

    def learn(self, parts: tuple[Array, ...], state: State) -> State:
        """The state of the next step after one that has shown these values.

        Args:
            parts: values, those of each timestep by themselves.
            state: from `init` or the step before.

        Returns:
            What `apply` returns of all of them in training, without their values.
        """
        return self.apply(jnp.stack(parts), state, True)[1]

    def planes(self, x: Array, state: State) -> Planes | None:
        """The values of an evaluation as whole numbers, whose products are exact.

        Args:
            x: a kernel, channels last.
            state: of the quantizer.

        Returns:
            None where they are none.
        """
        return None

    def __str__(self) -> str:
        """The settings that are not the usual ones."""
        words = ", ".join(
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default
        )
        return f"{type(self).__name__}({words})"

    @property
    def draw(self) -> Callable[[Choose, Array], Array]:
        """What of values between kernels, `... C`, is shown to `init`.

        A function of `Choose` and the values. It is compiled with the network that
        makes them, so that they are never all there at once; quantizers of one function
        share that program.
        """
        return rows

    @property
    def representative(self) -> "Quantizer":
        """The same one for all quantizers whose `apply` is one program."""
        return self

    @property
    def levels(self) -> Float[np.ndarray, "L"] | None:
        """The levels it has whatever it sees, ascending; None if they are learned."""
        return None

    def placed(self, place: str, threshold: float | None = None) -> "Quantizer":
        """The quantizer for a place, with the settings that were left to the place.

        Args:
            place: one of `PLACES`.
            threshold: that of the neurons, for membranes.

        Raises:
            InputError: it has no meaning there.
        """
        choose("place", place, PLACES)
        if place not in self.places:
            raise InputError(
                f"{self} cannot be used on {place}: it is for "
                f"{' and '.join(self.places)}"
            )
        return self

    def stored_numbers(self, state: State) -> int:
        """float32 numbers (scales, bases) that a device keeps beside the values."""
        return 0

    def frozen(self, x: Any, state: State) -> Bool[Array, "..."]:
        """Which entries have become hard signs, shaped like the last axes of `x`."""
        raise AttributeError(f"{self} makes no signs, so that nothing freezes")

    @property
    def present(self) -> "Quantizer":
        """One that evaluates as this one trains now; another for StoMPP only."""
        return self


@dataclasses.dataclass(frozen=True)
class Identity(Quantizer):
    """Leaves values as they are: the full-precision network, 32 bits a value.

    Example:
        >>> x_hat, state = jsnnq.identity.apply(jnp.array([0.75]), (), train=False)
        >>> x_hat.tolist(), jsnnq.identity.bits
        ([0.75], 32)
    """

    bits = 32
    needs_values = False

    def init(self, key, x):
        """Nothing to remember."""
        return ()

    def apply(self, x, state, train):
        """The same in training and evaluation."""
        return x, state


identity = Identity()
"""The quantizer of what is not quantized."""


def storage_bits(quantizer: Quantizer, size: int, state: State) -> int:
    """Bits that quantized values take, with their scales or bases.

    Args:
        quantizer: how the values are stored.
        size: how many values.
        state: the quantizer's state for them.
    """
    return size * quantizer.bits + 32 * quantizer.stored_numbers(state)


class SignQuantizer(Quantizer):
    """What quantizers to hard signs have in common.

    Attributes:
        scaled: whether signs have the mean magnitude of their channel, which is the
            `scale` of the state, or None.
    """

    scaled: bool

    bits = 1
    makes_signs = True

    @property
    def needs_values(self) -> bool:
        """Whether the signs have a magnitude."""
        return self.scaled

    @property
    def places(self) -> tuple[str, ...]:
        """Weights, and activations if the signs have no magnitude."""
        return ("weights",) if self.scaled else ("weights", "activations")

    def planes(self, x, state):
        """Signs, once training is done with them."""
        one = jnp.ones((), accumulation(x.dtype))
        scale = mean_magnitude(x) if self.scaled else one
        return Planes((hard_sign(x),), (scale,))

    def stored_numbers(self, state):
        """A magnitude per channel, if the signs have one."""
        return 0 if state.scale is None else state.scale.size


def check_bits(method: str, bits: int, least: int = 1) -> None:
    """Refuses a number of bits the quantizer cannot have.

    Raises:
        InputError: `bits` is not an integer between `least` and 8.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= 8:
        raise InputError(
            f"{method} got bits={bits!r}: an integer from {least} to 8 is needed"
        )


def at_random(key: Any) -> Choose:
    """With replacement: a permutation of millions would be sorted for it."""
    return lambda count, bound: jax.random.randint(key, (count,), 0, bound, jnp.int32)


def sample(choose: Choose, x: Float[Array, "*N"]) -> Float[Array, "*M"]:
    """The values, or where there are more than `ENOUGH`, so many drawn at random."""
    return x if x.size <= ENOUGH else x.reshape(-1)[choose(ENOUGH, x.size)]


def rows(choose: Choose, x: Float[Array, "*N C"]) -> Float[Array, "*M C"]:
    """The values, or of more than `ENOUGH` so many, all channels of random places.

    Where there are many channels, each still has `ENOUGH_OF_CHANNEL`.
    """
    places, count = per_channel(x), max(ENOUGH // x.shape[-1], ENOUGH_OF_CHANNEL)
    if x.size <= ENOUGH or len(places) <= count:
        return x
    return places[choose(count, len(places))]


def per_channel(x: Float[Array, "*N C"]) -> Float[Array, "M C"]:
    """Flattens all axes but the channels."""
    return x.reshape(-1, x.shape[-1])
