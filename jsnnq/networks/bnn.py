"""Residual networks without spikes: full precision, binary weights, or fully binary.

The backbones of StoMPP (arXiv 2601.22660 and 2606.27759): ResNets, and MobileNetV2 for
CIFAR. Convolution k and the activation it reads, `actk`, are a pair: a quantizer of
activations takes the place of the activation function, and sees the values before it.
A block is entered by the sum its predecessor left,

    a = act1(x)                       the value is split here
    branch = bn2(conv2(act2(bn1(conv1(a)))))
    y = branch + shortcut(a)          or shortcut(x), with `shortcut="real"`

which in full precision is He et al.'s ResNet with its ReLU moved from the end of a
block to the start of the next. With binary activations branch and shortcut carry the
same signs (the reading of the papers chosen here: every ReLU becomes a sign before the
value is split), unless the shortcut is `real`, as in Bi-Real Net (arXiv 1808.00278).
What the last join leaves passes the ordinary activation before it is pooled.

The bottlenecks of MobileNetV2 (`inverted_plans`) are linear: where the first
convolution of a branch has no quantizer in front, it reads the sum as it is.
"""

from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from jsnnq.errors import choose
from jsnnq.networks.layers import ACTIVATIONS, Activation
from jsnnq.networks.network import Seen, Synapse
from jsnnq.networks.resnet import (
    Block,
    Plan,
    ResidualNetwork,
    Size,
    Unit,
    convolution,
    max_pool,
    sized,
)
from jsnnq.networks.rules import Rules

BRANCH_KERNELS = r"layer\d+_\d+/conv\d"
"""Kernels of the residual branches: those that binary networks make signs."""

BRANCH_ACTIVATIONS = r"layer\d+_\d+/act\d"
"""What those kernels read."""

POINTWISE_KERNELS = r"(layer\d+_\d+|head)/conv[13]"
"""The 1x1 convolutions of MobileNetV2."""

POINTWISE_ACTIVATIONS = r"(layer\d+_\d+|head)/act[13]"
"""What those read."""

SHORTCUTS = ("quantized", "real")
"""What a shortcut carries: what its branch reads, or the value before that."""


class PlainBlock(Block):
    """A block whose convolutions each read an activation.

    Attributes:
        activation: a key of `layers.ACTIVATIONS`.
        shortcut: one of `SHORTCUTS`.
        activations: quantizers of the activations.
    """

    activation: str
    shortcut: str
    activations: Rules

    @nn.compact
    def __call__(self, x: Float[Array, "N H W C"], train: bool, seen: Seen) -> Array:
        """The sum of branch and shortcut; what convolutions read goes to `seen`."""
        y = x
        for number, unit in enumerate(self.plan.units):
            y = self._activate(unit, y, train, seen)
            if number == 0 and self.shortcut == "quantized":
                x = y
            y = self._convolve(unit, y, train)
        if self.plan.shortcut == "none":
            return y
        if self.plan.shortcut == "convolution":
            seen.activations[f"{self.plan.name}/shortcut"] = x[None]
            x = self._convolve(self.plan.downsample, x, train)
        return x + y

    def _activate(self, unit, x, train, seen):
        path = self.plan.path_of("act", unit)
        kind = "none" if unit.linear else self.activation
        activate = Activation(self.activations(path), kind, name=unit.layer("act"))
        x = activate(x, train)
        seen.activations[path] = x[None]
        return x

    def _convolve(self, unit, x, train):
        quantizer = self.weights(self.plan.path_of("conv", unit))
        convolve, normalise = convolution(
            unit, quantizer, self.dtype, precision=self.precision
        )
        return normalise(convolve(x, train), train)


class BinaryResNet(ResidualNetwork):
    """A ResNet or MobileNetV2 without time; `ResidualNetwork` has its other fields.

    Attributes:
        activation: `relu`, `relu6` or `clip` (to [-1, 1]), where there is no quantizer.
        shortcut: one of `SHORTCUTS`.

    Raises:
        InputError: a name is unknown or a number out of range.

    Example:
        >>> net = jsnnq.BinaryResNet(depths=(1,), channels=(4,), classes=10)
        >>> net.activation_layers()
        ('layer1_0/act1', 'layer1_0/act2')
    """

    activation: str = "relu"
    shortcut: str = "quantized"

    BLOCKS: ClassVar[tuple[str, ...]] = ("basic", "bottleneck", "inverted")

    def __post_init__(self):
        choose("activation", self.activation, set(ACTIVATIONS) - {"none"})
        choose("shortcut", self.shortcut, SHORTCUTS)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False
    ) -> tuple[Float[Array, "1 B K"], Seen]:
        """Logits, and what the convolutions read.

        Args:
            x: images.
            train: use the batch's statistics and let quantizers learn; then
                `batch_stats` and `quant` must be mutable.
        """
        seen = Seen()
        unit, quantizer = self.stem_unit(), self.weights("conv1")
        convolve, normalise = convolution(
            unit, quantizer, self.dtype, precision=self.precision
        )
        x = normalise(convolve(x, train), train)
        # Before the first activation: the two commute, except while masks are mixed.
        x = max_pool(x) if self.pools else x
        same = self.weights, self.dtype, self.precision
        plain = self.activation, self.shortcut, self.activations
        x = self.through(PlainBlock, *same, *plain, x=x, train=train, seen=seen)
        x = Activation(kind=self.activation, name="act")(x, train)
        return self.classify((x,), train, seen), seen

    def plans(self) -> list[Plan]:
        """Its blocks, in the order of the data."""
        if self.block == "inverted":
            return inverted_plans(self.depths, self.channels, self.stem)
        return super().plans()

    def stem_unit(self) -> Unit:
        """The first convolution; MobileNetV2's has twice the first stage's channels."""
        if self.block == "inverted":
            return Unit("1", 2 * self.channels[0], 3, 2 if self.stem != "cifar" else 1)
        return super().stem_unit()

    @property
    def usual(self) -> dict[str, str]:
        """What binary networks make signs: of MobileNetV2 what is pointwise."""
        if self.block == "inverted":
            kernels, reads = POINTWISE_KERNELS, POINTWISE_ACTIVATIONS
        else:
            kernels, reads = BRANCH_KERNELS, BRANCH_ACTIVATIONS
        return {**super().usual, "weights": kernels, "activations": reads}

    def layers_in_order(self) -> tuple[str, ...]:
        """Paths of all activations, convolutions and normalisations, then `fc`."""
        return ("conv1", "bn1", *self.block_layers("act", "conv", "bn"), "act", "fc")

    def activation_layers(self) -> tuple[str, ...]:
        """Paths of the activations that convolutions of blocks read, in order."""
        return tuple(self.block_layers("act"))

    def block_synapses(self) -> list[Synapse]:
        """The kernels of its blocks with what feeds them, in the order of the data."""
        return [
            plan.synapse(
                unit,
                plan.path_of("act", unit) if unit.suffix else f"{plan.name}/shortcut",
            )
            for plan in self.plans()
            for unit in plan.convolutions
        ]


def inverted_plans(
    depths: tuple[int, ...], channels: tuple[int, ...], stem: str
) -> list[Plan]:
    """The blocks of MobileNetV2 (arXiv 1801.04381, Table 2), the head's 1x1 included.

    A branch widens sixfold (the first stage not at all), convolves each channel and
    narrows again; in the last place a convolution to four times the last stage's
    channels. For CIFAR stem and second stage have no stride. The arguments are fields
    of `BinaryResNet`.
    """
    strides = (1, 1 if stem == "cifar" else 2, 2, 2, 1, 2, 1)
    entering = 2 * channels[0]
    found = []
    for stage, (depth, features) in enumerate(zip(depths, channels, strict=True)):
        for number in range(depth):
            stride = strides[stage] if number == 0 else 1
            hidden = entering if stage == 0 else 6 * entering
            units = (
                Unit("1", hidden, 1, 1, linear=True),
                Unit("2", hidden, 3, stride, depthwise=True),
                Unit("3", features, 1, 1),
            )
            units = units[1:] if stage == 0 else units
            same = stride == 1 and entering == features
            shortcut = "identity" if same else "none"
            found.append(Plan(f"layer{stage + 1}_{number}", units, shortcut))
            entering = features
    head = Unit("1", 4 * entering, 1, 1, linear=True)
    return [*found, Plan("head", (head,), "none")]


SIZES = {
    "resnet18": Size((2, 2, 2, 2), "basic"),
    "resnet34": Size((3, 4, 6, 3), "basic"),
    "resnet50": Size((3, 4, 6, 3), "bottleneck"),
    "mobilenetv2": Size(
        (1, 2, 3, 4, 3, 3, 1), "inverted", (16, 24, 32, 64, 96, 160, 320)
    ),
    # Used for testing only.
    "resnet_tiny": Size((1, 1), "basic", (4, 8)),
    "mobilenet_tiny": Size((1, 2), "inverted", (4, 8)),
}


def binary_resnet(
    name: str, *, width: float = 1.0, activation: str | None = None, **fields: Any
) -> BinaryResNet:
    """A named network.

    Args:
        name: a key of `SIZES`.
        width: multiplies all channels.
        activation: as in `BinaryResNet`; by default the published one, ReLU6 for
            MobileNetV2 and ReLU for the others.
        **fields: other fields of `BinaryResNet`, at least `classes`.

    Raises:
        InputError: the name is unknown or the width leaves no channel.

    Example:
        >>> jsnnq.binary_resnet("resnet18", width=0.25, classes=10).channels
        (16, 32, 64, 128)
    """
    size = sized(name, SIZES, width)
    activation = activation or ("relu6" if size.block == "inverted" else "relu")
    return BinaryResNet(**size._asdict(), activation=activation, **fields)
