"""What arXiv 2604.14487 says of quantized spiking networks, held against a study.

The paper claims that

* accuracy recovers with bits before the firing does,
* a wide clip moves the firing of uniform weights at equal accuracy,
* LQ-Net keeps the firing at every width, and is indifferent to the clip,
* membranes need about 4 bits, and unsigned ones beat signed ones at 2,
* LQ-Net on the membrane is unstable: training diverges, or the accuracy collapses by
  more than ten points.

It does not say what would cure the last one; here a ridge, a basis that is frozen over
the timesteps and a slower average are held against rows without them.

A claim is held only against rows that are there, and against those of each start by
themselves; what is kept and lost, and what seeds decide, `jsnnq.report.evidence` says.
Of several seeds one that collapses is enough to call a training unstable.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from jsnnq.report import names
from jsnnq.report.claims import FAILS, SHOWS, UNDECIDED, Claim, lies_above
from jsnnq.report.evidence import Row, against, by_width, conclude, rows_of
from jsnnq.report.groups import is_finite
from jsnnq.report.numbers import points
from jsnnq.report.results import Reading, Study, keeps

_ENOUGH_BITS = 4
"""From here on membranes are said to be dependable."""
_COLLAPSE = 0.1
"""So much accuracy is not lost to coarse levels, but to a training that went wrong."""
_Kept = Callable[[Row], bool | None]
_KEPT: Mapping[str, _Kept] = {
    "accuracy": Row.keeps_accuracy,
    "firing": Row.keeps_firing,
}


def hold(study: Study) -> list[Claim]:
    """Every claim for which the study has rows."""
    starts = list(dict.fromkeys(group.start for group in study.quantized))
    claims = []
    for start in starts or [""]:
        found = _hold(_starting(study, start))
        said = f", {_STARTS.get(start, start)}" * (len(starts) > 1)
        claims += [claim._replace(words=claim.words + said) for claim in found]
    return claims


_STARTS = {"scratch": "from scratch", "checkpoint": "from a checkpoint"}


def _starting(study: Study, start: str) -> Study:
    """The study with those of its quantized rows that have this start.

    What diverged is known by name only; where there are several starts, rows of which
    no seed is there are left out.
    """
    kept = [g for g in study.groups if g.kind != "quantized" or g.start == start]
    if len(kept) == len(study.groups):
        return study
    names_kept = {group.name for group in kept}
    lost = [key for key in study.diverged if key.rsplit("/", 1)[0] in names_kept]
    results = {**study.results, "diverged": lost}
    return dataclasses.replace(study, groups=tuple(kept), results=results)


def _hold(study: Study) -> list[Claim]:
    return [
        *_on_recovery(study),
        *_on_wide_clips(study),
        *_on_lqnet(study),
        *_on_membranes(study),
        *_on_learned_membranes(study),
    ]


def _overall(readings: Iterable[Reading]) -> Reading:
    """Shows if it shows somewhere and fails nowhere."""
    found = set(readings)
    if SHOWS in found and FAILS not in found:
        return SHOWS
    return FAILS if FAILS in found and SHOWS not in found else UNDECIDED


# Accuracy and firing by bits

_SPELLED = {"both": "weights and membranes"}


def _on_recovery(study: Study) -> list[Claim]:
    claims = []
    for place in names.PLACES:
        rows = [row for m in ("uniform", "lqnet") for row in rows_of(study, place, m)]
        families = by_width(rows)
        if not families:
            continue
        judged = {name: _recovers(family) for name, family in families.items()}
        told = "; ".join(f"{name}: {words}" for name, (_, words) in judged.items())
        reading = _overall(reading for reading, _ in judged.values())
        said = _SPELLED.get(place, place)
        words = f"{said}: accuracy recovers with bits before the firing does"
        used = [row for family in families.values() for row in family]
        told += against(used)
        claims.append(conclude(words, used, reading, told))
    return claims


def _recovers(family: Sequence[Row]) -> tuple[Reading, str]:
    """From how many bits on accuracy and firing are kept, and which comes first.

    Firing that is kept at no width is something else than firing that recovers late.
    """
    accuracy, firing = (_kept_from(family, kept) for kept in _KEPT.values())
    told = f"accuracy {_since(accuracy)}, firing {_since(firing)}"
    if accuracy is None or firing is None or firing == math.inf or accuracy == firing:
        return UNDECIDED, told
    return (SHOWS if accuracy < firing else FAILS), told


def _kept_from(family: Sequence[Row], kept: _Kept) -> float | None:
    """The fewest bits from which on it is kept; None where seeds disagree about it."""
    bits = math.inf
    for row in reversed(family):
        said = kept(row)
        if said is None:
            return None
        if not said:
            break
        bits = row.bits
    return bits


def _since(bits: float | None) -> str:
    if bits is None:
        return "by some seeds only"
    return "at no width" if bits == math.inf else f"from {bits:.0f} bits"


# Clips


def _by_clip(rows: Iterable[Row]) -> dict[int, tuple[Row, Row]]:
    """By bits, the rows with the narrowest and with the widest clip."""
    found: dict[int, dict[float, Row]] = {}
    for row in rows:
        clip = _number(row.label.clip)
        if row.bits and clip is not None and not row.label.detail:
            found.setdefault(row.bits, {})[clip] = row
    return {
        bits: (clips[min(clips)], clips[max(clips)])
        for bits, clips in found.items()
        if len(clips) > 1
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # a clip that is taken from the data has a name
        return None


def _both(rows: Sequence[Row]) -> str:
    clips = ", ".join(row.told(f"clip {row.label.clip}") for row in rows)
    return f"{rows[0].bits} bits: {clips}"


def _on_wide_clips(study: Study) -> list[Claim]:
    pairs = _by_clip(rows_of(study, "weights", "uniform"))
    if not pairs:
        return []
    equal = [
        pair for pair in pairs.values() if keeps(*sorted(row.accuracy for row in pair))
    ]
    moved = [_moves(*pair) for pair in equal]
    told = "; ".join(_both(pair) for pair in pairs.values())
    if not equal:
        told += "; at no width are the accuracies within a point"
    # It is claimed of some width, so that all have to speak against it.
    fails = bool(moved) and set(moved) == {FAILS}
    reading = SHOWS if SHOWS in moved else FAILS if fails else UNDECIDED
    rows = [row for pair in equal for row in pair]
    words = "a wide clip moves the firing of uniform weights at equal accuracy"
    return [conclude(words, rows, reading, told)]


def _moves(narrow: Row, wide: Row) -> Reading:
    """Whether the wide clip moves the firing, and further than the narrow one."""
    kept = wide.keeps_firing()
    if kept is False and lies_above(wide.emds, narrow.emds):
        return SHOWS
    return FAILS if kept or lies_above(narrow.emds, wide.emds) else UNDECIDED


# Weights of LQ-Net


def _on_lqnet(study: Study) -> list[Claim]:
    rows = rows_of(study, "weights", "lqnet")
    claims = []
    if len({row.bits for row in rows}) > 1:
        kept = [row.keeps_firing() for row in rows]
        farthest = max(rows, key=lambda row: row.emd)  # of one start and control
        told = f"{kept.count(True)} of {len(rows)} rows do, the farthest is "
        told += farthest.told(farthest.name) + _beside_uniform(study, rows)
        reading = FAILS if False in kept else UNDECIDED if None in kept else SHOWS
        words = "LQ-Net weights keep the firing at every width"
        words += ", whatever the clip" * (len({row.label.clip for row in rows}) > 1)
        claims.append(conclude(words, rows, reading, told))
    if pairs := _by_clip(rows):
        alike = [_are_alike(*pair) for pair in pairs.values()]
        told = "; ".join(_both(pair) for pair in pairs.values())
        every = [row for pair in pairs.values() for row in pair]
        # It is claimed of every width.
        reading = next(r for r in (FAILS, UNDECIDED, SHOWS) if r in alike)
        words = "LQ-Net weights are indifferent to the clip"
        claims.append(conclude(words, every, reading, told))
    return claims


def _beside_uniform(study: Study, rows: Iterable[Row]) -> str:
    """How many stay nearer to the float network than uniform weights alike."""
    uniform = {row.label[2:]: row.emd for row in rows_of(study, "weights", "uniform")}
    pairs = [
        (row.emd, uniform[row.label[2:]]) for row in rows if row.label[2:] in uniform
    ]
    nearer = sum(mine < theirs for mine, theirs in pairs)
    return f"; nearer than uniform weights in {nearer} of {len(pairs)}" * bool(pairs)


def _are_alike(one: Row, other: Row) -> Reading:
    """As near each other as the control's seeds are, or as accuracies may be."""
    span = one.control.high - one.control.low if one.control else 0.0
    if not (is_finite(one.accuracy) and is_finite(other.accuracy)):
        return UNDECIDED  # Something diverged.
    apart = [
        (not keeps(*sorted((one.accuracy, other.accuracy))), "accuracies"),
        (abs(one.emd - other.emd) > span, "emds"),
    ]
    by_every_seed = [
        lies_above(*pair)
        for is_apart, values in apart
        if is_apart
        for pair in (
            (getattr(one, values), getattr(other, values)),
            (getattr(other, values), getattr(one, values)),
        )
    ]
    return FAILS if any(by_every_seed) else UNDECIDED if by_every_seed else SHOWS


# Membranes


def _on_membranes(study: Study) -> list[Claim]:
    rows = rows_of(study, "membrane", "uniform")
    return [*_on_bits_of_membranes(rows), *_on_signs(rows)]


def _on_bits_of_membranes(rows: Sequence[Row]) -> list[Claim]:
    families = by_width(rows)
    if not families:
        return []
    told = "; ".join(
        f"{name}: {', '.join(row.told() for row in family)}"
        for name, family in families.items()
    )
    used = [row for family in families.values() for row in family]
    found = []
    for what, kept in _KEPT.items():
        words = f"membranes need about {_ENOUGH_BITS} bits to keep the {what}"
        reading = _overall(_needs_bits(family, kept) for family in families.values())
        held = told + against(used) * (what == "accuracy")
        found.append(conclude(words, used, reading, held))
    return found


def _needs_bits(family: Sequence[Row], kept: _Kept) -> Reading:
    few = [kept(row) for row in family if row.bits < _ENOUGH_BITS]
    enough = [kept(row) for row in family if row.bits >= _ENOUGH_BITS]
    if not few or not enough:
        return UNDECIDED
    if False in enough or all(few):
        return FAILS
    return SHOWS if False in few and all(enough) else UNDECIDED


def _on_signs(rows: Sequence[Row]) -> list[Claim]:
    signed, unsigned = (
        next((row for row in rows if (row.label.detail, row.bits) == (sign, 2)), None)
        for sign in ("signed", "unsigned")
    )
    if signed is None or unsigned is None:
        return []
    ahead = unsigned.accuracy - signed.accuracy
    told = f"{unsigned.told('unsigned')}, {signed.told('signed')}"
    told += f": {points(ahead)} points" if is_finite(ahead) else ""
    above = lies_above(unsigned.accuracies, signed.accuracies)
    above &= not keeps(signed.accuracy, unsigned.accuracy)
    beats = above and lies_above(signed.emds, unsigned.emds)
    # Not if it is never the more accurate one, or always the farther one.
    behind = max(unsigned.accuracies) <= min(signed.accuracies)
    behind |= lies_above(unsigned.emds, signed.emds)
    reading = SHOWS if beats else FAILS if behind else UNDECIDED
    words = "unsigned membranes beat signed ones at 2 bits"
    return [conclude(words, [signed, unsigned], reading, told)]


# Membranes of LQ-Net

_REMEDIES = {
    "a ridge": (("", "noridge"), ("timestep", "timestep noridge")),
    "a basis frozen over the timesteps": (
        ("", "timestep"),
        ("noridge", "timestep noridge"),
    ),
    "a slower average": (("slow", ""), ("", "fast")),
}
"""What may cure it, and details of rows that differ in nothing else: with, without."""


def _on_learned_membranes(study: Study) -> list[Claim]:
    rows = {
        row.label.detail: row
        for row in rows_of(study, "membrane", "lqnet")
        if row.bits == 2
    }
    claims = []
    if plain := rows.get(""):
        told = plain.told("as it is") + against([plain])
        reading = SHOWS if any(_collapses(plain)) else FAILS
        words = "LQ-Net on the membrane is unstable, at 2 bits"
        claims.append(conclude(words, [plain], reading, told))
    for remedy, kinds in _REMEDIES.items():
        pairs = [
            (rows[having], rows[lacking])
            for having, lacking in kinds
            if having in rows and lacking in rows
        ]
        if pairs:
            claims.append(_on_remedy(remedy, pairs))
    return claims


def _collapses(row: Row) -> list[bool]:
    """Of each seed, whether its training went wrong."""
    pairs = zip(row.accuracies, row.bases, strict=True)
    return [not keeps(*pair, within=_COLLAPSE) for pair in pairs]


def _on_remedy(remedy: str, pairs: Sequence[tuple[Row, Row]]) -> Claim:
    """A remedy cures if no seed collapses with it where every seed does without it."""
    told = "; ".join(
        f"{having.told('with')}, {lacking.told('without')}" for having, lacking in pairs
    )
    ill = [pair for pair in pairs if any(_collapses(pair[1]))]
    if not ill:
        told += "; nothing collapses without it, so there is nothing to cure"
    reading = _overall(_cures(*pair) for pair in ill)
    rows = [row for pair in pairs for row in pair]
    words = f"LQ-Net on the membrane is kept from collapsing by {remedy}"
    return conclude(words, rows, reading, told)


def _cures(having: Row, lacking: Row) -> Reading:
    if any(_collapses(having)):
        return FAILS
    return SHOWS if all(_collapses(lacking)) else UNDECIDED
