"""What a CPU computes faster in another form; accelerators never see it.

`convolution` is for convolutions, `column_sums` for the sums of LQ-Net, `computed_once`
for what several kernels read. Each is the plain form for accelerators.

XLA's convolution on a CPU does not reach what the same CPU does in matrix products,
least of all in the gradient of a kernel. There, in float32, where sizes are even and
images many, a convolution 3x3 is computed by

    channels    stride 1                               stride 2
    64 and up   minimal filtering, both gradients too  patches for the kernel's gradient
    8 to 63     shifts for the kernel's gradient       the same
    8 to 16     pairs of outputs, and of pixels back

and at stride 2 the gradient of the images in phases, where there are up to 64 features.
The forms stand in `winograd` and `patches`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.runtime.patches import (
    correlate_patches,
    correlate_shifts,
    filter_pairs,
    filter_pairs_back,
    filter_phases_back,
)
from jsnnq.runtime.winograd import (
    correlate_tiles,
    filter_tiles,
    filter_tiles_back,
    form_of_gradients,
)


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


_NARROW = 2**15
"""Positions from which on forms for few channels are taken. Below, a convolution takes
about as long in any form, and the plain one compiles faster."""


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
        and min(inputs, features) >= 8
        # Tiles enough to pay for the transformed kernel.
        and count * height * width >= (1024 if _wide(kernel) else _NARROW)
    )


def _wide(kernel):
    return min(kernel.shape[2:]) >= 64


class _Forms(NamedTuple):
    """How a CPU computes a convolution and its gradients; None is the plain form."""

    result: Callable[[Array, Array], Array] | None
    images: Callable[[Array, Array], Array] | None
    kernel: Callable[[Array, Array], Array]


def _forms(x, kernel, stride):
    """The forms for shapes that a CPU `filters`."""
    if stride == 2:
        few = kernel.shape[-1] <= 64
        return _Forms(None, filter_phases_back if few else None, correlate_patches)
    if _wide(kernel):
        form = form_of_gradients(x, kernel)
        back = functools.partial(filter_tiles_back, form=form)
        return _Forms(filter_tiles, back, functools.partial(correlate_tiles, form=form))
    if max(kernel.shape[2:]) <= 16:
        return _Forms(filter_pairs, filter_pairs_back, correlate_shifts)
    return _Forms(None, None, correlate_shifts)


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
    on_cpu = _forms(x, kernel, stride).result
    if on_cpu is None:
        return usual(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=usual)


def _convolution_backward(stride, plain, residual, g):
    usual = functools.partial(plain, stride=stride)

    def on_cpu(x, kernel, g):
        forms = _forms(x, kernel, stride)
        back = forms.images or (
            lambda g, kernel: jax.vjp(lambda x: usual(x, kernel), x)[1](g)[0]
        )
        return back(g, kernel), forms.kernel(x, g)

    by_plain = lambda x, kernel, g: jax.vjp(usual, x, kernel)[1](g)
    return jax.lax.platform_dependent(*residual, g, cpu=on_cpu, default=by_plain)


convolution.defvjp(
    lambda x, kernel, *rest: (convolution(x, kernel, *rest), (x, kernel)),
    _convolution_backward,
)
