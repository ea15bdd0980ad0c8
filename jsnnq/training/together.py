"""Several runs of one program as one, along a first axis of everything they own.

Runs share a program if they differ in seeds and in what travels in the state: clips,
levels and bits of quantizers. One alone keeps its shapes, and its program.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jsnnq.data import sets
from jsnnq.data.streams import Records
from jsnnq.errors import InputError
from jsnnq.training.step import Program, TrainState, keys


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
    state: TrainState, split: sets.Split, count: int, where: NamedSharding | None = None
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
    placed = jax.tree.map(like, (state, (split.images, split.labels), order))
    return *placed, key
