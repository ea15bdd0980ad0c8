"""What arXiv 2601.22660 and 2606.27759 claim of binary networks.

An ordering shows if every seed of the one lies above every seed of the other. That
something does not matter shows if all seeds of all rows lie within one point; it does
not if means lie further apart and every seed says so.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from jsnnq.report.comparisons import (
    ALONE,
    FAILS,
    SHOWS,
    UNDECIDED,
    Answer,
    Claim,
    Family,
    Judged,
    evidence,
    families,
    lies_above,
)
from jsnnq.report.groups import is_finite
from jsnnq.report.meaning import but_for, depth, details, method, named, place
from jsnnq.report.results import Row, keeps

ORDERS = ("forward", "global", "reverse")
Named = tuple[str, Row]


def _rank(pairs: Iterable[tuple[Named, Named]]) -> tuple[str, str]:
    """Whether the first of each pair lies above the second, and why not."""
    why = ""
    for (better, one), (worse, other) in pairs:
        if min(len(one.bases), len(other.bases)) < 2:
            why = why or ALONE
        elif lies_above(other.accuracies, one.accuracies):
            return FAILS, f"{worse} lies above {better}"
        elif not lies_above(one.accuracies, other.accuracies):
            why = why or f"the seeds of {better} and {worse} overlap"
    return (UNDECIDED if why else SHOWS), why


def leads(names: Sequence[str], family: Family) -> Judged:
    """The first lies above all others, where all are there."""
    known = [(name, family.rows[name]) for name in names if name in family.rows]
    if len(known) < len(names):
        return None
    return _rank((known[0], other) for other in known[1:])


def in_order(family: Family) -> Judged:
    """Each lies above those that follow; what is missing decides nothing."""
    known = [(order, family.rows[order]) for order in ORDERS if order in family.rows]
    said = _rank(itertools.combinations(known, 2))
    if len(known) == len(ORDERS) or said[0] == FAILS:
        return said
    return UNDECIDED, f"orders other than {' and '.join(dict(known))} are missing"


def indifferent(family: Family) -> Judged:
    """All lie within a point."""
    every = [x for row in family.rows.values() for x in row.accuracies.values()]
    if any(len(row.bases) < 2 for row in family.rows.values()):
        return UNDECIDED, ALONE
    if keeps(min(every), max(every)):
        return SHOWS
    ranked = sorted(family.rows.items(), key=lambda item: item[1].accuracy)
    (low, worst), (top, best) = ranked[0], ranked[-1]
    low, top = named(family.setting, low), named(family.setting, top)
    if not lies_above(best.accuracies, worst.accuracies):
        return UNDECIDED, f"the seeds of {top} and {low} overlap"
    if keeps(worst.accuracy, best.accuracy):
        return UNDECIDED, f"{top} lies above {low} by less than one point"
    return FAILS, f"{top} lies above {low}"


def depths(rows: Sequence[Row]) -> Iterator[Answer]:
    """The gain on the estimator grows with depth, whatever else tells them apart."""
    for called in ("StoMPP", "StoMPP+STE"):
        found: dict[float, Row] = {}
        for family in families(filter(_in("BNN", called, "STE"), rows), "method"):
            ours, ste = family.rows[called], family.rows["STE"]
            layers = depth(ours.config.network.name)
            pairs = itertools.product(ours.accuracies.values(), ste.accuracies.values())
            gains = dict(enumerate(one - other for one, other in pairs))
            if is_finite(layers) and is_finite(sum(gains.values())):
                few = min(ours.bases, ste.bases, key=len)  # Of the fewer seeds.
                gain = dataclasses.replace(ours, accuracies=gains, bases=few)
                found.setdefault(layers, gain)
        deepest_first = [(one.network, one) for _, one in sorted(found.items())[::-1]]
        if len(found) > 1:
            reading, why = _rank(itertools.combinations(deepest_first, 2))
            why = "; ".join(filter(None, [why, _besides([*found.values()])]))
            sides = [evidence(name, gain, "points") for name, gain in deepest_first]
            words = f"BNN: the gain of {called} on STE grows with depth"
            yield Answer(words, reading, sides, why)


def _besides(rows: Sequence[Row]) -> str:
    """What else tells these networks apart, for example their width."""
    first, *others = [but_for(row.config, "network.name")[0] for row in rows]
    differ = sorted({path[-1] for other in others for path, _ in first ^ other})
    return f"they differ in {' and '.join(differ)} too" if differ else ""


def _in(where: str, *methods: str) -> Callable[[Row], bool]:
    """Rows that are binary there; if methods are named, these with usual settings."""
    return lambda row: (
        place(row.config) == where
        and (not methods or (method(row.config) in methods and not details(row.config)))
    )


# fmt: off
CLAIMS = (
    *(Claim(f"{first} > {' and '.join(others)}",
            "method", partial(leads, (first, *others)), _in("BNN", first, *others))
      for first, *others in (("StoMPP", "STE"), ("StoMPP+STE", "StoMPP", "STE"))),
    Claim(" > ".join(ORDERS), "order", in_order,
          _in("BNN", "StoMPP", "StoMPP global", "StoMPP reverse")),
    depths,
    Claim("the order does not matter", "order", indifferent, _in("BWN")),
    Claim("the schedule does not matter", "schedule", indifferent, bool),
    Claim("the refresh of masks does not matter", "refresh", indifferent, bool),
)
# fmt: on
