"""The look that all pictures share, on light and on dark paper."""

import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jsnnq import drawing


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def example():
    """A figure with everything that carries ink, and a heat map, which does not."""
    figure = drawing.figure(4, 3)
    left, right = figure.subplots(1, 2)
    left.axvspan(0.2, 0.4, color=drawing.ORANGE)
    left.plot([0, 1], [0, 1], "o", color=drawing.BLUE, label="both")
    left.plot([0, 1], [1, 0], color=drawing.BLUE, markeredgecolor=drawing.PAPER)
    left.fill_between([0.6, 0.8], 0, 1, color=drawing.GREEN)
    left.set_xlabel("across")
    right.imshow([[0.0, 1.0]], "viridis", aspect="auto")
    drawing.legend(figure, [left, right])
    drawing.sign(figure, "digits", alarm=False)
    return figure


def test_darkening_exchanges_every_ink_and_nothing_else():
    with drawing.style():
        figure = example()
        light = pixels(drawing.png(figure))
        drawing.darken(figure)
        dark = pixels(drawing.png(figure))
    assert light.shape == dark.shape
    changed = np.abs(light - dark).max(axis=-1) > 1 / 255
    for name, before, after in (
        ("paper", drawing.PAPER, "#171a1f"),
        ("orange", drawing.ORANGE, "#f0843c"),
        ("green", drawing.GREEN, "#2bc49a"),
        ("blue", drawing.BLUE, "#56b4e9"),
        ("ink", drawing.INK, "#e8eaed"),
    ):
        places = np.abs(light - to_rgb(before)).max(axis=-1) < 1 / 255
        assert places.any(), name
        assert np.abs(dark[places] - to_rgb(after)).max() < 3 / 255, name
    for colour in matplotlib.colormaps["viridis"]([0.0, 1.0])[:, :3]:
        assert not changed[np.abs(light - colour).max(axis=-1) < 1 / 255].any()


def test_every_ink_of_a_network_has_its_dark_one():
    spare = {drawing.colour(name, ["a", "b", "c"]) for name in "abc"}
    assert len(spare) == 3
    with drawing.style():
        for ink in {*drawing.METHODS.values(), *drawing.BARS, *spare}:
            figure = drawing.figure(1, 1)
            (line,) = figure.add_subplot().plot([0, 1], color=ink)
            drawing.darken(figure)
            assert sum(to_rgb(line.get_color())) > sum(to_rgb(ink)) or (
                ink == drawing.BARS[1]  # the second bar lies behind on either paper
            )


def test_style_does_not_outlive_the_picture():
    before = dict(matplotlib.rcParams)
    with drawing.style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("alarm", "words"), [(True, "SYNTHETIC DATA"), (False, "x")])
def test_the_corner_says_what_the_images_are(alarm, words):
    figure = drawing.figure(2, 2)
    drawing.sign(figure, "x", alarm)
    assert figure.get_supxlabel() == words


def test_names_are_neither_mathematics_nor_endless():
    assert drawing.plain("$x$") == r"\$x\$"
    assert drawing.plain("a" * 40) == "a" * 40
    assert drawing.plain("a" * 41) == "a" * 39 + "…"


def test_too_many_layers_are_named_now_and_then():
    axes = drawing.figure(4, 2).add_subplot()
    drawing.name_layers(axes, [f"layer{i}" for i in range(91)])
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [f"layer{i}" for i in range(0, 91, 3)]
