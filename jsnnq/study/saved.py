"""A trained network on disk, written and read back.

It is a folder: the checkpoint holds its variables and, as metadata, the config and
seed that made it, so that it can be used, evaluated and compared later.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jsnnq.analysis import emd
from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import evaluate
from jsnnq.analysis.firing import UNITS
from jsnnq.config import Config, from_dict, to_dict
from jsnnq.data import sets
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, choose
from jsnnq.networks import network as networks
from jsnnq.networks.network import input_shape
from jsnnq.networks.quantize import at
from jsnnq.runtime import checkpoint
from jsnnq.study import build
from jsnnq.workflow.evaluate import check_shape
from jsnnq.workflow.saved import folder_of, load, metadata_of, no_network, save
from jsnnq.workflow.state import abstract_variables, untrained


def save_network(
    path: Path,
    network: networks.Network,
    variables: Mapping[str, Any],
    config: Config,
    dataset: DataSet,
    *,
    seed: int = 0,
    label: str = "",
) -> None:
    """Writes a row's network, as `workflow.saved` does, with the row that made it.

    Args:
        path: of the checkpoint.
        network: of the row.
        variables: parameters and collections.
        config: what the network was made from.
        dataset: what it was trained on.
        seed: of its run.
        label: what its run was called.
    """
    about = {
        "classes": list(dataset.class_names),
        "config": to_dict(config),
        "data": config.data,
        "seed": seed,
        "label": label,
    }
    save(path, network, untrained(network, variables, dataset), about=about)


class Network(NamedTuple):
    """A network read back from disk: `network.apply(variables, inputs(images))`.

    Attributes:
        network: the module.
        variables: its parameters and collections.
        config: of the row that made it, or None.
        seed: of its run.
        dataset: what it is evaluated on.
        label: what its run was called.
        data_name: of the data set, as `jsnnq.data.sets.load` takes it.
    """

    network: networks.Network
    variables: dict[str, Any]
    config: Config | None
    seed: int
    dataset: DataSet
    label: str
    data_name: str = ""

    def inputs(self, images: Any) -> Float[Array, "*T B H W C"]:
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

    Example:
        >>> net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
        >>> data = jsnnq.load_data("synthetic")
        >>> images = jnp.ones((1, *data.image_shape))
        >>> variables = jax.jit(net.init)(jax.random.key(0), images)
        >>> jsnnq.save("out/net", net, jsnnq.calibrate(net, variables, data))
        >>> jsnnq.load_network("out/net", data_name="synthetic").dataset.classes
        10
    """
    about = metadata_of(path)
    config = from_dict(about["config"]) if "config" in about else None
    data_name = data_name or about.get("data") or (config and config.data)
    if data_name is None and "network" not in about:
        raise no_network(path)
    if data_name is None:
        raise InputError(
            f"{str(path)!r} does not say which data it was trained on: name them with "
            "--data"
        )
    dataset = sets.load(data_name, data_dir=data_dir)
    if config is not None and "network" not in about:
        # Version 0.1 wrote the row alone, and mean and deviation.
        network = build.network(config, dataset.classes)
        like = abstract_variables(network, dataset.image_shape)
        variables, _ = checkpoint.restore(folder_of(path), like)
        mean, std = tuple(about["mean"]), tuple(about["std"])
    else:
        network, state = load(path)
        variables, (mean, std, _) = state.variables, state.preprocessing
        check_shape(state, dataset)
        classes = getattr(network, "classes", dataset.classes)
        if classes != dataset.classes:
            raise InputError(
                f"the network tells {classes} classes apart and {dataset.name} has "
                f"{dataset.classes}: give data of the same classes"
            )
    return Network(
        network,
        variables,
        config,
        about.get("seed", 0),
        # The network goes on seeing pixels as it was trained to, on whichever data.
        dataclasses.replace(dataset, mean=mean, std=std),
        about.get("label") or folder_of(path).parent.name,
        data_name,
    )


def compare_saved(
    a: Network,
    b: Network,
    *,
    unit: str = "neuron",
    batch: int | None = None,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """How far the firing of B is from that of A, on the data set of A.

    Args:
        a: a network.
        b: another of the same architecture.
        unit: `neuron` or `channel`; see `firing.rates`.
        batch, mesh: of `jsnnq.analysis.evaluate.evaluate`.

    Returns:
        `rows`, `describe` of A and of B; `firing`, the counts of both; `emd` and
        `matched` as in `results.json`; `dataset` and `unit`.

    Raises:
        InputError: the two are not of one architecture, they do not spike, or the unit
            is unknown.
    """
    shape, shapes = input_shape(a.dataset.image_shape), []
    for one in (a, b):
        params, paths = one.variables["params"], one.network.layers(shape)["weights"]
        shapes.append({path: at(params, path)["kernel"].shape for path in paths})
    for path in {**shapes[0], **shapes[1]}:
        mine, theirs = (known.get(path) for known in shapes)
        if mine != theirs:
            raise InputError(
                f"{a.label} and {b.label} have other kernels ({path} is {mine} and "
                f"{theirs}): only networks of one architecture can be compared"
            )
    if not a.network.layers(shape)["membranes"]:
        raise InputError(
            f"{a.label} and {b.label} do not spike, so there is no firing to compare: "
            "give the checkpoints of two spiking networks"
        )
    choose("unit", unit, UNITS)
    evaluations = [
        evaluate(one.network, one.variables, a.dataset, batch=batch, mesh=mesh)
        for one in (a, b)
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
