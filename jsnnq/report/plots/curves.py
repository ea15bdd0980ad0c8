"""Loss and accuracy while networks trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsnnq.report.groups import Group
from jsnnq.report.plots import style
from jsnnq.report.results import Results

_LINES = {"membranes": "dashed", "weights and membranes": "dotted", "BWN": "dashed"}


def curved(study: Results) -> list[Group]:
    """Networks whose training was recorded."""
    return [group for group in study.groups if _curves(study, group)]


def draw_curves(study: Results, groups: Sequence[Group]) -> Figure:
    """One line for each run of what is `curved`; binary networks apart."""
    kinds = list(dict.fromkeys(g.network if study.is_binary else "" for g in groups))
    figure = style.figure(8.5, 1.0 + 2.6 * len(kinds))
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for kind, (loss, accuracy) in zip(kinds, panels, strict=True):
        for group in groups:
            if kind in ("", group.network):
                _draw_runs(study, group, loss, accuracy)
        # On a linear scale the end of a loss that falls far would be one flat line.
        losses = [np.asarray(line.get_ydata(), float) for line in loss.lines]
        seen = np.concatenate([values[values > 0] for values in losses])
        if seen.size and seen.max() > 5 * seen.min():
            loss.set_yscale("log")
        loss.set_ylabel("training loss")
        accuracy.set_ylabel("accuracy during training, %")
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch")
            axes.grid(color=style.MUTED, alpha=0.25, lw=0.5)
        loss.set_title(style.plain(kind), fontsize=8.5, loc="left")
    # Methods have a colour in both; what dashes mean has no line of its own.
    if study.is_binary and {group.place for group in groups} >= {"BNN", "BWN"}:
        for place in ("BNN", "BWN"):
            look = {"color": style.MUTED, "linestyle": _LINES.get(place, "solid")}
            panels[0][0].plot([], [], label=place, **look)
    style.legend(figure, panels[:, 0])
    return figure


def _curves(study: Results, group: Group) -> list[Sequence[Mapping[str, Any]]]:
    found = (study.curves.get(run, ()) for run in group.runs)
    return [curve for curve in found if len(curve)]


def _draw_runs(study: Results, group: Group, loss: Axes, accuracy: Axes) -> None:
    """Float thick and on top, the rest thin in the colour of the quantizer."""
    words = group.family if group.is_spiking else group.method
    look: dict[str, Any] = {"label": style.plain(words), "lw": 1.1, "alpha": 0.85}
    look |= {"color": style.colour(group.method, study.methods)}
    look |= {"linestyle": _LINES.get(group.place, "solid")}
    look |= {
        "float": {"lw": 2.4 if group.is_spiking else 1.4, "alpha": 1.0, "zorder": 4},
        "control": {"lw": 1.8, "linestyle": "dashdot", "zorder": 3},
    }.get(group.kind, {})
    for curve in _curves(study, group):
        epochs = [point["epoch"] for point in curve]
        dot = style.marker(group.place, group.kind)
        look["marker"] = dot if len(curve) == 1 else ""  # One point makes no line.
        for axes, name, unit in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
            values = unit * np.array([point.get(name) for point in curve], float)
            axes.plot(epochs, np.where(np.isfinite(values), values, np.nan), **look)
