"""A network over a data set: accuracy, and the spikes of every neuron counted.

Counts are integers and accumulate on the device, inside the jitted evaluation, over
the whole split; spikes never leave it. The footprint of an evaluated network is what is
kept of its spikes: a mapping of `counts` (int32 by neuron layer), `timesteps` and
`images`.
"""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from jsnnq.analysis import emd, firing
from jsnnq.data import batches, sets, streams
from jsnnq.errors import check_integer, choose
from jsnnq.networks import readout
from jsnnq.networks.resnet import ResidualNetwork, observe
from jsnnq.runtime import files, parallel

BATCH = 256
"""Images per jitted call."""


class Evaluation(NamedTuple):
    """What an evaluation counted, summed over timesteps and images.

    Attributes:
        accuracy: share of images whose largest logit is their label's.
        loss: mean cross-entropy in nats.
        counts: spikes of each neuron, by neuron layer, int32 `H W C`.
        nonzero: how often each entry of a join, a pooled value or an activation was
            not zero.
        total: the sum of its values, for joins (events).
        graded: the activations with a value outside {-1, 0, 1}.
        timesteps: T.
        images: how many.
    """

    accuracy: float
    loss: float
    counts: dict[str, np.ndarray]
    nonzero: dict[str, np.ndarray]
    total: dict[str, np.ndarray]
    graded: frozenset[str]
    timesteps: int
    images: int


class _Totals(NamedTuple):
    """Whole numbers, which add up exactly; `graded` counts calls with such a value."""

    correct: Array
    counts: dict[str, Array]
    nonzero: dict[str, Array]
    total: dict[str, Array]
    graded: dict[str, Array]


_JITTED: dict[tuple[ResidualNetwork, batches.Preprocessing, Mesh | None], Any] = {}


def _observer(
    network: ResidualNetwork, preprocessing: batches.Preprocessing, mesh: Mesh | None
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
    network: ResidualNetwork,
    variables: dict[str, Any],
    dataset: sets.DataSet,
    *,
    split: str = "test",
    batch: int = BATCH,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Runs the whole split once.

    Args:
        network: the network.
        variables: parameters, running statistics, quantizer states.
        dataset: where the images come from.
        split: `test` or `train`.
        batch: images per jitted call; the last one is padded and the padding does
            not count.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.

    Raises:
        InputError: the split is unknown, the batch is too small or too large, or there
            are so many images that their counts might not fit.
    """
    choose("split", split, ("test", "train"))
    check_integer("batch", batch)
    images = getattr(dataset, split)
    firing.check_fits(network.timesteps, len(images))
    batch = _whole_batch(batch, len(images), mesh)
    observe_batch = _observer(network, dataset.preprocessing, mesh)
    variables = parallel.everywhere(variables, mesh)
    sums, lost = None, []
    for one in _batches(images, batch):
        loss, seen = observe_batch(variables, one)
        sums = seen if sums is None else _add(sums, seen)
        lost.append(loss)
    assert sums is not None
    sums = jax.device_get(sums)
    return Evaluation(
        accuracy=int(sums.correct) / len(images),
        # In float32 a sum over a million images would lose their last digits.
        loss=math.fsum(map(float, jax.device_get(lost))) / len(images),
        # `jit` sorts dictionaries by name; the order of the data is easier to read.
        counts={name: sums.counts[name] for name in network.neuron_layers()},
        nonzero=sums.nonzero,
        total=sums.total,
        graded=frozenset(name for name, count in sums.graded.items() if count),
        timesteps=network.timesteps,
        images=len(images),
    )


def compile_ahead(
    network: ResidualNetwork,
    variables: dict[str, Any],
    dataset: sets.DataSet,
    *,
    mesh: Mesh | None = None,
) -> None:
    """Compiles what `evaluate` will call on the test images, so that it is done.

    Args:
        network: the network.
        variables: shapes and dtypes are enough.
        dataset: where the images come from.
        mesh: as in `evaluate`.
    """
    where = parallel.placement(mesh)
    variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), variables
    )
    batch = _whole_batch(BATCH, len(dataset.test), mesh)
    arrays = (
        jax.ShapeDtypeStruct((batch, *dataset.image_shape), jnp.uint8),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        jax.ShapeDtypeStruct((batch,), bool),
    )
    _observer(network, dataset.preprocessing, mesh).lower(variables, arrays).compile()


def forget(network: ResidualNetwork) -> None:
    """Drops compiled evaluations of a network."""
    # Another thread may be compiling, which adds to it.
    network = network.representative
    for key in [key for key in list(_JITTED) if key[0] == network]:
        del _JITTED[key]


def footprint(evaluation: Evaluation) -> dict[str, Any]:
    """The part of an evaluation that distances and histograms need."""
    return {
        "counts": evaluation.counts,
        "timesteps": evaluation.timesteps,
        "images": evaluation.images,
    }


def save_footprint(path: Path, evaluation: Evaluation) -> None:
    """Writes the counts of an evaluation.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        f"counts/{name}": value for name, value in evaluation.counts.items()
    }
    arrays |= {"timesteps": evaluation.timesteps, "images": evaluation.images}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())


def load_footprint(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote."""
    with np.load(path) as stored:
        return {
            "counts": {
                name.removeprefix("counts/"): stored[name]
                for name in stored.files
                if name.startswith("counts/")
            },
            "timesteps": int(stored["timesteps"]),
            "images": int(stored["images"]),
        }


def distances(
    measure: Callable[..., emd.Distances],
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    unit: str = "neuron",
) -> emd.Distances:
    """`emd.compare` or `emd.compare_matched` on two firing records."""
    return measure(
        one["counts"],
        other["counts"],
        a_total=one["timesteps"] * one["images"],
        b_total=other["timesteps"] * other["images"],
        unit=unit,
    )


def as_dict(found: emd.Distances) -> dict[str, Any]:
    """Distances as they stand in `results.json`."""
    return {
        "mean": float(found.mean),
        "weighted": float(found.weighted),
        "max": float(found.max),
        "pooled": float(found.pooled),
        "layers": {name: float(value) for name, value in found.layers.items()},
    }


def _whole_batch(batch: int, images: int, mesh: Mesh | None) -> int:
    """Images in a call: no more than there are, and as many on every device."""
    parts = mesh.size if mesh else 1
    return -(-min(batch, images) // parts) * parts


def _batches(
    split: sets.Split | streams.Records, batch: int
) -> Iterator[tuple[Array, Array, Array]]:
    """All images once, in order; the last batch repeats its first image to fill up."""
    size = len(split)
    first = np.arange(0, size, batch)
    index = first[:, None] + np.arange(batch)
    valid = index < size
    order = np.where(valid, index, first[:, None]).ravel()
    read = streams.batches(split, order, batch)
    for (images, labels), known in zip(read, valid, strict=True):
        yield jnp.asarray(images), jnp.asarray(labels), jnp.asarray(known)
