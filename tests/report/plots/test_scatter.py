"""The plane of accuracy and EMD."""

import numpy as np

from jsnnq.report.plots import scatter
from jsnnq.report.results import read
from tests.studies import KNOWN, ROWS, find, restart, small, study


def drawn(results):
    made = read(results)
    return scatter.draw(made, scatter.placed(made))


def test_points_stand_at_emd_and_accuracy():
    results, _, _ = small()
    figure = drawn(results)
    marked = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    found = sorted((*line.get_xdata(), *line.get_ydata()) for line in marked)
    rows = [find(results, name) for name, _, _ in KNOWN]
    expected = [(row["emd"]["mean"], 100 * row["accuracy"] - 99) for row in rows]
    tuned = [row["emd"]["mean"] for row in results["rows"][2:4]]
    expected += [(0.0, 0.0), (np.mean(tuned), 0.0)]
    np.testing.assert_allclose(found, sorted(expected), atol=1e-9)


def test_labels_of_the_default_study_do_not_cover_each_other():
    results, _, _ = study(ROWS[:13])
    figure = drawn(results)
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if "-bit" in text.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 13
    frame = figure.axes[0].get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_networks_at_one_point_share_a_label():
    results, _, _ = small()
    row = find(results, KNOWN[0][0])
    other = row | {"name": "other", "config": row["config"] | {"calibration": 1}}
    results["rows"].append(other)
    labels = [text.get_text() for text in drawn(results).axes[0].texts]
    assert labels.count("2-bit, clip 10\n2-bit, clip 10") == 1
    assert sum("-bit" in label for label in labels) == len(KNOWN)


def test_labels_stand_where_they_stood():
    results, _, _ = study(ROWS[:13])
    one, other = (
        [text.get_position() for text in drawn(results).axes[0].texts] for _ in "12"
    )
    assert one == other


def test_ticks_tell_accuracy_distance_and_multiples_of_the_control():
    results, _, _ = small()
    below, above = drawn(results).axes
    for axes, value in (
        (below.yaxis, lambda y: f"{y:+g}".replace("-", "−") if y else "99.0 %"),
        (below.xaxis, lambda x: f"{x:g}"),
        (above.xaxis, lambda x: f"{x:g}×"),
    ):
        labels = [label.get_text() for label in axes.get_ticklabels()]
        assert len(labels) >= 3
        assert labels == [value(place) for place in axes.get_ticklocs()]
    low, high = below.get_xlim()
    drift = results["drift"]["mean"]
    np.testing.assert_allclose(above.get_xlim(), (low / drift, high / drift))


def test_what_is_kept_ends_a_point_below_the_control():
    """Not below the float network, which fine-tuning may have left behind."""
    results, _, _ = small()
    for row in results["rows"]:
        if row["kind"] == "control":
            row["accuracy"] = 0.995 + 0.002 * row["seed"]
    axes = drawn(results).axes[0]
    (edge,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(edge.get_ydata(), [-1, -1])
    # Float networks reached 98.9 and 99.1 %, their controls 99.5 and 99.7 %.
    stars = [line for line in axes.lines if line.get_markersize() == 13]
    np.testing.assert_allclose([star.get_ydata()[0] for star in stars], [-0.6])
    labels = {t.get_text() for t in axes.get_yticklabels()}
    assert "99.5 %" in labels  # Quantized rows have seed 0.


def test_corners_are_named_only_where_one_control_holds_for_all():
    results, _, _ = small()
    said = lambda: "".join(t.get_text() for t in drawn(results).axes[0].texts)
    assert "CHANGES BEHAVIOUR" in said()
    restart(find(results, KNOWN[0][0]), "scratch")
    assert "BEHAVIOUR" not in said()
    assert "2-bit, clip 10, scratch" in said()  # settings alone are no longer enough


def test_without_an_emd_nothing_is_placed():
    results, _, _ = small()
    for row in results["rows"]:
        row["emd"] = None
    assert scatter.placed(read(results)) == []
