"""What a study found, as data, and the sentences that say it.

A reader who knows nothing of the study shall see in ten seconds which quantizer keeps
the accuracy and changes the behaviour, or what each method reached, and what forbids to
believe it. The sentences themselves stand in `sentences.jinja`.
"""

import base64
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jsnnq.config import Run
from jsnnq.quantizers.base import PLACES
from jsnnq.report import comparisons, meaning, numbers, tables
from jsnnq.report.groups import Group
from jsnnq.report.results import CONTROLS, KEPT, READINGS, UNJUDGED, Reading, Results

if TYPE_CHECKING:
    import jinja2


class Finding(NamedTuple):
    """What the rows that can be judged say together.

    Attributes:
        judged: the quantized groups with a control.
        silent: those that keep the accuracy and move the firing, the farthest first.
        same: those that keep both.
        start: of all judged ones, if they have the same.
        base: the accuracy that all of them are held against, if it is the same.
        tuned: whether that is a control's, trained as long.
        starts: of those that keep the accuracy.
    """

    judged: Sequence[Group]
    silent: Sequence[Group]
    same: Sequence[Group]
    start: str
    base: float
    tuned: bool
    starts: set[str]


Said = tuple[str, Any]
"""Which sentence of `sentences.jinja` it is, and what it is about."""


def finding(study: Results) -> Finding:
    """The verdict of a spiking study, from the numbers alone."""
    judged = [g for g in study.quantized if study.reading(g) != UNJUDGED]
    silent, same = study.read_as("silent"), study.read_as("same")
    starts = {group.start for group in judged}
    start = starts.pop() if len(starts) == 1 else ""
    seeds = {tuple(group.seeds) for group in judged}
    # Groups of several sets of seeds have as many controls.
    base = study.base(start, seeds.pop() if len(seeds) == 1 else ())
    tuned = bool(study.of_kind("control"))
    kept = {group.start for group in silent or same}
    return Finding(judged, silent, same, start, base, tuned, kept)


def reached(study: Results) -> list[tuple[str, list[Group], Group | None]]:
    """Of binary networks: which, its methods from the best on, its full precision.

    Of those that are binary in weights and activations, where there are any; each
    recipe apart.
    """
    known = [group for group in study.quantized if group.values("accuracy")]
    places = [group.place for group in known]
    place = "BNN" if "BNN" in places else next(iter(places), "")
    found: dict[str, list[Group]] = {}
    for group in known:
        if group.place == place:
            words = [place, group.network, *study.trained(group)]
            found.setdefault(", ".join(filter(None, words)), []).append(group)
    best = lambda group: -(group.mean("accuracy") or 0.0)
    return [
        (words, sorted(alike, key=best), study.float_peer(alike[0]))
        for words, alike in found.items()
    ]


def lists(study: Results) -> list[tuple[Reading, list[Group]]]:
    """Quantized groups sorted by what is to be said about them."""
    readings = [*READINGS.values(), UNJUDGED]
    found = [(reading, study.read_as(reading.code)) for reading in readings]
    return [(reading, groups) for reading, groups in found if groups]


def missing(study: Results, undrawn: Sequence[str] = ()) -> list[Said]:
    """What a finished study has and this one lacks, plots by their titles."""
    done = {run for group in study.groups for run in group.runs}
    lost = [run for run in study.diverged if run not in done]
    waiting = [run for run in study.planned if run not in (*done, *lost)]
    found: list[Said] = [("diverged", lost), ("unfinished", waiting)]
    if not study.is_binary:
        rows = [(group, row) for group in study.quantized for row in group.rows]
        blind = [Run(g.name, row["seed"]) for g, row in rows if not row.get("emd")]
        found.append(("no float", not study.float_accuracies))
        found += [("no quantized", not study.quantized), ("no emd", blind)]
        for start, word in CONTROLS.items():
            is_used = any(group.start == start for group in study.quantized)
            if is_used and study.control(start) is None:
                found.append(("no control", (word, start)))
    return [one for one in (*found, ("undrawn", undrawn)) if one[1]]


def caveats(study: Results) -> list[Said]:
    """What a reader must know before believing the verdict."""
    single = bool(study.quantized) and all(len(g.rows) == 1 for g in study.quantized)
    if study.is_binary:
        # What was published belongs to the full width.
        widths = {g.network: g.config.network.width for g in study.groups}
        widths = {network: width for network, width in widths.items() if width != 1}
        found: list[Said] = [
            ("single binary", single),
            ("width", widths),
            ("choices", choices(study)),
        ]
    else:
        accuracies = study.float_accuracies or [0.0]
        apart = max(accuracies) - min(accuracies)
        untrained = any(group.start == "post-training" for group in study.quantized)
        found = [
            ("apart", apart if apart > KEPT else 0),
            ("single", single),
            ("post-training", untrained),
        ]
    known = [value for group in study.groups if (value := study.paper(group))]
    grades = sorted({str(value.get("grade")) for value in known})
    others = [str(value["of"]) for value in known if value.get("of")]
    found += [("grades", grades), ("others", [*dict.fromkeys(others)])]
    return [one for one in found if one[1]]


def compared(study: Results) -> list[tuple[str, list[Any], list[comparisons.Family]]]:
    """What changes with each setting: its values, and the families it is seen in."""
    rows, found = study.rows(), []
    for setting in comparisons.SETTINGS:
        families = comparisons.families(rows, setting)
        if setting == "method":
            # Details alone make no other method; they are compared by themselves.
            methods = lambda family: {meaning.method(x.config) for x in family.values()}
            families = [one for one in families if len(methods(one.rows)) > 1]
        told = [_told_apart(one, families) for one in families]
        values = comparisons.by_size({value for one in told for value in one.rows})
        found.append((setting, values, told))
    return [one for one in found if one[2]]


def _told_apart(
    family: comparisons.Family, families: Sequence[comparisons.Family]
) -> comparisons.Family:
    """With its start and its recipe, where others that share the same differ in it."""
    mine, *others = (
        next(iter(one.rows.values())).config
        for one in (family, *families)
        if one.shared == family.shared
    )
    is_alone = all(other.start == mine.start for other in others)
    start = [] if is_alone else [f"from {mine.start}"]
    recipe = meaning.recipe(mine, [x for x in others if x.start == mine.start])
    return family._replace(shared=(*family.shared, *start, *recipe))


def choices(study: Results) -> dict[str, list[str]]:
    """The readings of StoMPP and of the estimator that the rows were made with."""
    known = sorted(
        (pair for one in study.quantized for pair in meaning.quantizers(one.config)),
        key=lambda pair: PLACES.index(pair[0]),
    )
    shortcuts = [str(group.traits.get("shortcut", "")) for group in study.quantized]
    found: dict[str, list[str]] = {}
    for name in ("law", "refresh", "schedule", "masks", "scaled", "gradient"):
        for place, one in known:
            # Masks of weights are by entry, whatever is chosen.
            if hasattr(one, name) and (name, place) != ("masks", "weights"):
                key = f"{name} of {place}" if name == "gradient" else name
                found.setdefault(key, []).append(str(getattr(one, name)))
    found["shortcut"] = [*filter(None, shortcuts)]
    return {key: [*dict.fromkeys(values)] for key, values in found.items() if values}


def say(sentence: str, *about: Any) -> str:
    """A macro of `sentences.jinja` as plain text."""
    macro = getattr(_templates(False).get_template("sentences.jinja").module, sentence)
    return " ".join(macro(*about).split())


def template(name: str) -> "jinja2.Template":
    """A template of this folder; what is printed into HTML is escaped."""
    return _templates("html" in name).get_template(name)


@functools.cache
def _templates(autoescape: bool) -> "jinja2.Environment":
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("jsnnq", "report"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    printed = ("percent", "points", "times", "distance")
    made.filters |= {name: getattr(numbers, name) for name in printed}
    made.filters["inline"] = lambda png: base64.b64encode(png).decode()
    made.filters["line"] = tables.escape
    made.globals |= {"finding": finding, "reached": reached, "lists": lists}
    made.globals |= {"in_numbers": comparisons.evidence, "named": meaning.named}
    return made
