"""Accuracy by method: one dot per seed, their mean, and what was published.

A row of panels is a network; networks that are binary in weights and activations (BNN)
stand apart from those that are binary in weights only (BWN).
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsnnq.report.groups import Group
from jsnnq.report.numbers import percent
from jsnnq.report.plots import style
from jsnnq.report.results import Results

_LEAST_POINTS = 5.0
"""An axis shows so many, so that tenths of a point do not look like a difference."""


def ranked(study: Results) -> list[Group]:
    """Networks with an accuracy, if any of them is binary."""
    known = [group for group in study.groups if group.values("accuracy")]
    binary = study.is_binary and any(group.kind == "quantized" for group in known)
    return known if binary else []


def draw(study: Results, groups: Sequence[Group]) -> Figure:
    """One line for each method that is `ranked`."""
    # The same network in full precision is in every panel of its network.
    full = {group.network: group for group in groups if group.kind == "float"}
    panels: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        if group.kind == "quantized":
            panels.setdefault((group.network, group.place), []).append(group)
    networks = list(dict.fromkeys(network for network, _ in panels))
    places = list(dict.fromkeys(place for _, place in panels))
    lines = lambda network, place: len(panels.get((network, place), ()))
    heights = [max(lines(one, place) for place in places) for one in networks]
    figure = style.figure(8.5, 1.1 + sum(0.55 + 0.26 * height for height in heights))
    ratios, shape = [0.9 + height for height in heights], (len(networks), len(places))
    grid = figure.subplots(*shape, squeeze=False, height_ratios=ratios)
    for row, network, height in zip(grid, networks, heights, strict=True):
        for axes, place in zip(row, places, strict=True):
            if (network, place) not in panels:
                axes.set_axis_off()
                continue
            _draw_panel(axes, study, panels[network, place], full.get(network))
            axes.set_ylim(height - 0.4, -0.6)
    # Numbers of one panel and names of the next are not to be read as one.
    figure.set_layout_engine("constrained", w_pad=0.12)
    style.legend(figure, grid.flat)
    return figure


def _draw_panel(
    axes: Axes, study: Results, alike: Sequence[Group], full: Group | None
) -> None:
    for line, group in enumerate(alike):
        _draw_method(axes, study, group, line)
    if full is not None:
        seeds = [100 * value for value in full.values("accuracy")]
        look: dict[str, Any] = {"color": style.INK, "lw": 1.0, "linestyle": "dashed"}
        look |= {"label": "full precision, with the range over its seeds"}
        axes.axvspan(min(seeds), max(seeds), color=style.INK, alpha=0.10, lw=0)
        axes.axvline(100 * (full.mean("accuracy") or 0.0), **look)
    words = [", ".join([g.method, *g.details, *study.trained(g)]) for g in alike]
    axes.set_yticks(range(len(words)), map(style.plain, words))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=style.MUTED, alpha=0.25, lw=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    missing = max(0.0, _LEAST_POINTS - (high - low)) / 2
    axes.set_xlim(low - missing, high + missing)
    title = ", ".join(filter(None, [alike[0].place, alike[0].network]))
    axes.set_title(style.plain(title), fontsize=8.5, loc="left")
    axes.set_xlabel("accuracy on held-out images, %", fontsize=8)
    axes.tick_params(labelsize=8)


def _draw_method(axes: Axes, study: Results, group: Group, line: int) -> None:
    """Seeds as dots, their mean as a bar with its value, the paper as a diamond."""
    colour = style.colour(group.method, study.methods)
    seeds = [100 * value for value in group.values("accuracy")]
    mean = group.mean("accuracy") or 0.0
    look: dict[str, Any] = {"markeredgecolor": style.PAPER, "alpha": 0.8}
    axes.plot(seeds, [line] * len(seeds), "o", color=colour, markersize=6, **look)
    axes.plot([100 * mean] * 2, [line - 0.3, line + 0.3], color=colour, lw=2.2)
    place = {"ha": "left", "va": "center", "fontsize": 8, "color": style.INK}
    beside = axes.get_yaxis_transform()
    axes.text(1.01, line, percent(mean), transform=beside, **place)
    paper = study.paper(group)
    if paper.get("accuracy") is not None:
        label = ", ".join(filter(None, ["paper", str(paper.get("of") or "")]))
        look = {"color": style.MUTED, "ls": "", "markerfacecolor": "none"}
        look |= {"label": style.plain(label), "alpha": 0.8, "markersize": 7}
        axes.plot(100 * paper["accuracy"], line, "D", zorder=3, **look)
