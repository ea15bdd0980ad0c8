"""Convolution on `N H W C` without bias, in the form a backend computes fastest.

A kernel of one pixel, or larger than the image, is one product of all patches and the
kernel. Otherwise accelerators have fast convolutions and get the plain one. XLA's on a
CPU does not reach what the same CPU does in matrix products, least of all in the
gradient of a kernel (20 to 75 of 105 GFLOP/s a thread). There, in float32 and from 64
channels,

    3x3 at stride 1    is Winograd's minimal filtering F(2x2, 3x3): 16 products instead
                       of 36 for 4 outputs; both gradients likewise
    3x3 at stride 2    is the plain one; the gradient of the kernel is a product of
                       patches

A few images at a time, so that their tiles or patches stay in the cache. All agree with
the plain convolution to rounding, and exactly where values and kernel are small
integers: the transforms only add and halve.

Sources: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (arXiv
1509.09308), section 4.1, for F(2x2, 3x3); section 4.2 names F(3x3, 2x2), of which the
gradient of the kernel is the sum over tiles.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_CACHE = 2**21
"""Bytes of tiles or patches in flight. Of 1 to 16 images at a time at 64, 128 and 256
channels, the fastest had 2, 1 to 4 and 1 to 2 MiB, on a core with 1 MiB of L2 cache."""


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
    if groups == 1 and _is_worth_parting(x, kernel, stride):
        return _in_parts(x, kernel, stride)
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
    patches = _patches(x, size, stride)
    y = _product(_rows(patches), kernel.reshape(-1, features))
    return y.reshape(*patches.shape[:3], features)


def _patches(x, size, stride):
    """What each output sees, as `N P Q K*K*C`."""
    margin = (size - 1) // 2
    around = (0, 0), (margin, margin), (margin, margin), (0, 0)
    padded = jnp.pad(x, around)
    height, width = (1 + (n - 1) // stride for n in x.shape[1:3])
    patches = [
        padded[:, i : i + height * stride : stride, j : j + width * stride : stride]
        for i in range(size)
        for j in range(size)
    ]
    patches = [patch[:, :height, :width] for patch in patches]
    return jnp.concatenate(patches, axis=-1)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


@jax.custom_vjp
def _product(x: Float[Array, "N K"], kernel: Float[Array, "K O"]) -> Array:
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(residual, g):
    x, kernel = residual
    return g @ kernel.T, _transposed_product(x, g)


_product.defvjp(_product_forward, _product_backward)


def _transposed_product(x, y):
    """x^T y for many rows.

    Into a tall matrix it takes XLA's CPU backend up to five times as long as into a
    wide one, and without the barrier it would write the second as the first.
    """
    if x.shape[1] <= y.shape[1]:
        return x.T @ y
    return jax.lax.optimization_barrier(y.T @ x).T


def _is_worth_parting(x, kernel, stride):
    count, height, width, _ = x.shape
    size, _, inputs, features = kernel.shape
    return (
        x.dtype == jnp.float32
        and size == 3
        and stride in (1, 2)
        and height % 2 == width % 2 == 0
        and min(inputs, features) >= 64
        # Tiles enough to pay for the transformed kernel.
        and count * height * width // 4 >= 256
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _in_parts(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C O"], stride: int
) -> Float[Array, "N P Q O"]:
    usual = functools.partial(plain, stride=stride)
    if stride == 2:
        return usual(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=filter_tiles, default=usual)


def _in_parts_forward(x, kernel, stride):
    return _in_parts(x, kernel, stride), (x, kernel)


def _in_parts_backward(stride, residual, g):
    usual = functools.partial(plain, stride=stride)

    def by_tiles(x, kernel, g):
        turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        return filter_tiles(g, turned), correlate_tiles(x, g)

    def by_patches(x, kernel, g):
        of_x = jax.vjp(lambda x: usual(x, kernel), x)[1](g)[0]
        return of_x, correlate_patches(x, g)

    def by_plain(x, kernel, g):
        return jax.vjp(usual, x, kernel)[1](g)

    on_cpu = by_tiles if stride == 1 else by_patches
    return jax.lax.platform_dependent(*residual, g, cpu=on_cpu, default=by_plain)


_in_parts.defvjp(_in_parts_forward, _in_parts_backward)


def correlate_patches(
    x: Float[Array, "N H W C"], g: Float[Array, "N P Q O"]
) -> Float[Array, "3 3 C O"]:
    """Gradient of a kernel 3x3 at stride 2 where that of the result is `g`."""

    def product(x, g):
        return _transposed_product(_rows(_patches(x, 3, 2)), _rows(g))

    total = _summed_over_parts(product, x, g)
    return total.reshape(3, 3, x.shape[-1], g.shape[-1])


# Rows of the transforms in Lavin and Gray, equations 8 and 10: of the kernel (G), of
# the 4 pixels (B^T) and of the 2 outputs (A), each a function of the slices it joins.


def _of_kernel(k0, k1, k2):
    middle = (k0 + k2) / 2
    return k0, middle + k1 / 2, middle - k1 / 2, k2


def _of_kernel_back(s0, s1, s2, s3):
    return s0 + (s1 + s2) / 2, (s1 - s2) / 2, (s1 + s2) / 2 + s3


def _of_pixels(d0, d1, d2, d3):
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _of_outputs(y0, y1):
    return y0, y0 + y1, y0 - y1, -y1


def _to_outputs(m0, m1, m2, m3):
    return m0 + m1 + m2, m1 - m2 - m3


def filter_tiles(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C O"]
) -> Float[Array, "N H W O"]:
    """`convolve` at stride 1 by F(2x2, 3x3); even sizes only."""
    _, height, width, _ = x.shape
    features = kernel.shape[-1]
    kernels = jnp.stack(
        [both for row in _of_kernel(*kernel) for both in _of_kernel(*row)]
    )

    def some(x):
        tiles = jax.lax.optimization_barrier(_pixel_tiles(x))
        m = jax.lax.optimization_barrier(jax.lax.batch_matmul(tiles, kernels))
        m = m.reshape(4, 4, len(x), height // 2, width // 2, features)
        rows = [jnp.stack(_to_outputs(*row), axis=3) for row in _to_outputs(*m)]
        return jnp.stack(rows, axis=2).reshape(len(x), height, width, features)

    return jax.lax.map(some, _parted(x)[0]).reshape(*x.shape[:3], features)


def correlate_tiles(
    x: Float[Array, "N H W C"], g: Float[Array, "N H W O"]
) -> Float[Array, "3 3 C O"]:
    """Gradient of the kernel of `filter_tiles` where that of its result is `g`."""

    def product(x, g):
        pixels = jax.lax.optimization_barrier(_pixel_tiles(x))
        # XLA's fast products on a CPU take their rows from memory as they lie.
        pixels = jax.lax.optimization_barrier(pixels.swapaxes(1, 2))
        outputs = jax.lax.optimization_barrier(_tiles(_of_outputs, g, 2))
        return jax.lax.batch_matmul(pixels, outputs)

    total = _summed_over_parts(product, x, g)
    total = total.reshape(4, 4, *total.shape[1:])
    rows = [jnp.stack(_of_kernel_back(*row)) for row in _of_kernel_back(*total)]
    return jnp.stack(rows)


def _parted(x, *others):
    """Equal groups of images, of which the tiles of `x` (4 times its bytes) fit."""
    most = max(1, _CACHE // (4 * x[0].nbytes))
    size = max(n for n in range(1, min(most, len(x)) + 1) if len(x) % n == 0)
    return [array.reshape(-1, size, *array.shape[1:]) for array in (x, *others)]


def _summed_over_parts(product, x, g):
    parts = _parted(x, g)

    def add(total, some):
        return total + product(*some), None

    start = jax.eval_shape(product, *(part[0] for part in parts))
    return jax.lax.scan(add, jnp.zeros(start.shape, start.dtype), parts)[0]


def _pixel_tiles(x):
    """What 2x2 outputs see, 4x4 pixels, transformed."""
    return _tiles(_of_pixels, jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 4)


def _tiles(transform, x, size):
    """Squares of `size` pixels, two apart, transformed, as `16 N*H/2*W/2 C`."""
    tiles = [
        both
        for row in transform(*_strides(x, size, axis=1))
        for both in transform(*_strides(row, size, axis=2))
    ]
    return jnp.stack(tiles).reshape(16, -1, x.shape[-1])


def _strides(x, count, axis):
    """Every second slice, from the first, the second and so on; equally many."""
    end = x.shape[axis] - count + 1
    return [jax.lax.slice_in_dim(x, i, i + end, 2, axis) for i in range(count)]
