"""The rows of StoMPP's tables: methods by network, under one recipe.

arXiv 2601.22660 and 2606.27759 compare, on identical backbones, recipes and numbers
of steps, networks with binary weights (BWN) and with binary weights and activations
(BNN), trained with the straight-through estimator or by progressive freezing. Rows are
called by what is binary, by the method, and by the network: `bnn-stompp+ste-r50`.
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from jsnnq.config import (
    BRANCH_ACTIVATIONS,
    BRANCH_KERNELS,
    POINTWISE_ACTIVATIONS,
    POINTWISE_KERNELS,
    STE,
    BinaryNetworkConfig,
    Config,
    StoMPP,
    TrainingConfig,
)
from jsnnq.quantizers import Quantizer


class Method(NamedTuple):
    """How kernels become signs, and how the activations they read do."""

    weights: Quantizer
    activations: Quantizer


METHODS = {
    "ste": Method(STE(), STE("clipped")),
    "stompp": Method(StoMPP(), StoMPP()),
    "stompp+ste": Method(StoMPP(surrogate="identity"), StoMPP(surrogate="clipped")),
    "global": Method(StoMPP(order="global"), StoMPP(order="global")),
    "reverse": Method(StoMPP(order="reverse"), StoMPP(order="reverse")),
    "ste-identity": Method(STE(), STE()),
}
"""The straight-through baseline, StoMPP with and without it, and other orders.

The baseline is BinaryConnect's identity for weights (arXiv 1511.00363) and, for
activations, the clipped identity of Binarized Neural Networks (arXiv 1602.02830). The
summary of the paper says identity and does not tell the two apart (evidence grade S);
for activations the identity (`ste-identity`) diverges under the papers' recipe within
some hundred steps, because nothing bounds the scales of the normalisation in front.
"""

RECIPE = TrainingConfig(
    batch=256, optimizer="sgd", rate=0.1, momentum=0.9, schedule="constant"
)
"""The papers' recipe: SGD, constant rate, no decay (evidence grade S); the number of
epochs is not known."""


def rows(
    base: Config, *, bnn: Iterable[str] = (), bwn: Iterable[str] = ()
) -> dict[str, Config]:
    """A full-precision network, and one row for each method.

    Args:
        base: the full-precision network.
        bnn: methods, keys of `METHODS`, for weights and activations.
        bwn: methods for weights only.
    """
    name = short_name(base)
    found = {f"float-{name}": base}
    for method in bnn:
        found[f"bnn-{method}-{name}"] = binary(base, *METHODS[method])
    for method in bwn:
        found[f"bwn-{method}-{name}"] = binary(base, METHODS[method].weights)
    return found


def binary(
    base: Config, weights: Quantizer, activations: Quantizer | None = None
) -> Config:
    """The network with quantized weights, and quantized activations if told how.

    First, last and downsampling layers stay full precision; of MobileNetV2 the 1x1
    convolutions are binary.
    """
    kernels, reads = BRANCH_KERNELS, BRANCH_ACTIVATIONS
    if base.network.name.startswith("mobilenet"):
        kernels, reads = POINTWISE_KERNELS, POINTWISE_ACTIVATIONS
    return dataclasses.replace(
        base,
        weights=((kernels, weights),),
        activations=() if activations is None else ((reads, activations),),
    )


def short_name(base: Config) -> str:
    """How row names call the network: `r18` for `resnet18`."""
    return base.network.name.replace("resnet", "r")


def network(name: str, data: str, training: TrainingConfig, width: float = 1.0):
    """A full-precision network to make rows from."""
    return Config(
        data=data,
        network=BinaryNetworkConfig(name=name, width=width),
        training=training,
    )
