"""What the papers on StoMPP say of binary networks, held against a study.

arXiv 2601.22660 and 2606.27759 claim that in networks with binary weights and
activations (BNN)

* layers are to be frozen from input to output: forward > global > reverse,
* StoMPP gains on the straight-through estimator (STE), and the more the deeper, and
  StoMPP with the estimator (StoMPP+STE) gains most,
* the schedule by which a layer is frozen does not matter, nor how often its mask is
  refreshed;

and that with binary weights only (BWN) the order does not matter. An ordering *shows*
if every seed of the one lies above every seed of the other, it *does not show* if it is
the other way round, and else it *cannot be decided*; one seed decides nothing. That
something does not matter shows if all seeds of all rows lie within one point; it does
not if means lie further apart and every seed says so.
"""

import itertools
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq.report import names
from jsnnq.report.claims import ALONE, FAILS, SHOWS, UNDECIDED, Claim, lies_above
from jsnnq.report.groups import Group
from jsnnq.report.numbers import percent, points
from jsnnq.report.results import Reading, Study, keeps

_ORDERS = {"stompp": "forward", "global": "global", "reverse": "reverse"}
_GAINING = ("stompp", "stompp+ste")


class _Side(NamedTuple):
    """One side of a comparison: its values, how many seeds, how they are printed."""

    name: str
    values: Sequence[float]
    seeds: int
    show: Callable[[float], str] = percent
    unit: str = " %"

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def told(self) -> str:
        """`forward 71.2 % (70.8 to 71.6)`."""
        low, high = self.show(min(self.values)), self.show(max(self.values))
        span = f" ({low} to {high})" if low != high else ""
        return f"{self.name} {self.show(self.mean)}{self.unit}{span}"


_Judged = tuple[Reading, str]


def hold(study: Study) -> list[Claim]:
    """Every claim of the papers."""
    return [
        *_on_estimators(study),
        *_on_orders(study, "bnn", "forward > global > reverse", _descending),
        *_on_depth(study),
        *_on_orders(study, "bwn", "the order does not matter", _indifferent),
        *_on_freezing(study),
    ]


def finding(study: Study) -> str:
    """What StoMPP gained, network by network."""
    known = [group for group in study.quantized if group.values("accuracy")]
    if not known:
        return "No verdict: no binary network is finished."
    places = {group.label.place for group in known}
    place = next((p for p in names.BINARY_PLACES if p in places), "")
    sentences = [
        sentence
        for network in study.networks
        for sentence in _sentences(
            study,
            f"{names.place(place)}, {names.network(network)}".removeprefix(", "),
            [g for g in known if (g.label.place, g.network) == (place, network)],
        )
    ]
    return " ".join(sentences)


# What was gained


def _sentences(study: Study, where: str, groups: Sequence[Group]) -> list[str]:
    """One on each recipe that has its own estimator, and one on all other variants.

    The estimator and other orders speak for themselves only where there is no StoMPP.
    """
    own = {"", *(g.label.detail for g in groups if g.label.method == "ste")}
    groups = [g for g in groups if g.label.method in _GAINING] or groups
    said = []
    for detail in sorted(own):
        alike = [group for group in groups if group.label.detail == detail]
        if alike:
            said.append(_gained(study, ", ".join(filter(None, [where, detail])), alike))
    others = [g for g in groups if g.label.detail not in own]
    if others:
        said.append(_varied(where, others))
    return said


def _gained(study: Study, where: str, groups: Sequence[Group]) -> str:
    parts = [_reached(study, group) for group in groups]
    full = study.peer(groups[0], "float")
    if full is not None and full.values("accuracy"):
        parts.append(f"full precision {percent(full.mean('accuracy') or 0.0)} %")
    return f"{where} ({_seeds(groups)}): {'; '.join(parts)}."


def _reached(study: Study, group: Group) -> str:
    words = f"{group.quantizer} {percent(group.mean('accuracy') or 0.0)} %"
    gain, ste = study.gain(group), _side("", study.peer(group, "ste"))
    side = _side("", group)
    if gain is None or ste is None or side is None:
        return words
    way = "above" if gain >= 0 else "below"
    words += f", {points(abs(gain))[1:]} points {way} STE ({percent(ste.mean)} %)"
    several = min(side.seeds, ste.seeds) > 1
    if several and not (_lies_above(side, ste) or _lies_above(ste, side)):
        words += ", though their seeds overlap"
    return words


def _varied(where: str, groups: Sequence[Group]) -> str:
    by_mean = sorted(groups, key=lambda group: group.mean("accuracy") or 0.0)
    ends = [f"{percent(g.mean('accuracy') or 0.0)} % ({g.name})" for g in by_mean]
    if len(groups) == 1:
        return f"{where} ({_seeds(groups)}): {ends[0]}."
    many = f"{len(groups)} variants lie between {ends[0]} and {ends[-1]}"
    return f"{where} ({_seeds(groups)}): {many}."


def _seeds(groups: Iterable[Group]) -> str:
    counts = sorted({len(group.rows) for group in groups})
    few = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return f"{few} seed{'s' * (counts[-1] > 1)}"


# Orderings


def _on_estimators(study: Study) -> list[Claim]:
    """For every binary network and recipe, StoMPP beside the estimator it replaces."""
    claims = []
    for group in study.quantized:
        if (group.label.place, group.label.method) != ("bnn", "stompp"):
            continue
        rivals = {m: _rival(study, group, m) for m in ("ste", "stompp+ste")}
        sides = {"StoMPP": _side("StoMPP", group)}
        sides |= {names.method(m): _side(names.method(m), g) for m, g in rivals.items()}
        where = f"{names.place('bnn')}, {names.network(group.network)}"
        where = ", ".join(filter(None, [where, group.label.detail]))
        for better, worse in (("StoMPP", ("STE",)), ("StoMPP+STE", ("StoMPP", "STE"))):
            known = [side for name in (better, *worse) if (side := sides[name])]
            if len(known) == 1 + len(worse):
                reading, because = _leads(*known)
                words = f"{where}: {better} > {' and '.join(worse)}"
                claims.append(Claim(reading, words, because))
    return claims


def _rival(study: Study, group: Group, method: str) -> Group | None:
    """What differs from a group in its method only; see `Study.peer`."""
    peer = study.peer(group, method)
    return peer if peer and peer.label.detail == group.label.detail else None


def _leads(first: _Side, *others: _Side) -> _Judged:
    """Whether the first lies above each of the others."""
    told = ", ".join(side.told for side in (first, *others))
    judged = dict(
        _descending({side.name: side for side in (first, other)}) for other in others
    )
    reading = next(r for r in (FAILS, UNDECIDED, SHOWS) if r in judged)
    why = judged[reading].partition(": ")[2]
    return reading, ": ".join(filter(None, [told, why]))


_INDIFFERENT = {"schedule": "the schedule", "refresh": "the refresh of masks"}


def _on_freezing(study: Study) -> list[Claim]:
    """What is said not to matter, where rows differ in nothing else."""
    claims = []
    for key, what in _INDIFFERENT.items():
        alike: dict[str, dict[str, Group]] = {}
        for group in study.quantized:
            rest, value = _but_for(group, key)
            if value:
                alike.setdefault(rest, {}).setdefault(value, group)
        for groups in alike.values():
            called = {v: v if key == "schedule" else f"{key} {v}" for v in groups}
            sides = {v: s for v, g in groups.items() if (s := _side(called[v], g))}
            if len(sides) > 1:
                words = (
                    f"{_frozen(next(iter(groups.values())))}: {what} does not matter"
                )
                reading, because = _indifferent(sides)
                claims.append(Claim(reading, words, because))
    return claims


def _but_for(group: Group, key: str) -> tuple[str, str]:
    """All that makes a group but for one setting of its masks, and that setting."""
    values, rest = set(), []
    for place, pattern, rule in _rules(group):
        settings = dict(rule)
        if settings.get("method") == "stompp":
            values.add(str(settings.pop(key)))
        rest.append((place, pattern, sorted(settings.items())))
    value = values.pop() if len(values) == 1 else ""
    return str((rest, group.traits, group.recipe)), value


def _rules(group: Group) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What its config says of weights and activations: place, pattern, settings."""
    config = group.rows[0]["config"]
    return [
        (place, pattern, rule or {})
        for place in ("weights", "activations")
        for pattern, rule in config.get(place) or ()
    ]


def _frozen(group: Group) -> str:
    """`BNN, ResNet-18, global`: which network, and in which order it is frozen."""
    orders = dict.fromkeys(str(r["order"]) for *_, r in _rules(group) if "order" in r)
    other = [order for order in orders if order != "forward"]
    return ", ".join(
        [names.place(group.label.place), names.network(group.network), *other]
    )


def _on_orders(
    study: Study,
    place: str,
    claimed: str,
    judge: Callable[[Mapping[str, _Side | None]], _Judged],
) -> list[Claim]:
    """The claim on orders, for every network that was frozen in more than one."""
    claims = []
    for network in study.networks:
        first = study.find(place, "stompp", network)
        orders = {"stompp": first}
        for method in ("global", "reverse"):
            other = study.find(place, method, network)
            orders[method] = study.peer(first, method) if first and other else other
        sides = {_ORDERS[m]: _side(_ORDERS[m], group) for m, group in orders.items()}
        if sides["global"] or sides["reverse"]:
            words = f"{names.place(place)}, {names.network(network)}: {claimed}"
            reading, because = judge(sides)
            claims.append(Claim(reading, words, because))
    return claims


def _on_depth(study: Study) -> list[Claim]:
    """The claim on depth, for ResNets that differ in nothing else in their name."""
    claims = []
    networks = [n for n in study.networks if names.depth(n) is not None]
    for method in _GAINING:
        words = f"BNN: the gain of {names.method(method)} on STE grows with depth"
        for kind in dict.fromkeys(re.sub("^r[0-9]+", "", n) for n in networks):
            alike = [n for n in networks if re.sub("^r[0-9]+", "", n) == kind]
            groups = [g for n in alike if (g := study.find("bnn", method, n))]
            gains = {g.network: gain for g in groups if (gain := _gains(study, g))}
            if len(gains) > 1:
                reading, because = _descending(dict(reversed(gains.items())))
                because += _besides([g for g in groups if g.network in gains])
                claims.append(Claim(reading, words, because))
    return claims


def _descending(sides: Mapping[str, _Side | None]) -> _Judged:
    """Whether each lies above those that follow."""
    known = [side for side in sides.values() if side is not None]
    told = ", ".join(side.told for side in known)
    pairs = list(itertools.combinations(known, 2))
    wrong = [(a, b) for a, b in pairs if _lies_above(b, a)]
    mixed = [(a, b) for a, b in pairs if not _lies_above(a, b)]
    if wrong:
        return FAILS, f"{told}: {wrong[0][1].name} lies above {wrong[0][0].name}"
    if len(known) < len(sides):
        rest = "; what there is stands in this order" * bool(pairs and not mixed)
        return UNDECIDED, f"{told}: {_absent(sides)}{rest}"
    if any(side.seeds < 2 for side in known):
        return UNDECIDED, f"{told}: {ALONE}"
    if mixed:
        both = f"{mixed[0][0].name} and {mixed[0][1].name}"
        return UNDECIDED, f"{told}: the seeds of {both} overlap"
    return SHOWS, told


def _indifferent(sides: Mapping[str, _Side | None]) -> _Judged:
    """Whether all lie within a point."""
    known = [side for side in sides.values() if side is not None]
    told = ", ".join(side.told for side in known)
    if len(known) < 2:
        return UNDECIDED, f"{told}: {_absent(sides)}"
    if any(side.seeds < 2 for side in known):
        return UNDECIDED, f"{told}: {ALONE}"
    top, low = (end(known, key=lambda side: side.mean) for end in (max, min))
    apart = f"{points(top.mean - low.mean)[1:]} points apart"
    every = [value for side in known for value in side.values]
    if keeps(min(every), max(every)):
        return SHOWS, f"{told}: means at most {apart}, all seeds within one"
    if not keeps(low.mean, top.mean) and _lies_above(top, low):
        return FAILS, f"{told}: {top.name} and {low.name} lie {apart}"
    if _lies_above(top, low):
        why = (
            f"every seed of {top.name} lies above those of {low.name}, by less than one"
        )
        return UNDECIDED, f"{told}: {apart}; {why}"
    span = f"{points(max(every) - min(every))[1:]} points"
    return UNDECIDED, f"{told}: means {apart}, and seeds, which overlap, span {span}"


def _lies_above(one: _Side, other: _Side) -> bool:
    """Whether every seed of one lies above those of the other, if there are several."""
    several = min(one.seeds, other.seeds) > 1
    return several and lies_above(one.values, other.values)


def _absent(sides: Mapping[str, _Side | None]) -> str:
    missing = [name for name, side in sides.items() if side is None]
    return f"rows of {' and '.join(missing)} order are missing under this recipe"


def _side(name: str, group: Group | None) -> _Side | None:
    values = group.values("accuracy") if group is not None else []
    return _Side(name, values, len(values)) if values else None


def _gains(study: Study, group: Group) -> _Side | None:
    """By how much seeds of a group lie above seeds of the estimator: all pairs."""
    ste = study.peer(group, "ste")
    values, base = group.values("accuracy"), ste.values("accuracy") if ste else []
    gains = [value - other for value in values for other in base]
    few, name = min(len(values), len(base)), names.network(group.network)
    return _Side(name, gains, few, points, " points") if gains else None


def _besides(groups: Sequence[Group]) -> str:
    """What else tells these networks apart, for example their width."""
    alike = [{**group.traits, **group.recipe} for group in groups]
    differ = [
        key
        for key in alike[0]
        if key != "name" and len({str(each.get(key)) for each in alike}) > 1
    ]
    return f"; they differ in {' and '.join(differ)} too" if differ else ""
