"""A trained network over a data set: what it gets right, how it fires, its cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jsnnq.analysis import evaluate as observed
from jsnnq.analysis.cost import POLICIES
from jsnnq.analysis.describe import deployment
from jsnnq.analysis.evaluate import BATCH, Evaluation
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, choose
from jsnnq.networks.network import Network
from jsnnq.runtime import parallel, programs
from jsnnq.workflow.state import State, check_fits


def evaluate(
    net: Network,
    state: State | Mapping[str, Any],
    data: DataSet,
    *,
    split: str = "test",
    batch: int | None = None,
    policy: str = "neurobench",
    devices: parallel.Devices = (),
) -> Evaluation:
    """Runs a network over a split, once.

    Args:
        net: the network.
        state: from `fit`, `calibrate` or `load`, which knows how the network sees
            pixels; or variables, which then see them as `data` says.
        data: from `from_arrays` or `load_data`.
        split: `test` or `train`.
        batch: images per call; by default 256, or as many as fit into the memory of an
            accelerator. No number depends on it.
        policy: how graded joins are charged, see `jsnnq.analysis.cost`.
        devices: that share a batch, from `jax.devices()`; by default the first alone.

    Returns:
        `accuracy` (0 to 1), `loss` (nats), `counts`, `rates`, `dead`, `saturated`,
        `cost`.

    Raises:
        InputError: there is no such split, or the network is another.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> seen = jsnnq.evaluate(net, variables, data)
        >>> seen.counts.images, seen.rates["sn1"].shape, seen.cost.weight_bits
        (256, (192,), 104512)
    """
    check_fits(net, data)
    choose("policy", policy, POLICIES)
    if isinstance(state, State):
        check_shape(state, data)
        mean, std, _ = state.preprocessing
        data, variables = dataclasses.replace(data, mean=mean, std=std), state.variables
    else:
        variables = {"batch_stats": {}, "quant": {}, **state}
    programs.keep()
    mesh = parallel.mesh(devices, batch or BATCH)
    seen = observed.evaluate(net, variables, data, split=split, batch=batch, mesh=mesh)
    return seen._replace(
        cost=deployment(net, variables, seen, data.image_shape, policy)
    )


def check_shape(state: State, data: DataSet) -> None:
    """Refuses data whose images have another shape than those of the training.

    Raises:
        InputError: they have.
    """
    if tuple(state.image_shape) != tuple(data.image_shape):
        raise InputError(
            f"the network was trained on images of {tuple(state.image_shape)} and "
            f"{data.name} has {tuple(data.image_shape)}: give data of the same shape"
        )
