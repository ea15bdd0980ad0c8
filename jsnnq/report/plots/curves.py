"""Loss and accuracy while networks trained."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jsnnq.report.groups import Group
from jsnnq.report.plots import style
from jsnnq.report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curved(study: Results) -> list[Group]:
    """Networks whose training was recorded."""
    return [group for group in study.groups if _curves(study, group)]


def draw_curves(study: Results, groups: Sequence[Group]) -> "Figure":
    """Loss and accuracy over the epochs, one line per run; binary networks apart.

    Args:
        study: with its curves.
        groups: what `curved` found in it.
    """
    kinds = list(dict.fromkeys(g.network if study.is_binary else "" for g in groups))
    figure = style.figure(8.5, 1.0 + 2.6 * len(kinds))
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for kind, (loss, accuracy) in zip(kinds, panels, strict=True):
        for group in groups:
            if kind in ("", group.network):
                _draw_runs(study, group, loss, accuracy)
        _name_curves(loss, accuracy)
        loss.set_title(style.plain(kind), fontsize=8.5, loc="left")
    if study.is_binary:
        _name_places(panels[0][0], groups)
    style.legend(figure, panels[:, 0])
    return figure


def _draw_runs(study: Results, group: Group, loss: "Axes", accuracy: "Axes") -> None:
    look = _curve_look(group, style.colour(group.method, study.methods))
    for curve in _curves(study, group):
        epochs = [point["epoch"] for point in curve]
        dot = style.marker(group.place, group.kind)
        look["marker"] = dot if len(curve) == 1 else ""
        loss.plot(epochs, _series(curve, "loss"), **look)
        accuracy.plot(epochs, 100 * _series(curve, "accuracy"), **look)


def _name_curves(loss: "Axes", accuracy: "Axes") -> None:
    shown = np.concatenate([np.asarray(line.get_ydata(), float) for line in loss.lines])
    seen = shown[shown > 0]
    if seen.size and seen.max() > 5 * seen.min():
        loss.set_yscale("log")
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("accuracy during training, %")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.grid(color=style.MUTED, alpha=0.25, lw=0.5)


def _name_places(axes: "Axes", groups: Sequence[Group]) -> None:
    """What dashes mean, where both kinds of binary networks are there."""
    places = {group.place for group in groups}
    if places >= {"BNN", "BWN"}:
        for place in ("BNN", "BWN"):
            line = _LINES.get(place, "solid")
            axes.plot([], [], color=style.MUTED, linestyle=line, label=place)


def _curves(study: Results, group: Group) -> list[Sequence[Mapping[str, Any]]]:
    found = (study.curves.get(run, ()) for run in group.runs)
    return [curve for curve in found if len(curve)]


def _series(curve: Sequence[Mapping[str, Any]], name: str) -> Float[np.ndarray, "_"]:
    values = np.array([point.get(name) for point in curve], float)
    return np.where(np.isfinite(values), values, np.nan)


_LINES = {"membranes": "dashed", "weights and membranes": "dotted", "BWN": "dashed"}


def _curve_look(group: Group, colour: str) -> dict[str, Any]:
    """Float thick and on top, the rest thin in the colour of the quantizer."""
    words = group.family if group.is_spiking else group.method
    look = {"color": colour, "label": style.plain(words), "lw": 1.1}
    look |= {"alpha": 0.85, "linestyle": _LINES.get(group.place, "solid")}
    emphasis = {
        "float": {"lw": 2.4 if group.is_spiking else 1.4, "alpha": 1.0, "zorder": 4},
        "control": {"lw": 1.8, "linestyle": "dashdot", "zorder": 3},
    }
    return look | emphasis.get(group.kind, {})
