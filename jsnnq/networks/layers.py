"""Thin Flax modules: quantized convolution and dense, activation, spiking layer.

Sequences are arrays `T B ...`, or tuples of timesteps as `timesteps` explains. Four
collections travel beside `params`:

    batch_stats   running mean and variance of the normalisation
    quant         states of the quantizers (bases, clips)
    membrane      membranes carried from call to call; only while streaming
    potentials    what a quantizer between kernels would see; only while calibrating
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq import renamed
from jsnnq.errors import InputError
from jsnnq.networks.convolve import convolve_each
from jsnnq.networks.integers import PackedKernel
from jsnnq.networks.neurons import Neuron, initial_decay, unroll
from jsnnq.networks.normalisation import BatchNorm
from jsnnq.networks.rules import Rules
from jsnnq.networks.timesteps import Timesteps, apart, fold
from jsnnq.quantizers.base import Planes, Quantizer, State, identity
from jsnnq.quantizers.primitives import like
from jsnnq.runtime import cpu, parallel
from jsnnq.runtime.precision import accumulation, of_products

STATE = "quantizer"
"""Name of a quantizer's state inside its layer."""


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

    def kernel(self, start: Callable[..., Array], *shape: Any) -> Any:
        """The parameter of that name, or what a packed network has in its place."""
        if not self.is_initializing():
            given = self.get_variable("params", "kernel")
            if isinstance(given, PackedKernel):
                return given
        return self.param("kernel", start, *shape)

    def product(
        self, multiply: Callable[[Array], Timesteps], kernel: Array, train: bool
    ) -> Timesteps:
        """What multiplies with the quantized kernel.

        In evaluation with its whole numbers, and by their scales afterwards: of
        spikes and of sums of spikes such products are whole numbers too, and exact in
        float32 up to 2^24, in whatever order they are summed.

        Args:
            multiply: by a kernel, each timestep.
            kernel: as it is kept, before it is rounded to the dtype of products.
            train: whether the quantizer may learn.
        """
        if not self.quantizes:
            return multiply(kernel)
        # Every device has the whole kernel: no statistics of it are to be joined.
        with parallel.whole():
            planes = None if train else self.used.planes(kernel, self.quantizer_state())
            kernel = self._applied(kernel, train)
        if planes is None:
            return multiply(kernel)
        planes = with_gradient_of(kernel, jax.lax.stop_gradient(planes))
        sums = [multiply(codes) for codes in planes.codes]
        return tuple(weighted(each, planes.scales) for each in zip(*sums, strict=True))

    def _applied(self, x, train):
        x, state = self.used.apply(x, self.quantizer_state(), train)
        if train:
            self.remember(state)
        return x


def with_gradient_of(kernel: Array, planes: Planes) -> Planes:
    """The same planes, whose sum has the gradient of the quantized kernel."""
    scale = like(kernel, planes.scales[0])
    scale = jnp.where(scale == 0, 1, scale)
    nothing = (kernel - jax.lax.stop_gradient(kernel)) / scale
    return planes._replace(codes=(planes.codes[0] + nothing, *planes.codes[1:]))


def weighted(
    sums: tuple[Float[Array, "*N C"], ...], scales: tuple[Float[Array, "*C"], ...]
) -> Float[Array, "*N C"]:
    """The sums of products with each plane of a kernel, times their scales, as one."""
    y = sum(one * like(one, scale) for one, scale in zip(sums, scales, strict=True))
    return cast(Array, y).astype(sums[0].dtype)


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
    def __call__(self, x: Float[Array, "N H W C"] | Timesteps, train: bool) -> Any:
        """Currents `N H' W' features`, of timesteps as timesteps."""
        parts = x if isinstance(x, tuple) else (x,)
        groups = self.feeds(parts[0])[2]
        shape = (self.size, self.size, parts[0].shape[-1] // groups, self.features)
        kernel = self.kernel(fan_out_normal, shape, accumulation(self.dtype))
        if isinstance(kernel, PackedKernel):
            y = kernel.convolve(parts, self.stride, groups)
            return y if isinstance(x, tuple) else y[0]
        parts = tuple(one.astype(self.dtype) for one in parts)
        products = self.stride, groups, of_products(self.dtype, self.precision)

        def convolve(kernel):
            y: Any = convolve_each(parts, kernel.astype(self.dtype), *products)
            return y

        y = self.product(convolve, kernel, train)
        return y if isinstance(x, tuple) else y[0]


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

        kernel = self.kernel(start, x.shape[-1], self.features)
        bias = self.param("bias", start, self.features)
        if isinstance(kernel, PackedKernel):
            y = kernel.multiply(x)
            return y + jnp.broadcast_to(bias, y.shape)
        precision = of_products(self.dtype, self.precision)

        def multiply(kernel):
            given = x.astype(self.dtype), kernel.astype(self.dtype)
            return (jnp.matmul(*given, precision=precision),)

        (y,) = self.product(multiply, kernel, train)
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


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
        self,
        x: Float[Array, "T B *N"] | Timesteps,
        train: bool,
        shared: State = None,
        *,
        normalise: BatchNorm | None = None,
        repeats: int = 1,
    ) -> Any:
        """Spikes `T B *N`, of timesteps as timesteps.

        Args:
            x: currents.
            train: whether the quantizer may learn from this call.
            shared: state of the feeding kernel's quantizer, for one that shares it.
            normalise: what normalises them before. As one with the neurons it needs
                less memory in training, and fewer passes over it.
            repeats: T, of a still image whose current is given once, as one timestep.
        """
        parts = x if isinstance(x, tuple) else apart(x)
        decay, dtype = None, accumulation(parts[0].dtype)
        if self.neuron.kind == "plif":
            start = initial_decay(self.neuron)
            decay = self.param("w", lambda key: jnp.asarray(start, dtype))
        resting = jnp.full(parts[0].shape, self.neuron.rest, dtype)
        v = self.get_variable("membrane", "v", resting)
        state = self.quantizer_state(shared) if self.quantizes else ()
        inside = train and self.used.each_timestep

        def quantize(v, state):
            if not self.quantizes:
                return v, state
            v, state = self.used.apply(v, state, inside)
            # Else every later timestep quantizes again, in each kernel that needs it.
            return cpu.computed_once(v), state

        def fire(x, v, decay, state):
            neurons = functools.partial(unroll, self.neuron, quantize=quantize)
            return neurons(x * repeats, v, decay, state=state)

        given = v, decay, state
        if normalise is None:
            spikes, seen, v, after = fire(parts, *given)
        else:
            found = normalise(parts, train, repeats=repeats, then=fire, given=given)
            spikes, seen, v, after = found
        if not self.is_initializing():
            # Kept only where the caller asks, by making the collection mutable.
            kept = ("membrane", v), ("potentials", jnp.stack(seen))
            for collection, value in kept:
                if self.is_mutable_collection(collection):
                    self.put_variable(collection, "v", value)
        if self.quantizes and train:
            # Unless it wants otherwise a quantizer learns once per step, from the
            # potentials of all timesteps: inside the loop over time it is frozen.
            if not inside:
                after = self.used.learn(seen, state)
                # Learned here, and not while the potentials of other layers wait too.
                spikes, after = cpu.held_together(spikes, after)
            self.remember(after)
        return spikes if isinstance(x, tuple) else jnp.stack(spikes)


__getattr__ = renamed.answers(
    Conv=("QuantConv", QuantConv),
    Dense=("QuantDense", QuantDense),
    fold=("jsnnq.networks.fold", fold),
)
