"""The results of a study: rows grouped by experiment, each read against its control.

Of spiking networks the question is which quantizer keeps the accuracy and yet changes
what the network does (arXiv 2604.14487). Accuracy is kept within one point of the
control, the float networks of the same seeds that were trained just as long;
behaviour has changed where the Earth Mover's Distance (EMD) to the float network
exceeds the largest value that the control reached. A row trained from a checkpoint is
read against the *drift* (the float network fine-tuned just as long), a row from scratch
against the *floor* (float networks of different seeds), and a post-training row against
nothing, because nothing was trained.

Binary networks do not spike and have no control: a row is read against rows of the same
network under the same recipe, trained by another method (arXiv 2606.27759).
"""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq.errors import InputError
from jsnnq.report.groups import Group, dig, gather, is_finite
from jsnnq.report.numbers import distance

SCHEMA = 1
KEPT = 0.01
"""Accuracy is kept if it is at most this far below that of the control."""
CONTROLS = {"scratch": "floor", "checkpoint": "drift"}
"""What a row is read against, by its start."""


class Control(NamedTuple):
    """What an EMD is read against: drift or floor, its mean and its range."""

    word: str
    mean: float
    low: float
    high: float

    @property
    def span(self) -> str:
        """Its range in words."""
        if self.low == self.high:
            return "measured once"
        return f"{distance(self.low)} to {distance(self.high)}"


class Reading(NamedTuple):
    """What accuracy and EMD say together; `code` is its class in the page."""

    code: str
    words: str


READINGS = {  # by (accuracy kept, behaviour changed)
    (True, True): Reading("silent", "keeps accuracy, changes behaviour"),
    (True, False): Reading("same", "keeps accuracy and behaviour"),
    (False, True): Reading("drowned", "loses accuracy and changes behaviour"),
    (False, False): Reading("weak", "loses accuracy, keeps behaviour"),
}
UNJUDGED = Reading("open", "not judged, without a control")


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything a report is made from; `read` makes one."""

    results: Mapping[str, Any]
    groups: tuple[Group, ...]
    firing: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    planned: tuple[str, ...]
    looks: Mapping[str, Mapping[str, Any]]

    @property
    def dataset(self) -> str:
        """What the images are."""
        return str(dig(self.results, "provenance.dataset") or "unnamed data set")

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are random."""
        return is_synthetic(self.dataset)

    @property
    def is_binary(self) -> bool:
        """Whether its networks do not spike, so that accuracy is all there is."""
        return bool(self.groups) and not any(g.is_spiking for g in self.groups)

    @property
    def networks(self) -> list[str]:
        """The networks that were trained, ResNets by depth."""
        return list(dict.fromkeys(group.network for group in self.groups))

    def paper(self, group: Group) -> Mapping[str, Any]:
        """What was published for this row: `accuracy`, `emd`, `grade`, `of`."""
        return (self.results.get("paper") or {}).get(group.name) or {}

    @property
    def methods(self) -> list[str]:
        """What each group's name says of its quantizer."""
        return [group.label.method for group in self.groups]

    @property
    def diverged(self) -> list[str]:
        """Keys of rows whose numbers did not stay finite."""
        return list(self.results.get("diverged") or ())

    @property
    def quantized(self) -> list[Group]:
        """The groups of quantized networks."""
        return [group for group in self.groups if group.kind == "quantized"]

    @property
    def float_accuracies(self) -> list[float]:
        """Of the float networks trained from scratch, one per seed."""
        floats = (group for group in self.groups if group.kind == "float")
        return [value for group in floats for value in group.values("accuracy")]

    @property
    def reference(self) -> float:
        """Accuracy that points are counted from: the float networks', else the best."""
        every = [value for group in self.groups for value in group.values("accuracy")]
        return statistics.fmean(self.float_accuracies or [max(every, default=0.0)])

    def base(self, start: str, seeds: Iterable[int] = ()) -> float:
        """Accuracy that rows with this start are held against: their control's.

        Args:
            start: of the rows.
            seeds: of the rows: the control of the same seeds, or of all where none has
                them. A row and the control of its seed saw the same images in the same
                order.
        """
        kinds = ("control", "float") if start == "checkpoint" else ("float",)
        wanted = set(seeds)
        for kind in kinds:
            known = [
                (row["seed"], float(row["accuracy"]))
                for group in self.groups
                if group.kind == kind
                for row in group.rows
                if is_finite(row["accuracy"])
            ]
            alike = [accuracy for seed, accuracy in known if seed in wanted]
            if known:
                return statistics.fmean(alike or [accuracy for _, accuracy in known])
        return self.reference

    def control(self, start: str) -> Control | None:
        """The control of rows with this start, if there is one and it is measured."""
        word = CONTROLS.get(start, "")
        mean = dig(self.results, f"{word}.mean")
        if not is_finite(mean):
            return None
        low, high = dig(self.results, f"{word}_range.mean") or (mean, mean)
        return Control(word, float(mean), float(low), float(high))

    def ratio(self, group: Group) -> float | None:
        """EMD over that of its control, for example "times the drift"."""
        control, emd = self.control(group.start), group.mean("emd.mean")
        if emd is None or control is None or control.mean == 0:
            return None
        return emd / control.mean

    def reading(self, group: Group) -> Reading:
        """Whether accuracy was kept, and whether the EMD exceeds the control."""
        if group.kind != "quantized" or not group.is_spiking:
            return Reading(group.kind, "–")
        control, emd = self.control(group.start), group.mean("emd.mean")
        accuracy = group.mean("accuracy")
        if control is None or emd is None or accuracy is None:
            return UNJUDGED
        if not self.float_accuracies:
            return UNJUDGED
        kept = keeps(accuracy, self.base(group.start, group.seeds))
        return READINGS[kept, emd > control.high]

    def find(self, place: str, method: str, network: str) -> Group | None:
        """The plain row of a method; one with details only if there is no other."""
        wanted = (place, method, network)
        found = [g for g in self.groups if (*g.label[:2], g.network) == wanted]
        plain = [group for group in found if not group.label.detail]
        return plain[0] if plain else found[0] if len(found) == 1 else None

    def peer(self, group: Group, method: str) -> Group | None:
        """What differs from a group in its method only, with the same detail or none.

        Of float networks, which are a line to look at, any recipe will do.
        """
        place = "" if method == "float" else group.label.place
        wanted = (place, method, group.network)
        found = [
            other
            for other in self.groups
            if (*other.label[:2], other.network) == wanted
            and other.label.detail in ("", group.label.detail)
            and other.name != group.name
        ]
        alike = [other for other in found if other.recipe == group.recipe]
        if method == "float":
            alike = alike or found
        return max(alike, key=lambda other: len(other.label.detail), default=None)

    def gain(self, group: Group) -> float | None:
        """Accuracy minus that of the straight-through estimator; see `peer`."""
        return _above(group, self.peer(group, "ste"))

    def gap(self, group: Group) -> float | None:
        """Accuracy minus that of full precision."""
        return _above(group, self.peer(group, "float"))

    def read_as(self, code: str) -> list[Group]:
        """Quantized groups of one reading, the largest EMD first."""
        found = [group for group in self.quantized if self.reading(group).code == code]
        return sorted(found, key=lambda group: -(group.mean("emd.mean") or 0.0))


def read(
    results: Mapping[str, Any],
    firing: Mapping[str, Mapping[str, Any]] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    planned: Iterable[str] = (),
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Study:
    """Groups the rows of a study: float, control, then quantized by family.

    Binary networks are grouped by network first.

    Args:
        results: the contents of `results.json`.
        firing: the firing record of each row, by `key`.
        curves: the training of each row, by `key`.
        planned: the keys of all rows, finished or not.
        looks: what was seen inside each row, by `key`; see `jsnnq.training.probe`.

    Raises:
        InputError: `results` is of another schema.
    """
    if results.get("schema") != SCHEMA:
        raise InputError(
            f"results of schema {results.get('schema')!r} were given, this jsnnq reads "
            f"schema {SCHEMA}: make the report with the jsnnq that ran the study"
        )
    groups = gather(results["rows"])
    return Study(
        results, groups, firing or {}, curves or {}, tuple(planned), looks or {}
    )


def keeps(accuracy: float, base: float, within: float = KEPT) -> bool:
    """Whether an accuracy lies at most so far below another; a diverged one never."""
    # In binary fractions 0.99 - 0.98 is a hair more than 0.01.
    return is_finite(accuracy) and accuracy >= base - within - 1e-9


def _above(group: Group, other: Group | None) -> float | None:
    """How far the mean accuracy of one lies above that of another."""
    one, base = group.mean("accuracy"), other and other.mean("accuracy")
    return None if one is None or base is None else one - base


def is_synthetic(dataset: str) -> bool:
    """Whether the images are random, as the name of the data set says."""
    return "synthetic" in dataset.lower()
