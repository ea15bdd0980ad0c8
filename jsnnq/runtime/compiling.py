"""Compiling what runs once quickly, because nobody waits for fast code that long."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer


def once(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` of a function that runs once or twice in a program.

    On a CPU, where generating code is what takes the time, it is not optimized: that
    saves 4 of 5 seconds where random numbers are drawn.

    Args:
        function: what is compiled.
        options: of `jax.jit`.
    """

    @functools.cache
    def compiled(backend):
        level = {"xla_backend_optimization_level": 0} if backend == "cpu" else None
        return jax.jit(function, compiler_options=level, **options)

    @functools.wraps(function)
    def call(*arguments, **named):
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(arguments)):
            return function(*arguments, **named)  # It is a part of another program.
        return compiled(jax.default_backend())(*arguments, **named)

    return call


def random_bits_by_kernel() -> None:
    """Lets a GPU make random bits by a kernel that JAX brings along.

    Else XLA compiles code of its own for every place where some are drawn, which in a
    step of StoMPP is every layer. The bits are the same. Other devices do as before.
    """
    jax.config.update("jax_threefry_gpu_kernel_lowering", True)
