"""Two things timed side by side: interleaved, warm, as ratios of the same moment.

Machines are shared and their speed drifts, so A and B take turns, A B A B, and what is
quoted is the median over rounds of the ratio within a round, with its range. A ratio
above 1 means that ours is faster.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[], object]
"""Does the work once and waits until it is done."""


WARM = 3
"""Runs that do not count: TorchScript is at its best from the third on."""


class Row(NamedTuple):
    """One comparison; times in `unit`, `ratio` = peer / ours."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    range: tuple[float, float]


class Skipped(NamedTuple):
    """A comparison that this machine cannot make."""

    name: str
    reason: str


def compare(
    name: str,
    ours: Work,
    peer_name: str,
    peer: Work,
    rounds: int,
    warm: int = WARM,
) -> Row:
    """Times two pieces of work in turns, after each has run a few times."""
    for _ in range(warm):
        ours()
        peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    return Row(
        name,
        1000 * mine,
        1000 * theirs,
        peer_name,
        "ms",
        statistics.median(ratios),
        (min(ratios), max(ratios)),
    )


def seconds(work: Work) -> float:
    """How long a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
