"""Convolution on `N H W C` without bias.

A kernel of one pixel, or larger than the image, is one product of all patches and the
kernel. Otherwise accelerators have fast convolutions and get the plain one; what a CPU
computes instead stands in `jsnnq.runtime.cpu`.
"""

import functools
from typing import Any

import jax
from jaxtyping import Array, Float, Num

from jsnnq.networks.timesteps import Timesteps, once_for_all
from jsnnq.runtime import cpu
from jsnnq.runtime.patches import patches, product


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve_each(
    x: Timesteps,
    kernel: Float[Array, "K K I O"],
    stride: int = 1,
    groups: int = 1,
    precision: jax.lax.Precision | None = None,
) -> Timesteps:
    """`convolve` of each timestep: one by one on accelerators, on a CPU all at once.

    Args:
        x: timesteps `N H W C`.
        kernel: as in `convolve`.
        stride: step in both directions.
        groups: as many as there are channels is depthwise.
        precision: of the products, and of those of both gradients.

    Returns:
        Timesteps `N P Q O`.
    """
    all_at_once, one_by_one = _ways(stride, groups, precision)
    if len(x) == 1:
        return one_by_one(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=all_at_once, default=one_by_one)


def _ways(stride, groups, precision):
    same = {"stride": stride, "groups": groups, "precision": precision}
    one = functools.partial(convolve, **same)
    return (
        lambda x, kernel: once_for_all(lambda y: one(y, kernel), x),
        lambda x, kernel: tuple(one(y, kernel) for y in x),
    )


def _forward(x, kernel, *products):
    y: Any = convolve_each(x, kernel, *products)
    return y, (x, kernel)


def _backward(stride, groups, precision, residual, gradients):
    # Of the branches of `platform_dependent` JAX would keep what each of them needs.
    def back(way):
        def gradients_of(x, kernel, gradients):
            _, pull = jax.vjp(way, x, kernel)
            return pull(gradients)

        return gradients_of

    ways = _ways(stride, groups, precision)
    all_at_once, one_by_one = (back(way) for way in ways)
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
    *,
    precision: jax.lax.Precision | None = None,
) -> Float[Array, "N P Q O"]:
    """The convolution with symmetric padding of (K - 1) // 2 pixels.

    Args:
        x: images, of C = groups x I channels.
        kernel: square, of the same dtype as `x`.
        stride: step in both directions.
        groups: as many as there are channels is depthwise.
        precision: of the products, and of those of both gradients.
    """
    size = kernel.shape[0]
    if groups == 1 and (size == 1 or max(x.shape[1:3]) < size):
        return multiply_patches(x, kernel, stride, precision=precision)
    usual = functools.partial(plain, precision=precision)
    if groups == 1 and cpu.filters(x, kernel, stride):
        return cpu.convolution(x, kernel, stride, usual)
    return usual(x, kernel, stride, groups)


def plain(
    x: Num[Array, "N H W C"],
    kernel: Num[Array, "K K I O"],
    stride: int = 1,
    groups: int = 1,
    *,
    precision: jax.lax.Precision | None = None,
    sums: Any = None,
) -> Num[Array, "N P Q O"]:
    """`convolve` by XLA's convolution; `sums` is another dtype for what it returns."""
    margin = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=precision,
        preferred_element_type=sums,
    )


def multiply_patches(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "K K C O"],
    stride: int = 1,
    *,
    precision: jax.lax.Precision | None = None,
) -> Float[Array, "N P Q O"]:
    """`convolve` as one product."""
    size, features = kernel.shape[1], kernel.shape[-1]
    seen = patches(x, size, stride)
    read = seen.reshape(-1, seen.shape[-1])
    y: Any = product(read, kernel.reshape(-1, features), precision)
    return y.reshape(*seen.shape[:3], features)
