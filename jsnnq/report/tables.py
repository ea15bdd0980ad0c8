"""The networks of a study as a table: one definition for terminal, page, Markdown, CSV.

The page shows every column, the terminal and Markdown show some of them, and the CSV
file holds the rows themselves, one per seed.
"""

import csv
import dataclasses
import html
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import rich.box
import rich.table
import rich.text
from flax.traverse_util import flatten_dict

from jsnnq.report import meaning
from jsnnq.report.groups import Group
from jsnnq.report.numbers import amount, distance, kib, percent, points, times
from jsnnq.report.results import Results


class Cell(NamedTuple):
    """What is printed, what the column is sorted by, and the range over seeds."""

    text: str
    sort: str | float
    spread: str = ""


_Cells = Callable[[Results, Group], Cell]


class Column(NamedTuple):
    """A heading, what it means, and the cell of a network."""

    title: str
    help: str
    cell: _Cells
    is_text: bool = False


_EMPTY = Cell("–", "")


def _text(say: Callable[[Results, Group], str]) -> _Cells:
    return lambda *of: Cell(words, words) if (words := say(*of)) else _EMPTY


def _number(
    value: Callable[[Results, Group], float | None],
    show: Callable[[float], str],
    spread: Callable[[Results, Group], str] = lambda *of: "",
) -> _Cells:
    def cell(*of: Any) -> Cell:
        number = value(*of)
        return _EMPTY if number is None else Cell(show(number), number, spread(*of))

    return cell


def _mean(path: str, show: Callable[[float], str], spread: bool = False) -> _Cells:
    """Cells with the mean over seeds, and their range where asked for."""

    def ends(study: Results, group: Group) -> str:
        values = group.values(path)
        low, high = show(min(values)), show(max(values))
        return f"{low}–{high}" if spread and low != high else ""

    return _number(lambda _, group: group.mean(path), show, ends)


def _published(part: str, show: Callable[[float], str]) -> _Cells:
    """Cells with a value of the paper, what it was published for and its grade."""

    def origin(study: Results, group: Group) -> str:
        known = study.paper(group)
        grade = known.get(f"{part}_grade") or known.get("grade")
        said = filter(None, [known.get("of"), grade, known.get("note")])
        return ", ".join(map(str, said))

    return _number(lambda study, group: study.paper(group).get(part), show, origin)


def _ratio(study: Results, group: Group) -> Cell:
    ratio, control = study.ratio(group), study.control(group.start)
    if ratio is None or control is None:
        return _EMPTY
    return Cell(f"{times(ratio)} {control.word}", ratio)


_OF_PAPER = {
    part: Column(title, words, _published(part, show))
    for part, title, words, show in (
        ("accuracy", "Paper %", "published accuracy", percent),
        ("emd", "Paper EMD", "published", distance),
        ("dead", "Paper dead %", "published", percent),
        ("gain", "Paper on STE", "published points", points),
    )
}
_family = lambda study, group: group.family
_reading = lambda study, group: study.reading(group).words
_spread = lambda study, group: _ACCURACY.cell(study, group).spread
_ACCURACY = Column("Acc. %", "held-out accuracy", _mean("accuracy", percent, True))
_COST = (
    Column("ACs", "accumulates per image", _mean("cost.acs", amount)),
    Column("MACs", "multiply-accumulates per image", _mean("cost.macs", amount)),
    Column("Weights KiB", "scales included", _mean("cost.weight_bits", kib)),
    Column("Time s", "wall clock", _mean("wall_s", "{:.1f}".format)),
)
_NAME = Column("Network", "row of the study", _text(lambda _, g: g.name), True)
_SEEDS = Column(
    "Seeds", "number of seeds", lambda _, g: Cell(str(len(g.rows)), len(g.rows))
)
_BITS = "bits of a weight or membrane potential"
_SPIKING = (
    _NAME,
    _ACCURACY,
    Column("EMD", "mean over layers", _mean("emd.mean", distance, True)),
    Column("Against", "EMD as a multiple of its control", _ratio),
    Column("Reading", "accuracy and EMD together", _text(_reading), True),
    Column("Family", "what is quantized, and how", _text(_family), True),
    Column("Bits", _BITS, _text(lambda _, g: meaning.bits(g.config))),
    Column("Clip", "largest magnitude", _text(lambda _, g: meaning.clip(g.config))),
    Column("Start", "what training began from", _text(lambda _, g: g.start), True),
    _SEEDS,
    Column("Weighted", "EMD weighted by neurons", _mean("emd.weighted", distance)),
    Column("Max", "EMD of the worst layer", _mean("emd.max", distance)),
    Column("Pooled", "EMD of all neurons at once", _mean("emd.pooled", distance)),
    Column("Matched", "neuron by neuron", _mean("matched.mean", distance)),
    Column("Rate", "mean firing rate", _mean("mean_rate", distance)),
    Column("Dead %", "rate below 0.05", _mean("dead", percent)),
    Column("Satur. %", "rate above 0.95", _mean("saturated", percent)),
    *_COST[:2],
    Column("Events", "per image", _mean("cost.events", amount)),
    _COST[2],
    Column("State KiB", "membrane potentials", _mean("cost.state_bits", kib)),
    _COST[3],
    *(_OF_PAPER[part] for part in ("accuracy", "emd", "dead")),
)
_BINARY = (
    _NAME,
    _ACCURACY,
    Column("On STE", "points above straight-through", _number(Results.gain, points)),
    Column("To float", "points above full precision", _number(Results.gap, points)),
    *(_OF_PAPER[part] for part in ("accuracy", "gain")),
    _SEEDS,
    Column("Family", "what is binary, and how", _text(_family), True),
    Column("Model", "network", _text(lambda _, g: g.network), True),
    *_COST,
)
_RANGE = Column("Range", "accuracy of the worst and the best seed", _text(_spread))
_TERMINAL = ("Network", "Acc. %", "EMD", "Against", "Dead %", "ACs", "MACs")
_TERMINAL += ("Weights KiB", "On STE", "To float")
_NOT_IN_MARKDOWN = ("Family", "Model", "Bits", "Clip")


def columns(study: Results) -> list[Column]:
    """What is said of each network: all that the page shows."""
    published = {part for group in study.groups for part in study.paper(group)}
    unknown = [_OF_PAPER[part] for part in _OF_PAPER if part not in published]
    every = _BINARY if study.is_binary else _SPIKING
    return [column for column in every if column not in unknown]


def empty(title: str, caption: str, **look: Any) -> rich.table.Table:
    """A table for the terminal, without a line."""
    # Names of rows and data sets may hold what rich takes for markup.
    words = {"title": rich.text.Text(title), "caption": rich.text.Text(caption)}
    look |= {"box": rich.box.SIMPLE_HEAD, "pad_edge": False, "caption_justify": "left"}
    return rich.table.Table(**words, **look)


def terminal(study: Results, title: str, caption: str) -> rich.table.Table:
    """One line per network, so narrow that default names fit 80 columns."""
    made = empty(title, caption, padding=0)
    wanted = _TERMINAL + ("Paper %", "Seeds") * study.is_binary
    shown = [column for column in columns(study) if column.title in wanted]
    if study.is_binary:
        shown.insert(2, _RANGE)  # Other forms write it beside the accuracy.
    for column in shown:
        side = "left" if column.is_text else "right"
        heading = column.title.replace(" ", "\n")  # two lines are narrower than one
        made.add_column(heading, justify=side, overflow="fold")
    styles = {"silent": "bold yellow", "drowned": "red"}
    for group in study.groups:
        style = styles.get(study.reading(group).code, "")
        cells = [column.cell(study, group).text for column in shown]
        made.add_row(*(rich.text.Text(cell, style=style) for cell in cells))
    return made


def markdown(study: Results) -> list[str]:
    """The lines of a Markdown table, one per network."""
    unwanted = {*_NOT_IN_MARKDOWN, *(() if study.is_binary else ("Time s",))}
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
    """One line per row and seed; nested keys become dotted columns, if not None."""
    lines = []
    for group in study.groups:
        for row in group.rows:
            alone = dataclasses.replace(group, rows=(row,))
            told = {"dataset": study.dataset, **row, **_read(study, alone)}
            flat = flatten_dict({**told, "paper": study.paper(group)}, sep=".")
            lines.append({key: x for key, x in flat.items() if x is not None})
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _read(study: Results, alone: Group) -> dict[str, Any]:
    """A row held against its control, a binary one against means of other methods."""
    if study.is_binary:
        return {"gain": study.gain(alone), "gap": study.gap(alone)}
    control = study.control(alone.start)
    reading = study.reading(alone).words if alone.kind == "quantized" else None
    word = control.word if control else None
    return {"control": word, "ratio": study.ratio(alone), "reading": reading}
