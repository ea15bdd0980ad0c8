"""The results of a study: rows grouped by experiment, each read against its control.

The question is which quantizer keeps the accuracy of a spiking network and yet
changes what the network does (arXiv 2604.14487). Accuracy is kept within one point of
the float networks; behaviour has changed where the Earth Mover's Distance (EMD) to the
float network exceeds the largest value that the control reached. A row trained from a
checkpoint is read against the *drift* (the float network fine-tuned just as long), a
row from scratch against the *floor* (float networks of different seeds), and a
post-training row against nothing, because nothing was trained.

Rows of one name and start are the same experiment under several seeds: one `Group`.
"""

import dataclasses
import math
import numbers
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq.errors import InputError

SCHEMA = 1
KEPT = 0.01
"""Accuracy is kept if it is at most this far below the float networks'."""
CONTROLS = {"scratch": "floor", "checkpoint": "drift"}
"""What a row is read against, by its start."""
PLACES = ("weights", "membrane", "both")
"""What can be quantized: the first word of a row's name."""
_NAME = rf"(?:({'|'.join(PLACES)})-)?(.+?)(?:-clip([^-]+))?(?:-([0-9]+)bits?)?"
_METHODS = {
    "float": "float network",
    "control": "float network, fine-tuned",
    "lqnet": "LQ-Net",
    "snntorch": "snnTorch",
    "mint": "MINT",
}


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


class Label(NamedTuple):
    """What a row's name says, for example `weights-uniform-clip10-4bit`."""

    place: str
    method: str
    detail: str
    clip: str
    bits: int | None


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows of one name and start, which differ in their seed only."""

    name: str
    kind: str
    start: str
    label: Label
    rows: tuple[Mapping[str, Any], ...]

    @property
    def quantizer(self) -> str:
        """The quantizer in words, or which float network it is."""
        return _METHODS.get(self.label.method, self.label.method)

    @property
    def family(self) -> str:
        """What is quantized, and by which quantizer."""
        return ", ".join(filter(None, [self.label.place, self.quantizer]))

    @property
    def setting(self) -> str:
        """What tells the network from others of its family: `2-bit, clip 10`."""
        _, _, detail, clip, bits = self.label
        words = [f"{bits}-bit" if bits else "", detail, f"clip {clip}" if clip else ""]
        return ", ".join(filter(None, words)) or self.name

    def values(self, path: str) -> list[float]:
        """The finite numbers at a dotted path, one per seed that has one."""
        found = (dig(row, path) for row in self.rows)
        return [float(number) for number in found if _is_finite(number)]

    def mean(self, path: str) -> float | None:
        """The mean over seeds of the numbers at a dotted path."""
        values = self.values(path)
        return statistics.fmean(values) if values else None

    def layers(self) -> dict[str, float]:
        """EMD of each layer, the mean over seeds."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for layer, emd in (dig(row, "emd.layers") or {}).items():
                if _is_finite(emd):
                    found.setdefault(layer, []).append(float(emd))
        return {layer: statistics.fmean(emds) for layer, emds in found.items()}


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything a report is made from; `read` makes one."""

    results: Mapping[str, Any]
    groups: tuple[Group, ...]
    firing: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    planned: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """What the images are."""
        return str(dig(self.results, "provenance.dataset") or "unnamed data set")

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are random."""
        return is_synthetic(self.dataset)

    @property
    def methods(self) -> list[str]:
        """What each group's name says of its quantizer."""
        return [group.label.method for group in self.groups]

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

    def control(self, start: str) -> Control | None:
        """The control of rows with this start, if there is one and it is measured."""
        word = CONTROLS.get(start, "")
        mean = dig(self.results, f"{word}.mean")
        if not _is_finite(mean):
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
        if group.kind != "quantized":
            return Reading(group.kind, "–")
        control, emd = self.control(group.start), group.mean("emd.mean")
        accuracy = group.mean("accuracy")
        if control is None or emd is None or accuracy is None:
            return UNJUDGED
        if not self.float_accuracies:
            return UNJUDGED
        # In binary fractions 0.99 - 0.98 is a hair more than 0.01.
        kept = accuracy >= self.reference - KEPT - 1e-9
        return READINGS[kept, emd > control.high]

    def read_as(self, code: str) -> list[Group]:
        """Quantized groups of one reading, the largest EMD first."""
        found = [group for group in self.quantized if self.reading(group).code == code]
        return sorted(found, key=lambda group: -(group.mean("emd.mean") or 0.0))


def read(
    results: Mapping[str, Any],
    firing: Mapping[str, Mapping[str, Any]] | None = None,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    planned: Iterable[str] = (),
) -> Study:
    """Groups the rows of a study: float, control, then quantized by family.

    Args:
        results: the contents of `results.json`.
        firing: the firing record of each row, by `key`.
        curves: the training of each row, by `key`.
        planned: the keys of all rows, finished or not.

    Raises:
        InputError: `results` is of another schema.
    """
    if results.get("schema") != SCHEMA:
        raise InputError(
            f"results of schema {results.get('schema')!r} were given, this jsnnq reads "
            f"schema {SCHEMA}: make the report with the jsnnq that ran the study"
        )
    grouped: dict[tuple[str, str, str], list] = {}
    for row in results["rows"]:
        identity = (str(row["name"]), row["kind"], row["start"])
        grouped.setdefault(identity, []).append(row)
    groups = [
        Group(name, kind, start, _read_name(name, kind), tuple(rows))
        for (name, kind, start), rows in grouped.items()
    ]
    groups = tuple(sorted(groups, key=_order))
    return Study(results, groups, firing or {}, curves or {}, tuple(planned))


def key(row: Mapping[str, Any]) -> str:
    """How a row is called: `name/seed0`."""
    return f"{row['name']}/seed{row['seed']}"


def dig(tree: Any, path: str) -> Any:
    """The value at a dotted path, or None where the path ends early."""
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


def is_synthetic(dataset: str) -> bool:
    """Whether the images are random, as the name of the data set says."""
    return "synthetic" in dataset.lower()


def _order(group: Group) -> tuple:
    """Float, control, then quantized by family, clip and bits."""
    kinds, places = ("float", "control", "quantized"), ("", *PLACES)
    place, method, detail, clip, bits = group.label
    where = (kinds.index(group.kind), places.index(place), method, detail)
    return (*where, len(clip), clip, bits or 0, group.name, group.start)


def _read_name(name: str, kind: str) -> Label:
    if kind != "quantized":
        return Label("", kind, "", "", None)
    parts = re.fullmatch(_NAME, name, re.DOTALL)
    place, words, clip, bits = parts.groups("") if parts else ("", name, "", "")
    method, _, detail = words.partition("-")
    return Label(place, method, detail.replace("-", " "), clip, int(bits or 0) or None)


def _is_finite(number: Any) -> bool:
    return isinstance(number, numbers.Real) and math.isfinite(number)


# How numbers are printed


def percent(fraction: float) -> str:
    """A share of one as a percentage, without the sign."""
    return f"{100 * fraction:.1f}"


def times(ratio: float) -> str:
    """A multiple of the control."""
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def distance(emd: float) -> str:
    """An EMD or a rate."""
    return f"{emd:.4f}"


def amount(number: float) -> str:
    """Three digits and a metric prefix."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + prefix
    return f"{number:.3g}"


def kib(bits: float) -> str:
    """A number of bits in KiB."""
    return f"{bits / 8192:,.1f}"
