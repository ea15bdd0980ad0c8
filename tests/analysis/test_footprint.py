"""Spike counts to disk and back, and compared with SciPy."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jsnnq.analysis import emd
from jsnnq.analysis.evaluate import (
    Evaluation,
    as_dict,
    distances,
    footprint,
    load_footprint,
    save_footprint,
)
from jsnnq.errors import InputError


def evaluation(seed=0, timesteps=2, images=3):
    rng = np.random.default_rng(seed)
    most = timesteps * images
    counts = {
        "sn1": rng.integers(0, most + 1, (2, 2, 3), np.int32),
        "layer1_0/sn1": rng.integers(0, most + 1, (1, 1, 5), np.int32),
    }
    return Evaluation(
        0.5, 1.0, counts, {}, {}, frozenset(), timesteps=timesteps, images=images
    )


def test_a_footprint_is_read_as_it_was_written(tmp_path):
    save_footprint(tmp_path / "firing.npz", evaluation())
    found = load_footprint(tmp_path / "firing.npz")
    expected = footprint(evaluation())
    assert (found["timesteps"], found["images"]) == (2, 3)
    assert list(found["counts"]) == list(expected["counts"])  # also their order
    for name, counts in expected["counts"].items():
        assert found["counts"][name].dtype == np.int32
        np.testing.assert_array_equal(found["counts"][name], counts)


def test_distances_are_those_of_rates_whatever_was_counted():
    # B saw more images for longer, so counts must become rates before they compare.
    a, b = evaluation(0), evaluation(1, timesteps=4, images=5)
    found = as_dict(distances(emd.compare, footprint(a), footprint(b)))
    for name, counts in a.counts.items():
        expected = stats.wasserstein_distance(
            counts.ravel() / 6, b.counts[name].ravel() / 20
        )
        assert found["layers"][name] == pytest.approx(expected, abs=1e-6)
    assert found["mean"] == pytest.approx(np.mean(list(found["layers"].values())))
    assert found["max"] == max(found["layers"].values())


def test_counts_on_a_full_disk_leave_nothing_half_written(tmp_path, monkeypatch):
    save_footprint(tmp_path / "firing.npz", evaluation())
    before = (tmp_path / "firing.npz").read_bytes()

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="firing.npz.*No space left"):
        save_footprint(tmp_path / "firing.npz", evaluation())
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["firing.npz"]
    assert (tmp_path / "firing.npz").read_bytes() == before
