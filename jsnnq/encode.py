"""An image spread over timesteps.

Direct encoding, as in SEW-ResNet and in arXiv 2604.14487: the same analogue input
is presented at every timestep, and the first convolution with its neurons turns it
into spikes.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError


def direct(x: Float[Array, "B *S"], timesteps: int) -> Float[Array, "T B *S"]:
    """Repeats `x` at each of `timesteps` steps.

    Args:
        x: one still input per example, for example the stem's current `B H W C`.
        timesteps: T, at least 1.

    Raises:
        InputError: `timesteps` is below 1.
    """
    if timesteps < 1:
        raise InputError(f"timesteps is {timesteps}: at least 1 is needed")
    return jnp.broadcast_to(x[None], (timesteps, *x.shape))
