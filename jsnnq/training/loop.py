"""The loop around a step of training, from wherever a state stands.

On an accelerator a whole epoch is one jitted scan with donated buffers. On a CPU XLA
runs a convolution inside any loop 10 to 20 times slower, so there the same step is
dispatched from Python. Data that do not fit on the device are read ahead on the host.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
        program, split: of `fit`.
        state: shapes and dtypes are enough.
    """
    if isinstance(split, Records) or jax.default_backend() != "cpu":
        return  # Batches from the host and whole epochs are compiled when they come.
    where = parallel.placement(program.mesh)
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    order = jax.ShapeDtypeStruct((len(split),), jnp.int32)
    given = jax.tree.map(like, (state, (split.images, split.labels), order))
    key = jax.eval_shape(lambda: keys(0).augment)
    jitted(program).next_step.lower(*given, key).compile()


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
        state: from `step.start` or a checkpoint.
        split: the training images.
        seed: decides order and augmentation.
        epochs: total, including those behind `state`.
        monitor: is told of every step.
        on_epoch: called with the state after each epoch.
        look: called with the state before the first step, then `looks` times in
            every epoch, evenly and the last time at its end; after every step where
            an epoch has fewer.
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
    per_epoch = batches.steps_per_epoch(len(split), program.batch)
    # Each place is rounded up on its own, so that none is lost where none falls on a
    # whole step.
    parts = 1 if look is None else min(looks, per_epoch)
    ends = [-(-per_epoch * k // parts) for k in range(1, parts + 1)]
    if scan is None:
        scan = jax.default_backend() != "cpu"
    first, last = int(state.step), epochs * per_epoch
    monitor.begin(first, last, per_epoch, program.batch)
    home = functools.partial(parallel.home, mesh=program.mesh)
    if look is not None and first == 0:
        look(state)
    state = parallel.everywhere(state, program.mesh)
    made = _steps(program, split, seed, state, ends=ends, scan=scan)
    waiting = None
    while first < last:
        # One step is always under way while the numbers of the last are read.
        under_way = next(made)
        if waiting is not None:
            _settle(waiting, monitor)
        waiting, state, first = under_way, under_way.after, under_way.reached
        inside, stops = (first - 1) % per_epoch + 1, enough()
        if stops or inside in ends:
            _settle(waiting, monitor)
            waiting = None
            if look is not None and inside in ends:
                look(home(state))
            if inside == per_epoch:
                on_epoch(home(state))
        if stops:
            break
    return home(state)


class _Steps(NamedTuple):
    """Steps that were dispatched: one, or the scan of several up to a look."""

    reached: int  # The number of steps behind the last of them.
    after: TrainState
    numbers: Any  # What `train_step` says of each.
    # Given how many of them were good, the exception for the next one.
    replay: Callable[[int], divergence.Diverged]


def _steps(program, split, seed, state, *, ends, scan) -> Iterator[_Steps]:
    """Makes step after step without end, and waits for none of them."""
    done, per_epoch = int(state.step), len(split) // program.batch
    functions, key = jitted(program), keys(seed).augment
    explain = functools.partial(divergence.explain, program, key=key)
    held = not isinstance(split, Records)
    data: Any = ()
    if held:
        arrays = jnp.asarray(split.images), jnp.asarray(split.labels)
        data = parallel.everywhere(arrays, program.mesh)
    while True:
        number, inside = divmod(done, per_epoch)
        length = next(end for end in ends if end > inside) - inside
        order = batches.epoch_order(keys(seed).order, number, len(split))
        order = parallel.everywhere(order, program.mesh)

        def replay(good, kept, order=order):
            for _ in range(good):
                kept, _ = functions.next_step(kept, data, order, key)
            images, labels = data
            index = int(kept.step) % per_epoch
            batch = batches.take(images, labels, order, index, program.batch)
            return explain(kept, *batch)

        if held and scan:
            # The scan may take the memory of the state that it is given.
            before, state = state, jax.tree.map(jnp.copy, state)
            state, numbers = functions.epoch(state, data, order, key, length=length)
            done += length
            yield _Steps(done, state, numbers, functools.partial(replay, kept=before))
        elif held:
            for _ in range(length):
                before, done = state, done + 1
                state, numbers = functions.next_step(before, data, order, key)
                again = functools.partial(replay, kept=before)
                yield _Steps(done, state, numbers, again)
        else:
            at = inside * program.batch
            rest = np.asarray(order)[at : at + length * program.batch]
            read = streams.batches(split, rest, program.batch, seed=(seed, number))
            for batch in read:
                before, step_key = state, jax.random.fold_in(key, done)
                state, numbers = functions.train_step(before, *batch, step_key)
                again = lambda _, kept=before, batch=batch: explain(kept, *batch)
                done += 1
                yield _Steps(done, state, numbers, again)


def _settle(made: _Steps, monitor: Monitor) -> None:
    """Waits for the numbers of steps and reports them, up to one that is not finite."""
    each = {name: np.atleast_1d(values) for name, values in made.numbers.items()}
    first = made.reached - len(each["finite"])
    for i, finite in enumerate(each["finite"]):
        if not finite:
            raise made.replay(i)
        loss, accuracy = float(each["loss"][i]), float(each["accuracy"][i])
        monitor.step(first + i + 1, loss, accuracy)
