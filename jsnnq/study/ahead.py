"""What the rows of a study need is compiled before their turn comes."""

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

AHEAD = 2
"""So many programs are compiled before their rows begin, at the same time: a row that
waits for its own leaves a core to the one behind it."""


class Ahead(contextlib.AbstractContextManager):
    """Compiles what this row and the next ones need, on threads beside the present one.

    Compiling takes as long as the training of a small row, uses one core, and cannot
    be interrupted; who waits for it can.

    Args:
        compile_one: of a row's name and how many such rows are trained together.
        patient: whether what was begun is waited for at the end.
    """

    def __init__(self, compile_one: Callable[[str, int], None], patient: bool):
        self._compile_one, self._patient = compile_one, patient
        self._pool = ThreadPoolExecutor(AHEAD, "jsnnq-compile")
        self._begun: dict[tuple[str, int], Future] = {}

    def __exit__(self, kind, *exception):
        # After Ctrl-C, or with little time, nobody waits for what will not be used.
        wait = self._patient and kind is None
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def turn(
        self, named: tuple[str, int], following: Iterable[tuple[str, int]]
    ) -> None:
        """Waits for the compilation of rows whose turn it is; begins the next ones.

        Args:
            named: one of the rows, and how many of them are trained together.
            following: those that come after.
        """
        coming = [other for other in dict.fromkeys(following) if other != named]
        wanted = [named, *coming[:AHEAD]]
        begun = self._begun
        self._begun = {
            n: begun.get(n) or self._pool.submit(self._compile_one, *n) for n in wanted
        }
        # What could not be compiled will say so again where it is used.
        self._begun[named].exception()
