"""Heat map and bars show the numbers they were given."""

import math

import numpy as np
import pytest

from jsnnq.report.plots import heatmap
from jsnnq.report.results import read
from tests.studies import KNOWN, SMALL, comparison, find, small, study


def heat_map(results):
    made = read(results)
    figure = heatmap.draw_layers(made, heatmap.layered(made))
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)


def test_layers_that_were_not_measured_stay_empty_in_the_heat_map():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["emd"]["layers"] = {"first": 0.003, "third": math.nan, "extra": 0.0}
    grid = heat_map(results)
    first, second, third, extra = grid[-1]
    assert first == pytest.approx(3.0)
    assert math.isnan(second)
    assert math.isnan(third)
    assert extra == pytest.approx(np.nanmin(grid))  # as dark as it gets


def test_the_heat_map_shows_floor_drift_and_every_network():
    results, _, _ = small()
    wanted = [results["floor"], results["drift"]]
    tuned = [row["emd"] for row in results["rows"][2:4]]
    names = [KNOWN[i][0] for i in (1, 0, 3, 2)]  # by family
    expected = [[each["layers"][layer] for layer in SMALL] for each in wanted]
    expected += [[np.mean([t["layers"][layer] for t in tuned]) for layer in SMALL]]
    expected += [list(find(results, n)["emd"]["layers"].values()) for n in names]
    np.testing.assert_allclose(heat_map(results), 1000 * np.array(expected))


def test_the_distances_of_two_networks_stand_side_by_side():
    found = comparison()
    (axes,) = heatmap.draw_distances(found, ("one", "$other")).axes
    for bars, part in zip(axes.containers, ("emd", "matched"), strict=True):
        heights = [bar.get_height() for bar in bars]
        assert heights == list(found[part]["layers"].values())
    places = [[bar.get_x() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(np.subtract(*places), -0.4)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(SMALL)
    assert axes.get_title(loc="left") == "one\n\\$other"
