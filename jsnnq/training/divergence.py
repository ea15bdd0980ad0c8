"""A training whose numbers did not stay finite: at which step, and in which layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import ArrayLike, Int, UInt8

from jsnnq.data import batches
from jsnnq.runtime import parallel
from jsnnq.training.step import Program, TrainState, jitted, loss_and_changes


class Diverged(RuntimeError):
    """A loss or gradient was not finite.

    Attributes:
        step: the step at which it happened, counted from 0.
        last_good: the state before that step, all finite.
    """

    def __init__(self, message: str, step: int, last_good: TrainState):
        super().__init__(message)
        self.step = step
        self.last_good = last_good


def explain(
    program: Program,
    state: TrainState,
    images: UInt8[ArrayLike, "B H W C"],
    labels: Int[ArrayLike, "B"],
    key: jax.Array,
) -> Diverged:
    """Replays a step once and says in which layer numbers stopped being finite.

    Args:
        program, state, key: of `step.next_step`.
        images: of the step, as stored, not augmented.
        labels: their classes.

    Returns:
        The exception to raise.
    """
    number = int(state.step)
    key = jax.random.fold_in(key, number)
    given = (state, jnp.asarray(images), jnp.asarray(labels))
    state, pixels, classes = parallel.home(given, program.mesh)
    program = dataclasses.replace(program, mesh=None)
    shown = batches.augment(key, pixels, pad=program.pad, flip=program.flip)
    where = (
        _first_bad_output(program, state, shown)
        or _last_bad_gradient(program, state, shown, classes)
        or _bad_update(
            program, jitted(program).train_step(state, pixels, classes, key)[0]
        )
    )
    return Diverged(
        f"training stopped at step {number}: {where} is not finite; the state before "
        "that step is kept; try a lower learning rate or a warm-up",
        number,
        state,
    )


def _first_bad_output(program, state, images):
    found: Any = program.network.apply(
        state.variables,
        program.inputs(images),
        True,
        mutable=["batch_stats", "quant", "intermediates"],
        capture_intermediates=lambda module, method: (
            module.name is not None and method == "__call__"
        ),
    )
    bad = _bad(program, found[1]["intermediates"])
    return f"the output of {bad[0]}" if bad else None


def _last_bad_gradient(program, state, images, labels):
    gradients = jax.grad(
        lambda params: loss_and_changes(program, state, params, images, labels)[0]
    )(state.params)
    bad = _bad(program, gradients)
    # Gradients flow backwards: the last layer in the order of the data was hit first.
    return f"the gradient of {bad[-1]}" if bad else None


def _bad_update(program, new):
    bad = _bad(program, new.batch_stats, new.params)
    return f"the updated {bad[0]}" if bad else "a quantizer's state"


def _bad(program, *trees):
    """Paths of what is not finite, in the order in which the data meet their layers."""
    order = program.network.layers_in_order()

    def place(path):
        inside = [i for i, layer in enumerate(order) if path.startswith(layer)]
        return max(inside, default=len(order))

    leaves = {
        "/".join(name for name in path if name != "__call__"): jax.tree.leaves(value)
        for tree in trees
        for path, value in flatten_dict(tree).items()
    }
    finite = lambda values: all(bool(jnp.all(jnp.isfinite(x))) for x in values)
    return sorted((path for path in leaves if not finite(leaves[path])), key=place)
