"""What an evaluated network is, in numbers: accuracy, firing, cost, bits."""

import functools
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from jsnnq.analysis import cost, firing
from jsnnq.analysis.evaluate import Evaluation
from jsnnq.networks.layers import STATE
from jsnnq.networks.quantize import at
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.quantizers import identity
from jsnnq.quantizers.base import storage_bits
from jsnnq.runtime.compiling import once


def describe(
    network: ResidualNetwork,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, int, int],
    policy: str = "neurobench",
) -> dict[str, Any]:
    """Accuracy, firing and deployment cost of an evaluated network, as JSON values.

    Args:
        network: the network.
        variables: its parameters and collections.
        evaluation: what was counted while it was evaluated.
        image_shape: `H W C`.
        policy: how joins of blocks are charged; see `cost.POLICIES`.

    Returns:
        `accuracy`, the shares of `firing.Shares`, `cost` as in
        `cost.deployment_cost`. Where nothing spikes, what is said of firing is None.
    """
    counts = evaluation.counts
    fired = dict.fromkeys(firing.Shares._fields)
    if counts:
        fired = firing.summary(counts)._asdict()
    neurons = {name: layer.size for name, layer in counts.items()}
    spent = cost.deployment_cost(
        network.synapses(),
        kernels(network, variables),
        counts,
        evaluation.nonzero,
        evaluation.total,
        timesteps=counts.timesteps,
        images=counts.images,
        image_shape=image_shape,
        weight_bits=weight_bits(network, variables),
        state_bits=state_bits(network, variables, neurons),
        graded=evaluation.graded,
        policy=policy,
    )
    return {
        "accuracy": evaluation.accuracy,
        **{name: fired[name] for name in firing.Shares._fields},
        "cost": spent._asdict(),
    }


def kernels(net: ResidualNetwork, variables: Mapping[str, Any]) -> dict[str, Array]:
    """Every kernel as the deployed network multiplies with it, by layer."""
    found = _kernels(net.representative, dict(variables))
    return dict(zip(net.kernel_layers(), found, strict=True))


@functools.partial(once, static_argnums=0)
def _kernels(net, variables):
    # As one program: by itself every operation on every shape is a compilation.
    found = []
    for path in net.kernel_layers():
        quantizer = net.weights(path)
        kernel = at(variables["params"], path)["kernel"]
        state = _state(variables, quantizer, path)
        found.append(quantizer.apply(kernel, state, False)[0])
    return found


def weight_bits(net: ResidualNetwork, variables: Mapping[str, Any]) -> dict[str, int]:
    """Bits of the weights of each layer, with the scales and bases they need.

    The classifier's bias is float32, and normalisation counts as the two float32
    numbers per channel it folds into.
    """
    found = {}
    for path in net.kernel_layers():
        kernel = at(variables["params"], path)["kernel"]
        quantizer = net.weights(path)
        state = _state(variables, quantizer, path)
        beside = kernel.shape[-1] * (1 if path == "fc" else 2)
        found[path] = storage_bits(quantizer, kernel.size, state) + 32 * beside
    return found


def state_bits(
    net: ResidualNetwork, variables: Mapping[str, Any], neurons: Mapping[str, int]
) -> dict[str, int]:
    """Bits of the membranes of each neuron layer for one image.

    A membrane is stored with the quantizer's bits only where the quantizer acts on
    what is stored; before the spike test the stored potential is the reset of a
    quantized value, which takes the same levels and the reset value.

    Args:
        net: the network.
        variables: with the quantizers' states.
        neurons: how many neurons each layer has.
    """
    found = {}
    for path, count in neurons.items():
        quantizer = net.membranes(path)
        state = () if quantizer.shared else _state(variables, quantizer, path)
        found[path] = storage_bits(quantizer, count, state)
    return found


def _state(variables, quantizer, path):
    if quantizer == identity:
        return ()
    collection = "params" if quantizer.trainable else "quant"
    return at(variables[collection], path)[STATE]
