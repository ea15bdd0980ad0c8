"""The verdict of a study: what its numbers say, in plain sentences.

A reader who knows nothing of the study shall see in ten seconds which quantizer keeps
the accuracy and changes the behaviour (arXiv 2604.14487), and what forbids to believe
it: a control that was not measured, one seed only, rows that are not finished.
"""

from collections.abc import Sequence

from jsnnq.results import (
    CONTROLS,
    KEPT,
    READINGS,
    UNJUDGED,
    Group,
    Reading,
    Study,
    distance,
    is_synthetic,
    key,
    percent,
    times,
)


def title(study: Study) -> str:
    """The heading of a study."""
    return heading("Quantization study", study.dataset)


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
    judged = [g for g in study.quantized if study.reading(g) != UNJUDGED]
    if not judged:
        return f"No verdict: {_why_unjudged(study)}."
    silent, same = study.read_as("silent"), study.read_as("same")
    near = f"within 1 point of the float network ({percent(study.reference)} %)"
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
    """A group's accuracy and EMD in a few words."""
    accuracy, emd = group.mean("accuracy"), group.mean("emd.mean")
    ratio, control = study.ratio(group), study.control(group.start)
    words = [f"{percent(accuracy)} %"] if accuracy is not None else []
    if ratio is not None and control is not None:
        words.append(f"{times(ratio)} {control.word}")
    elif emd is not None:
        words.append(f"EMD {distance(emd)}")
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
    waiting = [name for name in study.planned if name not in done]
    quantized = [row for group in study.quantized for row in group.rows]
    unmeasured = [key(row) for row in quantized if not row.get("emd")]
    sentences = {
        f"Not finished: {', '.join(waiting)}.": waiting,
        "No float network is finished.": not study.float_accuracies,
        "No quantized network is finished.": not quantized,
        f"Without an EMD: {', '.join(unmeasured)}.": unmeasured,
    }
    for start, word in CONTROLS.items():
        needed = any(group.start == start for group in study.quantized)
        sentence = f"The {word}, the control of rows from {start}, is not measured."
        sentences[sentence] = needed and study.control(start) is None
    sentences[f"Without data for these plots: {'; '.join(undrawn)}."] = undrawn
    return [sentence for sentence, is_missing in sentences.items() if is_missing]


def caveats(study: Study) -> list[str]:
    """What a reader must know before believing the verdict."""
    single = all(len(group.rows) == 1 for group in study.quantized)
    untrained = any(group.start == "post-training" for group in study.quantized)
    accuracies = study.float_accuracies or [0.0]
    apart = max(accuracies) - min(accuracies)
    sentences = {
        f"Float networks of different seeds lie {100 * apart:.1f} points of accuracy "
        "apart, so one point decides nothing.": apart > KEPT,
        "Every quantized network was trained with one seed only, so a value close to "
        "the edge of its control's range decides nothing.": study.quantized and single,
        "Post-training rows train nothing: they have no control, and all of their EMD "
        "comes from quantization.": untrained,
    }
    return [sentence for sentence, holds in sentences.items() if holds]
