"""Each example runs as it stands, in small."""

import numpy as np
import pytest

from experiments.examples import binary, frames, own_arrays, own_network, own_quantizer


def test_own_arrays(capsys):
    moved = own_arrays.main(epochs=2)
    assert 0 < moved.mean <= moved.matched.mean
    said = capsys.readouterr().out
    assert "8 x 8 floats with 1 channels, 10 classes, 1,400 train, 397 test" in said
    assert "calibrated: " in said
    assert "fine-tuned: " in said


def test_own_network():
    found = own_network.main(epochs=1)
    assert list(found) == ["PlainSNN", "Connected"]
    assert all(np.isfinite(moved.mean) and moved.mean > 0 for moved in found.values())


def test_frames():
    events, labels = frames.moving_digits(timesteps=3)
    assert events.shape == (1797, 3, 16, 16, 2)
    # What appears in one place has left another, or the digit stood still.
    still = (events.sum((1, 2, 3, 4)) == 0).mean()
    assert 0.05 < still < 0.2  # One of nine directions is none.
    assert set(labels) == set(range(10))
    assert frames.main(epochs=1).mean > 0


def test_binary():
    found = binary.main(epochs=2)
    assert list(found) == ["STE", "StoMPP"]
    assert all(0 <= accuracy <= 1 for accuracy in found.values())


@pytest.mark.filterwarnings("error")
def test_own_quantizer():
    assert 0 <= own_quantizer.main(epochs=1) <= 1
