"""Rows in; a table, plots and one self-contained HTML page out.

The question a study answers is which quantizer keeps the accuracy of a spiking
network and yet changes what the network does (arXiv 2604.14487). Accuracy and the
Earth Mover's Distance (EMD) between firing distributions are drawn against each
other for that, and no EMD is shown without its control: a row trained from a
checkpoint is read against the *drift* (the float network fine-tuned just as long), a
row from scratch against the *floor* (float networks of different seeds), and a
post-training row has neither, because nothing was trained.

Rows of one name and start are the same experiment under several seeds; tables and
plots show their mean and range, `results.csv` shows each of them. A study may be
unfinished: whatever is missing is left out and named.
"""

import base64
import csv
import dataclasses
import functools
import html
import importlib.resources
import io
import math
import numbers
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rich.box
import rich.table
import rich.text
from jaxtyping import Float

from jsnnq.errors import InputError
from jsnnq.firing import histogram, rates

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_SCHEMA = 1
_KEPT = 0.01  # accuracy is kept within one point of the float network
_CONTROLS = {"scratch": "floor", "checkpoint": "drift"}  # by the start of a row
_MARKERS = {"weights": "o", "membrane": "s", "both": "D"}  # by what is quantized
_QUANTIZERS = {"lqnet": "LQ-Net", "snntorch": "snnTorch", "mint": "MINT"}


def write(
    out: Path,
    results: Mapping[str, Any],
    *,
    firing: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    planned: Iterable[str] = (),
) -> list[Path]:
    """Writes `results.csv`, `report.md`, the plots and `report.html` into `out`.

    Each file is written under a temporary name and then renamed, so a reader finds
    the old file or the new one. What cannot be drawn yet is left out, and the report
    says so.

    Args:
        out: the folder of the study; made if it does not exist.
        results: the contents of `results.json`.
        firing: for `"{name}/seed{seed}"` the firing of that row: `"counts"` (layer
            name to integer spike counts, any shape), `"timesteps"` and `"images"`.
        curves: for `"{name}/seed{seed}"` its training as a list of mappings with
            `"epoch"`, `"loss"` and `"accuracy"` (a fraction).
        planned: the keys of all rows of the study, so that the report can name those
            that are not finished.

    Returns:
        The files that were written.

    Raises:
        InputError: `results` is of another schema, or `out` cannot be written.
    """
    study = _study(results, firing, curves, planned)
    pictures = [_picture(plot, study) for plot in _PLOTS if plot.shows(study)]
    files = {"results.csv": _csv(study).encode()}
    files |= {f"plots/{picture.file}": picture.light for picture in pictures}
    files["report.md"] = _markdown(study, pictures).encode()
    files["report.html"] = _page(study, pictures).encode()
    try:
        return [_publish(out / name, content) for name, content in files.items()]
    except OSError as error:
        raise InputError(
            f"cannot write the report into {str(out)!r} ({error.strerror}): give a "
            "folder that can be written and has space left"
        ) from error


def table(results: Mapping[str, Any]) -> rich.table.Table:
    """The results as a table for the terminal.

    Args:
        results: the contents of `results.json`.

    Returns:
        One line per network: accuracy, EMD (mean over layers), how many times its
        control that is, dead share and deployment cost.

    Raises:
        InputError: `results` is of another schema.
    """
    study = _study(results, {}, {}, ())
    columns = [column for column in _COLUMNS if column.title in _TERMINAL]
    styles = {"silent": "bold yellow", "drowned": "red"}
    made = rich.table.Table(
        title=rich.text.Text(_title(study)),
        caption=rich.text.Text(f"{_verdict(study)} {_controls(study)}"),
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        caption_justify="left",
        padding=0,  # so that the longest default name fits 80 columns
    )
    for column in columns:
        side = "left" if column.is_text else "right"
        heading = column.title.replace(" ", "\n")
        made.add_column(heading, justify=side, overflow="fold")
    for group in study.groups:
        style = styles.get(study.reading(group).code, "")
        cells = [column.cell(study, group).text for column in columns]
        made.add_row(*(rich.text.Text(cell, style=style) for cell in cells))
    return made


# The study: rows grouped by experiment, each with its control


class _Control(NamedTuple):
    """What an EMD is read against: drift or floor, its mean and its range."""

    word: str
    mean: float
    low: float
    high: float


class _Reading(NamedTuple):
    """What accuracy and EMD say together; `code` is its class in the page."""

    code: str
    words: str


_READINGS = {  # by (accuracy kept, behaviour changed)
    (True, True): _Reading("silent", "keeps accuracy, changes behaviour"),
    (True, False): _Reading("same", "keeps accuracy and behaviour"),
    (False, True): _Reading("drowned", "loses accuracy and changes behaviour"),
    (False, False): _Reading("weak", "loses accuracy, keeps behaviour"),
}
_UNJUDGED = _Reading("open", "not judged, without a control")


class _Label(NamedTuple):
    """What a row's name says, for example `weights-uniform-clip10-4bit`."""

    place: str
    family: str
    detail: str
    clip: str
    bits: int | None


@dataclasses.dataclass(frozen=True)
class _Group:
    """Rows of one name and start, which differ in their seed only."""

    rows: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return str(self.rows[0]["name"])

    @property
    def kind(self) -> str:
        return self.rows[0]["kind"]

    @property
    def start(self) -> str:
        return self.rows[0]["start"]

    @property
    def keys(self) -> list[str]:
        return [_key(row) for row in self.rows]

    @functools.cached_property
    def label(self) -> _Label:
        return _read_name(self.name, self.kind)

    @property
    def quantizer(self) -> str:
        """The quantizer in words, or which float network it is."""
        fixed = {"float": "float network", "control": "float network, fine-tuned"}
        family = self.label.family
        return fixed.get(self.kind) or _QUANTIZERS.get(family, family)

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
        found = (_dig(row, path) for row in self.rows)
        return [float(number) for number in found if _is_finite(number)]

    def mean(self, path: str) -> float | None:
        values = self.values(path)
        return statistics.fmean(values) if values else None

    def layers(self) -> dict[str, float]:
        """EMD of each layer, the mean over seeds."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for layer, emd in (_dig(row, "emd.layers") or {}).items():
                if _is_finite(emd):
                    found.setdefault(layer, []).append(float(emd))
        return {layer: statistics.fmean(emds) for layer, emds in found.items()}


@dataclasses.dataclass(frozen=True)
class _Study:
    """Everything the report is made from."""

    results: Mapping[str, Any]
    groups: tuple[_Group, ...]
    firing: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    planned: tuple[str, ...]

    @property
    def dataset(self) -> str:
        return str(_dig(self.results, "provenance.dataset") or "unnamed data set")

    @property
    def is_synthetic(self) -> bool:
        return "synthetic" in self.dataset.lower()

    @property
    def quantized(self) -> list[_Group]:
        return [group for group in self.groups if group.kind == "quantized"]

    @property
    def float_accuracies(self) -> list[float]:
        floats = (group for group in self.groups if group.kind == "float")
        return [value for group in floats for value in group.values("accuracy")]

    @property
    def reference(self) -> float:
        """Accuracy that points are counted from: the float networks', else the best."""
        every = [value for group in self.groups for value in group.values("accuracy")]
        known = self.float_accuracies or [max(every, default=0.0)]
        return statistics.fmean(known)

    def control(self, start: str) -> _Control | None:
        """The control of rows with this start, if there is one and it is measured."""
        word = _CONTROLS.get(start, "")
        mean = _dig(self.results, f"{word}.mean")
        if not _is_finite(mean):
            return None
        low, high = _dig(self.results, f"{word}_range.mean") or (mean, mean)
        return _Control(word, float(mean), float(low), float(high))

    def ratio(self, group: _Group) -> float | None:
        """EMD over that of its control, for example "times the drift"."""
        control, emd = self.control(group.start), group.mean("emd.mean")
        if emd is None or control is None or control.mean == 0:
            return None
        return emd / control.mean

    def reading(self, group: _Group) -> _Reading:
        """Whether accuracy was kept, and whether the EMD exceeds the control."""
        control, emd = self.control(group.start), group.mean("emd.mean")
        accuracy = group.mean("accuracy")
        if group.kind != "quantized" or not self.float_accuracies:
            return _UNJUDGED
        if control is None or emd is None or accuracy is None:
            return _UNJUDGED
        # In binary fractions 0.99 - 0.98 is a hair more than 0.01.
        kept = accuracy >= self.reference - _KEPT - 1e-9
        return _READINGS[kept, emd > control.high]

    def read_as(self, code: str) -> list[_Group]:
        """Quantized groups of one reading, the largest EMD first."""
        found = [group for group in self.quantized if self.reading(group).code == code]
        return sorted(found, key=lambda group: -(group.mean("emd.mean") or 0.0))


def _study(
    results: Mapping[str, Any],
    firing: Mapping[str, Any],
    curves: Mapping[str, Any],
    planned: Iterable[str],
) -> _Study:
    if results.get("schema") != _SCHEMA:
        raise InputError(
            f"results of schema {results.get('schema')!r} were given, this jsnnq reads "
            f"schema {_SCHEMA}: make the report with the jsnnq that ran the study"
        )
    grouped: dict[tuple[str, str], list] = {}
    for row in results["rows"]:
        grouped.setdefault((row["name"], row["start"]), []).append(row)
    groups = sorted((_Group(tuple(rows)) for rows in grouped.values()), key=_order)
    return _Study(results, tuple(groups), firing, curves, tuple(planned))


def _order(group: _Group) -> tuple:
    """Float, control, then quantized by family, clip and bits."""
    kinds, places = ["float", "control", "quantized"], ["", *_MARKERS]
    place, family, detail, clip, bits = group.label
    where = (kinds.index(group.kind), places.index(place), family, detail)
    return (*where, len(clip), clip, bits or 0, group.name, group.start)


def _read_name(name: str, kind: str) -> _Label:
    if kind != "quantized":
        return _Label("", kind, "", "", None)
    tokens = name.split("-")
    place = tokens.pop(0) if tokens[0] in _MARKERS else ""
    bits = [token for token in tokens if re.fullmatch(r"[0-9]+bits?", token)]
    clips = [token for token in tokens if re.fullmatch(r"clip.+", token)]
    rest = [token for token in tokens if token not in bits + clips] or ["other"]
    return _Label(
        place,
        rest[0],
        " ".join(rest[1:]),
        clips[0].removeprefix("clip") if clips else "",
        int(bits[0].rstrip("bits")) if bits else None,
    )


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['name']}/seed{row['seed']}"


def _dig(tree: Any, path: str) -> Any:
    """The value at a dotted path, or None where the path ends early."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _is_finite(number: Any) -> bool:
    return isinstance(number, numbers.Real) and math.isfinite(number)


# The table: one definition for page, Markdown and terminal


class _Cell(NamedTuple):
    """What is printed, what the column is sorted by, and the range over seeds."""

    text: str
    sort: str | float
    spread: str = ""


class _Column(NamedTuple):
    """A heading, what it means, and the cell of a network."""

    title: str
    help: str
    cell: Callable[[_Study, _Group], _Cell]
    is_text: bool = False


def _text(say: Callable[[_Group], str]) -> Callable[[_Study, _Group], _Cell]:
    return lambda study, group: _Cell(say(group), say(group))


def _number(
    path: str, show: Callable[[float], str], spread: bool = False
) -> Callable[[_Study, _Group], _Cell]:
    """Cells with the mean over seeds, and their range where asked for."""

    def cell(study: _Study, group: _Group) -> _Cell:
        values = group.values(path)
        if not values:
            return _Cell("–", "")
        mean, ends = statistics.fmean(values), [show(min(values)), show(max(values))]
        differ = spread and ends[0] != ends[1]
        return _Cell(show(mean), mean, "–".join(ends) if differ else "")

    return cell


def _bits_cell(study: _Study, group: _Group) -> _Cell:
    bits = group.label.bits
    return _Cell(str(bits), bits) if bits else _Cell("–", "")


def _seeds_cell(study: _Study, group: _Group) -> _Cell:
    return _Cell(str(len(group.rows)), len(group.rows))


def _ratio_cell(study: _Study, group: _Group) -> _Cell:
    ratio, control = study.ratio(group), study.control(group.start)
    if ratio is None or control is None:
        return _Cell("–", "")
    return _Cell(f"{_times(ratio)} {control.word}", ratio)


def _reading_cell(study: _Study, group: _Group) -> _Cell:
    words = study.reading(group).words if group.kind == "quantized" else "–"
    return _Cell(words, words)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def _distance(emd: float) -> str:
    return f"{emd:.4f}"


def _amount(number: float) -> str:
    """Three digits and a metric prefix."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + prefix
    return f"{number:.3g}"


def _kib(bits: float) -> str:
    return f"{bits / 8192:,.1f}"


_COLUMNS = (
    _Column("Network", "row of the study", _text(lambda g: g.name), True),
    _Column("Acc. %", "held-out accuracy", _number("accuracy", _percent, True)),
    _Column("EMD", "mean over layers", _number("emd.mean", _distance, True)),
    _Column("Against", "EMD as a multiple of its control", _ratio_cell),
    _Column("Reading", "accuracy and EMD together", _reading_cell, True),
    _Column("Family", "what is quantized, and how", _text(lambda g: g.family), True),
    _Column("Bits", "bits of a weight or membrane potential", _bits_cell),
    _Column("Clip", "largest magnitude", _text(lambda g: g.label.clip or "–")),
    _Column("Start", "what training began from", _text(lambda g: g.start), True),
    _Column("Seeds", "number of seeds", _seeds_cell),
    _Column("Weighted", "EMD weighted by neurons", _number("emd.weighted", _distance)),
    _Column("Max", "EMD of the worst layer", _number("emd.max", _distance)),
    _Column("Pooled", "EMD of all neurons at once", _number("emd.pooled", _distance)),
    _Column("Matched", "neuron by neuron", _number("matched.mean", _distance)),
    _Column("Rate", "mean firing rate", _number("mean_rate", _distance)),
    _Column("Dead %", "rate below 0.05", _number("dead", _percent)),
    _Column("Satur. %", "rate above 0.95", _number("saturated", _percent)),
    _Column("ACs", "accumulates per image", _number("cost.acs", _amount)),
    _Column("MACs", "multiply-accumulates per image", _number("cost.macs", _amount)),
    _Column("Events", "per image", _number("cost.events", _amount)),
    _Column("Weights KiB", "scales included", _number("cost.weight_bits", _kib)),
    _Column("State KiB", "membrane potentials", _number("cost.state_bits", _kib)),
    _Column("Time s", "wall clock", _number("wall_s", "{:.1f}".format)),
)
_TERMINAL = ("Network", "Acc. %", "EMD", "Against", "Dead %", "ACs", "MACs")
_TERMINAL += ("Weights KiB",)
_NOT_IN_MARKDOWN = ("Family", "Bits", "Clip", "Time s")


# What the numbers say, in words


def _title(study: _Study) -> str:
    flag = " [SYNTHETIC DATA: random images, not a real data set]"
    return f"Quantization study on {study.dataset}" + flag * study.is_synthetic


def _controls(study: _Study) -> str:
    """One sentence per control that was measured."""
    said = {
        "checkpoint": "The drift: fine-tuning the float network without quantization "
        "moves its firing by an EMD of",
        "scratch": "The floor: another seed moves the firing of a float network by",
    }
    controls = [(words, study.control(start)) for start, words in said.items()]
    return " ".join(
        f"{words} {_distance(control.mean)} ({_range(control)})."
        for words, control in controls
        if control is not None
    )


def _range(control: _Control) -> str:
    if control.low == control.high:
        return "measured once"
    return f"{_distance(control.low)} to {_distance(control.high)}"


def _verdict(study: _Study) -> str:
    """The finding in one or two plain sentences, from the numbers alone."""
    judged = [g for g in study.quantized if study.reading(g) != _UNJUDGED]
    if not judged:
        return f"No verdict: {_why_unjudged(study)}."
    silent, same = study.read_as("silent"), study.read_as("same")
    near = f"within 1 point of the float network ({_percent(study.reference)} %)"
    if not silent + same:
        return f"None of the {len(judged)} quantized networks stays {near}."
    many = f"In {len(silent or same)} of {len(judged)} quantized networks the accuracy"
    why = _explanation(silent or same)
    if not silent:
        return f"{many} stays {near}, and in none of these does the firing move {why}."
    return (
        f"{many} stays {near} while the firing moves {why}. The clearest case is "
        f"{silent[0].name} ({_item(study, silent[0])})."
    )


def _explanation(groups: Sequence[_Group]) -> str:
    """What it means for these groups to exceed their control."""
    said = {
        frozenset({"checkpoint"}): "fine-tuning without quantization moves it",
        frozenset({"scratch"}): "another seed moves it",
    }
    starts = frozenset(group.start for group in groups)
    return f"further than {said.get(starts, 'its control')}"


def _why_unjudged(study: _Study) -> str:
    if not study.quantized:
        return "no quantized network is finished"
    if not study.float_accuracies:
        return "no float network is finished, so there is nothing to compare with"
    return "no quantized network has a control to be read against"


def _item(study: _Study, group: _Group) -> str:
    """A group's accuracy and EMD in a few words."""
    accuracy, emd = group.mean("accuracy"), group.mean("emd.mean")
    ratio, control = study.ratio(group), study.control(group.start)
    words = [f"{_percent(accuracy)} %"] if accuracy is not None else []
    if ratio is not None and control is not None:
        words.append(f"{_times(ratio)} {control.word}")
    elif emd is not None:
        words.append(f"EMD {_distance(emd)}")
    return ", ".join(words)


def _lists(study: _Study) -> list[tuple[_Reading, list[_Group]]]:
    """Quantized groups sorted by what is to be said about them."""
    readings = [*_READINGS.values(), _UNJUDGED]
    found = [(reading, study.read_as(reading.code)) for reading in readings]
    return [(reading, groups) for reading, groups in found if groups]


def _missing(study: _Study) -> list[str]:
    """What a finished study has and this one lacks, one sentence each."""
    done = {key for group in study.groups for key in group.keys}
    waiting = [key for key in study.planned if key not in done]
    unmeasured = [row for group in study.quantized for row in group.rows]
    unmeasured = [_key(row) for row in unmeasured if not _dig(row, "emd")]
    sentences = {
        f"Not finished: {', '.join(waiting)}.": waiting,
        "No float network is finished.": not study.float_accuracies,
        "No quantized network is finished.": not study.quantized,
        f"Without an EMD: {', '.join(unmeasured)}.": unmeasured,
    }
    for start, word in _CONTROLS.items():
        needed = any(group.start == start for group in study.quantized)
        sentence = f"The {word}, the control of rows from {start}, is not measured."
        sentences[sentence] = needed and study.control(start) is None
    undrawn = [plot.title for plot in _PLOTS if not plot.shows(study)]
    sentences[f"Without data for these plots: {'; '.join(undrawn)}."] = undrawn
    return [sentence for sentence, is_missing in sentences.items() if is_missing]


def _caveats(study: _Study) -> list[str]:
    """What a reader must know before believing the verdict."""
    single = all(len(group.rows) == 1 for group in study.quantized)
    untrained = any(group.start == "post-training" for group in study.quantized)
    accuracies = study.float_accuracies or [0.0]
    apart = max(accuracies) - min(accuracies)
    sentences = {
        f"Float networks of different seeds lie {100 * apart:.1f} points of accuracy "
        "apart, so one point decides nothing.": apart > _KEPT,
        "Every quantized network was trained with one seed only, so a value close to "
        "the edge of its control's range decides nothing.": study.quantized and single,
        "Post-training rows train nothing: they have no control, and all of their EMD "
        "comes from quantization.": untrained,
    }
    return [sentence for sentence, holds in sentences.items() if holds]


# Files


def _publish(path: Path, content: bytes) -> Path:
    """Writes beside the target and renames, so nothing is ever half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _csv(study: _Study) -> str:
    """One line per row; nested keys become dotted columns."""
    lines = []
    for row in (row for group in study.groups for row in group.rows):
        alone, control = _Group((row,)), study.control(row["start"])
        read = {"control": control.word if control else None}
        reading = study.reading(alone).words if alone.kind == "quantized" else None
        read |= {"ratio": study.ratio(alone), "reading": reading}
        lines.append(_flat({"dataset": study.dataset, **row, **read}))
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` becomes `{"a.b": 1}`; what is None has no column."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value
    return flat


def _markdown(study: _Study, pictures: Sequence["_Picture"]) -> str:
    lists = [
        f"- **{reading.words}** ({len(groups)}): "
        + "; ".join(f"{_escape(g.name)} ({_item(study, g)})" for g in groups)
        for reading, groups in _lists(study)
    ]
    provenance = _provenance(study).items()
    blocks = [
        "# " + _escape(_title(study)),
        f"**{_escape(_verdict(study))}** {_controls(study)}",
        "\n".join(lists),
        " ".join(_caveats(study)),
        _section("Missing", [f"- {_escape(sentence)}" for sentence in _missing(study)]),
        _section("All networks", _markdown_table(study)),
        *(f"![{_escape(p.alt)}](plots/{p.file})" for p in pictures),
        _section("Provenance", [f"- {k}: {_escape(value)}" for k, value in provenance]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {heading}", "", *lines]) if lines else ""


def _markdown_table(study: _Study) -> list[str]:
    columns = [c for c in _COLUMNS if c.title not in _NOT_IN_MARKDOWN]
    rows = [[column.title for column in columns]]
    for group in study.groups:
        cells = [column.cell(study, group) for column in columns]
        rows.append([f"{c.text} ({c.spread})" if c.spread else c.text for c in cells])
    lines = [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    ruler = ["---" if column.is_text else "---:" for column in columns]
    return [lines[0], f"| {' | '.join(ruler)} |", *lines[1:]]


def _escape(text: str) -> str:
    """Text that neither Markdown's tables nor a browser take for markup."""
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return html.escape(" ".join(text.split()), quote=False)


def _provenance(study: _Study) -> dict[str, str]:
    known = study.results.get("provenance") or {}
    return {key: str(value or "not recorded") for key, value in known.items()}


def _page(study: _Study, pictures: Sequence["_Picture"]) -> str:
    import jinja2

    source = importlib.resources.files("jsnnq") / "report.html.jinja"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["inline"] = lambda png: base64.b64encode(png).decode()
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        study=study,
        title=_title(study),
        verdict=_verdict(study),
        controls=_controls(study),
        caveats=_caveats(study),
        missing=_missing(study),
        lists=_lists(study),
        item=functools.partial(_item, study),
        columns=_COLUMNS,
        pictures={picture.file: picture for picture in pictures},
        provenance=_provenance(study),
    )


# Plots. Figures are made without pyplot, so no state outlives them.


class _Theme(NamedTuple):
    """Colours on light or dark paper; the hues are those of Okabe and Ito."""

    paper: str
    ink: str
    muted: str
    alarm: str
    calm: str
    bars: tuple[str, str]
    families: Mapping[str, str]
    spare: tuple[str, ...]


_LIGHT = _Theme(
    paper="#ffffff",
    ink="#1b1f24",
    muted="#6b7480",
    alarm="#fff0d9",
    calm="#e6f3ec",
    bars=("#4a5a70", "#aab6c5"),
    families={"uniform": "#d55e00", "lqnet": "#0072b2", "snntorch": "#009e73"}
    | {"mint": "#aa4a8a", "float": "#1b1f24", "control": "#6b7480"},
    spare=("#8a6d00", "#5b4bb5", "#7a4a21"),
)
_DARK = _Theme(
    paper="#171a1f",
    ink="#e8eaed",
    muted="#9aa3ad",
    alarm="#3a2c14",
    calm="#173026",
    bars=("#a9bad0", "#56657a"),
    families={"uniform": "#f0843c", "lqnet": "#56b4e9", "snntorch": "#2bc49a"}
    | {"mint": "#de8fc4", "float": "#e8eaed", "control": "#9aa3ad"},
    spare=("#f0e442", "#a99cf5", "#c9996b"),
)


class _Plot(NamedTuple):
    """How a picture is drawn, and of which networks; of none, it is left out."""

    file: str
    title: str
    shows: Callable[[_Study], list[_Group]]
    draw: Callable[[_Study, list[_Group], _Theme], "matplotlib.figure.Figure"]


class _Picture(NamedTuple):
    """A plot that was drawn: twice as PNG, and in words."""

    file: str
    title: str
    alt: str
    light: bytes
    dark: bytes


def _picture(plot: _Plot, study: _Study) -> _Picture:
    names = [f"{group.name}: {_item(study, group)}" for group in plot.shows(study)]
    alt = f"Plot: {plot.title}. Shown are {'; '.join(names)}."
    light, dark = _png(plot, study, _LIGHT), _png(plot, study, _DARK)
    return _Picture(plot.file, plot.title, alt, light, dark)


def _png(plot: _Plot, study: _Study, theme: _Theme) -> bytes:
    import matplotlib

    inked = ["text.", "axes.edge", "axes.label", "axes.title", "xtick.", "ytick."]
    blank = ["figure.facecolor", "axes.facecolor", "savefig.facecolor"]
    style: dict[Any, Any] = {f"{part}color": theme.ink for part in inked}
    style |= dict.fromkeys(blank, theme.paper)
    style |= {"font.size": 9, "axes.linewidth": 0.6, "legend.frameon": False}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = plot.draw(study, plot.shows(study), theme)
        flag = {"weight": "bold", "color": theme.families["uniform"]}
        look = flag if study.is_synthetic else {"color": theme.muted}
        words = "SYNTHETIC DATA" if study.is_synthetic else _plain(study.dataset)
        figure.supxlabel(words, x=0.995, ha="right", size=7.5, **look)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=140)
    return content.getvalue()


def _figure(width: float, height: float) -> "matplotlib.figure.Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(figure: "matplotlib.figure.Figure", panels: Iterable[Any]) -> None:
    """One legend above all panels, each word once."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    place = {"loc": "outside upper center", "ncols": 4, "fontsize": 8.5}
    figure.legend(list(found.values()), list(found), **place)


def _plain(text: str, longest: int = 40) -> str:
    """A name as matplotlib shall print it: no mathematics, not endless."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.replace("$", r"\$")


def _colour(group: _Group, study: _Study, theme: _Theme) -> str:
    known, family = theme.families, group.label.family
    if family in known:
        return known[family]
    others = sorted({g.label.family for g in study.groups} - set(known))
    return theme.spare[others.index(family) % len(theme.spare)]


def _marker(group: _Group) -> str:
    fixed = {"float": "*", "control": "P"}
    return fixed.get(group.kind) or _MARKERS.get(group.label.place, "^")


# 1. Accuracy against EMD: who keeps the accuracy and changes the behaviour


_Box = Float[np.ndarray, "4"]  # left, bottom, right, top in pixels


class _Point(NamedTuple):
    """A network in the plane: EMD, and accuracy in points from the float network."""

    group: _Group
    x: float
    y: float


def _placed(study: _Study) -> list[_Group]:
    """Networks with accuracy and EMD; with them the float one, whose EMD is 0."""
    known = [group for group in study.groups if group.values("accuracy")]
    moved = [g for g in known if g.kind != "float" and g.values("emd.mean")]
    return [g for g in known if g.kind == "float" or g in moved] if moved else []


def _draw_accuracy(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    figure = _figure(8.5, 6.0)
    axes = figure.add_subplot()
    points = [_point(study, group) for group in groups]
    controls = [control for start in _CONTROLS if (control := study.control(start))]
    shared = _shared_control(study)
    _stretch(axes, study, controls, points)
    if shared is not None and shared.mean > 0:
        _add_ratio_axis(axes, shared)
    if study.float_accuracies:
        _draw_quadrants(axes, shared, theme)
        ends = [_points_above(study, each) for each in study.float_accuracies]
        axes.axhspan(min(ends), max(ends), color=theme.ink, alpha=0.10, lw=0)
        axes.axhline(0, color=theme.ink, lw=0.8, zorder=1)
    for control in controls:
        _draw_control(axes, control, theme)
    for point in points:
        _draw_point(axes, study, point, _colour(point.group, study, theme))
    axes.set_xlabel("EMD to the float network, mean over layers")
    axes.set_ylabel("accuracy on held-out images, %")
    _legend(figure, [axes])
    _label_points(figure, axes, study, points, theme)
    return figure


def _point(study: _Study, group: _Group) -> _Point:
    emd = 0.0 if group.kind == "float" else group.mean("emd.mean") or 0.0
    return _Point(group, emd, _points_above(study, group.mean("accuracy") or 0.0))


def _points_above(study: _Study, accuracy: float) -> float:
    return 100 * (accuracy - study.reference)


def _shared_control(study: _Study) -> _Control | None:
    """The control of all quantized networks, if they have one and the same."""
    starts = {group.start for group in study.quantized} & set(_CONTROLS)
    return study.control(starts.pop()) if len(starts) == 1 else None


def _stretch(
    axes: "matplotlib.axes.Axes",
    study: _Study,
    controls: Sequence[_Control],
    points: Sequence[_Point],
) -> None:
    """Both axes linear near the float network and logarithmic far from it.

    One network that lost fifty points, or moved thirty times the drift, would
    otherwise press all the others into one corner.
    """
    emds = [point.x for point in points if point.x > 0] or [1e-4]
    width = min(control.mean for control in controls) if controls else 0.0
    width = width or statistics.median(emds)
    ends = [control.high for control in controls]
    x_limits = _limits([0.0, 4 * width, *emds, *ends], width, (0.04, 0.06))
    y_limits = _limits([-1.5, 0.8, *(point.y for point in points)], 1.0, (0.17, 0.12))
    axes.set_xscale("asinh", linear_width=width)
    axes.set_yscale("asinh", linear_width=1.0)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)
    steps = [m * 10.0**e for e in range(0, -6, -1) for m in (5, 2, 1)]
    xs = _ticks([0.0, *steps], x_limits, width, 0.07)
    axes.set_xticks(xs, [f"{x:g}" for x in xs])
    top = 100 * study.reference
    ys = _ticks([0, -1, 1, -10, -50, -20, -5, -2, 2, 5, 10], y_limits, 1.0, 0.05)
    axes.set_yticks([y for y in ys if top + y <= 100])
    axes.set_yticklabels([f"{top + y:.1f}" for y in ys if top + y <= 100])
    axes.minorticks_off()


def _limits(
    values: Sequence[float], width: float, pads: tuple[float, float]
) -> tuple[float, float]:
    """The range of the values and a share of it on both sides, as it is stretched."""
    low, high = math.asinh(min(values) / width), math.asinh(max(values) / width)
    below, above = (pad * (high - low) for pad in pads)
    return width * math.sinh(low - below), width * math.sinh(high + above)


def _ticks(
    wanted: Sequence[float], limits: tuple[float, float], width: float, gap: float
) -> list[float]:
    """Those of `wanted` (the important ones first) that do not crowd each other."""
    low, high = (math.asinh(limit / width) for limit in limits)
    kept: dict[float, float] = {}
    for tick in wanted:
        place = (math.asinh(tick / width) - low) / (high - low)
        if 0 <= place <= 1 and all(abs(place - p) >= gap for p in kept.values()):
            kept[tick] = place
    return sorted(kept)


def _add_ratio_axis(axes: "matplotlib.axes.Axes", control: _Control) -> None:
    """The same distance once more along the top, as a multiple of the control."""
    low, high = axes.get_xlim()
    limits = (low / control.mean, high / control.mean)
    top = axes.twiny()
    top.set_xscale("asinh", linear_width=1.0)
    top.set_xlim(limits)
    ratios = _ticks([1, 2, 5, 10, 20, 50, 3, 0.5], limits, 1.0, 0.05)
    top.set_xticks(ratios, [f"{ratio:g}×" for ratio in ratios])
    top.minorticks_off()
    top.spines["top"].set_visible(True)
    top.set_xlabel(f"times the {control.word}")


def _draw_quadrants(
    axes: "matplotlib.axes.Axes", control: _Control | None, theme: _Theme
) -> None:
    """What the four corners mean, where all networks are read against one control."""
    lost, (left, right), top = -100 * _KEPT, axes.get_xlim(), axes.get_ylim()[1]
    axes.axhline(lost, color=theme.muted, lw=0.8, linestyle="dotted", zorder=1)
    if control is None:
        return
    edge = control.high
    axes.fill_between([left, edge], lost, top, color=theme.calm, lw=0, zorder=0)
    axes.fill_between([edge, right], lost, top, color=theme.alarm, lw=0, zorder=0)
    corner = {"transform": axes.transAxes, "fontsize": 8.5, "linespacing": 1.25}
    low, high = {"y": 0.02, "va": "bottom"}, {"y": 0.98, "va": "top"}
    inner, outer = {"x": 0.012, "ha": "left"}, {"x": 0.99, "ha": "right"}
    quiet, loud = {"color": theme.muted}, {"color": theme.ink, "weight": "bold"}
    for words, look in {
        "keeps accuracy\nand behaviour": inner | high | quiet,
        "keeps accuracy,\nCHANGES BEHAVIOUR": outer | high | loud,
        "loses accuracy,\nkeeps behaviour": inner | low | quiet,
        "loses accuracy and\nchanges behaviour": outer | low | quiet,
    }.items():
        axes.text(s=words, **look, **corner)


def _draw_control(
    axes: "matplotlib.axes.Axes", control: _Control, theme: _Theme
) -> None:
    """A line for the mean of a control and a band for its range."""
    look = {"color": theme.muted, "lw": 1.4, "zorder": 1.5}
    look |= {"linestyle": "dashed" if control.word == "floor" else "solid"}
    words = f"{control.word} {_distance(control.mean)} ({_range(control)})"
    axes.axvspan(control.low, control.high, color=theme.muted, alpha=0.22, lw=0)
    axes.axvline(control.mean, label=words, **look)
    place = {"rotation": 90, "ha": "right", "va": "bottom", "color": theme.muted}
    spot = (control.low, 0.2)
    axes.text(*spot, control.word, transform=axes.get_xaxis_transform(), **place)


def _draw_point(
    axes: "matplotlib.axes.Axes", study: _Study, point: _Point, colour: str
) -> None:
    """The mean over seeds, with a thin cross from the least to the greatest."""
    group, x, y = point
    emds = [x] if group.kind == "float" else group.values("emd.mean")
    heights = [_points_above(study, each) for each in group.values("accuracy")]
    line = {"color": colour, "lw": 1.0, "alpha": 0.7}
    axes.plot([min(emds), max(emds)], [y, y], **line)
    axes.plot([x, x], [min(heights), max(heights)], **line)
    look = {"color": colour, "markersize": 13 if group.kind == "float" else 8}
    look |= {"markeredgecolor": axes.get_facecolor(), "markeredgewidth": 0.8}
    words = _plain(group.family)
    axes.plot(x, y, _marker(group), label=words, zorder=4, clip_on=False, **look)


def _label_points(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    study: _Study,
    points: Sequence[_Point],
    theme: _Theme,
) -> None:
    """Writes each network's setting beside its point, where it covers the least.

    Greedy: point after point, the cheapest of a rose of places, by the area it covers
    of what already stands there and by its distance.
    """
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    spots = axes.transData.transform([(point.x, point.y) for point in points])
    taken = [np.concatenate([spot - 6 * pixels, spot + 6 * pixels]) for spot in spots]
    artists = [*axes.lines, *axes.texts]
    taken += [np.array(artist.get_window_extent().extents) for artist in artists]
    several = len({group.start for group in study.quantized}) > 1
    for point in sorted(points, key=lambda point: -point.y):
        if point.group.kind == "quantized":
            words = point.group.setting + f", {point.group.start}" * several
            colour = _colour(point.group, study, theme)
            taken.append(_label(axes, point, _plain(words), colour, taken, pixels))


def _label(
    axes: "matplotlib.axes.Axes",
    point: _Point,
    words: str,
    colour: str,
    taken: Sequence[_Box],
    pixels: float,
) -> _Box:
    """Writes one label, with a hairline if it stands far off; returns its box."""
    look = {"ha": "center", "va": "center", "fontsize": 7.5, "zorder": 5}
    at, offset = (point.x, point.y), "offset points"
    label = axes.annotate(words, at, (0, 0), textcoords=offset, color=colour, **look)
    label.set_in_layout(False)
    spot, box = axes.transData.transform(at), label.get_window_extent()
    half = np.array([box.width, box.height]) / 2 + pixels
    frame = np.array(axes.get_window_extent().extents)
    ways = [np.array([np.cos(a), np.sin(a)]) for a in np.arange(16) * np.pi / 8]
    reach = [half + distance * pixels for distance in (8, 14, 24, 38, 54, 72)]
    rose = [spot + way * far for far in reach for way in ways]
    centre = min(rose, key=lambda middle: _clutter(middle, half, spot, taken, frame))
    label.set_position(tuple((centre - spot) / pixels))
    end = np.clip(spot, centre - half, centre + half)
    if np.hypot(*(end - spot)) > 9 * pixels:
        line = axes.transData.inverted().transform([spot, end])
        axes.plot(*line.T, color=colour, lw=0.6, alpha=0.7, zorder=3)
    return np.concatenate([centre - half, centre + half])


def _clutter(
    centre: Float[np.ndarray, "2"],
    half: Float[np.ndarray, "2"],
    spot: Float[np.ndarray, "2"],
    taken: Sequence[_Box],
    frame: _Box,
) -> float:
    """Area covered of other things and outside the frame, and the way to the point."""
    boxes, low, high = np.array(taken), centre - half, centre + half
    shared = np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2])
    inside = np.minimum(high, frame[2:]) - np.maximum(low, frame[:2])
    covered = np.prod(np.maximum(shared, 0), axis=1).sum()
    outside = np.prod(2 * half) - np.prod(np.maximum(inside, 0))
    away = np.hypot(*np.maximum(np.abs(centre - spot) - half, 0))
    return float(4 * covered + 9 * outside + 8 * away)


# 2. EMD per layer


def _layered(study: _Study) -> list[_Group]:
    return [group for group in study.groups if group.kind != "float" and group.layers()]


def _draw_layers(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    from matplotlib.colors import LogNorm

    rows = [(w, "", _dig(study.results, f"{w}.layers")) for w in _CONTROLS.values()]
    rows = [row for row in rows if row[2]]
    rows += [(group.name, group.family, group.layers()) for group in groups]
    names, families, emds = zip(*rows, strict=True)
    layers = list(dict.fromkeys(layer for row in emds for layer in row))
    grid = np.array([[row.get(layer, np.nan) for layer in layers] for row in emds])
    grid *= 1000
    top = max(np.nanmax(grid), 1e-3)
    low = max(np.nanmin(grid[grid > 0], initial=top), top / 300)
    figure = _figure(8.5, 1.9 + 0.24 * len(rows))
    axes = figure.add_subplot()
    norm = LogNorm(low, max(top, 1.01 * low))
    image = axes.imshow(np.maximum(grid, low), "viridis", norm, aspect="auto")
    _name_cells(axes, names, layers)
    for line in range(1, len(rows)):
        if families[line] != families[line - 1]:
            axes.axhline(line - 0.5, color=theme.paper, lw=3)
    if grid.shape[1] <= 20 and grid.size <= 500:
        _write_cells(axes, grid, image)
    _add_colour_bar(figure, axes, image)
    return figure


def _name_cells(
    axes: "matplotlib.axes.Axes", names: Sequence[str], layers: Sequence[str]
) -> None:
    every = math.ceil(len(layers) / 45)
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_xticks(range(0, len(layers), every), map(_plain, layers[::every]))
    look = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticklabels(axes.get_xticklabels(), **look)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _write_cells(
    axes: "matplotlib.axes.Axes", grid: Float[np.ndarray, "rows layers"], image: Any
) -> None:
    """Prints each value in its cell, dark on bright and bright on dark."""
    size = 7 if grid.shape[1] < 15 else 5.5
    look = {"ha": "center", "va": "center", "fontsize": size}
    for (row, column), value in np.ndenumerate(grid):
        if math.isfinite(value):
            shade = image.cmap(image.norm(max(value, image.norm.vmin)))
            ink = "black" if np.dot(shade[:3], (0.3, 0.6, 0.1)) > 0.46 else "white"
            words = f"{value:.1f}" if value < 99.5 else f"{value:.0f}"
            axes.text(column, row, words, color=ink, **look)


def _add_colour_bar(
    figure: "matplotlib.figure.Figure", axes: "matplotlib.axes.Axes", image: Any
) -> None:
    steps = [m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)]
    ticks = [step for step in steps if image.norm.vmin <= step <= image.norm.vmax]
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("EMD × 1000")


# 3. Firing distributions

_BINS = 40
_NOTHING = 1e-12  # an empty bin has no logarithm: it is drawn far below the axis
_PANELS = 24  # layers drawn one by one; a reader does not compare more


_Rates = Float[np.ndarray, "_"]


class _Firing(NamedTuple):
    """The rates of each layer, in the float network and in another one."""

    group: _Group
    before: dict[str, _Rates]
    after: dict[str, _Rates]


def _fired(study: _Study) -> list[_Group]:
    """Networks whose firing can be held against a float network's."""
    groups = [group for group in study.groups if group.kind != "float"]
    return [group for group in groups if _record_keys(study, group)]


def _record_keys(study: _Study, group: _Group) -> tuple[str, str] | None:
    """The keys of the group's first record and of its float network's.

    That is the float network of the same seed, or the first where there is none.
    """
    recorded = [row for row in group.rows if _key(row) in study.firing]
    floats = [row for each in study.groups if each.kind == "float" for row in each.rows]
    floats = [row for row in floats if _key(row) in study.firing]
    if not recorded or not floats:
        return None
    floats.sort(key=lambda row: row["seed"] != recorded[0]["seed"])
    return _key(floats[0]), _key(recorded[0])


def _firing(study: _Study, group: _Group) -> _Firing:
    before, after = _record_keys(study, group) or ("", "")
    return _Firing(group, _rates(study.firing[before]), _rates(study.firing[after]))


def _rates(record: Mapping[str, Any]) -> dict[str, _Rates]:
    steps, images = int(record["timesteps"]), int(record["images"])
    return {
        layer: rates(counts, timesteps=steps, images=images)
        for layer, counts in record["counts"].items()
    }


def _draw_firing(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    """All neurons of a network as one histogram, one panel per network."""
    figure, panels = _panels(len(groups), 4)
    most = 1
    for axes, group in zip(panels, groups, strict=True):
        _, *both = _firing(study, group)
        before, after = (np.concatenate(list(each.values())) for each in both)
        _draw_float_rates(axes, before, theme)
        _draw_rates(axes, after, _colour(group, study, theme), group.quantizer)
        axes.set_title(_plain(group.name), fontsize=7.5, loc="left")
        emd = group.mean("emd.pooled")
        words = "" if emd is None else f"EMD {_distance(emd)}"
        place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.92, 0.94, words, fontsize=7.5, **place)
        most = max(most, after.size)
    _finish_rates(figure, panels, most, theme)
    return figure


def _telling(study: _Study) -> list[_Group]:
    """Up to three networks: the largest silent change, the nearest, the farthest."""
    groups = [group for group in _fired(study) if group.kind == "quantized"]
    by_emd = sorted(groups, key=lambda group: group.mean("emd.mean") or 0.0)
    silent = [group for group in study.read_as("silent") if group in groups]
    chosen = [*silent[:1], *by_emd[:1], *by_emd[-1:]]
    return [group for i, group in enumerate(chosen) if group not in chosen[:i]]


def _draw_firing_layers(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    """Layer by layer, for the networks that tell most."""
    firings = [_firing(study, group) for group in groups]
    before = firings[0].before
    layers = _moved_most(groups, list(before))
    colours = _distinct([_colour(group, study, theme) for group in groups], theme)
    figure, panels = _panels(len(layers), 5)
    for axes, layer in zip(panels, layers, strict=True):
        _draw_float_rates(axes, before[layer], theme)
        for (group, _, after), colour in zip(firings, colours, strict=True):
            _draw_rates(axes, after[layer], colour, _plain(group.name))
        axes.set_title(_plain(layer, 26), fontsize=7.5, loc="left")
    _finish_rates(figure, panels, max(before[layer].size for layer in layers), theme)
    return figure


def _moved_most(groups: Sequence[_Group], layers: Sequence[str]) -> list[str]:
    """All layers in order, or of too many those that moved most."""
    emds = [group.layers() for group in groups]
    moved = lambda layer: max(each.get(layer, 0.0) for each in emds)
    most = sorted(layers, key=moved, reverse=True)[:_PANELS]
    return [layer for layer in layers if layer in most]


def _distinct(colours: Sequence[str], theme: _Theme) -> list[str]:
    """The same colours, the second use of one replaced by one that is free."""
    free = iter(c for c in theme.families.values() if c not in colours)
    return [c if c not in colours[:i] else next(free) for i, c in enumerate(colours)]


def _panels(
    count: int, most: int
) -> tuple["matplotlib.figure.Figure", list["matplotlib.axes.Axes"]]:
    """A figure with `count` panels that share both axes, `most` in a row."""
    down = math.ceil(count / most)
    across = max(2, math.ceil(count / down))
    figure = _figure(8.5, 0.95 + 1.4 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, count - across) : count]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])


def _draw_float_rates(
    axes: "matplotlib.axes.Axes", values: _Rates, theme: _Theme
) -> None:
    look = {"fill": True, "alpha": 0.45, "lw": 0}
    _draw_rates(axes, values, theme.muted, "float network", **look)


def _draw_rates(
    axes: "matplotlib.axes.Axes",
    values: _Rates,
    colour: str,
    label: str,
    **look: Any,
) -> None:
    """A histogram in shares of the neurons."""
    share = np.maximum(histogram(values, _BINS) / values.size, _NOTHING)
    edges = np.linspace(0, 1, _BINS + 1)
    look = {"baseline": _NOTHING, "color": colour, "label": label, "lw": 1.2} | look
    axes.stairs(share, edges, **look)


def _finish_rates(
    figure: "matplotlib.figure.Figure",
    panels: Sequence["matplotlib.axes.Axes"],
    most: int,
    theme: _Theme,
) -> None:
    """Marks dead and saturated, and sets the axes that all panels share.

    Args:
        figure: the figure.
        panels: its panels.
        most: neurons in the largest panel; one of them is the least share shown.
        theme: the colours.
    """
    for axes in panels:
        for border in (0.05, 0.95):
            axes.axvline(border, color=theme.muted, lw=0.7, linestyle="dotted")
        axes.set_yscale("log")  # most rates are near 0
        axes.set_ylim(0.5 / most, 1.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.minorticks_off()
        axes.tick_params(labelsize=7.5)
    panels[-1].set_xlabel("firing rate", fontsize=8)
    figure.supylabel("share of neurons", fontsize=8.5)
    _legend(figure, panels)


# 4. Training


def _curved(study: _Study) -> list[_Group]:
    return [group for group in study.groups if _curves(study, group)]


def _curves(study: _Study, group: _Group) -> list[Sequence[Mapping[str, Any]]]:
    found = (study.curves.get(key, ()) for key in group.keys)
    return [curve for curve in found if len(curve)]


def _draw_curves(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    figure = _figure(8.5, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    for group in groups:
        look = _curve_look(group, _colour(group, study, theme))
        for curve in _curves(study, group):
            epochs = [point["epoch"] for point in curve]
            look |= {"marker": _marker(group) if len(curve) == 1 else ""}
            loss.plot(epochs, _series(curve, "loss"), **look)
            accuracy.plot(epochs, 100 * _series(curve, "accuracy"), **look)
    seen = [value for line in loss.lines for value in line.get_ydata() if value > 0]
    if seen and max(seen) > 5 * min(seen):
        loss.set_yscale("log")
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("accuracy during training, %")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.grid(color=theme.muted, alpha=0.25, lw=0.5)
    _legend(figure, [loss])
    return figure


def _series(curve: Sequence[Mapping[str, Any]], key: str) -> Float[np.ndarray, "_"]:
    values = (point.get(key) for point in curve)
    return np.array([value if _is_finite(value) else math.nan for value in values])


def _curve_look(group: _Group, colour: str) -> dict[str, Any]:
    """Float thick and on top, the rest thin in the colour of the quantizer."""
    lines = {"membrane": "dashed", "both": "dotted"}
    look = {"color": colour, "label": _plain(group.family), "lw": 1.1, "alpha": 0.85}
    look |= {"linestyle": lines.get(group.label.place, "solid")}
    emphasis = {
        "float": {"lw": 2.4, "alpha": 1.0, "zorder": 4},
        "control": {"lw": 1.8, "linestyle": "dashdot", "zorder": 3},
    }
    return look | emphasis.get(group.kind, {})


# 5. Cost


def _costed(study: _Study) -> list[_Group]:
    return [group for group in study.groups if group.values("cost.acs")]


def _draw_cost(
    study: _Study, groups: list[_Group], theme: _Theme
) -> "matplotlib.figure.Figure":
    policy = _dig(groups[0].rows[0], "cost.policy")
    figure = _figure(8.5, 1.2 + 0.23 * len(groups))
    panels = figure.subplots(1, 3, sharey=True)
    operations = {"acs": "accumulates", "macs": "multiply-accumulates"}
    _draw_bars(panels[0], groups, operations, _amount, theme)
    _draw_bars(panels[1], groups, {"events": "events"}, _amount, theme)
    storage = {"weight_bits": "weights", "state_bits": "membrane state"}
    _draw_bars(panels[2], groups, storage, _kib, theme)
    titles = [f"operations per image ({policy})", "events per image", "storage, KiB"]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(_plain(title), fontsize=8.5, loc="left")
    panels[0].set_yticks(range(len(groups)), [_plain(group.name) for group in groups])
    panels[0].set_ylim(len(groups) - 0.4, -0.6)
    return figure


def _draw_bars(
    axes: "matplotlib.axes.Axes",
    groups: Sequence[_Group],
    parts: Mapping[str, str],
    show: Callable[[float], str],
    theme: _Theme,
) -> None:
    """One bar per network, the parts of its cost one behind the other."""
    end = np.zeros(len(groups))
    for (part, words), colour in zip(parts.items(), theme.bars, strict=False):
        size = np.array([group.mean(f"cost.{part}") or 0.0 for group in groups])
        axes.barh(range(len(groups)), size, 0.72, end, color=colour, label=words)
        end += size
    for line, total in enumerate(end):
        axes.text(total, line, f" {show(total)}", va="center", fontsize=7)
    axes.set_xlim(0, 1.3 * max(end.max(), 1e-9))
    axes.set_xticks([])
    axes.tick_params(labelsize=8, length=0)
    axes.spines["bottom"].set_visible(False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "fontsize": 7.5}
    axes.legend(ncols=2, columnspacing=1.0, handlelength=1.2, **place)


_PLOTS = (
    _Plot("accuracy_emd.png", "Accuracy against behaviour", _placed, _draw_accuracy),
    _Plot("emd_layers.png", "Where the behaviour changes", _layered, _draw_layers),
    _Plot("firing.png", "How the neurons fire", _fired, _draw_firing),
    _Plot(
        "firing_layers.png",
        "How the neurons fire, layer by layer",
        _telling,
        _draw_firing_layers,
    ),
    _Plot("curves.png", "Training", _curved, _draw_curves),
    _Plot("cost.png", "What it costs to run", _costed, _draw_cost),
)
