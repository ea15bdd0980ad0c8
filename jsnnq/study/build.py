"""From a `Config` to objects: the one room where config meets code.

Everything a config can get wrong is refused here, before anything compiles.
"""

import functools
import re
from typing import Any

from jsnnq.config import BinaryNetworkConfig, Config, NetworkConfig, NeuronConfig, Rule
from jsnnq.data import batches, sets
from jsnnq.errors import check_integer, choose
from jsnnq.networks import bnn, sew, surrogate
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.networks.rules import Rules
from jsnnq.quantizers import identity
from jsnnq.quantizers.base import PLACES
from jsnnq.runtime import parallel
from jsnnq.study.optimizer import optimizer
from jsnnq.training.step import Program
from jsnnq.workflow import freezing as windows
from jsnnq.workflow.fit import shared_by
from jsnnq.workflow.freezing import Window
from jsnnq.workflow.quantize import check_matches, rules_of
from jsnnq.workflow.specification import DTYPES


def neuron(config: NeuronConfig) -> Neuron:
    """The neurons a config describes."""
    choose("surrogate", config.surrogate, surrogate.SURROGATES)
    make, fields = surrogate.SURROGATES[config.surrogate], dict(vars(config))
    alpha = fields.pop("alpha")
    fields["surrogate"] = make() if alpha is None else make(alpha)
    return Neuron(**fields)


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
    net = _quantized(float_network(config.network, classes), config)
    check_matches(rules_of(net), net.known_layers())
    sew.check_quantizers(net)
    layers, epochs = net.known_layers(), config.training.epochs
    return windows.scheduled(net, layers, epochs, steps_per_epoch)


def freezing(
    config: Config, net: ResidualNetwork, steps_per_epoch: int | None
) -> dict[str, Window]:
    """When each layer of a row's network is frozen: its window by the kernel's path.

    Args:
        config: the row; without StoMPP among its rules nothing is frozen.
        net: its network.
        steps_per_epoch: without it, windows are of one step and mean nothing.

    Raises:
        InputError: the order is no order of these layers, or too few steps are left.
    """
    net = _quantized(net, config)
    layers, epochs = net.known_layers(), config.training.epochs
    return windows.freezing(net, layers, epochs, steps_per_epoch)


def _quantized(net: ResidualNetwork, config: Config) -> ResidualNetwork:
    """The network with the quantizers of a row, whose windows may be open."""
    return net.with_rules({p: _rules(getattr(config, p)) for p in PLACES})


def _rules(rules: tuple[Rule, ...]) -> Rules:
    """The rules of a config, in which what stays float has a quantizer too."""
    return Rules(tuple((pattern, one or identity) for pattern, one in rules))


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


def decisions(config: Config, net: ResidualNetwork) -> list[tuple[str, str, str]]:
    """What each layer got: its path, and the quantizers of kernel and what is inner.

    That is the membranes of the neurons behind the kernel, or the activations in front
    of it; where there are none, the entry is empty.
    """

    words = lambda one: "float" if one == identity else str(one)
    weights = _rules(config.weights)
    inner = _rules(config.membranes if config.spikes else config.activations)
    layers = net.neuron_layers() or net.activation_layers()
    activations = functools.partial(re.sub, r"/conv(\d)$", r"/act\1")
    beside = sew.neurons_of if config.spikes else activations
    found = []
    for kernel in net.kernel_layers():
        other = beside(kernel)
        word = words(inner(other)) if other in layers else ""
        found.append((kernel, words(weights(kernel)), word))
    return found


def program(
    config: Config,
    dataset: sets.DataSet,
    devices: parallel.Devices = (),
    eval_batch: int | None = None,
) -> Program:
    """What a row compiles to.

    Args:
        config: the row.
        dataset: its images.
        devices: as many of them as divide the batch share it, if that is worth the
            waiting for one another; by default one does it all.
        eval_batch: images per call of an evaluation; by default as many as fit.
    """
    training = config.training
    check_integer("batch", training.batch)
    check_integer("calibration", config.calibration)
    if eval_batch is not None:
        check_integer("eval_batch", eval_batch)
    steps_per_epoch = batches.steps_per_epoch(len(dataset.train), training.batch)
    net = network(config, dataset.classes, steps_per_epoch)
    latent = tuple(p for p in net.kernel_layers() if net.weights(p) != identity)
    return Program(
        network=net,
        optimizer=optimizer(training, steps_per_epoch, latent),
        batch=training.batch,
        preprocessing=dataset.preprocessing,
        pad=dataset.pad if training.augment else 0,
        flip=dataset.flip and training.augment,
        mesh=shared_by(devices, training.batch, dataset.image_shape),
        eval_batch=eval_batch,
    )
