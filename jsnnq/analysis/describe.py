"""What an evaluated network is, in numbers: accuracy, firing, cost, bits."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jsnnq.analysis import cost, firing
from jsnnq.analysis.evaluate import Evaluation
from jsnnq.networks.integers import PackedKernel
from jsnnq.networks.network import Network, input_shape
from jsnnq.networks.quantize import at, state_of
from jsnnq.quantizers.base import storage_bits
from jsnnq.runtime.compiling import once


def describe(
    network: Network,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, ...],
    policy: str = "neurobench",
) -> dict[str, Any]:
    """Accuracy, firing and deployment cost of an evaluated network, as JSON values.

    Args:
        network: the network.
        variables: its parameters and collections.
        evaluation: what was counted while it was evaluated.
        image_shape: `H W C`, or of frames `T H W C`.
        policy: how joins of blocks are charged; see `cost.POLICIES`.

    Returns:
        `accuracy`, the shares of `firing.Shares`, `cost` as in
        `cost.deployment_cost`, and `products`, their dtype and precision. Where nothing
        spikes, what is said of firing is None.
    """
    fired = dict.fromkeys(firing.Shares._fields)
    if evaluation.counts:
        fired = firing.summary(evaluation.counts)._asdict()
    spent = deployment(network, variables, evaluation, image_shape, policy)
    return {
        "accuracy": evaluation.accuracy,
        **{name: fired[name] for name in firing.Shares._fields},
        "cost": spent._asdict(),
        "products": {
            "dtype": jnp.dtype(network.dtype).name,
            "precision": network.precision,
        },
    }


def deployment(
    network: Network,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, ...],
    policy: str = "neurobench",
) -> cost.Cost:
    """What an evaluated network costs to run and to store; arguments of `describe`."""
    counts, shape = evaluation.counts, input_shape(image_shape)
    paths = network.layers(shape)["weights"]
    neurons = {name: layer.size for name, layer in counts.items()}
    return cost.deployment_cost(
        network.synapses(shape),
        kernels(network, variables, paths),
        counts,
        evaluation.nonzero,
        evaluation.total,
        timesteps=counts.timesteps,
        images=counts.images,
        image_shape=image_shape,
        weight_bits=weight_bits(network, variables, paths),
        state_bits=state_bits(network, variables, neurons),
        graded=evaluation.graded,
        policy=policy,
    )


def kernels(
    net: Network, variables: Mapping[str, Any], paths: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Every kernel as the deployed network multiplies with it, by layer.

    A network of one's own needs the `paths` of its layers.
    """
    paths = paths or net.known_layers()["weights"]
    found = _kernels(net.representative, paths, dict(variables))
    return dict(zip(paths, found, strict=True))


@functools.partial(once, static_argnums=(0, 1))
def _kernels(net, paths, variables):
    # As one program: by itself every operation on every shape is a compilation.
    found = []
    for path in paths:
        quantizer = net.weights(path)
        kernel = at(variables["params"], path)["kernel"]
        if isinstance(kernel, PackedKernel):
            found.append(kernel.values())
            continue
        state = state_of(variables, quantizer, path)
        found.append(quantizer.apply(kernel, state, False)[0])
    return found


def weight_bits(
    net: Network, variables: Mapping[str, Any], paths: tuple[str, ...] = ()
) -> dict[str, int]:
    """Bits of the weights of each layer, with the scales and bases they need.

    A bias is float32, and where there is none, normalisation counts as the two float32
    numbers per channel it folds into.
    """
    found = {}
    for path in paths or net.known_layers()["weights"]:
        layer = at(variables["params"], path)
        kernel = layer["kernel"]
        quantizer = net.weights(path)
        beside = kernel.shape[-1] * (1 if "bias" in layer else 2)
        if isinstance(kernel, PackedKernel):
            beside += sum(scale.size for scale in kernel.scales)
            stored = kernel.size * quantizer.bits
        else:
            state = state_of(variables, quantizer, path)
            stored = storage_bits(quantizer, kernel.size, state)
        found[path] = stored + 32 * beside
    return found


def state_bits(
    net: Network, variables: Mapping[str, Any], neurons: Mapping[str, int]
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
        state = state_of(variables, quantizer, path)
        found[path] = storage_bits(quantizer, count, state)
    return found
