"""SEW-ResNet: spiking residual networks whose branches and shortcuts meet as spikes.

Fang et al., *Deep Residual Learning in Spiking Neural Networks* (arXiv 2102.04159,
section 4.2). With S the input of a block and A = SN(F(S)) the spikes of its branch, a
block returns

    ADD   S + A        integers up to k + 1 after the k-th block of a stage
    AND   S A
    IAND  S (1 - A)

and nothing follows the join. Every convolution is followed by normalisation and
neurons, the last one of the branch and the one on a downsampling shortcut too. The
torchvision layout and the layers' names are those of SpikingJelly, whose bottleneck
however swaps S and A in IAND; here IAND is the paper's at every depth.

A still image is convolved and normalised once and its current repeated T times, as in
the authors' code; input with a time axis goes through the stem step by step.

The network returns what it saw beside its logits; `jit` drops what nobody uses.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq import encode
from jsnnq.cost import Synapse
from jsnnq.errors import InputError, check_integer, check_number, choose
from jsnnq.layers import STATE, BatchNorm, Conv, Dense, Rules, Spiking, fold
from jsnnq.neurons import Neuron, steady_drive

CONNECTS = ("add", "and", "iand")
STEMS = ("cifar", "imagenet")
BLOCKS = ("basic", "bottleneck")


class Seen(NamedTuple):
    """What a forward pass saw, by layer name, each `T B H W C` unless noted.

    Attributes:
        spikes: outputs of the neuron layers, 0 or 1.
        joins: outputs of the blocks; integers under ADD. Never part of a rate.
        pooled: what pooling made of them: `maxpool` behind an ImageNet stem, and
            `features`, `T B C`, the classifier's input.
    """

    spikes: dict[str, Array]
    joins: dict[str, Array]
    pooled: dict[str, Array]


def join(connect: str, shortcut: Array, branch: Array) -> Array:
    """The block's output g(A, S) (arXiv 2102.04159, Table 1)."""
    if connect == "add":
        return shortcut + branch
    if connect == "and":
        return shortcut * branch
    return shortcut * (1 - branch)


class Unit(NamedTuple):
    """One convolution of a block, with its normalisation and neurons.

    Attributes:
        suffix: `1`, `2`, `3` in the branch.
        features: output channels.
        size: side of the kernel.
        stride: step of the convolution.
    """

    suffix: str
    features: int
    size: int
    stride: int


def branch_units(block: str, features: int, stride: int) -> tuple[Unit, ...]:
    """The convolutions of a block's branch; a bottleneck strides on its 3x3."""
    if block == "basic":
        return Unit("1", features, 3, stride), Unit("2", features, 3, 1)
    return (
        Unit("1", features, 1, 1),
        Unit("2", features, 3, stride),
        Unit("3", 4 * features, 1, 1),
    )


class Block(nn.Module):
    """A spike-element-wise block.

    Attributes:
        units: convolutions of the branch.
        downsample: whether the shortcut has its own convolution and neurons.
        connect: `add`, `and` or `iand`.
        neuron: the neurons' equations.
        weights: quantizers of the kernels.
        membranes: quantizers of the membranes.
        zero_init: whether the branch starts as the identity mapping needs it.
        dtype: in which convolutions are computed.
    """

    units: tuple[Unit, ...]
    downsample: bool
    connect: str
    neuron: Neuron
    weights: Rules
    membranes: Rules
    zero_init: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "T B H W C"], train: bool, seen: Seen) -> Array:
        """The joined output; spikes and join are added to `seen`."""
        last = self.units[-1]
        branch = x
        for unit in self.units:
            silent = self.zero_init and unit is last
            start = self._silent_start() if silent else (1.0, 0.0)
            names = (f"conv{unit.suffix}", f"bn{unit.suffix}", f"sn{unit.suffix}")
            branch = self._fire(names, unit, start, branch, train, seen)
        shortcut = x
        if self.downsample:
            stride = max(unit.stride for unit in self.units)
            unit = Unit("", last.features, 1, stride)
            names = ("downsample_conv", "downsample_bn", "downsample_sn")
            shortcut = self._fire(names, unit, (1.0, 0.0), x, train, seen)
        joined = join(self.connect, shortcut, branch)
        seen.joins[self._path("join")] = joined
        return joined

    def _silent_start(self):
        # AND needs a branch that always fires: the paper's bias of 1 for its IF
        # neurons, which is what drives them from rest to the threshold in one step.
        return (0.0, steady_drive(self.neuron) if self.connect == "and" else 0.0)

    def _path(self, name):
        return "/".join((*self.path, name))

    def _fire(self, names, unit, start, x, train, seen):
        conv, bn, sn = names
        convolve = Conv(
            quantizer=self.weights(self._path(conv)),
            features=unit.features,
            size=unit.size,
            stride=unit.stride,
            dtype=self.dtype,
            name=conv,
        )
        normalise = BatchNorm(*start, name=bn)
        spike = Spiking(
            quantizer=self.membranes(self._path(sn)), neuron=self.neuron, name=sn
        )
        current = fold(lambda y: normalise(convolve(y, train), train), x)
        spikes = spike(current, train, shared_state(convolve))
        seen.spikes[self._path(sn)] = spikes
        return spikes


def max_pool(x: Float[Array, "N H W C"]) -> Float[Array, "N I J C"]:
    """Maximum over 3x3 windows, stride 2, padding 1 (nothing fires outside)."""
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, 3, 3, 1),
        (1, 2, 2, 1),
        ((0, 0), (1, 1), (1, 1), (0, 0)),
    )


def shared_state(layer: nn.Module) -> Any:
    """The learned quantizer state of a kernel, for neurons that share it (MINT)."""
    return layer.variables.get("params", {}).get(STATE)


class SEWResNet(nn.Module):
    """A SEW-ResNet.

    Attributes:
        depths: blocks in each stage.
        channels: channels of each stage (bottleneck: times 4 at its output).
        classes: outputs.
        block: `basic` or `bottleneck`.
        timesteps: T.
        stem: `cifar` (3x3, stride 1) or `imagenet` (7x7, stride 2, max-pool).
        connect: `add`, `and` or `iand`.
        neuron: the neurons' equations.
        weights: quantizers of the kernels.
        membranes: quantizers of the membranes.
        zero_init: start every branch silent (AND: firing).
        dtype: in which convolutions are computed; membranes stay float32.

    Raises:
        InputError: a name is unknown or a number out of range.
    """

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    classes: int
    block: str = "basic"
    timesteps: int = 4
    stem: str = "cifar"
    connect: str = "add"
    neuron: Neuron = Neuron()
    weights: Rules = Rules()
    membranes: Rules = Rules()
    zero_init: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        choose("block", self.block, BLOCKS)
        choose("connect", self.connect, CONNECTS)
        choose("stem", self.stem, STEMS)
        check_integer("timesteps", self.timesteps)
        check_integer("classes", self.classes)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "*T B H W C"], train: bool = False
    ) -> tuple[Float[Array, "T B K"], Seen]:
        """Logits per timestep, and what the network saw.

        Args:
            x: still images `B H W C`, or a sequence `T B H W C`.
            train: whether normalisation uses the batch and quantizers learn; then
                `batch_stats` and `quant` must be mutable.
        """
        seen = Seen({}, {}, {})
        x = self._stem(x, train, seen)
        for name, units, downsample in self.blocks():
            x = Block(
                units,
                downsample,
                self.connect,
                self.neuron,
                self.weights,
                self.membranes,
                self.zero_init,
                self.dtype,
                name=name,
            )(x, train, seen)
        features = jnp.mean(x.astype(jnp.float32), axis=(2, 3))
        seen.pooled["features"] = features
        classify = Dense(
            quantizer=self.weights("fc"),
            features=self.classes,
            dtype=self.dtype,
            name="fc",
        )
        return fold(lambda y: classify(y, train), features), seen

    def _stem(self, x, train, seen):
        imagenet = self.stem == "imagenet"
        convolve = Conv(
            quantizer=self.weights("conv1"),
            features=self.channels[0],
            size=7 if imagenet else 3,
            stride=2 if imagenet else 1,
            dtype=self.dtype,
            name="conv1",
        )
        normalise = BatchNorm(name="bn1")
        spike = Spiking(quantizer=self.membranes("sn1"), neuron=self.neuron, name="sn1")
        if x.ndim == 4:
            current = normalise(convolve(x, train), train, self.timesteps)
            current = encode.direct(current, self.timesteps)
        else:
            current = fold(lambda y: normalise(convolve(y, train), train), x)
        spikes = spike(current, train, shared_state(convolve))
        seen.spikes["sn1"] = spikes
        if imagenet:
            spikes = seen.pooled["maxpool"] = fold(max_pool, spikes)
        return spikes

    def blocks(self) -> list[tuple[str, tuple[Unit, ...], bool]]:
        """Every block: its name, its branch, and whether its shortcut downsamples."""
        found = []
        entering = self.channels[0]
        for stage, (depth, features) in enumerate(
            zip(self.depths, self.channels, strict=True)
        ):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                units = branch_units(self.block, features, stride)
                leaving = units[-1].features
                downsample = stride > 1 or entering != leaving
                found.append((f"layer{stage + 1}_{number}", units, downsample))
                entering = leaving
        return found

    def layers_in_order(self) -> tuple[str, ...]:
        """Paths of all convolutions, normalisations and neurons, then `fc`."""
        found = ["conv1", "bn1", "sn1"]
        for name, units, downsample in self.blocks():
            for unit in units:
                found += [
                    f"{name}/{kind}{unit.suffix}" for kind in ("conv", "bn", "sn")
                ]
            if downsample:
                found += [f"{name}/downsample_{kind}" for kind in ("conv", "bn", "sn")]
        return (*found, "fc")

    def kernel_layers(self) -> tuple[str, ...]:
        """Paths of the layers with a kernel, in the order of the data."""
        return tuple(p for p in self.layers_in_order() if "conv" in p or p == "fc")

    def neuron_layers(self) -> tuple[str, ...]:
        """Paths of the neuron layers, in the order of the data."""
        return tuple(p for p in self.layers_in_order() if "sn" in p)

    def synapses(self) -> tuple[Synapse, ...]:
        """Every kernel with what feeds it, in the order of the data."""
        imagenet = self.stem == "imagenet"
        stem = (2, 3) if imagenet else (1, 1)
        found = [Synapse("conv1", "image", *stem)]
        source = "maxpool" if imagenet else "sn1"
        for name, units, downsample in self.blocks():
            feed = source
            for unit in units:
                margin = (unit.size - 1) // 2
                found.append(
                    Synapse(f"{name}/conv{unit.suffix}", feed, unit.stride, margin)
                )
                feed = f"{name}/sn{unit.suffix}"
            if downsample:
                stride = max(unit.stride for unit in units)
                found.append(Synapse(f"{name}/downsample_conv", source, stride, 0))
            source = f"{name}/join"
        return (*found, Synapse("fc", "features", 1, 0))


def observe(
    network: SEWResNet, variables: Mapping[str, Any], x: Float[Array, "*T B H W C"]
) -> tuple[Float[Array, "T B K"], Seen]:
    """The network in evaluation mode: logits per timestep, and what it saw."""
    found: Any = network.apply(dict(variables), x, False)
    return found


def init_state(
    network: SEWResNet, variables: dict, frame: Float[Array, "B H W C"]
) -> dict:
    """Membranes at rest, for `step` on frames shaped like `frame`.

    Returns:
        A tree of `B H W C` float32 membranes, one leaf per neuron layer.
    """
    _, state = jax.eval_shape(
        lambda: network.apply(variables, frame[None], mutable=["membrane"])
    )
    return jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, network.neuron.rest, leaf.dtype),
        state["membrane"],
    )


def step(
    network: SEWResNet, variables: dict, state: dict, frame: Float[Array, "B H W C"]
) -> tuple[Float[Array, "B K"], Seen, dict]:
    """One timestep of online inference; T of them equal one folded call.

    Args:
        network: the network.
        variables: its parameters and collections.
        state: membranes from `init_state` or the step before.
        frame: the input of this timestep.

    Returns:
        Logits of this timestep (average them over time), what the network saw
        (`1 B ...`), and the next state.
    """
    found: Any = network.apply(
        {**variables, "membrane": state}, frame[None], mutable=["membrane"]
    )
    (logits, seen), changed = found
    return logits[0], seen, changed["membrane"]


class Size(NamedTuple):
    """A named member of the family."""

    depths: tuple[int, ...]
    block: str
    channels: tuple[int, ...] = (64, 128, 256, 512)


SIZES = {
    "sew_resnet8": Size((1, 1, 1), "basic", (64, 128, 256)),
    "sew_resnet18": Size((2, 2, 2, 2), "basic"),
    "sew_resnet34": Size((3, 4, 6, 3), "basic"),
    "sew_resnet50": Size((3, 4, 6, 3), "bottleneck"),
    "sew_resnet101": Size((3, 4, 23, 3), "bottleneck"),
    "sew_resnet152": Size((3, 8, 36, 3), "bottleneck"),
    # Used for testing only.
    "sew_resnet_tiny": Size((1, 1), "basic", (4, 8)),
}


def sew_resnet(name: str, *, width: float = 1.0, **fields: Any) -> SEWResNet:
    """A named SEW-ResNet.

    Args:
        name: a key of `SIZES`. `sew_resnet8` is a stem and one basic block in each
            of three stages of 64, 128 and 256 channels (the paper does not say).
        width: multiplies all channels.
        **fields: other fields of `SEWResNet`, at least `classes`.

    Raises:
        InputError: the name is unknown or the width leaves no channel.
    """
    choose("network", name, SIZES)
    size = SIZES[name]
    check_number("width", width, above=0)
    channels = tuple(round(width * count) for count in size.channels)
    if min(channels) < 1:
        raise InputError(
            f"width {width} leaves no channel in {name}: "
            f"more than {0.5 / min(size.channels)} is needed"
        )
    return SEWResNet(depths=size.depths, block=size.block, channels=channels, **fields)
