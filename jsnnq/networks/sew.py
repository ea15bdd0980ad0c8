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

A still image is convolved once and its current repeated T times, as in the authors'
code; input with a time axis goes through the stem step by step.
"""

import re
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsnnq.errors import InputError, check_integer, choose
from jsnnq.networks.layers import STATE, Spiking
from jsnnq.networks.network import Network, Seen, Synapse
from jsnnq.networks.neurons import Neuron, steady_drive
from jsnnq.networks.resnet import (
    Block,
    ResidualNetwork,
    Size,
    convolution,
    max_pool,
    sized,
)
from jsnnq.networks.rules import Rules
from jsnnq.networks.timesteps import Timesteps, apart

CONNECTS = ("add", "and", "iand")

HIDDEN_KERNELS = r"layer\d+_\d+/(conv\d|downsample_conv)"
"""Kernels of the residual blocks: all but the first convolution and the classifier."""

ALL_NEURONS = r".*sn\d?"
"""Every neuron layer."""


def join(connect: str, shortcut: Array, branch: Array) -> Array:
    """The block's output g(A, S), A the branch (arXiv 2102.04159, Table 1)."""
    if connect == "add":
        return shortcut + branch
    if connect == "and":
        return shortcut * branch
    return shortcut * (1 - branch)


class SEWBlock(Block):
    """A spike-element-wise block.

    Attributes:
        connect: `add`, `and` or `iand`.
        neuron: the neurons' equations.
        membranes: quantizers of the membranes.
        zero_init: whether the branch starts silent (AND: firing), so that the block
            starts as its shortcut.
    """

    connect: str
    neuron: Neuron
    membranes: Rules
    zero_init: bool

    @nn.compact
    def __call__(self, x: Timesteps, train: bool, seen: Seen) -> Timesteps:
        """The joined output; spikes and join are added to `seen`."""
        # AND needs a branch that always fires: the paper's bias of 1 for its IF
        # neurons, which is what drives them from rest to the threshold in one step.
        bias = steady_drive(self.neuron) if self.connect == "and" else 0.0
        branch = x
        for unit in self.plan.units:
            silent = self.zero_init and unit is self.plan.units[-1]
            start = (0.0, bias) if silent else (1.0, 0.0)
            branch = self._fire(unit, branch, train, seen, start)
        shortcut = x
        if self.plan.shortcut == "convolution":
            shortcut = self._fire(self.plan.downsample, x, train, seen)
        pairs = zip(shortcut, branch, strict=True)
        joined = tuple(join(self.connect, *pair) for pair in pairs)
        seen.joins[f"{self.plan.name}/join"] = jnp.stack(joined)
        return joined

    def _fire(self, unit, x, train, seen, start=(1.0, 0.0)):
        quantizer = self.weights(self.plan.path_of("conv", unit))
        convolve, normalise = convolution(
            unit, quantizer, self.dtype, start, precision=self.precision
        )
        path = self.plan.path_of("sn", unit)
        spike = Spiking(self.membranes(path), self.neuron, name=unit.layer("sn"))
        currents = convolve(x, train)
        shared = shared_state(convolve)
        spikes = spike(currents, train, normalise=normalise, shared=shared)
        seen.spikes[path] = jnp.stack(spikes)
        return spikes


def shared_state(layer: nn.Module) -> Any:
    """The learned quantizer state of a kernel, for neurons that share it (MINT)."""
    return layer.variables.get("params", {}).get(STATE)


class SEWResNet(ResidualNetwork):
    """A SEW-ResNet; `ResidualNetwork` has its other fields.

    Attributes:
        timesteps: T.
        connect: `add`, `and` or `iand`.
        neuron: the neurons' equations.
        zero_init: start every branch silent (AND: firing).

    Raises:
        InputError: a name is unknown or a number out of range.

    Example:
        >>> net = jsnnq.SEWResNet(depths=(1,), channels=(4,), classes=10, timesteps=2)
        >>> net.neuron_layers()
        ('sn1', 'layer1_0/sn1', 'layer1_0/sn2')
    """

    timesteps: int = 4
    connect: str = "add"
    neuron: Neuron = Neuron()
    zero_init: bool = False

    def __post_init__(self):
        choose("connect", self.connect, CONNECTS)
        check_integer("timesteps", self.timesteps)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "*T B H W C"], train: bool = False
    ) -> tuple[Float[Array, "T B K"], Seen]:
        """Logits per timestep, and what the network saw.

        Args:
            x: still images `B H W C`, or a sequence `T B H W C`.
            train: use the batch's statistics and let quantizers learn; then
                `batch_stats` and `quant` must be mutable.
        """
        seen = Seen()
        unit, quantizer = self.stem_unit(), self.weights("conv1")
        convolve, normalise = convolution(
            unit, quantizer, self.dtype, precision=self.precision
        )
        # A still image is convolved once, in the place of one timestep.
        repeats, parts = (self.timesteps, (x,)) if x.ndim == 4 else (1, apart(x))
        currents = convolve(parts, train)
        spike = Spiking(self.membranes("sn1"), self.neuron, name="sn1")
        beside: Any = {"repeats": repeats, "shared": shared_state(convolve)}
        parts = spike(currents, train, normalise=normalise, **beside)
        seen.spikes["sn1"] = jnp.stack(parts)
        if self.pools:
            parts = tuple(map(max_pool, parts))
            seen.pooled["maxpool"] = jnp.stack(parts)
        same = self.weights, self.dtype, self.precision
        spiking = self.connect, self.neuron, self.membranes, self.zero_init
        parts = self.through(SEWBlock, *same, *spiking, x=parts, train=train, seen=seen)
        return self.classify(parts, train, seen), seen

    @property
    def usual(self) -> dict[str, str]:
        """Kernels of the blocks, and all neurons."""
        return {**super().usual, "weights": HIDDEN_KERNELS, "membranes": ALL_NEURONS}

    def layers_in_order(self) -> tuple[str, ...]:
        """Paths of all convolutions, normalisations and neurons, then `fc`."""
        return ("conv1", "bn1", "sn1", *self.block_layers("conv", "bn", "sn"), "fc")

    def neuron_layers(self) -> tuple[str, ...]:
        """Paths of the neuron layers, in the order of the data."""
        return ("sn1", *self.block_layers("sn"))

    def block_synapses(self) -> list[Synapse]:
        """The kernels of its blocks with what feeds them, in the order of the data."""
        found = []
        source = "maxpool" if self.pools else "sn1"
        for plan in self.plans():
            feed = source
            for unit in plan.units:
                found.append(plan.synapse(unit, feed))
                feed = plan.path_of("sn", unit)
            if plan.shortcut == "convolution":
                found.append(plan.synapse(plan.downsample, source))
            source = f"{plan.name}/join"
        return found


def neurons_of(kernel: str) -> str:
    """The neurons behind a kernel."""
    return re.sub(r"conv(\d?)$", r"sn\1", kernel)


def check_quantizers(network: Network) -> None:
    """Refuses quantizers that cannot work together, and warns of missing levels.

    Raises:
        InputError: membranes share the scale of a kernel that has none (MINT).
    """
    if not isinstance(network, SEWResNet):
        return
    for kernel in network.kernel_layers()[:-1]:
        layer = neurons_of(kernel)
        if network.membranes(layer).shared and not network.weights(kernel).trainable:
            raise InputError(
                f"the membranes of {layer} share MINT's scale with {kernel}, whose "
                "weights are not quantized by MINT: quantize both, or use shared=False"
            )
    warn_of_missing_levels(network)


def warn_of_missing_levels(network: SEWResNet) -> None:
    """Warns where the neurons' resting value is no level of a membrane quantizer.

    Such a neuron would hold the nearest level. Learned levels are not known beforehand.
    """
    rest, layers = network.neuron.rest, network.neuron_layers()
    # The first layer of each quantizer.
    places = {network.membranes(path): path for path in reversed(layers)}
    for quantizer, path in places.items():
        if (levels := quantizer.levels) is None:
            continue
        nearest = levels[np.argmin(abs(levels - rest))]
        if abs(nearest - rest) > 1e-6 * max(abs(levels)):
            warnings.warn(
                f"the neurons rest at {rest:g}, which is no level of {quantizer}, the "
                f"membrane quantizer of {path}: {nearest:g} is held in its place; "
                "choose a grid that has it, unless this is meant",
                stacklevel=3,
            )


def init_state(
    network: SEWResNet, variables: dict, frame: Float[Array, "B H W C"]
) -> dict:
    """Membranes at rest, for `stream` on frames shaped like `frame`.

    Args:
        network: the network.
        variables: its parameters and collections; nothing is computed with them.
        frame: the input of one timestep.

    Returns:
        A tree of membranes `B H W C`, one leaf for each neuron layer.

    Example:
        >>> net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
        >>> frame = jnp.ones((1, 4, 4, 1))
        >>> variables = jax.jit(net.init)(jax.random.key(0), frame)
        >>> jax.tree.map(jnp.shape, jsnnq.init_state(net, variables, frame))["sn1"]
        {'v': (1, 4, 4, 4)}
    """
    # A call makes its membranes by itself; only their shapes are asked for.
    _, state = jax.eval_shape(
        lambda: network.apply(variables, frame[None], mutable=["membrane"])
    )
    return jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, network.neuron.rest, leaf.dtype),
        state["membrane"],
    )


def stream(
    network: SEWResNet, variables: dict, state: dict, frame: Float[Array, "B H W C"]
) -> tuple[Float[Array, "B K"], Seen, dict]:
    """One timestep of online inference; T of them equal one folded call.

    Args:
        network: the network.
        variables: its parameters and collections.
        state: membranes from `init_state` or the timestep before.
        frame: the input of this timestep.

    Returns:
        Logits (average them over time), what was seen (`1 B ...`), the next state.

    Example:
        >>> net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
        >>> frame = jnp.ones((1, 4, 4, 1))
        >>> variables = jax.jit(net.init)(jax.random.key(0), frame)
        >>> state = jsnnq.init_state(net, variables, frame)
        >>> logits, seen, state = jsnnq.stream(net, variables, state, frame)
        >>> logits.shape, seen.spikes["sn1"].shape
        ((1, 10), (1, 1, 4, 4, 4))
    """
    found: Any = network.apply(
        {**variables, "membrane": state}, frame[None], mutable=["membrane"]
    )
    (logits, seen), changed = found
    return logits[0], seen, changed["membrane"]


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

    Example:
        >>> net = jsnnq.sew_resnet("sew_resnet18", width=0.25, classes=10, timesteps=8)
        >>> net.channels, len(net.neuron_layers())
        ((16, 32, 64, 128), 20)
    """
    net = SEWResNet(**sized(name, SIZES, width)._asdict(), **fields)
    warn_of_missing_levels(net)
    return net
