"""How a network's quantizers start: from a float network's variables and images."""

import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from jsnnq.networks.layers import STATE
from jsnnq.networks.network import Network
from jsnnq.quantizers import Quantizer, identity


def quantize(
    net: Network,
    variables: Mapping[str, Any],
    key: jax.Array,
    images: Array,
    *,
    before: Network | None = None,
) -> dict[str, Any]:
    """Gives a network's variables the states its quantizers start from.

    A kernel's state starts from the kernel, others from what the network without
    quantizers holds. Where the network before had the same quantizer, its state stays.

    Args:
        net: the network with its quantizers.
        variables: parameters and running statistics.
        key: for quantizers that draw random numbers.
        images: normalised calibration images `B H W C`, or frames `T B H W C`.
        before: whose variables they are; by default that of a float network.

    Returns:
        `params`, `batch_stats` and `quant`, as the network reads them.
    """
    flat = flatten_dict(variables["params"], keep_empty_nodes=True)
    params = {path: leaf for path, leaf in flat.items() if STATE not in path}
    quant = {}
    seen = _places(net, variables, images)
    for number, (place, path, values) in enumerate(seen):
        quantizer = getattr(net, place)(path)
        # Places without a state count too: the numbers of the others stay the same.
        if quantizer == identity or quantizer.shared:
            continue
        if before is not None and getattr(before, place)(path) == quantizer:
            state = state_of(variables, quantizer, path)
        else:
            state = quantizer.init(jax.random.fold_in(key, number), values)
        collection = params if quantizer.trainable else quant
        collection[*path.split("/"), STATE] = state
    return {
        "params": unflatten_dict(params),
        "batch_stats": variables.get("batch_stats", {}),
        "quant": unflatten_dict(quant),
    }


def at(tree: Any, path: str) -> Any:
    """The branch of a tree of variables that belongs to a layer."""
    return functools.reduce(operator.getitem, path.split("/"), tree)


def state_of(variables: Mapping[str, Any], quantizer: Quantizer, path: str) -> Any:
    """The state of a layer's quantizer; empty where there is none, or it is shared."""
    if quantizer == identity or quantizer.shared:
        return ()
    collection = "params" if quantizer.trainable else "quant"
    return at(variables[collection], path)[STATE]


def _places(
    net: Network, variables: Mapping[str, Any], images: Array
) -> Iterator[tuple[str, str, Any]]:
    """Place, path, and what its quantizer sees, of every layer that may have one."""
    layers = net.layers(images.shape)
    for path in layers["weights"]:
        yield "weights", path, at(variables["params"], path)["kernel"]
    inner = [(p, path) for p in ("membranes", "activations") for path in layers[p]]
    quantizers = [getattr(net, place)(path) for place, path in inner]
    if all(quantizer == identity for quantizer in quantizers):
        return
    look = functools.partial(_observe, net.bare)
    if not any(quantizer.needs_values for quantizer in quantizers):
        # Shapes are enough, and nothing is compiled or computed for them.
        look = functools.partial(jax.eval_shape, look)
    potentials = look(variables, images)
    for place, path in inner:
        yield place, path, at(potentials, path)["v"]


@functools.partial(jax.jit, static_argnums=0)
def _observe(net, variables, images):
    _, changed = net.apply(dict(variables), images, False, mutable=["potentials"])
    return changed["potentials"]
