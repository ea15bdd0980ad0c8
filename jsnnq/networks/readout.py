"""From logits per timestep to a loss and an accuracy."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jsnnq.runtime.precision import at_least_float32


def readout(logits: Float[Array, "T B K"]) -> Float[Array, "B K"]:
    """Averages the logits over time, the readout of SEW-ResNet (section 4)."""
    return jnp.mean(at_least_float32(logits), axis=0)


def cross_entropy(
    logits: Float[Array, "B K"], labels: Int[Array, "B"]
) -> Float[Array, "B"]:
    """Cross-entropy of each example, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def correct(logits: Float[Array, "B K"], labels: Int[Array, "B"]) -> Bool[Array, "B"]:
    """Whether the largest logit of each example is its label's (top-1)."""
    return jnp.argmax(logits, axis=-1) == labels
