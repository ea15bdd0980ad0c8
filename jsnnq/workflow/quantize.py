"""Giving a network quantizers, and starting them without training."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, check_integer, check_seed
from jsnnq.networks.network import Layers, Network, check_network, input_shape
from jsnnq.networks.rules import Rules, check_pairs
from jsnnq.networks.sew import check_quantizers
from jsnnq.quantizers import Quantizer, identity
from jsnnq.quantizers.base import PLACES
from jsnnq.workflow.state import State, check_fits, start, untrained

Given = Quantizer | Rules | Sequence[Any] | None
"""One quantizer for the usual layers, or rules by layer."""


def quantize(
    net: Network,
    *,
    weights: Given = None,
    membranes: Given = None,
    activations: Given = None,
) -> Network:
    """The network with quantizers; its numbers are changed by `fit` or `calibrate`.

    One quantizer is for the usual layers: of our networks all kernels but the first
    convolution and the classifier, all neurons, all activations that binary kernels
    read; of a network of one's own all layers. Rules `((regex, quantizer), ...)` say it
    layer by layer: the first that fully matches a layer's path wins, and a layer that
    none matches, or one of `None`, stays in full precision.

    Args:
        net: a network, whose quantizers in places that are not given stay.
        weights: for kernels.
        membranes: for the membranes of spiking neurons.
        activations: for activations, in networks that do not spike.

    Raises:
        InputError: something is no quantizer or no rule, a quantizer has no meaning in
            its place, or a rule matches no layer. The layers of a network of one's own
            are known when it is shown an image, and then checked.

    Example:
        >>> import jsnnq
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.25)
        >>> rules = ((r"layer1_0/.*", None), (r".*", jsnnq.lqnet(2)))
        >>> qnet = jsnnq.quantize(net, weights=rules, membranes=jsnnq.uniform(4))
        >>> qnet.weights("layer2_0/conv1").bits
        2
    """
    check_network(net)
    given = {"weights": weights, "membranes": membranes, "activations": activations}
    rules = {
        place: _rules(place, one, net.usual[place])
        for place, one in given.items()
        if one is not None
    }
    if (layers := net.known_layers()) is not None:
        check_matches(rules, layers)
    quantized = net.with_rules(rules)
    check_quantizers(quantized)
    return quantized


def _rules(place: str, given: Any, usual: str) -> Rules:
    if isinstance(given, Rules):
        return given
    if isinstance(given, Quantizer):
        return Rules(((usual, given),))
    pairs = tuple(given) if isinstance(given, list) else given
    check_pairs(place, pairs)
    return Rules(tuple((pattern, one or identity) for pattern, one in pairs))


def check_matches(rules: Mapping[str, Rules], layers: Layers) -> None:
    """Refuses rules that match no layer.

    Args:
        rules: by place.
        layers: of the network, by place.

    Raises:
        InputError: a rule matches none, or is no regular expression.
    """
    for place, one in rules.items():
        for pattern, _ in one.rules:
            try:
                matches = any(re.fullmatch(pattern, path) for path in layers[place])
            except re.error as error:
                raise InputError(
                    f"the {place} rule {pattern!r} is no regular expression: {error}"
                ) from error
            if not matches:
                known = ", ".join(layers[place])
                there = f"there are {known}" if known else "there are none"
                raise InputError(
                    f"the {place} rule {pattern!r} matches no layer: {there}"
                )


def rules_of(net: Network) -> dict[str, Rules]:
    """A network's rules, by place."""
    return {place: getattr(net, place) for place in PLACES}


def calibrate(
    net: Network,
    state: State | Mapping[str, Any],
    data: DataSet,
    *,
    images: int = 256,
    seed: int = 0,
) -> State:
    """Quantizes a trained network without training it (post-training quantization).

    Args:
        net: from `quantize`.
        state: of the full-precision network, from `fit` or `load`.
        data: its training images show quantizers what they will see.
        images: how many are used.
        seed: decides which, and what a quantizer draws.

    Returns:
        What `evaluate`, `fit` and `save` take.

    Raises:
        InputError: the state is of another architecture, a rule matches no layer, or a
            quantizer cannot start without training (StoMPP).

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> qnet = jsnnq.quantize(net, weights=jsnnq.lqnet(2))
        >>> state = jsnnq.calibrate(qnet, variables, data, images=16)
        >>> sorted(state.variables["quant"]["layer1_0"])
        ['conv1', 'conv2']
    """
    check_fits(net, data)
    check_matches(rules_of(net), net.layers(input_shape(data.image_shape)))
    images, seed = check_integer("images", images), check_seed(seed)
    return untrained(
        net, start(net, data, seed=seed, given=state, calibration=images), data
    )
