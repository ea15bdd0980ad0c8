"""How a network's quantizers start: from a float network's variables and images."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jsnnq.networks.layers import STATE, Rules
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.quantizers import Quantizer, identity


def quantize(
    net: ResidualNetwork,
    variables: Mapping[str, Any],
    key: jax.Array,
    images: Array,
) -> dict[str, Any]:
    """Gives a float network's variables the states its quantizers start from.

    A kernel's state starts from the kernel, that of a membrane or an activation from
    what the float network holds there on `images`.

    Args:
        net: the network with its quantizers.
        variables: parameters and running statistics of the float network.
        key: for quantizers that draw random numbers.
        images: normalised calibration images `B H W C`.
    """
    states: dict[str, dict] = {"params": {}, "quant": {}}
    for number, place in enumerate(_places(net, variables, images)):
        if place.quantizer == identity or place.quantizer.shared:
            continue
        state = place.quantizer.init(jax.random.fold_in(key, number), place.values)
        collection = "params" if place.quantizer.trainable else "quant"
        _put(states[collection], place.path, state)
    return {
        "params": _merged(variables["params"], states["params"]),
        "batch_stats": variables["batch_stats"],
        "quant": states["quant"],
    }


def at(tree: Any, path: str) -> Any:
    """The branch of a tree of variables that belongs to a layer."""
    for name in path.split("/"):
        tree = tree[name]
    return tree


class _Place(NamedTuple):
    """Where a quantizer sits: its layer's path and what it will see."""

    path: str
    quantizer: Quantizer
    values: Array | jax.ShapeDtypeStruct


def _places(net, variables, images):
    for path in net.kernel_layers():
        yield _Place(path, net.weights(path), at(variables["params"], path)["kernel"])
    names = net.inner_layers()
    quantizers = [net.inner(name) for name in names]
    if all(quantizer == identity for quantizer in quantizers):
        return
    look = _observe if any(q.needs_values for q in quantizers) else _shapes
    potentials = look(net.with_rules(Rules(), Rules()), variables, images)
    for path, quantizer in zip(names, quantizers, strict=True):
        yield _Place(path, quantizer, at(potentials, path)["v"])


@functools.partial(jax.jit, static_argnums=0)
def _observe(net, variables, images):
    _, changed = net.apply(dict(variables), images, False, mutable=["potentials"])
    return changed["potentials"]


def _shapes(net, variables, images):
    """What `_observe` would return, shapes only."""
    return jax.eval_shape(functools.partial(_observe, net), variables, images)


def _put(tree, path, state):
    for name in path.split("/"):
        tree = tree.setdefault(name, {})
    tree[STATE] = state


def _merged(tree, more):
    if not isinstance(tree, Mapping):
        return tree
    return {
        name: _merged(tree.get(name, {}), more.get(name, {}))
        if isinstance(tree.get(name, {}), Mapping)
        and isinstance(more.get(name, {}), Mapping)
        else more.get(name, tree.get(name))
        for name in {**tree, **more}
    }
