"""Thin Flax modules: quantized convolution and dense, normalisation, spiking layer.

Convolution, normalisation and pooling see time folded into the batch (`fold`), and
only the neurons scan over timesteps. Four collections travel beside `params`:

    batch_stats   running mean and variance of the normalisation
    quant         states of the quantizers (bases, clips)
    membrane      membranes carried from call to call; only while streaming
    potentials    what a quantizer between kernels would see; only while calibrating
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq import renamed
from jsnnq.errors import InputError, settle
from jsnnq.networks.convolve import convolve
from jsnnq.networks.neurons import Neuron, initial_decay, unroll
from jsnnq.quantizers.base import Quantizer, State, identity
from jsnnq.runtime import cpu, parallel
from jsnnq.runtime.precision import accumulation, at_least_float32, of_products

STATE = "quantizer"
"""Name of a quantizer's state inside its layer."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which layer gets which quantizer: the first full match of its path wins.

    Attributes:
        rules: pairs of a regular expression on the layer's path (`layer1_0/conv1`)
            and a quantizer. A layer that matches none stays full precision.

    Example:
        >>> rules = jsnnq.Rules(((r"layer.*/conv1", jsnnq.uniform(2)),))
        >>> print(rules("layer1_0/conv1"), rules("fc"))
        Uniform(bits=2) Identity()
    """

    rules: tuple[tuple[str, Quantizer], ...] = ()

    def __post_init__(self):
        settle(self)

    def __call__(self, path: str) -> Quantizer:
        """The quantizer of the layer at `path`."""
        for pattern, quantizer in self.rules:
            if re.fullmatch(pattern, path):
                return quantizer
        return identity

    def placed(self, place: str, threshold: float | None = None) -> "Rules":
        """The same rules, each quantizer as `Quantizer.placed` returns it.

        Raises:
            InputError: a quantizer has no meaning there.
        """
        return self.with_each(lambda quantizer: quantizer.placed(place, threshold))

    @property
    def representative(self) -> "Rules":
        """The same one for all rules whose layers compile to one program."""
        return self.with_each(lambda quantizer: quantizer.representative)

    def with_each(self, change: Callable[[Quantizer], Quantizer]) -> "Rules":
        """The same rules, each quantizer changed."""
        return Rules(tuple((pattern, change(one)) for pattern, one in self.rules))


def check_pairs(place: str, given: Any) -> None:
    """Refuses rules that are no pairs of a pattern and a quantizer, or None.

    Raises:
        InputError: with what was given for this place.
    """
    for rule in given if isinstance(given, tuple) else [None]:
        if isinstance(rule, tuple) and len(rule) == 2:
            pattern, quantizer = rule
            if isinstance(pattern, str) and isinstance(quantizer, Quantizer | None):
                continue
        raise InputError(
            f"{place} is {given!r}: a tuple of pairs (pattern, quantizer) is needed"
        )


def fold(
    layer: Callable[[Array], Array], x: Float[Array, "T B *S"]
) -> Float[Array, "T B *R"]:
    """Applies `layer` with time folded into the batch.

    Example:
        >>> jsnnq.networks.fold(lambda y: y.sum(-1), jnp.ones((4, 2, 3))).shape
        (4, 2)
    """
    time, batch = x.shape[:2]
    y = layer(x.reshape(time * batch, *x.shape[2:]))
    return y.reshape(time, batch, *y.shape[1:])


def direct(x: Float[Array, "B *S"], timesteps: int) -> Float[Array, "T B *S"]:
    """Repeats a still `x` at each of T timesteps, a direct encoding.

    As in SEW-ResNet and in arXiv 2604.14487: the first neurons turn it into spikes.

    Args:
        x: one input for each example, such as the stem's current `B H W C`.
        timesteps: T, at least 1.

    Raises:
        InputError: `timesteps` is below 1.
    """
    if timesteps < 1:
        raise InputError(f"timesteps is {timesteps}: at least 1 is needed")
    return jnp.broadcast_to(x[None], (timesteps, *x.shape))


def over_time(x: Float[Array, "*T B H W C"], timesteps: int) -> Array:
    """Images at each of T timesteps, `T B H W C`; frames have theirs already.

    Raises:
        InputError: frames are not as many as there are timesteps.

    Example:
        >>> jsnnq.networks.over_time(jnp.ones((2, 8, 8, 1)), 4).shape
        (4, 2, 8, 8, 1)
    """
    if x.ndim == 4:
        return direct(x, timesteps)
    if len(x) != timesteps:
        raise InputError(
            f"the input has {len(x)} frames and the network {timesteps} timesteps: "
            "make the network with as many timesteps as there are frames"
        )
    return x


def fan_out_normal(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Array:
    """Kaiming's normal start of a kernel `H W I O`: deviation sqrt(2 / (H W O))."""
    fan_out = math.prod(shape) // shape[-2]
    return math.sqrt(2 / fan_out) * jax.random.normal(key, shape, dtype)


class QuantizedLayer(nn.Module):
    """What the layers with a quantizer have in common.

    They are called with values and `train`: whether the quantizer may learn from them.
    """

    quantizer: Quantizer | Rules = identity

    place: ClassVar[str] = "weights"

    @property
    def at(self) -> str:
        """Its path in the network, as rules and records name it."""
        return "/".join(self.path)

    @property
    def threshold(self) -> float | None:
        """What a membrane quantizer is told of the neurons."""
        return None

    @property
    def used(self) -> Quantizer:
        """The quantizer that was given, or the one that the rules have for its path."""
        given = self.quantizer
        given = given(self.at) if isinstance(given, Rules) else given
        return given.placed(self.place, self.threshold)

    def feeds(self, x: Array) -> tuple[int, int, int]:
        """Stride, padding and groups of its connections, where it reads `x`."""
        return 1, 0, 1

    def quantizer_state(self, shared: State = None) -> State:
        """The state in use: an own one, or the one shared by the feeding kernel.

        Raises:
            InputError: the variables have none.
        """
        if not self.used.shared:
            collection = "params" if self.used.trainable else "quant"
            shared = self.get_variable(collection, STATE)
        if shared is None:
            raise InputError(
                f"the variables have no state for {self.used} of {self.at or 'a layer'}"
                ": take those of jsnnq.calibrate or jsnnq.fit, which start quantizers; "
                "init does not"
            )
        return shared

    def remember(self, state: State) -> None:
        """Keeps what a training step learned for the next one.

        Raises:
            InputError: it could not be kept.
        """
        if self.used.trainable or not jax.tree.leaves(state):
            return
        if not self.is_mutable_collection("quant"):
            raise InputError(
                f"with train=True {self.used} learns from what it sees, but nothing of "
                "it is kept: apply the network with mutable=['batch_stats', 'quant'], "
                "or with train=False"
            )
        self.put_variable("quant", STATE, state)

    @property
    def quantizes(self) -> bool:
        """Whether there is a quantizer, and a state of it: none while initialising."""
        return self.used != identity and not self.is_initializing()

    def quantized(self, kernel: Array, train: bool) -> Array:
        """The kernel as the layer uses it."""
        # Every device has the whole kernel: no statistics of it are to be joined.
        with parallel.whole():
            return self._applied(kernel, train) if self.quantizes else kernel

    def _applied(self, x, train):
        x, state = self.used.apply(x, self.quantizer_state(), train)
        if train:
            self.remember(state)
        return x


class QuantConv(QuantizedLayer):
    """Convolution without bias, symmetric padding, on `N H W C`.

    Attributes:
        features: output channels.
        size: side of the square kernel.
        stride: step in both directions.
        depthwise: whether every channel is convolved with a kernel of its own.
        dtype: of the products; parameters have its accumulation dtype.
        precision: of products of float32, one of `precision.PRECISIONS`.

    Example:
        >>> layer = jsnnq.networks.QuantConv(features=4, stride=2)
        >>> x = jnp.ones((1, 5, 5, 2))
        >>> variables = layer.init(jax.random.key(0), x, False)
        >>> layer.apply(variables, x, False).shape
        (1, 3, 3, 4)
    """

    features: int = 1
    size: int = 3
    stride: int = 1
    depthwise: bool = False
    dtype: Any = jnp.float32
    precision: str = "highest"

    def feeds(self, x):
        """As said above."""
        return self.stride, (self.size - 1) // 2, x.shape[-1] if self.depthwise else 1

    @nn.compact
    def __call__(self, x: Float[Array, "N H W C"], train: bool) -> Array:
        """Currents `N H' W' features`."""
        groups = self.feeds(x)[2]
        shape = (self.size, self.size, x.shape[-1] // groups, self.features)
        dtype = accumulation(self.dtype)
        kernel = self.param("kernel", fan_out_normal, shape, dtype)
        # Quantized as it is kept, before it is rounded to the dtype of the products.
        kernel = self.quantized(kernel, train)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        precision = of_products(self.dtype, self.precision)
        return convolve(x, kernel, self.stride, groups, precision=precision)


class QuantDense(QuantizedLayer):
    """Classifier with bias, started as in torch: uniform within 1 / sqrt(inputs).

    Attributes:
        features: outputs.
        dtype, precision: as in `QuantConv`.

    Example:
        >>> layer, x = jsnnq.networks.QuantDense(features=3), jnp.ones((2, 5))
        >>> layer.init_with_output(jax.random.key(0), x, False)[0].shape
        (2, 3)
    """

    features: int = 1
    dtype: Any = jnp.float32
    precision: str = "highest"

    @nn.compact
    def __call__(self, x: Float[Array, "N C"], train: bool) -> Array:
        """Logits `N features`."""
        reach = 1 / math.sqrt(x.shape[-1])

        def start(key, *shape):
            dtype = accumulation(self.dtype)
            return jax.random.uniform(key, shape, dtype, minval=-reach, maxval=reach)

        kernel = self.param("kernel", start, x.shape[-1], self.features)
        bias = self.param("bias", start, self.features)
        kernel = self.quantized(kernel, train).astype(self.dtype)
        precision = of_products(self.dtype, self.precision)
        y = jnp.matmul(x.astype(self.dtype), kernel, precision=precision)
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


def moments(x: Float[Array, "N H W C"]) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Mean and biased variance of each channel, over the whole batch.

    In two passes on each device; the parts are then joined exactly (Chan, Golub and
    LeVeque 1979): the variance is that inside the parts plus that of their means.
    """
    values = at_least_float32(x)
    mean = jnp.mean(values, axis=(0, 1, 2))
    # In one pass, mean(x^2) - mean^2 would cancel where the mean is large.
    var = jnp.mean(jnp.square(values - mean[None, None, None]), axis=(0, 1, 2))
    means, variances = parallel.gathered(jnp.stack([mean, var])[None]).swapaxes(0, 1)
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + jnp.square(means - mean[None]), axis=0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Float[Array, "N H W C"],
    gain: Float[Array | np.ndarray, "C"],
    shift: Float[Array | np.ndarray, "C"],
    epsilon: float,
) -> tuple[Float[Array, "N H W C"], Float[Array, "C"], Float[Array, "C"]]:
    """gain (x - mean) / sqrt(var + epsilon) + shift, and the batch's mean and variance.

    The gradient is written out (Ioffe and Szegedy, arXiv 1502.03167, section 3), to
    read the values twice and not six times. None flows through mean and variance.
    """
    return _normalise_forward(x, gain, shift, epsilon)[0]


def _normalise_forward(x, gain, shift, epsilon):
    mean, var = moments(x)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = scaled(x, gain * inverse, shift - mean * gain * inverse)
    return (y, mean, var), (x, gain, mean, inverse)


def _normalise_backward(epsilon, residual, gradients):
    del epsilon  # It is in the inverse of the deviation.
    x, gain, mean, inverse = residual
    # Both sums and the last line read it.
    g = at_least_float32(cpu.computed_once(gradients[0]))
    standard = scaled(at_least_float32(x), inverse, -mean * inverse)
    sums = jnp.stack([g.sum(axis=(0, 1, 2)), (g * standard).sum(axis=(0, 1, 2))])
    size = x.size // x.shape[-1] * parallel.parts()
    of_g, of_both = parallel.total(sums) / size
    away = g - scaled(standard, of_both, of_g)
    gain_inverse = (gain * inverse)[None, None, None]
    return (away * gain_inverse).astype(x.dtype), sums[1], sums[0]


normalise.defvjp(_normalise_forward, _normalise_backward)


def scaled(
    x: Float[Array, "N H W C"],
    factor: Float[Array | np.ndarray, "C"],
    offset: Float[Array | np.ndarray, "C"],
) -> Float[Array, "N H W C"]:
    """factor x + offset by channel, in the dtype of `x`."""
    y = x * factor[None, None, None] + offset[None, None, None]
    return y.astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation as torch keeps it: the running variance is unbiased.

    Flax's own keeps the biased one. Statistics have the accumulation dtype.

    Attributes:
        scale: start of the scale (0 for a branch that starts silent).
        bias: start of the bias (1 together with scale 0 for AND).
        momentum: share of the past in the running statistics.
        epsilon: added to the variance.

    Example:
        >>> layer, x = jsnnq.networks.BatchNorm(), jnp.ones((2, 3, 3, 4))
        >>> sorted(layer.init(jax.random.key(0), x, False)["batch_stats"])
        ['mean', 'var']
    """

    scale: float = 1.0
    bias: float = 0.0
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W C"], train: bool, repeats: int = 1
    ) -> Array:
        """Normalises over all axes but the last.

        Args:
            x: folded values.
            train: use the batch's statistics and update the running ones.
            repeats: T for a stem that is computed once on a still image: the correction
                n / (n - 1) of the running variance counts every timestep.
        """
        filled = functools.partial(jnp.full, x.shape[-1:], dtype=accumulation(x.dtype))
        gain = self.param("scale", lambda key: filled(self.scale))
        shift = self.param("bias", lambda key: filled(self.bias))
        running_mean = self.variable("batch_stats", "mean", filled, 0)
        running_var = self.variable("batch_stats", "var", filled, 1)
        if train:
            found: Any = normalise(x, gain, shift, self.epsilon)
            y, mean, var = found
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                # torch's correction; one value alone has no unbiased variance.
                n = x.size // x.shape[-1] * repeats * parallel.parts()
                self._follow(running_mean, mean)
                self._follow(running_var, var * (n / max(n - 1, 1)))
            return y
        factor = gain * jax.lax.rsqrt(running_var.value + self.epsilon)
        return scaled(x, factor, shift - running_mean.value * factor)

    def _follow(self, running, value):
        running.value = self.momentum * running.value + (1 - self.momentum) * value


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: jnp.maximum(x, 0),
    "relu6": lambda x: jnp.clip(x, 0, 6),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "none": lambda x: x,
}


class Activation(QuantizedLayer):
    """An activation, or the quantizer that stands in its place.

    Attributes:
        kind: a key of `ACTIVATIONS`, used where there is no quantizer.

    Example:
        >>> layer = jsnnq.networks.Activation(kind="clip")
        >>> layer.apply({}, jnp.array([[-2.0, 0.5]]), False).tolist()
        [[-1.0, 0.5]]
    """

    kind: str = "relu"

    place: ClassVar[str] = "activations"

    @nn.compact
    def __call__(self, x: Float[Array, "N *S"], train: bool) -> Array:
        """Activations `N *S`; a quantizer sees the values before any activation."""
        if self.is_mutable_collection("potentials") and not self.is_initializing():
            self.put_variable("potentials", "v", x)
        return self._applied(x, train) if self.quantizes else ACTIVATIONS[self.kind](x)


class Spiking(QuantizedLayer):
    """A layer of spiking neurons with an optional membrane quantizer.

    Attributes:
        neuron: the equations.

    Example:
        >>> layer = jsnnq.networks.Spiking(neuron=jsnnq.Neuron("if"))
        >>> layer.apply({}, jnp.full((4, 1, 1), 0.5), False)[:, 0, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    neuron: Neuron = Neuron()

    place: ClassVar[str] = "membranes"

    @property
    def threshold(self) -> float:
        """That of its neurons."""
        return self.neuron.v_threshold

    @nn.compact
    def __call__(
        self, x: Float[Array, "T B *N"], train: bool, shared: State = None
    ) -> Array:
        """Spikes `T B *N`.

        Args:
            x: currents.
            train: whether the quantizer may learn from this call.
            shared: state of the feeding kernel's quantizer, for one that shares it.
        """
        decay, dtype = None, accumulation(x.dtype)
        if self.neuron.kind == "plif":
            start = initial_decay(self.neuron)
            decay = self.param("w", lambda key: jnp.asarray(start, dtype))
        resting = jnp.full(x.shape[1:], self.neuron.rest, dtype)
        v = self.get_variable("membrane", "v", resting)
        state = self.quantizer_state(shared) if self.quantizes else ()
        inside = train and self.used.each_timestep

        def quantize(v, state):
            if not self.quantizes:
                return v, state
            v, state = self.used.apply(v, state, inside)
            # Else every later timestep quantizes again, in each kernel that needs it.
            return cpu.computed_once(v), state

        spikes, seen, v, after = unroll(
            self.neuron, x, v, decay, quantize=quantize, state=state
        )
        if not self.is_initializing():
            # Kept only where the caller asks, by making the collection mutable.
            for collection, value in (("membrane", v), ("potentials", seen)):
                if self.is_mutable_collection(collection):
                    self.put_variable(collection, "v", value)
        if self.quantizes and train:
            # Unless it wants otherwise a quantizer learns once per step, from the
            # potentials of all timesteps: inside the loop over time it is frozen.
            if not inside:
                after = self.used.apply(seen, state, True)[1]
            self.remember(after)
        return spikes


__getattr__ = renamed.answers(
    Conv=("QuantConv", QuantConv), Dense=("QuantDense", QuantDense)
)
