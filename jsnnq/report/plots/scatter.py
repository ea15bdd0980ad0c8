"""Accuracy against EMD: which network keeps the accuracy and changes its behaviour.

The picture a study is made for (arXiv 2604.14487). Up is accurate, left fires like the
float network; the corner to look for is the upper right one, beyond the control.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from jsnnq.report import meaning
from jsnnq.report.groups import Group, is_finite
from jsnnq.report.numbers import distance
from jsnnq.report.plots import style
from jsnnq.report.results import CONTROLS, KEPT, Control, Results


class _Point(NamedTuple):
    """A network in the plane: EMD, and accuracy in points from its control's."""

    group: Group
    x: float
    y: float


def placed(study: Results) -> list[Group]:
    """Networks with accuracy and EMD; with them the float one, whose EMD is 0."""
    known = [group for group in study.groups if group.values("accuracy")]
    moved = [g for g in known if g.kind != "float" and g.values("emd.mean")]
    return [g for g in known if g.kind == "float" or g in moved] if moved else []


def draw(study: Results, groups: Sequence[Group]) -> Figure:
    """A point for each network that is `placed`, and what the corners mean."""
    figure = style.figure(8.5, 6.0)
    axes = figure.add_subplot()
    points = []
    for group in groups:
        emd = 0.0 if group.kind == "float" else group.mean("emd.mean") or 0.0
        points.append(_Point(group, emd, statistics.fmean(_heights(study, group))))
    controls = [control for start in CONTROLS if (control := study.control(start))]
    start = _start(study)
    shared = study.control(start)
    _stretch(axes, study, controls, points)
    if shared is not None and shared.mean > 0:
        _add_ratio_axis(axes, shared)
    if study.float_accuracies:
        if start:
            _draw_quadrants(axes, shared)
        floats = study.of_kind("float")
        ends = [height for group in floats for height in _heights(study, group)]
        axes.axhspan(min(ends), max(ends), color=style.INK, alpha=0.10, lw=0)
        axes.axhline(statistics.fmean(ends), color=style.INK, lw=0.8, zorder=1)
    for control in controls:
        _draw_control(axes, control)
    for point in points:
        _draw_point(axes, study, point)
    axes.set_xlabel("EMD to the float network, mean over layers")
    whose = "the control of the same seed" if start else "the float networks"
    axes.set_ylabel(f"accuracy on held-out images, points above {whose}")
    style.legend(figure, [axes])
    _label_points(figure, axes, study, points)
    return figure


def _heights(study: Results, group: Group) -> list[float]:
    """Points of accuracy above what each seed is held against."""
    return [
        100 * (row["accuracy"] - _origin(study, [row["seed"]]))
        for row in group.rows
        if is_finite(row["accuracy"])
    ]


def _origin(study: Results, seeds: Sequence[int]) -> float:
    """What networks of these seeds are held against, or the float networks."""
    start = _start(study)
    return study.base(start, seeds) if start else study.reference


def _start(study: Results) -> str:
    """The start of all quantized networks, if they have one and the same."""
    starts = {group.start for group in study.quantized} & set(CONTROLS)
    return starts.pop() if len(starts) == 1 else ""


# The axes: linear near their control and logarithmic far from it. One network
# that lost fifty points, or moved thirty times the drift, would otherwise press all
# the others into one corner.


def _stretch(
    axes: Axes, study: Results, controls: Sequence[Control], points: Sequence[_Point]
) -> None:
    emds = [point.x for point in points if point.x > 0] or [1e-4]
    width = min((control.mean for control in controls), default=0.0)
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
    top = 100 * _origin(study, [s for group in study.quantized for s in group.seeds])
    ys = _ticks([0, -1, 1, -10, -50, -20, -5, -2, 2, 5, 10], y_limits, 1.0, 0.05)
    ys = [y for y in ys if top + y <= 100]
    said = {y: f"{y:+g}".replace("-", "−") for y in ys} | {0: f"{top:.1f} %"}
    axes.set_yticks(ys, [said[y] for y in ys])
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


def _add_ratio_axis(axes: Axes, control: Control) -> None:
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


# What stands in the plane


def _draw_quadrants(axes: Axes, control: Control | None) -> None:
    """What the four corners mean, where all networks are read against one control."""
    lost, (left, right), top = -100 * KEPT, axes.get_xlim(), axes.get_ylim()[1]
    axes.axhline(lost, color=style.MUTED, lw=0.8, linestyle="dotted", zorder=1)
    if control is None:
        return
    edge = control.high
    axes.fill_between([left, edge], lost, top, color=style.CALM, lw=0, zorder=0)
    axes.fill_between([edge, right], lost, top, color=style.ALARM, lw=0, zorder=0)
    corner = {"transform": axes.transAxes, "fontsize": 8.5, "linespacing": 1.25}
    low, high = {"y": 0.02, "va": "bottom"}, {"y": 0.98, "va": "top"}
    inner, outer = {"x": 0.012, "ha": "left"}, {"x": 0.99, "ha": "right"}
    quiet, loud = {"color": style.MUTED}, {"color": style.INK, "weight": "bold"}
    for words, paper, look in (
        ("keeps accuracy\nand behaviour", style.CALM, inner | high | quiet),
        ("keeps accuracy,\nCHANGES BEHAVIOUR", style.ALARM, outer | high | loud),
        ("loses accuracy,\nkeeps behaviour", style.PAPER, inner | low | quiet),
        ("loses accuracy and\nchanges behaviour", style.PAPER, outer | low | quiet),
    ):
        # A control may stand that far out, and its line would strike the words.
        behind = {"facecolor": paper, "edgecolor": "none", "pad": 1}
        axes.text(s=words, bbox=behind, **look, **corner)


def _draw_control(axes: Axes, control: Control) -> None:
    """A line for the mean of a control and a band for its range."""
    look = {"color": style.MUTED, "lw": 1.4, "zorder": 1.5}
    look |= {"linestyle": "dashed" if control.word == "floor" else "solid"}
    words = f"{control.word} {distance(control.mean)} ({control.span})"
    axes.axvspan(control.low, control.high, color=style.MUTED, alpha=0.22, lw=0)
    axes.axvline(control.mean, label=words, **look)
    place = {"rotation": 90, "ha": "right", "va": "top", "color": style.MUTED}
    # Below the words of the corners, and above most points.
    spot = (control.low, 0.88)
    axes.text(*spot, control.word, transform=axes.get_xaxis_transform(), **place)


def _draw_point(axes: Axes, study: Results, point: _Point) -> None:
    """The mean over seeds, with a thin cross from the least to the greatest."""
    group, x, y = point
    emds = [x] if group.kind == "float" else group.values("emd.mean")
    heights = _heights(study, group)
    colour = style.colour(group.method, study.methods)
    line = {"color": colour, "lw": 1.0, "alpha": 0.7}
    axes.plot([min(emds), max(emds)], [y, y], **line)
    axes.plot([x, x], [min(heights), max(heights)], **line)
    look = {"color": colour, "markersize": 13 if group.kind == "float" else 8}
    look |= {"markeredgecolor": style.PAPER, "markeredgewidth": 0.8}
    look |= {"marker": style.marker(group.place, group.kind), "ls": ""}
    axes.plot(x, y, label=style.plain(group.family), zorder=4, clip_on=False, **look)


def _label_points(
    figure: Figure, axes: Axes, study: Results, points: Sequence[_Point]
) -> None:
    """Writes each network's setting beside its point, where it covers nothing."""
    figure.draw_without_rendering()  # Until then nobody knows where points stand.
    around = 6 / 72 * figure.dpi
    spots = axes.transData.transform([(point.x, point.y) for point in points])
    taken = [Bbox([spot - around, spot + around]) for spot in spots]
    taken += [text.get_window_extent() for text in axes.texts]
    several = len({group.start for group in study.quantized}) > 1
    said: dict[tuple[float, float, str], list[str]] = {}
    for group, x, y in points:
        if group.kind == "quantized":
            words = meaning.setting(group.config)
            words += f", {group.start}" if several else ""
            place = x, y, style.colour(group.method, study.methods)
            said.setdefault(place, []).append(style.plain(words))
    look = {"ha": "left", "va": "center", "fontsize": 7.5, "zorder": 5}
    labels = [
        # Where a clip cuts nothing, networks stand at one point: they share a label.
        axes.text(x, y, "\n".join(words), color=colour, in_layout=False, **look)
        for (x, y, colour), words in said.items()
    ]
    # Labels yield to each other first: one on a grey band is read, one on another not.
    # A limit of time instead of steps would draw another picture on a slower machine.
    _, lines = adjust_text(
        labels,
        objects=[box.transformed(axes.transData.inverted()) for box in taken],
        force_text=(0.3, 0.8),
        expand=(1.08, 1.3),
        prevent_crossings=False,
        ax=axes,
        iter_lim=500,
        min_arrow_len=12,
        arrowprops={"arrowstyle": "-", "lw": 0.6, "alpha": 0.8, "zorder": 3},
    ) or ((), ())
    for line in lines:
        line.set_color(line.patchA.get_color())
