"""How often each neuron fired: from spikes to counts, rates and their shares.

A neuron is one channel at one position of one spiking layer. Its rate is its
number of spikes divided by (timesteps x images), so it lies between 0 and 1, and
the *firing distribution* of a layer is the set of its neurons' rates.
Quantization can leave the accuracy alone and still move this distribution
("Quantization of Spiking Neural Networks Beyond Accuracy", arXiv 2604.14487).

Two halves meet here. `count` and `count_nonzero` run on the device, inside a
jitted evaluation, and return integers that are added up over the batches without
rounding. Everything else takes the final integer counts to the host and works in
double precision: a rate of exactly 0.05 must not fall below 0.05, and XLA rounds
a division by a constant.

Joins of residual branches (ADD) are counted with the same two functions, but
they are no neurons: a join of value 3 is three events. Callers keep them apart
and never pass them to `rates` or `summary`.
"""

import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Int64

from jsnnq import renamed
from jsnnq.errors import InputError, check_integer, check_number, choose
from jsnnq.networks.timesteps import apart
from jsnnq.runtime import files

Numbers = ArrayLike | Sequence[Any]
"""An array, or numbers in a list, or in lists of equal lengths."""

UNITS = ("neuron", "channel")
"""What one rate belongs to: a channel at one position, or a whole channel."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["layers"],
    meta_fields=["timesteps", "images"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Counts(Mapping[str, np.ndarray]):
    """How often every neuron of a network fired: a mapping from layers to counts.

    Attributes:
        layers: integer spike counts of each neuron layer (no joins), `H W C`, in the
            order of the data.
        timesteps: timesteps per image.
        images: images the counts were taken over.
    """

    layers: Mapping[str, Any]
    timesteps: int
    images: int

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def total(self) -> int:
        """What a count is out of: timesteps x images."""
        # NumPy's integers might overflow.
        return int(self.timesteps) * int(self.images)

    def rates(self, unit: str = "neuron") -> dict[str, Float[np.ndarray, "N"]]:
        """The firing rates of each layer; see `rates`."""
        seen = {"timesteps": self.timesteps, "images": self.images}
        return {name: rates(layer, **seen, unit=unit) for name, layer in self.items()}

    def save(self, path: Path) -> None:
        """Writes the counts, or nothing.

        Raises:
            InputError: the file cannot be written.
        """
        arrays: dict[str, Any] = {f"counts/{name}": x for name, x in self.items()}
        content = io.BytesIO()
        np.savez_compressed(
            content, **arrays, timesteps=self.timesteps, images=self.images
        )
        files.write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Counts":
        """Reads what `save` wrote."""
        with np.load(path) as stored:
            layers = {
                name.removeprefix("counts/"): stored[name]
                for name in stored.files
                if name.startswith("counts/")
            }
            return cls(layers, int(stored["timesteps"]), int(stored["images"]))


class Shares(NamedTuple):
    """Firing of a set of neurons in three numbers, all between 0 and 1."""

    mean_rate: float
    """Mean of the rates."""
    dead: float
    """Share of neurons whose rate is below 0.05, or below what `shares` was given."""
    saturated: float
    """Share of neurons whose rate is above 0.95, or above what `shares` was given."""


class Summary(NamedTuple):
    """Firing of a network: pooled over its neurons, and layer by layer."""

    mean_rate: float
    dead: float
    saturated: float
    layers: dict[str, Shares]


def count(
    spikes: Float[Array, "T B *neuron"], valid: Bool[Array, "B"]
) -> Int32[Array, "*neuron"]:
    """Counts the spikes of each neuron over the timesteps and the valid images.

    The sum is taken in float32 and exact all the same: a float32 holds every integer up
    to 2^24, and a sum that could pass it is refused before anything is computed. Where
    the number of images is a symbol (`jax.export`), which has no bound, integers are
    summed.

    Args:
        spikes: values of a layer, `T B H W C` or any other shape after `T B`;
            0 or 1 for neurons, whole numbers below 64 for graded joins.
        valid: which images of the batch count; false for those that only fill up
            the last batch.

    Returns:
        Number of spikes (events, for a join) of each neuron.

    Raises:
        InputError: the sum of so large a batch might not be exact.
    """
    return _summed(lambda spikes: spikes, spikes, valid)


def count_nonzero(
    values: Float[Array, "T B *neuron"], valid: Bool[Array, "B"]
) -> Int32[Array, "*neuron"]:
    """Counts the entries that are not zero; for spikes the same as `count`.

    Args:
        values: values of a layer or join, `T B H W C` or any shape after `T B`.
        valid: as in `count`, which also says what is refused.

    Returns:
        Number of nonzero entries of each neuron over timesteps and valid images.
    """
    return _summed(lambda values: values != 0, values, valid)


def _summed(numbers, values, valid):
    """The sum over timesteps and valid images of what `numbers` makes of values."""
    timesteps, images, *neuron = values.shape
    there = valid.reshape(-1, *(1 for _ in neuron))
    if not isinstance(images, int):
        counted = jnp.where(there[None], numbers(values), 0)
        return jnp.sum(counted, axis=(0, 1), dtype=jnp.int32)
    check_fits(timesteps, images, "batch")
    # Timestep by timestep: a network holds them apart, and writes no array of all.
    each = [numbers(one).astype(jnp.float32) for one in apart(values)]
    total = jnp.where(there, functools.reduce(jnp.add, each), 0).sum(axis=0)
    return total.astype(jnp.int32)


def as_array(name: str, numbers: Numbers) -> Array | np.ndarray:
    """An array as it is, and lists of numbers as an array on the host.

    Raises:
        InputError: lists differ in length.
    """
    if isinstance(numbers, jax.Array | np.ndarray):
        return numbers
    try:
        return np.asarray(numbers)
    except jax.errors.TracerArrayConversionError:
        return jnp.asarray(numbers)
    except ValueError as error:
        raise InputError(
            f"{name} has lists of different lengths: give an array, or lists that are "
            "equally long"
        ) from error


def rates(
    counts: Numbers,
    *,
    timesteps: SupportsIndex,
    images: SupportsIndex,
    unit: str = "neuron",
) -> Float[np.ndarray, "N"]:
    """Firing rates: counts / (timesteps x images).

    The paper calls its quantity "per-neuron firing rate" in one place and speaks
    of channels in another (arXiv 2604.14487), so the unit is an option.

    Args:
        counts: integer spike counts of one layer, `H W C` or any other shape whose
            last axis is the channel.
        timesteps: timesteps per image.
        images: images the counts were taken over.
        unit: `"neuron"`, one rate per channel and position; or `"channel"`, one
            rate per channel, averaged over its positions.

    Returns:
        Rates between 0 and 1, one per unit, in double precision.

    Raises:
        InputError: a count is negative, above timesteps x images or no integer,
            there are none, or `timesteps`, `images` or `unit` is not accepted.

    Example:
        >>> jsnnq.rates([0, 2, 8], timesteps=4, images=2)
        array([0.  , 0.25, 1.  ])
    """
    choose("unit", unit, UNITS)
    total = check_integer("timesteps", timesteps) * check_integer("images", images)
    values = _checked_counts(counts, total)
    if unit == "neuron":
        return values.reshape(-1) / total
    by_position = values.reshape(-1, values.shape[-1])
    return by_position.sum(axis=0) / (total * len(by_position))


def shares(
    rates: Numbers,
    *,
    dead_below: SupportsFloat = 0.05,
    saturated_above: SupportsFloat = 0.95,
) -> Shares:
    """Mean rate, and the shares of dead and saturated neurons (arXiv 2604.14487).

    Args:
        rates: rates between 0 and 1, of any shape.
        dead_below: a neuron is dead, so (almost) never fires, if its rate is strictly
            below this one.
        saturated_above: a neuron fires (almost) always if its rate is strictly above
            this one.

    Returns:
        The three numbers; 1 minus the mean rate is the sparsity of the spikes.

    Raises:
        InputError: there are no rates, one is outside 0 to 1, or a bound is no number.
    """
    values = _checked_rates(rates)
    low = check_number("dead_below", dead_below)
    high = check_number("saturated_above", saturated_above)
    return Shares(
        mean_rate=float(values.mean(dtype=np.float64)),
        dead=float(np.mean(values < low)),
        saturated=float(np.mean(values > high)),
    )


def histogram(rates: Numbers, bins: SupportsIndex = 20) -> Int64[np.ndarray, "bins"]:
    """Number of neurons in each of `bins` equal intervals of [0, 1].

    Args:
        rates: rates between 0 and 1, of any shape.
        bins: number of intervals; each contains its left edge, the last one 1 too.

    Returns:
        Number of rates in each interval.

    Raises:
        InputError: there are no rates, one is outside 0 to 1, or `bins` is not a
            whole number from 1.
    """
    values = _checked_rates(rates)
    bins = check_integer("bins", bins)
    # Rounded as the rates are, so that 7/20 lies on the edge and not beside it.
    edges = (np.arange(bins + 1) / bins).astype(values.dtype)
    return np.histogram(values, edges)[0].astype(np.int64)


def summary(
    counts: Mapping[str, Numbers],
    *,
    timesteps: SupportsIndex | None = None,
    images: SupportsIndex | None = None,
    unit: str = "neuron",
) -> Summary:
    """Mean rate, dead and saturated share of a network and of each layer.

    Args:
        counts: `Counts`, or a mapping of integer spike counts, `H W C`, by neuron
            layer (no joins).
        timesteps: timesteps per image; `Counts` know it.
        images: images the counts were taken over; `Counts` know it.
        unit: `"neuron"` or `"channel"`, as in `rates`.

    Returns:
        The three numbers over all units of all layers as one set, and per layer.

    Raises:
        InputError: there is no layer, or `rates` refuses one of them.
    """
    if not counts:
        raise InputError("counts has no layer: give the counts of one at least")
    if not isinstance(counts, Counts):
        if timesteps is None or images is None:
            raise InputError(
                "counts are a mapping without what they are out of: give Counts, or "
                "timesteps and images"
            )
        timesteps = check_integer("timesteps", timesteps)
        layers = {name: np.asarray(as_array(name, x)) for name, x in counts.items()}
        counts = Counts(layers, timesteps, check_integer("images", images))
    by_layer = counts.rates(unit)
    pooled = shares(np.concatenate(list(by_layer.values())))
    return Summary(*pooled, {name: shares(r) for name, r in by_layer.items()})


# No value is larger: a join is the sum of at most 37 spikes (the 36 blocks of
# SEW-ResNet152's longest stage and its shortcut), which leaves room to spare.
_LARGEST = 64
# A batch is summed in float32, a split in int32.
_MOST = {"batch": 2**24 // _LARGEST, "split": 2**31 // _LARGEST}


def check_fits(timesteps: int, images: int, what: str = "split") -> None:
    """Refuses a split or a batch whose counts might not be exact.

    Args:
        timesteps: timesteps per image.
        images: images of the split or batch.
        what: `"split"` or `"batch"`.

    Raises:
        InputError: a count might reach what is no longer exact.
    """
    if timesteps * images >= _MOST[what]:
        raise InputError(
            f"{timesteps} timesteps x {images} images in one {what}: their product "
            f"must be below {_MOST[what]} for exact counts, so take a smaller {what}"
        )


def _checked_counts(counts: Numbers, total: int) -> Int64[np.ndarray, "..."]:
    values = np.asarray(as_array("counts", counts))
    if not jnp.issubdtype(values.dtype, np.integer):
        raise InputError(f"counts are {values.dtype}: give integer spike counts")
    if values.size == 0 or values.ndim == 0:
        raise InputError(
            f"counts have shape {values.shape}: give one count per neuron, at least one"
        )
    if values.min() < 0 or values.max() > total:
        raise InputError(
            f"counts go from {values.min()} to {values.max()}: they must lie between 0 "
            f"and timesteps x images = {total}, so check timesteps and images"
        )
    return values.astype(np.int64)


def _checked_rates(rates: Numbers) -> Float[np.ndarray, "..."]:
    values = np.asarray(as_array("rates", rates))
    if not jnp.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"rates are {values.dtype}: give floats between 0 and 1, made from counts "
            "by `rates`"
        )
    if values.size == 0:
        raise InputError("there are no rates: give one at least")
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"rates go from {values.min()} to {values.max()}: they must lie between 0 "
            "and 1"
        )
    return values


__getattr__ = renamed.answers(
    mean_rate=("shares(rates).mean_rate", lambda rates: shares(rates).mean_rate),
    dead_share=(
        "shares(rates).dead",
        lambda rates, below=0.05: shares(rates, dead_below=below).dead,
    ),
    saturated_share=(
        "shares(rates).saturated",
        lambda rates, above=0.95: shares(rates, saturated_above=above).saturated,
    ),
)
