"""What a CPU computes faster in another form; accelerators never see it.

`convolution` and `product` are for convolutions, `column_sums` for the sums of LQ-Net,
`computed_once` for what several kernels read. Each is the plain form for accelerators.

XLA's convolution on a CPU does not reach what the same CPU does in matrix products,
least of all in the gradient of a kernel (20 to 75 of 105 GFLOP/s a thread). There, in
float32 and from 64 channels,

    3x3 at stride 1    is Winograd's minimal filtering F(2x2, 3x3): 16 products instead
                       of 36 for 4 outputs. Both gradients are those of F(4x4, 3x3),
                       36 products instead of 144 for 16 outputs, where such tiles fit
                       and are many, and else of F(2x2, 3x3)
    3x3 at stride 2    is the plain one; the gradient of the kernel is a product of
                       patches

where sizes are even, a few images at a time, so that their tiles or patches stay in the
cache. Values agree with the plain convolution to rounding, and exactly where pixels and
kernel are small integers, as in a binary network: the transforms of F(2x2, 3x3) only
add and halve. Gradients by F(4x4, 3x3) are off by 1.0 to 1.5e-6 (root mean square
beside that of the gradient, normal data), those of the plain convolution by 0.2e-6. A
whole channel or image without a gradient stays without; single pixels and numbers of a
kernel may get that little from their neighbours.

Source: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (arXiv
1509.09308), section 4; the gradient of a kernel is the transposed form, summed over
tiles (section 4.2: F(3x3, 2x2)). The matrices stand in `winograd`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.runtime.winograd import F2, F4, Form, transposed

_CACHE = 9 * 2**18
"""Bytes of pixel tiles or patches at a time. Of 1 to 64 images at 64, 128 and 256
channels, the fastest had 1 to 4 MiB, on cores with 1 MiB of L2 cache; tiles of F(4x4,
3x3), and patches at stride 2, have 9/4 of the bytes of their images."""

_ROWS = 128
"""Rows of a product that are enough for its full speed, whatever the cache: with 16 to
64 tiles of 256 channels at a time a gradient took 1.2 to 1.6 times as long."""


def computed_once(x: Any) -> Any:
    """What several kernels read, an array or a tree of them.

    XLA's CPU backend would compute it for every shape they read it in, which runs the
    neurons of a layer backwards twice. Accelerators are left to their own fusion.
    """
    hold = jax.lax.optimization_barrier
    return jax.lax.platform_dependent(x, cpu=hold, default=lambda x: x)


def held_together(*values: Any) -> Any:
    """Values that an accelerator has all before it goes on with one of them."""
    hold = lambda *values: jax.lax.optimization_barrier(values)
    return jax.lax.platform_dependent(*values, cpu=lambda *values: values, default=hold)


_AT_ONCE = 2**14
"""Values of a block in `_in_blocks`, whose sums stay in the cache."""


def column_sums(
    terms: Callable[..., Sequence[Array]],
    parts: Sequence[tuple[Array, ...]],
    groups: int,
) -> Float[Array, "S G"]:
    """The sum over all rows of each array `N G` that `terms` makes of arrays.

    Args:
        terms: what is added up, number by number, of one part.
        parts: each some arrays of one shape: rows `N G`, or any where G is 1.
        groups: G.
    """

    def blocks(parts):
        rows = [
            [x.reshape(-1, groups) for x in same] for same in zip(*parts, strict=True)
        ]
        return _in_blocks(terms, *map(jnp.concatenate, rows))

    each = functools.partial(_each, terms, groups=groups)
    return jax.lax.platform_dependent(tuple(parts), cpu=blocks, default=each)


def _each(terms, parts, *, groups):
    # Accelerators would write whole terms to memory to have them in one array.
    found = zip(*(terms(*arrays) for arrays in parts), strict=True)
    added = [functools.reduce(jnp.add, same) for same in found]
    rows = added[0].ndim - (groups > 1)
    sums = [x.sum(axis=tuple(range(rows))) for x in added]
    return jnp.stack(sums).reshape(len(sums), groups)


def _at_once(terms, *arrays):
    return jnp.stack(terms(*arrays)).sum(axis=1)


def _in_blocks(terms, *arrays):
    """The same where XLA would read the arrays once for every sum.

    Block after block of rows is added to as many running sums as a block has values,
    all in one pass; they are nearer to the truth than one sum after the other, too.
    """
    rows, groups = arrays[0].shape
    if not isinstance(rows, int):
        return _at_once(terms, *arrays)  # A symbol (`jax.export`) has no divisors.
    most = max(1, _AT_ONCE // groups)
    block = max(n for n in range(1, min(rows, most) + 1) if rows % n == 0)
    if block == rows:
        return _at_once(terms, *arrays)
    # Whatever comes before is computed in this shape, and is slow where it has to find
    # out which channel a value belongs to, or runs along an axis of one.
    shape = (block, groups) if groups > 1 else (block,)
    blocks = [x.reshape(-1, *shape) for x in arrays]

    def add(sums, block):
        return [a + b for a, b in zip(sums, terms(*block), strict=True)], None

    first = [jnp.zeros_like(x) for x in terms(*(x[0] for x in blocks))]
    sums, _ = jax.lax.scan(add, first, blocks)
    return jnp.stack(sums).reshape(len(sums), block, groups).sum(axis=1)


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
    """`x @ kernel`, with the gradient of the kernel as `_transposed_product`."""
    return jnp.matmul(x, kernel, precision=precision)


def _product_backward(precision, residual, g):
    x, kernel = residual
    of_x = jnp.matmul(g, kernel.T, precision=precision)
    return of_x, _transposed_product(x, g, precision)


product.defvjp(
    lambda x, kernel, precision: (product(x, kernel, precision), (x, kernel)),
    _product_backward,
)


def _transposed_product(x, y, precision=None):
    """x^T y for many rows.

    Into a tall matrix it takes XLA's CPU backend up to five times as long as into a
    wide one, and without the barrier it would write the second as the first.
    """
    if x.shape[1] <= y.shape[1]:
        return jnp.matmul(x.T, y, precision=precision)
    product = jnp.matmul(y.T, x, precision=precision)
    return jax.lax.optimization_barrier(product).T


def filters(x: Array, kernel: Array, stride: int) -> bool:
    """Whether `convolution` has a form of its own for these shapes."""
    count, height, width, _ = x.shape
    size, _, inputs, features = kernel.shape
    return (
        # Of a batch whose size is a symbol (`jax.export`) no part can be cut.
        isinstance(count, int)
        and x.dtype == jnp.float32
        and size == 3
        and stride in (1, 2)
        and height % 2 == width % 2 == 0
        and min(inputs, features) >= 64
        # Tiles enough to pay for the transformed kernel.
        and count * height * width // 4 >= 256
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "3 3 C O"],
    stride: int,
    plain: Callable[..., Array],
) -> Float[Array, "N P Q O"]:
    """`plain` on accelerators, and here what it computes in another form.

    Args:
        x: images that a CPU `filters`.
        kernel: of the same dtype.
        stride: 1 or 2.
        plain: the convolution of images, kernel and stride.
    """
    usual = functools.partial(plain, stride=stride)
    if stride == 2:
        return usual(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=filter_tiles, default=usual)


def _convolution_backward(stride, plain, residual, g):
    usual = functools.partial(plain, stride=stride)

    def by_tiles(x, kernel, g):
        form = _form_of_gradients(x, kernel)
        return filter_tiles_back(g, kernel, form), correlate_tiles(x, g, form)

    def by_patches(x, kernel, g):
        of_x = jax.vjp(lambda x: usual(x, kernel), x)[1](g)[0]
        return of_x, correlate_patches(x, g)

    on_cpu = by_tiles if stride == 1 else by_patches
    by_plain = lambda x, kernel, g: jax.vjp(usual, x, kernel)[1](g)
    return jax.lax.platform_dependent(*residual, g, cpu=on_cpu, default=by_plain)


convolution.defvjp(
    lambda x, kernel, *rest: (convolution(x, kernel, *rest), (x, kernel)),
    _convolution_backward,
)


def correlate_patches(
    x: Float[Array, "N H W C"], g: Float[Array, "N P Q O"]
) -> Float[Array, "3 3 C O"]:
    """Gradient of a kernel 3x3 at stride 2 where that of the result is `g`."""

    def product(x, g):
        seen = jax.lax.collapse(patches(x, 3, 2), 0, 3)
        return _transposed_product(seen, jax.lax.collapse(g, 0, 3))

    total = _summed_over_parts(product, _parts(x, 9 / 4), x, g)
    return total.reshape(3, 3, x.shape[-1], g.shape[-1])


def _form_of_gradients(x, kernel):
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

    def some(x):
        m = _held(_products(_pixel_tiles(x, form), kernels, (2, axis)))
        m = m.reshape(size, size, len(x), height // step, width // step, -1)
        # The rows of a tile come to stand behind the row of tiles they belong to, and
        # its columns likewise: so the images come out as they lie.
        rows = _combined(form.outputs, m, axis=0, to=3)
        y = _combined(form.outputs, _held(rows), axis=0, to=4)
        return y.reshape(len(x), height, width, -1)

    parts = x.reshape(_tile_parts(x, form), -1, *x.shape[1:])
    return jax.lax.map(some, parts).reshape(*x.shape[:3], -1)


def correlate_tiles(
    x: Float[Array, "N H W C"], g: Float[Array, "N H W O"], form: Form
) -> Float[Array, "3 3 C O"]:
    """Gradient of the kernel of `filter_tiles` where that of its result is `g`."""
    step, size = form.step, form.step + 2

    def product(x, g):
        outputs = _tiles(transposed(form.outputs), g, step, step)
        return _products(_pixel_tiles(x, form), outputs, (1, 1))

    total = _summed_over_parts(product, _tile_parts(x, form), x, g)
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
    return _parts(x, ((form.step + 2) / form.step) ** 2, -(-_ROWS // tiles))


def _parts(x, growth, least=1):
    """Into how many equal parts images are cut, each as large as fits in the cache.

    Of the images `growth` times their bytes have to fit, but of `least` in any case.
    """
    fits = _CACHE / (growth * x.nbytes / len(x))
    divisors = [n for n in range(1, len(x) + 1) if len(x) % n == 0]
    enough = [n for n in divisors if n >= min(least, len(x))]
    return len(x) // max((n for n in enough if n <= fits), default=enough[0])


def _summed_over_parts(product, count, x, g):
    parts = [images.reshape(count, -1, *images.shape[1:]) for images in (x, g)]

    def add(total, some):
        return total + product(*some), None

    start = jax.eval_shape(product, *(part[0] for part in parts))
    return jax.lax.scan(add, jnp.zeros(start.shape, start.dtype), parts)[0]


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
