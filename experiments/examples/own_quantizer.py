"""A quantizer, a surrogate and a neuron of your own: a small class, or a function.

    python -m experiments.examples.own_quantizer

Nothing is registered. They are handed in, and handed in again where a network is read
back from disk, since code is never stored.
"""

import dataclasses
import tempfile

import jax
import jax.numpy as jnp
import optax

import jsnnq


@dataclasses.dataclass(frozen=True)
class Ternary(jsnnq.Quantizer):
    """Weights in {-a, 0, a}, a the mean magnitude of the kernel."""

    bits = 2
    needs_values = False

    def init(self, key, x):
        """Nothing to remember."""
        return ()

    def apply(self, x, state, train):
        """The nearest of the three levels; the gradient passes as if it were x."""
        scale = jnp.mean(jnp.abs(x))
        nearest = scale * jnp.clip(jnp.round(x / scale), -1, 1)
        return x + jax.lax.stop_gradient(nearest - x), state


def triangle(x):
    """A surrogate: the derivative of the spike, pretended by a triangle."""
    return jnp.maximum(0.0, 1 - jnp.abs(x))


@dataclasses.dataclass(frozen=True)
class Saturating(jsnnq.Neuron):
    """A LIF neuron whose membrane never falls below -1."""

    def charge(self, v, x, decay=None):
        """The usual charge, with a floor."""
        return jnp.maximum(super().charge(v, x, decay), -1.0)


def main(epochs: int = 8) -> float:
    """Trains with all three, stores the network, and reads it back."""
    data = jsnnq.load_data("digits")
    neuron = Saturating(surrogate=triangle)
    net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.125, neuron=neuron)
    qnet = jsnnq.quantize(net, weights=Ternary())
    state = jsnnq.fit(qnet, data, optax.adam(0.01), epochs=epochs, batch=64)
    seen = jsnnq.evaluate(qnet, state, data)
    print(f"ternary weights: {seen.accuracy:.3f}")
    with tempfile.TemporaryDirectory() as folder:
        jsnnq.save(folder, qnet, state)
        again, state = jsnnq.load(folder, network=qnet)
        assert jsnnq.evaluate(again, state, data).accuracy == seen.accuracy
    return seen.accuracy


if __name__ == "__main__":
    main()
