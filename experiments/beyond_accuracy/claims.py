"""What arXiv 2604.14487 claims of quantized spiking networks.

It does not say what would cure LQ-Net on the membrane; here a ridge, a basis that is
frozen over the timesteps and a slower average are held against rows without them.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

from jsnnq.report.comparisons import (
    FAILS,
    SHOWS,
    UNDECIDED,
    Claim,
    Family,
    Judged,
    anywhere,
    everywhere,
    lies_above,
    somewhere,
)
from jsnnq.report.meaning import details, method, place, quantizers
from jsnnq.report.results import Row, keeps

COLLAPSE = 0.1
"""So much accuracy is not lost to coarse levels, but to a training that went wrong."""
SAID = {True: SHOWS, False: FAILS, None: UNDECIDED}
Kept = Callable[[Row], bool | None]
KEPT = {"accuracy": Row.keeps_accuracy, "firing": Row.keeps_firing}


def recovers(family: Family) -> Judged:
    """Accuracy is kept from fewer bits on than the firing is."""
    accuracy, firing = (_kept_from(family, kept) for kept in KEPT.values())
    # Firing that is kept at no width is something else than firing that is late.
    if accuracy is None or firing in (None, math.inf, accuracy):
        return UNDECIDED
    return SHOWS if accuracy < firing else FAILS


def _kept_from(family: Family, kept: Kept) -> float | None:
    """The bits from which on it is kept; None where seeds disagree about it."""
    least = math.inf
    for bits, row in reversed(family.rows.items()):
        if not (said := kept(row)):
            return None if said is None else least
        least = bits
    return least


def needs_four_bits(kept: Kept, family: Family) -> Judged:
    """From 4 bits on it is kept, and below it is not."""
    few = [kept(row) for bits, row in family.rows.items() if bits < 4]
    enough = [kept(row) for bits, row in family.rows.items() if bits >= 4]
    if few and enough and (False in enough or all(few)):
        return FAILS
    return SHOWS if False in few and enough and all(enough) else UNDECIDED


def moves(family: Family) -> Judged:
    """The wide clip moves the firing, and further, where accuracies are equal."""
    narrow, *_, wide = family.rows.values()
    if not keeps(*sorted((narrow.accuracy, wide.accuracy))):
        return None
    kept = wide.keeps_firing()
    if kept is False and lies_above(wide.emds, narrow.emds):
        return SHOWS
    return FAILS if kept or lies_above(narrow.emds, wide.emds) else UNDECIDED


def indifferent(family: Family) -> Judged:
    """As near each other as the control's seeds are, or as accuracies may be."""
    one, *_, other = family.rows.values()
    span = one.control.high - one.control.low if one.control else 0.0
    apart = []
    if not keeps(*sorted((one.accuracy, other.accuracy))):
        apart.append((one.accuracies, other.accuracies))
    if not abs(one.emd - other.emd) <= span:
        apart.append((one.emds, other.emds))
    decided = any(lies_above(a, b) or lies_above(b, a) for a, b in apart)
    diverged = math.isinf(one.emd) or math.isinf(other.emd)
    return SHOWS if not apart else FAILS if decided and not diverged else UNDECIDED


def unsigned_wins(family: Family) -> Judged:
    """Clearly more accurate and nearer, by every seed."""
    if not {"unsigned", "symmetric"} <= family.rows.keys():
        return None
    ours, signed = family.rows["unsigned"], family.rows["symmetric"]
    above = lies_above(ours.accuracies, signed.accuracies)
    if above and lies_above(signed.emds, ours.emds):
        return UNDECIDED if keeps(signed.accuracy, ours.accuracy) else SHOWS
    # Not if it is never the more accurate one, or always the farther one.
    behind = max(ours.accuracies.values()) <= min(signed.accuracies.values())
    return FAILS if behind or lies_above(ours.emds, signed.emds) else UNDECIDED


def _collapses(row: Row) -> list[bool]:
    """Of each seed, whether its training went wrong."""
    known = row.accuracies.items()
    return [not keeps(value, row.bases[seed], COLLAPSE) for seed, value in known]


def cures(family: Family) -> Judged:
    """With more of it no seed collapses, where every seed does with less."""
    rows = [*family.rows.values()]
    if family.setting == "follow":  # The basis is frozen in the first of them.
        rows.reverse()
    ill = [pair for pair in itertools.pairwise(rows) if any(_collapses(pair[0]))]
    if not ill:
        return UNDECIDED, "nothing collapses without it, so there is nothing to cure"
    said = [(all(_collapses(less)), any(_collapses(more))) for less, more in ill]
    return somewhere({FAILS if sick else SAID[cured or None] for cured, sick in said})


def _of(where: str, *methods: str, **settings: object) -> Callable[[Row], bool]:
    """Rows of these quantizers and settings; a type stands for any value of it."""
    fits = lambda value, known: value == known or type(value) is known
    return lambda row: (
        place(row.config) == where
        and method(row.config) in methods
        and all(
            fits(getattr(one, name), known)
            for _, one in quantizers(row.config)
            for name, known in settings.items()
        )
    )


_LEARNED = _of("membranes", "LQ-Net", bits=2)

# fmt: off
CLAIMS = (
    *(Claim(f"{where}: accuracy recovers with bits before the firing does",
            "bits", recovers, _of(where, "uniform", "LQ-Net"), somewhere)
      for where in ("weights", "membranes", "weights and membranes")),
    Claim("a wide clip moves the firing of uniform weights at equal accuracy",
          "clip", moves, _of("weights", "uniform", clip=float), anywhere),
    Claim("LQ-Net weights keep the firing at every width, whatever the clip",
          "", lambda one: SAID[one.rows[""].keeps_firing()], _of("weights", "LQ-Net"),
          everywhere),
    Claim("LQ-Net weights are indifferent to the clip",
          "clip", indifferent, _of("weights", "LQ-Net", clip=float), everywhere),
    *(Claim(f"membranes need about 4 bits to keep the {what}",
            "bits", partial(needs_four_bits, kept), _of("membranes", "uniform"),
            somewhere)
      for what, kept in KEPT.items()),
    Claim("unsigned membranes beat signed ones at 2 bits",
          "grid", unsigned_wins, _of("membranes", "uniform", bits=2), somewhere),
    Claim("LQ-Net on the membrane is unstable, at 2 bits",
          "", lambda one: SAID[any(_collapses(one.rows[""]))],  # One seed is enough.
          lambda row: _LEARNED(row) and not details(row.config), somewhere),
    *(Claim(f"LQ-Net on the membrane is kept from collapsing by {remedy}",
            setting, cures, _LEARNED, somewhere)
      for setting, remedy in {
          "ridge": "a ridge",
          "follow": "a basis frozen over the timesteps",
          "average": "a slower average",
      }.items()),
)
# fmt: on
