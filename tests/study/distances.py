"""Distances between networks of a study, from the counts on disk and SciPy."""

import numpy as np
import pytest
from scipy import stats

from tests.tiny import ORDER, rates_of

KEYS = ("mean", "weighted", "max", "pooled")


def earth(x, y):
    return stats.wasserstein_distance(x, y)


def apart(x, y):
    return np.abs(x - y).mean()


def expected_distances(a, b, measure=earth):
    """The five views of a distance between two networks, typed a second time."""
    layers = {name.removeprefix("counts/"): measure(a[name], b[name]) for name in a}
    sizes = [len(values) for values in a.values()]
    values = list(layers.values())
    return {
        "mean": np.mean(values),
        "weighted": np.average(values, weights=sizes),
        "max": max(values),
        "pooled": measure(np.concatenate([*a.values()]), np.concatenate([*b.values()])),
        "layers": layers,
    }


def assert_distances(found, expected):
    assert set(found) == {*KEYS, "layers"}
    for key in found:
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key


def mean_distances(found):
    """The mean of several distances, key by key."""
    layers = found[0]["layers"]
    return {
        **{key: np.mean([one[key] for one in found]) for key in KEYS},
        "layers": {n: np.mean([one["layers"][n] for one in found]) for n in layers},
    }


def assert_range(found, distances):
    """Found are the least and the largest of them."""
    for key in KEYS:
        values = [one[key] for one in distances]
        assert found[key] == pytest.approx([min(values), max(values)], abs=1e-6)


def assert_read_against_controls(out, results):
    """Floor, drift and every row's distances."""
    rates = {
        run: rates_of(out / "runs" / f"{run.name}-seed{run.seed}") for run in ORDER
    }
    floor = expected_distances(rates["float", 0], rates["float", 1])
    assert_distances(results["floor"], floor)
    assert_range(results["floor_range"], [floor])
    drifts = [
        expected_distances(rates["float", s], rates["float-finetuned", s])
        for s in (0, 1)
    ]
    assert_distances(results["drift"], mean_distances(drifts))
    assert_range(results["drift_range"], drifts)
    for row in results["rows"]:
        if row["kind"] == "float":
            assert row["emd"] is None
            assert row["matched"] is None
            continue
        parent, own = rates["float", row["seed"]], rates[row["name"], row["seed"]]
        assert_distances(row["emd"], expected_distances(parent, own))
        assert_distances(row["matched"], expected_distances(parent, own, apart))
        assert row["emd"]["mean"] > 0
