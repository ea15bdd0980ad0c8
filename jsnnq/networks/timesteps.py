"""The axis of time: one array `T B ...`, or a tuple of its timesteps `B ...`.

Inside a network a sequence is the tuple of its timesteps, each an array of its own. A
TPU lays images out with the batch innermost, and a batch with time folded into it would
be written anew in front of every layer of neurons and behind it; of a tuple XLA never
makes the whole. What does not look from one timestep to another, such as a convolution,
runs on each by itself on an accelerator, and folded into one batch on a CPU, which is
faster there.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError

Timesteps = tuple[Array, ...]
"""A sequence as its timesteps, each `B ...`."""


def fold(
    layer: Callable[[Array], Array], x: Float[Array, "T B *S"]
) -> Float[Array, "T B *R"]:
    """Applies `layer` with time folded into the batch.

    Example:
        >>> jsnnq.networks.fold(lambda y: y.sum(-1), jnp.ones((4, 2, 3))).shape
        (4, 2)
    """
    time, batch = x.shape[:2]
    y = layer(x.reshape(time * batch, *x.shape[2:]))
    return y.reshape(time, batch, *y.shape[1:])


@jax.custom_vjp
def apart(x: Float[Array, "T *S"]) -> Timesteps:
    """The timesteps of a sequence, whose gradients are put together again.

    Of an index JAX would pad the gradient to the whole sequence, for each timestep.
    """
    return tuple(jax.lax.index_in_dim(x, t, keepdims=False) for t in range(len(x)))


apart.defvjp(lambda x: (apart(x), None), lambda _, gradients: (jnp.stack(gradients),))


def once_for_all(function: Callable[[Array], Array], x: Timesteps) -> Timesteps:
    """A function of a batch, on all timesteps as one."""
    return _cut(function(jnp.concatenate(x)), len(x))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _cut(x, count):
    """A batch as that many, whose gradients are put together again, as in `apart`."""
    size = x.shape[0] // count
    return tuple(x[size * i : size * (i + 1)] for i in range(count))


_cut.defvjp(
    lambda x, count: (_cut(x, count), None),
    # Not stacked: XLA's CPU backend computes what is then read in two shapes twice.
    lambda count, _, gradients: (jnp.concatenate(gradients),),
)


def direct(x: Float[Array, "B *S"], timesteps: int) -> Float[Array, "T B *S"]:
    """Repeats a still `x` at each of T timesteps, a direct encoding.

    As in SEW-ResNet and in arXiv 2604.14487: the first neurons turn it into spikes.

    Args:
        x: one input for each example, such as the stem's current `B H W C`.
        timesteps: T, at least 1.

    Raises:
        InputError: `timesteps` is below 1.
    """
    if timesteps < 1:
        raise InputError(f"timesteps is {timesteps}: at least 1 is needed")
    return jnp.broadcast_to(x[None], (timesteps, *x.shape))


def over_time(x: Float[Array, "*T B H W C"], timesteps: int) -> Array:
    """Images at each of T timesteps, `T B H W C`; frames have theirs already.

    Raises:
        InputError: frames are not as many as there are timesteps.

    Example:
        >>> jsnnq.networks.over_time(jnp.ones((2, 8, 8, 1)), 4).shape
        (4, 2, 8, 8, 1)
    """
    if x.ndim == 4:
        return direct(x, timesteps)
    if len(x) != timesteps:
        raise InputError(
            f"the input has {len(x)} frames and the network {timesteps} timesteps: "
            "make the network with as many timesteps as there are frames"
        )
    return x
