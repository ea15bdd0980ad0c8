"""Residual networks: units, blocks and the network over them, whatever fires inside.

A network is a stem, blocks with a shortcut, and a classifier; its layers are named and
laid out as in torchvision. Between the convolutions two families differ: spiking
neurons close every convolution (`sew`), or activations open it (`bnn`).

A network returns what it saw beside its logits; `jit` drops what nobody uses.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError, check_integer, check_number, choose
from jsnnq.networks.layers import QuantConv, QuantDense
from jsnnq.networks.network import Layers, Network, Seen, Synapse, module_field
from jsnnq.networks.normalisation import BatchNorm
from jsnnq.networks.rules import Rules
from jsnnq.networks.timesteps import Timesteps, fold
from jsnnq.quantizers.base import Quantizer
from jsnnq.runtime.precision import at_least_float32


class Unit(NamedTuple):
    """One convolution, with its normalisation and what fires or activates around it.

    Attributes:
        suffix: `1`, `2`, `3` in the branch.
        features: output channels.
        size: side of the kernel.
        stride: step of the convolution.
        depthwise: whether every channel has a kernel of its own and no others.
        linear: whether it reads its input as it is, in full precision, and not an
            activation (MobileNetV2's bottlenecks).
    """

    suffix: str
    features: int
    size: int
    stride: int
    depthwise: bool = False
    linear: bool = False

    def layer(self, kind: str) -> str:
        """The name of one of its layers: `conv1`, or `downsample_conv`."""
        return f"{kind}{self.suffix}" if self.suffix else f"downsample_{kind}"


class Plan(NamedTuple):
    """One block.

    Attributes:
        name: of its layers' paths, such as `layer1_0`.
        units: the convolutions of its branch.
        shortcut: `identity`, `convolution` (1x1, of the branch's stride), or `none`.
    """

    name: str
    units: tuple[Unit, ...]
    shortcut: str

    @property
    def downsample(self) -> Unit:
        """The convolution on the shortcut."""
        stride = max(unit.stride for unit in self.units)
        return Unit("", self.units[-1].features, 1, stride)

    @property
    def convolutions(self) -> tuple[Unit, ...]:
        """Those of the branch, then that on the shortcut, if there is one."""
        on_shortcut = self.shortcut == "convolution"
        return (*self.units, self.downsample) if on_shortcut else self.units

    def path_of(self, kind: str, unit: Unit) -> str:
        """The path of a unit's layer, such as `layer1_0/conv1`."""
        return f"{self.name}/{unit.layer(kind)}"

    def synapse(self, unit: Unit, source: str) -> Synapse:
        """A unit's connections with what feeds them."""
        margin, groups = (unit.size - 1) // 2, unit.features if unit.depthwise else 1
        return Synapse(self.path_of("conv", unit), source, unit.stride, margin, groups)


def branch_units(block: str, features: int, stride: int) -> tuple[Unit, ...]:
    """The convolutions of the branch of a `basic` block or a `bottleneck`.

    The latter strides on its 3x3 and returns 4 times the stage's channels `features`.
    """
    if block == "basic":
        return Unit("1", features, 3, stride), Unit("2", features, 3, 1)
    return (
        Unit("1", features, 1, 1),
        Unit("2", features, 3, stride),
        Unit("3", 4 * features, 1, 1),
    )


class Size(NamedTuple):
    """A named member of a family of ResNets: fields of `ResidualNetwork`."""

    depths: tuple[int, ...]
    block: str
    channels: tuple[int, ...] = (64, 128, 256, 512)


def sized(name: str, sizes: Mapping[str, Size], width: float) -> Size:
    """The entry `name` of a family's `sizes`, all channels times `width`, rounded.

    Raises:
        InputError: the name is unknown or the width leaves no channel.
    """
    choose("network", name, sizes)
    check_number("width", width, above=0)
    size = sizes[name]
    channels = tuple(round(width * count) for count in size.channels)
    if min(channels) < 1:
        raise InputError(
            f"width {width} leaves no channel in {name}: "
            f"more than {0.5 / min(size.channels)} is needed"
        )
    return size._replace(channels=channels)


class Block(nn.Module):
    """What blocks of both families have in common.

    Attributes:
        plan: its convolutions and its shortcut.
        weights: quantizers of the kernels.
        dtype: in which convolutions are computed.
        precision: of products of float32.
    """

    plan: Plan
    weights: Rules
    dtype: Any
    precision: str

    def apart(self, x: Any, train: bool) -> tuple[Any, Seen]:
        """Its output, and what it saw, apart from what the network has seen before.

        What `nn.remat` computes again has to return whatever it made.
        """
        seen = Seen()
        return self(x, train, seen), seen


def convolution(
    unit: Unit,
    quantizer: Quantizer,
    dtype: Any,
    start: tuple[float, float] = (1.0, 0.0),
    *,
    precision: str,
) -> tuple[QuantConv, BatchNorm]:
    """A unit's convolution and normalisation, inside the module that calls.

    The latter starts from a scale and a bias, `start`; `dtype` and `precision` are
    those of the products.
    """
    shape = unit.features, unit.size, unit.stride, unit.depthwise
    convolve = QuantConv(quantizer, *shape, dtype, precision, name=unit.layer("conv"))
    return convolve, BatchNorm(*start, name=unit.layer("bn"))


def max_pool(x: Float[Array, "N H W C"]) -> Float[Array, "N I J C"]:
    """Maximum over 3x3 windows, stride 2, padding 1 (nothing fires outside)."""
    padding: Any = ((1, 1), (1, 1))  # Flax's annotation knows the named ones only.
    return nn.max_pool(x, (3, 3), (2, 2), padding)


class ResidualNetwork(Network):
    """What networks of both families have in common.

    Attributes:
        depths: blocks in each stage.
        channels: channels of each stage (bottleneck: times 4 at its output).
        classes: outputs.
        block: one of the family's `BLOCKS`.
        remat: whether the backward pass computes each block again from its input
            (`jax.checkpoint`) and keeps nothing else of it: less memory, more time.
        stem: `cifar` (3x3, stride 1) or `imagenet` (7x7, stride 2, max-pool).

    Raises:
        InputError: a name is unknown or a number out of range.
    """

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    classes: int
    block: str = "basic"
    stem: str = "cifar"
    remat: bool = module_field(default=False, kw_only=True)

    BLOCKS: ClassVar[tuple[str, ...]] = ("basic", "bottleneck")

    names_sources: ClassVar[bool] = True

    def __post_init__(self):
        choose("block", self.block, self.BLOCKS)
        choose("stem", self.stem, ("cifar", "imagenet"))
        check_integer("classes", self.classes)
        super().__post_init__()

    # What a family says of itself

    def plans(self) -> list[Plan]:
        """Its blocks, in the order of the data; later stages begin with stride 2."""
        found, entering = [], self.channels[0]
        stages = zip(self.depths, self.channels, strict=True)
        for stage, (depth, features) in enumerate(stages):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                units = branch_units(self.block, features, stride)
                same = stride == 1 and entering == units[-1].features
                shortcut = "identity" if same else "convolution"
                found.append(Plan(f"layer{stage + 1}_{number}", units, shortcut))
                entering = units[-1].features
        return found

    def stem_unit(self) -> Unit:
        """The first convolution."""
        return Unit("1", self.channels[0], *((7, 2) if self.pools else (3, 1)))

    @property
    def pools(self) -> bool:
        """Whether a maximum is taken behind the stem; MobileNetV2 has none."""
        return self.stem == "imagenet" and self.block != "inverted"

    def neuron_layers(self) -> tuple[str, ...]:
        """Paths of the layers of spiking neurons, in the order of the data."""
        return ()

    def activation_layers(self) -> tuple[str, ...]:
        """Paths of the activations that convolutions read, in the order of the data."""
        return ()

    def layers_in_order(self) -> tuple[str, ...]:
        """Paths of all layers in the order of the data, `fc` last."""
        raise AttributeError("a family of networks says in which order its layers lie")

    def block_synapses(self) -> list[Synapse]:
        """The kernels of its blocks with what feeds them, in the order of the data."""
        raise AttributeError("a family of networks says what feeds its kernels")

    # What follows from it

    def through(
        self, kind: type[Block], *fields: Any, x: Any, train: bool, seen: Seen
    ) -> Any:
        """The output of all blocks, one behind the other.

        Args:
            kind: the family's block.
            fields: of it, behind its plan.
            x: what enters the first one.
            train: handed to each.
            seen: what they saw is added to it.
        """
        if self.remat:
            kind = nn.remat(kind, static_argnums=(2,), methods=["apart"])
        for plan in self.plans():
            block = kind(plan, *fields, name=plan.name)
            x, own = block.apart(x, train)
            for known, new in zip(seen, own, strict=True):
                known.update(new)
        return x

    def block_layers(self, *kinds: str) -> list[str]:
        """Paths of the blocks' layers of these kinds, in the order of the data."""
        # That on a shortcut has no `act`: it reads what the first of the branch reads.
        return [
            plan.path_of(kind, unit)
            for plan in self.plans()
            for unit in plan.convolutions
            for kind in kinds
            if unit.suffix or kind != "act"
        ]

    def known_layers(self) -> Layers:
        """Its layers with a quantizer's place, by that place."""
        return {
            "weights": self.kernel_layers(),
            "membranes": self.neuron_layers(),
            "activations": self.activation_layers(),
        }

    def classify(self, x: Timesteps, train: bool, seen: Seen) -> Float[Array, "T B K"]:
        """Logits of the mean over positions, which `seen` keeps as `features`."""
        # A sum over all positions would lose most of its digits in bfloat16.
        means = [jnp.mean(at_least_float32(one), axis=(1, 2)) for one in x]
        features = jnp.stack(means)
        seen.pooled["features"] = features
        products = self.dtype, self.precision
        layer = QuantDense(self.weights("fc"), self.classes, *products, name="fc")
        return fold(lambda y: layer(y, train), features)

    def synapses(self, shape: tuple[int, ...] = ()) -> tuple[Synapse, ...]:
        """Every kernel with what feeds it, in the order of the data."""
        stem = self.stem_unit()
        entering = Synapse("conv1", "image", stem.stride, (stem.size - 1) // 2)
        return (entering, *self.block_synapses(), Synapse("fc", "features", 1, 0))

    def kernel_layers(self) -> tuple[str, ...]:
        """Paths of the layers with a kernel, in the order of the data."""
        return tuple(synapse.name for synapse in self.synapses())
