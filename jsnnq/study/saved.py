"""A trained network on disk, written and read back.

It is a folder: the checkpoint holds its variables and, as metadata, the config and
seed that made it, so that it can be used, evaluated and compared later.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, UInt8

from jsnnq.analysis import emd
from jsnnq.analysis.describe import describe, kernels
from jsnnq.analysis.evaluate import evaluate
from jsnnq.analysis.firing import UNITS
from jsnnq.config import Config, from_dict, to_dict
from jsnnq.data import sets
from jsnnq.errors import InputError, choose
from jsnnq.networks import quantize
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.runtime import checkpoint
from jsnnq.study import build


def save_network(
    path: Path,
    variables: Mapping[str, Any],
    config: Config,
    dataset: sets.DataSet,
    *,
    seed: int = 0,
    label: str = "",
) -> None:
    """Writes a network that `load_network` reads back.

    Args:
        path: of the checkpoint.
        variables: parameters and collections.
        config: what the network was made from.
        dataset: what it was trained on; its mean and deviation are kept too.
        seed: of its run.
        label: what its run was called.
    """
    metadata = {
        "config": to_dict(config),
        "seed": seed,
        "label": label,
        "mean": dataset.mean,
        "std": dataset.std,
    }
    checkpoint.save(path, dict(variables), metadata)


class Network(NamedTuple):
    """A network read back from disk: `network.apply(variables, inputs(images))`.

    Attributes:
        network: the module.
        variables: its parameters and collections.
        config: what it was made from.
        seed: of its run.
        dataset: what it is evaluated on.
        label: what its run was called.
    """

    network: ResidualNetwork
    variables: dict[str, Any]
    config: Config
    seed: int
    dataset: sets.DataSet
    label: str

    def inputs(self, images: UInt8[ArrayLike, "B H W C"]) -> Float[Array, "B H W C"]:
        """What the network takes: pixels of its data set, scaled and normalised.

        Mean and deviation are those of its training, the scale that of `dataset`.
        """
        images = jnp.asarray(images)
        return self.dataset.preprocessing(images, self.network.dtype)


def load_network(
    path: str | os.PathLike[str],
    *,
    data_name: str | None = None,
    data_dir: str | None = None,
) -> Network:
    """Reads a network back, with the data set that it is evaluated on.

    Args:
        path: a checkpoint, or the folder of a run that holds one: of a study
            `OUT/runs/float-seed0`, for example.
        data_name: evaluate on this data set instead of its own.
        data_dir: where prepared data sets lie.

    Returns:
        The network, its variables, and how it sees pixels.

    Raises:
        InputError: there is no checkpoint, it is damaged, it is not a network, its
            data set is not there, or does not fit it.
    """
    path = Path(path)
    if (path / "checkpoint").is_dir():
        path = path / "checkpoint"
    metadata = checkpoint.read_metadata(path)
    if "config" not in metadata:
        raise InputError(
            f"{str(path)!r} is a checkpoint, but not of a finished network: give the "
            "folder that 'jsnnq train' or 'jsnnq study' made"
        )
    config = from_dict(metadata["config"])
    # The network goes on seeing pixels as it was trained to, on whichever data.
    dataset = dataclasses.replace(
        sets.load(data_name or config.data, data_dir=data_dir),
        mean=tuple(metadata["mean"]),
        std=tuple(metadata["std"]),
    )
    network = build.network(config, dataset.classes)
    like = shapes_of(network, config, dataset)
    variables, _ = checkpoint.restore(path, {"quant": {}, **like})
    return Network(
        network,
        variables,
        config,
        metadata["seed"],
        dataset,
        metadata["label"] or path.parent.name,
    )


def shapes_of(
    network: ResidualNetwork, config: Config, dataset: sets.DataSet
) -> dict[str, Any]:
    """Shapes and dtypes of the variables of a row's network, without computing them.

    Args:
        network: what `build.network` made of `config`.
        config: the row.
        dataset: its images decide the shapes.
    """
    bare = build.float_network(config.network, dataset.classes)
    like = build.abstract_variables(bare, dataset.image_shape)
    if config.kind != "quantized":
        return like
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    return jax.eval_shape(
        lambda variables, images: quantize.quantize(
            network, variables, jax.random.key(0), images
        ),
        like,
        images,
    )


def compare_saved(
    a: Network, b: Network, *, unit: str = "neuron", mesh: Mesh | None = None
) -> dict[str, Any]:
    """How far the firing of B is from that of A, on the data set of A.

    Args:
        a: a network.
        b: another of the same architecture.
        unit: `neuron` or `channel`; see `firing.rates`.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.

    Returns:
        `rows`, `describe` of A and of B; `firing`, the counts of both; `emd` and
        `matched` as in `results.json`; `dataset` and `unit`.

    Raises:
        InputError: the two are not of one architecture, they do not spike, or the unit
            is unknown.
    """
    shapes = [
        {path: kernel.shape for path, kernel in kernels(*one[:2]).items()}
        for one in (a, b)
    ]
    for path in {**shapes[0], **shapes[1]}:
        mine, theirs = (known.get(path) for known in shapes)
        if mine != theirs:
            raise InputError(
                f"{a.label} and {b.label} have other kernels ({path} is {mine} and "
                f"{theirs}): only networks of one architecture can be compared"
            )
    if not a.config.spikes:
        raise InputError(
            f"{a.label} and {b.label} do not spike, so there is no firing to compare: "
            "give the checkpoints of two spiking networks"
        )
    choose("unit", unit, UNITS)
    evaluations = [
        evaluate(one.network, one.variables, a.dataset, mesh=mesh) for one in (a, b)
    ]
    counts = [evaluation.counts for evaluation in evaluations]
    return {
        "rows": [
            describe(one.network, one.variables, evaluation, a.dataset.image_shape)
            for one, evaluation in zip((a, b), evaluations, strict=True)
        ],
        "firing": counts,
        "dataset": a.dataset.note,
        "unit": unit,
        "emd": emd.compare(*counts, unit=unit).as_data(),
        "matched": emd.compare_matched(*counts, unit=unit).as_data(),
    }
