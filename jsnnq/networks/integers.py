"""Kernels that are nothing but whole numbers, and exact products with them.

A network whose quantized kernels are such computes what an evaluation of the quantized
network computes: that multiplies with the same whole numbers in float32, whose sums are
exact below 2^24 in whatever order they are taken.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsnnq.networks.convolve import convolve, plain
from jsnnq.networks.timesteps import Timesteps, once_for_all
from jsnnq.quantizers.primitives import like


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "scales"],
    meta_fields=["start", "step", "whole"],
)
@dataclasses.dataclass(frozen=True)
class PackedKernel:
    """A quantized kernel: the sum over planes of scale (start + step code).

    Attributes:
        codes: of each plane, int8, `K K I O` or `I O`.
        scales: of each plane, one for all codes or one per output channel.
        start, step: whole numbers, which bring codes of 8 bits within a byte.
        whole: whether what it is multiplied with is whole numbers from -128 to 127:
            spikes, sums of a few of them, or signs. If not, products are those of
            float32.
    """

    codes: Any  # A tree may hold anything instead of arrays, such as shapes.
    scales: Any
    start: int = 0
    step: int = 1
    whole: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel."""
        return self.codes[0].shape

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.codes[0].size

    def values(self) -> Float[Array, "*K I O"]:
        """The kernel in float32, for those who look at it."""
        planes = zip(self.codes, self.scales, strict=True)
        terms = [self._reals(one) * like(one, scale) for one, scale in planes]
        return sum(terms[1:], terms[0])

    def convolve(self, x: Timesteps, stride: int = 1, groups: int = 1) -> Timesteps:
        """`convolve` of each timestep with it, float32."""
        by = {"stride": stride, "groups": groups}
        integer = functools.partial(plain, **by, sums=jnp.int32)
        real = functools.partial(convolve, **by, precision=_HIGHEST)
        one = functools.partial(self._product, integer, real, groups)
        if len(x) == 1:
            return (one(x[0]),)
        # As in `convolve_each`.
        at_once = lambda x: once_for_all(one, x)
        by_one = lambda x: tuple(map(one, x))
        return jax.lax.platform_dependent(x, cpu=at_once, default=by_one)

    def multiply(self, x: Float[Array, "N I"]) -> Float[Array, "N O"]:
        """The matrix product with it, float32."""
        integer = functools.partial(jnp.matmul, preferred_element_type=jnp.int32)
        real = functools.partial(jnp.matmul, precision=_HIGHEST)
        return self._product(integer, real, 1, x)

    def _product(self, integer, real, groups, x):
        planes = zip(self.codes, self.scales, strict=True)
        terms = []
        for codes, scale in planes:
            sums = self._sums(integer, real, groups, x, codes)
            terms.append(sums * like(sums, scale))
        return sum(terms[1:], terms[0])

    def _sums(self, integer, real, groups, x, codes):
        """Of products with the whole numbers of a plane."""
        as_real = lambda x, codes: real(x.astype(jnp.float32), self._reals(codes))
        if not self.whole:
            return as_real(x, codes)

        def exact(x, codes):
            x = x.astype(jnp.int8)
            sums = self.step * integer(x, codes)
            if self.start:
                ones = jnp.ones((*codes.shape[:-1], groups), jnp.int8)
                there = integer(x, ones)
                sums += self.start * jnp.repeat(there, codes.shape[-1] // groups, -1)
            return sums.astype(jnp.float32)

        # XLA for GPUs has no convolution of integers; in float32 it is exact too.
        return jax.lax.platform_dependent(x, codes, cuda=as_real, default=exact)

    def _reals(self, codes: Int[Array, "..."]) -> Float[Array, "..."]:
        return (self.start + self.step * codes.astype(jnp.int32)).astype(jnp.float32)


def is_packed(leaf: Any) -> bool:
    """Whether it is a packed kernel, as `is_leaf` of a tree asks."""
    return isinstance(leaf, PackedKernel)


_HIGHEST = jax.lax.Precision.HIGHEST
