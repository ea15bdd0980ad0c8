"""Heat map, bars and curves show the numbers they were given."""

import math

import numpy as np
import pytest

from jsnnq import charts
from jsnnq.results import read
from tests.studies import (
    KNOWN,
    KNOWN_BINARY,
    SMALL,
    binary,
    binary_study,
    comparison,
    find,
    small,
    study,
)


def heat_map(results):
    made = read(results)
    figure = charts.draw_layers(made, charts.layered(made))
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


def test_bars_add_up_to_the_cost():
    results, _, _ = study(KNOWN[:2], SMALL)
    made = read(results)
    figure = charts.draw_cost(made, charts.costed(made))
    row = find(results, KNOWN[0][0])  # the last bar of each part
    ends = [
        [bars.patches[-1].get_x() + bars.patches[-1].get_width() for bars in a]
        for a in (axes.containers for axes in figure.axes)
    ]
    acs, macs, events, weights, state = (
        row["cost"][k] for k in ("acs", "macs", "events", "weight_bits", "state_bits")
    )
    assert ends[0] == pytest.approx([acs, acs + macs])
    assert ends[1] == pytest.approx([events])
    assert ends[2] == pytest.approx([weights, weights + state])
    totals = [axes.texts[-1].get_text().strip() for axes in figure.axes]
    assert totals[0] == f"{(acs + macs) / 1e6:.2f}M"
    assert totals[2] == f"{(weights + state) / 8192:,.1f}"


def test_curves_leave_out_what_is_not_finite():
    results, _, curves = study(KNOWN[:1], SMALL)
    curve = curves[f"{KNOWN[0][0]}/seed0"]
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


def test_the_distances_of_two_networks_stand_side_by_side():
    found = comparison()
    (axes,) = charts.draw_distances(found, ("one", "$other")).axes
    for bars, part in zip(axes.containers, ("emd", "matched"), strict=True):
        heights = [bar.get_height() for bar in bars]
        assert heights == list(found[part]["layers"].values())
    places = [[bar.get_x() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(np.subtract(*places), -0.4)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(SMALL)
    assert axes.get_title(loc="left") == "one\n\\$other"


# Binary networks


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


def test_binary_networks_cost_by_place_and_not_by_method():
    made = read(binary())
    groups = charts.costed(made)
    names = ["float-r18", "bnn-ste-r18", "bwn-ste-r18"]
    assert [group.name for group in groups] == names
    operations, storage = charts.draw_cost(made, groups).axes  # and no events
    said = [label.get_text() for label in operations.get_yticklabels()]
    assert said == ["float, ResNet-18", "BNN, ResNet-18", "BWN, ResNet-18"]
    totals = [text.get_text().strip() for text in operations.texts]
    assert totals == ["160k", "304k", "160k"]
    assert [text.get_text().strip() for text in storage.texts] == [
        "640.0",
        "40.0",
        "40.0",
    ]
    assert len(storage.containers) == 1  # nothing has a membrane
