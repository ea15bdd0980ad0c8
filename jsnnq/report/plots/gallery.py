"""Which pictures a study has, how to read them, and each twice as a PNG file.

A picture without data is left out, and named as missing where it would belong.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

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
    """How a picture is drawn, and of which networks; `kind` has the caption."""

    kind: str
    title: str
    shows: Callable[[Results], list[Group]]
    draw: Callable[[Results, list[Group]], Figure]
    name: str = ""


def draw(study: Results) -> list[Picture]:
    """Every picture there are data for."""
    plots = [(plot, plot.shows(study)) for plot in _plots(study)]
    return [_picture(study, plot, groups) for plot, groups in plots if groups]


def undrawn(study: Results) -> list[str]:
    """The titles of those there are no data for yet."""
    return [plot.title for plot in _plots(study) if not plot.shows(study)]


_SPIKING = (
    _Plot("accuracy_emd", "Accuracy against behaviour", scatter.placed, scatter.draw),
    _Plot(
        "emd_layers",
        "Where the behaviour changes",
        heatmap.layered,
        heatmap.draw_layers,
    ),
    _Plot("firing", "How the neurons fire", histograms.fired, histograms.draw_pooled),
    _Plot(
        "firing_layers",
        "How the neurons fire, layer by layer",
        histograms.telling,
        histograms.draw_layers,
    ),
)
_BINARY = (
    _Plot("accuracy_methods", "Accuracy by method", methods.ranked, methods.draw),
)
_BOTH = (
    _Plot("curves", "Training", curves.curved, curves.draw_curves),
    _Plot("cost", "What it costs to run", cost.costed, cost.draw_cost),
)


def _plots(study: Results) -> list[_Plot]:
    """The pictures that belong to a study of this kind."""
    within = []
    for place, network in inside.kinds(study):
        name = re.sub(r"[^\w.]+", "-", f"inside_{place}_{network}").lower().strip("-")
        looked = functools.partial(inside.looked, place=place, network=network)
        title = f"Inside the layers: {place}, {network}"
        within.append(_Plot("inside", title, looked, inside.draw, name))
    return [*(_BINARY if study.is_binary else _SPIKING), *within, *_BOTH]


def _picture(study: Results, plot: _Plot, groups: list[Group]) -> Picture:
    shown = [f"{group.name}: {summary.say('item', study, group)}" for group in groups]
    alt = f"Plot: {plot.title}. Shown are {'; '.join(shown)}."
    with style.style():
        figure = plot.draw(study, groups)
        style.sign(figure, study.dataset, study.is_synthetic)
        light = style.png(figure)
        style.darken(figure)
        dark = style.png(figure)
    file, caption = f"{plot.name or plot.kind}.png", summary.say("caption", plot.kind)
    is_main = plot in (_SPIKING[0], *_BINARY)
    return Picture(file, plot.title, caption, alt, light, dark, is_main)
