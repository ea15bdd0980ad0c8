"""Your own arrays: a float network, its weights in 2 bits, and what that did to it.

python -m experiments.examples.own_arrays
"""

import numpy as np
import optax
from sklearn.datasets import load_digits

import jsnnq


def main(epochs: int = 12) -> jsnnq.Distances:
    """Trains, quantizes without and with training, and compares the firing."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(
        np.float32
    )  # Floats are taken as they are.
    data = jsnnq.from_arrays(images[:1400], labels[:1400], images[1400:], labels[1400:])
    print(data.note)

    net = jsnnq.sew_resnet("sew_resnet8", classes=data.classes, width=0.25)
    steps = epochs * (len(data.train) // 32)
    rate = optax.cosine_decay_schedule(0.3, steps)
    trained = jsnnq.fit(net, data, optax.sgd(rate, 0.9), epochs=epochs, batch=32)
    before = jsnnq.evaluate(net, trained, data)
    print(f"float: {before.accuracy:.3f}, {before.dead:.3f} of its neurons are dead")

    qnet = jsnnq.quantize(net, weights=jsnnq.lqnet(2))
    calibrated = jsnnq.calibrate(qnet, trained, data)
    again = dict(epochs=2, batch=32, start=trained)
    tuned = jsnnq.fit(qnet, data, optax.sgd(0.03, 0.9), **again)
    control = jsnnq.fit(net, data, optax.sgd(0.03, 0.9), **again)
    drift = jsnnq.compare(before, jsnnq.evaluate(net, control, data))
    print(f"drift: {drift.mean:.4f}")
    for said, state in (("calibrated", calibrated), ("fine-tuned", tuned)):
        after = jsnnq.evaluate(qnet, state, data)
        moved = jsnnq.compare(before, after)
        print(f"{said}: {after.accuracy:.3f}, firing moved by {moved.mean:.4f}")
    return moved


if __name__ == "__main__":
    main()
