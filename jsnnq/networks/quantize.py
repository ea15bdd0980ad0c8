"""How a network's quantizers start: from a float network's variables and images.

What is between kernels is looked at layer by layer while the network runs, and of a
layer nothing is kept but what its quantizer asks for (`Quantizer.draw`): the largest
magnitudes of its channels, or `ENOUGH` values drawn at random. Layers whose quantizers
need no values are not computed.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from jsnnq.networks.layers import STATE
from jsnnq.networks.network import Network
from jsnnq.quantizers import Quantizer, identity
from jsnnq.quantizers.base import PLACES, Choose, at_random


def quantize(
    net: Network,
    variables: Mapping[str, Any],
    key: jax.Array,
    images: Array,
    *,
    before: Network | None = None,
) -> dict[str, Any]:
    """Gives a network's variables the states its quantizers start from.

    A kernel's state starts from the kernel, others from what they ask for of the values
    that the network without quantizers holds. Where the network before had the same
    quantizer, its state stays.

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
    states, beginning = {}, []
    layers = net.layers(images.shape)
    places = [(place, path) for place in PLACES for path in layers[place]]
    # Places without a state count too: the numbers of the others stay the same.
    for number, (place, path) in enumerate(places):
        quantizer = getattr(net, place)(path)
        if quantizer == identity or quantizer.shared:
            continue
        if before is not None and getattr(before, place)(path) == quantizer:
            states[path] = quantizer, state_of(variables, quantizer, path)
        else:
            own = jax.random.fold_in(key, number)
            beginning.append(_Beginning(place, path, quantizer, own))
    shown = _shown(net.bare, variables, images, beginning)
    for one in beginning:
        state = one.quantizer.init(one.key, shown[one.path])
        states[one.path] = one.quantizer, state
    quant = {}
    for path, (quantizer, state) in states.items():
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


class _Beginning(NamedTuple):
    """A quantizer that starts, and the key of what it draws."""

    place: str
    path: str
    quantizer: Quantizer
    key: jax.Array


def _shown(net, variables, images, beginning) -> dict[str, Any]:
    """By path, what each quantizer starts from: values, or where it needs none a shape.

    Args:
        net: the network without quantizers.
        variables, images: of `quantize`.
        beginning: the quantizers that start.
    """
    kernels = [one.path for one in beginning if one.place == "weights"]
    inner = [one for one in beginning if one.place != "weights"]
    asking = [one for one in inner if one.quantizer.needs_values]
    shown = {path: at(variables["params"], path)["kernel"] for path in kernels}
    if not inner:
        return shown
    # Shapes are enough: nothing is compiled or computed for quantizers without values.
    look = functools.partial(_potentials, net)
    potentials = jax.eval_shape(look, variables, images)
    shapes = {one.path: at(potentials, one.path)["v"] for one in inner}
    if asking:
        draws = tuple((one.path, one.quantizer.draw) for one in asking)
        chosen = {one.path: _chosen(one, shapes[one.path]) for one in asking}
        shapes |= drawn(net, draws, variables, images, chosen)
    return shown | shapes


def _chosen(one: _Beginning, shape: Any) -> list[Array]:
    """The numbers that a quantizer's `draw` asks for, in the order in which it does."""
    asked = []

    def choose(count, bound):
        asked.append((count, bound))
        return jnp.zeros(count, jnp.int32)

    jax.eval_shape(functools.partial(one.quantizer.draw, choose), shape)
    return [at_random(one.key)(*each) for each in asked]


Draws = tuple[tuple[str, Callable[[Choose, Array], Array]], ...]


@functools.partial(jax.jit, static_argnums=(0, 1))
def drawn(
    net: Network,
    draws: Draws,
    variables: Mapping[str, Any],
    images: Array,
    chosen: Mapping[str, list[Array]],
) -> dict[str, Array]:
    """What each layer's `Quantizer.draw` leaves of its values, by path.

    One program: the values of a layer are gone before the last ones are there.

    Args:
        net: the network without quantizers.
        draws: a layer's path, and what draws from its values.
        variables: of the network.
        images: as it reads them.
        chosen: by path, the random numbers that `draw` asks for. Drawn in here they
            would come late, and all values would wait for them.
    """
    potentials = _potentials(net, variables, images)
    found = {}
    for path, draw in draws:
        numbers = iter(chosen[path])
        choose = lambda count, bound, numbers=numbers: next(numbers)
        found[path] = draw(choose, at(potentials, path)["v"])
    return found


@functools.partial(jax.jit, static_argnums=0)
def _potentials(net, variables, images):
    """Of every layer, what a quantizer between kernels would see."""
    _, changed = net.apply(dict(variables), images, False, mutable=["potentials"])
    return changed["potentials"]
