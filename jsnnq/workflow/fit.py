"""Training a network on a data set with any optimizer of optax."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optax
from jax.sharding import Mesh

from jsnnq.data import batches
from jsnnq.data.arrays import DataSet
from jsnnq.errors import check_integer, check_seed
from jsnnq.networks.network import Network, input_shape
from jsnnq.runtime import files, parallel, programs
from jsnnq.training import step
from jsnnq.training.monitor import Monitor
from jsnnq.training.resume import train
from jsnnq.training.step import Program, TrainState
from jsnnq.workflow.freezing import scheduled
from jsnnq.workflow.quantize import check_matches, rules_of
from jsnnq.workflow.specification import specify
from jsnnq.workflow.state import State, check_architecture, check_fits
from jsnnq.workflow.state import start as first_variables

_WORTH_SHARING = 2**13
"""Pixels in a device's part of a batch: eight images of CIFAR's size."""


def fit(
    net: Network,
    data: DataSet,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch: int = 128,
    seed: int = 0,
    start: State | Mapping[str, Any] | None = None,
    calibration: int = 256,
    resume: str | Path | None = None,
    on_step: Callable[[int, float, float], None] | None = None,
    on_epoch: Callable[[int, State], None] | None = None,
    devices: parallel.Devices = (),
    quiet: bool = False,
) -> State:
    """Trains a network, from random numbers or from a state.

    The loss is the mean cross-entropy of logits averaged over timesteps. Which images
    belong to a step, how they are shifted and what a quantizer draws follows from the
    seed and the step's number.

    What is compiled is kept for the next process, see `jsnnq.runtime.programs`.

    Args:
        net: the network, with its quantizers if it has some.
        data: from `from_arrays` or `load_data`.
        optimizer: any transformation of optax; a schedule goes in through it, in steps
            (`len(data.train) // batch` of them are an epoch).
        epochs: passes over the training images.
        batch: images per step; what is left over of an epoch is dropped.
        seed: from 0 to 2^32 - 1; decides start, order, augmentation and masks.
        start: a state, or variables, to start from. Quantizers that it does not have
            start from its numbers; the optimizer starts anew.
        calibration: training images that quantizers may look at when they start.
        resume: a folder in which the training is kept. Stopped at any moment, by
            Ctrl-C or a kill, the same call continues it; one that is done is read back.
        on_step: called after every step with its number from 1, loss and accuracy.
        on_epoch: called after every epoch with its number from 1 and the state.
        devices: that share a batch, from `jax.devices()`; by default the first alone.
        quiet: show no progress.

    Returns:
        The trained state; `net.apply(state.variables, state.inputs(images))`.

    Raises:
        InputError: something that is given does not fit; before anything compiles.
        Diverged: a loss or gradient was not finite.

    Example:
        >>> import jsnnq, optax
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> state = jsnnq.fit(net, data, optax.adam(0.01), epochs=1, batch=256)
        >>> int(state.step)
        4
    """
    check_fits(net, data)
    epochs, seed = check_integer("epochs", epochs), check_seed(seed)
    steps_per_epoch = batches.steps_per_epoch(
        len(data.train), batch := check_integer("batch", batch)
    )
    programs.keep()
    as_state = lambda training: State(
        training, net, data.preprocessing, data.image_shape
    )
    layers = net.layers(input_shape(data.image_shape))
    check_matches(rules_of(net), layers)
    placed = scheduled(net, layers, epochs, steps_per_epoch)
    mesh = shared_by(devices, batch, data.image_shape)
    program = _program(placed, data, optimizer, batch, mesh)
    if start is not None:
        check_architecture(net, start, data.image_shape)
    folder = None if resume is None else Path(resume)
    if folder is not None:
        files.claim(
            folder,
            "fit.json",
            {
                "network": specify(net),
                "data": data.note,
                "epochs": epochs,
                "batch": batch,
                "seed": seed,
                "calibration": calibration,
            },
        )
    variables = first_variables(
        placed, data, seed=seed, given=start, calibration=calibration
    )
    announce = lambda training: None
    if on_epoch is not None:
        announce = lambda training: on_epoch(
            int(training.step) // steps_per_epoch, as_state(training)
        )
    with Monitor(
        "" if folder is None else folder.name, folder, quiet, on_step
    ) as monitor:
        trained, _ = train(
            program,
            step.start(program, variables),
            data.train,
            folder,
            seed=seed,
            epochs=epochs,
            monitor=monitor,
            on_epoch=announce,
            keep_end=True,
        )
    return as_state(trained)


def train_step(
    net: Network, optimizer: optax.GradientTransformation, data: DataSet
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """The step that `fit` makes, pure and not yet compiled: for loops of one's own.

    Args:
        net: the network; layers that StoMPP freezes have windows of their own.
        optimizer: any transformation of optax.
        data: how pixels are seen, shifted and mirrored.

    Returns:
        From a state (of `train_state`), images as they are stored, `B H W C` or
        `B T H W C`, their classes `B` and a key to the next state and `loss`,
        `accuracy` and `finite`, whether all numbers are.

    Example:
        >>> import jax, jsnnq, optax
        >>> data, rule = jsnnq.load_data("synthetic"), optax.sgd(0.1)
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> step = jax.jit(jsnnq.train_step(net, rule, data))
        >>> images, labels = data.train.read(range(4))
        >>> state = jsnnq.train_state(net, rule, data)
        >>> state, numbers = step(state, images, labels, jax.random.key(0))
        >>> int(state.step), bool(numbers["finite"])
        (1, True)
    """
    check_fits(net, data)
    return functools.partial(step.train_step, _program(net, data, optimizer))


def train_state(
    net: Network,
    optimizer: optax.GradientTransformation,
    data: DataSet,
    *,
    seed: int = 0,
    start: State | Mapping[str, Any] | None = None,
    calibration: int = 256,
) -> TrainState:
    """The state before the first `train_step`; its arguments are those of `fit`.

    Example:
        >>> import optax
        >>> data, rule = jsnnq.load_data("synthetic"), optax.sgd(0.1)
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> sorted(jsnnq.train_state(net, rule, data).variables)
        ['batch_stats', 'params', 'quant']
    """
    check_fits(net, data)
    variables = first_variables(
        net, data, seed=seed, given=start, calibration=calibration
    )
    return step.start(_program(net, data, optimizer), variables)


def _program(net, data, optimizer, batch=1, mesh=None) -> Program:
    """What is compiled; the batch matters only where images are taken from a split."""
    return Program(
        network=net,
        optimizer=optimizer,
        batch=batch,
        preprocessing=data.preprocessing,
        pad=data.pad,
        flip=data.flip,
        mesh=mesh,
    )


def shared_by(
    devices: parallel.Devices, batch: int, image_shape: tuple[int, ...]
) -> Mesh | None:
    """Those devices that share a batch: as many as divide it and are worth it."""
    *_, height, width, _ = image_shape
    most = min(len(devices), batch * height * width // _WORTH_SHARING)
    return parallel.mesh(devices[:most], batch)
