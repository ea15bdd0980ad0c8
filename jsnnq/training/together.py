"""Several runs of one program as one, along a first axis of everything they own.

Runs share a program if they differ in seeds and in what travels in the state: clips,
levels and bits of quantizers. One alone keeps its shapes, and its program.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jsnnq.data import batches, sets
from jsnnq.data.streams import Records
from jsnnq.errors import InputError
from jsnnq.training.step import Program, TrainState, jitted, keys

_SHARE = 128
"""Of the memory of an accelerator runs that are made together take this part at most.

What is gained is the time in which a small program starts its operations: 16 runs of
SEW-ResNet8 on digits are as many operations on a GPU as one. One that takes more moves
about ten times as many bytes a step, which lasts longer than that, and several at once
move more than one after the other, as convolutions with a kernel for each run want
other layouts (4 runs of SEW-ResNet8 on CIFAR 1.7 times as many)."""


def shared(program: Program, split: sets.Split | Records) -> bool:
    """Whether runs of a program can be made together at all.

    Not where several devices share a batch, which are busy with one run, and not where
    images are read from the host, which one run waits for already.
    """
    return program.mesh is None and not isinstance(split, Records)


def check(program: Program, steps: Sequence[int], split: sets.Split | Records) -> None:
    """Refuses runs that cannot be made together.

    Args:
        program: of all of them.
        steps: where each of them is.
        split: the training images.

    Raises:
        InputError: their steps differ, or `shared` says no.
    """
    if len(steps) == 1:
        return
    if not shared(program, split):
        raise InputError(
            f"{len(steps)} runs cannot be trained together where devices share a batch "
            "or images are read from disk: train them one by one, or on one device "
            "with a data set that fits on it"
        )
    if len(set(steps)) != 1:
        raise InputError(
            f"runs are at the steps {', '.join(map(str, steps))}: those that are "
            "trained together have made the same number of steps"
        )


def pack(trees: Sequence[Any]) -> Any:
    """Trees of equal shapes as one with a first axis; one tree as it is."""
    return trees[0] if len(trees) == 1 else _stacked(list(trees))


def part(tree: Any, number: int, count: int) -> Any:
    """One of so many trees that `pack` made one of."""
    return tree if count == 1 else _taken(tree, number)


# Compiled as one: by itself every shape would be a compilation.
@jax.jit
def _stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _taken(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


def shapes(
    state: TrainState,
    split: sets.Split,
    count: int,
    where: NamedSharding | None = None,
) -> tuple[Any, ...]:
    """What `step.jitted` takes for so many runs, as shapes and dtypes.

    Args:
        state: of one of them; shapes and dtypes are enough.
        split: the training images.
        count: how many runs.
        where: the arrays lie.
    """
    order = jax.ShapeDtypeStruct((len(split),), jnp.int32)
    owned = state, order, jax.eval_shape(lambda: keys(0).augment)
    state, order, key = jax.eval_shape(pack, [owned] * count)
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    data = batches.hold(split.images, split.labels)
    placed = jax.tree.map(like, (state, data, order))
    return *placed, key


def ends(steps_per_epoch: int, looks: int) -> list[int]:
    """After which steps of an epoch somebody looks, evenly and at its end."""
    # Each place is rounded up on its own, so that none is lost where none falls on a
    # whole step.
    parts = min(looks, steps_per_epoch)
    return [-(-steps_per_epoch * k // parts) for k in range(1, parts + 1)]


def fitting(
    program: Program,
    state: TrainState,
    split: sets.Split | Records,
    most: int,
    *,
    looks: int = 1,
    memory: int | None = None,
) -> int:
    """How many of so many runs are made together, by the memory they need.

    All of them or, as often as that is too much, half. What is chosen is compiled then.

    Args:
        program: of all runs.
        state: of one; shapes and dtypes are enough.
        split: the training images.
        most: how many runs there are.
        looks: in an epoch.
        memory: bytes of the device; by default those of the first. One that does not
            tell makes one run at a time.
    """
    memory = _memory() if memory is None else memory
    count = most if memory and shared(program, split) else 1
    while count > 1 and _needed(program, state, split, count, looks) > memory / _SHARE:
        count //= 2
    return count


def _memory() -> int:
    """Bytes of memory of the first device; 0 if it does not tell."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)


def _needed(program, state, split, count, looks) -> float:
    """Bytes that the scan of steps takes for what it computes, as the compiler says."""
    given = shapes(state, split, count)
    length = ends(len(split) // program.batch, looks)[0]
    scan = jitted(program, together=count > 1).epoch
    try:
        memory = scan.lower(*given, length=length).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    return memory.temp_size_in_bytes
