"""A trained network over a data set: what it gets right, how it fires, what it costs."""

from collections.abc import Mapping
from typing import Any

from jsnnq.analysis import evaluate as observed
from jsnnq.analysis.evaluate import BATCH, Evaluation
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError
from jsnnq.networks.network import Network, check_network
from jsnnq.runtime import parallel
from jsnnq.workflow.state import State


def evaluate(
    net: Network,
    state: State | Mapping[str, Any],
    data: DataSet,
    *,
    split: str = "test",
    batch: int = BATCH,
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
        batch: images per call; no number depends on it.
        policy: how graded joins are charged, see `jsnnq.analysis.cost`.
        devices: that share a batch, from `jax.devices()`; by default the first alone.

    Returns:
        `accuracy` (0 to 1), `loss` (nats), `counts`, `rates`, `dead`, `saturated`,
        `cost`.

    Raises:
        InputError: there is no such split, or the network is another.
    """
