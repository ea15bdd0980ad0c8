"""Rows of a study as evidence for or against a claim: every seed beside its control.

Accuracy is *kept* within one point of the control of the same seed, which was trained
just as long, and the firing is if its EMD does not exceed the largest value that the
control reached. Something is kept if every seed keeps it and lost if none does; where
seeds disagree, or there is but one of a row or of its control, nothing can be decided.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

from jsnnq.report import names
from jsnnq.report.claims import ALONE, UNDECIDED, Claim
from jsnnq.report.groups import Group, dig, is_finite
from jsnnq.report.numbers import percent, times
from jsnnq.report.results import Control, Reading, Study, keeps


@dataclasses.dataclass(frozen=True)
class Row:
    """A row with its seeds.

    A seed that diverged has lost both: its accuracy is minus infinity, its EMD plus.

    Attributes:
        name: of the row.
        label: what its name says.
        control: what EMDs are held against, if it is measured.
        accuracies: of each seed.
        bases: for each seed the accuracy that it is held against.
        emds: of each seed, to the float network of the same seed.
    """

    name: str
    label: names.Label
    control: Control | None
    accuracies: Sequence[float]
    bases: Sequence[float]
    emds: Sequence[float]

    @property
    def bits(self) -> int:
        """Of what is quantized; 0 where the name says none."""
        return self.label.bits or 0

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def emd(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.emds)

    def keeps_accuracy(self) -> bool | None:
        """Whether every seed does, or None where they disagree."""
        return _agreed(map(keeps, self.accuracies, self.bases))

    def keeps_firing(self) -> bool | None:
        """Whether every seed does, or None where they disagree."""
        highest = self.control.high if self.control else -math.inf
        return _agreed(emd <= highest for emd in self.emds)

    def told(self, name: str = "") -> str:
        """`2 bits 55.1 % at 1.3x the drift`."""
        name = name or f"{self.bits} bits"
        gone = sum(not is_finite(accuracy) for accuracy in self.accuracies)
        if gone:
            return f"{name} diverged ({gone} of {len(self.accuracies)} seeds)"
        assert self.control is not None
        ratio = times(self.emd / self.control.mean) if self.control.mean else "∞×"
        return f"{name} {percent(self.accuracy)} % at {ratio} the {self.control.word}"


def _agreed(values: Iterable[bool]) -> bool | None:
    said = set(values)
    return said.pop() if len(said) == 1 else None


def rows_of(study: Study, place: str, method: str) -> list[Row]:
    """Rows of a quantizer that can be read against a control, the narrowest first.

    Args:
        study: whose quantized rows have one start.
        place: what is quantized: `weights`, `membrane`, ...
        method: the quantizer, as names of rows spell it.
    """
    lost = [key.rsplit("/seed", 1) for key in study.diverged]
    known = {
        group.name: group
        for group in study.quantized
        if study.control(group.start)
        and group.values("accuracy")
        and group.values("emd.mean")
    }
    start = next((group.start for group in known.values()), "checkpoint")
    control = study.control(start)
    found = []
    for name in dict.fromkeys([*known, *(name for name, _ in lost)]):
        group = known.get(name)
        label = group.label if group else names.read(name, "quantized", {"neuron": {}})
        if label[:2] != (place, method):
            continue
        gone = [int(seed) for other, seed in lost if other == name]
        accuracies = dict.fromkeys(gone, -math.inf) | _measured(group, "accuracy")
        emds = dict.fromkeys(gone, math.inf) | _measured(group, "emd.mean")
        bases = [study.base(start, [seed]) for seed in accuracies]
        found.append(
            Row(name, label, control, [*accuracies.values()], bases, [*emds.values()])
        )
    return sorted(found, key=lambda row: row.bits)


def _measured(group: Group | None, path: str) -> dict[int, float]:
    """By seed, the numbers at a path that are finite."""
    rows = group.rows if group else ()
    values = {row["seed"]: dig(row, path) for row in rows}
    return {seed: float(v) for seed, v in values.items() if is_finite(v)}


def by_width(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of several widths that differ in nothing else, by what they share."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.bits:
            clip = f"clip {row.label.clip}" if row.label.clip else ""
            method = names.method(row.label.method)
            name = " ".join(filter(None, [method, row.label.detail, clip]))
            found.setdefault(name, []).append(row)
    return {name: family for name, family in found.items() if len(family) > 1}


def conclude(words: str, rows: Iterable[Row], reading: Reading, told: str) -> Claim:
    """The claim, open if one seed of a row or of its control would have to decide.

    Args:
        words: what is claimed.
        rows: what it was held against.
        reading: what they say.
        told: their numbers.
    """
    rows = list(rows)
    controls = [row.control for row in rows]
    once = [c.word if c else "control" for c in controls if not c or c.low == c.high]
    if reading == UNDECIDED:
        return Claim(reading, words, told)
    if any(len(row.accuracies) < 2 for row in rows):
        return Claim(UNDECIDED, words, f"{told}; {ALONE}")
    if once:
        told += f"; a {once[0]} that was measured once decides nothing"
        return Claim(UNDECIDED, words, told)
    return Claim(reading, words, told)


def against(rows: Sequence[Row]) -> str:
    """What the accuracies of rows with one start were held against."""
    control = rows[0].control
    bases = [base for row in rows for base in row.bases]
    low, high = percent(min(bases)), percent(max(bases))
    word = f" ({control.word})" if control else ""
    if low == high:
        return f"; the control reached {low} %{word}"
    return f"; the control reached {low} to {high} %{word}, seed by seed"
