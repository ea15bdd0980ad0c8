"""The EMD of each layer: of a study as a heat map, of two networks as bars.

Beside the EMD of two networks stands the matched distance, which sees what the EMD does
not, neurons that exchange their rates.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from jsnnq.report.groups import Group, dig
from jsnnq.report.plots import style
from jsnnq.report.results import CONTROLS, Results


def layered(study: Results) -> list[Group]:
    """Networks with an EMD per layer."""
    return [group for group in study.groups if group.kind != "float" and group.layers()]


def draw_layers(study: Results, groups: Sequence[Group]) -> Figure:
    """A heat map: a line for each control and what is `layered`, a column per layer."""
    controls = [(w, "", dig(study.results, f"{w}.layers")) for w in CONTROLS.values()]
    lines = [line for line in controls if line[2]]
    lines += [(group.name, group.family, group.layers()) for group in groups]
    rows, families, emds = zip(*lines, strict=True)
    layers = list(dict.fromkeys(layer for line in emds for layer in line))
    grid = np.array([[line.get(layer, np.nan) for layer in layers] for line in emds])
    grid *= 1000
    top = max(np.nanmax(grid), 1e-3)
    # One layer that hardly moved would otherwise use up the colours.
    low = max(np.nanmin(grid[grid > 0], initial=top), top / 300)
    figure = style.figure(8.5, 1.9 + 0.24 * max(len(rows), 4))
    axes = figure.add_subplot()
    top = max(top, 1.01 * low)  # A logarithmic scale needs two different ends.
    image = axes.imshow(
        np.maximum(grid, low), "viridis", LogNorm(low, top), aspect="auto"
    )
    style.name_layers(axes, layers)
    axes.set_yticks(range(len(rows)), map(style.plain, rows))
    axes.spines[:].set_visible(False)
    for line in range(1, len(rows)):
        if families[line] != families[line - 1]:
            axes.axhline(line - 0.5, color=style.PAPER, lw=3)
    if grid.shape[1] <= 20 and grid.size <= 500:
        _write_cells(axes, grid, image)
    ticks = LogLocator(subs=(1, 2, 5))
    look = {"format": "%g", "pad": 0.01, "aspect": 30}
    bar = figure.colorbar(image, ax=axes, ticks=ticks, **look)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("EMD × 1000")
    return figure


def _write_cells(
    axes: Axes, grid: Float[np.ndarray, "rows layers"], image: Any
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


def draw_distances(found: Mapping[str, Any], called: tuple[str, str]) -> Figure:
    """EMD and matched distance by layer, that `saved.compare_saved` found."""
    layers = list(found["emd"]["layers"])
    figure = style.figure(8.5, 3.8)
    axes = figure.add_subplot()
    said = {"emd": "EMD", "matched": "matched, neuron by neuron"}
    for i, (part, words) in enumerate(said.items()):
        heights = [found[part]["layers"][layer] for layer in layers]
        places = np.arange(len(layers)) + 0.4 * (i - 0.5)
        axes.bar(places, heights, 0.4, color=style.BARS[i], label=words)
    style.name_layers(axes, layers)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylabel("distance, in units of rate")
    axes.set_title("\n".join(map(style.plain, called)), fontsize=8.5, loc="left")
    style.legend(figure, [axes])
    return figure
