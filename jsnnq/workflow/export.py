"""Networks that leave jsnnq, and those that come back."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jsnnq.errors import InputError, choose
from jsnnq.interop import packed
from jsnnq.interop.pack import pack
from jsnnq.networks.integers import PackedKernel, is_packed
from jsnnq.networks.layers import STATE
from jsnnq.networks.network import Network, check_network
from jsnnq.networks.normalisation import FOLDED, Affine
from jsnnq.workflow import specification
from jsnnq.workflow.state import (
    State,
    abstract_variables,
    check_state,
    read,
    written,
)

FORMATS = ("packed",)


def export(
    file: str | os.PathLike[str],
    net: Network,
    state: State | Mapping[str, Any],
    *,
    format: str = "packed",
    class_names: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> int:
    """Writes a network for those who run it, whole or not at all.

    `packed` is one file of the size of its bits: kernels with a quantizer as bit planes
    beside their scales, everything else as float32, normalisations folded, and how the
    network sees pixels. See `jsnnq.interop.packed` for its layout.

    Args:
        file: where to.
        net: the network with its quantizers.
        state: from `fit`, `calibrate` or `load`.
        format: one of `FORMATS`.
        class_names: in the order of the labels, kept with the network.
        about: JSON values that are kept beside it.

    Returns:
        The size of the file in bytes.

    Raises:
        InputError: the format is unknown, the network has a part of your own, or a
            kernel that is not whole numbers in evaluation, the state is none, or the
            file cannot be written.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
        >>> net = jsnnq.quantize(net, weights=jsnnq.lqnet(2))
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> state = jsnnq.calibrate(net, variables, data)
        >>> size = jsnnq.export("net.jsnnq", net, state)
        >>> net, state = jsnnq.import_("net.jsnnq")
        >>> jsnnq.evaluate(net, state, data).counts.images
        256
    """
    choose("format", format, FORMATS)
    check_network(net)
    known = check_state(state)
    settings = specification.specify(net)
    if own := specification.own_parts(settings):
        raise InputError(
            f"the network has {' and '.join(own)}, which jsnnq has not, and a packed "
            "file holds no code: save it as a folder, with jsnnq.save"
        )
    leaves = jax.tree.leaves(known.variables["params"], is_leaf=is_packed)
    if any(map(is_packed, leaves)):
        raise InputError(
            "the network is packed already: copy its file, or export the folder that "
            "it was made from"
        )
    variables = pack(net, known.variables, known.image_shape)
    arrays, codes, kernels = {}, {}, {}
    for path, leaf in _leaves(variables).items():
        if isinstance(leaf, PackedKernel):
            # A plane of several is one bit of the codes.
            bits = net.weights(_layer(path)).bits if len(leaf.codes) == 1 else 1
            kernels[path] = [len(leaf.codes), leaf.start, leaf.step, leaf.whole]
            for number, (plane, scale) in enumerate(
                zip(leaf.codes, leaf.scales, strict=True)
            ):
                arrays[f"{path}/{number}/codes"] = np.asarray(plane)
                codes[f"{path}/{number}/codes"] = bits
                arrays[f"{path}/{number}/scale"] = np.asarray(scale)
        else:
            arrays[path] = np.asarray(leaf)
    metadata = {
        **(about or {}),
        "network": settings,
        **written(known),
        "classes": list(class_names),
        "kernels": kernels,
    }
    return packed.write(Path(file), arrays, codes, metadata)


def import_(file: str | os.PathLike[str]) -> tuple[Network, State]:
    """Reads a packed network, whose kernels stay whole numbers; `load` does so too.

    Args:
        file: that `export` wrote.

    Returns:
        The network, and its state for `evaluate`; it cannot be trained.

    Raises:
        InputError: there is no such file, or it is another, newer, or damaged.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
        >>> net = jsnnq.quantize(net, weights=jsnnq.uniform(2))
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> state = jsnnq.calibrate(net, variables, data)
        >>> size = jsnnq.export("small.jsnnq", net, state)
        >>> net, state = jsnnq.import_("small.jsnnq")
        >>> state.variables["params"]["layer1_0"]["conv1"]["kernel"].codes[0].dtype
        dtype('int8')
    """
    arrays, about = packed.read(Path(file))
    net = specification.build(about["network"])
    found: dict[str, Any] = {path: jnp.asarray(array) for path, array in arrays.items()}
    for path, (count, *settings) in about["kernels"].items():
        planes = [
            [found.pop(f"{path}/{number}/{name}") for number in range(count)]
            for name in ("codes", "scale")
        ]
        small = tuple(one.astype(jnp.int8) for one in planes[0])
        found[path] = PackedKernel(small, tuple(planes[1]), *settings)
    like = abstract_variables(net, tuple(about["image_shape"]))
    return net, read(net, _nested(found, like), about)


def _layer(path: str) -> str:
    """The layer of `params/LAYER/kernel`."""
    return path.removeprefix("params/").rpartition("/")[0]


def _leaves(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays and packed kernels by their paths; of a state each is numbered."""
    found = {}
    for path, leaf in flatten_dict(dict(variables), sep="/").items():
        if is_packed(leaf):
            found[path] = leaf
            continue
        inside = jax.tree.leaves(leaf)
        whole = len(inside) == 1 and inside[0] is leaf
        for number, one in enumerate(inside):
            found[path if whole else f"{path}/{number}"] = one
    return found


def _nested(found: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """`_leaves` undone; what a quantizer's state is made of is asked of `like`."""
    known: Any = flatten_dict(dict(like), sep="/")
    groups: dict[str, list[Any]] = {}
    plain = {}
    for path, leaf in found.items():
        head, _, number = path.rpartition("/")
        if number.isdigit() and head.rpartition("/")[2] in (STATE, FOLDED):
            groups.setdefault(head, []).append(leaf)
        else:
            plain[path] = leaf
    for path, leaves in groups.items():
        if path.endswith(FOLDED):
            plain[path] = Affine(*leaves)
        else:
            structure = jax.tree.structure(known[path])
            plain[path] = jax.tree.unflatten(structure, leaves)
    return unflatten_dict(plain, sep="/")
