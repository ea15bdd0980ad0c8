"""Training: a pure step over an immutable state, and the loop around it.

The step is a function of (program, state, data, key) and nothing else: which images
belong to it and how they are shifted follows from the key and the step's number, so
a run continues from a checkpoint without any iterator's state. Quantizers that learn
keep their memory in the state too (`quant`); no method has a branch here.

On an accelerator a whole epoch is one jitted scan with donated buffers. On a CPU XLA
runs a convolution inside any loop 10 to 20 times slower, so there the same step is
dispatched from Python.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Bool, Int, UInt8

from jsnnq import batching, data, losses, parallel, records
from jsnnq.monitor import Monitor
from jsnnq.records import Records
from jsnnq.resnet import ResidualNetwork


class TrainState(NamedTuple):
    """Everything a run remembers.

    Attributes:
        step: how many steps have been made.
        params: parameters.
        batch_stats: running statistics of the normalisation.
        quant: states of the quantizers.
        opt_state: the optimizer's.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    quant: Any
    opt_state: Any

    def variables(self) -> dict[str, Any]:
        """What `network.apply` takes."""
        return {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "quant": self.quant,
        }


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides the compiled step; equal programs share one compilation.

    Attributes:
        network: the network.
        optimizer: an optax transformation; equal only if it is the same object.
        batch: images per step.
        mean: subtracted from scaled pixels, per channel.
        std: divides them, per channel.
        scale: the largest pixel value.
        pad: largest random shift in pixels.
        flip: whether images are mirrored at random.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.
    """

    network: ResidualNetwork
    optimizer: optax.GradientTransformation
    batch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    pad: int = 0
    flip: bool = False
    mesh: Mesh | None = None


class Diverged(RuntimeError):
    """A loss or gradient was not finite.

    Attributes:
        step: the step at which it happened, counted from 0.
        last_good: the state before that step, all finite.
    """

    def __init__(self, message: str, step: int, last_good: TrainState):
        super().__init__(message)
        self.step = step
        self.last_good = last_good


def start(program: Program, variables: dict[str, Any]) -> TrainState:
    """The state before the first step."""
    params = variables["params"]
    begin: Any = _opt_state
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables["batch_stats"],
        quant=variables.get("quant", {}),
        opt_state=begin(program.optimizer, params),
    )


@functools.partial(jax.jit, static_argnums=0)
def _opt_state(optimizer, params):
    # Compiled as one: by itself every shape of zeros would be a compilation.
    return optimizer.init(params)


def loss_and_changes(
    program: Program, state: TrainState, params: Any, images: Array, labels: Array
) -> tuple[Array, tuple[Array, dict[str, Any]]]:
    """Mean cross-entropy in nats, with the accuracy and the changed collections."""
    inputs = batching.normalise(images, program.mean, program.std, program.scale)
    found: Any = program.network.apply(
        {**state.variables(), "params": params},
        inputs,
        True,
        mutable=["batch_stats", "quant"],
    )
    (logits, _), changed = found
    logits = losses.readout(logits)
    loss = jnp.mean(losses.cross_entropy(logits, labels))
    accuracy = jnp.mean(losses.correct(logits, labels).astype(jnp.float32))
    return loss, (accuracy, changed)


def update(
    program: Program,
    state: TrainState,
    images: UInt8[Array, "B H W C"],
    labels: Int[Array, "B"],
    key: jax.Array,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on the given images.

    Args:
        program: what is trained, and how.
        state: before the step.
        images: as stored, not augmented.
        labels: their classes.
        key: of this step; shifts and flips are drawn from it.

    Returns:
        The state after the step; `loss`, `accuracy`, and `finite` (see `is_sound`).
    """
    images = batching.augment(key, images, pad=program.pad, flip=program.flip)
    advance = parallel.spread(functools.partial(_advance, program), program.mesh)
    return advance(state, (images, labels))


def _advance(
    program: Program, state: TrainState, batch: tuple[Array, Array]
) -> tuple[TrainState, dict[str, Array]]:
    """The step itself, on this device's part of the batch."""
    differentiate = jax.value_and_grad(
        functools.partial(loss_and_changes, program, state), has_aux=True
    )
    (loss, (accuracy, changed)), gradients = differentiate(state.params, *batch)
    loss, accuracy, gradients = parallel.mean((loss, accuracy, gradients))
    updates, opt_state = program.optimizer.update(
        gradients, state.opt_state, state.params
    )
    new = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=changed["batch_stats"],
        quant=changed.get("quant", state.quant),
        opt_state=opt_state,
    )
    return new, {"loss": loss, "accuracy": accuracy, "finite": is_sound(loss, new)}


def is_sound(loss: Array, state: TrainState) -> Bool[Array, ""]:
    """Whether a step left only numbers behind that training can go on with.

    The state is looked at and not the loss alone: an overflowing update shows in the
    loss one step later, and an infinite running variance never, because it divides.
    Infinity is allowed in `quant`, where it is the clip of a quantizer without one.
    """
    # As one array: looking at each of a hundred would be a hundred kernels.
    finite = jnp.all(jnp.isfinite(ravel_pytree((loss, state[1:3]))[0]))
    learned = [x for x in jax.tree.leaves(state.quant) if x.dtype == jnp.float32]
    return finite & ~jnp.any(jnp.isnan(ravel_pytree(learned)[0]))


class Keys(NamedTuple):
    """The streams of random numbers of a run, all from its seed."""

    init: jax.Array
    order: jax.Array
    augment: jax.Array


def keys(seed: int) -> Keys:
    """One stream for each use, so that none shifts another."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def step(
    program: Program,
    state: TrainState,
    images: UInt8[Array, "N H W C"],
    labels: Int[Array, "N"],
    order: Int[Array, "N"],
    key: jax.Array,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on the images that belong to it.

    Args:
        program: what is trained, and how.
        state: before the step.
        images: the whole training split.
        labels: its classes.
        order: the permutation of this epoch, from `batching.epoch_order`.
        key: the run's augmentation stream.
    """
    steps_per_epoch = len(images) // program.batch
    batch = batching.take(
        images, labels, order, state.step % steps_per_epoch, program.batch
    )
    return update(program, state, *batch, jax.random.fold_in(key, state.step))


def epoch(
    program: Program,
    state: TrainState,
    images: UInt8[Array, "N H W C"],
    labels: Int[Array, "N"],
    order: Int[Array, "N"],
    key: jax.Array,
    length: int | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """The next steps of an epoch as one scan; by default as many as an epoch has."""

    def body(state, _):
        return step(program, state, images, labels, order, key)

    steps = len(images) // program.batch if length is None else length
    return jax.lax.scan(body, state, length=steps)


class Jitted(NamedTuple):
    """The functions of a program, compiled when they are first called."""

    update: Any
    step: Any
    epoch: Any


_JITTED: dict[Program, Jitted] = {}


def jitted(program: Program) -> Jitted:
    """`update`, `step` and `epoch` of a program; equal programs get the same ones."""
    if program not in _JITTED:
        bound = [functools.partial(f, program) for f in (update, step, epoch)]
        _JITTED[program] = Jitted(
            jax.jit(bound[0]),
            jax.jit(bound[1]),
            jax.jit(bound[2], static_argnames="length", donate_argnums=0),
        )
    return _JITTED[program]


def forget(program: Program) -> None:
    """Drops what was compiled for a program, which may be a few hundred MB."""
    _JITTED.pop(program, None)


def compile_ahead(
    program: Program, state: TrainState, split: data.Split | Records
) -> None:
    """Compiles what `fit` will call step by step, so that it finds it done.

    Args:
        program: what will be trained.
        state: shapes and dtypes are enough.
        split: the training images.
    """
    if isinstance(split, Records) or jax.default_backend() != "cpu":
        return  # Batches from the host and whole epochs are compiled when they come.
    whole = parallel.placement(program.mesh)
    like = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    state = jax.tree.map(functools.partial(like, where=whole), state)
    key = like(jax.eval_shape(lambda: keys(0).augment), None)
    size = len(split)
    arrays = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=whole)
        for shape, dtype in (
            (split.images.shape, split.images.dtype),
            ((size,), jnp.int32),
            ((size,), jnp.int32),
        )
    ]
    jitted(program).step.lower(state, *arrays, key).compile()


def fit(
    program: Program,
    state: TrainState,
    split: data.Split | Records,
    *,
    seed: int,
    epochs: int,
    monitor: Monitor | None = None,
    on_epoch: Callable[[TrainState], None] = lambda state: None,
    look: Callable[[TrainState], None] | None = None,
    looks: int = 1,
    enough: Callable[[], bool] = lambda: False,
    scan: bool | None = None,
) -> TrainState:
    """Trains until `epochs` epochs are done, from wherever `state` stands.

    Args:
        program: what is trained, and how.
        state: from `start` or a checkpoint.
        split: the training images.
        seed: decides order and augmentation.
        epochs: total, including those behind `state`.
        monitor: is told of every step.
        on_epoch: called with the state after each epoch.
        look: called with the state before the first step, then `looks` times in
            every epoch, the last time at its end.
        looks: at least 1.
        enough: asked after every step (every scan where an epoch is one); once it
            says so training stops, and the state says where.
        scan: whether an epoch is one scan; by default only on accelerators. Sets
            that do not fit on the device are always dispatched step by step.

    Raises:
        InputError: the batch is larger than the data.
        Diverged: a loss or a gradient was not finite.
    """
    monitor = monitor or Monitor(quiet=True)
    steps_per_epoch = batching.steps_per_epoch(len(split), program.batch)
    if scan is None:
        scan = jax.default_backend() != "cpu"
    first = int(state.step)
    monitor.begin(first, epochs * steps_per_epoch, steps_per_epoch, program.batch)
    if isinstance(split, Records):
        run = functools.partial(_streamed_steps, program, split, seed)
    elif scan:
        run = functools.partial(_scanned_steps, program, *_on_devices(program, split))
    else:
        run = functools.partial(
            _dispatched_steps, program, *_on_devices(program, split)
        )
    stretch = steps_per_epoch if look is None else -(-steps_per_epoch // looks)
    home = functools.partial(parallel.home, mesh=program.mesh)
    if look is not None and first == 0:
        look(state)
    state = parallel.everywhere(state, program.mesh)
    while (done := int(state.step)) < epochs * steps_per_epoch:
        number, inside = divmod(done, steps_per_epoch)
        order = batching.epoch_order(keys(seed).order, number, len(split))
        order = parallel.everywhere(order, program.mesh)
        # Up to the next look or the end of the epoch, whichever comes first.
        length = min(stretch - inside % stretch, steps_per_epoch - inside)
        state = run(state, order, keys(seed).augment, monitor.step, length, enough)
        if int(state.step) == done + length:
            if look is not None:
                look(home(state))
            if inside + length == steps_per_epoch:
                on_epoch(home(state))
        if enough():
            break
    return home(state)


def _on_devices(program, split):
    arrays = jnp.asarray(split.images), jnp.asarray(split.labels)
    return parallel.everywhere(arrays, program.mesh)


Report = Callable[[int, float, float], None]


def _dispatched_steps(
    program, images, labels, state, order, key, report: Report, length, enough
):
    """Step by step; the numbers of a step are fetched while the next one runs."""
    steps_per_epoch = len(images) // program.batch

    def advance(state):
        return jitted(program).step(state, images, labels, order, key)

    def batch_of(state):
        index = int(state.step) % steps_per_epoch
        return batching.take(images, labels, order, index, program.batch)

    steps = [advance] * length
    return _supervised(program, state, steps, batch_of, key, report, enough)


def _streamed_steps(
    program, split, seed, state, order, key, report: Report, length, enough
):
    """Step by step, on batches read and decoded on the host ahead of time."""
    steps_per_epoch = len(split) // program.batch
    number, done = divmod(int(state.step), steps_per_epoch)
    rest = np.asarray(order)[done * program.batch : (done + length) * program.batch]
    batches = records.batches(split, rest, program.batch, seed=(seed, number))
    recent: dict[int, Any] = {}

    def advances() -> Iterator[Callable]:
        for step_number, batch in enumerate(batches, start=int(state.step)):
            recent[step_number] = batch
            recent.pop(step_number - 2, None)
            step_key = jax.random.fold_in(key, step_number)
            yield lambda state, b=batch, k=step_key: jitted(program).update(
                state, b[0], b[1], k
            )

    def batch_of(state):
        return recent[int(state.step)]

    return _supervised(program, state, advances(), batch_of, key, report, enough)


def _supervised(program, state, advances, batch_of, key, report: Report, enough):
    """Makes the steps, reports each, and stops at the first that is not finite."""

    def settle(before, numbers):
        """Waits for a step's numbers; if they are not finite, says where it began."""
        if not bool(numbers["finite"]):
            images, labels = batch_of(before)
            raise diverged(program, before, images, labels, key)
        report(int(before.step) + 1, float(numbers["loss"]), float(numbers["accuracy"]))

    pending: list[tuple] = []
    for advance in advances:
        before = state
        state, numbers = advance(state)
        # One step is always under way while the numbers of the last are read.
        while pending:
            settle(*pending.pop())
        pending.append((before, numbers))
        if enough():
            break
    while pending:
        settle(*pending.pop())
    return state


def _scanned_steps(
    program, images, labels, state, order, key, report: Report, length, enough
):
    """One scan; what went wrong inside is found afterwards, from a kept copy."""
    del enough  # It is asked when the scan is over.
    kept, state = state, jax.tree.map(jnp.copy, state)
    state, numbers = jitted(program).epoch(
        state, images, labels, order, key, length=length
    )
    finite = np.asarray(numbers["finite"])
    first = int(kept.step)
    if not finite.all():
        bad = int(np.argmin(finite))
        for _ in range(bad):
            kept, _ = jitted(program).step(kept, images, labels, order, key)
        index = int(kept.step) % (len(images) // program.batch)
        batch = batching.take(images, labels, order, index, program.batch)
        raise diverged(program, kept, *batch, key)
    for i, (loss, accuracy) in enumerate(
        zip(np.asarray(numbers["loss"]), np.asarray(numbers["accuracy"]), strict=True)
    ):
        report(first + i + 1, float(loss), float(accuracy))
    return state


def diverged(
    program: Program,
    state: TrainState,
    images: ArrayLike,
    labels: ArrayLike,
    key: jax.Array,
) -> Diverged:
    """Replays a step once and says in which layer numbers stopped being finite."""
    number = int(state.step)
    key = jax.random.fold_in(key, number)
    given = (state, jnp.asarray(images), jnp.asarray(labels))
    state, pixels, classes = parallel.home(given, program.mesh)
    program = dataclasses.replace(program, mesh=None)
    shown = batching.augment(key, pixels, pad=program.pad, flip=program.flip)
    where = (
        _first_bad_output(program, state, shown)
        or _last_bad_gradient(program, state, shown, classes)
        or _bad_update(program, jitted(program).update(state, pixels, classes, key)[0])
    )
    return Diverged(
        f"training stopped at step {number}: {where} is not finite; the state before "
        "that step is kept; try a lower learning rate or a warm-up",
        number,
        state,
    )


def _first_bad_output(program, state, images):
    inputs = batching.normalise(images, program.mean, program.std, program.scale)
    found: Any = program.network.apply(
        state.variables(),
        inputs,
        True,
        mutable=["batch_stats", "quant", "intermediates"],
        capture_intermediates=lambda module, method: (
            module.name is not None and method == "__call__"
        ),
    )
    outputs = dict(_paths(found[1]["intermediates"]))
    bad = _in_data_order(program, [path for path in outputs if _is_bad(outputs[path])])
    return f"the output of {bad[0]}" if bad else None


def _last_bad_gradient(program, state, images, labels):
    gradients = jax.grad(
        lambda params: loss_and_changes(program, state, params, images, labels)[0]
    )(state.params)
    leaves = dict(_paths(gradients))
    bad = _in_data_order(program, [path for path in leaves if _is_bad(leaves[path])])
    # Gradients flow backwards: the last layer in the order of the data was hit first.
    return f"the gradient of {bad[-1]}" if bad else None


def _bad_update(program, new):
    leaves = {**dict(_paths(new.batch_stats)), **dict(_paths(new.params))}
    bad = _in_data_order(program, [path for path in leaves if _is_bad(leaves[path])])
    return f"the updated {bad[0]}" if bad else "a quantizer's state"


def _is_bad(value):
    return not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(value))


def _paths(tree, path=()):
    """Leaves of nested dictionaries with their path; calls carry no name."""
    for name, value in tree.items():
        here = path if name == "__call__" else (*path, name)
        if isinstance(value, dict):
            yield from _paths(value, here)
        else:
            yield "/".join(here), value


def _in_data_order(program, paths):
    """Sorts paths of layers, outputs or parameters as the data meet them."""
    order = program.network.layers_in_order()

    def place(path):
        inside = [i for i, layer in enumerate(order) if path.startswith(layer)]
        return max(inside, default=len(order))

    return sorted(paths, key=place)
