"""Time that may be spent on a study, as on an accelerator lent for ten minutes."""

import math
import re
import time
from collections.abc import Callable

from jsnnq.errors import InputError


class OutOfTime(Exception):
    """The time was spent before a row was done; what was done of it is kept."""


def seconds(text: str) -> float:
    """A duration such as `9m`, `1h30m` or `90s` (or `90`) in seconds.

    Raises:
        InputError: it is none, or not above zero.
    """
    number = r"(\d+\.?\d*|\.\d+)"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    hours, minutes, rest = map(float, found.groups("0") if found else (0, 0, 0))
    total = 3600 * hours + 60 * minutes + rest
    if not total > 0:
        raise InputError(
            f"the budget {text!r} is no duration: give one such as 9m, 1h30m or 90s"
        )
    return total


class Budget:
    """So much time from now on.

    Args:
        seconds: how much; by default without end.
        clock: what tells the time.
    """

    def __init__(
        self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ):
        self.whole = seconds
        self._clock = clock
        # Writing the state and the report takes time after training, too.
        kept_back = min(30.0, max(5.0, seconds / 20), seconds / 4)
        self._end = clock() + seconds - kept_back

    @property
    def left(self) -> float:
        """Seconds until training has to stop."""
        return self._end - self._clock()

    @property
    def is_limited(self) -> bool:
        """Whether it ends."""
        return math.isfinite(self.whole)

    def admits(self, expected: float | None) -> bool:
        """Whether a row is begun that is expected to take so many seconds.

        It is if it will end in time. One that is longer than the whole budget has to
        be done in pieces, and is begun where half of the budget is left; so is one
        of which nothing is known.
        """
        if expected is None or expected > self.whole:
            return self.left >= self.whole / 2
        return expected <= self.left

    def watch(self) -> Callable[[], bool]:
        """What is asked between steps: whether another one would end too late.

        A step is taken to last as long as the one before. The first is always made,
        and says nothing of the next, because it was compiled.
        """
        if not self.is_limited:
            return lambda: False
        last, over = math.inf, False

        def enough() -> bool:
            nonlocal last, over
            now = self._clock()
            over, last = over or now + max(0.0, now - last) > self._end, now
            return over

        return enough
