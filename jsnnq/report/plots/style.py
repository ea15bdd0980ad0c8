"""How every picture looks: its inks on light and on dark paper, its letters, its PNG.

A figure is laid out and drawn in the inks of light paper. `darken` then exchanges them
for those of dark paper, so that the second picture costs no second layout. Figures are
made without pyplot: no state outlives them.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure

# The hues are those of Okabe and Ito. What is not among these inks (the colours and
# numbers of a heat map) is the same on both papers.
PAPER, INK, MUTED = "#ffffff", "#1b1f24", "#6b7480"
ALARM, CALM = "#fff0d9", "#e6f3ec"
BARS = ("#4a5a70", "#aab6c5")
ORANGE, BLUE, GREEN, PURPLE = "#d55e00", "#0072b2", "#009e73", "#aa4a8a"
METHODS = {"uniform": ORANGE, "LQ-Net": BLUE, "snnTorch": GREEN, "MINT": PURPLE}
METHODS |= {"float network": INK, "float network, fine-tuned": MUTED}
GOLD, VIOLET, BROWN = "#8a6d00", "#5b4bb5", "#7a4a21"
# Signs: with uniform and LQ-Net in one study there are only the first two.
METHODS |= {"STE": GOLD, "StoMPP": VIOLET, "STE identity": BROWN, "StoMPP+STE": GREEN}
METHODS |= {"StoMPP global": PURPLE, "StoMPP reverse": ORANGE}
"""The colour of each kind of network."""
_SPARE = ("#4f6d1f", "#b5304f", "#3a6f7d")
_DARK = {
    PAPER: "#171a1f",
    INK: "#e8eaed",
    MUTED: "#9aa3ad",
    ALARM: "#3a2c14",
    CALM: "#173026",
    **dict(zip(BARS, ("#a9bad0", "#56657a"), strict=True)),
    ORANGE: "#f0843c",
    BLUE: "#56b4e9",
    GREEN: "#2bc49a",
    PURPLE: "#de8fc4",
    GOLD: "#f0e442",
    VIOLET: "#a99cf5",
    BROWN: "#c9996b",
    **dict(zip(_SPARE, ("#a5c46a", "#f28aa0", "#86bccb"), strict=True)),
}
_MARKERS = {"float": "*", "control": "P", "weights": "o", "membranes": "s"}
_MARKERS |= {"weights and membranes": "D", "BNN": "o", "BWN": "s"}


def style() -> contextlib.AbstractContextManager[None]:
    """Letters and lines of the house, while figures are made and while they are drawn.

    Some of them, for example the room of a tick, a figure takes when it is drawn.
    """
    inked = ("text.", "axes.edge", "axes.label", "axes.title", "xtick.", "ytick.")
    style: dict[Any, Any] = {f"{part}color": INK for part in inked}
    style |= dict.fromkeys(("figure.facecolor", "axes.facecolor"), PAPER)
    style |= {"font.size": 9, "axes.linewidth": 0.6, "legend.frameon": False}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context(style)


def sign(figure: Figure, dataset: str, alarm: bool) -> None:
    """Writes into the corner what the images are, and aloud if they are synthetic."""
    words = "SYNTHETIC DATA" if alarm else plain(dataset, longest=90)
    look = {"color": ORANGE, "weight": "bold"} if alarm else {"color": MUTED}
    figure.supxlabel(words, x=0.995, ha="right", size=7.5, **look)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; from then on its layout stays as it is."""
    content, canvas = io.BytesIO(), cast(FigureCanvasAgg, figure.canvas)
    with warnings.catch_warnings():
        # What the font lacks of the name of a folder is drawn as boxes.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        # At level 3 a file is 7 % larger than at 6, and written a third faster.
        canvas.print_png(content, pil_kwargs={"compress_level": 3})
    figure.set_layout_engine("none")
    return content.getvalue()


def darken(figure: Figure) -> None:
    """Exchanges the inks of light paper for those of dark paper."""
    for artist in figure.findobj():
        for part in ("color", "facecolor", "edgecolor", "markeredgecolor"):
            if hasattr(artist, f"get_{part}"):
                rows = to_rgba_array(getattr(artist, f"get_{part}")())
                # What has several colours, such as a heat map, is no ink.
                dark = _DARK.get(to_hex(rows[0])) if len(rows) == 1 else None
                if dark is not None:
                    getattr(artist, f"set_{part}")(dark)


def figure(width: float, height: float) -> Figure:
    """An empty figure, so many inches wide and high."""
    made = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(made)
    return made


def legend(figure: Figure, panels: Iterable[Axes], across: int = 4) -> None:
    """One legend above all panels, each word once, as many across as there is room."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True)) | found
    place = {"loc": "outside upper center", "fontsize": 8.5}
    # Only a drawn legend knows how wide its letters are.
    for columns in range(across, 0, -1):
        made = figure.legend([*found.values()], [*found], ncols=columns, **place)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()


def plain(text: str, longest: int = 40) -> str:
    """A name as matplotlib shall print it: no mathematics, not endless."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.replace("$", r"\$")


def name_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Writes the layers below the places 0, 1, 2, ...; of too many, every n-th."""
    every = -(-len(layers) // 45)
    look = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    names = [plain(layer) for layer in layers[::every]]
    axes.set_xticks(range(0, len(layers), every), names, **look)
    axes.tick_params(length=0, labelsize=8)


def colour(method: str, methods: Sequence[str]) -> str:
    """The colour of a method; of all in the study, those without one share a few."""
    others = sorted(set(methods) - set(METHODS))
    shared = {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(others)}
    return (METHODS | shared)[method]


def marker(place: str, kind: str) -> str:
    """The marker of what is quantized, or of a float network."""
    return _MARKERS.get(place or kind, "^")
