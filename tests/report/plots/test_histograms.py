"""The histograms are those of the counts, and those of the right networks."""

import numpy as np
import pytest

from jsnnq.analysis.firing import Counts
from jsnnq.config import Run
from jsnnq.report.plots import histograms
from jsnnq.report.results import read
from tests.studies import KNOWN, SMALL, comparison, find, small, study


def shares(*counts):
    """NumPy's histogram of spike counts out of 4 steps x 360 images."""
    values = np.concatenate([each.ravel() for each in counts]) / 1440
    return np.histogram(values, np.arange(41) / 40)[0] / values.size


def shown(axes):
    return [patch.get_data().values for patch in axes.patches]


def test_histograms_are_those_of_the_counts():
    results, firing, _ = small()
    made = read(results, firing)
    groups = histograms.fired(made)
    figure = histograms.draw_pooled(made, groups)
    assert len(groups) == 5
    for axes, group in zip(figure.axes, groups, strict=False):
        keys = (Run("float", 0), Run(group.name, 0))
        expected = [shares(*firing[key].values()) for key in keys]
        np.testing.assert_allclose(shown(axes), expected, atol=1e-9)


def test_firing_is_held_against_the_float_network_of_the_same_seed():
    results, firing, _ = study(KNOWN[:1], SMALL, seeds=2)
    float_firing = firing[Run("float", 1)]
    other = {layer: 1440 - c for layer, c in float_firing.items()}
    firing[Run("float", 1)] = Counts(other, 4, 360)
    del firing[Run(KNOWN[0][0], 0)]
    made = read(results, firing)
    figure = histograms.draw_layers(made, histograms.fired(made)[-1:])
    before, _ = shown(figure.axes[0])
    np.testing.assert_allclose(before, shares(other["first"]), atol=1e-9)


@pytest.mark.parametrize("missing", ["float", KNOWN[0][0]])
def test_without_a_record_of_both_nothing_is_drawn(missing):
    results, firing, _ = study(KNOWN[:1], SMALL)
    made = read(results, {k: v for k, v in firing.items() if k.name != missing})
    assert KNOWN[0][0] not in [group.name for group in histograms.fired(made)]
    assert histograms.telling(made) == []


def test_many_layers_are_cut_to_those_that_moved_most():
    layers = tuple(f"layer{i}" for i in range(54))
    results, firing, _ = study(KNOWN[:1], layers)
    emds = find(results, KNOWN[0][0])["emd"]["layers"]
    made = read(results, firing)
    figure = histograms.draw_layers(made, histograms.telling(made))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    most = sorted(layers, key=lambda layer: -emds[layer])[:24]
    assert [title for title in titles if title] == sorted(most, key=layers.index)


def test_those_that_tell_most_are_the_silent_the_nearest_and_the_farthest():
    results, firing, _ = small()
    for i, emd in enumerate((0.02, 0.003, 0.03, 0.004)):
        find(results, KNOWN[i][0])["emd"]["mean"] = emd
    made = read(results, firing)
    groups = histograms.telling(made)
    assert [group.name for group in groups] == [KNOWN[i][0] for i in (0, 1, 2)]
    figure = histograms.draw_layers(made, groups)
    lines = figure.axes[0].patches[1:]
    assert len({patch.get_edgecolor() for patch in lines}) == 3
    for axes, layer in zip(figure.axes, SMALL, strict=False):
        counts = [firing[Run(g.name, 0)][layer] for g in groups]
        expected = [shares(each) for each in counts]
        np.testing.assert_allclose(shown(axes)[1:], expected, atol=1e-9)


def test_two_networks_are_compared_pooled_and_layer_by_layer():
    found = comparison()
    figure = histograms.draw_two(found, ("A: one", "B: other"))
    one, other = found["firing"]
    pooled, *rest = figure.axes
    expected = [shares(*one.values()), shares(*other.values())]
    np.testing.assert_allclose(shown(pooled), expected, atol=1e-9)
    assert pooled.texts[0].get_text() == f"EMD {found['emd']['pooled']:.4f}"
    for axes, layer in zip(rest, SMALL, strict=True):
        expected = [shares(one[layer]), shares(other[layer])]
        np.testing.assert_allclose(shown(axes), expected, atol=1e-9)
        assert axes.texts[0].get_text() == f"EMD {found['emd']['layers'][layer]:.4f}"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["A: one", "B: other"]


def test_channels_are_compared_where_channels_were_asked_for():
    found = comparison() | {"unit": "channel"}
    figure = histograms.draw_two(found, ("A", "B"))
    rates = found["firing"][0]["first"].mean(axis=(0, 1)) / 1440
    expected = np.histogram(rates, np.arange(41) / 40)[0] / 16
    np.testing.assert_allclose(shown(figure.axes[1])[0], expected, atol=1e-9)
    assert figure.get_supylabel() == "share of channels"
