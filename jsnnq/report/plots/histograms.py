"""Firing distributions of two or more networks over each other, as small multiples.

A distribution is drawn as the share of neurons in each of 40 intervals of the rate, on
a logarithmic scale, because most rates are near 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsnnq.analysis.firing import Counts, histogram
from jsnnq.report.groups import Group
from jsnnq.report.numbers import distance
from jsnnq.report.plots import style
from jsnnq.report.results import Results

_BINS = 40
_NOTHING = 1e-12  # an empty bin has no logarithm: it is drawn far below the axis
_MOST = 24  # layers drawn one by one; a reader does not compare more
_ALL = "all layers"
_FLOAT = ("float network", style.MUTED)

_Rates = Float[np.ndarray, "_"]


class _Line(NamedTuple):
    """One distribution."""

    label: str
    colour: str
    rates: _Rates


class _Panel(NamedTuple):
    """One small picture: a distribution, and others that are held against it."""

    title: str
    base: _Line
    others: Sequence[_Line]
    note: str = ""


def fired(study: Results) -> list[Group]:
    """Networks whose firing can be held against a float network's."""
    groups = [group for group in study.groups if group.kind != "float"]
    return [group for group in groups if _records(study, group)]


def draw_pooled(study: Results, groups: Sequence[Group]) -> Figure:
    """All neurons of a network as one distribution, one panel for each that `fired`."""
    panels = []
    for group in groups:
        before, after = (_pool(record.rates()) for record in _records(study, group))
        emd = group.mean("emd.pooled")
        line = _Line(group.method, style.colour(group.method, study.methods), after)
        note = "" if emd is None else f"EMD {distance(emd)}"
        panels.append(_Panel(group.name, _Line(*_FLOAT, before), [line], note))
    return _draw(panels, 4)


def telling(study: Results) -> list[Group]:
    """Up to three networks: the largest silent change, the nearest, the farthest."""
    groups = [group for group in fired(study) if group.kind == "quantized"]
    by_emd = sorted(groups, key=lambda group: group.mean("emd.mean") or 0.0)
    silent = [group for group in study.read_as("silent") if group in groups]
    chosen = [*silent[:1], *by_emd[:1], *by_emd[-1:]]
    return [group for i, group in enumerate(chosen) if group not in chosen[:i]]


def draw_layers(study: Results, groups: Sequence[Group]) -> Figure:
    """Layer by layer, for the few networks that are `telling`."""
    firings = [
        [record.rates() for record in _records(study, group)] for group in groups
    ]
    before = firings[0][0]
    colours = [style.colour(group.method, study.methods) for group in groups]
    # Two networks of one method share a panel here: the second gets a free colour.
    free = iter(c for c in style.METHODS.values() if c not in colours)
    colours = [c if c not in colours[:i] else next(free) for i, c in enumerate(colours)]
    panels = []
    for layer in _moved_most(list(before), [group.layers() for group in groups]):
        lines = [
            _Line(group.name, colour, after[layer])
            for group, colour, (_, after) in zip(groups, colours, firings, strict=True)
        ]
        panels.append(_Panel(layer, _Line(*_FLOAT, before[layer]), lines))
    return _draw(panels, 5)


def draw_two(found: Mapping[str, Any], names: tuple[str, str]) -> Figure:
    """Two networks that `saved.compare_saved` found, pooled and by layer."""
    emd, unit = found["emd"], found.get("unit", "neuron")
    one, other = (record.rates(unit) for record in found["firing"])
    layers = _moved_most(list(one), [emd["layers"]])
    one, other = ({_ALL: _pool(rates), **rates} for rates in (one, other))
    emds = {_ALL: emd["pooled"], **emd["layers"]}
    panels = [
        _Panel(
            layer,
            _Line(names[0], style.MUTED, one[layer]),
            [_Line(names[1], style.BLUE, other[layer])],
            f"EMD {distance(emds[layer])}",
        )
        for layer in (_ALL, *layers)
    ]
    return _draw(panels, 4, unit)


# What is drawn


def _records(study: Results, group: Group) -> list[Counts]:
    """The record of the float network and the group's first; none if one is missing.

    The float network is that of the same seed, or the first where there is none.
    """
    floats = study.of_kind("float")
    known = [run for each in floats for run in each.runs if run in study.firing]
    own = [run for run in group.runs if run in study.firing]
    if not known or not own:
        return []
    before = min(known, key=lambda run: run.seed != own[0].seed)
    return [study.firing[before], study.firing[own[0]]]


def _pool(rates: Mapping[str, _Rates]) -> _Rates:
    return np.concatenate(list(rates.values()))


def _moved_most(
    layers: Sequence[str], emds: Sequence[Mapping[str, float]]
) -> list[str]:
    """All layers in order, or of too many those that moved most."""
    moved = lambda layer: max(each.get(layer, 0.0) for each in emds)
    most = sorted(layers, key=moved, reverse=True)[:_MOST]
    return [layer for layer in layers if layer in most]


# How it is drawn


def _draw(panels: Sequence[_Panel], across: int, unit: str = "neuron") -> Figure:
    """All panels share both axes."""
    down = math.ceil(len(panels) / across)
    across = max(2, math.ceil(len(panels) / down))
    figure = style.figure(8.5, 0.95 + 1.4 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    used = list(grid.flat[: len(panels)])
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in used[-across:]:
        axes.tick_params(labelbottom=True)
    for axes, panel in zip(used, panels, strict=True):
        _draw_panel(axes, panel, longest=130 // len(grid[0]))
    # One neuron of the largest panel is the least share shown.
    most = max(panel.base.rates.size for panel in panels)
    used[0].set_yscale("log")
    used[0].set_ylim(0.5 / most, 1.5)
    used[0].set_yticks(10.0 ** -np.arange(1 + int(math.log10(2 * most))))
    used[0].set_xlim(0, 1)
    used[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    for axes in grid.flat:
        axes.minorticks_off()
    used[-1].set_xlabel("firing rate", fontsize=8)
    figure.supylabel(f"share of {unit}s", fontsize=8.5)
    style.legend(figure, used)
    return figure


def _draw_panel(axes: Axes, panel: _Panel, longest: int) -> None:
    for line in (panel.base, *panel.others):
        look: dict[str, Any] = {"lw": 1.2}
        if line is panel.base:
            look = {"fill": True, "alpha": 0.45, "lw": 0}
        share = np.maximum(histogram(line.rates, _BINS) / line.rates.size, _NOTHING)
        edges, words = np.linspace(0, 1, _BINS + 1), style.plain(line.label)
        look |= {"color": line.colour, "label": words, "baseline": _NOTHING}
        axes.stairs(share, edges, **look)
    for border in (0.05, 0.95):
        axes.axvline(border, color=style.MUTED, lw=0.7, linestyle="dotted")
    axes.tick_params(labelsize=7.5)
    axes.set_title(style.plain(panel.title, longest), fontsize=7.5, loc="left", y=1.0)
    place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
    axes.text(0.92, 0.94, panel.note, fontsize=7.5, **place)
