"""Which programs are compiled for chips, and how one of them is made.

A program is called by what decides it: `sew_resnet18/float/step/cifar/256/1` is one
training step of SEW-ResNet18 in full precision with the stem for CIFAR, 256 images a
step, on one device.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.stompp.base import METHODS, binary
from jsnnq.analysis import evaluate
from jsnnq.config import (
    BinaryNetworkConfig,
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    TrainingConfig,
    Uniform,
    kernels,
    neurons,
)
from jsnnq.data import batches, sets
from jsnnq.errors import InputError
from jsnnq.runtime import parallel
from jsnnq.study import build
from jsnnq.training import step, together
from jsnnq.workflow.state import abstract_variables

SPIKING: dict[str, dict[str, Any]] = {
    "float": {},
    "lqnet-weights": {"weights": kernels(LQNet(2))},
    "lqnet-membranes": {"membranes": neurons(LQNet(2))},
    "uniform-membranes": {"membranes": neurons(Uniform(2, grid="unsigned"))},
    "mint": {"weights": kernels(Mint(4)), "membranes": neurons(Mint(4))},
}
"""What is quantized in spiking networks, by the word that names it."""

BINARY = ("float", "stompp", "ste")
"""Methods for networks with binary weights and activations."""

NETWORKS = {
    **dict.fromkeys(("sew_resnet8", "sew_resnet18", "sew_resnet50"), tuple(SPIKING)),
    **dict.fromkeys(("resnet18", "resnet50"), BINARY),
}
"""The methods of each network."""


class Stem(NamedTuple):
    """The images that a stem is for.

    Attributes:
        side: of an image in pixels.
        classes: of them.
        held: training images that lie on the device; 0 where they do not fit there and
            batches come from the host, one by one.
    """

    side: int
    classes: int
    held: int


STEMS = {"cifar": Stem(32, 100, 50_000), "imagenet": Stem(224, 1000, 0)}

TOGETHER = 4
"""Rows of a study that are trained as one."""

_EPOCHS = 200


class Case(NamedTuple):
    """One program.

    Attributes:
        network: a key of `NETWORKS`.
        method: how it is quantized.
        what: `step`, `epoch`, `together`, a step of `TOGETHER` rows at once, or
            `evaluation` of a batch with every neuron counted.
        stem: a key of `STEMS`.
        batch: images of a step, on all devices together.
        devices: how many share them.
        dtype: of convolutions.
    """

    network: str
    method: str = "float"
    what: str = "step"
    stem: str = "cifar"
    batch: int = 256
    devices: int = 1
    dtype: str = "bfloat16"

    def __str__(self) -> str:
        named = (self.network, self.method, self.what, self.stem, self.batch)
        return "/".join(map(str, (*named, self.devices)))

    @property
    def steps(self) -> int:
        """How often the program goes through a batch."""
        epoch = STEMS[self.stem].held // self.batch if self.what == "epoch" else 1
        return epoch * self.rows

    @property
    def rows(self) -> int:
        """How many rows of a study it trains."""
        return TOGETHER if self.what == "together" else 1

    @property
    def exists(self) -> bool:
        """Whether anybody can run it."""
        # Both take their batches from images on the device.
        held = bool(STEMS[self.stem].held) or self.what not in ("epoch", "together")
        return held and (self.what != "together" or self.devices == 1)


def every(dtype: str = "bfloat16") -> list[Case]:
    """All programs; whole days of compiling."""
    found = []
    for network, methods in NETWORKS.items():
        axes = (
            methods,
            ("step", "epoch", "together", "evaluation"),
            STEMS,
            (128, 256, 512),
            (1, 4),
        )
        for one in itertools.product(*axes):
            case = Case(network, *one, dtype)
            if case.exists:
                found.append(case)
    return found


def usual(dtype: str = "bfloat16") -> list[Case]:
    """Those that differ from a step of 256 images on one device in one thing only."""
    plain = {network: Case(network, dtype=dtype) for network in NETWORKS}

    def differs(case):
        pairs = zip(case, plain[case.network], strict=True)
        return sum(a != b for a, b in pairs)

    return [case for case in every(dtype) if differs(case) <= 1]


def chosen(patterns: Sequence[str], dtype: str = "bfloat16") -> list[Case]:
    """The programs whose whole name one of these regular expressions matches.

    Args:
        patterns: without any, the usual ones.
        dtype: of convolutions.

    Raises:
        InputError: one of them is no expression, or matches nothing.
    """
    cases, found = every(dtype), set()
    for pattern in patterns:
        try:
            matching = {case for case in cases if re.fullmatch(pattern, str(case))}
        except re.error as error:
            raise InputError(f"{pattern!r} is no regular expression: {error}") from None
        if not matching:
            raise InputError(
                f"no program is called {pattern!r}: names are such as {cases[0]}, and "
                "--list prints those that are compiled by default"
            )
        found |= matching
    return [case for case in cases if case in found] if patterns else usual(dtype)


def config(case: Case) -> Config:
    """The row of an experiment whose program it is."""
    common: dict[str, Any] = dict(name=case.network, stem=case.stem, dtype=case.dtype)
    training = TrainingConfig(epochs=_EPOCHS, batch=case.batch, weight_decay=5e-4)
    if case.network.startswith("sew"):
        network = NetworkConfig(**common)
        quantized = SPIKING[case.method]
        return Config(network=network, training=training, **quantized)
    base = Config(network=BinaryNetworkConfig(**common), training=training)
    return base if case.method == "float" else binary(base, *METHODS[case.method])


def images(stem: Stem) -> sets.DataSet:
    """A data set of which only the shapes are looked at."""
    count = stem.held or 2048

    def split(size):
        # Its pixels are one zero, read again and again.
        shape = (size, stem.side, stem.side, 3)
        return sets.Split(np.broadcast_to(np.uint8(0), shape), np.zeros(size, np.int32))

    same: dict[str, Any] = dict(mean=(0.5,) * 3, std=(0.25,) * 3, scale=255.0)
    return sets.DataSet(
        "shapes", stem.classes, (stem.side, stem.side, 3), split(count), split(1000),
        pad=stem.side // 8, flip=True, note="", **same,
    )  # fmt: skip


def traced(
    case: Case,
    devices: Sequence[Any],
    row: Config | None = None,
    dataset: sets.DataSet | None = None,
) -> Any:
    """The program for devices that need not be there, ready to be lowered.

    Args:
        case: which program.
        devices: as many as it says, from `chips.devices`.
        row: another one than that of the case.
        dataset: images of other shapes than those of the stem.
    """
    dataset = dataset or images(STEMS[case.stem])
    program = build.program(row or config(case), dataset)
    program = dataclasses.replace(program, mesh=parallel.mesh(devices, case.batch))
    place = parallel.placement(program.mesh)
    place = place or jax.sharding.SingleDeviceSharding(devices[0])
    put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    array = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    variables = abstract_variables(program.network, dataset.image_shape)
    batch = (
        array(dataset.dtype, case.batch, *dataset.image_shape),
        array(jnp.int32, case.batch),
    )
    if case.what == "evaluation":
        observer = evaluate._observer(
            program.network, program.preprocessing, program.mesh
        )
        return observer.trace(
            jax.tree.map(put, variables), (*batch, array(bool, case.batch))
        )
    state = jax.eval_shape(functools.partial(step.start, program), variables)
    key = put(jax.eval_shape(lambda: step.keys(0).augment))
    if case.what == "together":
        given = together.shapes(state, dataset.train, case.rows)
        one = step.jitted(program, together=True).next_step
        return one.trace(*jax.tree.map(put, given))
    state, functions = jax.tree.map(put, state), step.jitted(program)
    if not STEMS[case.stem].held:
        return functions.train_step.trace(state, *batch, key)
    size = len(dataset.train)
    stored = array(dataset.dtype, size, *dataset.image_shape), array(jnp.int32, size)
    data = jax.tree.map(put, jax.eval_shape(batches.hold, *stored))
    order = array(jnp.int32, size)
    if case.what == "step":
        return functions.next_step.trace(state, data, order, key)
    return functions.epoch.trace(state, data, order, key, length=size // case.batch)
