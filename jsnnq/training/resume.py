"""Training that is kept in a folder, so that the same call continues it.

The state is written after an epoch if the last time is a minute ago, and where training
is stopped; `partial` is the checkpoint of it, `last_good` the state before a step that
was not finite.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsnnq.runtime import checkpoint, interrupt
from jsnnq.training import divergence, loop
from jsnnq.training.loop import Row
from jsnnq.training.monitor import Monitor
from jsnnq.training.step import Program, TrainState

SAVE_EVERY_S = 60.0
"""A run saves its state after an epoch if the last save is this long ago."""


def train(
    program: Program,
    state: TrainState,
    split: Any,
    folder: Path | None,
    *,
    seed: int,
    monitor: Monitor | None = None,
    look: Callable[[TrainState], None] | None = None,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    **settings: Any,
) -> tuple[TrainState, float]:
    """Trains as `loop.fit` does, from where the folder was left.

    Args:
        program: what is trained, and how.
        state: to start from where the folder holds none.
        split: the training images.
        folder: where the state is kept; None keeps nothing.
        seed, monitor, look, on_epoch: of `loop.fit`.
        **settings: of `train_rows`.

    Returns:
        The state, and the seconds that were spent before this call.

    Raises:
        Diverged: a loss or gradient was not finite.
        KeyboardInterrupt: Ctrl-C was pressed; the present step is kept.
    """
    row = Row(state, seed, monitor or Monitor(quiet=True), look)
    told = lambda states: on_epoch(states[0])
    [(end, before)] = train_rows(
        program, [row], split, [folder], on_epoch=told, **settings
    )
    if isinstance(end, divergence.Diverged):
        raise end
    return end, before


def train_rows(
    program: Program,
    rows: Sequence[Row],
    split: Any,
    folders: Sequence[Path | None],
    *,
    on_epoch: Callable[[Mapping[int, TrainState]], None] = lambda states: None,
    enough: Callable[[], bool] = lambda: False,
    keep_end: bool = False,
    **settings: Any,
) -> list[tuple[TrainState | divergence.Diverged, float]]:
    """`train` of one or several runs, whose steps are made together.

    Time is written down in equal shares, so that those of all rows add up to it.

    Args:
        program: of all rows, see `loop.fit_rows`.
        rows: with the states to start from where their folders hold none.
        split: the training images.
        folders: of the rows.
        on_epoch: of `loop.fit_rows`.
        enough: asked after every step whether to stop.
        keep_end: whether the last states are written too.
        **settings: of `loop.fit_rows`.

    Returns:
        For each row the state or why there is none, and the seconds that were spent on
        it before this call.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the present step is kept.
    """
    found = [
        _left(row.state, folder) for row, folder in zip(rows, folders, strict=True)
    ]
    rows = [row._replace(state=one[0]) for row, one in zip(rows, found, strict=True)]
    before = [spent for _, spent in found]
    began = saved = time.perf_counter()

    # All rows at once: they go on together only from the same step.
    def keep(states: Mapping[int, Any], every: float = SAVE_EVERY_S) -> None:
        nonlocal saved
        now = time.perf_counter()
        if now - saved <= every:
            return
        for number, state in states.items():
            if (folder := folders[number]) is not None:
                spent = before[number] + (now - began) / len(rows)
                known = {"wall_s": spent, "step": int(state.step)}
                checkpoint.save(folder / "partial", state, known)
        saved = now

    def after(states: Mapping[int, TrainState]) -> None:
        keep(states)
        on_epoch(states)

    with interrupt.patient() as stopped:
        stops = lambda: stopped() or enough()
        ends = loop.fit_rows(
            program, rows, split, on_epoch=after, enough=stops, **settings
        )
        sound = dict(enumerate(ends))
        for number, end in enumerate(ends):
            if isinstance(end, divergence.Diverged):
                del sound[number]
                if (folder := folders[number]) is not None:
                    known = {"step": end.step}
                    checkpoint.save(folder / "last_good", end.last_good, known)
        if keep_end or stopped():
            keep(sound, every=0)
        if stopped():
            raise KeyboardInterrupt
    return list(zip(ends, before, strict=True))


def _left(state: TrainState, folder: Path | None) -> tuple[TrainState, float]:
    """The state in which a folder was left, and the seconds spent until then."""
    if folder is None or not (folder / "partial").exists():
        return state, 0.0
    state, known = checkpoint.restore(folder / "partial", state)
    return state, known["wall_s"]


def step_of(folder: Path) -> int | None:
    """The step at which a run was left; 0 before it began, None if that is not known.

    Older versions of jsnnq did not write it down beside the state.
    """
    if not (folder / "partial").exists():
        return 0
    return checkpoint.read_metadata(folder / "partial").get("step")
