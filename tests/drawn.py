"""Arrays and variables drawn at random, the same in every run."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def normals(shape, seed=0):
    """Standard normal numbers in float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def lively(net, x, shift=0.9):
    """Variables with random kernels and shifted currents, so that every layer fires.

    They are drawn for the shapes of the network; nothing is compiled.
    """
    random = np.random.default_rng(1)

    def fill(path, leaf):
        name, shape = path[-1].key, leaf.shape
        if name == "kernel":
            deviation = np.sqrt(2 * shape[-2] / math.prod(shape))
            return jnp.asarray(deviation * random.normal(size=shape), leaf.dtype)
        if name == "scale":
            return jnp.asarray(random.uniform(0.5, 1.5, shape), leaf.dtype)
        shifted = name == "bias" and "bn" in path[-2].key
        values = {"var": 1.0, "bias": shift if shifted else 0.0}
        return jnp.full(shape, values.get(name, 0.0), leaf.dtype)

    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    return jax.tree_util.tree_map_with_path(fill, shapes)
