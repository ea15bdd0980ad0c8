"""One step of training: a pure function over an immutable state.

Which images belong to a step and how they are shifted follows from the key and the
step's number, so a run continues from a checkpoint without any iterator's state.
Quantizers that learn keep their memory in the state too; no method has a branch here.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jsnnq.data import batches
from jsnnq.networks import readout
from jsnnq.networks.network import Network
from jsnnq.runtime import compiling, parallel


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

    @property
    def variables(self) -> dict[str, Any]:
        """What `network.apply` takes."""
        named = self._asdict()
        return {name: named[name] for name in ("params", "batch_stats", "quant")}


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides the compiled step; those of one `representative` share it.

    Attributes:
        network: the network.
        optimizer: an optax transformation; equal only if it is the same object.
        batch: images per step.
        preprocessing: how the network sees pixels.
        pad: largest random shift in pixels.
        flip: whether images are mirrored at random.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.
        eval_batch: images per call of an evaluation; None is as many as fit.
    """

    network: Network
    optimizer: optax.GradientTransformation
    batch: int
    preprocessing: batches.Preprocessing
    pad: int = 0
    flip: bool = False
    mesh: Mesh | None = None
    eval_batch: int | None = None

    @functools.cached_property  # Every step asks for it.
    def representative(self) -> "Program":
        """The same one for all that differ in numbers of their quantizers only."""
        return dataclasses.replace(self, network=self.network.representative)

    def inputs(self, images: batches.Pixels) -> Float[Array, "*T B H W C"]:
        """What the network reads where these images are shown."""
        return self.preprocessing(images, self.network.dtype)


def start(program: Program, variables: dict[str, Any]) -> TrainState:
    """The state before the first step.

    Args:
        program: what will be trained.
        variables: collections `params`, `batch_stats` and, where there are quantizers
            with a state, `quant`.
    """
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        quant=variables.get("quant", {}),
        # Compiled as one: by itself every shape of zeros would be a compilation.
        opt_state=jax.jit(program.optimizer.init)(variables["params"]),
    )


def loss_and_changes(
    program: Program,
    state: TrainState,
    params: Any,
    images: batches.Pixels,
    labels: Int[Array, "B"],
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """Mean cross-entropy in nats, with the accuracy and the changed collections.

    Args:
        program: what is trained.
        state: whose statistics and quantizers are used.
        params: where the loss is taken; that of `state` are not looked at.
        images: as they are shown, augmented.
        labels: their classes.
    """
    found: Any = program.network.apply(
        {**state.variables, "params": params},
        program.inputs(images),
        True,
        mutable=["batch_stats", "quant"],
    )
    (logits, _), changed = found
    logits = readout.readout(logits)
    loss = jnp.mean(readout.cross_entropy(logits, labels))
    accuracy = jnp.mean(readout.correct(logits, labels).astype(jnp.float32))
    return loss, (accuracy, changed)


def train_step(
    program: Program,
    state: TrainState,
    images: batches.Pixels,
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
    # Names of parts that are no modules, for who reads a compiled program.
    with jax.named_scope("data"):
        images = batches.augment(key, images, pad=program.pad, flip=program.flip)
    advance = parallel.spread(functools.partial(_advance, program), program.mesh)
    return advance(state, (images, labels))


def _advance(program, state, batch):
    """The step itself, on this device's part of the batch."""
    differentiate = jax.value_and_grad(
        functools.partial(loss_and_changes, program, state), has_aux=True
    )
    (loss, (accuracy, changed)), gradients = differentiate(state.params, *batch)
    loss, accuracy, gradients = parallel.mean((loss, accuracy, gradients))
    with jax.named_scope("optimizer"):
        updates, opt_state = program.optimizer.update(
            gradients, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
    new = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=changed.get("batch_stats", state.batch_stats),
        quant=changed.get("quant", state.quant),
        opt_state=opt_state,
    )
    return new, {"loss": loss, "accuracy": accuracy, "finite": is_sound(loss, new)}


def is_sound(loss: Float[Array, ""], state: TrainState) -> Bool[Array, ""]:
    """Whether a step left only numbers behind that training can go on with.

    Args:
        loss: of the step.
        state: after it.

    The state is looked at and not the loss alone: an overflowing update shows in the
    loss one step later, and an infinite running variance never, because it divides.
    Infinity is allowed in `quant`, where it is the clip of a quantizer without one.
    """
    # As one array: looking at each of a hundred would be a hundred kernels.
    finite = jnp.all(jnp.isfinite(ravel_pytree((loss, state[1:3]))[0]))
    leaves = jax.tree.leaves(state.quant)
    learned = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    return finite & ~jnp.any(jnp.isnan(ravel_pytree(learned)[0]))


class Keys(NamedTuple):
    """The streams of random numbers of a run, all from its seed."""

    init: jax.Array
    order: jax.Array
    augment: jax.Array


def keys(seed: int) -> Keys:
    """One stream for each use, so that none shifts another."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def next_step(
    program: Program,
    state: TrainState,
    data: batches.Held,
    order: Int[Array, "N"],
    key: jax.Array,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on the images that belong to it.

    Args:
        program: what is trained, and how.
        state: before the step.
        data: the whole training split.
        order: the permutation of this epoch, from `batches.epoch_order`.
        key: the run's augmentation stream.
    """
    index = state.step % (len(data) // program.batch)
    with jax.named_scope("data"):
        batch = batches.take(data, order, index, program.batch)
    return train_step(program, state, *batch, jax.random.fold_in(key, state.step))


def epoch(
    program: Program,
    state: TrainState,
    data: batches.Held,
    order: Int[Array, "N"],
    key: jax.Array,
    *,
    length: int,
) -> tuple[TrainState, dict[str, Array]]:
    """The next steps of an epoch as one scan.

    Args:
        program, data, order, key: of `next_step`.
        state: before the first of them.
        length: how many steps.

    Returns:
        The state after the last of them, and the numbers of `train_step`, one per step.
    """
    one = lambda state, _: next_step(program, state, data, order, key)
    return jax.lax.scan(one, state, length=length)


class Jitted(NamedTuple):
    """The functions of a program, compiled when they are first called."""

    train_step: Any
    next_step: Any
    epoch: Any


_JITTED: dict[tuple[Program, bool], Jitted] = {}


def jitted(program: Program, together: bool = False) -> Jitted:
    """A program's compiled functions, the same for all of one representative.

    Args:
        program: what is trained.
        together: whether they take several runs at once, along a first axis of the
            state, the order, the key and what they return. Images of `next_step` and
            `epoch`, the whole training split, are there once for all.
    """
    named = program.representative, together
    compiling.random_bits_by_kernel()
    if named not in _JITTED:
        functions = (train_step, next_step, epoch)
        train, one, scan = (functools.partial(f, named[0]) for f in functions)
        if together:
            train, one = jax.vmap(train), jax.vmap(one, in_axes=_SHARE_DATA)
            scan = _scans(scan)
        scan = jax.jit(scan, static_argnames="length", donate_argnums=0)
        _JITTED[named] = Jitted(jax.jit(train), jax.jit(one), scan)
    return _JITTED[named]


_SHARE_DATA = (0, None, 0, 0)


def _scans(scan):
    """The epochs of several runs."""

    def scans(*given, length):
        each = functools.partial(scan, length=length)
        return jax.vmap(each, in_axes=_SHARE_DATA)(*given)

    return scans


def forget(program: Program) -> None:
    """Drops what was compiled for a program, which may be a few hundred MB."""
    for together in (False, True):
        _JITTED.pop((program.representative, together), None)
