"""The networks of a study as a table: one definition for terminal, page, Markdown, CSV.

The page shows every column, the terminal and Markdown show some of them, and the CSV
file holds the rows themselves, one per seed. Spiking networks are judged by accuracy
and EMD, binary networks by accuracy alone. Published values stand beside ours where
the study knows them.
"""

import csv
import dataclasses
import html
import io
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import rich.box
import rich.table
import rich.text

from jsnnq.report import meaning
from jsnnq.report.groups import Group
from jsnnq.report.numbers import amount, distance, kib, percent, points, times
from jsnnq.report.results import Results


class Cell(NamedTuple):
    """What is printed, what the column is sorted by, and the range over seeds."""

    text: str
    sort: str | float
    spread: str = ""


class Column(NamedTuple):
    """A heading, what it means, and the cell of a network."""

    title: str
    help: str
    cell: Callable[[Results, Group], Cell]
    is_text: bool = False


_EMPTY = Cell("–", "")


def _text(say: Callable[[Group], str]) -> Callable[[Results, Group], Cell]:
    return lambda study, group: Cell(say(group), say(group)) if say(group) else _EMPTY


def _whole(say: Callable[[Group], int | None]) -> Callable[[Results, Group], Cell]:
    def cell(study: Results, group: Group) -> Cell:
        number = say(group)
        return Cell(str(number), number) if number else _EMPTY

    return cell


def _number(
    path: str, show: Callable[[float], str], spread: bool = False
) -> Callable[[Results, Group], Cell]:
    """Cells with the mean over seeds, and their range where asked for."""

    def cell(study: Results, group: Group) -> Cell:
        values = group.values(path)
        if not values:
            return _EMPTY
        mean, ends = statistics.fmean(values), [show(min(values)), show(max(values))]
        differ = spread and ends[0] != ends[1]
        return Cell(show(mean), mean, "–".join(ends) if differ else "")

    return cell


def _ratio(study: Results, group: Group) -> Cell:
    ratio, control = study.ratio(group), study.control(group.start)
    if ratio is None or control is None:
        return _EMPTY
    return Cell(f"{times(ratio)} {control.word}", ratio)


def _reading(study: Results, group: Group) -> Cell:
    words = study.reading(group).words
    return Cell(words, words)


def _points(
    difference: Callable[[Results, Group], float | None],
) -> Callable[[Results, Group], Cell]:
    def cell(study: Results, group: Group) -> Cell:
        number = difference(study, group)
        return _EMPTY if number is None else Cell(points(number), number)

    return cell


def _spread(study: Results, group: Group) -> Cell:
    spread = _number("accuracy", percent, True)(study, group).spread
    return Cell(spread, spread) if spread else _EMPTY


def _published(
    part: str, show: Callable[[float], str]
) -> Callable[[Results, Group], Cell]:
    """Cells with a value of the paper, what it was published for and its grade."""

    def cell(study: Results, group: Group) -> Cell:
        known = study.paper(group)
        value = known.get(part)
        if value is None:
            return _EMPTY
        grade = known.get(f"{part}_grade") or known.get("grade")
        said = [
            str(word) for word in (known.get("of"), grade, known.get("note")) if word
        ]
        return Cell(show(value), value, ", ".join(said))

    return cell


_PAPER = Column("Paper %", "published accuracy", _published("accuracy", percent))
_PAPER_EMD = Column("Paper EMD", "published", _published("emd", distance))
_PAPER_DEAD = Column("Paper dead %", "published", _published("dead", percent))
_PAPER_GAIN = Column("Paper on STE", "published points", _published("gain", points))
_OF_PAPER = {
    "accuracy": _PAPER,
    "emd": _PAPER_EMD,
    "dead": _PAPER_DEAD,
    "gain": _PAPER_GAIN,
}
_ACCURACY = Column("Acc. %", "held-out accuracy", _number("accuracy", percent, True))
_COST = (
    Column("ACs", "accumulates per image", _number("cost.acs", amount)),
    Column("MACs", "multiply-accumulates per image", _number("cost.macs", amount)),
    Column("Weights KiB", "scales included", _number("cost.weight_bits", kib)),
    Column("Time s", "wall clock", _number("wall_s", "{:.1f}".format)),
)
_NAME = Column("Network", "row of the study", _text(lambda g: g.name), True)
_SEEDS = Column("Seeds", "number of seeds", _whole(lambda g: len(g.rows)))
_SPIKING = (
    _NAME,
    _ACCURACY,
    Column("EMD", "mean over layers", _number("emd.mean", distance, True)),
    Column("Against", "EMD as a multiple of its control", _ratio),
    Column("Reading", "accuracy and EMD together", _reading, True),
    Column("Family", "what is quantized, and how", _text(lambda g: g.family), True),
    Column(
        "Bits",
        "bits of a weight or membrane potential",
        _text(lambda g: meaning.bits(g.config)),
    ),
    Column("Clip", "largest magnitude", _text(lambda g: meaning.clip(g.config))),
    Column("Start", "what training began from", _text(lambda g: g.start), True),
    _SEEDS,
    Column("Weighted", "EMD weighted by neurons", _number("emd.weighted", distance)),
    Column("Max", "EMD of the worst layer", _number("emd.max", distance)),
    Column("Pooled", "EMD of all neurons at once", _number("emd.pooled", distance)),
    Column("Matched", "neuron by neuron", _number("matched.mean", distance)),
    Column("Rate", "mean firing rate", _number("mean_rate", distance)),
    Column("Dead %", "rate below 0.05", _number("dead", percent)),
    Column("Satur. %", "rate above 0.95", _number("saturated", percent)),
    *_COST[:2],
    Column("Events", "per image", _number("cost.events", amount)),
    _COST[2],
    Column("State KiB", "membrane potentials", _number("cost.state_bits", kib)),
    _COST[3],
    _PAPER,
    _PAPER_EMD,
    _PAPER_DEAD,
)
_BINARY = (
    _NAME,
    _ACCURACY,
    Column("On STE", "points above straight-through", _points(Results.gain)),
    Column("To float", "points above full precision", _points(Results.gap)),
    _PAPER,
    _PAPER_GAIN,
    _SEEDS,
    Column("Family", "what is binary, and how", _text(lambda g: g.family), True),
    Column("Model", "network", _text(lambda g: g.network), True),
    *_COST,
)
_RANGE = Column("Range", "accuracy of the worst and the best seed", _spread)
_TERMINAL = ("Network", "Acc. %", "EMD", "Against", "Dead %", "ACs", "MACs")
_TERMINAL += ("Weights KiB", "On STE", "To float")
_NOT_IN_MARKDOWN = ("Family", "Model", "Bits", "Clip")


def columns(study: Results) -> list[Column]:
    """What is said of each network: all that the page shows."""
    published = {part for group in study.groups for part in study.paper(group)}
    unknown = [_OF_PAPER[part] for part in _OF_PAPER if part not in published]
    every = _BINARY if study.is_binary else _SPIKING
    return [column for column in every if column not in unknown]


def terminal(study: Results, title: str, caption: str) -> rich.table.Table:
    """One line per network, so narrow that default names fit 80 columns."""
    made = rich.table.Table(
        title=rich.text.Text(title),
        caption=rich.text.Text(caption),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    wanted = _TERMINAL + ("Paper %", "Seeds") * study.is_binary
    shown = [column for column in columns(study) if column.title in wanted]
    if study.is_binary:
        shown.insert(2, _RANGE)  # Other forms write it beside the accuracy.
    for column in shown:
        side = "left" if column.is_text else "right"
        heading = column.title.replace(" ", "\n")
        made.add_column(heading, justify=side, overflow="fold")
    styles = {"silent": "bold yellow", "drowned": "red"}
    for group in study.groups:
        style = styles.get(study.reading(group).code, "")
        cells = [column.cell(study, group).text for column in shown]
        made.add_row(*(rich.text.Text(cell, style=style) for cell in cells))
    return made


def markdown(study: Results) -> list[str]:
    """The lines of a Markdown table, one per network."""
    unwanted = _NOT_IN_MARKDOWN + ("Time s",) * (not study.is_binary)
    shown = [column for column in columns(study) if column.title not in unwanted]
    rows = [[column.title for column in shown]]
    for group in study.groups:
        cells = [column.cell(study, group) for column in shown]
        rows.append([f"{c.text} ({c.spread})" if c.spread else c.text for c in cells])
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    ruler = ["---" if column.is_text else "---:" for column in shown]
    return [lines[0], f"| {' | '.join(ruler)} |", *lines[1:]]


def escape(text: str) -> str:
    """Text that neither Markdown's tables nor a browser take for markup."""
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return html.escape(" ".join(text.split()), quote=False)


def as_csv(study: Results) -> str:
    """One line per row and seed; nested keys become dotted columns."""
    lines = []
    for group in study.groups:
        for row in group.rows:
            alone = dataclasses.replace(group, rows=(row,))
            read = _compared(study, alone) if study.is_binary else _judged(study, alone)
            paper = {"paper": study.paper(group)}
            lines.append(_flat({"dataset": study.dataset, **row, **read, **paper}))
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _judged(study: Results, alone: Group) -> dict[str, Any]:
    """How a spiking row is read against its control."""
    control = study.control(alone.start)
    judged = alone.kind == "quantized"
    return {
        "control": control.word if control else None,
        "ratio": study.ratio(alone),
        "reading": study.reading(alone).words if judged else None,
    }


def _compared(study: Results, alone: Group) -> dict[str, Any]:
    """How a binary row is read against the means of other methods."""
    return {"gain": study.gain(alone), "gap": study.gap(alone)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` becomes `{"a.b": 1}`; what is None has no column."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value
    return flat
