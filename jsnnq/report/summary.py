"""The verdict of a study: what its numbers say, in plain sentences.

A reader who knows nothing of the study shall see in ten seconds which quantizer keeps
the accuracy and changes the behaviour (arXiv 2604.14487), or, of binary networks, what
StoMPP gained (arXiv 2606.27759); and what forbids to believe it: a control that was not
measured, one seed only, rows that are not finished.
"""

from collections.abc import Sequence
from typing import Any

from jsnnq.report import behaviour, freezing, names
from jsnnq.report.claims import Claim, by_reading
from jsnnq.report.groups import Group, key
from jsnnq.report.numbers import distance, percent, points, times
from jsnnq.report.results import (
    CONTROLS,
    KEPT,
    READINGS,
    UNJUDGED,
    Reading,
    Study,
    is_synthetic,
)


def title(study: Study) -> str:
    """The heading of a study."""
    what = "Binary networks" if study.is_binary else "Quantization study"
    return heading(what, study.dataset)


def heading(what: str, dataset: str) -> str:
    """What was done on which data, with a flag if they are synthetic."""
    flag = " [SYNTHETIC DATA: random images, not a real data set]"
    named = f"{what} on {dataset}" if dataset else what
    return named + flag * is_synthetic(dataset)


def controls(study: Study) -> str:
    """One sentence per control that was measured."""
    said = {
        "checkpoint": "The drift: fine-tuning the float network without quantization "
        "moves its firing by an EMD of",
        "scratch": "The floor: another seed moves the firing of a float network by",
    }
    return " ".join(
        f"{words} {distance(control.mean)} ({control.span})."
        for start, words in said.items()
        if (control := study.control(start))
    )


def finding(study: Study) -> str:
    """The verdict in one or two plain sentences, from the numbers alone."""
    if study.is_binary:
        return freezing.finding(study)
    judged = [g for g in study.quantized if study.reading(g) != UNJUDGED]
    if not judged:
        return f"No verdict: {_why_unjudged(study)}."
    silent, same = study.read_as("silent"), study.read_as("same")
    near = f"within 1 point of {_held_against(study, judged)}"
    if not silent + same:
        return f"None of the {len(judged)} quantized networks stays {near}."
    many = f"In {len(silent or same)} of {len(judged)} quantized networks the accuracy"
    why = f"further than {_yardstick(silent or same)}"
    if not silent:
        return f"{many} stays {near}, and in none of these does the firing move {why}."
    return (
        f"{many} stays {near} while the firing moves {why}. The clearest case is "
        f"{silent[0].name} ({item(study, silent[0])})."
    )


def claims(study: Study) -> list[Claim]:
    """What the papers claim of such networks, held against it; what shows first."""
    return by_reading((freezing if study.is_binary else behaviour).hold(study))


def _held_against(study: Study, groups: Sequence[Group]) -> str:
    """The float network whose accuracy these groups have to keep, and that accuracy."""
    starts = {group.start for group in groups}
    seeds = {tuple(group.seeds) for group in groups}
    if len(starts) > 1:
        return "its control"
    # Groups of several sets of seeds have as many controls.
    common = seeds.pop() if len(seeds) == 1 else ()
    base = f"({percent(study.base(starts.pop(), common))} %)"
    tuned = any(group.kind == "control" for group in study.groups)
    if groups[0].start == "checkpoint" and tuned:
        return f"the float network that was fine-tuned as long {base}"
    return f"the float network {base}"


def _yardstick(groups: Sequence[Group]) -> str:
    """What these groups are held against, in words."""
    said = {
        "checkpoint": "fine-tuning without quantization moves it",
        "scratch": "another seed moves it",
    }
    starts = {group.start for group in groups}
    return said[starts.pop()] if len(starts) == 1 else "its control"


def _why_unjudged(study: Study) -> str:
    if not study.quantized:
        return "no quantized network is finished"
    if not study.float_accuracies:
        return "no float network is finished, so there is nothing to compare with"
    return "no quantized network has a control to be read against"


def item(study: Study, group: Group) -> str:
    """A group's accuracy and EMD, or its gain over the estimator, in a few words."""
    accuracy, emd = group.mean("accuracy"), group.mean("emd.mean")
    ratio, control = study.ratio(group), study.control(group.start)
    words = [f"{percent(accuracy)} %"] if accuracy is not None else []
    if ratio is not None and control is not None:
        words.append(f"{times(ratio)} {control.word}")
    elif emd is not None:
        words.append(f"EMD {distance(emd)}")
    gain = study.gain(group) if study.is_binary else None
    if gain is not None:
        words.append(f"{points(gain)} points on STE")
    return ", ".join(words)


def lists(study: Study) -> list[tuple[Reading, list[Group]]]:
    """Quantized groups sorted by what is to be said about them."""
    readings = [*READINGS.values(), UNJUDGED]
    found = [(reading, study.read_as(reading.code)) for reading in readings]
    return [(reading, groups) for reading, groups in found if groups]


def missing(study: Study, undrawn: Sequence[str] = ()) -> list[str]:
    """What a finished study has and this one lacks, one sentence each.

    Args:
        study: as it is so far.
        undrawn: titles of the plots for which there are no data.
    """
    done = {key(row) for group in study.groups for row in group.rows}
    lost = [name for name in study.diverged if name not in done]
    waiting = [name for name in study.planned if name not in (*done, *lost)]
    sentences: dict[str, Any] = {
        f"Diverged, so that there is no result: {', '.join(lost)}.": lost,
        f"Not finished: {', '.join(waiting)}.": waiting,
    }
    if not study.is_binary:
        sentences |= _missing_controls(study)
    sentences[f"Without data for these plots: {'; '.join(undrawn)}."] = undrawn
    return [sentence for sentence, is_missing in sentences.items() if is_missing]


def _missing_controls(study: Study) -> dict[str, Any]:
    """What an EMD needs: a float network, and the control of each start."""
    quantized = [row for group in study.quantized for row in group.rows]
    unmeasured = [key(row) for row in quantized if not row.get("emd")]
    sentences: dict[str, Any] = {
        "No float network is finished.": not study.float_accuracies,
        "No quantized network is finished.": not quantized,
        f"Without an EMD: {', '.join(unmeasured)}.": unmeasured,
    }
    for start, word in CONTROLS.items():
        needed = any(group.start == start for group in study.quantized)
        sentence = f"The {word}, the control of rows from {start}, is not measured."
        sentences[sentence] = needed and study.control(start) is None
    return sentences


def caveats(study: Study) -> list[str]:
    """What a reader must know before believing the verdict."""
    sentences = _binary_caveats(study) if study.is_binary else _spiking_caveats(study)
    sentences |= _paper_caveats(study)
    return [sentence for sentence, holds in sentences.items() if holds]


def _spiking_caveats(study: Study) -> dict[str, Any]:
    untrained = any(group.start == "post-training" for group in study.quantized)
    accuracies = study.float_accuracies or [0.0]
    apart = max(accuracies) - min(accuracies)
    return {
        f"Float networks of different seeds lie {100 * apart:.1f} points of accuracy "
        "apart, so one point decides nothing.": apart > KEPT,
        "Every quantized network was trained with one seed only, so a value close to "
        "the edge of its control's range decides nothing.": _is_single(study),
        "Post-training rows train nothing: they have no control, and all of their EMD "
        "comes from quantization.": untrained,
    }


def _binary_caveats(study: Study) -> dict[str, Any]:
    widths = {
        names.network(group.network): width
        for group in study.groups
        if (width := group.traits.get("width", 1)) != 1
    }
    narrow = "; ".join(
        f"{name} has {width:g} times the channels" for name, width in widths.items()
    )
    return {
        "Every binary network was trained with one seed only, and one seed decides "
        "nothing.": _is_single(study),
        f"Not of the published width: {narrow}.": widths,
        f"Where the papers are silent: {choices(study)}.": choices(study),
    }


_CHOICES = {"law": "mask law", "refresh": "refresh", "schedule": "schedule"}
_CHOICES |= {"masks": "masks of activations by", "scaled": "scaled signs"}


def choices(study: Study) -> str:
    """The readings of StoMPP and of the estimator that the rows were made with."""
    rules = [
        (what, rule)
        for group in study.quantized
        for what in ("weights", "activations")
        for _, rule in group.rows[0]["config"].get(what) or ()
        if rule
    ]
    if not rules:
        return ""
    freezing = [rule for _, rule in rules if rule["method"] == "stompp"]
    said = {
        words: [str(rule[key]) for rule in freezing] for key, words in _CHOICES.items()
    }
    for what in ("weights", "activations"):
        said[f"STE's gradient of {what}"] = [
            rule["gradient"]
            for place, rule in rules
            if place == what and rule["method"] == "ste"
        ]
    said["what shortcuts carry"] = [
        str(group.traits.get("shortcut", "")) for group in study.quantized
    ]
    return "; ".join(
        f"{words} {', '.join(dict.fromkeys(values))}"
        for words, values in said.items()
        if any(values)
    )


def _is_single(study: Study) -> bool:
    groups = study.quantized
    return bool(groups) and all(len(group.rows) == 1 for group in groups)


_GRADES = {
    "P": "the paper itself (P)",
    "S": "summaries by others (S)",
    "I": "inference (I)",
    "R": "recollection (R)",
}


def _paper_caveats(study: Study) -> dict[str, Any]:
    """Where published values come from, and what they were published for."""
    known = [value for group in study.groups if (value := study.paper(group))]
    grades = {_GRADES.get(str(v.get("grade")), "an unnamed source") for v in known}
    others = dict.fromkeys(str(value["of"]) for value in known if value.get("of"))
    return {
        f"Values of the paper are from {' and '.join(sorted(grades))}.": known,
        "Some were published for something else than this study, and show a direction "
        f"and no target: {'; '.join(others)}.": others,
    }
