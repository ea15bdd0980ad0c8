"""What arXiv 2604.14487 says of quantized spiking networks, held against a study.

Accuracy is *kept* within one point of the control that was trained just as long, and
the firing is if its EMD does not exceed the largest value that the control reached.
The paper claims that

* accuracy recovers with bits before the firing does,
* a wide clip moves the firing of uniform weights at equal accuracy,
* LQ-Net keeps the firing at every width, and is indifferent to the clip,
* membranes need about 4 bits, and unsigned ones beat signed ones at 2,
* LQ-Net on the membrane is unstable: training diverges, or the accuracy collapses by
  more than ten points.

A claim is held only against rows that are there. With one seed a value close to the
edge of its control's range decides nothing; the report says so beside the claims.
"""

from collections.abc import Iterable, Sequence

from jsnnq.claims import FAILS, SHOWS, UNDECIDED, Claim
from jsnnq.groups import Group
from jsnnq.results import KEPT, Reading, Study, percent, points, times

_ENOUGH_BITS = 4
"""From here on membranes are said to be dependable."""
_COLLAPSE = 0.1
"""So much accuracy is not lost to coarse levels, but to a training that went wrong."""
_A_HAIR = 1e-9
"""In binary fractions 0.99 - 0.98 is a hair more than 0.01."""


def hold(study: Study) -> list[Claim]:
    """Every claim for which the study has rows, those that show first."""
    claims = [
        *_on_recovery(study),
        *_on_wide_clips(study),
        *_on_lqnet(study),
        *_on_membranes(study),
        *_on_learned_membranes(study),
    ]
    order = (SHOWS, FAILS, UNDECIDED)
    return sorted(claims, key=lambda claim: order.index(claim.reading))


# Rows and how they are read


def _rows(study: Study, place: str, method: str) -> list[Group]:
    """Groups of a quantizer that can be read against a control."""
    return [
        group
        for group in study.quantized
        if group.label[:2] == (place, method)
        and study.ratio(group) is not None
        and group.values("accuracy")
    ]


def _families(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Groups that differ in their bits only, by what they are called, fewest first."""
    found: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda group: group.label.bits or 0):
        if group.label.bits:
            words = f"clip {group.label.clip}" if group.label.clip else ""
            name = " ".join(filter(None, [group.quantizer, group.label.detail, words]))
            found.setdefault(name, []).append(group)
    return found


def _accuracy(group: Group) -> float:
    return group.mean("accuracy") or 0.0


def _base(study: Study, group: Group) -> float:
    """Accuracy of the float network that was trained as long."""
    controls = [g for g in study.groups if g.kind == "control"]
    if group.start != "scratch" and controls:
        return _accuracy(controls[0])
    return study.reference


def _keeps_accuracy(study: Study, group: Group) -> bool:
    return _accuracy(group) >= _base(study, group) - KEPT - _A_HAIR


def _keeps_firing(study: Study, group: Group) -> bool:
    control, emd = study.control(group.start), group.mean("emd.mean")
    return control is not None and emd is not None and emd <= control.high


def _told(study: Study, group: Group, name: str = "") -> str:
    """`2 bits 55.1 %, 1.3x the drift`."""
    control = study.control(group.start)
    word = control.word if control else ""
    name = name or f"{group.label.bits} bits"
    ratio = times(study.ratio(group) or 0.0)
    return f"{name} {percent(_accuracy(group))} % at {ratio} the {word}"


def _against(study: Study, groups: Sequence[Group]) -> str:
    return f"; the control reached {percent(_base(study, groups[0]))} %"


def _overall(readings: Iterable[Reading]) -> Reading:
    """Shows if it shows somewhere and fails nowhere."""
    found = set(readings)
    if SHOWS in found and FAILS not in found:
        return SHOWS
    return FAILS if FAILS in found and SHOWS not in found else UNDECIDED


# The claims


def _on_recovery(study: Study) -> list[Claim]:
    claims = []
    for place in ("weights", "membrane"):
        groups = [*_rows(study, place, "uniform"), *_rows(study, place, "lqnet")]
        families = {n: f for n, f in _families(groups).items() if len(f) > 1}
        judged = {name: _recovers(study, f) for name, f in families.items()}
        if judged:
            told = "; ".join(
                f"{name}: {because}" for name, (_, because) in judged.items()
            )
            words = f"{place}: accuracy recovers with bits before the firing does"
            reading = _overall(reading for reading, _ in judged.values())
            claims.append(Claim(reading, words, told + _against(study, groups)))
    return claims


def _recovers(study: Study, family: Sequence[Group]) -> tuple[Reading, str]:
    """From how many bits on accuracy and firing are kept, and which comes first."""
    accuracy = _from_bits(g.label.bits for g in _tail(family, study, _keeps_accuracy))
    firing = _from_bits(g.label.bits for g in _tail(family, study, _keeps_firing))
    told = f"accuracy {_since(accuracy)}, firing {_since(firing)}"
    if accuracy == firing:
        return UNDECIDED, told
    return (SHOWS if accuracy < firing else FAILS), told


def _tail(family, study, keeps):
    """The widest groups of a family that all keep something."""
    kept = []
    for group in reversed(family):
        if not keeps(study, group):
            break
        kept.append(group)
    return kept


def _from_bits(bits: Iterable[int | None]) -> float:
    return min((float(b) for b in bits if b), default=float("inf"))


def _since(bits: float) -> str:
    return "at no width" if bits == float("inf") else f"from {bits:.0f} bits"


def _on_wide_clips(study: Study) -> list[Claim]:
    pairs = _by_clip(_rows(study, "weights", "uniform"))
    if not pairs:
        return []
    readings, told = [], []
    for bits, (narrow, wide) in pairs.items():
        if abs(_accuracy(wide) - _accuracy(narrow)) <= KEPT + _A_HAIR:
            moved = min(wide.values("emd.mean")) > max(narrow.values("emd.mean"))
            shows = moved and not _keeps_firing(study, wide)
            readings.append(SHOWS if shows else FAILS)
        told.append(f"{bits} bits: {_both(study, narrow, wide)}")
    told = "; ".join(told)
    if not readings:
        told += "; at no width are the accuracies within a point"
    words = "a wide clip moves the firing of uniform weights at equal accuracy"
    return [Claim(_overall(readings), words, told)]


def _by_clip(groups: Iterable[Group]) -> dict[int, tuple[Group, Group]]:
    """By bits, the groups with the narrowest and with the widest clip."""
    found: dict[int, list[Group]] = {}
    for group in groups:
        if group.label.bits and group.label.clip and not group.label.detail:
            found.setdefault(group.label.bits, []).append(group)
    return {
        bits: (clips[0], clips[-1])
        for bits, same in sorted(found.items())
        if len(clips := sorted(same, key=lambda g: float(g.label.clip))) > 1
    }


def _both(study: Study, *groups: Group) -> str:
    return ", ".join(_told(study, g, f"clip {g.label.clip}") for g in groups)


def _on_lqnet(study: Study) -> list[Claim]:
    groups = _rows(study, "weights", "lqnet")
    claims = []
    if groups:
        moved = [group for group in groups if not _keeps_firing(study, group)]
        farthest = max(groups, key=lambda group: study.ratio(group) or 0.0)
        because = f"{len(groups) - len(moved)} of {len(groups)} rows do, the farthest "
        because += f"is {_told(study, farthest, farthest.name)}"
        because += _beside_uniform(study, groups)
        words = "LQ-Net weights keep the firing at every width, whatever the clip"
        claims.append(Claim(FAILS if moved else SHOWS, words, because))
    if pairs := _by_clip(groups):
        # As far apart as the control is from itself, or as accuracies may be.
        alike = [_are_alike(study, *pair) for pair in pairs.values()]
        told = (f"{bits} bits: {_both(study, *pair)}" for bits, pair in pairs.items())
        words = "LQ-Net weights are indifferent to the clip"
        claims.append(Claim(SHOWS if all(alike) else FAILS, words, "; ".join(told)))
    return claims


def _beside_uniform(study: Study, groups: Sequence[Group]) -> str:
    """How many stay nearer to the float network than uniform weights alike."""
    ratios = {
        (group.start, *group.label[2:]): study.ratio(group) or 0.0
        for group in _rows(study, "weights", "uniform")
    }
    pairs = [
        (study.ratio(group) or 0.0, ratios[alike])
        for group in groups
        if (alike := (group.start, *group.label[2:])) in ratios
    ]
    nearer = sum(mine < theirs for mine, theirs in pairs)
    return f"; nearer than uniform weights in {nearer} of {len(pairs)}" * bool(pairs)


def _are_alike(study: Study, one: Group, other: Group) -> bool:
    control = study.control(one.start)
    apart = abs((one.mean("emd.mean") or 0.0) - (other.mean("emd.mean") or 0.0))
    span = control.high - control.low if control else 0.0
    accurate = abs(_accuracy(one) - _accuracy(other)) <= KEPT + _A_HAIR
    return accurate and apart <= span


def _on_membranes(study: Study) -> list[Claim]:
    groups = _rows(study, "membrane", "uniform")
    claims = []
    families = {n: f for n, f in _families(groups).items() if len(f) > 1}
    if families:
        few = [g for g in groups if (g.label.bits or 0) < _ENOUGH_BITS]
        lost = [g for g in few if not _keeps_accuracy(study, g)]
        enough = [g for g in groups if (g.label.bits or 0) >= _ENOUGH_BITS]
        dependable = all(_keeps_accuracy(study, g) for g in enough)
        told = "; ".join(
            f"{name}: {', '.join(_told(study, g) for g in family)}"
            for name, family in families.items()
        )
        reading = SHOWS if lost and dependable else FAILS
        words = f"membranes need about {_ENOUGH_BITS} bits to keep the accuracy"
        claims.append(Claim(reading, words, told + _against(study, groups)))
    signed, unsigned = (
        next((g for g in groups if (g.label.detail, g.label.bits) == (sign, 2)), None)
        for sign in ("signed", "unsigned")
    )
    if signed and unsigned:
        ahead = _accuracy(unsigned) - _accuracy(signed)
        nearer = (study.ratio(unsigned) or 0.0) < (study.ratio(signed) or 0.0)
        reading = SHOWS if ahead > KEPT and nearer else FAILS
        told = f"{_told(study, unsigned, 'unsigned')}, {_told(study, signed, 'signed')}"
        told += f": {points(ahead)} points"
        claims.append(
            Claim(reading, "unsigned membranes beat signed ones at 2 bits", told)
        )
    return claims


def _on_learned_membranes(study: Study) -> list[Claim]:
    groups = [g for g in _rows(study, "membrane", "lqnet") if g.label.bits == 2]
    diverged = [
        name
        for name in dict.fromkeys(key.split("/")[0] for key in study.diverged)
        if name.startswith("membrane-lqnet")
    ]
    if not groups and not diverged:
        return []
    lost = [g for g in groups if _accuracy(g) < _base(study, g) - _COLLAPSE]
    told = [_told(study, group, group.label.detail or "as it is") for group in groups]
    told += [f"{name} diverged" for name in diverged]
    because = ", ".join(told) + (_against(study, groups) if groups else "")
    reading = SHOWS if lost or diverged else FAILS
    words = "LQ-Net on the membrane is unstable, at 2 bits"
    return [Claim(reading, words, because)]
