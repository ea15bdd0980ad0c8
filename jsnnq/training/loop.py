"""The loop around a step of training, from wherever a state stands.

On an accelerator a whole epoch is one jitted scan with donated buffers. On a CPU XLA
runs a convolution inside any loop 10 to 20 times slower, so there the same step is
dispatched from Python. Data that do not fit on the device are read ahead on the host.

Runs that share a program can be made together, each step for all of them at once: what
a small network leaves idle of an accelerator, the others use.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.data import batches, sets, streams
from jsnnq.data.streams import Records
from jsnnq.runtime import parallel
from jsnnq.training import divergence, together
from jsnnq.training.monitor import Monitor
from jsnnq.training.step import Program, TrainState, jitted, keys


def compile_ahead(
    program: Program, state: TrainState, split: sets.Split | Records, count: int = 1
) -> None:
    """Compiles what `fit` will call step by step, so that it finds it done.

    Args:
        program, split: of `fit`.
        state: of one run; shapes and dtypes are enough.
        count: how many runs are made together.
    """
    if isinstance(split, Records) or jax.default_backend() != "cpu":
        return  # Batches from the host and whole epochs are compiled when they come.
    given = together.shapes(state, split, count, parallel.placement(program.mesh))
    jitted(program, together=count > 1).next_step.lower(*given).compile()


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
    [end] = fit_rows(
        program,
        [Row(state, seed, monitor or Monitor(quiet=True), look)],
        split,
        epochs=epochs,
        on_epoch=lambda states: on_epoch(states[0]),
        looks=looks,
        enough=enough,
        scan=scan,
    )
    if isinstance(end, divergence.Diverged):
        raise end
    return end


class Row(NamedTuple):
    """One of the runs that are trained together.

    Attributes:
        state: from `step.start` or a checkpoint.
        seed: decides order and augmentation.
        monitor: is told of every step.
        look: as in `fit`.
    """

    state: TrainState
    seed: int
    monitor: Monitor
    look: Callable[[TrainState], None] | None = None


def fit_rows(
    program: Program,
    rows: Sequence[Row],
    split: sets.Split | Records,
    *,
    epochs: int,
    on_epoch: Callable[[Mapping[int, TrainState]], None] = lambda states: None,
    looks: int = 1,
    enough: Callable[[], bool] = lambda: False,
    scan: bool | None = None,
) -> list[TrainState | divergence.Diverged]:
    """`fit` of one or several runs, whose steps are made together.

    A row whose numbers are not finite stops there, and does not stop the others: it is
    computed on, which costs less than to compile a program for one row fewer, and
    nobody is told of it any more.

    Args:
        program: what is trained, and how; its representative is that of all rows.
        rows: all at the same step.
        split, epochs, looks, enough, scan: of `fit`.
        on_epoch: called after each epoch with the states by the rows' numbers, without
            those that are lost.

    Returns:
        For each row the last state, or what `fit` would raise.

    Raises:
        InputError: the batch is larger than the data, the rows are at different steps,
            or several rows share devices or read images from the host.
    """
    together.check(program, [int(row.state.step) for row in rows], split)
    per_epoch = batches.steps_per_epoch(len(split), program.batch)
    looked = any(row.look is not None for row in rows)
    ends = together.ends(per_epoch, looks if looked else 1)
    if scan is None:
        scan = jax.default_backend() != "cpu"
    first, last = int(rows[0].state.step), epochs * per_epoch
    for row in rows:
        row.monitor.begin(first, last, per_epoch, program.batch)
        if row.look is not None and first == 0:
            row.look(row.state)
    state = together.pack([row.state for row in rows])
    state = parallel.everywhere(state, program.mesh)
    seeds = [row.seed for row in rows]
    made = _steps(program, split, seeds, state, at=first, ends=ends, scan=scan)
    lost: dict[int, divergence.Diverged] = {}
    waiting = None

    def own(number):
        return parallel.home(together.part(state, number, len(rows)), program.mesh)

    while first < last and len(lost) < len(rows):
        # One step is always under way while the numbers of the last are read.
        under_way = next(made)
        if waiting is not None:
            _settle(waiting, rows, lost)
        waiting, state, first = under_way, under_way.after, under_way.reached
        inside, stops = (first - 1) % per_epoch + 1, enough()
        if stops or inside in ends:
            _settle(waiting, rows, lost)
            waiting = None
            sound = [number for number in range(len(rows)) if number not in lost]
            for number in sound:
                if (look := rows[number].look) is not None and inside in ends:
                    look(own(number))
            if inside == per_epoch and sound:
                on_epoch({number: own(number) for number in sound})
        if stops:
            break
    return [lost.get(number) or own(number) for number in range(len(rows))]


class _Steps(NamedTuple):
    """Steps that were dispatched: one, or the scan of several up to a look."""

    reached: int  # The number of steps behind the last of them.
    after: TrainState  # Of all rows, as `together.pack` makes it.
    numbers: Any  # What `train_step` says of each.
    # Given a row and how many of them were good, the exception for the next one.
    replay: Callable[[int, int], divergence.Diverged]


def _steps(program, split, seeds, state, *, at, ends, scan) -> Iterator[_Steps]:
    """Makes step after step without end, and waits for none of them."""
    done, per_epoch, count = at, len(split) // program.batch, len(seeds)
    functions, alone = jitted(program, together=count > 1), jitted(program)
    own = [keys(seed).augment for seed in seeds]
    key = together.pack(own)
    explain = functools.partial(divergence.explain, program)
    held = not isinstance(split, Records)
    data: Any = ()
    if held:
        arrays = jax.tree.map(jnp.asarray, batches.hold(split.images, split.labels))
        data = parallel.everywhere(arrays, program.mesh)
    while True:
        number, inside = divmod(done, per_epoch)
        length = next(end for end in ends if end > inside) - inside
        orders = [
            batches.epoch_order(keys(seed).order, number, len(split)) for seed in seeds
        ]
        orders = parallel.everywhere(orders, program.mesh)
        order = together.pack(orders)

        def replay(row, good, kept, orders=orders):
            kept = together.part(kept, row, count)
            for _ in range(good):
                kept, _ = alone.next_step(kept, data, orders[row], own[row])
            index = int(kept.step) % per_epoch
            batch = batches.take(data, orders[row], index, program.batch)
            return explain(kept, *batch, key=own[row])

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
            [seed] = seeds
            at = inside * program.batch
            rest = np.asarray(order)[at : at + length * program.batch]
            read = streams.batches(split, rest, program.batch, seed=(seed, number))
            for batch in read:
                before, step_key = state, jax.random.fold_in(key, done)
                state, numbers = functions.train_step(before, *batch, step_key)
                again = lambda *_, kept=before, batch=batch: explain(
                    kept, *batch, key=key
                )
                done += 1
                yield _Steps(done, state, numbers, again)


def _settle(
    made: _Steps, rows: Sequence[Row], lost: dict[int, divergence.Diverged]
) -> None:
    """Waits for the numbers of steps and reports them, up to one that is not finite.

    A row that has such a one is lost, and said to be.
    """
    each = {
        name: np.asarray(values).reshape(len(rows), -1)
        for name, values in made.numbers.items()
    }
    length = each["finite"].shape[1]
    for number, row in enumerate(rows):
        for i in range(length if number not in lost else 0):
            loss, accuracy, finite = (
                each[name][number, i] for name in ("loss", "accuracy", "finite")
            )
            if not finite:
                lost[number] = made.replay(number, i)
                break
            at = made.reached - length + i + 1
            row.monitor.step(at, float(loss), float(accuracy))
