"""Convolutions 3x3 at stride 1 by minimal filtering, a few images at a time.

Forward by F(2x2, 3x3): 16 products instead of 36 for 4 outputs. Both gradients by
F(4x4, 3x3), 36 products instead of 144 for 16 outputs, where such tiles fit and are
many, and else by F(2x2, 3x3).

Values agree with the plain convolution to rounding, and exactly where pixels and kernel
are small integers, as in a binary network: the transforms of F(2x2, 3x3) only add and
halve. Gradients by F(4x4, 3x3) are off by 1.0 to 1.5e-6 (root mean square beside that
of the gradient, normal data), those of the plain convolution by 0.2e-6. A whole channel
or image without a gradient stays without; single pixels and numbers of a kernel may get
that little from their neighbours.

Sources: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (arXiv
1509.09308), sections 4.1 for F(2x2, 3x3) and 4.3 for F(4x4, 3x3); the gradient of a
kernel is the transposed form, summed over tiles (section 4.2: F(3x3, 2x2)). Barabasz et
al., *Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks* (arXiv 1803.10986), for how much the points of F(4x4, 3x3) matter.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.polynomial.polynomial import polyfromroots

from jsnnq.runtime.patches import number_of_parts, part, summed_over_parts

Matrix = Sequence[Sequence[float]]


class Form(NamedTuple):
    """Minimal filtering F(m, 3) along one axis: m outputs of m + 2 pixels.

    outputs = A^T ((G kernel) * (B^T pixels)), in the names of Lavin and Gray.

    Attributes:
        pixels: B^T, of m + 2 rows.
        kernel: G, of m + 2 rows for the 3 numbers of a kernel.
        outputs: A^T, of m rows.
    """

    pixels: Matrix
    kernel: Matrix
    outputs: Matrix

    @property
    def step(self) -> int:
        """m, the pixels from one tile to the next."""
        return len(self.outputs)


def transposed(matrix: Matrix) -> Matrix:
    """Its columns as rows."""
    return tuple(zip(*matrix, strict=True))


F2 = Form(
    pixels=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    outputs=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""F(2, 3) as in Lavin and Gray, section 4.1: exact on small integers."""


def _form_of_points(*points: float) -> Form:
    """F(m, 3) by Toom and Cook, from values at m + 1 points and at infinity.

    A row of B^T holds the coefficients of the product of x - point over all points but
    its own, that of G the powers of its point over the value of that product there. At
    infinity stand the product over all points, and the last number of the kernel.
    """
    pixels, kernel, outputs = [], [], []
    for p in points:
        others = [q for q in points if q != p]
        value = math.prod(p - q for q in others)
        pixels.append([*polyfromroots(others).tolist(), 0])
        kernel.append([1 / value, p / value, p * p / value])
        outputs.append([p**power for power in range(len(others))])
    at_infinity = [0] * (len(points) - 2)
    return Form(
        pixels=[*pixels, polyfromroots(points).tolist()],
        kernel=[*kernel, [0, 0, 1]],
        outputs=transposed([*outputs, [*at_infinity, 1]]),
    )


F4 = _form_of_points(0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
"""F(4, 3). Of fourteen pairs of points between 1/2 and 2 these came nearest to double
precision: the largest error is a fourth of that with Lavin and Gray's 1 and 2."""

_ROWS = 128
"""Rows of a product that are enough for its full speed, whatever the cache: with 16 to
64 tiles of 256 channels at a time a gradient took 1.2 to 1.6 times as long."""


def form_of_gradients(x: Array, kernel: Array) -> Form:
    """F(4x4, 3x3) where such tiles fit and are many, and else F(2x2, 3x3)."""
    count, height, width, _ = x.shape
    tiles = count * height * width // 16
    # The transformed kernel has 36 numbers for 9, and has to be worth it.
    large = height % 4 == width % 4 == 0 and tiles >= max(kernel.shape[2:])
    return F4 if large else F2


def filter_tiles(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C O"], form: Form = F2
) -> Float[Array, "N H W O"]:
    """`convolve` at stride 1 by minimal filtering; sizes are multiples of its step."""
    return _filtered(x, kernel, form, axis=1)


def filter_tiles_back(
    g: Float[Array, "N H W O"], kernel: Float[Array, "3 3 C O"], form: Form
) -> Float[Array, "N H W C"]:
    """Gradient of the images of `filter_tiles` where that of its result is `g`."""
    return _filtered(g, kernel[::-1, ::-1], form, axis=2)


def _filtered(x, kernel, form, axis):
    """Images filtered by a kernel of which `axis` is summed over."""
    _, height, width, _ = x.shape
    step, size = form.step, form.step + 2
    # The other two axes of the kernel stay as they lie: at 512 channels and 4x4 pixels,
    # exchanging them for a gradient took longer than the products.
    kernels = _held(_transformed(form.kernel, kernel))
    count = _tile_parts(x, form)

    def some(number):
        images = part(x, number, count)
        m = _held(_products(_pixel_tiles(images, form), kernels, (2, axis)))
        m = m.reshape(size, size, len(images), height // step, width // step, -1)
        # The rows of a tile come to stand behind the row of tiles they belong to, and
        # its columns likewise: so the images come out as they lie.
        rows = _combined(form.outputs, m, axis=0, to=3)
        y = _combined(form.outputs, _held(rows), axis=0, to=4)
        return y.reshape(len(images), height, width, -1)

    return jax.lax.map(some, jnp.arange(count)).reshape(*x.shape[:3], -1)


def correlate_tiles(
    x: Float[Array, "N H W C"], g: Float[Array, "N H W O"], form: Form
) -> Float[Array, "3 3 C O"]:
    """Gradient of the kernel of `filter_tiles` where that of its result is `g`."""
    step, size = form.step, form.step + 2

    def product(x, g):
        outputs = _tiles(transposed(form.outputs), g, step, step)
        return _products(_pixel_tiles(x, form), outputs, (1, 1))

    total = summed_over_parts(product, _tile_parts(x, form), x, g)
    total = total.reshape(size, size, *total.shape[1:])
    total = _transformed(transposed(form.kernel), total)
    return total.reshape(3, 3, *total.shape[1:])


def _products(a, b, axes):
    """One product for each number of the first axis, summed over one axis of each."""
    return jax.lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((0,), (0,))))


def _tile_parts(x, form):
    """Into how many parts images are cut for their tiles."""
    _, height, width, _ = x.shape
    tiles = height * width // form.step**2
    return number_of_parts(x, ((form.step + 2) / form.step) ** 2, -(-_ROWS // tiles))


def _pixel_tiles(x, form):
    """What the outputs of a tile see, transformed."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _tiles(form.pixels, padded, form.step + 2, form.step)


def _tiles(matrix, x, size, step):
    """Squares of `size` pixels, `step` apart, transformed: `M*M tiles C`."""

    def strided(x, axis):
        # Every `step`-th slice, from the first of `size`, the second, and so on.
        end = x.shape[axis] - size + 1
        return [jax.lax.slice_in_dim(x, i, i + end, step, axis) for i in range(size)]

    rows = _held(jnp.stack(_sums(matrix, strided(x, axis=1))))
    tiles = jnp.stack(_sums(matrix, strided(rows, axis=3)), axis=1)
    return _held(tiles.reshape(len(matrix) ** 2, -1, x.shape[-1]))


def _transformed(matrix, squares):
    """A matrix applied along both of the first axes, which become one."""
    rows = _held(_combined(matrix, squares, axis=0, to=0))
    both = _combined(matrix, rows, axis=1, to=1)
    return both.reshape(-1, *both.shape[2:])


def _combined(matrix, x, axis, to):
    """A matrix applied along an axis, which then stands in another place."""
    take = functools.partial(jax.lax.index_in_dim, axis=axis, keepdims=False)
    taken = [take(x, i) for i in range(len(matrix[0]))]
    return jnp.stack(_sums(matrix, taken), axis=to)


def _sums(matrix, slices):
    """Sums of slices, one for each row of a matrix, whose zeros cost nothing."""

    def times(number, one):
        if number in (1, -1):
            return one if number == 1 else -one
        return one * number

    return [
        functools.reduce(
            jnp.add, (times(n, one) for n, one in zip(row, slices, strict=True) if n)
        )
        for row in matrix
    ]


# Where transforms and products end. Otherwise each of the 36 numbers of a tile would be
# computed from its pixels by code of its own, which takes longer to compile and no less
# to run.
_held = jax.lax.optimization_barrier
