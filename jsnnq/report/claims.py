"""What a paper claims, held against a study: how it is read and what is said of it."""

from collections.abc import Iterable
from typing import NamedTuple

from jsnnq.report.results import Reading

SHOWS = Reading("same", "shows")
FAILS = Reading("drowned", "does not show")
UNDECIDED = Reading("open", "cannot be decided here")
ALONE = "one seed decides nothing"


class Claim(NamedTuple):
    """What is claimed, whether it shows, and the numbers that say so."""

    reading: Reading
    words: str
    because: str


def by_reading(claims: Iterable[Claim]) -> list[Claim]:
    """Those that show first, then those that do not, then those that are open."""
    order = (SHOWS, FAILS, UNDECIDED)
    return sorted(claims, key=lambda claim: order.index(claim.reading))


def lies_above(ones: Iterable[float], others: Iterable[float]) -> bool:
    """Whether every seed of the one lies above every seed of the other."""
    return min(ones) > max(others)
