"""Curves show the numbers they were given."""

import math

import numpy as np

from jsnnq.config import Run
from jsnnq.report.plots import curves as charts
from jsnnq.report.results import read
from tests.studies import KNOWN, KNOWN_BINARY, SMALL, binary_study, study


def test_curves_leave_out_what_is_not_finite():
    results, _, curves = study(KNOWN[:1], SMALL)
    curve = curves[Run(KNOWN[0][0], 0)]
    curve[1]["loss"], curve[2]["loss"], curve[3]["loss"] = math.nan, math.inf, None
    made = read(results, curves=curves)
    loss, accuracy = charts.draw_curves(made, charts.curved(made)).axes
    assert len(loss.lines) == len(results["rows"])
    shown = loss.lines[-1].get_ydata()
    assert np.isnan(shown[1:4]).all()
    np.testing.assert_allclose(shown[4:], [point["loss"] for point in curve[4:]])
    np.testing.assert_allclose(
        accuracy.lines[-1].get_ydata(), [100 * point["accuracy"] for point in curve]
    )


def test_curves_of_binary_networks_stand_by_network_and_are_named_by_method():
    rows = KNOWN_BINARY | {"bnn-ste-r50": [0.4, 0.5]}
    results, curves, _ = binary_study(accuracies=rows)
    made = read(results, curves=curves)
    figure = charts.draw_curves(made, charts.curved(made))
    first, _, second, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == [
        "ResNet-18",
        "ResNet-50",
    ]
    runs = [line for line in first.lines if len(line.get_xdata())]
    assert len(runs) == 18
    assert len(second.lines) == 2
    dashed = [line for line in runs if line.get_linestyle() == "--"]
    assert len(dashed) == 6  # three methods with binary weights only, two seeds
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == [
        "float network",
        *("STE", "StoMPP", "StoMPP+STE", "StoMPP global", "StoMPP reverse"),
        *("BNN", "BWN"),
    ]
