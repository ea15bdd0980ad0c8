"""A binary network without a straight-through estimator: StoMPP beside STE.

    python -m experiments.examples.binary

The windows in which its layers are frozen follow from the length of the training.
"""

import optax

import jsnnq


def main(epochs: int = 12) -> dict[str, float]:
    """Trains one binary ResNet by two methods and prints their accuracies."""
    data = jsnnq.load_data("digits")
    net = jsnnq.binary_resnet("resnet18", classes=10, width=0.125)
    found = {}
    for name, method in (("STE", jsnnq.ste()), ("StoMPP", jsnnq.stompp())):
        binary = jsnnq.quantize(net, weights=method, activations=method)
        steps = epochs * (len(data.train) // 64)
        rate = optax.cosine_decay_schedule(0.01, steps)
        state = jsnnq.fit(binary, data, optax.adam(rate), epochs=epochs, batch=64)
        seen = jsnnq.evaluate(binary, state, data)
        found[name] = seen.accuracy
        kib = seen.cost.weight_bits / 8192
        print(f"{name}: {seen.accuracy:.3f}, {kib:.0f} KiB of weights")
    return found


if __name__ == "__main__":
    main()
