"""Pictures of a study beside the scatter plot: EMD per layer, training, and cost.

And one of a comparison of two networks: the EMD of each layer beside the matched
distance, which sees what the EMD does not, neurons that exchange their rates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jsnnq import drawing, names
from jsnnq.groups import Group, dig, key
from jsnnq.results import CONTROLS, Study, amount, kib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# EMD per layer


def layered(study: Study) -> list[Group]:
    """Networks with an EMD per layer."""
    return [group for group in study.groups if group.kind != "float" and group.layers()]


def draw_layers(study: Study, groups: Sequence[Group]) -> "Figure":
    """A heat map, one line per control and network, one column per layer.

    Args:
        study: with its controls.
        groups: what `layered` found in it.
    """
    from matplotlib.colors import LogNorm

    rows, families, emds = zip(*_lines(study, groups), strict=True)
    layers = list(dict.fromkeys(layer for line in emds for layer in line))
    grid = np.array([[line.get(layer, np.nan) for layer in layers] for line in emds])
    grid *= 1000
    top = max(np.nanmax(grid), 1e-3)
    low = max(np.nanmin(grid[grid > 0], initial=top), top / 300)
    figure = drawing.figure(8.5, 1.9 + 0.24 * max(len(rows), 4))
    axes = figure.add_subplot()
    norm = LogNorm(low, max(top, 1.01 * low))
    image = axes.imshow(np.maximum(grid, low), "viridis", norm, aspect="auto")
    drawing.name_layers(axes, layers)
    axes.set_yticks(range(len(rows)), map(drawing.plain, rows))
    axes.spines[:].set_visible(False)
    for line in range(1, len(rows)):
        if families[line] != families[line - 1]:
            axes.axhline(line - 0.5, color=drawing.PAPER, lw=3)
    if grid.shape[1] <= 20 and grid.size <= 500:
        _write_cells(axes, grid, image)
    _add_colour_bar(figure, axes, image)
    return figure


def _lines(study: Study, groups: Sequence[Group]) -> list[tuple[str, str, dict]]:
    """Name, family and EMD per layer: the controls first, then the networks."""
    controls = [(w, "", dig(study.results, f"{w}.layers")) for w in CONTROLS.values()]
    networks = [(group.name, group.family, group.layers()) for group in groups]
    return [*(line for line in controls if line[2]), *networks]


def _write_cells(
    axes: "Axes", grid: Float[np.ndarray, "rows layers"], image: Any
) -> None:
    """Prints each value in its cell, dark on bright and bright on dark."""
    size = 7 if grid.shape[1] < 15 else 5.5
    look = {"ha": "center", "va": "center", "fontsize": size, "clip_on": True}
    for (row, column), value in np.ndenumerate(grid):
        if math.isfinite(value):
            shade = image.cmap(image.norm(max(value, image.norm.vmin)))
            # No ink: what is bright stays so on dark paper.
            is_bright = np.dot(shade[:3], (0.3, 0.6, 0.1)) > 0.46
            colour = "#000000" if is_bright else "#fefefe"
            words = f"{value:.1f}" if value < 99.5 else f"{value:.0f}"
            axes.text(column, row, words, color=colour, **look)


def _add_colour_bar(figure: "Figure", axes: "Axes", image: Any) -> None:
    steps = [m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)]
    ticks = [step for step in steps if image.norm.vmin <= step <= image.norm.vmax]
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("EMD × 1000")


def draw_distances(found: Mapping[str, Any], called: tuple[str, str]) -> "Figure":
    """EMD and matched distance of each layer between two networks, as bars.

    Args:
        found: what `jsnnq.stored.compare` returned.
        called: what the two are called.
    """
    layers = list(found["emd"]["layers"])
    figure = drawing.figure(8.5, 3.8)
    axes = figure.add_subplot()
    said = {"emd": "EMD", "matched": "matched, neuron by neuron"}
    for i, (part, words) in enumerate(said.items()):
        heights = [found[part]["layers"][layer] for layer in layers]
        places = np.arange(len(layers)) + 0.4 * (i - 0.5)
        axes.bar(places, heights, 0.4, color=drawing.BARS[i], label=words)
    drawing.name_layers(axes, layers)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylabel("distance, in units of rate")
    axes.set_title("\n".join(map(drawing.plain, called)), fontsize=8.5, loc="left")
    drawing.legend(figure, [axes])
    return figure


# Training


def curved(study: Study) -> list[Group]:
    """Networks whose training was recorded."""
    return [group for group in study.groups if _curves(study, group)]


def draw_curves(study: Study, groups: Sequence[Group]) -> "Figure":
    """Loss and accuracy over the epochs, one line per run; binary networks apart.

    Args:
        study: with its curves.
        groups: what `curved` found in it.
    """
    kinds = list(dict.fromkeys(g.network if study.is_binary else "" for g in groups))
    figure = drawing.figure(8.5, 1.0 + 2.6 * len(kinds))
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for kind, (loss, accuracy) in zip(kinds, panels, strict=True):
        for group in groups:
            if kind in ("", group.network):
                _draw_runs(study, group, loss, accuracy)
        _name_curves(loss, accuracy)
        loss.set_title(drawing.plain(names.network(kind)), fontsize=8.5, loc="left")
    if study.is_binary:
        _name_places(panels[0][0], groups)
    drawing.legend(figure, panels[:, 0])
    return figure


def _draw_runs(study: Study, group: Group, loss: "Axes", accuracy: "Axes") -> None:
    look = _curve_look(group, drawing.colour(group.label.method, study.methods))
    for curve in _curves(study, group):
        epochs = [point["epoch"] for point in curve]
        dot = drawing.marker(group.label.place, group.kind)
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
        axes.grid(color=drawing.MUTED, alpha=0.25, lw=0.5)


def _name_places(axes: "Axes", groups: Sequence[Group]) -> None:
    """What dashes mean, where both kinds of binary networks are there."""
    places = {group.label.place for group in groups}
    if places >= set(names.BINARY_PLACES):
        for place in names.BINARY_PLACES:
            line = _LINES.get(place, "solid")
            words = names.place(place)
            axes.plot([], [], color=drawing.MUTED, linestyle=line, label=words)


def _curves(study: Study, group: Group) -> list[Sequence[Mapping[str, Any]]]:
    found = (study.curves.get(key(row), ()) for row in group.rows)
    return [curve for curve in found if len(curve)]


def _series(curve: Sequence[Mapping[str, Any]], name: str) -> Float[np.ndarray, "_"]:
    values = np.array([point.get(name) for point in curve], float)
    return np.where(np.isfinite(values), values, np.nan)


_LINES = {"membrane": "dashed", "both": "dotted", "bwn": "dashed"}


def _curve_look(group: Group, colour: str) -> dict[str, Any]:
    """Float thick and on top, the rest thin in the colour of the quantizer."""
    words = group.family if group.is_spiking else group.quantizer
    look = {"color": colour, "label": drawing.plain(words), "lw": 1.1}
    look |= {"alpha": 0.85, "linestyle": _LINES.get(group.label.place, "solid")}
    emphasis = {
        "float": {"lw": 2.4 if group.is_spiking else 1.4, "alpha": 1.0, "zorder": 4},
        "control": {"lw": 1.8, "linestyle": "dashdot", "zorder": 3},
    }
    return look | emphasis.get(group.kind, {})


# Cost


def costed(study: Study) -> list[Group]:
    """Networks whose cost is known; what costs the same in all methods, once.

    Whether weights and activations are binary decides what a binary network costs,
    and not how it was trained.
    """
    known = [g for g in study.groups if g.values("cost.acs")]
    known = [g for g in known if g.mean("cost.weight_bits")]
    if not study.is_binary:
        return known
    price = lambda g: (g.network, g.label.place, g.mean("cost.weight_bits"))
    return list({price(group): group for group in reversed(known)}.values())[::-1]


def draw_cost(study: Study, groups: Sequence[Group]) -> "Figure":
    """Operations, events and storage, one bar per network.

    Args:
        study: the study.
        groups: what `costed` found in it.
    """
    policy = dig(groups[0].rows[0], "cost.policy")
    operations = {"acs": "accumulates", "macs": "multiply-accumulates"}
    storage = {"weight_bits": "weights", "state_bits": "membrane state"}
    wanted = {
        f"operations per image ({policy})": (operations, amount),
        "events per image": ({"events": "events"}, amount),
        "storage, KiB": (storage, kib),
    }
    # Nothing fires in a binary network, and nothing has a state.
    wanted = {
        title: ({part: parts[part] for part in parts if _costs(groups, part)}, show)
        for title, (parts, show) in wanted.items()
        if any(_costs(groups, part) for part in parts)
    }
    figure = drawing.figure(8.5, 1.2 + 0.23 * len(groups))
    panels = figure.subplots(1, len(wanted), sharey=True, squeeze=False)[0]
    for axes, (title, (parts, show)) in zip(panels, wanted.items(), strict=True):
        _draw_bars(axes, groups, parts, show)
        axes.set_title(drawing.plain(title), fontsize=8.5, loc="left", y=1.0)
    rows = [drawing.plain(_as_priced(group)) for group in groups]
    panels[0].set_yticks(range(len(groups)), rows)
    panels[0].set_ylim(len(groups) - 0.4, -0.6)
    return figure


def _as_priced(group: Group) -> str:
    """A row's name, or what of it decides its cost."""
    if group.is_spiking:
        return group.name
    what = names.place(group.label.place) or "float"
    words = [what, names.network(group.network), group.label.detail]
    return ", ".join(filter(None, words))


def _costs(groups: Sequence[Group], part: str) -> bool:
    return any(group.mean(f"cost.{part}") for group in groups)


def _draw_bars(
    axes: "Axes",
    groups: Sequence[Group],
    parts: Mapping[str, str],
    show: Callable[[float], str],
) -> None:
    """One bar per network, the parts of its cost one behind the other."""
    end = np.zeros(len(groups))
    for (part, words), colour in zip(parts.items(), drawing.BARS, strict=False):
        size = np.array([group.mean(f"cost.{part}") or 0.0 for group in groups])
        axes.barh(range(len(groups)), size, 0.72, end, color=colour, label=words)
        end += size
    for line, total in enumerate(end):
        axes.text(total, line, f" {show(total)}", va="center", fontsize=7)
    axes.set_xlim(0, 1.3 * max(end.max(), 1e-9))
    axes.set_xticks([])
    axes.tick_params(labelsize=8, length=0)
    axes.spines["bottom"].set_visible(False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "fontsize": 7.5}
    axes.legend(ncols=2, columnspacing=1.0, handlelength=1.2, **place)
