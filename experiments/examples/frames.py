"""Frames of an event camera: another image at every timestep, one channel a polarity.

    python -m experiments.examples.frames

The events are those that a sensor would see of digits that move by a pixel a timestep.
"""

import numpy as np
import optax
from sklearn.datasets import load_digits

import jsnnq


def moving_digits(timesteps: int = 4, seed: int = 0):
    """Events of digits that move, `N T H W C`, with brighter and darker apart."""
    images, labels = load_digits(return_X_y=True)
    images = np.pad(images.reshape(-1, 8, 8), ((0, 0), (4, 4), (4, 4)))
    directions = np.random.default_rng(seed).integers(-1, 2, (len(images), 2))
    moved = zip(images, directions, strict=True)
    places = [
        np.stack([np.roll(image, t * way, (0, 1)) for image, way in moved])
        for t, moved in enumerate([list(moved)] * (timesteps + 1))
    ]
    change = np.diff(np.stack(places, axis=1), axis=1)
    return np.stack([change > 4, change < -4], axis=-1).astype(np.float32), labels


def main(epochs: int = 10) -> jsnnq.Distances:
    """Trains on frames, quantizes the membranes, and compares the firing."""
    frames, labels = moving_digits()
    data = jsnnq.from_arrays(frames[:1400], labels[:1400], frames[1400:], labels[1400:])
    print(data.note)
    net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.125, timesteps=4)
    trained = jsnnq.fit(net, data, optax.adam(0.01), epochs=epochs, batch=64)
    qnet = jsnnq.quantize(net, membranes=jsnnq.uniform(2))
    tuned = jsnnq.fit(qnet, data, optax.adam(0.001), epochs=2, batch=64, start=trained)
    before = jsnnq.evaluate(net, trained, data)
    after = jsnnq.evaluate(qnet, tuned, data)
    moved = jsnnq.compare(before, after)
    print(
        f"float {before.accuracy:.3f}, membranes of 2 bits {after.accuracy:.3f}, "
        f"firing moved by {moved.mean:.4f}"
    )
    return moved


if __name__ == "__main__":
    main()
