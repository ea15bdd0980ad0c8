"""In which dtype numbers are kept and added up, and which dtypes a network may have.

Products are computed in the dtype of a network. What is added up, or kept from step to
step (parameters, statistics, membranes, states of quantizers, losses), has the
network's *accumulation dtype*: float32 for bfloat16 and float32, float64 for float64.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jsnnq.errors import InputError


def accumulation(dtype: Any) -> np.dtype:
    """The accumulation dtype of a dtype: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def at_least_float32(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The same values in the accumulation dtype of theirs."""
    return x.astype(accumulation(x.dtype))


def check_dtype(dtype: Any) -> None:
    """Refuses a dtype that a network cannot be computed in.

    Raises:
        InputError: it is no float, or float64 while JAX computes everything in 32 bits.
    """
    try:
        is_float = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # NumPy knows no such dtype.
        is_float = False
    if not is_float:
        raise InputError(
            f"dtype is {dtype!r}: give a float, such as float32, bfloat16 or float64"
        )
    if jnp.finfo(dtype).bits > 32 and not jax.config.read("jax_enable_x64"):
        raise InputError(
            "dtype float64 was asked for, but JAX computes in 32 bits: set "
            "JAX_ENABLE_X64=1 in the environment, or take float32"
        )
