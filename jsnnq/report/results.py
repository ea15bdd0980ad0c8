"""The results of a study: rows grouped by experiment, each read against its control.

Of spiking networks the question is which quantizer keeps the accuracy and yet changes
what the network does (arXiv 2604.14487): whether its accuracy is within one point of
the control, float networks of the same seeds that were trained just as long, and
whether the Earth Mover's Distance (EMD) to the float network exceeds the largest value
that the control reached. A row trained from a checkpoint is
read against the *drift* (the float network fine-tuned just as long), a row from scratch
against the *floor* (float networks of different seeds), and a post-training row against
nothing, because nothing was trained.

Binary networks do not spike and have no control: a row is read against rows of the same
network under the same recipe, trained by another method (arXiv 2606.27759).
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq.analysis.firing import Counts
from jsnnq.config import Config, Run, from_dict
from jsnnq.errors import InputError
from jsnnq.report import meaning
from jsnnq.report.groups import Group, dig, gather, is_finite
from jsnnq.report.numbers import distance

SCHEMA = 2
"""Of `results.json`: runs are pairs, and what diverged keeps its config."""
KEPT = 0.01
"""Accuracy is kept if it is at most this far below that of the control."""
CONTROLS = {"scratch": "floor", "checkpoint": "drift"}
"""What a row is read against, by its start."""


class Control(NamedTuple):
    """Drift or floor, its mean and its range."""

    word: str
    mean: float
    low: float
    high: float

    @property
    def span(self) -> str:
        """Its range in words."""
        once = self.low == self.high
        ends = f"{distance(self.low)} to {distance(self.high)}"
        return "measured once" if once else ends


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
class Row:
    """A row with its seeds, each beside its control. One that diverged has lost both.

    Attributes:
        config: of the row.
        network: which one, in words.
        control: what EMDs are held against, if it is measured.
        accuracies: by seed; minus infinity if it diverged.
        bases: by seed, the accuracy that it is held against.
        emds: by seed, to the float network of the same seed; infinite if it diverged.
    """

    config: Config
    network: str
    control: Control | None
    accuracies: Mapping[int, float]
    bases: Mapping[int, float]
    emds: Mapping[int, float]

    accuracy = property(lambda self: statistics.fmean(self.accuracies.values()))
    emd = property(lambda self: statistics.fmean(self.emds.values()))

    def keeps_accuracy(self, within: float = KEPT) -> bool | None:
        """Whether every seed does, or None where they disagree."""
        known = self.accuracies.items()
        return _agreed(keeps(value, self.bases[seed], within) for seed, value in known)

    def keeps_firing(self) -> bool | None:
        """Whether every seed does, or None where they disagree or nothing is known."""
        if self.control is None:
            return None
        return _agreed(emd <= self.control.high for emd in self.emds.values())

    @property
    def reading(self) -> Reading:
        """What accuracy and firing say together, if all seeds agree about both."""
        accuracy, firing = self.keeps_accuracy(), self.keeps_firing()
        if accuracy is None or firing is None:
            return UNJUDGED
        return READINGS[accuracy, not firing]


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything a report is made from; `read` makes one.

    Attributes:
        results: the contents of `results.json`.
        groups: its rows, grouped.
        firing: the spike counts of each run.
        curves: the training of each run.
        looks: what was seen inside each run; see `jsnnq.training.probe`.
        planned: all runs, finished or not.
        diverged: runs whose numbers did not stay finite, with their configs where these
            are known.
    """

    results: Mapping[str, Any]
    groups: tuple[Group, ...]
    firing: Mapping[Run, Counts]
    curves: Mapping[Run, Sequence[Mapping[str, Any]]]
    looks: Mapping[Run, Mapping[str, Any]]
    planned: tuple[Run, ...]
    diverged: Mapping[Run, Config | None]

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

    methods = property(lambda self: [group.method for group in self.groups])

    def of_kind(self, kind: str) -> list[Group]:
        """The groups of float networks, controls or quantized networks."""
        return [group for group in self.groups if group.kind == kind]

    quantized = property(lambda self: self.of_kind("quantized"))

    def paper(self, group: Group) -> Mapping[str, Any]:
        """What was published for this row: `accuracy`, `emd`, `grade`, `of`."""
        return (self.results.get("paper") or {}).get(group.name) or {}

    @property
    def float_accuracies(self) -> list[float]:
        """Of the float networks trained from scratch, one per seed."""
        floats = self.of_kind("float")
        return [value for group in floats for value in group.values("accuracy")]

    @property
    def reference(self) -> float:
        """Accuracy that points are counted from: the float networks', else the best."""
        every = [value for group in self.groups for value in group.values("accuracy")]
        return statistics.fmean(self.float_accuracies or [max(every, default=0.0)])

    def base(self, start: str, seeds: Iterable[int] = ()) -> float:
        """Accuracy that rows with this start are held against: their control's.

        That of the same seeds, or of all where none has them: a row and the control of
        its seed saw the same images in the same order.
        """
        kinds = ("control", "float") if start == "checkpoint" else ("float",)
        wanted = set(seeds)
        for kind in kinds:
            alike = [group.by_seed("accuracy") for group in self.of_kind(kind)]
            known = [pair for accuracies in alike for pair in accuracies.items()]
            paired = [accuracy for seed, accuracy in known if seed in wanted]
            if known:
                return statistics.fmean(paired or [accuracy for _, accuracy in known])
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
        if not self.float_accuracies:  # A control alone says nothing of accuracy.
            return UNJUDGED
        kept = keeps(accuracy, self.base(group.start, group.seeds))
        return READINGS[kept, emd > control.high]

    def trained(self, group: Group) -> list[str]:
        """How it was trained in words, where others of its network were otherwise."""
        alike = [other for other in self.quantized if other.network == group.network]
        return meaning.recipe(group.config, [other.config for other in alike])

    def float_peer(self, group: Group) -> Group | None:
        """The same network in full precision, under the same recipe if there is one."""
        floats = [
            other
            for other in self.of_kind("float")
            if other.network == group.network and other.name != group.name
        ]
        alike = [other for other in floats if other.recipe == group.recipe]
        return next(iter(alike or floats), None)

    def estimator(self, group: Group) -> Group | None:
        """The estimator's row that differs in the method only, if there is one.

        The one with the same details, else one without any.
        """
        wanted = (group.network, group.place, group.recipe)
        found = [
            other
            for other in self.quantized
            if other.method == "STE"
            and other.name != group.name
            and other.details in ((), group.details)
            and (other.network, other.place, other.recipe) == wanted
        ]
        return max(found, key=lambda other: len(other.details), default=None)

    def gain(self, group: Group) -> float | None:
        """Accuracy minus that of the straight-through estimator; see `estimator`."""
        return _above(group, self.estimator(group))

    def gap(self, group: Group) -> float | None:
        """Accuracy minus that of full precision."""
        return _above(group, self.float_peer(group))

    def rows(self) -> list[Row]:
        """Quantized rows to compare: with an accuracy, and an EMD if they spike."""
        groups = {(group.name, group.start): group for group in self.quantized}
        lost: dict[tuple[str, str], list[int]] = {}
        configs = {key: group.config for key, group in groups.items()}
        for run, config in self.diverged.items():
            # Of results that do not say how a run was made the name has to do.
            alike = (one.config for one in groups.values() if one.name == run.name)
            made = config or next(alike, None)
            if made and made.kind == "quantized":
                lost.setdefault((run.name, made.start), []).append(run.seed)
                configs.setdefault((run.name, made.start), made)
        found = []
        for key, config in configs.items():
            group, gone = groups.get(key), lost.get(key, [])
            accuracies = dict.fromkeys(gone, -math.inf)
            emds = dict.fromkeys(gone, math.inf)
            if group:
                accuracies |= group.by_seed("accuracy")
                emds |= group.by_seed("emd.mean")
            control = self.control(config.start) if config.spikes else None
            network = group.network if group else meaning.network(config.network.name)
            bases = {seed: self.base(config.start, [seed]) for seed in accuracies}
            if accuracies and (emds or not config.spikes):
                found.append(Row(config, network, control, accuracies, bases, emds))
        return found

    def read_as(self, code: str) -> list[Group]:
        """Quantized groups of one reading, the largest EMD first."""
        found = [group for group in self.quantized if self.reading(group).code == code]
        return sorted(found, key=lambda group: -(group.mean("emd.mean") or 0.0))


def read(
    results: Mapping[str, Any],
    firing: Mapping[Run, Counts] | None = None,
    curves: Mapping[Run, Sequence[Mapping[str, Any]]] | None = None,
    looks: Mapping[Run, Mapping[str, Any]] | None = None,
) -> Results:
    """The results of a study, from `results.json` of this schema or the one before.

    Raises:
        InputError: `results` is of another schema, or a row is none.
    """
    if results.get("schema") not in (1, SCHEMA):
        raise InputError(
            f"results of schema {results.get('schema')!r} were given, this jsnnq reads "
            f"schemas 1 and {SCHEMA}: make the report with the jsnnq that ran the study"
        )
    planned = tuple(map(_run, results.get("planned", ())))
    diverged = {
        _run(one): None if isinstance(one, str) else from_dict(one["config"])
        for one in results.get("diverged", ())
    }
    seen = firing or {}, curves or {}, looks or {}
    return Results(results, gather(results["rows"]), *seen, planned, diverged)


def _run(one: Any) -> Run:
    if isinstance(one, str):  # Schema 1 wrote them as text.
        name, seed = one.rsplit("/seed", 1)
        return Run(name, int(seed))
    return Run(one["name"], one["seed"])


def keeps(accuracy: float, base: float, within: float = KEPT) -> bool:
    """Whether an accuracy lies at most so far below another; a diverged one never."""
    # In binary fractions 0.99 - 0.98 is a hair more than 0.01.
    return is_finite(accuracy) and accuracy >= base - within - 1e-9


def _agreed(values: Iterable[bool]) -> bool | None:
    said = set(values)
    return said.pop() if len(said) == 1 else None


def _above(group: Group, other: Group | None) -> float | None:
    """How far the mean accuracy of one lies above that of another."""
    one, base = group.mean("accuracy"), other and other.mean("accuracy")
    return None if one is None or base is None else one - base


def is_synthetic(dataset: str) -> bool:
    """Whether the images are random, as the name of the data set says."""
    return "synthetic" in dataset.lower()
