"""Inside a network whose layers become signs: which of them still learn, and when.

One picture for each kind of binary network (arXiv 2606.27759). A gradient that is
exactly zero has no logarithm and gets a colour of its own: one where the kernel is
signs already and nothing is left to learn, and another where it is not, so that the
layer would learn and is cut off: the *gradient blockade*.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from jsnnq.report.groups import Group
from jsnnq.report.plots import style
from jsnnq.report.results import Results

_MOST = 6  # methods side by side; more are too narrow to read
_DONE, _BLOCKED = "#000000", "#e3120b"
"""Exactly zero: because the kernel is frozen, or although it is not."""
_GRIDS = {
    "frozen": "share of the\nkernel frozen",
    "gradient": "norm of the\ngradient",
    "zero": "share of zero\ngradients",
    "flipped": "share of signs\nflipped",
}
"""What is shown of each layer, and its words beside the axis."""


class _Seen(NamedTuple):
    """What was seen of one run: a row for each layer, a column for each look."""

    title: str
    layers: Sequence[str]
    windows: Mapping[str, Sequence[int]]
    looks: Mapping[str, Float[np.ndarray, "looks"]]
    grids: Mapping[str, Float[np.ndarray, "layers looks"]]


def kinds(study: Results) -> list[tuple[str, str]]:
    """Place and network of every picture there is something to draw for."""
    known = [(g.place, g.network) for g in study.quantized if _looks(study, g)]
    return list(dict.fromkeys(known))


def looked(study: Results, place: str, network: str) -> list[Group]:
    """The methods of a picture; where there are too many, those without details."""
    alike = [
        group
        for group in study.quantized
        if (group.place, group.network) == (place, network) and _looks(study, group)
    ]
    plainest = sorted(alike, key=lambda group: len(group.details))[:_MOST]
    return [group for group in alike if group in plainest]


def draw(study: Results, groups: Sequence[Group]) -> Figure:
    """Methods side by side: two accuracies, and four numbers of each layer."""
    seen = [_read(study, group) for group in groups]
    tall = 0.7 + 0.022 * max(len(each.layers) for each in seen)
    lines = max(each.title.count("\n") for each in seen)
    figure = style.figure(8.5, 2.4 + 4 * tall + 0.14 * lines)
    shared: dict[str, Any] = {"sharex": True, "sharey": "row", "squeeze": False}
    panels = figure.subplots(5, len(seen), height_ratios=[1.1, *[tall] * 4], **shared)
    for axes, each in zip(panels[0], seen, strict=True):
        _draw_accuracies(axes, each)
    flips = max(0.01, *(float(each.grids["flipped"].max()) for each in seen))
    for row, part in zip(panels[1:], _GRIDS, strict=True):
        if part == "gradient":
            image = _draw_gradients(row, seen)
        else:
            look = {"vmin": 0, "vmax": flips if part == "flipped" else 1.0}
            for axes, each in zip(row, seen, strict=True):
                image = _draw_grid(axes, each, each.grids[part], **look)
        extend = "both" if part == "gradient" else "neither"
        bar = figure.colorbar(image, ax=list(row), pad=0.01, aspect=12, extend=extend)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5)
    edges = np.concatenate([_edges(each.looks["step"]) for each in seen])
    for axes in panels[-1]:
        axes.set_xlabel("step", fontsize=8)
        axes.set_xlim(edges.min(), edges.max())
    for row, words in zip(panels, ("accuracy, %", *_GRIDS.values()), strict=True):
        row[0].set_ylabel(words, fontsize=8)
    done, blocked = "zero: kernel is frozen", "zero, and kernel not frozen: blocked"
    for colour, words in ((_DONE, done), (_BLOCKED, blocked)):
        look = {"color": colour, "markeredgecolor": style.MUTED, "label": words}
        panels[0, 0].plot([], [], "s", **look)
    style.legend(figure, [panels[0, 0]], across=2)
    return figure


# What was seen


def _looks(study: Results, group: Group) -> Mapping[str, Any] | None:
    """Those of the first seed that has any."""
    found = (study.looks.get(run) for run in group.runs)
    return next((each for each in found if each and each["looks"]), None)


def _read(study: Results, group: Group) -> _Seen:
    known = _looks(study, group) or {}
    looks, windows = known["looks"], known["windows"]
    layers = sorted(looks[0]["layers"], key=lambda path: _place(path, windows))
    title = "\n".join([group.method, *group.details, *study.trained(group)])
    curves = {
        word: np.array([look[word] for look in looks], float)
        for word in ("step", "present", "binary")
    }
    grids = {
        word: np.array(
            [[look["layers"][path][word] for look in looks] for path in layers], float
        )
        for word in _GRIDS
    }
    return _Seen(title, layers, windows, curves, grids)


def _place(path: str, windows: Mapping[str, Any]) -> tuple:
    """Windows stand in the order of the data; without them the paths say it."""
    if path in windows:
        return (list(windows).index(path),)
    numbers = [int(number) for number in re.findall("[0-9]+", path)]
    return path.startswith("head"), path.startswith("layer"), numbers, path


# How it is drawn


def _draw_accuracies(axes: Axes, seen: _Seen) -> None:
    for accuracy, colour, words in (
        ("present", style.BLUE, "accuracy under the masks of that step"),
        ("binary", style.ORANGE, "accuracy if everything were signs"),
    ):
        look = {"color": colour, "label": words, "lw": 1.2}
        axes.plot(seen.looks["step"], 100 * seen.looks[accuracy], **look)
    for start, _ in seen.windows.values():
        axes.axvline(start, color=style.MUTED, lw=0.4, alpha=0.5, zorder=0)
    axes.set_title(style.plain(seen.title, 120), fontsize=8.5)
    axes.tick_params(labelsize=7.5)


def _draw_gradients(row: Iterable[Axes], seen: Sequence[_Seen]) -> Any:
    """Logarithmic where there is a gradient, and flat colours where there is none."""
    gradients = [each.grids["gradient"] for each in seen]
    passed = np.concatenate([gradient[gradient > 0] for gradient in gradients])
    # One run whose gradients explode would otherwise make all others look alike.
    passed = passed if passed.size else np.ones(1)
    low = float(np.quantile(passed, 0.02, method="higher"))
    top = float(np.quantile(passed, 0.98, method="lower"))
    norm = LogNorm(low, max(top, 1.01 * low))
    flat = ListedColormap([_DONE, _BLOCKED])
    # The darkest colours of viridis could be taken for zero.
    bright = ListedColormap(colormaps["viridis"](np.linspace(0.25, 1, 192)))
    for axes, each, gradient in zip(row, seen, gradients, strict=True):
        learns = np.where(gradient > 0, gradient, np.nan)
        image = _draw_grid(axes, each, learns, norm=norm, cmap=bright)
        cut = np.where(gradient == 0, each.grids["frozen"] < 1, np.nan)
        _draw_grid(axes, each, cut, vmin=0, vmax=1, cmap=flat)
    return image


def _draw_grid(
    axes: Axes, seen: _Seen, values: Float[np.ndarray, "layers looks"], **look: Any
) -> Any:
    # Cells of the width of a step: an image would make all looks equally wide.
    rows = np.arange(len(seen.layers) + 1) - 0.5
    columns, look = _edges(seen.looks["step"]), {"cmap": "viridis", **look}
    image = axes.pcolormesh(columns, rows, values, **look)
    for line, path in enumerate(seen.layers):
        if path in seen.windows:
            first, length = seen.windows[path]
            ends = [first, first + length]
            axes.vlines(ends, line - 0.5, line + 0.5, color="#fefefe", lw=0.6)
    axes.set_yticks([0, len(seen.layers) - 1], ["first layer", "last"])
    axes.tick_params(length=0, labelsize=7.5)
    axes.spines[:].set_visible(False)
    return image


def _edges(steps: Float[np.ndarray, "looks"]) -> Float[np.ndarray, "_"]:
    """Each look reaches half-way to its neighbours."""
    middles = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([steps[:1] - 0.5, middles, steps[-1:] + 0.5])
