"""Ctrl-C: the first asks, so that what is under way can be kept; the second insists."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def patient() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C interrupts nothing, and only says that it was pressed.

    A program that has its own way with Ctrl-C keeps it, and so does a thread, which
    Python does not tell of signals.

    Yields:
        What says whether Ctrl-C was pressed; who hears it ends what is under way, keeps
        it, and raises the `KeyboardInterrupt` that was put off.
    """
    pressed = False

    def press(number, frame):
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with contextlib.ExitStack() as after:
        if ours:
            with contextlib.suppress(ValueError):  # We are not the main thread.
                before = signal.signal(signal.SIGINT, press)
                after.callback(signal.signal, signal.SIGINT, before)
        yield lambda: pressed
