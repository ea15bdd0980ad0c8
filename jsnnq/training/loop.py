"""The loop around a step of training, from wherever a state stands.

On an accelerator a whole epoch is one jitted scan with donated buffers. On a CPU XLA
runs a convolution inside any loop 10 to 20 times slower, so there the same step is
dispatched from Python. Data that do not fit on the device are read ahead on the host.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.data import batches, sets, streams
from jsnnq.data.streams import Records
from jsnnq.runtime import parallel
from jsnnq.training import divergence
from jsnnq.training.monitor import Monitor
from jsnnq.training.step import Program, TrainState, jitted, keys


def compile_ahead(
    program: Program, state: TrainState, split: sets.Split | Records
) -> None:
    """Compiles what `fit` will call step by step, so that it finds it done.

    Args:
        program: what will be trained.
        state: shapes and dtypes are enough.
        split: the training images.
    """
    if isinstance(split, Records) or jax.default_backend() != "cpu":
        return  # Batches from the host and whole epochs are compiled when they come.
    whole = parallel.placement(program.mesh)
    like = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    state = jax.tree.map(functools.partial(like, where=whole), state)
    key = like(jax.eval_shape(lambda: keys(0).augment), None)
    size = len(split)
    arrays = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=whole)
        for shape, dtype in (
            (split.images.shape, split.images.dtype),
            ((size,), jnp.int32),
            ((size,), jnp.int32),
        )
    ]
    jitted(program).step.lower(state, *arrays, key).compile()


def fit(
    program: Program,
    state: TrainState,
    split: sets.Split | Records,
    *,
    seed: int,
    epochs: int,
    monitor: Monitor | None = None,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    look: Callable[[TrainState], None] | None = None,
    looks: int = 1,
    enough: Callable[[], bool] = lambda: False,
    scan: bool | None = None,
) -> TrainState:
    """Trains until `epochs` epochs are done, from wherever `state` stands.

    Args:
        program: what is trained, and how.
        state: from `descent.start` or a checkpoint.
        split: the training images.
        seed: decides order and augmentation.
        epochs: total, including those behind `state`.
        monitor: is told of every step.
        on_epoch: called with the state after each epoch.
        look: called with the state before the first step, then `looks` times in
            every epoch, the last time at its end.
        looks: at least 1.
        enough: asked after every step (every scan where an epoch is one); once it
            says so training stops, and the state says where.
        scan: whether an epoch is one scan; by default only on accelerators. Sets
            that do not fit on the device are always dispatched step by step.

    Raises:
        InputError: the batch is larger than the data.
        Diverged: a loss or a gradient was not finite.
    """
    monitor = monitor or Monitor(quiet=True)
    steps_per_epoch = batches.steps_per_epoch(len(split), program.batch)
    if scan is None:
        scan = jax.default_backend() != "cpu"
    first = int(state.step)
    monitor.begin(first, epochs * steps_per_epoch, steps_per_epoch, program.batch)
    if isinstance(split, Records):
        run = functools.partial(_streamed_steps, program, split, seed)
    elif scan:
        run = functools.partial(_scanned_steps, program, *_on_devices(program, split))
    else:
        run = functools.partial(
            _dispatched_steps, program, *_on_devices(program, split)
        )
    stretch = steps_per_epoch if look is None else -(-steps_per_epoch // looks)
    home = functools.partial(parallel.home, mesh=program.mesh)
    if look is not None and first == 0:
        look(state)
    state = parallel.everywhere(state, program.mesh)
    while (done := int(state.step)) < epochs * steps_per_epoch:
        number, inside = divmod(done, steps_per_epoch)
        order = batches.epoch_order(keys(seed).order, number, len(split))
        order = parallel.everywhere(order, program.mesh)
        # Up to the next look or the end of the epoch, whichever comes first.
        length = min(stretch - inside % stretch, steps_per_epoch - inside)
        state = run(state, order, keys(seed).augment, monitor.step, length, enough)
        if int(state.step) == done + length:
            if look is not None:
                look(home(state))
            if inside + length == steps_per_epoch:
                on_epoch(home(state))
        if enough():
            break
    return home(state)


def _on_devices(program, split):
    arrays = jnp.asarray(split.images), jnp.asarray(split.labels)
    return parallel.everywhere(arrays, program.mesh)


Report = Callable[[int, float, float], None]


def _dispatched_steps(
    program, images, labels, state, order, key, report: Report, length, enough
):
    """Step by step; the numbers of a step are fetched while the next one runs."""
    steps_per_epoch = len(images) // program.batch

    def advance(state):
        return jitted(program).step(state, images, labels, order, key)

    def batch_of(state):
        index = int(state.step) % steps_per_epoch
        return batches.take(images, labels, order, index, program.batch)

    steps = [advance] * length
    return _supervised(program, state, steps, batch_of, key, report, enough)


def _streamed_steps(
    program, split, seed, state, order, key, report: Report, length, enough
):
    """Step by step, on batches read and decoded on the host ahead of time."""
    steps_per_epoch = len(split) // program.batch
    number, done = divmod(int(state.step), steps_per_epoch)
    rest = np.asarray(order)[done * program.batch : (done + length) * program.batch]
    ahead = streams.batches(split, rest, program.batch, seed=(seed, number))
    recent: dict[int, Any] = {}

    def advances() -> Iterator[Callable]:
        for step_number, batch in enumerate(ahead, start=int(state.step)):
            recent[step_number] = batch
            recent.pop(step_number - 2, None)
            step_key = jax.random.fold_in(key, step_number)
            yield lambda state, b=batch, k=step_key: jitted(program).update(
                state, b[0], b[1], k
            )

    def batch_of(state):
        return recent[int(state.step)]

    return _supervised(program, state, advances(), batch_of, key, report, enough)


def _supervised(program, state, advances, batch_of, key, report: Report, enough):
    """Makes the steps, reports each, and stops at the first that is not finite."""

    def settle(before, numbers):
        """Waits for a step's numbers; if they are not finite, says where it began."""
        if not bool(numbers["finite"]):
            images, labels = batch_of(before)
            raise divergence.explain(program, before, images, labels, key)
        report(int(before.step) + 1, float(numbers["loss"]), float(numbers["accuracy"]))

    pending: list[tuple] = []
    for advance in advances:
        before = state
        state, numbers = advance(state)
        # One step is always under way while the numbers of the last are read.
        while pending:
            settle(*pending.pop())
        pending.append((before, numbers))
        if enough():
            break
    while pending:
        settle(*pending.pop())
    return state


def _scanned_steps(
    program, images, labels, state, order, key, report: Report, length, enough
):
    """One scan; what went wrong inside is found afterwards, from a kept copy."""
    del enough  # It is asked when the scan is over.
    kept, state = state, jax.tree.map(jnp.copy, state)
    state, numbers = jitted(program).epoch(
        state, images, labels, order, key, length=length
    )
    finite = np.asarray(numbers["finite"])
    first = int(kept.step)
    if not finite.all():
        bad = int(np.argmin(finite))
        for _ in range(bad):
            kept, _ = jitted(program).step(kept, images, labels, order, key)
        index = int(kept.step) % (len(images) // program.batch)
        batch = batches.take(images, labels, order, index, program.batch)
        raise divergence.explain(program, kept, *batch, key)
    for i, (loss, accuracy) in enumerate(
        zip(np.asarray(numbers["loss"]), np.asarray(numbers["accuracy"]), strict=True)
    ):
        report(first + i + 1, float(loss), float(accuracy))
    return state
