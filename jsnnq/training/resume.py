"""Training that is kept in a folder, so that the same call continues it.

The state is written after an epoch if the last time is a minute ago, and where training
is stopped; `partial` is the checkpoint of it, `last_good` the state before a step that
was not finite.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsnnq.runtime import checkpoint, interrupt
from jsnnq.training import divergence, loop
from jsnnq.training.step import Program, TrainState

SAVE_EVERY_S = 60.0
"""A run saves its state after an epoch if the last save is this long ago."""


def train(
    program: Program,
    state: TrainState,
    split: Any,
    folder: Path | None,
    *,
    on_epoch: Callable[[TrainState], None] | None = None,
    enough: Callable[[], bool] = lambda: False,
    keep_end: bool = False,
    **settings: Any,
) -> tuple[TrainState, float]:
    """Trains as `loop.fit` does, from where the folder was left.

    Args:
        program: what is trained, and how.
        state: to start from where the folder holds none.
        split: the training images.
        folder: where the state is kept; None keeps nothing.
        on_epoch: called with the state after each epoch.
        enough: asked after every step whether to stop.
        keep_end: whether the last state is written too.
        **settings: of `loop.fit`.

    Returns:
        The state, and the seconds that were spent before this call.

    Raises:
        Diverged: a loss or gradient was not finite.
        KeyboardInterrupt: Ctrl-C was pressed; the present step is kept.
    """
    before = 0.0
    if folder is not None and (folder / "partial").exists():
        state, known = checkpoint.restore(folder / "partial", state)
        before = known["wall_s"]
    began = saved = time.perf_counter()

    def keep(state: TrainState, every: float = SAVE_EVERY_S) -> None:
        nonlocal saved
        now = time.perf_counter()
        if folder is not None and now - saved > every:
            spent = {"wall_s": before + now - began}
            checkpoint.save(folder / "partial", state, spent)
            saved = now

    def after(state: TrainState) -> None:
        keep(state)
        if on_epoch is not None:
            on_epoch(state)

    with interrupt.patient() as stopped:
        stops = lambda: stopped() or enough()
        try:
            state = loop.fit(
                program, state, split, on_epoch=after, enough=stops, **settings
            )
        except divergence.Diverged as error:
            if folder is not None:
                checkpoint.save(
                    folder / "last_good", error.last_good, {"step": error.step}
                )
            if stopped():
                raise KeyboardInterrupt from error
            raise
        if keep_end or stopped():
            keep(state, every=0)
        if stopped():
            raise KeyboardInterrupt
    return state, before
