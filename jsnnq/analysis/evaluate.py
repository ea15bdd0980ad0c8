"""A network over a data set: accuracy, and the spikes of every neuron counted.

Counts are integers and accumulate on the device, inside the jitted evaluation, over
the whole split; spikes never leave it.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jsnnq.analysis import firing
from jsnnq.data import batches, streams
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, check_integer
from jsnnq.networks import readout
from jsnnq.networks.network import Network, input_shape, observe
from jsnnq.runtime import memory, parallel

BATCH = 256
"""Images per jitted call, where so many fit into a device's memory."""


class Evaluation(NamedTuple):
    """What an evaluation counted, summed over timesteps and images.

    Attributes:
        accuracy: share of images whose largest logit is their label's.
        loss: mean cross-entropy in nats.
        counts: spikes of each neuron, int32, with timesteps and images.
        nonzero: how often each entry of a join, a pooled value or an activation was
            not zero.
        total: the sum of its values, for joins (events).
        graded: the activations with a value outside {-1, 0, 1}.
        cost: what it costs to run and to store, a `cost.Cost`, where it was asked for.
    """

    accuracy: float
    loss: float
    counts: firing.Counts
    nonzero: dict[str, np.ndarray]
    total: dict[str, np.ndarray]
    graded: frozenset[str]
    cost: Any = None

    @property
    def rates(self) -> dict[str, np.ndarray]:
        """Firing rate of each neuron by layer, `H W C`, from 0 to 1."""
        return self.counts.rates()

    @property
    def dead(self) -> float | None:
        """Share of neurons with a rate below 0.05; None where nothing spikes."""
        return firing.summary(self.counts).dead if self.counts else None

    @property
    def saturated(self) -> float | None:
        """Share of neurons with a rate above 0.95; None where nothing spikes."""
        return firing.summary(self.counts).saturated if self.counts else None


class _Totals(NamedTuple):
    """Whole numbers, which add up exactly; `graded` counts calls with such a value."""

    correct: Array
    counts: dict[str, Array]
    nonzero: dict[str, Array]
    total: dict[str, Array]
    graded: dict[str, Array]


_JITTED: dict[tuple[Network, batches.Preprocessing, Mesh | None], Any] = {}


def _observer(
    network: Network, preprocessing: batches.Preprocessing, mesh: Mesh | None
) -> Any:
    """The compiled function of variables and a batch that counts."""
    network = network.representative
    key = (network, preprocessing, mesh)
    if key not in _JITTED:

        def count(variables, batch):
            return parallel.total(_count(network, preprocessing, variables, batch))

        _JITTED[key] = jax.jit(parallel.spread(count, mesh))
    return _JITTED[key]


@jax.jit
def _add(sums: _Totals, seen: _Totals) -> _Totals:
    return jax.tree.map(jnp.add, sums, seen)


def _count(network, preprocessing, variables, batch):
    """The loss and the counts of this device's part of a batch."""
    images, labels, valid = batch
    inputs = preprocessing(images, network.dtype)
    logits, seen = observe(network, variables, inputs)
    logits = readout.readout(logits)
    between = {**seen.joins, **seen.pooled, **seen.activations}
    loss = jnp.sum(readout.cross_entropy(logits, labels) * valid)
    return loss, _Totals(
        correct=jnp.sum(readout.correct(logits, labels) & valid, dtype=jnp.int32),
        counts={name: firing.count(s, valid) for name, s in seen.spikes.items()},
        nonzero={n: firing.count_nonzero(v, valid) for n, v in between.items()},
        total={name: firing.count(v, valid) for name, v in seen.joins.items()},
        graded={
            name: jnp.any((v != 0) & (jnp.abs(v) != 1)).astype(jnp.int32)
            for name, v in seen.activations.items()
        },
    )


def evaluate(
    network: Network,
    variables: dict[str, Any],
    dataset: DataSet,
    *,
    split: str = "test",
    batch: int | None = None,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Runs the whole split once.

    Batches are read ahead on the host, and brought to the device while it computes.

    Args:
        network: the network.
        variables: parameters, running statistics, quantizer states.
        dataset: where the images come from.
        split: `test` or `train`.
        batch: images per jitted call; by default `BATCH`, halved until they fit. The
            last one is padded and the padding does not count.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.

    Raises:
        InputError: the split is unknown, the batch is too small or too large, or there
            are so many images that their counts might not fit.
    """
    batch = None if batch is None else check_integer("batch", batch)
    images = dataset.split(split)
    layers = network.layers(input_shape(dataset.image_shape))["membranes"]
    firing.check_fits(network.timesteps, len(images))
    observe_batch = _observer(network, dataset.preprocessing, mesh)
    variables = parallel.everywhere(variables, mesh)
    batch = _chosen(batch, observe_batch, variables, dataset, len(images), mesh)
    bring = functools.partial(parallel.shared, mesh=mesh)
    sums, lost = None, []
    for one in streams.ahead(_batches(images, batch), bring):
        loss, seen = observe_batch(variables, one)
        sums = seen if sums is None else _add(sums, seen)
        lost.append(loss)
        # One call waits behind the other. Were there more, all their batches would lie
        # on the device.
        jax.block_until_ready(lost[-2:-1])
    assert sums is not None
    sums = jax.device_get(sums)
    if sums.counts.keys() - {*layers}:
        raise InputError(
            f"the network saw spikes of {', '.join(sums.counts)}, but its layers of "
            f"neurons are {', '.join(layers)}: put spikes into `Seen` under the path "
            "of their layer"
        )
    return Evaluation(
        accuracy=int(sums.correct) / len(images),
        # In float32 a sum over a million images would lose their last digits.
        loss=math.fsum(map(float, jax.device_get(lost))) / len(images),
        counts=firing.Counts(
            # `jit` sorts dictionaries by name; the order of the data is easier to read.
            {name: sums.counts[name] for name in layers if name in sums.counts},
            network.timesteps,
            len(images),
        ),
        nonzero=sums.nonzero,
        total=sums.total,
        graded=frozenset(name for name, count in sums.graded.items() if count),
    )


def compile_ahead(
    network: Network,
    variables: dict[str, Any],
    dataset: DataSet,
    *,
    batch: int | None = None,
    mesh: Mesh | None = None,
) -> None:
    """Compiles what `evaluate` will call on the test images, so that it is done.

    Args:
        network: the network.
        variables: shapes and dtypes are enough.
        dataset: where the images come from.
        batch, mesh: as in `evaluate`.
    """
    observe_batch = _observer(network, dataset.preprocessing, mesh)
    count = len(dataset.split("test"))
    batch = _chosen(batch, observe_batch, variables, dataset, count, mesh)
    observe_batch.lower(*_shapes(variables, dataset, batch, mesh)).compile()


def _shapes(variables, dataset, batch, mesh):
    """Shapes and places of what the compiled function takes."""
    described = functools.partial(jax.ShapeDtypeStruct, sharding=parallel.cut(mesh))
    same = functools.partial(jax.ShapeDtypeStruct, sharding=parallel.placement(mesh))
    return jax.tree.map(lambda x: same(x.shape, x.dtype), variables), (
        described((batch, *dataset.image_shape), dataset.dtype),
        described((batch,), jnp.int32),
        described((batch,), bool),
    )


def forget(network: Network) -> None:
    """Drops compiled evaluations of a network."""
    # Another thread may be compiling, which adds to it.
    network = network.representative
    for key in [key for key in list(_JITTED) if key[0] == network]:
        del _JITTED[key]


def _chosen(batch, observe_batch, variables, dataset, count, mesh) -> int:
    """Images in a call: as many as are asked for, or else as fit, up to `BATCH`."""
    if batch is not None:
        return _whole_batch(batch, count, mesh)
    batch, most = _whole_batch(BATCH, count, mesh), memory.limit(mesh)
    least = mesh.size if mesh else 1
    while most is not None and batch > least:
        shapes = _shapes(variables, dataset, batch, mesh)
        if memory.needed(observe_batch, *shapes) <= most:
            break
        batch = _whole_batch(batch // 2, count, mesh)
    return batch


def _whole_batch(batch: int, images: int, mesh: Mesh | None) -> int:
    """Images in a call: no more than there are, and as many on every device."""
    parts = mesh.size if mesh else 1
    return -(-min(batch, images) // parts) * parts


def _batches(
    split: streams.Split | streams.Records, batch: int
) -> Iterator[tuple[batches.Pixels, np.ndarray, np.ndarray]]:
    """All images once, in order, with their labels and which of them count.

    The last batch repeats its first image to fill up.
    """
    size = len(split)
    first = np.arange(0, size, batch)
    index = first[:, None] + np.arange(batch)
    valid = index < size
    order = np.where(valid, index, first[:, None]).ravel()
    read = streams.batches(split, order, batch)
    for (images, labels), known in zip(read, valid, strict=True):
        yield images, labels, known
