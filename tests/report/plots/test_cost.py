"""Bars show what networks cost."""

import pytest

from jsnnq.report.plots import cost
from jsnnq.report.results import read
from tests.studies import KNOWN, SMALL, binary, find, study


def test_bars_add_up_to_the_cost():
    results, _, _ = study(KNOWN[:2], SMALL)
    made = read(results)
    figure = cost.draw_cost(made, cost.costed(made))
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


def test_binary_networks_cost_by_place_and_not_by_method():
    made = read(binary())
    groups = cost.costed(made)
    names = ["float-r18", "bnn-ste-r18", "bwn-ste-r18"]
    assert [group.name for group in groups] == names
    operations, storage = cost.draw_cost(made, groups).axes  # and no events
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
