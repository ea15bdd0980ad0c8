"""Any experiment in small: the same rows on digits, with tiny networks, in seconds.

It says whether an experiment runs from its first line to its report, and nothing about
its numbers.
"""

import dataclasses
from collections.abc import Mapping

from jsnnq.config import Config, NetworkConfig, StoMPP


def shrink(rows: Mapping[str, Config]) -> dict[str, Config]:
    """The rows of an experiment with tiny networks, two epochs each, on digits."""
    return {name: _shrunk(row) for name, row in rows.items()}


def _shrunk(row: Config) -> Config:
    if isinstance(row.network, NetworkConfig):
        network = dataclasses.replace(
            row.network, name="sew_resnet_tiny", width=1.0, stem="cifar", timesteps=2
        )
    else:
        name = "mobilenet_tiny" if "mobilenet" in row.network.name else "resnet_tiny"
        network = dataclasses.replace(row.network, name=name, width=1.0, stem="cifar")
    training = dataclasses.replace(
        row.training,
        epochs=2,  # One to freeze in, and one with all masks closed.
        batch=64,
        warmup=0.0,
        looks=min(row.training.looks, 2),
    )
    return dataclasses.replace(
        row,
        data="digits",
        network=network,
        training=training,
        calibration=64,
        weights=tuple(map(_unordered, row.weights)),
        activations=tuple(map(_unordered, row.activations)),
    )


def _unordered(rule):
    """The rule without an explicit order, which names layers a tiny network lacks."""
    pattern, quantizer = rule
    if isinstance(quantizer, StoMPP):
        order = quantizer.order if isinstance(quantizer.order, str) else "forward"
        quantizer = dataclasses.replace(quantizer, order=order, warmup=0.0, tail=None)
    return pattern, quantizer
