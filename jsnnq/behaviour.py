"""What arXiv 2604.14487 says of quantized spiking networks, held against a study.

Accuracy is *kept* within one point of the control of the same seed, which was trained
just as long, and the firing is if its EMD does not exceed the largest value that the
control reached. The paper claims that

* accuracy recovers with bits before the firing does,
* a wide clip moves the firing of uniform weights at equal accuracy,
* LQ-Net keeps the firing at every width, and is indifferent to the clip,
* membranes need about 4 bits, and unsigned ones beat signed ones at 2,
* LQ-Net on the membrane is unstable: training diverges, or the accuracy collapses by
  more than ten points.

It does not say what would cure the last one; here a ridge, a basis that is frozen over
the timesteps and a slower average are held against rows without them.

A claim is held only against rows that are there, and against those of each start by
themselves. Something is kept if every seed keeps it and lost if none does; where seeds
disagree, or there is but one of a row or of its control, nothing can be decided. A seed
that diverged has lost both. Of several seeds one that collapses is enough to call a
training unstable.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jsnnq import names
from jsnnq.claims import ALONE, FAILS, SHOWS, UNDECIDED, Claim
from jsnnq.groups import is_finite
from jsnnq.results import KEPT, Reading, Study, percent, points, times

_ENOUGH_BITS = 4
"""From here on membranes are said to be dependable."""
_COLLAPSE = 0.1
"""So much accuracy is not lost to coarse levels, but to a training that went wrong."""
_A_HAIR = 1e-9
"""In binary fractions 0.99 - 0.98 is a hair more than 0.01."""


def hold(study: Study) -> list[Claim]:
    """Every claim for which the study has rows, those that show first."""
    starts = list(dict.fromkeys(group.start for group in study.quantized))
    claims = []
    for start in starts or [""]:
        found = _hold(_starting(study, start))
        said = f", {_STARTS.get(start, start)}" * (len(starts) > 1)
        claims += [claim._replace(words=claim.words + said) for claim in found]
    order = (SHOWS, FAILS, UNDECIDED)
    return sorted(claims, key=lambda claim: order.index(claim.reading))


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


# Rows and how they are read


class _Row(NamedTuple):
    """A row with its seeds; one that diverged has an accuracy of minus infinity."""

    name: str
    label: names.Label
    start: str
    accuracies: list[float]
    emds: list[float]
    bases: list[float]
    """For each seed the accuracy that it is held against."""

    @property
    def bits(self) -> int:
        return self.label.bits or 0

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def emd(self) -> float:
        return statistics.fmean(self.emds)


def _rows(study: Study, place: str, method: str) -> list[_Row]:
    """Rows of a quantizer that can be read against a control, the narrowest first."""
    lost = [key.rsplit("/", 1)[0] for key in study.diverged]
    found = []
    for group in study.quantized:
        accuracies, emds = group.values("accuracy"), group.values("emd.mean")
        if accuracies and emds and study.control(group.start):
            bases = [
                study.base(group.start, [row["seed"]])
                for row in group.rows
                if is_finite(row["accuracy"])
            ]
            found.append(
                _Row(group.name, group.label, group.start, accuracies, emds, bases)
            )
    known = {row.name for row in found}
    start = next((row.start for row in found), "checkpoint")
    for name in dict.fromkeys(lost):
        if name not in known:
            label = names.read(name, "quantized", {"neuron": {}})
            found.append(_Row(name, label, start, [], [], []))
    return sorted(
        (
            row._replace(
                accuracies=row.accuracies + [-math.inf] * lost.count(row.name),
                emds=row.emds + [math.inf] * lost.count(row.name),
                bases=row.bases + [study.base(start)] * lost.count(row.name),
            )
            for row in found
            if row.label[:2] == (place, method)
        ),
        key=lambda row: row.bits,
    )


def _families(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    """Rows of several widths that differ in nothing else, by what they are called."""
    found: dict[str, list[_Row]] = {}
    for row in rows:
        if row.bits:
            clip = f"clip {row.label.clip}" if row.label.clip else ""
            method = names.method(row.label.method)
            name = " ".join(filter(None, [method, row.label.detail, clip]))
            found.setdefault(name, []).append(row)
    return {name: family for name, family in found.items() if len(family) > 1}


def _agreed(values: Iterable[bool]) -> bool | None:
    """What all seeds say, or None where they disagree."""
    said = set(values)
    return said.pop() if len(said) == 1 else None


_Keeps = Callable[[Study, _Row], bool | None]


def _keeps_accuracy(study: Study, row: _Row) -> bool | None:
    del study
    pairs = zip(row.accuracies, row.bases, strict=True)
    return _agreed(accuracy >= base - KEPT - _A_HAIR for accuracy, base in pairs)


def _keeps_firing(study: Study, row: _Row) -> bool | None:
    control = study.control(row.start)
    return _agreed(control is not None and emd <= control.high for emd in row.emds)


def _claim(
    study: Study, words: str, rows: Iterable[_Row], reading: Reading, told: str
) -> Claim:
    """The claim, open if one seed of a row or of its control would have to decide."""
    rows = list(rows)
    controls = [study.control(row.start) for row in rows]
    once = [c.word if c else "control" for c in controls if not c or c.low == c.high]
    if reading == UNDECIDED:
        return Claim(reading, words, told)
    if any(len(row.accuracies) < 2 for row in rows):
        return Claim(UNDECIDED, words, f"{told}; {ALONE}")
    if once:
        told += f"; a {once[0]} that was measured once decides nothing"
        return Claim(UNDECIDED, words, told)
    return Claim(reading, words, told)


def _told(study: Study, row: _Row, name: str = "") -> str:
    """`2 bits 55.1 % at 1.3x the drift`."""
    name = name or f"{row.bits} bits"
    finite = [accuracy for accuracy in row.accuracies if is_finite(accuracy)]
    if len(finite) < len(row.accuracies):
        gone = len(row.accuracies) - len(finite)
        return f"{name} diverged ({gone} of {len(row.accuracies)} seeds)"
    control = study.control(row.start)
    assert control is not None
    ratio = times(row.emd / control.mean) if control.mean else "∞×"
    return f"{name} {percent(row.accuracy)} % at {ratio} the {control.word}"


def _against(study: Study, rows: Sequence[_Row]) -> str:
    """What accuracies were held against, of rows with one start."""
    control = study.control(rows[0].start)
    bases = [base for row in rows for base in row.bases]
    low, high = percent(min(bases)), percent(max(bases))
    word = f" ({control.word})" if control else ""
    if low == high:
        return f"; the control reached {low} %{word}"
    return f"; the control reached {low} to {high} %{word}, seed by seed"


def _lies_above(ones: Iterable[float], others: Iterable[float]) -> bool:
    """Whether every seed of the one lies above every seed of the other."""
    return min(ones) > max(others)


def _overall(readings: Iterable[Reading]) -> Reading:
    """Shows if it shows somewhere and fails nowhere."""
    found = set(readings)
    if SHOWS in found and FAILS not in found:
        return SHOWS
    return FAILS if FAILS in found and SHOWS not in found else UNDECIDED


# Accuracy and firing by bits


def _on_recovery(study: Study) -> list[Claim]:
    claims = []
    for place in ("weights", "membrane"):
        rows = [row for m in ("uniform", "lqnet") for row in _rows(study, place, m)]
        families = _families(rows)
        if not families:
            continue
        judged = {name: _recovers(study, family) for name, family in families.items()}
        told = "; ".join(f"{name}: {words}" for name, (_, words) in judged.items())
        reading = _overall(reading for reading, _ in judged.values())
        words = f"{place}: accuracy recovers with bits before the firing does"
        used = [row for family in families.values() for row in family]
        told += _against(study, used)
        claims.append(_claim(study, words, used, reading, told))
    return claims


def _recovers(study: Study, family: Sequence[_Row]) -> tuple[Reading, str]:
    """From how many bits on accuracy and firing are kept, and which comes first.

    Firing that is kept at no width is something else than firing that recovers late.
    """
    accuracy, firing = (
        _kept_from(study, family, keeps) for keeps in (_keeps_accuracy, _keeps_firing)
    )
    told = f"accuracy {_since(accuracy)}, firing {_since(firing)}"
    if accuracy is None or firing is None or firing == math.inf or accuracy == firing:
        return UNDECIDED, told
    return (SHOWS if accuracy < firing else FAILS), told


def _kept_from(study: Study, family: Sequence[_Row], keeps: _Keeps) -> float | None:
    """The fewest bits from which on it is kept; None where seeds disagree about it."""
    kept = math.inf
    for row in reversed(family):
        said = keeps(study, row)
        if said is None:
            return None
        if not said:
            break
        kept = row.bits
    return kept


def _since(bits: float | None) -> str:
    if bits is None:
        return "by some seeds only"
    return "at no width" if bits == math.inf else f"from {bits:.0f} bits"


# Clips


def _by_clip(rows: Iterable[_Row]) -> dict[int, tuple[_Row, _Row]]:
    """By bits, the rows with the narrowest and with the widest clip."""
    found: dict[int, dict[float, _Row]] = {}
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


def _both(study: Study, rows: Sequence[_Row]) -> str:
    clips = ", ".join(_told(study, row, f"clip {row.label.clip}") for row in rows)
    return f"{rows[0].bits} bits: {clips}"


def _on_wide_clips(study: Study) -> list[Claim]:
    pairs = _by_clip(_rows(study, "weights", "uniform"))
    if not pairs:
        return []
    equal = [
        pair
        for pair in pairs.values()
        if abs(pair[0].accuracy - pair[1].accuracy) <= KEPT + _A_HAIR
    ]
    moved = [_moves(study, *pair) for pair in equal]
    told = "; ".join(_both(study, pair) for pair in pairs.values())
    if not equal:
        told += "; at no width are the accuracies within a point"
    # It is claimed of some width, so that all have to speak against it.
    fails = bool(moved) and set(moved) == {FAILS}
    reading = SHOWS if SHOWS in moved else FAILS if fails else UNDECIDED
    rows = [row for pair in equal for row in pair]
    words = "a wide clip moves the firing of uniform weights at equal accuracy"
    return [_claim(study, words, rows, reading, told)]


def _moves(study: Study, narrow: _Row, wide: _Row) -> Reading:
    """Whether the wide clip moves the firing, and further than the narrow one."""
    keeps = _keeps_firing(study, wide)
    if keeps is False and _lies_above(wide.emds, narrow.emds):
        return SHOWS
    return FAILS if keeps or _lies_above(narrow.emds, wide.emds) else UNDECIDED


# LQ-Net's weights


def _on_lqnet(study: Study) -> list[Claim]:
    rows = _rows(study, "weights", "lqnet")
    claims = []
    if len({row.bits for row in rows}) > 1:
        kept = [_keeps_firing(study, row) for row in rows]
        farthest = max(rows, key=lambda row: row.emd)  # of one start and control
        told = f"{kept.count(True)} of {len(rows)} rows do, the farthest is "
        told += _told(study, farthest, farthest.name) + _beside_uniform(study, rows)
        reading = FAILS if False in kept else UNDECIDED if None in kept else SHOWS
        words = "LQ-Net weights keep the firing at every width, whatever the clip"
        claims.append(_claim(study, words, rows, reading, told))
    if pairs := _by_clip(rows):
        alike = [_are_alike(study, *pair) for pair in pairs.values()]
        told = "; ".join(_both(study, pair) for pair in pairs.values())
        every = [row for pair in pairs.values() for row in pair]
        # It is claimed of every width.
        reading = next(r for r in (FAILS, UNDECIDED, SHOWS) if r in alike)
        words = "LQ-Net weights are indifferent to the clip"
        claims.append(_claim(study, words, every, reading, told))
    return claims


def _beside_uniform(study: Study, rows: Iterable[_Row]) -> str:
    """How many stay nearer to the float network than uniform weights alike."""
    uniform = {
        (row.start, *row.label[2:]): row.emd
        for row in _rows(study, "weights", "uniform")
    }
    pairs = [
        (row.emd, uniform[alike])
        for row in rows
        if (alike := (row.start, *row.label[2:])) in uniform
    ]
    nearer = sum(mine < theirs for mine, theirs in pairs)
    return f"; nearer than uniform weights in {nearer} of {len(pairs)}" * bool(pairs)


def _are_alike(study: Study, one: _Row, other: _Row) -> Reading:
    """As near each other as the control's seeds are, or as accuracies may be."""
    control = study.control(one.start)
    span = control.high - control.low if control else 0.0
    if not (is_finite(one.accuracy) and is_finite(other.accuracy)):
        return UNDECIDED  # Something diverged.
    apart = [
        (abs(one.accuracy - other.accuracy) > KEPT + _A_HAIR, "accuracies"),
        (abs(one.emd - other.emd) > span, "emds"),
    ]
    by_every_seed = [
        _lies_above(*pair)
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
    rows = _rows(study, "membrane", "uniform")
    return [*_on_bits_of_membranes(study, rows), *_on_signs(study, rows)]


def _on_bits_of_membranes(study: Study, rows: Sequence[_Row]) -> list[Claim]:
    families = _families(rows)
    if not families:
        return []
    told = "; ".join(
        f"{name}: {', '.join(_told(study, row) for row in family)}"
        for name, family in families.items()
    )
    used = [row for family in families.values() for row in family]
    found = []
    for what, keeps in {"accuracy": _keeps_accuracy, "firing": _keeps_firing}.items():
        words = f"membranes need about {_ENOUGH_BITS} bits to keep the {what}"
        reading = _overall(
            _needs_bits(study, family, keeps) for family in families.values()
        )
        against = _against(study, used) * (keeps is _keeps_accuracy)
        found.append(_claim(study, words, used, reading, told + against))
    return found


def _needs_bits(study: Study, family: Sequence[_Row], keeps: _Keeps) -> Reading:
    few = [keeps(study, row) for row in family if row.bits < _ENOUGH_BITS]
    enough = [keeps(study, row) for row in family if row.bits >= _ENOUGH_BITS]
    if not few or not enough:
        return UNDECIDED
    if False in enough or all(few):
        return FAILS
    return SHOWS if False in few and all(enough) else UNDECIDED


def _on_signs(study: Study, rows: Sequence[_Row]) -> list[Claim]:
    signed, unsigned = (
        next((row for row in rows if (row.label.detail, row.bits) == (sign, 2)), None)
        for sign in ("signed", "unsigned")
    )
    if signed is None or unsigned is None:
        return []
    ahead = unsigned.accuracy - signed.accuracy
    told = f"{_told(study, unsigned, 'unsigned')}, {_told(study, signed, 'signed')}"
    told += f": {points(ahead)} points" if is_finite(ahead) else ""
    above = _lies_above(unsigned.accuracies, signed.accuracies) and ahead > KEPT
    beats = above and _lies_above(signed.emds, unsigned.emds)
    # Not if it is never the more accurate one, or always the farther one.
    behind = max(unsigned.accuracies) <= min(signed.accuracies)
    behind |= _lies_above(unsigned.emds, signed.emds)
    reading = SHOWS if beats else FAILS if behind else UNDECIDED
    words = "unsigned membranes beat signed ones at 2 bits"
    return [_claim(study, words, [signed, unsigned], reading, told)]


# LQ-Net's membranes

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
        for row in _rows(study, "membrane", "lqnet")
        if row.bits == 2
    }
    claims = []
    if plain := rows.get(""):
        told = _told(study, plain, "as it is") + _against(study, [plain])
        reading = SHOWS if any(_collapses(plain)) else FAILS
        words = "LQ-Net on the membrane is unstable, at 2 bits"
        claims.append(_claim(study, words, [plain], reading, told))
    for remedy, kinds in _REMEDIES.items():
        pairs = [
            (rows[having], rows[lacking])
            for having, lacking in kinds
            if having in rows and lacking in rows
        ]
        if pairs:
            claims.append(_on_remedy(study, remedy, pairs))
    return claims


def _collapses(row: _Row) -> list[bool]:
    """Of each seed, whether its training went wrong."""
    pairs = zip(row.accuracies, row.bases, strict=True)
    return [accuracy < base - _COLLAPSE - _A_HAIR for accuracy, base in pairs]


def _on_remedy(study: Study, remedy: str, pairs: Sequence[tuple[_Row, _Row]]) -> Claim:
    """A remedy cures if no seed collapses with it where every seed does without it."""
    told = "; ".join(
        f"{_told(study, having, 'with')}, {_told(study, lacking, 'without')}"
        for having, lacking in pairs
    )
    ill = [pair for pair in pairs if any(_collapses(pair[1]))]
    if not ill:
        told += "; nothing collapses without it, so there is nothing to cure"
    reading = _overall(_cures(*pair) for pair in ill)
    rows = [row for pair in pairs for row in pair]
    words = f"LQ-Net on the membrane is kept from collapsing by {remedy}"
    return _claim(study, words, rows, reading, told)


def _cures(having: _Row, lacking: _Row) -> Reading:
    if any(_collapses(having)):
        return FAILS
    return SHOWS if all(_collapses(lacking)) else UNDECIDED
