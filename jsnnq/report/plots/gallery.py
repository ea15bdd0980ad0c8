"""Which pictures a study has, how to read them, and each twice as a PNG file.

A picture without data is left out, and named as missing where it would belong.
"""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from jsnnq.report import summary
from jsnnq.report.groups import Group
from jsnnq.report.plots import (
    cost,
    curves,
    heatmap,
    histograms,
    inside,
    methods,
    scatter,
    style,
)
from jsnnq.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A plot that was drawn: twice as PNG, and in words; the first one is `main`."""

    file: str
    title: str
    caption: str
    alt: str
    light: bytes
    dark: bytes
    main: bool


class _Plot(NamedTuple):
    """How a picture is drawn, and of which networks."""

    file: str
    title: str
    caption: str
    shows: Callable[[Results], list[Group]]
    draw: Callable[[Results, list[Group]], "Figure"]


def draw(study: Results) -> list[Picture]:
    """Every picture there are data for."""
    return [_picture(plot, study) for plot in _plots(study) if plot.shows(study)]


def undrawn(study: Results) -> list[str]:
    """The titles of those there are no data for yet."""
    return [plot.title for plot in _plots(study) if not plot.shows(study)]


_ACCURACY_EMD = _Plot(
    "accuracy_emd.png",
    "Accuracy against behaviour",
    "Each point is a network, the mean over its seeds with a cross for their range, in "
    "points of accuracy above the control of the same seed. Up is accurate, left "
    "behaves like the float network. The corner to look for is the upper right one: "
    "accuracy kept, behaviour changed by more than the control. Both axes are "
    "stretched near the control.",
    scatter.placed,
    scatter.draw,
)
_SPIKING = (
    _Plot(
        "emd_layers.png",
        "Where the behaviour changes",
        "EMD of each layer from input to output, times 1000, on a logarithmic colour "
        "scale. The rows on top are the controls.",
        heatmap.layered,
        heatmap.draw_layers,
    ),
    _Plot(
        "firing.png",
        "How the neurons fire",
        "Firing rates of all neurons: the float network filled, the other network as a "
        "line; EMD is the pooled one. The share of neurons is logarithmic, because "
        "most rates are near 0. Left of the first dotted line a neuron is dead, right "
        "of the second saturated.",
        histograms.fired,
        histograms.draw_pooled,
    ),
    _Plot(
        "firing_layers.png",
        "How the neurons fire, layer by layer",
        "The same for single layers and the networks that tell most: the largest "
        "change at kept accuracy, the nearest and the farthest network. Where there "
        "are too many layers, those that moved most are shown.",
        histograms.telling,
        histograms.draw_layers,
    ),
)
_METHODS = _Plot(
    "accuracy_methods.png",
    "Accuracy by method",
    "One dot per seed; the bar and the number are their mean. Right is accurate. The "
    "dashed line is the same network in full precision. Hollow diamonds are published "
    "values; where their name says so, they belong to another data set or width and "
    "show a direction, no target.",
    methods.ranked,
    methods.draw,
)
_CURVES = _Plot(
    "curves.png",
    "Training",
    "One line per run. The float network is the thick line.",
    curves.curved,
    curves.draw_curves,
)
_COST = _Plot(
    "cost.png",
    "What it costs to run",
    "Per image. Storage counts real bits, scales and bases included.",
    cost.costed,
    cost.draw_cost,
)
_INSIDE = (
    "Methods side by side, steps to the right, layers from the input (bottom) to the "
    "output (top). White lines mark the window in which a layer is frozen. The upper "
    "curve is the accuracy under the masks of that step, which falls when a layer "
    "starts to freeze, the lower one that of the network with every mask closed. A "
    "black gradient is exactly zero because the kernel is frozen: the layer is done. A "
    "red one is exactly zero although the kernel is not frozen: frozen activations "
    "behind it let nothing pass, and it no longer learns. That is the gradient "
    "blockade."
)


def _plots(study: Results) -> list[_Plot]:
    """The pictures that belong to a study of this kind."""
    within = []
    for kind in inside.kinds(study):
        file = re.sub(r"[^\w.]+", "-", "_".join(["inside", *kind])).lower().strip("-")
        title = f"Inside the layers: {', '.join(kind)}"
        place, network = kind
        looked = functools.partial(inside.looked, place=place, network=network)
        within.append(_Plot(f"{file}.png", title, _INSIDE, looked, inside.draw))
    if study.is_binary:
        return [_METHODS, *within, _CURVES, _COST]
    return [_ACCURACY_EMD, *_SPIKING, *within, _CURVES, _COST]


def _picture(plot: _Plot, study: Results) -> Picture:
    groups = plot.shows(study)
    shown = [f"{group.name}: {summary.say('item', study, group)}" for group in groups]
    alt = f"Plot: {plot.title}. Shown are {'; '.join(shown)}."
    with style.style():
        figure = plot.draw(study, groups)
        style.sign(figure, study.dataset, study.is_synthetic)
        light = style.png(figure)
        style.darken(figure)
        dark = style.png(figure)
    main = plot in (_ACCURACY_EMD, _METHODS)
    return Picture(plot.file, plot.title, plot.caption, alt, light, dark, main)
