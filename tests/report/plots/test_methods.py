"""Dots, means and published values stand where their numbers say."""

import numpy as np
import pytest

from jsnnq.config import StoMPP
from jsnnq.report.plots import methods
from jsnnq.report.results import read
from tests.studies import KNOWN_BINARY, PAPER, binary, signs, small

PAPER = PAPER | {
    "bnn-ste-r18": {"accuracy": 0.489, "grade": "S", "of": "CIFAR-100"},
    "bwn-ste-r18": {"accuracy": 0.9, "grade": "P"},
}


def drawn(results):
    made = read(results)
    return methods.draw(made, methods.ranked(made))


def marked(axes, marker):
    """The points of a marker, line by line."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return {int(y): line.get_xdata() for line in lines for y in [line.get_ydata()[0]]}


def test_each_seed_is_a_dot_and_each_mean_a_number():
    bnn, bwn = drawn(binary()).axes
    names = [n for n in KNOWN_BINARY if n.startswith("bnn")]
    dots = marked(bnn, "o")
    assert len(dots) == 5
    for line, name in enumerate(names):
        np.testing.assert_allclose(dots[line], 100 * np.array(KNOWN_BINARY[name]))
    said = [text.get_text() for text in bnn.texts]
    assert said == ["61.0", "66.0", "71.0", "62.0", "25.0"]
    assert len(marked(bwn, "o")) == 3
    titles = [axes.get_title(loc="left") for axes in (bnn, bwn)]
    assert titles == ["BNN, ResNet-18", "BWN, ResNet-18"]
    words = [label.get_text() for label in bnn.get_yticklabels()]
    assert words == ["STE", "StoMPP", "StoMPP+STE", "StoMPP global", "StoMPP reverse"]


def test_full_precision_is_a_line_in_every_panel():
    for axes in drawn(binary()).axes:
        (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert line.get_xdata() == pytest.approx([92.5, 92.5])


def test_published_values_are_hollow_and_say_what_they_are_of():
    figure = drawn(binary(paper=PAPER))
    bnn, bwn = figure.axes
    found = {line: float(x[0]) for line, x in marked(bnn, "D").items()}
    assert found == pytest.approx({0: 48.9, 1: 53.8})
    hollow = [line for line in bnn.lines if line.get_marker() == "D"]
    assert {line.get_markerfacecolor() for line in hollow} == {"none"}
    assert float(marked(bwn, "D")[0][0]) == pytest.approx(90.0)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "paper, CIFAR-100" in said
    assert "paper" in said


def test_networks_stand_below_each_other_and_empty_places_stay_empty():
    rows = KNOWN_BINARY | {"bnn-ste-r50": [0.4], "bnn-stompp-linear-r50": [0.5]}
    rows |= {"bnn-stompp-slow-r50": [0.45]}
    configs = {"bnn-stompp-linear-r50": signs(StoMPP(schedule="linear"))}
    configs["bnn-stompp-slow-r50"] = {"training.rate": 0.01}
    figure = drawn(binary(rows, configs=configs))
    assert len(figure.axes) == 4
    assert not figure.axes[3].axison  # no ResNet-50 with binary weights only
    words = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    linear = "StoMPP, schedule linear, rate 0.1"
    assert words == ["STE, rate 0.1", "StoMPP, rate 0.01", linear]
    assert [line for line in figure.axes[2].lines if line.get_linestyle() == "--"] == []


def test_without_binary_networks_there_is_nothing_to_rank():
    assert methods.ranked(read(binary({"float-r18": [0.9]}))) == []
    assert methods.ranked(read(binary({"bnn-ste-r18": [None]}))) == []
    assert methods.ranked(read(small()[0])) == []


def test_tenths_of_a_point_do_not_fill_an_axis():
    near = {"bnn-ste-r18": [0.438, 0.439], "bnn-stompp-r18": [0.440, 0.441]}
    axes = drawn(binary(near)).axes[0]
    np.testing.assert_allclose(axes.get_xlim(), (43.95 - 2.5, 43.95 + 2.5))
    low, high = drawn(binary()).axes[0].get_xlim()
    assert high - low > 5
