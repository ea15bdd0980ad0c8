"""Spike counts to disk and back, and compared."""

from pathlib import Path

import numpy as np
import pytest

from jsnnq.analysis import emd, firing
from jsnnq.analysis.firing import Counts
from jsnnq.errors import InputError


def counted(seed=0, timesteps=2, images=3):
    rng = np.random.default_rng(seed)
    most = timesteps * images
    counts = {
        "sn1": rng.integers(0, most + 1, (2, 2, 3), np.int32),
        "layer1_0/sn1": rng.integers(0, most + 1, (1, 1, 5), np.int32),
    }
    return Counts(counts, timesteps, images)


def test_counts_are_read_as_it_was_written(tmp_path):
    counted().save(tmp_path / "firing.npz")
    found, expected = Counts.load(tmp_path / "firing.npz"), counted()
    assert (found.timesteps, found.images, found.total) == (2, 3, 6)
    assert list(found) == list(expected)  # also their order
    for name, counts in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], counts)


def test_counts_on_a_full_disk_leave_nothing_half_written(tmp_path, monkeypatch):
    counted().save(tmp_path / "firing.npz")
    before = (tmp_path / "firing.npz").read_bytes()

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="firing.npz.*No space left"):
        counted().save(tmp_path / "firing.npz")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["firing.npz"]
    assert (tmp_path / "firing.npz").read_bytes() == before


def test_a_mapping_needs_what_its_counts_are_out_of():
    # B saw more images for longer, so counts must become rates before they compare.
    a, b = counted(0), counted(1, timesteps=4, images=5)
    expected = emd.compare(a, b)
    for measure in (emd.compare, emd.compare_matched):
        plain = measure(a.layers, b.layers, a_total=6, b_total=20)
        assert plain == measure(a, b) == measure(a, b.layers, b_total=20)
        with pytest.raises(InputError, match="b is a mapping .* or b_total"):
            measure(a, b.layers)
    assert expected.as_data()["layers"] == expected.layers
    assert list(expected.as_data()) == ["mean", "weighted", "max", "pooled", "layers"]
    plain = firing.summary(a.layers, timesteps=2, images=3)
    assert firing.summary(a) == plain
    with pytest.raises(InputError, match="give Counts, or timesteps and images"):
        firing.summary(a.layers)
