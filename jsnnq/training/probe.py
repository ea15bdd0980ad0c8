"""A look inside a binary network while it trains.

What accuracy does not show: which layers still learn. With signs that pass no gradient
(StoMPP without a straight-through estimator) a completely frozen activation closes
every path through it, so whatever lies before it stops learning: the gradient blockade
(arXiv 2606.27759). For each layer, a kernel and the activation it reads, a look takes

    frozen        share of the kernel's entries that have become signs
    activations   the same for the activation; None where it is not quantized
    gradient      Euclidean norm of the loss's gradient for the kernel
    zero          share of the kernel's entries whose gradient is exactly zero
    flipped       share of its entries whose sign is no longer that of the start

and for the network two accuracies on the first test images: `present`, under the masks
training uses now (a saw-tooth where layers freeze one by one), and `binary`, as it
would be deployed now. The gradient is that of one training batch which is always the
same and not augmented.
"""

import functools
import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.data import sets
from jsnnq.networks import readout
from jsnnq.networks.layers import STATE
from jsnnq.networks.network import observe
from jsnnq.networks.quantize import at
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.training.monitor import appended, read_lines
from jsnnq.training.step import Program, TrainState, loss_and_changes

IMAGES = 256
"""How many test images the accuracies are taken over."""


def sign_layers(net: ResidualNetwork) -> tuple[str, ...]:
    """Paths of the kernels that become signs, in the order of the data."""
    return tuple(p for p in net.kernel_layers() if net.weights(p).makes_signs)


def as_trained(net: ResidualNetwork) -> ResidualNetwork:
    """The network whose evaluation uses the masks that training uses now."""
    now = operator.attrgetter("present")
    return net.with_each(now)


class Probe:
    """Looks at the states of one run, and keeps what it saw as JSON lines.

    Args:
        program: what is trained.
        start: the state before the first step.
        dataset: its images; gradients are taken on training images, accuracies on
            test images.
        path: the file; a run that continues appends to it.
        windows: for StoMPP, when each layer is frozen: first step and length.
    """

    def __init__(
        self,
        program: Program,
        start: TrainState,
        dataset: sets.DataSet,
        path: Path,
        windows: Mapping[str, tuple[int, int]],
    ):
        self._program, self._path = program, path
        self._signs = _signs(program.network, start)
        self._batch = _read(dataset.train, program.batch)
        self._shown = _read(dataset.test, min(IMAGES, len(dataset.split("test"))))
        self._write({"windows": windows})

    def __call__(self, state: TrainState) -> None:
        """Takes one look."""
        program = self._program.representative
        layers = _inside(program, state, self._signs, *self._batch)
        net: Any = program.network
        networks = {"present": as_trained(net), "binary": net}
        # One and the same where training is what evaluation will be, as with STE.
        measured = {
            network: float(_accuracy(program, network, state, *self._shown))
            for network in set(networks.values())
        }
        accuracies = {name: measured[one] for name, one in networks.items()}
        layers = jax.tree.map(float, jax.device_get(layers))
        self._write({"step": int(state.step), **accuracies, "layers": layers})

    def _write(self, line):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with appended(self._path) as lines:
            lines.write(json.dumps(line) + "\n")


def read_looks(path: Path) -> dict[str, Any]:
    """What a probe wrote: `windows`, and `looks` in the order of their steps.

    Of looks taken twice, because a run was killed and went on from its last saved
    epoch, the later one; a line cut short by the kill is left out.
    """
    lines = list(read_lines(path))
    windows = [line["windows"] for line in lines if "windows" in line]
    looks = {line["step"]: line for line in lines if "windows" not in line}
    last = windows[-1] if windows else {}
    return {"windows": last, "looks": [looks[step] for step in sorted(looks)]}


def forget_compiled() -> None:
    """Drops what was compiled for looking."""
    compiled: tuple[Any, ...] = (_inside, _accuracy)
    for function in compiled:
        function.clear_cache()


def _read(split, count):
    images, labels = split.read(np.arange(count))
    return jnp.asarray(images), jnp.asarray(labels)


def _signs(net, state):
    kernels = {path: at(state.params, path)["kernel"] for path in sign_layers(net)}
    return {path: kernel >= 0 for path, kernel in kernels.items()}  # sign(0) is +1


@functools.partial(jax.jit, static_argnums=0)
def _inside(program, state, signs, images, labels):
    """The five numbers of each layer."""
    gradients = jax.grad(
        lambda params: loss_and_changes(program, state, params, images, labels)[0]
    )(state.params)
    now = _signs(program.network, state)
    found: dict[str, dict[str, Any]] = {}
    network = program.network
    for path, before in signs.items():
        gradient = at(gradients, path)["kernel"]
        found[path] = {
            "frozen": _share(network.weights, path, state, gradient),
            "gradient": jnp.linalg.norm(gradient.reshape(-1)),
            "zero": jnp.mean(gradient == 0),
            "flipped": jnp.mean(before != now[path]),
        }
    if not network.activation_layers():
        return found
    # Which activations are frozen depends on their shapes; values are not computed.
    look = functools.partial(observe, network)
    _, seen = jax.eval_shape(look, state.variables, program.inputs(images))
    for path in network.activation_layers():
        kernel = path.replace("/act", "/conv")
        if kernel in found and network.activations(path).makes_signs:
            shape = seen.activations[path].shape[1:]
            values = jax.ShapeDtypeStruct(shape, jnp.float32)
            found[kernel]["activations"] = _share(
                network.activations, path, state, values
            )
    return found


def _share(rules, path, state, values):
    """The share of a tensor's entries that are frozen."""
    return jnp.mean(rules(path).frozen(values, at(state.quant, path)[STATE]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _accuracy(program, network, state, images, labels):
    logits, _ = observe(network, state.variables, program.inputs(images))
    correct = readout.correct(readout.readout(logits), labels)
    return jnp.mean(correct.astype(jnp.float32))
