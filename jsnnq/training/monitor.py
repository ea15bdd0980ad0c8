"""What a person sees while a network trains, and what is kept of it.

A `Monitor` shows one live progress bar (loss, accuracy, images per second, time
left), and writes the same numbers as JSON lines and as TensorBoard event files
(without TensorFlow). It is told of steps; it never looks into the training.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

POINTS_PER_EPOCH = 10
"""How many averaged points of the curves are kept for each epoch."""


class Monitor:
    """Progress, JSON lines and event files of one training run; a context manager.

    Args:
        label: what is being trained, shown before the bar.
        directory: where `log.jsonl` and the event file go; `None` keeps nothing.
        on_step: called with the number of each step, its loss and its accuracy.
        quiet: show no bar; neither is one shown where nobody watches (no terminal).
    """

    def __init__(
        self,
        label: str = "",
        directory: Path | None = None,
        quiet: bool = False,
        on_step: Callable[[int, float, float], None] | None = None,
    ):
        self._on_step = on_step
        self._label = label
        self._directory = directory
        self._quiet = quiet
        self._after = contextlib.ExitStack()
        self._bar: Any = None
        self._lines: Any = None
        self._events: Any = None
        self._sums = [0.0, 0.0, 0]

    def __enter__(self) -> "Monitor":
        """Opens the bar and the files."""
        bar = _bar()
        if not self._quiet and bar.console.is_terminal:
            self._bar = self._after.enter_context(bar)
        if self._directory is not None:
            from tensorboardX import SummaryWriter

            self._directory.mkdir(parents=True, exist_ok=True)
            lines = appended(self._directory / "log.jsonl")
            self._lines = self._after.enter_context(lines)
            # A relative path that begins with gs: or s3: would be taken for a server.
            place = str(self._directory.absolute())
            events = SummaryWriter(place, write_to_disk=True)
            self._events = self._after.enter_context(events)
        return self

    def __exit__(self, *_: object) -> None:
        """Closes both, whatever happened."""
        self._after.close()

    def begin(self, step: int, steps: int, steps_per_epoch: int, batch: int) -> None:
        """Says where training starts and ends."""
        self._steps_per_epoch, self._batch = steps_per_epoch, batch
        self._every = max(1, math.ceil(steps_per_epoch / POINTS_PER_EPOCH))
        self._since = time.perf_counter()
        if self._bar is not None:
            self._task = self._bar.add_task(
                self._label, total=steps, completed=step, numbers=""
            )

    def step(self, step: int, loss: float, accuracy: float) -> None:
        """Takes the numbers of one finished step, counted from 1."""
        if self._on_step is not None:
            self._on_step(step, loss, accuracy)
        sums = self._sums
        sums[0] += loss
        sums[1] += accuracy
        sums[2] += 1
        in_epoch = (step - 1) % self._steps_per_epoch + 1
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        if in_epoch % self._every and in_epoch != self._steps_per_epoch:
            return
        now = time.perf_counter()
        point = {
            "step": step,
            "epoch": step / self._steps_per_epoch,
            "loss": sums[0] / sums[2],
            "accuracy": sums[1] / sums[2],
            # A coarse clock may not have moved since.
            "images_per_s": sums[2] * self._batch / max(now - self._since, 1e-9),
        }
        self._since, self._sums = now, [0.0, 0.0, 0]
        if self._bar is not None:
            numbers = (
                f"loss {point['loss']:.3f}  acc {100 * point['accuracy']:5.1f} %  "
                f"{point['images_per_s']:,.0f} img/s"
            )
            self._bar.update(self._task, numbers=numbers)
        if self._lines is not None:
            self._lines.write(json.dumps(point) + "\n")
            self._lines.flush()  # So that a kill costs no more than this line.
            for name in ("loss", "accuracy", "images_per_s"):
                self._events.add_scalar(f"train/{name}", point[name], step)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The points of a `log.jsonl`; of points written twice, the later one.

    A run that was killed and resumed repeats the steps since its last checkpoint; a
    line cut short by the kill is left out.
    """
    points = {point["step"]: point for point in read_lines(path)}
    return [points[step] for step in sorted(points)]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file, without any that a kill cut short."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def appended(path: Path) -> TextIO:
    """The file opened at its end, on a new line should a kill have cut the last."""
    lines = path.open("a+", encoding="utf-8")
    if lines.tell() and not path.read_bytes().endswith(b"\n"):
        lines.write("\n")
    return lines


def _bar(numbers: bool = True) -> Any:
    """A bar of steps with their numbers, or one of percentages."""
    from rich import progress
    from rich.console import Console

    if numbers:
        fields = progress.TextColumn("{task.fields[numbers]}")
        after = progress.MofNCompleteColumn(), fields, progress.TimeRemainingColumn()
    else:
        after = (progress.TaskProgressColumn(),)
    return progress.Progress(
        # It may name a folder x[1], which is no markup.
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        *after,
        console=Console(stderr=True),
        transient=True,
    )


class Transfer(contextlib.AbstractContextManager):
    """A progress bar for what is downloaded or written; a context manager.

    Called as `transfer(what, done, total)`. Before that it shows nothing: what is
    refused at once needs no bar.
    """

    def __init__(self):
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __exit__(self, *_: object) -> None:
        """Closes the bar, whatever happened."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows how far one part has come."""
        if self._bar is None:
            self._bar = _bar(numbers=False)
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what)
        self._bar.update(self._tasks[what], completed=done, total=total)
