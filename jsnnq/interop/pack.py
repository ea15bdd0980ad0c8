"""From a quantized network to its packed variables.

A packed network is the same Flax module with other variables: a quantized kernel is a
`PackedKernel`, and a normalisation is what its statistics fold into. Everything behind
the products is computed as an evaluation computes it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jsnnq.errors import InputError
from jsnnq.networks.integers import PackedKernel, is_packed
from jsnnq.networks.layers import STATE, QuantizedLayer
from jsnnq.networks.network import Network, input_shape
from jsnnq.networks.normalisation import FOLDED, Affine, BatchNorm, fold_statistics
from jsnnq.quantizers.base import Planes
from jsnnq.runtime.precision import at_least_float32


def pack(
    net: Network, variables: Mapping[str, Any], image_shape: tuple[int, ...]
) -> dict[str, Any]:
    """The variables of the packed network, for the same module.

    Args:
        net: the network with its quantizers.
        variables: parameters and collections.
        image_shape: of an image, `H W C`, or of frames, `T H W C`.

    Returns:
        `params` and `quant`. Kernels with a quantizer are `PackedKernel`s, floats are
        float32, and states of quantizers that only packed kernels had are left out.

    Raises:
        InputError: a kernel's quantizer evaluates with values that are no whole
            numbers.
    """
    shape = input_shape(image_shape)
    found = _found(net, shape, dict(variables))
    whole = _whole_inputs(net, shape)
    params: Any = flatten_dict(dict(variables["params"]))
    quant: Any = flatten_dict(dict(variables.get("quant", {})))
    for path, planes in found.planes.items():
        if planes is None:
            raise InputError(
                f"the kernel of {path} has {net.weights(path)}, whose values in "
                "evaluation are no whole numbers: pack a network whose training is done"
            )
        place = tuple(path.split("/"))
        params[(*place, "kernel")] = _packed(net, path, planes, path in whole)
        quant.pop((*place, STATE), None)
    for path, affine in found.folded.items():
        place = tuple(path.split("/"))
        for name in _LEARNED:
            del params[(*place, name)]
        params[(*place, FOLDED)] = affine
    return {
        "params": jax.tree.map(_as_stored, unflatten_dict(params), is_leaf=is_packed),
        "quant": jax.tree.map(_as_stored, unflatten_dict(quant)),
    }


_LEARNED, _RUNNING = ("scale", "bias"), ("mean", "var")  # Of a normalisation.


class _Found(NamedTuple):
    planes: dict[str, Planes | None]
    folded: dict[str, Affine]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _found(net, shape, variables):
    """What a traced evaluation of the network meets, by the paths of its layers."""
    planes, affines = {}, {}

    def between(call, arguments, named, context):
        layer = context.module
        if context.method_name == "__call__":
            path = "/".join(layer.path)
            if isinstance(layer, QuantizedLayer) and layer.place == "weights":
                if layer.quantizes:
                    kernel = layer.get_variable("params", "kernel")
                    state = layer.quantizer_state()
                    planes[path] = layer.used.planes(kernel, state)
            elif isinstance(layer, BatchNorm):
                gain, shift = (layer.get_variable("params", n) for n in _LEARNED)
                mean, var = (layer.get_variable("batch_stats", n) for n in _RUNNING)
                statistics = mean, var, layer.epsilon
                affines[path] = fold_statistics(Affine(gain, shift), *statistics)
        return call(*arguments, **named)

    with nn.intercept_methods(between):
        net.apply(variables, jnp.zeros(shape), False)
    return _Found(planes, affines)


def _whole_inputs(net: Network, shape: tuple[int, ...]) -> set[str]:
    """Kernels whose inputs are whole numbers: spikes, sums of a few of them, signs.

    Those of a network that does not say what feeds its kernels are not known to be.
    """
    layers = net.layers(shape)
    neurons = {*layers["membranes"]}
    signs = {p for p in layers["activations"] if net.activations(p).makes_signs}

    def whole(source):
        block, _, last = source.rpartition("/")
        if last == "shortcut":  # What the branch reads, unless it is the real value.
            return getattr(net, "shortcut", "") == "quantized" and (
                f"{block}/act1" in signs
            )
        spikes = bool(neurons) and last in ("join", "maxpool")
        return source in neurons or source in signs or spikes

    return {one.name for one in net.synapses(shape) if whole(one.source)}


def _packed(net, path, planes, whole):
    codes = [np.rint(np.asarray(one, np.float64)).astype(np.int32) for one in planes[0]]
    scales = [np.asarray(at_least_float32(one)) for one in planes.scales]
    # Bases may be padded to share a compilation.
    used = [i for i, scale in enumerate(scales) if np.any(scale)] or [0]
    codes, scales = ([each[i] for i in used] for each in (codes, scales))
    bits = net.weights(path).bits
    if len(codes) == 1 and not np.any(codes[0] % 2):
        # Counted in halves, of which none is left over.
        codes, scales = [codes[0] // 2], [2 * scales[0]]
    start, step, top = 0, 1, max(one.max() for one in codes)
    if top > 127 or min(one.min() for one in codes) < -128:
        # Odd numbers up to 255 on either side, or numbers from 0 to 255.
        step = 2 if np.any(codes[0] < 0) else 1
        start = 1 if step == 2 else 128
        codes = [(one - start) // step for one in codes]
    if any(one.min() < -128 or one.max() > 127 for one in codes):
        raise InputError(
            f"the kernel of {path} has whole numbers up to {top} with {bits} bits: at "
            "most 255 are packed"
        )
    small = tuple(jnp.asarray(one.astype(np.int8)) for one in codes)
    return PackedKernel(small, tuple(map(jnp.asarray, scales)), start, step, whole)


def _as_stored(leaf: Any) -> Any:
    if is_packed(leaf) or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return jnp.asarray(leaf, jnp.float32)
