"""From a `Config` to objects: the one room where config meets code.

Everything a config can get wrong is refused here, before anything compiles.
"""

import dataclasses
import functools
import re
import warnings
from typing import Any, cast

import jax
import jax.numpy as jnp

from jsnnq.config import BinaryNetworkConfig, Config, NetworkConfig, NeuronConfig, Rule
from jsnnq.data import batches, sets
from jsnnq.errors import InputError, check_integer, choose
from jsnnq.networks import bnn, sew, surrogate
from jsnnq.networks.layers import Rules
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.networks.sew import SEWResNet
from jsnnq.quantizers import StoMPP, identity
from jsnnq.quantizers.stompp import bernoulli_lag, windows
from jsnnq.runtime import parallel
from jsnnq.runtime.compiling import once
from jsnnq.study.optimizer import optimizer
from jsnnq.training.step import Program

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


def neuron(config: NeuronConfig) -> Neuron:
    """The neurons a config describes."""
    choose("surrogate", config.surrogate, surrogate.SURROGATES)
    make, fields = surrogate.SURROGATES[config.surrogate], dict(vars(config))
    alpha = fields.pop("alpha")
    fields["surrogate"] = make() if alpha is None else make(alpha)
    return Neuron(**fields)


_WORTH_SHARING = 2**13
"""Pixels in a device's part of a batch: eight images of CIFAR's size."""

Window = tuple[int, int]
"""First step and number of steps in which a layer is frozen (StoMPP)."""


def network(
    config: Config, classes: int, steps_per_epoch: int | None = None
) -> ResidualNetwork:
    """The network of a row, with its quantizers.

    Args:
        config: the row.
        classes: of its data set.
        steps_per_epoch: places the windows of StoMPP; without it the network can be
            evaluated with the states of a trained one.

    Raises:
        InputError: a name is unknown, a number out of range, or a rule matches no
            layer.
    """
    net = float_network(config.network, classes)
    places = (
        ("weights", net.kernel_layers()),
        ("membranes", net.neuron_layers()),
        ("activations", net.activation_layers()),
    )
    for place, layers in places:
        _check_rules(place, getattr(config, place), layers)
    found = freezing(config, net, steps_per_epoch)
    weights, membranes, activations = (
        _windowed(_rules(getattr(config, place)), layers, found)
        for place, layers in places
    )
    net = net.with_rules(weights, membranes if config.spikes else activations)
    if isinstance(net, SEWResNet):
        _check_shared(net)
        sew.warn_of_missing_levels(net)
    return net


def freezing(
    config: Config, net: ResidualNetwork, steps_per_epoch: int | None
) -> dict[str, Window]:
    """When each layer of a network is frozen: its window under the kernel's path.

    A kernel and the activation it reads are one layer and share a window: the one that
    is given, or a part of the training's steps less warm-up and tail.

    Args:
        config: the row; without StoMPP among its rules nothing is frozen.
        net: its network.
        steps_per_epoch: without it, windows are of one step and mean nothing.

    Raises:
        InputError: the order is no order of these layers, or too few steps are left.
    """
    by_kernel = {}
    for rules, paths in (
        (_rules(config.weights), net.kernel_layers()),
        (_rules(config.activations), net.activation_layers()),
    ):
        for path in paths:
            if isinstance(one := rules(path), StoMPP):
                by_kernel[_kernel_of(path)] = one
    layers = [path for path in net.kernel_layers() if path in by_kernel]
    if steps_per_epoch is None:
        return {path: by_kernel[path].window or (0, 1) for path in layers}
    steps = config.training.epochs * steps_per_epoch
    placed = {
        one: _placed(one, len(layers), steps, steps_per_epoch)
        for one in set(by_kernel.values())
        if one.window is None
    }
    return {
        path: by_kernel[path].window or placed[by_kernel[path]][k]
        for k, path in enumerate(layers)
    }


def _placed(config, layers, steps, steps_per_epoch):
    """The windows of all layers between warm-up and tail."""
    warmup = round(config.warmup * steps_per_epoch)
    if config.tail is None:
        tail = max(-(-steps // 20), steps_per_epoch)
    else:
        tail = round(config.tail * steps_per_epoch)
    left = steps - warmup - tail
    if left < 1:
        raise InputError(
            f"{steps} steps of training leave none for freezing beside {warmup} of "
            f"warm-up and {tail} of tail: train for more epochs, or set a shorter tail"
        )
    found = windows(left, layers, config.order)
    shortest = min(length for _, length in found)
    if config.law == "bernoulli" and config.refresh > shortest / 10:
        lag = bernoulli_lag(config.schedule, config.refresh, shortest)
        warnings.warn(
            f"bernoulli masks lag: with refresh {config.refresh} and windows of "
            f"{shortest} steps {100 * lag:.0f} % are expected to be open still when a "
            "window ends, and are frozen at once; use a smaller refresh, more steps, "
            "or the law 'soft'",
            stacklevel=2,
        )
    return [(warmup + start, length) for start, length in found]


def _rules(rules: tuple[Rule, ...]) -> Rules:
    """The rules of a config, in which what stays float has a quantizer too."""
    return Rules(tuple((pattern, one or identity) for pattern, one in rules))


def _kernel_of(path: str) -> str:
    """The kernel that reads an activation; a kernel's path stays as it is."""
    return re.sub(r"/act(\d)$", r"/conv\1", path)


def float_network(
    config: NetworkConfig | BinaryNetworkConfig, classes: int
) -> ResidualNetwork:
    """The network without quantizers."""
    choose("dtype", config.dtype, DTYPES)
    choose("network", config.name, [*sew.SIZES, *bnn.SIZES])
    fields: dict[str, Any] = vars(config) | {"classes": classes}
    fields["dtype"] = DTYPES[config.dtype]
    if isinstance(config, BinaryNetworkConfig):
        return bnn.binary_resnet(**fields)
    fields["neuron"] = neuron(config.neuron)
    return sew.sew_resnet(**fields)


def _neurons_of(kernel: str) -> str:
    return re.sub(r"conv(\d?)$", r"sn\1", kernel)


def _check_rules(what, rules, layers):
    for pattern, _ in rules:
        try:
            matches = any(re.fullmatch(pattern, layer) for layer in layers)
        except re.error as error:
            raise InputError(
                f"the {what} rule {pattern!r} is no regular expression: {error}"
            ) from error
        if not matches:
            there = f"there are {', '.join(layers)}" if layers else "there are none"
            raise InputError(f"the {what} rule {pattern!r} matches no layer: {there}")


def _windowed(rules, layers, found):
    """The rules, with a window of its own for each layer that is frozen."""
    built = []
    for pattern, one in rules.rules:
        if isinstance(one, StoMPP):
            for layer in layers:
                if rules(layer) is one:
                    window = found.get(_kernel_of(layer), (0, 1))
                    own = dataclasses.replace(one, window=window)
                    built.append((re.escape(layer), own))
        else:
            built.append((pattern, one))
    return Rules(tuple(built))


def _check_shared(net):
    for kernel in net.kernel_layers()[:-1]:
        layer = _neurons_of(kernel)
        if net.membranes(layer).shared and not net.weights(kernel).trainable:
            raise InputError(
                f"the membranes of {layer} share MINT's scale with {kernel}, whose "
                "weights are not quantized by MINT: quantize both, or use shared=False"
            )


def decisions(config: Config, net: ResidualNetwork) -> list[tuple[str, str, str]]:
    """What each layer got: its path, and the quantizers of kernel and what is inner.

    That is the membranes of the neurons behind the kernel, or the activations in front
    of it; where there are none, the entry is empty.
    """

    words = lambda one: "float" if one == identity else str(one)
    weights = _rules(config.weights)
    inner = _rules(config.membranes if config.spikes else config.activations)
    activations = functools.partial(re.sub, r"/conv(\d)$", r"/act\1")
    beside = _neurons_of if config.spikes else activations
    found = []
    for kernel in net.kernel_layers():
        other = beside(kernel)
        word = words(inner(other)) if other in net.inner_layers() else ""
        found.append((kernel, words(weights(kernel)), word))
    return found


def program(
    config: Config, dataset: sets.DataSet, devices: parallel.Devices = ()
) -> Program:
    """What a row compiles to.

    Args:
        config: the row.
        dataset: its images.
        devices: as many of them as divide the batch share it, if that is worth the
            waiting for one another; by default one does it all.
    """
    training = config.training
    check_integer("batch", training.batch)
    check_integer("calibration", config.calibration)
    steps_per_epoch = batches.steps_per_epoch(len(dataset.train), training.batch)
    net = network(config, dataset.classes, steps_per_epoch)
    latent = tuple(p for p in net.kernel_layers() if net.weights(p) != identity)
    height, width, _ = dataset.image_shape
    most = min(len(devices), training.batch * height * width // _WORTH_SHARING)
    return Program(
        network=net,
        optimizer=optimizer(training, steps_per_epoch, latent),
        batch=training.batch,
        preprocessing=dataset.preprocessing,
        pad=dataset.pad if training.augment else 0,
        flip=dataset.flip and training.augment,
        mesh=parallel.mesh(devices[:most], training.batch) if most > 1 else None,
    )


def initial_variables(
    net: ResidualNetwork, key: jax.Array, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Parameters and running statistics of a network without quantizers."""
    return _initializer(cast(Any, net), image_shape)(key)


def abstract_variables(
    net: ResidualNetwork, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The shapes and dtypes of `initial_variables`, without computing them."""
    start = functools.partial(initial_variables, net, image_shape=image_shape)
    return jax.eval_shape(start, jax.random.key(0))


@functools.cache
def _initializer(net, image_shape):
    return once(lambda key: dict(net.init(key, jnp.zeros((1, *image_shape)))))
