"""In which dtype numbers are kept and added up, and how exactly they are multiplied.

Products, of convolutions and of the classifier, are computed in the dtype of a network.
What is added up, or kept from step to step (parameters, statistics, membranes, states
of quantizers, losses, the optimizer's), has the network's *accumulation dtype*: float32
for bfloat16 and float32, float64 for float64.

**Mixed precision** is the policy of `dtype="bfloat16"`: products of bfloat16, and what
flows between layers in bfloat16; everything that is kept or added up in float32.

**Precision** says how many digits the products of float32 have on an accelerator, which
by itself rounds their inputs (a GPU to the 10 bits of TF32, a TPU to the 7 of bfloat16)
while it still calls them float32:

    highest   float32 on every device, the usual value: float32 is the reference
    high      at least 16 bits on a TPU (three products for one), TF32 on a GPU
    default   what the device does by itself, the fastest

A CPU multiplies float32 as it is, whatever is asked for. Products of other dtypes have
no such choice.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jsnnq.errors import InputError, choose

PRECISIONS = ("default", "high", "highest")
"""What may be asked for of products of float32."""


def of_products(dtype: Any, precision: str) -> jax.lax.Precision | None:
    """What XLA is asked for where numbers of a dtype are multiplied.

    Raises:
        InputError: the precision is unknown.
    """
    choose("precision", precision, PRECISIONS)
    return jax.lax.Precision(precision) if dtype == jnp.float32 else None


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
