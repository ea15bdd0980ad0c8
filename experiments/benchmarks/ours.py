"""What is timed of jsnnq: steps and evaluations of a row, ready to run."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.config import Config, NetworkConfig, TrainingConfig
from jsnnq.data import sets
from jsnnq.networks import readout
from jsnnq.networks.network import observe
from jsnnq.runtime import parallel
from jsnnq.study import build, run
from jsnnq.training import loop, step

from .timing import Work


def spiking(
    batch: int,
    width: float,
    timesteps: int = 4,
    dtype: str = "float32",
    **quantizers: Any,
) -> Config:
    """SEW-ResNet18 with CIFAR's stem under SGD, as the peers are built."""
    return Config(
        data="synthetic",
        network=NetworkConfig(
            name="sew_resnet18", width=width, timesteps=timesteps, dtype=dtype
        ),
        training=TrainingConfig(
            epochs=1, batch=batch, optimizer="sgd", rate=0.1, schedule="constant",
            augment=False,
        ),
        **quantizers,
    )  # fmt: skip


@functools.cache
def images(count: int = 2048) -> sets.DataSet:
    """Random images of CIFAR's size; what is in them does not change the time."""
    small = sets.synthetic((32, 32, 3))
    again = np.arange(count) % len(small.train.labels)
    split = sets.Split(small.train.images[again], small.train.labels[again])
    return dataclasses.replace(small, train=split)


def begun(
    config: Config, devices: int = 1, dataset: sets.DataSet | None = None
) -> tuple[step.Program, step.TrainState]:
    """A row's program and the state before its first step, where it will run."""
    dataset = dataset or images()
    program = build.program(config, dataset, jax.devices()[:devices])
    state = run.start(program, config, dataset, seed=0)
    return program, parallel.everywhere(state, program.mesh)


def training(config: Config, devices: int = 1) -> Work:
    """One training step, from a batch of pixels to new parameters."""
    compiled, arguments = _compiled(config, devices)
    return lambda: jax.block_until_ready(compiled(*arguments))


def epoch(config: Config, count: int, devices: int = 1) -> Work:
    """A whole epoch, from images in memory to new parameters, as `fit` makes it."""
    dataset = images(count)
    program, state = begun(config, devices, dataset)
    return lambda: loop.fit(program, state, dataset.train, seed=0, epochs=1)


def flops(config: Config) -> float:
    """Operations of a training step, as XLA counts them on one device.

    Those of plain convolutions, as an accelerator computes them; the forms a CPU gets
    have fewer.
    """
    program = build.program(config, images())
    state = run.start(program, config, images(), seed=0)
    pixels, labels = images().train.read(np.arange(program.batch))
    arguments = (state, jnp.asarray(pixels), jnp.asarray(labels), jax.random.key(0))
    traced = step.jitted(program).train_step.trace(*arguments)
    lowered = traced.lower(lowering_platforms=("tpu",))
    return lowered.cost_analysis()["flops"]


def product(dtype: str) -> tuple[Work, float]:
    """A large matrix product, and its operations: the rate that this device has."""
    size = 2048 if jax.default_backend() == "cpu" else 16384
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    work = jax.jit(lambda x: x @ x)
    return lambda: work(x).block_until_ready(), 2.0 * size**3


def memory(config: Config, devices: int = 1) -> int:
    """Bytes a compiled step needs beside its arguments, as XLA states them."""
    return _compiled(config, devices)[0].memory_analysis().temp_size_in_bytes


def _compiled(config, devices):
    """A row's compiled step, and what it is called with."""
    program, state = begun(config, devices)
    pixels, labels = images().train.read(np.arange(program.batch))
    arguments = (state, jnp.asarray(pixels), jnp.asarray(labels), jax.random.key(0))
    return step.jitted(program).train_step.lower(*arguments).compile(), arguments


def predicting(config: Config, devices: int = 1) -> Work:
    """The evaluation of one batch: logits and accuracy, nothing of the firing."""
    program, state = begun(config, devices)
    variables = state.variables

    def correct(variables, batch):
        pixels, labels = batch
        logits, _ = observe(program.network, variables, program.inputs(pixels))
        return parallel.total(jnp.sum(readout.correct(readout.readout(logits), labels)))

    pixels, labels = images().train.read(np.arange(program.batch))
    batch = (jnp.asarray(pixels), jnp.asarray(labels))
    work = jax.jit(parallel.spread(correct, program.mesh))
    return lambda: work(variables, batch).block_until_ready()


def evaluating(config: Config, devices: int = 1) -> Work:
    """The same with the spikes of every neuron counted, as `evaluate` does it."""
    from jsnnq.analysis import evaluate

    program, state = begun(config, devices)
    work = evaluate._observer(program.network, program.preprocessing, program.mesh)
    arrays = images().train.read(np.arange(program.batch))
    batch = (*map(jnp.asarray, arrays), jnp.ones(program.batch, bool))
    variables = state.variables
    return lambda: jax.block_until_ready(work(variables, batch))
