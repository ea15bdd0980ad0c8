"""Convolutions 3x3 of few channels, and gradients of kernels, as products of patches.

XLA's convolution on a CPU is as fast as its products from 32 outputs on; with fewer,
the parts of a vector stay empty. `filter_pairs` and `filter_phases_back` give it more:
neighbouring outputs become features of one, at the price of products with zeros.

Its gradient of a kernel reaches a fifth to a half of that. `correlate_shifts` (stride
1) and `correlate_patches` (stride 2) are matrix products, a few images at a time, so
that what they are made of stays in the cache. Sums are taken in another order, so
values agree with the plain convolution to rounding, and on small integers exactly.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_CACHE = 9 * 2**18
"""Bytes of pixel tiles or patches at a time. Of 1 to 64 images at 64, 128 and 256
channels, the fastest had 1 to 4 MiB, on cores with 1 MiB of L2 cache; tiles of F(4x4,
3x3), and patches at stride 2, have 9/4 of the bytes of their images."""


def patches(
    x: Float[Array, "N H W C"], size: int, stride: int
) -> Float[Array, "N P Q K"]:
    """What each output of a convolution sees, as `N P Q K*K*C`."""
    margin = (size - 1) // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = (1 + (n - 1) // stride for n in x.shape[1:3])
    seen = [
        padded[:, i : i + height * stride : stride, j : j + width * stride : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(seen, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    x: Float[Array, "N K"],
    kernel: Float[Array, "K O"],
    precision: jax.lax.Precision | None = None,
) -> Array:
    """`x @ kernel`, with the gradient of the kernel as `transposed_product`."""
    return jnp.matmul(x, kernel, precision=precision)


def _product_backward(precision, residual, g):
    x, kernel = residual
    of_x = jnp.matmul(g, kernel.T, precision=precision)
    return of_x, transposed_product(x, g, precision)


product.defvjp(
    lambda x, kernel, precision: (product(x, kernel, precision), (x, kernel)),
    _product_backward,
)


def transposed_product(
    x: Float[Array, "N K"],
    y: Float[Array, "N O"],
    precision: jax.lax.Precision | None = None,
) -> Float[Array, "K O"]:
    """x^T y for many rows.

    Into a tall matrix it takes XLA's CPU backend up to five times as long as into a
    wide one, and without the barrier it would write the second as the first.
    """
    if x.shape[1] <= y.shape[1]:
        return jnp.matmul(x.T, y, precision=precision)
    product = jnp.matmul(y.T, x, precision=precision)
    return jax.lax.optimization_barrier(product).T


def filter_pairs(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C O"]
) -> Float[Array, "N H W O"]:
    """`convolve` at stride 1, two outputs of a row at a time; W is even.

    Both see a window of 3x4 pixels: 12 products instead of 9 for each number of a
    pixel, for twice as many outputs.
    """
    places = [jnp.pad(kernel, ((0, 0), (j, 1 - j), (0, 0), (0, 0))) for j in (0, 1)]
    both = jnp.concatenate(places, axis=-1)
    return _correlated(x, both, (1, 2), ((1, 1), (1, 1))).reshape(*x.shape[:3], -1)


def filter_pairs_back(
    g: Float[Array, "N H W O"], kernel: Float[Array, "3 3 C O"]
) -> Float[Array, "N H W C"]:
    """Gradient of the images of `filter_pairs` where that of its result is `g`."""
    return filter_pairs(g, kernel[::-1, ::-1].swapaxes(2, 3))


def filter_phases_back(
    g: Float[Array, "N P Q O"], kernel: Float[Array, "3 3 C O"]
) -> Float[Array, "N H W C"]:
    """Gradient of images of even size at stride 2 where that of the result is `g`.

    Pixel 2p of a row was seen by output p alone, with the middle of the kernel, and
    pixel 2p + 1 by outputs p and p + 1, with its last and first number. So two pixels
    of a row are features of one output, and the even rows one image, the odd another.
    """

    def of_pixels(row):  # `3 O C` to `2 O 2*C`, for outputs p and p + 1.
        even = jnp.stack([row[1], jnp.zeros_like(row[1])])
        return jnp.concatenate([even, row[::-2]], axis=-1)

    first, middle, last = map(of_pixels, kernel.swapaxes(2, 3))
    even = _correlated(g, middle[None], (1, 1), ((0, 0), (0, 1)))
    odd = _correlated(g, jnp.stack([last, first]), (1, 1), ((0, 1), (0, 1)))
    count, height, width, _ = g.shape
    rows = jnp.stack([even, odd], axis=2)
    return rows.reshape(count, 2 * height, 2 * width, -1)


def _correlated(x, kernel, strides, margins):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, margins, dimension_numbers=dimensions
    )


def correlate_shifts(
    x: Float[Array, "N H W C"], g: Float[Array, "N H W O"]
) -> Float[Array, "3 3 C O"]:
    """Gradient of a kernel 3x3 at stride 1 where that of the result is `g`.

    One product, of pixels moved along their rows and of gradients moved along their
    columns: each holds its values three times, where patches held pixels nine times.
    """
    inputs, features = x.shape[-1], g.shape[-1]

    def product(x, g):
        wide = [_moved(x, by, axis=2) for by in (-1, 0, 1)]
        tall = [_moved(g, by, axis=1) for by in (1, 0, -1)]
        return transposed_product(_beside(wide), _beside(tall))

    growth = 3 * (1 + features / inputs)
    total = summed_over_parts(product, number_of_parts(x, growth), x, g)
    return total.reshape(3, inputs, 3, features).transpose(2, 0, 1, 3)


def _beside(parts):
    """Arrays `N H W C` as columns of one, of a row for each position."""
    return jax.lax.collapse(jnp.concatenate(parts, axis=-1), 0, 3)


def _moved(x, by, axis):
    """The value `by` places further along an axis, and zeros beyond its end."""
    margins = [(0, 0)] * x.ndim
    margins[axis] = (1, 1)
    start = 1 + by
    return jax.lax.slice_in_dim(
        jnp.pad(x, margins), start, start + x.shape[axis], axis=axis
    )


def correlate_patches(
    x: Float[Array, "N H W C"], g: Float[Array, "N P Q O"]
) -> Float[Array, "3 3 C O"]:
    """Gradient of a kernel 3x3 at stride 2 where that of the result is `g`."""

    def product(x, g):
        seen = jax.lax.collapse(patches(x, 3, 2), 0, 3)
        return transposed_product(seen, jax.lax.collapse(g, 0, 3))

    total = summed_over_parts(product, number_of_parts(x, 9 / 4), x, g)
    return total.reshape(3, 3, x.shape[-1], g.shape[-1])


def number_of_parts(x: Float[Array, "N H W C"], growth: float, least: int = 1) -> int:
    """Into how many equal parts images are cut, each as large as fits in the cache.

    Of the images `growth` times their bytes have to fit, but of `least` in any case.
    """
    fits = _CACHE / (growth * x.nbytes / len(x))
    divisors = [n for n in range(1, len(x) + 1) if len(x) % n == 0]
    enough = [n for n in divisors if n >= min(least, len(x))]
    return len(x) // max((n for n in enough if n <= fits), default=enough[0])


def summed_over_parts(
    product: Callable[[Array, Array], Array], count: int, x: Array, g: Array
) -> Array:
    """The sum of a product of images and gradients over parts of them."""

    def some(number):
        return product(*(part(y, number, count) for y in (x, g)))

    start = jax.eval_shape(some, 0)
    zeros = jnp.zeros(start.shape, start.dtype)
    add = lambda total, number: (total + some(number), None)
    return jax.lax.scan(add, zeros, jnp.arange(count))[0]


def part(x: Array, number: Array | int, count: int) -> Array:
    """One of `count` parts of images.

    XLA's CPU backend would compute images once more to have them parted by `reshape`.
    """
    size = len(x) // count
    return jax.lax.dynamic_slice_in_dim(x, number * size, size)
