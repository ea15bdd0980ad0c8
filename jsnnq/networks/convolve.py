"""Convolution on `N H W C` without bias.

A kernel of one pixel, or larger than the image, is one product of all patches and the
kernel. Otherwise accelerators have fast convolutions and get the plain one; what a CPU
computes instead stands in `jsnnq.runtime.cpu`.
"""

import functools
from typing import Any

import jax
from jaxtyping import Array, Float

from jsnnq.networks.timesteps import Timesteps, once_for_all
from jsnnq.runtime import cpu
from jsnnq.runtime.patches import patches, product


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_each(
    x: Timesteps, kernel: Float[Array, "K K I O"], stride: int = 1, groups: int = 1
) -> Timesteps:
    """`convolve` of each timestep: one by one on accelerators, on a CPU all at once.

    Args:
        x: timesteps `N H W C`.
        kernel: as in `convolve`.
        stride: step in both directions.
        groups: as many as there are channels is depthwise.

    Returns:
        Timesteps `N P Q O`.
    """
    all_at_once, one_by_one = _ways(stride, groups)
    if len(x) == 1:
        return one_by_one(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=all_at_once, default=one_by_one)


def _ways(stride, groups):
    one = functools.partial(convolve, stride=stride, groups=groups)
    return (
        lambda x, kernel: once_for_all(lambda y: one(y, kernel), x),
        lambda x, kernel: tuple(one(y, kernel) for y in x),
    )


def _forward(x, kernel, stride, groups):
    y: Any = convolve_each(x, kernel, stride, groups)
    return y, (x, kernel)


def _backward(stride, groups, residual, gradients):
    # Of the branches of `platform_dependent` JAX would keep what each of them needs.
    def back(way):
        def gradients_of(x, kernel, gradients):
            _, pull = jax.vjp(way, x, kernel)
            return pull(gradients)

        return gradients_of

    all_at_once, one_by_one = (back(way) for way in _ways(stride, groups))
    x, kernel = residual
    if len(gradients) == 1:
        return one_by_one(x, kernel, gradients)
    return jax.lax.platform_dependent(
        x, kernel, gradients, cpu=all_at_once, default=one_by_one
    )


convolve_each.defvjp(_forward, _backward)


def convolve(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "K K I O"],
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "N P Q O"]:
    """The convolution with symmetric padding of (K - 1) // 2 pixels.

    Args:
        x: images, of C = groups x I channels.
        kernel: square, of the same dtype as `x`.
        stride: step in both directions.
        groups: as many as there are channels is depthwise.
    """
    size = kernel.shape[0]
    if groups == 1 and (size == 1 or max(x.shape[1:3]) < size):
        return multiply_patches(x, kernel, stride)
    if groups == 1 and cpu.filters(x, kernel, stride):
        return cpu.convolution(x, kernel, stride, plain)
    return plain(x, kernel, stride, groups)


def plain(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "K K I O"],
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "N P Q O"]:
    """`convolve` by XLA's convolution."""
    margin = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def multiply_patches(
    x: Float[Array, "N H W C"], kernel: Float[Array, "K K C O"], stride: int = 1
) -> Float[Array, "N P Q O"]:
    """`convolve` as one product."""
    size, features = kernel.shape[1], kernel.shape[-1]
    seen = patches(x, size, stride)
    y = product(seen.reshape(-1, seen.shape[-1]), kernel.reshape(-1, features))
    return y.reshape(*seen.shape[:3], features)
