"""What the library asks of a network, and the base class that does most of it.

A network, one of ours or your own, is a Flax module derived from `Network`:

    class Net(Network):
        classes: int
        timesteps: int = 4

        @nn.compact
        def __call__(self, x, train=False):
            seen = Seen()
            x = over_time(x, self.timesteps)                             # T B H W C
            convolve = QuantConv(self.weights, 16, name="conv1")
            normalise = BatchNorm(name="bn1")
            current = fold(lambda y: normalise(convolve(y, train), train), x)
            x = seen.spikes["sn1"] = Spiking(self.membranes, name="sn1")(current, train)
            x = x.reshape(*x.shape[:2], -1)
            classify = QuantDense(self.weights, self.classes, name="fc")
            return fold(lambda y: classify(y, train), x), seen

Training needs less memory where neurons normalise their currents themselves:
`Spiking(self.membranes, name="sn1")(current, train, normalise=BatchNorm(name="bn1"))`.

It promises this, and nothing else is asked of it:

* `timesteps` is T; a network without time leaves it at 1.
* It is called with normalised images `B H W C`, or frames `T B H W C`, and `train`. It
  returns logits `T B K`, one for each timestep, and what it saw, a `Seen`. The spikes
  of each layer of neurons stand in `seen.spikes` under the layer's path.
* Learned numbers are in the collection `params`, running statistics in `batch_stats`,
  states of quantizers in `quant`; there is no other that training changes.
* Layers with a quantizer are those of `jsnnq.networks`. They are given the rules of
  their place, `weights`, `membranes` or `activations`, and take the quantizer of the
  first rule that fully matches their path.
* It is hashable, as Flax modules with hashable fields are, and calls every layer once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError, choose, settle
from jsnnq.networks.layers import QuantizedLayer
from jsnnq.networks.rules import Rules
from jsnnq.quantizers.base import PLACES, Quantizer
from jsnnq.runtime.precision import PRECISIONS, check_dtype

if TYPE_CHECKING:  # Checkers know Flax's fields by another name.
    from flax.linen.module import module_field
else:
    from flax.linen.kw_only_dataclasses import field as module_field


class _Seen(NamedTuple):
    spikes: dict[str, Any]
    joins: dict[str, Any]
    pooled: dict[str, Any]
    activations: dict[str, Any]


class Seen(_Seen):
    """What a forward pass saw, by layer name, each `T B H W C` unless noted.

    `Seen()` is empty, to be filled while a network is applied.

    Attributes:
        spikes: outputs of the neuron layers, 0 or 1.
        joins: outputs of blocks; integers under ADD. Never part of a rate.
        pooled: what pooling made of them: `maxpool` behind an ImageNet stem, and
            `features`, `T B C`, the classifier's input.
        activations: what the kernels of a network without spikes read.

    Example:
        >>> seen = jsnnq.networks.Seen()
        >>> seen.spikes["sn1"] = jnp.zeros((4, 1, 8))
        >>> seen.joins
        {}
    """

    def __new__(cls, spikes=None, joins=None, pooled=None, activations=None):
        """Those that are given; the others are new and empty."""
        given = (spikes, joins, pooled, activations)
        return super().__new__(cls, *({} if one is None else one for one in given))


class Synapse(NamedTuple):
    """One set of connections.

    Attributes:
        name: path of the layer that owns the kernel, such as `layer1_0/conv1`.
        source: what feeds it: a neuron layer, a join, a pooled value, `image` or
            `features`; in a network of one's own the input of the layer itself.
        stride: of the convolution, in both directions.
        padding: zeros on each side of the image.
        groups: into how many the channels are cut, each with kernels of its own; as
            many as there are channels is depthwise.

    Example:
        >>> jsnnq.sew_resnet("sew_resnet8", classes=10).synapses()[0]
        Synapse(name='conv1', source='image', stride=1, padding=1, groups=1)
    """

    name: str
    source: str
    stride: int
    padding: int
    groups: int = 1


Layers = Mapping[str, tuple[str, ...]]
"""Paths of the layers in each of `PLACES`, in the order of the data."""


Net = TypeVar("Net", bound="Network")


class Network(nn.Module):
    """What all networks have in common; the module's text says what one promises.

    Attributes:
        weights: quantizers of the kernels.
        membranes: quantizers of the neurons' membranes.
        activations: quantizers of what stands between kernels where nothing spikes.
        dtype: of the products; what is kept has its accumulation dtype.
        precision: of products of float32: `highest`, which is float32 on every device,
            `high` or `default`; see `jsnnq.runtime.precision`. A network of one's own
            hands it to its layers, as `dtype`.

    Raises:
        InputError: a quantizer has no meaning in its place, the precision is unknown,
            or `dtype` is float64 without JAX's 64-bit mode.

    Example:
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10)
        >>> isinstance(net, jsnnq.networks.Network), net.known_layers()["weights"][0]
        (True, 'conv1')
    """

    # At the end of the signature, whatever fields a network adds.
    weights: Rules = module_field(default=Rules(), kw_only=True)
    membranes: Rules = module_field(default=Rules(), kw_only=True)
    activations: Rules = module_field(default=Rules(), kw_only=True)
    dtype: Any = module_field(default=jnp.float32, kw_only=True)
    precision: str = module_field(default="highest", kw_only=True)

    timesteps = 1  # Without a type, since it becomes a field where there is time.

    def __post_init__(self):
        settle(self)
        check_dtype(self.dtype)
        choose("precision", self.precision, PRECISIONS)
        for place in PLACES:
            rules = getattr(self, place)
            if not isinstance(rules, Rules):
                raise InputError(
                    f"{place} of {type(self).__name__} is {rules!r}: Rules are needed, "
                    "as jsnnq.quantize gives them"
                )
            setattr(self, place, rules.placed(place, self.threshold))
        super().__post_init__()

    @property
    def threshold(self) -> float | None:
        """The membrane at which its neurons fire, if they are all of one kind."""
        neuron = getattr(self, "neuron", None)
        return None if neuron is None else neuron.v_threshold

    def with_rules(self: Net, rules: Mapping[str, Rules]) -> Net:
        """The same network with these quantizers, by place."""
        changed: Any = dict(rules)
        return self.clone(**changed)

    def with_each(self: Net, change: Callable[[Quantizer], Quantizer]) -> Net:
        """The same network, each quantizer changed."""
        return self.with_rules({p: getattr(self, p).with_each(change) for p in PLACES})

    @property
    def representative(self: Net) -> Net:
        """The same one for all networks that compile to one program."""
        return self.with_each(lambda quantizer: quantizer.representative)

    @property
    def bare(self: Net) -> Net:
        """The same network without quantizers."""
        return self.with_rules({place: Rules() for place in PLACES})

    @property
    def usual(self) -> Mapping[str, str]:
        """Patterns of the layers that one quantizer without a rule is for, by place."""
        return dict.fromkeys(PLACES, ".*")

    names_sources: ClassVar[bool] = False
    """Whether it says what feeds its kernels, under names that stand in `Seen`."""

    def known_layers(self) -> Any:
        """Its `Layers`, if they are known without an input; else None."""
        return None

    def layers(self, shape: tuple[int, ...]) -> Layers:
        """Its layers with a quantizer's place.

        Args:
            shape: of an input, `B H W C` or `T B H W C`.
        """
        calls = _calls(cast(Any, self.bare), tuple(shape))
        return {
            place: tuple(path for path, call in calls.items() if call.place == place)
            for place in PLACES
        }

    def synapses(self, shape: tuple[int, ...]) -> tuple[Synapse, ...]:
        """Every kernel with what feeds it, in the order of the data.

        Args:
            shape: of an input, as in `layers`.
        """
        calls = _calls(cast(Any, self.bare), tuple(shape)).values()
        return tuple(call.synapse for call in calls if call.place == "weights")


def input_shape(image_shape: tuple[int, ...], batch: int = 1) -> tuple[int, ...]:
    """The shape of what a network reads: `B H W C`, or of frames `T B H W C`."""
    *time, height, width, channels = image_shape
    return (*time, batch, height, width, channels)


def check_network(given: Any) -> None:
    """Refuses what is no network.

    Raises:
        InputError: it is not derived from `Network`.
    """
    if not isinstance(given, Network):
        raise InputError(
            f"net is a {type(given).__name__}: a network is needed, from sew_resnet or "
            "binary_resnet, or a module of your own derived from "
            "jsnnq.networks.Network, whose text says what it promises"
        )


# A network of one's own is asked by looking on while it is traced.


class _Call(NamedTuple):
    """What is noted of a layer with a quantizer's place."""

    place: str
    synapse: Synapse


@functools.lru_cache(64)
def _calls(net: Network, shape: tuple[int, ...]) -> dict[str, _Call]:
    """Its layers by their paths, in the order in which they are called."""
    found = {}

    def note(layer, x):
        found[layer.at] = _Call(
            layer.place, Synapse(layer.at, layer.at, *layer.feeds(x))
        )

    with nn.intercept_methods(_noted(note)):
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        jax.eval_shape(net.init, jax.random.key(0), images)
    return found


def _noted(note: Callable[[Any, Array], None]) -> Any:
    """An interceptor that hands on each layer with its input."""

    def between(call, arguments, named, context):
        layer = context.module
        if isinstance(layer, QuantizedLayer) and context.method_name == "__call__":
            x = arguments[0]
            note(layer, jnp.concatenate(x) if isinstance(x, tuple) else x)
        return call(*arguments, **named)

    return between


def observe(
    network: Network, variables: Mapping[str, Any], x: Float[Array, "..."]
) -> tuple[Float[Array, "T B K"], Seen]:
    """The network in evaluation mode: logits per timestep, and what it saw.

    Where a network does not say what feeds its kernels, their inputs are noted among
    the activations, each under the path of its layer.

    Args:
        network: the network.
        variables: its parameters and collections.
        x: images `B H W C`, or frames `T B H W C`.
    """
    apply: Any = functools.partial(network.apply, dict(variables), x, False)
    if network.names_sources:
        return apply()
    inputs: dict[str, Array] = {}

    def note(layer, values):
        if layer.place == "weights":
            inputs[layer.at] = values

    with nn.intercept_methods(_noted(note)):
        logits, seen = apply()
    over_time = lambda values: _unfolded(values, *logits.shape[:2])
    noted = {path: over_time(values) for path, values in inputs.items()}
    return logits, seen._replace(activations={**seen.activations, **noted})


def _unfolded(x: Array, timesteps: int, images: int) -> Array:
    """Time in front again; what was computed once stands at every timestep."""
    once = x.shape[0] == images
    x = x.reshape(1 if once else timesteps, images, *x.shape[1:])
    return jnp.broadcast_to(x, (timesteps, *x.shape[1:]))
