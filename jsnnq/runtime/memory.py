"""How much memory a program needs on a device, and how much it may take there."""

import math
from typing import Any

import jax

SHARE = 0.75
"""Of a device's memory: the rest is for data and states that stay there meanwhile."""


def limit(mesh: Any = None) -> int | None:
    """Bytes that one program may take on each device; None where nobody says.

    Accelerators say how much memory they have, a CPU does not.

    Args:
        mesh: the devices that share a batch, from `parallel.mesh`; None is the first.
    """
    devices = jax.local_devices()[:1] if mesh is None else mesh.devices.flat
    known = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in one for one in known):
        return None
    return int(SHARE * min(one["bytes_limit"] for one in known))


def needed(function: Any, *arguments: Any) -> float:
    """Bytes on each device while a jitted function runs, which is compiled for that.

    Args:
        function: what `jax.jit` returned.
        arguments: arrays, or their shapes.

    Returns:
        Those of arguments, results and what is between; infinity where the compiler
        says that it does not fit.
    """
    try:
        compiled = function.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    found = compiled.memory_analysis()
    kept = found.argument_size_in_bytes + found.output_size_in_bytes
    return kept + found.temp_size_in_bytes - found.alias_size_in_bytes
