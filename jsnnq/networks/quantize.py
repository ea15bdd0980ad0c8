"""How a network's quantizers start: from a float network's variables and images."""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from jsnnq.networks.layers import STATE, Rules
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.quantizers import identity


def quantize(
    net: ResidualNetwork, variables: Mapping[str, Any], key: jax.Array, images: Array
) -> dict[str, Any]:
    """Gives a float network's variables the states its quantizers start from.

    A kernel's state starts from the kernel, others from what the float network holds.

    Args:
        net: the network with its quantizers.
        variables: parameters and running statistics of the float network.
        key: for quantizers that draw random numbers.
        images: normalised calibration images `B H W C`.

    Returns:
        `params`, `batch_stats` and `quant`, as the network reads them.
    """
    params = flatten_dict(variables["params"], keep_empty_nodes=True)
    quant = {}
    for number, (path, quantizer, values) in enumerate(_places(net, variables, images)):
        # Places without a state count too: the numbers of the others stay the same.
        if quantizer == identity or quantizer.shared:
            continue
        state = quantizer.init(jax.random.fold_in(key, number), values)
        collection = params if quantizer.trainable else quant
        collection[*path.split("/"), STATE] = state
    return {
        "params": unflatten_dict(params),
        "batch_stats": variables["batch_stats"],
        "quant": unflatten_dict(quant),
    }


def at(tree: Any, path: str) -> Any:
    """The branch of a tree of variables that belongs to a layer."""
    return functools.reduce(operator.getitem, path.split("/"), tree)


def _places(net, variables, images):
    """Path, quantizer and what it will see, of every layer that may have one."""
    for path in net.kernel_layers():
        yield path, net.weights(path), at(variables["params"], path)["kernel"]
    names = net.inner_layers()
    quantizers = [net.inner(name) for name in names]
    if all(quantizer == identity for quantizer in quantizers):
        return
    look = functools.partial(_observe, net.with_rules(Rules(), Rules()))
    if not any(quantizer.needs_values for quantizer in quantizers):
        # Shapes are enough, and nothing is compiled or computed for them.
        look = functools.partial(jax.eval_shape, look)
    potentials = look(variables, images)
    for path, quantizer in zip(names, quantizers, strict=True):
        yield path, quantizer, at(potentials, path)["v"]


@functools.partial(jax.jit, static_argnums=0)
def _observe(net, variables, images):
    _, changed = net.apply(dict(variables), images, False, mutable=["potentials"])
    return changed["potentials"]
