"""A spiking network and its gradients, typed a second time in NumPy float64.

Derivatives are written out by hand, layer by layer; a tape only calls them in reverse
order and adds up what arrives at a value that several layers read.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class Value:
    """Numbers of a network and, once the tape has run back, the loss's gradient."""

    def __init__(self, data: Any):
        self.data = np.asarray(data, np.float64)
        self.gradient = np.zeros_like(self.data)


class Tape:
    """Layers as they were called, to be run backwards."""

    def __init__(self):
        self._back: list[Callable[[], None]] = []

    def _result(self, data, back) -> Value:
        y = Value(data)
        self._back.append(lambda: back(y.gradient))
        return y

    def back(self, y: Value, gradient: Any = 1.0) -> None:
        """Fills in the gradients of everything before `y`, where its own is given."""
        y.gradient = np.broadcast_to(gradient, y.data.shape)
        for step in reversed(self._back):
            step()

    # Layers

    def convolved(self, x: Value, kernel: Value, stride: int) -> Value:
        """y[i, j] = sum over a, b of x[stride i + a - m, stride j + b - m] k[a, b]."""
        margin = (len(kernel.data) - 1) // 2
        around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        padded = np.pad(x.data, around)
        _, height, width, _ = x.data.shape
        rows, columns = (1 + (n - 1) // stride for n in (height, width))
        seen = {
            (a, b): np.s_[
                :,
                a : a + stride * (rows - 1) + 1 : stride,
                b : b + stride * (columns - 1) + 1 : stride,
            ]
            for a, b in np.ndindex(kernel.data.shape[:2])
        }

        def back(g):
            of_padded = np.zeros_like(padded)
            for at, where in seen.items():
                kernel.gradient[at] += np.tensordot(padded[where], g, ([0, 1, 2],) * 2)
                of_padded[where] += g @ kernel.data[at].T
            inside = np.s_[:, margin : margin + height, margin : margin + width]
            x.gradient += of_padded[inside]

        y = sum(padded[where] @ kernel.data[at] for at, where in seen.items())
        return self._result(y, back)

    def normalised(self, x: Value, gain: Value, shift: Value) -> Value:
        """gain (x - mean) / sqrt(var + 1e-5) + shift, by the last axis."""
        axes = tuple(range(x.data.ndim - 1))
        deviation = np.sqrt(x.data.var(axis=axes) + 1e-5)
        standard = (x.data - x.data.mean(axis=axes)) / deviation

        def back(g):
            gain.gradient += (g * standard).sum(axis=axes)
            shift.gradient += g.sum(axis=axes)
            away = g - g.mean(axis=axes) - standard * (g * standard).mean(axis=axes)
            x.gradient += gain.data / deviation * away

        return self._result(gain.data * standard + shift.data, back)

    def fired(
        self, x: Value, neuron: Any, quantize: Any = None, w: Value | None = None
    ) -> tuple[Value, np.ndarray]:
        """Spikes of currents `T ...`, and what the membrane's quantizer saw.

        With r the rate of the decay, hard reset to 0, threshold 1, and the spike a
        constant in the reset, per timestep

            h = v + x (IF), v + (x - v) r (LIF, PLIF);  s = 1[h >= 1];  v = (1 - s) h

        where q, the quantizer, is applied to the last v (`stored`) or to h.
        """
        rate = {"if": 1.0, "lif": 1 / neuron.tau}.get(neuron.kind)
        if w is not None:
            rate = 1 / (1 + np.exp(-w.data))
        keep = 1.0 if neuron.kind == "if" else 1 - rate
        first = neuron.placement == "before_fire"
        quantize = quantize or (lambda v: (v, np.ones_like(v)))
        v = np.zeros(x.data.shape[1:])
        past, spikes, saw = [], [], []
        for current in x.data:
            before, h = v, keep * v + rate * current
            fed, passed = quantize(h) if first else (h, 1.0)
            s = (fed >= 1).astype(float)
            rest = (1 - s) * fed
            v, passes = (rest, 1.0) if first else quantize(rest)
            past.append((before, current, fed, s, passed, passes))
            spikes.append(s)
            saw.append(h if first else rest)

        def back(g):
            of_v = np.zeros_like(v)
            for t in reversed(range(len(past))):
                before, current, fed, s, passed, passes = past[t]
                bump = 1 / (1 + (np.pi * (fed - 1)) ** 2)  # atan(2)
                of_h = passed * (g[t] * bump + (1 - s) * passes * of_v)
                x.gradient[t] += rate * of_h
                of_v = keep * of_h
                if w is not None:
                    of_rate = np.sum(of_h * (current - before))
                    w.gradient += of_rate * rate * (1 - rate)

        return self._result(spikes, back), np.array(saw)

    def added(self, x: Value, y: Value) -> Value:
        """x + y."""

        def back(g):
            x.gradient += g
            y.gradient += g

        return self._result(x.data + y.data, back)

    def moved(self, x: Value, forward: Callable, backward: Callable) -> Value:
        """A linear map and its transpose."""

        def back(g):
            x.gradient += backward(g)

        return self._result(forward(x.data), back)

    def passed(self, x: Value, data: np.ndarray, passes: np.ndarray) -> Value:
        """What a quantizer made of x, with a straight-through gradient."""

        def back(g):
            x.gradient += passes * g

        return self._result(data, back)

    def classified(self, x: Value, kernel: Value, bias: Value, labels) -> Value:
        """Mean cross-entropy of the logits of features `T B C`, averaged over T."""
        count, one_hot = len(labels), np.eye(len(bias.data))[labels]
        features = x.data.mean(axis=0)
        logits = features @ kernel.data + bias.data
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

        def back(g):
            of_logits = g * (np.exp(logs) - one_hot) / count
            kernel.gradient += features.T @ of_logits
            bias.gradient += of_logits.sum(axis=0)
            x.gradient += of_logits @ kernel.data.T / len(x.data)

        return self._result(-np.sum(one_hot * logs) / count, back)


# Quantizers: what becomes of values, and where their gradient passes.


def on_even_grid(x: np.ndarray, bits: int, clip: float):
    """-c + s round((clip(x, -c, c) + c) / s), s = 2c / (2^b - 1)."""
    s = 2 * clip / (2**bits - 1)
    return np.round((np.clip(x, -clip, clip) + clip) / s) * s - clip, abs(x) <= clip


def on_symmetric_grid(x: np.ndarray, bits: int, clip: float):
    """(c / n) round(n clip(x, -c, c) / c), n = 2^(b-1) - 1."""
    n = 2 ** (bits - 1) - 1
    return clip / n * np.round(n * np.clip(x, -clip, clip) / clip), abs(x) <= clip


def on_unsigned_grid(x: np.ndarray, bits: int, clip: float):
    """s round(clip(x, 0, c) / s), s = c / (2^b - 1)."""
    s = clip / (2**bits - 1)
    return s * np.round(np.clip(x, 0, clip) / s), (x >= 0) & (x <= clip)


def nearest(x: np.ndarray, basis: np.ndarray, signed: bool):
    """Codes and levels of one group, by exhaustive search."""
    alphabet = (-1, 1) if signed else (0, 1)
    words = np.array(list(itertools.product(alphabet, repeat=len(basis))), float)
    levels = words @ basis
    order = np.argsort(levels, kind="stable")
    words, levels = words[order], levels[order]
    index = np.searchsorted((levels[1:] + levels[:-1]) / 2, x)
    return words[index], levels[index]


def _by_group(x: np.ndarray, basis: np.ndarray):
    """Values and vectors of each group, `K G` the basis of all."""
    columns = x.astype(float).reshape(-1, basis.shape[1]).T
    return zip(columns, basis.astype(float).T, strict=True)


def on_levels(x: np.ndarray, basis: np.ndarray, signed: bool, limit: float):
    """The nearest levels; unsigned, the gradient ends at the largest one."""
    largest = np.maximum(basis, 0).sum(axis=0).max()
    low, high = (-limit, limit) if signed else (0, min(limit, largest))
    groups = _by_group(np.clip(x, low, limit), basis)
    found = np.stack([nearest(values, v, signed)[1] for values, v in groups], axis=1)
    return found.reshape(x.shape), (x >= low) & (x <= high)


def refitted(x: np.ndarray, basis: np.ndarray, signed: bool, ridge: float = 1e-4):
    """(B B^T / N + ridge I) v' = B x / N + ridge v, B the codes nearest by v."""
    found = []
    for values, v in _by_group(x, basis):
        codes, _ = nearest(values, v, signed)
        gram = codes.T @ codes / len(values) + ridge * np.eye(len(v))
        found.append(np.linalg.solve(gram, codes.T @ values / len(values) + ridge * v))
    return np.stack(found, axis=1)


# A network.


def by_path(tree: Mapping[str, Any], path: str = "") -> dict[str, np.ndarray]:
    """The arrays of nested dictionaries, each under its path."""
    if not isinstance(tree, Mapping):
        return {path[1:]: np.asarray(tree)}
    inner = (by_path(branch, f"{path}/{name}") for name, branch in tree.items())
    return {name: leaf for leaves in inner for name, leaf in leaves.items()}


class Step:
    """One step of training SEW-ResNet by ADD: a block, and one that goes downwards.

    Args:
        neuron: its kind, tau and placement are read.
        params: by path.
        x: images `B H W C`, normalised.
        labels: their classes.
        timesteps: T.
        kernels: by path of a convolution, from its kernel to the one the network uses
            and where gradients pass.
        membranes: by path of a neuron layer, the same for its membranes.

    Attributes:
        loss: mean cross-entropy.
        gradients: by path of a parameter.
        moments: mean and unbiased variance of each normalisation.
        saw: what each membrane's quantizer saw, `T B H W C`.
    """

    def __init__(self, neuron, params, x, labels, timesteps, kernels, membranes):
        self._tape, self._neuron, self._timesteps = Tape(), neuron, timesteps
        self._params = {path: Value(leaf) for path, leaf in params.items()}
        self._kernels, self._membranes = kernels, membranes
        self.moments: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.saw: dict[str, np.ndarray] = {}
        tape = self._tape
        still = self._current("conv1", "bn1", Value(x), 1, repeats=timesteps)
        y = self._spikes("sn1", self._over_time(still))
        branch = self._unit("layer1_0", "1", y, 1)
        branch = self._unit("layer1_0", "2", branch, 1)
        y = tape.added(y, branch)
        branch = self._unit("layer2_0", "1", y, 2)
        branch = self._unit("layer2_0", "2", branch, 1)
        y = tape.added(self._unit("layer2_0", "", y, 2), branch)
        _, height, width, channels = y.data.shape
        features = tape.moved(
            y,
            lambda v: v.mean(axis=(1, 2)).reshape(timesteps, -1, channels),
            lambda g: np.broadcast_to(
                g.reshape(-1, 1, 1, channels) / (height * width), y.data.shape
            ),
        )
        kernel, bias = self._params["fc/kernel"], self._params["fc/bias"]
        loss = tape.classified(features, kernel, bias, labels)
        tape.back(loss)
        self.loss = loss.data
        self.gradients = {path: v.gradient for path, v in self._params.items()}

    def _over_time(self, x):
        """A still image at every timestep, folded into the batch."""
        shape, steps = x.data.shape, self._timesteps
        return self._tape.moved(
            x,
            lambda v: np.concatenate([v] * steps),
            lambda g: g.reshape(steps, *shape).sum(axis=0),
        )

    def _unit(self, block, number, x, stride):
        conv, bn = f"conv{number}", f"bn{number}"
        if not number:
            conv, bn = "downsample_conv", "downsample_bn"
        current = self._current(f"{block}/{conv}", f"{block}/{bn}", x, stride)
        return self._spikes(f"{block}/{bn.replace('bn', 'sn')}", current)

    def _current(self, conv, bn, x, stride, repeats=1):
        tape, kernel = self._tape, self._params[f"{conv}/kernel"]
        if conv in self._kernels:
            kernel = tape.passed(kernel, *self._kernels[conv](kernel.data))
        y = tape.convolved(x, kernel, stride)
        flat = y.data.reshape(-1, y.data.shape[-1])
        n = repeats * len(flat)
        self.moments[bn] = flat.mean(axis=0), flat.var(axis=0) * n / (n - 1)
        gain, shift = self._params[f"{bn}/scale"], self._params[f"{bn}/bias"]
        return tape.normalised(y, gain, shift)

    def _spikes(self, sn, x):
        tape, shape = self._tape, x.data.shape
        unfolded = (self._timesteps, -1, *shape[1:])
        current = tape.moved(
            x, lambda v: v.reshape(unfolded), lambda g: g.reshape(shape)
        )
        w, quantize = self._params.get(f"{sn}/w"), self._membranes.get(sn)
        y, self.saw[sn] = tape.fired(current, self._neuron, quantize, w)
        return tape.moved(y, lambda v: v.reshape(shape), lambda g: g.reshape(unfolded))
