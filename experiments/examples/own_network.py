"""Networks of your own: a plain convolutional SNN, and a fully connected one.

    python -m experiments.examples.own_network

What a network promises is written down in `jsnnq.networks.network`.
"""

import flax.linen as nn
import optax

import jsnnq
from jsnnq.networks import (
    BatchNorm,
    Network,
    QuantConv,
    QuantDense,
    Seen,
    Spiking,
    fold,
    over_time,
)


class PlainSNN(Network):
    """Convolutions with normalisation and neurons behind each, then a classifier."""

    classes: int
    channels: tuple[int, ...] = (16, 32)
    timesteps: int = 4

    @nn.compact
    def __call__(self, x, train=False):
        """Logits at each timestep, and the spikes of every layer."""
        seen = Seen()
        x = over_time(x, self.timesteps)
        for i, features in enumerate(self.channels, start=1):
            convolve = QuantConv(self.weights, features, stride=2, name=f"conv{i}")
            normalise = BatchNorm(name=f"bn{i}")
            x = fold(lambda y: normalise(convolve(y, train), train), x)  # noqa: B023
            x = Spiking(self.membranes, name=f"sn{i}")(x, train)
            seen.spikes[f"sn{i}"] = x
        classify = QuantDense(self.weights, self.classes, name="fc")
        x = x.reshape(*x.shape[:2], -1)
        return fold(lambda y: classify(y, train), x), seen


class Connected(Network):
    """One hidden layer of spiking neurons, without a convolution."""

    classes: int
    hidden: int = 64
    timesteps: int = 4

    @nn.compact
    def __call__(self, x, train=False):
        """Logits at each timestep, and the spikes of the hidden layer."""
        seen = Seen()
        x = over_time(x, self.timesteps)
        x = x.reshape(*x.shape[:2], -1)
        hidden = QuantDense(self.weights, self.hidden, name="fc1")
        x = fold(lambda y: hidden(y, train), x)
        x = seen.spikes["sn1"] = Spiking(self.membranes, name="sn1")(x, train)
        classify = QuantDense(self.weights, self.classes, name="fc2")
        return fold(lambda y: classify(y, train), x), seen


def main(epochs: int = 8) -> dict[str, jsnnq.Distances]:
    """Trains both, quantizes both, and says how far their firing moved."""
    data = jsnnq.load_data("digits")
    found = {}
    for net in (PlainSNN(classes=10), Connected(classes=10)):
        trained = jsnnq.fit(net, data, optax.adam(0.01), epochs=epochs, batch=64)
        # By layer: 2 bits, but the first layer stays in full precision.
        rules = ((r"conv1|fc1", None), (".*", jsnnq.lqnet(2)))
        qnet = jsnnq.quantize(net, weights=rules, membranes=jsnnq.uniform(4))
        tuned = jsnnq.fit(
            qnet, data, optax.adam(0.001), epochs=2, batch=64, start=trained
        )
        before = jsnnq.evaluate(net, trained, data)
        after = jsnnq.evaluate(qnet, tuned, data)
        name = type(net).__name__
        found[name] = jsnnq.compare(before, after)
        print(
            f"{name}: {before.accuracy:.3f}, quantized {after.accuracy:.3f}, "
            f"firing moved by {found[name].mean:.4f}, {after.cost.weight_bits} bits of "
            f"weights instead of {before.cost.weight_bits}"
        )
    return found


if __name__ == "__main__":
    main()
