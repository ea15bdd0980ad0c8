"""One batch shared out over several devices, with the numbers of one.

A batch is cut into equal parts, each device runs the network on its own, and what
belongs to the whole batch (the mean of a normalisation, the statistics of a learned
quantizer, loss and gradient) is combined by a collective. Code says what it needs in
terms of the batch (`mean`, `total`, `largest`, `gathered`, `own`), and on one device
each of these is the identity. Weights are the same on every device: what is
taken from them is taken inside `whole`, and combines nothing.

Results differ from those of one device by rounding only, since sums are taken in
another order. On a CPU devices are threads, and worth having: XLA cuts every operation
into parts for all cores and waits behind each; two devices need not.
"""

import contextlib
import contextvars
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jsnnq.errors import InputError, check_compiler

# Everything that trains, evaluates or quantizes comes past here.
check_compiler()

AXIS = "batch"

Devices = Sequence[Any]
"""What `jax.devices()` returns."""

PATIENCE = 3600
"""Seconds for which a device of a CPU waits for another before XLA ends the process."""

_TERMINATES = "xla_cpu_collective_call_terminate_timeout_seconds"
_IS_WHOLE: contextvars.ContextVar[bool] = contextvars.ContextVar("whole", default=False)


def threads(count: int) -> None:
    """Makes so many devices of a CPU, before JAX is used for the first time.

    XLA takes a device for dead for which others wait 40 s, and ends the process. On a
    machine that is busy with other things, or in a process that was suspended, it is
    not dead: here it has an hour, unless `XLA_FLAGS` says otherwise.

    Raises:
        RuntimeError: JAX was used before.
    """
    # XLA's pools have a thread for each device, or for each core if those are more. A
    # device that waits for others holds one at most, so the last has one to compute on.
    # Eight for two devices on two cores make a step of SEW-ResNet18 take 1.4 times as
    # long, because small products are cut into more parts.
    jax.config.update("jax_num_cpu_devices", count)
    flags = os.environ.get("XLA_FLAGS", "")
    if count > 1 and _TERMINATES not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_TERMINATES}={PATIENCE}".strip()


def chosen(wanted: int | None) -> Devices:
    """So many devices; by default all there are, but of a CPU one.

    There sharing changes the order of sums, and the cores may be those of several
    people.

    Raises:
        InputError: there are not so many.
    """
    with contextlib.suppress(RuntimeError):  # JAX was in use before.
        threads(max(1, wanted or 1))
    found = jax.devices()
    if wanted is None:
        wanted = 1 if jax.default_backend() == "cpu" else len(found)
    if not 1 <= wanted <= len(found):
        raise InputError(
            f"devices is {wanted}: there are {len(found)} here, of which at least one "
            "is needed"
        )
    return found[:wanted]


def mesh(devices: Devices, batch: int) -> Mesh | None:
    """As many devices as can share a batch equally; None if that is one or none."""
    counts = (n for n in range(1, len(devices) + 1) if batch % n == 0)
    most = max(counts, default=1)
    return Mesh(np.array(devices[:most]), (AXIS,)) if most > 1 else None


def spread(
    function: Callable[[Any, Any], Any], mesh: Mesh | None
) -> Callable[[Any, Any], Any]:
    """A function of a whole batch, run on each device with its part of it.

    Args:
        function: of `(same, parts)`: arrays that every device has, and arrays whose
            first axis is the batch. What it returns must be the same on every device.
        mesh: from `mesh`; None leaves the function as it is.
    """
    if mesh is None:
        return function
    same, part = PartitionSpec(), PartitionSpec(AXIS)
    # Types that tell equal from different values have changed their interface with
    # every minor release of JAX, and are not used here.
    return jax.shard_map(
        function, mesh=mesh, in_specs=(same, part), out_specs=same, check_vma=False
    )


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays brought to every device of a mesh."""
    return tree if mesh is None else jax.device_put(tree, placement(mesh))


def placement(mesh: Mesh | None) -> NamedSharding | None:
    """Where `everywhere` brings arrays; None leaves it to JAX."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def shared(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays of a batch, of which every device gets its part.

    On an accelerator this returns while they are still under way.
    """
    return jax.device_put(tree, cut(mesh))


def cut(mesh: Mesh | None) -> NamedSharding | None:
    """Where `shared` brings arrays; None leaves it to JAX."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(AXIS))


def home(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays that every device has, on the first one only."""
    return tree if mesh is None else jax.device_put(tree, mesh.devices.flat[0])


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Inside, values are no part of anything: every device has the same ones."""
    token = _IS_WHOLE.set(True)
    try:
        yield
    finally:
        _IS_WHOLE.reset(token)


def mean(tree: Any) -> Any:
    """The mean over all parts of the batch."""
    if not (axes := _axes()):
        return tree
    # As one array: a step of a small network would spend more time on waiting for each
    # of a hundred than on anything else.
    flat, rebuild = ravel_pytree(tree)
    return rebuild(jax.lax.pmean(flat, axes))


def total(tree: Any) -> Any:
    """The sum over all parts of the batch."""
    return jax.lax.psum(tree, axes) if (axes := _axes()) else tree


def largest(x: Array) -> Array:
    """The maximum over all parts of the batch."""
    return jax.lax.pmax(x, axes) if (axes := _axes()) else x


def gathered(x: Array) -> Array:
    """All parts of the batch, along the first axis."""
    return jax.lax.all_gather(x, axes, tiled=True) if (axes := _axes()) else x


def own(x: Array) -> Array:
    """This device's part, along the first axis, of an array for the whole batch."""
    if not (axes := _axes()):
        return x
    size = x.shape[0] // parts()
    first = jax.lax.axis_index(axes) * size
    return jax.lax.dynamic_slice_in_dim(x, first, size)


def parts() -> int:
    """Into how many parts the batch is cut."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in _axes())


def _axes() -> tuple[str, ...]:
    """The axes of the mesh along which the values at hand are different."""
    if _IS_WHOLE.get():
        return ()
    axes = jax.sharding.get_abstract_mesh().manual_axes
    return tuple(axis for axis in axes if axis == AXIS)
