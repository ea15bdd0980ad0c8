"""The look that all pictures share, on light and on dark paper."""

import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jsnnq.report.plots import style


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def example():
    """A figure with everything that carries ink, and a heat map, which does not."""
    figure = style.figure(4, 3)
    left, right = figure.subplots(1, 2)
    left.axvspan(0.2, 0.4, color=style.ORANGE)
    left.plot([0, 1], [0, 1], "o", color=style.BLUE, label="both")
    left.plot([0, 1], [1, 0], color=style.BLUE, markeredgecolor=style.PAPER)
    left.fill_between([0.6, 0.8], 0, 1, color=style.GREEN)
    left.set_xlabel("across")
    right.imshow([[0.0, 1.0]], "viridis", aspect="auto")
    style.legend(figure, [left, right])
    style.sign(figure, "digits", alarm=False)
    return figure


def test_darkening_exchanges_every_ink_and_nothing_else():
    with style.style():
        figure = example()
        light = pixels(style.png(figure))
        style.darken(figure)
        dark = pixels(style.png(figure))
    assert light.shape == dark.shape
    changed = np.abs(light - dark).max(axis=-1) > 1 / 255
    for name, before, after in (
        ("paper", style.PAPER, "#171a1f"),
        ("orange", style.ORANGE, "#f0843c"),
        ("green", style.GREEN, "#2bc49a"),
        ("blue", style.BLUE, "#56b4e9"),
        ("ink", style.INK, "#e8eaed"),
    ):
        places = np.abs(light - to_rgb(before)).max(axis=-1) < 1 / 255
        assert places.any(), name
        assert np.abs(dark[places] - to_rgb(after)).max() < 3 / 255, name
    for colour in matplotlib.colormaps["viridis"]([0.0, 1.0])[:, :3]:
        assert not changed[np.abs(light - colour).max(axis=-1) < 1 / 255].any()


def test_every_ink_of_a_network_has_its_dark_one():
    spare = {style.colour(name, ["a", "b", "c"]) for name in "abc"}
    assert len(spare) == 3
    with style.style():
        for ink in {*style.METHODS.values(), *style.BARS, *spare}:
            figure = style.figure(1, 1)
            (line,) = figure.add_subplot().plot([0, 1], color=ink)
            style.darken(figure)
            assert sum(to_rgb(line.get_color())) > sum(to_rgb(ink)) or (
                ink == style.BARS[1]  # the second bar lies behind on either paper
            )


def test_style_does_not_outlive_the_picture():
    before = dict(matplotlib.rcParams)
    with style.style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("alarm", "words"), [(True, "SYNTHETIC DATA"), (False, "x")])
def test_the_corner_says_what_the_images_are(alarm, words):
    figure = style.figure(2, 2)
    style.sign(figure, "x", alarm)
    assert figure.get_supxlabel() == words


def test_names_are_neither_mathematics_nor_endless():
    assert style.plain("$x$") == r"\$x\$"
    assert style.plain("a" * 40) == "a" * 40
    assert style.plain("a" * 41) == "a" * 39 + "…"


@pytest.mark.parametrize(
    ("longest", "columns"), [(5, 4), (15, 4), (25, 3), (40, 2), (80, 1), (200, 1)]
)
def test_a_legend_has_as_many_columns_as_there_is_room(longest, columns):
    figure = style.figure(8.5, 3)
    axes = figure.add_subplot()
    for i in range(4):
        axes.plot([0, 1], label=f"{i}" + "x" * (longest - 1))
    style.legend(figure, [axes])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert legend._ncols == columns
    assert columns == 1 or 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_too_many_layers_are_named_now_and_then():
    axes = style.figure(4, 2).add_subplot()
    style.name_layers(axes, [f"layer{i}" for i in range(91)])
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [f"layer{i}" for i in range(0, 91, 3)]
