"""Families of rows whose configs differ in one setting, and what is claimed of them.

An experiment exports claims (`CLAIMS`): each is held against families of rows, and the
answers are data that stand in `results.json`.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq.report import meaning
from jsnnq.report.groups import is_finite
from jsnnq.report.results import Results, Row

SHOWS, FAILS, UNDECIDED = "shows", "does not show", "cannot be decided here"
ALONE = "one seed decides nothing"
SETTINGS = ("bits", "clip", "grid", "method", "order", "schedule", "refresh")
"""What families are shown of."""


class Family(NamedTuple):
    """Rows that differ in one setting, by its value, and what they share in words."""

    shared: tuple[str, ...]
    setting: str
    rows: Mapping[Any, Row]


class Answer(NamedTuple):
    """What is claimed, whether it shows, its sides in numbers, and why not more."""

    words: str
    reading: str
    evidence: Sequence[Mapping[str, Any]]
    why: str = ""


Judged = str | tuple[str, str] | None
"""What a family says, and why it says no more; None if it is not claimed of it."""
Claims = Sequence[Callable[[Sequence[Row]], Iterable[Answer]]]


class Claim(NamedTuple):
    """What is claimed of families of those rows that it is `among`.

    Their rows differ in the `setting`, or stand alone if it is empty. What a family
    says of it the `judge` knows, and `over` what several say together; without it each
    family has an answer of its own.
    """

    words: str
    setting: str
    judge: Callable[[Family], Judged]
    among: Callable[[Row], bool]
    over: Callable[[set[str]], str] | None = None

    def __call__(self, rows: Sequence[Row]) -> Iterator[Answer]:
        """The answers of rows with one start."""
        found = families(filter(self.among, rows), self.setting)
        said = [(one, judged) for one in found if (judged := self.judge(one))]
        known = [(one, *((x, "") if isinstance(x, str) else x)) for one, x in said]
        if self.over is None:
            for family, reading, why in known:
                words = f"{', '.join(family.shared)}: {self.words}"
                yield answer(words, reading, why, [family])
        elif found:
            reading = self.over({each for _, each, _ in known} or {UNDECIDED})
            why = next((why for _, each, why in known if each == reading), "")
            judged = [family for family, _, _ in known]
            yield answer(self.words, reading, why, judged or found)


def families(rows: Iterable[Row], setting: str) -> list[Family]:
    """Rows whose configs differ in one setting only; see `meaning.but_for`."""
    found: dict[Any, dict[Any, Row]] = {}
    for number, row in enumerate(rows):
        rest, value = meaning.but_for(row.config, setting) if setting else (number, "")
        if value is not ...:
            found.setdefault(rest, {}).setdefault(value, row)
    return [
        Family(_shared(alike.values()), setting, {v: alike[v] for v in by_size(alike)})
        for alike in found.values()
        if len(alike) > 1 or not setting
    ]


def hold(study: Results, claims: Claims) -> list[Answer]:
    """The claims, held against the rows of each start; what shows stands first."""
    rows = [row for row in study.rows() if row.control or not row.config.spikes]
    starts = list(dict.fromkeys(row.config.start for row in rows))
    answers = [
        found._replace(words=f"{found.words}, from {start}") if starts[1:] else found
        for start in starts
        for claim in claims
        for found in claim([row for row in rows if row.config.start == start])
    ]
    return sorted(answers, key=lambda x: (SHOWS, FAILS, UNDECIDED).index(x.reading))


def answer(words: str, reading: str, why: str, found: Sequence[Family]) -> Answer:
    """What families say; open if one seed of a row or of its control had to decide."""
    sides = [
        ((*one.shared, meaning.named(one.setting, value)), row)
        for one in found
        for value, row in one.rows.items()
    ]
    # Of binary rows, which have no control, the judge has looked at the seeds.
    held = [(row.control, len(row.accuracies)) for _, row in sides if row.control]
    once = [control.word for control, _ in held if control.low == control.high]
    if reading != UNDECIDED and any(seeds < 2 for _, seeds in held):
        reading, why = UNDECIDED, ALONE
    elif reading != UNDECIDED and once:
        reading, why = UNDECIDED, f"a {once[0]} that was measured once decides nothing"
    common = set.intersection(*(set(said) for said, _ in sides)) if sides[1:] else set()
    names = [", ".join(p for p in said if p and p not in common) for said, _ in sides]
    rows = (row for _, row in sides)
    return Answer(words, reading, [*map(evidence, names, rows)], why)


def evidence(name: str, row: Row, unit: str = "%") -> dict[str, Any]:
    """A row in numbers: of each seed (None if it diverged), and its EMD by control."""
    values = [value if is_finite(value) else None for value in row.accuracies.values()]
    made = {"name": name, "values": values, "unit": unit, "ratio": None}
    if row.control and row.control.mean and math.isfinite(row.emd):
        made |= {"ratio": row.emd / row.control.mean, "control": row.control.word}
    return made


def somewhere(readings: set[str]) -> str:
    """Shows if it shows somewhere and fails nowhere; fails the other way round."""
    decided = readings - {UNDECIDED}
    return decided.pop() if len(decided) == 1 else UNDECIDED


everywhere = functools.partial(min, key=(FAILS, UNDECIDED, SHOWS).index)
"""It is claimed of all of them, so that one may speak against it."""
anywhere = functools.partial(max, key=(FAILS, UNDECIDED, SHOWS).index)
"""It is claimed of some of them, so that all have to speak against it."""


def lies_above(one: Mapping[int, float], other: Mapping[int, float]) -> bool:
    """Whether every seed of the one lies above every seed of the other."""
    return min(one.values()) > max(other.values())


def by_size(values: Iterable[Any]) -> list[Any]:
    """Numbers by size, then words, then what is not set."""
    return sorted(values, key=lambda x: (x is None, isinstance(x, str), x or 0))


def _shared(rows: Iterable[Row]) -> tuple[str, ...]:
    """What all of them are, in words."""
    first, *others = [meaning.words(row.config, row.network) for row in rows]
    return tuple(word for word in first if all(word in words for words in others))
