"""What a network costs to run: synaptic operations, sparsity, events and bits.

The definitions are NeuroBench's (Yik et al., *The NeuroBench framework for
benchmarking neuromorphic computing algorithms and systems*, arXiv 2304.04640;
checked against version 2.3.0). Each time a layer with kernel W is computed on x, its
effective operations are the products of nonzeros, biases left out:

    sum over outputs of conv(1[x != 0], 1[W != 0])

They are accumulates (ACs) where every value of x is -1, 0 or 1, and otherwise all of
them are multiply-accumulates (MACs). `dense` counts every product with ones in place
of x and W; padding contributes to neither.

The sum is linear in 1[x != 0]. So nothing is convolved again for each image: the
nonzeros of each position, counted over the whole evaluation, meet the number of
nonzero weights that position feeds (`fan_out`). All of it is integer arithmetic, where
NeuroBench sums in float32.

One difference remains. NeuroBench decides between ACs and MACs batch by batch; here it
is decided once for the data set, so the result does not depend on the batch size: one
value outside {-1, 0, 1} anywhere makes the layer it feeds a MAC layer.

Two things are a matter of policy, because hardware differs:

    neurobench  An ADD join that ever reaches 2 is a graded input: MACs, as above. The
                stem is computed at each of the T timesteps. Joins are no events.
    events      A join of value v is v events of one accumulate per synapse each. The
                stem is computed once on a still image. Events of joins count.

Under both a still image is graded and so is the classifier's input, the mean of spikes
over positions: their synapses are MACs.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jsnnq.analysis.firing import Numbers
from jsnnq.errors import choose
from jsnnq.networks.network import Synapse

POLICIES = ("neurobench", "events")
"""How graded joins and the stem are charged; see the module's text."""

IMAGE = "image"
"""The source of the stem: a still image, the same at every timestep."""

FEATURES = "features"
"""The source of the classifier: the mean over positions, so no whole numbers."""


class Activity(NamedTuple):
    """What was counted at one source, summed over timesteps and images.

    Attributes:
        nonzero: how often each entry was not zero, `H W C` (`C` before a classifier).
        total: the sum of its values; the same as `nonzero` for spikes, None where
            the values are no whole numbers.
        graded: whether any value lies outside {-1, 0, 1}.
    """

    nonzero: Int[np.ndarray, "*position C"]
    total: Int[np.ndarray, "*position C"] | None
    graded: bool


class Operations(NamedTuple):
    """Synaptic operations per image.

    Attributes:
        acs: effective accumulates.
        macs: effective multiply-accumulates.
        dense: operations if no value and no weight were zero.
    """

    acs: float
    macs: float
    dense: float


class Cost(NamedTuple):
    """The cost of a network; `_asdict()` is its entry in `results.json`.

    Attributes:
        sparsity: 1 - mean rate over all neurons; None where nothing spikes.
        acs: effective accumulates per image.
        macs: effective multiply-accumulates per image.
        dense: operations per image if nothing were zero.
        weight_bits: bits of all weights, with their scales and bases.
        state_bits: bits of all membranes of one image, with their scales and bases.
        events: events per image, over all layers.
        events_per_layer: events per image of each layer.
        policy: one of `POLICIES`.
    """

    sparsity: float | None
    acs: float
    macs: float
    dense: float
    weight_bits: int
    state_bits: int
    events: float
    events_per_layer: dict[str, float]
    policy: str


def deployment_cost(
    synapses: Iterable[Synapse],
    kernels: Mapping[str, Numbers],
    counts: Mapping[str, Numbers],
    nonzero: Mapping[str, Numbers],
    total: Mapping[str, Numbers],
    *,
    timesteps: int,
    images: int,
    image_shape: tuple[int, ...],
    weight_bits: Mapping[str, int],
    state_bits: Mapping[str, int],
    graded: Collection[str] = (),
    policy: str = "neurobench",
) -> Cost:
    """The cost of a network from what an evaluation counted.

    Args:
        synapses: the network's connections.
        kernels: for each synapse its kernel as the network multiplies with it, that is
            quantized: `H W I O`, or `I O` for a classifier.
        counts: spikes of each neuron layer, `H W C`.
        nonzero: nonzero entries of joins (`H W C`), pooled values and activations.
        total: sums of the joins, `H W C`.
        timesteps: timesteps per image.
        images: images the counts were taken over.
        image_shape: of an image, `H W C`, or of frames, `T H W C`.
        weight_bits: bits each layer's weights take.
        state_bits: bits each neuron layer's membranes take.
        graded: the activations with a value outside {-1, 0, 1}.
        policy: one of `POLICIES`.

    Returns:
        The cost per image.

    Raises:
        InputError: the policy is unknown.
    """
    operations = synaptic_operations(
        synapses,
        kernels,
        activities(counts, nonzero, total, graded),
        timesteps=timesteps,
        images=images,
        image_shape=image_shape,
        policy=policy,
    )
    per_layer = events(counts, total, images=images, policy=policy)
    return Cost(
        sparsity(counts, timesteps=timesteps, images=images),
        *operations,
        weight_bits=sum(weight_bits.values()),
        state_bits=sum(state_bits.values()),
        events=sum(per_layer.values()),
        events_per_layer=per_layer,
        policy=policy,
    )


def activities(
    counts: Mapping[str, Numbers],
    nonzero: Mapping[str, Numbers],
    total: Mapping[str, Numbers],
    graded: Collection[str] = (),
) -> dict[str, Activity]:
    """The activity of every source from what an evaluation counted.

    Args:
        counts: spikes of each neuron layer.
        nonzero: nonzero entries of joins, pooled values and activations.
        graded: activations whose values are no signs.
        total: sums of the joins. A pooled value without a sum is a maximum of spikes
            and so binary, except `features`, which is a mean.

    Returns:
        One activity for each name in `counts` and `nonzero`.
    """
    found = {name: _whole(spikes, spikes) for name, spikes in counts.items()}
    for name, entries in nonzero.items():
        if name == FEATURES or name in graded:
            found[name] = Activity(_integers(entries), None, True)
        else:
            found[name] = _whole(entries, total.get(name, entries))
    return found


def synaptic_operations(
    synapses: Iterable[Synapse],
    kernels: Mapping[str, Numbers],
    activity: Mapping[str, Activity],
    *,
    timesteps: int,
    images: int,
    image_shape: tuple[int, ...],
    policy: str = "neurobench",
) -> Operations:
    """Effective and dense synaptic operations per image.

    Args:
        synapses: the network's connections.
        kernels: for each synapse its kernel as the network multiplies with it:
            `H W I O`, or `I O` for a classifier; I are the inputs of a group.
        activity: for each source what was counted, summed over timesteps and images.
            That of `image` is counted over the images alone; where it is missing,
            every pixel counts as nonzero, as normalised pixels are.
        timesteps: timesteps per image.
        images: images the activity was counted over.
        image_shape: of an image, `H W C`, or of frames, `T H W C`.
        policy: one of `POLICIES`.

    Returns:
        The operations, divided by the number of images.

    Raises:
        InputError: the policy is unknown.
    """
    choose("policy", policy, POLICIES)
    everywhere = np.full(image_shape[-3:], images, np.int64)
    still = len(image_shape) == 3
    sources = {IMAGE: Activity(everywhere, None, True), **activity}
    acs = macs = dense = 0
    for synapse in synapses:
        source, kernel = sources[synapse.source], np.asarray(kernels[synapse.name])
        entering = synapse.source == IMAGE
        calls = 1 if entering and still and policy == "events" else timesteps
        # Other sources were counted at every timestep.
        repeats = calls if entering else 1
        arriving, accumulates = _arriving(source, policy)
        operations = repeats * _feed(arriving, kernel != 0, synapse)
        acs += operations if accumulates else 0
        macs += 0 if accumulates else operations
        once = np.ones_like(source.nonzero)
        dense += images * calls * _feed(once, np.ones(kernel.shape, bool), synapse)
    return Operations(acs / images, macs / images, dense / images)


def fan_out(
    weights: Bool[np.ndarray, "K L I O"],
    shape: tuple[int, int],
    *,
    stride: int,
    padding: int,
) -> Int[np.ndarray, "H W I"]:
    """Number of synapses each input of a convolution feeds.

    An input at row h meets kernel row k when h = stride * output - padding + k for
    one of the outputs; columns alike. Summed over outputs that is
    conv(1[x != 0], weights) seen from its input (arXiv 2304.04640, synaptic
    operations).

    Args:
        weights: which weights count, true where they are not zero.
        shape: rows and columns of the input.
        stride: in both directions.
        padding: zeros on each side.

    Returns:
        For each input position and channel the number of products it enters.
    """
    rows, columns = (
        _meets(size, side, stride, padding)
        for size, side in zip(shape, weights.shape, strict=False)
    )
    synapses = weights.sum(axis=-1, dtype=np.int64)
    return np.einsum("hk,wl,kli->hwi", rows, columns, synapses, optimize=True)


def events(
    counts: Mapping[str, Numbers],
    joins: Mapping[str, Numbers],
    *,
    images: int,
    policy: str = "neurobench",
) -> dict[str, float]:
    """Events per image of each layer.

    A spike of a neuron is one event. Under `events` a join of value v passes on v
    events and is listed too, so that a spike which crosses a join counts where it is
    emitted and where it is passed on; under `neurobench` joins are values, not
    events.

    Args:
        counts: spikes of each neuron layer, over timesteps and images.
        joins: sums of the joins, over timesteps and images.
        images: images they were counted over.
        policy: one of `POLICIES`.

    Returns:
        Events per image, over all timesteps, under the layer's name.

    Raises:
        InputError: the policy is unknown.
    """
    choose("policy", policy, POLICIES)
    counted = {**counts, **joins} if policy == "events" else counts
    return {name: _sum(values) / images for name, values in counted.items()}


def sparsity(
    counts: Mapping[str, Numbers], *, timesteps: int, images: int
) -> float | None:
    """Share of zeros among the outputs of all neurons (NeuroBench).

    Args:
        counts: spikes of each neuron layer (no joins).
        timesteps: timesteps per image.
        images: images the counts were taken over.

    Returns:
        1 - mean rate, every neuron of every layer with the same weight; None if
        there are no neurons.
    """
    if not counts:
        return None
    spikes = sum(_sum(values) for values in counts.values())
    neurons = sum(np.size(values) for values in counts.values())
    return 1 - spikes / (neurons * timesteps * images)


def _arriving(source: Activity, policy: str) -> tuple[Int[np.ndarray, "..."], bool]:
    """What a synapse is charged for at each entry, and whether as accumulates."""
    if not source.graded:
        return source.nonzero, True
    if policy == "events" and source.total is not None:
        return source.total, True
    return source.nonzero, False


def _feed(
    arriving: Int[np.ndarray, "*position I"],
    weights: Bool[np.ndarray, "*kernel J O"],
    synapse: Synapse,
) -> int:
    """Operations caused by what arrives at a kernel; a dense one has one position."""
    arriving = arriving.reshape((1,) * (3 - arriving.ndim) + arriving.shape)
    weights = weights.reshape((1,) * (4 - weights.ndim) + weights.shape)
    # Each input with the outputs of its group.
    *sides, inputs, outputs = weights.shape
    weights = weights.reshape(*sides, inputs, synapse.groups, outputs // synapse.groups)
    weights = np.swapaxes(weights, 2, 3).reshape(*sides, -1, weights.shape[-1])
    fan = fan_out(
        weights,
        arriving.shape[:2],
        stride=synapse.stride,
        padding=synapse.padding,
    )
    return _sum(fan * arriving)


def _meets(
    size: int, side: int, stride: int, padding: int
) -> Int[np.ndarray, "size side"]:
    """1 where an input row meets a kernel row in some output, else 0."""
    outputs = (size + 2 * padding - side) // stride + 1
    first = stride * np.arange(outputs) - padding
    row = first[:, None, None] + np.arange(side)
    return (row == np.arange(size)[:, None]).sum(axis=0)


def _whole(nonzero: Numbers, total: Numbers) -> Activity:
    """The activity of whole numbers from zero, graded if any exceeds 1."""
    entries, sums = _integers(nonzero), _integers(total)
    return Activity(entries, sums, bool(np.any(entries != sums)))


def _integers(values: Numbers) -> Int[np.ndarray, "..."]:
    return np.asarray(values).astype(np.int64)


def _sum(values: Numbers) -> int:
    return int(_integers(values).sum())
