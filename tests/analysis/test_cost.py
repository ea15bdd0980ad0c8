"""Operations against NeuroBench's definition, typed out, and against NeuroBench."""

import json
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnnq.analysis import cost
from jsnnq.analysis.cost import Activity
from jsnnq.errors import InputError
from jsnnq.networks.network import Synapse

_SPIKES, _TERNARY, _GRADED = (0, 1), (-1, 0, 1), (0, 1, 2)


def _draw(shape, values, seed):
    return np.random.default_rng(seed).choice(values, size=shape)


def _sparse_kernel(shape, seed, zeros=0.4):
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) < zeros, 0.0, random.normal(size=shape))


# The definition: every output of every image, one patch at a time.


def _by_hand(x, kernel, stride, padding):
    """sum over outputs of conv(1[x != 0], 1[W != 0]) of images `B H W C`."""
    margin = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    entries = np.pad(x, margin) != 0
    rows, columns = kernel.shape[:2]
    operations = 0
    for image in entries:
        for top in range(0, image.shape[0] - rows + 1, stride):
            for left in range(0, image.shape[1] - columns + 1, stride):
                patch = image[top : top + rows, left : left + columns]
                operations += int((patch[..., None] & (kernel != 0)).sum())
    return operations


def _activity(x):
    """What evaluation counts of `T B H W C`."""
    return Activity(
        np.count_nonzero(x, axis=(0, 1)), x.sum(axis=(0, 1)), bool(abs(x).max() > 1)
    )


def _alone(x, kernel, stride, padding, groups=1):
    """Operations of one convolution fed by `T B H W C`."""
    return _counted(_activity(x), kernel, *x.shape[:2], stride, padding, groups)


def _counted(activity, kernel, timesteps, images, *connection):
    """Operations of one kernel, of what was counted of its source."""
    return cost.synaptic_operations(
        [Synapse("conv", "source", *(connection or (1, 0)))],
        {"conv": kernel},
        {"source": activity},
        timesteps=timesteps,
        images=images,
        image_shape=(1, 1, 1),
    )


def test_dense_of_neurobench_test_vector():
    # 3 x 3 with padding 1 on 5 x 5: 3 * 5 - 2 valid pairs on each axis
    assert 13 * 13 * 2 * 3 == 1014
    found = _alone(np.zeros((1, 2, 5, 5, 2), int), np.zeros((3, 3, 2, 3)), 1, 1)
    assert found == (0.0, 0.0, 1014.0)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    side=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    values=st.sampled_from([_SPIKES, _TERNARY, _GRADED, (0,), (1,)]),
    seed=st.integers(0, 2**16),
)
def test_operations_are_those_of_the_definition(
    size, side, stride, padding, values, seed
):
    x = _draw((2, 3, *size, 2), values, seed)
    kernel = _sparse_kernel((side, side, 2, 3), seed + 1)
    found = _alone(x, kernel, stride, padding)
    effective = sum(_by_hand(step, kernel, stride, padding) for step in x) / 3
    ones = [np.ones_like(step) for step in x]
    dense = sum(_by_hand(o, np.ones_like(kernel), stride, padding) for o in ones) / 3
    graded = bool((x == 2).any())
    expected = (0.0, effective) if graded else (effective, 0.0)
    assert found == (*expected, dense)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channels_of_a_group_meet_its_kernels_only(groups):
    """Group by group: each is a convolution of its own."""
    x = _draw((2, 3, 6, 5, 6), _SPIKES, 3)
    kernel = _sparse_kernel((3, 3, 6 // groups, 12), 4)
    found = _alone(x, kernel, 2, 1, groups)
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    alone = [_alone(part, weights, 2, 1) for part, weights in parts]
    assert found.acs == sum(part.acs for part in alone)
    assert found.dense == sum(part.dense for part in alone)


def test_oblong_kernels_are_not_transposed():
    x = _draw((1, 2, 4, 6, 2), _SPIKES, 0)
    kernel = _sparse_kernel((1, 3, 2, 2), 1)
    assert _alone(x, kernel, 1, 1).acs == _by_hand(x[0], kernel, 1, 1) / 2


def test_a_classifier_multiplies_every_feature_with_its_nonzero_weights():
    features = np.array([[[0.25, 0.0, 1.0], [0.0, 0.0, 0.5]]])  # T B C
    kernel = np.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 2.0]])
    nonzero = np.count_nonzero(features, axis=(0, 1))
    found = _counted(Activity(nonzero, None, True), kernel, 1, 2)
    by_hand = ((features[0] != 0).astype(int) @ (kernel != 0)).sum() / 2
    assert by_hand == (1 + 2 + 2) / 2
    assert found == (0.0, by_hand, 6.0)


def test_counts_beyond_float32_stay_exact():
    """2^24 + 1 spikes at one position, as a float32 sum would lose one."""
    count = np.array([[[2**24 + 1]]])
    found = _counted(Activity(count, count, False), np.ones((1, 1, 1, 3)), 2**25, 1)
    assert found.acs == 3 * (2**24 + 1)
    assert found.dense == 3 * 2**25


# A network with one block: stem, stride, shortcut, join and classifier.

_T, _B = 3, 4


class _Network(NamedTuple):
    synapses: tuple
    kernels: dict
    values: dict  # name -> T B H W C (features: T B C)


def _network(most=2):
    values = {
        "sn1": _draw((_T, _B, 6, 6, 2), _SPIKES, 1),
        "block/sn1": _draw((_T, _B, 3, 3, 4), _SPIKES, 2),
        "block/sn2": _draw((_T, _B, 3, 3, 4), _SPIKES, 3),
        "block/join": _draw((_T, _B, 3, 3, 4), range(most + 1), 4),
        "next/sn1": _draw((_T, _B, 3, 3, 2), _SPIKES, 5),
    }
    values["features"] = values["block/join"].mean(axis=(2, 3))
    shapes = {
        "conv1": (3, 3, 3, 2),
        "block/conv1": (3, 3, 2, 4),
        "block/conv2": (3, 3, 4, 4),
        "block/downsample_conv": (1, 1, 2, 4),
        "next/conv1": (3, 3, 4, 2),
        "fc": (4, 10),
    }
    kernels = {n: _sparse_kernel(s, i) for i, (n, s) in enumerate(shapes.items())}
    synapses = (
        Synapse("conv1", "image", 1, 1),
        Synapse("block/conv1", "sn1", 2, 1),
        Synapse("block/conv2", "block/sn1", 1, 1),
        Synapse("block/downsample_conv", "sn1", 2, 0),
        Synapse("next/conv1", "block/join", 1, 1),
        Synapse("fc", "features", 1, 0),
    )
    return _Network(synapses, kernels, values)


def _split(values):
    """As an evaluation returns them: counts, nonzero and total."""
    summed = {n: v.sum(axis=(0, 1)) for n, v in values.items() if n != "features"}
    counts = {n: jnp.asarray(v, jnp.int32) for n, v in summed.items() if "sn" in n}
    nonzero = {
        name: np.count_nonzero(values[name], axis=(0, 1)).astype(np.int32)
        for name in ("block/join", "features")
    }
    return counts, nonzero, {"block/join": summed["block/join"].astype(np.int32)}


def _cost(network, policy, image_shape=(6, 6, 3)):
    return cost.deployment_cost(
        network.synapses,
        network.kernels,
        *_split(network.values),
        timesteps=_T,
        images=_B,
        image_shape=image_shape,
        weight_bits={"conv1": 32 * 54, "fc": 80},
        state_bits={"sn1": 4 * 72, "block/sn1": 32 * 36},
        policy=policy,
    )


def _each_step(network, name):
    """Operations of one layer of `_network`, from the values themselves."""
    synapse = next(s for s in network.synapses if s.name == name)
    image = np.ones((_T, _B, 6, 6, 3))
    x = {"image": image, **network.values}[synapse.source]
    kernel = network.kernels[name]
    if name == "fc":
        x, kernel = x[:, :, None, None, :], kernel[None, None]
    return sum(_by_hand(step, kernel, synapse.stride, synapse.padding) for step in x)


def _times_value(network):
    """Accumulates if every unit of a join's value is an event of its own."""
    synapse = network.synapses[4]
    join, kernel = network.values[synapse.source], network.kernels[synapse.name]
    return sum(
        _by_hand(step >= unit, kernel, synapse.stride, synapse.padding)
        for step in join
        for unit in range(1, join.max() + 1)
    )


_SPIKING = ("block/conv1", "block/conv2", "block/downsample_conv")


def test_graded_joins_and_the_stem_under_neurobench():
    network = _network()
    found = _cost(network, "neurobench")
    assert found.acs == sum(_each_step(network, n) for n in _SPIKING) / _B
    multiplied = ("conv1", "next/conv1", "fc")
    assert found.macs == sum(_each_step(network, n) for n in multiplied) / _B


def test_graded_joins_and_the_stem_under_events():
    network = _network()
    found = _cost(network, "events")
    spiking = sum(_each_step(network, n) for n in _SPIKING)
    assert found.acs == (spiking + _times_value(network)) / _B
    stem_once = _each_step(network, "conv1") / _T
    assert found.macs == (stem_once + _each_step(network, "fc")) / _B
    saved = _cost(network, "neurobench").dense - found.dense
    assert saved == (_T - 1) * (3 * 6 - 2) ** 2 * 3 * 2


@pytest.mark.parametrize("policy", cost.POLICIES)
def test_binary_joins_accumulate_under_either_policy(policy):
    network = _network(most=1)
    found = _cost(network, policy)
    binary = (*_SPIKING, "next/conv1")
    assert found.acs == sum(_each_step(network, n) for n in binary) / _B


def test_nonzero_pixels_may_be_given():
    network, images = _network(), _draw((_B, 6, 6, 3), (0, 7), 9)
    activity = cost.activities(*_split(network.values))
    activity["image"] = Activity(np.count_nonzero(images, axis=0), None, True)
    stem = network.synapses[:1]
    options = {"timesteps": _T, "images": _B, "image_shape": (6, 6, 3)}
    once = _by_hand(images, network.kernels["conv1"], 1, 1) / _B
    for policy, times in (("neurobench", _T), ("events", 1)):
        found = cost.synaptic_operations(
            stem, network.kernels, activity, policy=policy, **options
        )
        assert found.macs == times * once


def test_maximum_pooling_of_spikes_stays_binary():
    nonzero = {"maxpool": np.ones((2, 2, 1), np.int32), "features": np.ones(3, int)}
    found = cost.activities({}, nonzero, {})
    assert not found["maxpool"].graded
    assert found["features"].graded


def test_events_are_spikes_and_under_their_policy_what_joins_pass_on():
    network = _network()
    spikes = {n: v.sum() / _B for n, v in network.values.items() if "sn" in n}
    join = {"block/join": network.values["block/join"].sum() / _B}
    for policy, expected in (("neurobench", spikes), ("events", spikes | join)):
        found = _cost(network, policy)
        assert found.events_per_layer == expected
        assert math.isclose(found.events, sum(expected.values()))


def test_sparsity_weighs_every_neuron_the_same():
    network = _network()
    spikes = np.concatenate(
        [v.reshape(-1) for n, v in network.values.items() if "sn" in n]
    )
    assert math.isclose(_cost(network, "events").sparsity, (spikes == 0).mean())


def test_bits_are_added_up_and_the_result_is_json():
    found = _cost(_network(), "events")
    assert (found.weight_bits, found.state_bits) == (32 * 54 + 80, 288 + 1152)
    written = json.loads(json.dumps(found._asdict()))
    assert set(written) == {
        *("sparsity", "acs", "macs", "dense", "weight_bits", "state_bits"),
        *("events", "events_per_layer", "policy"),
    }
    assert written["policy"] == "events"


def test_unknown_policy_is_refused():
    with pytest.raises(InputError, match="policy 'spikes'.*'events', 'neurobench'"):
        _cost(_network(), "spikes")
    with pytest.raises(InputError, match="policy"):
        cost.events({}, {}, images=1, policy="spikes")


# NeuroBench itself, side by side.


@pytest.fixture
def neurobench():
    """What a metric of NeuroBench says after a layer has seen `T B H W C`."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("neurobench.models")
    workload = pytest.importorskip("neurobench.metrics.workload")

    def layer(kernel, stride, padding):
        rows, columns, inputs, outputs = kernel.shape
        made = torch.nn.Conv2d(inputs, outputs, (rows, columns), stride, padding)
        weight = torch.tensor(kernel.transpose(3, 2, 0, 1), dtype=torch.float32)
        made.weight = torch.nn.Parameter(weight)
        return made

    def measured(metric, x, *convolution):
        made = layer(*convolution) if convolution else torch.nn.ReLU()
        model = models.TorchModel(torch.nn.Sequential(made))
        model.register_hooks()
        steps = [torch.tensor(s.transpose(0, 3, 1, 2)).float() for s in x]
        with torch.no_grad():
            for step in steps:
                model(step)
            return getattr(workload, metric)()(model, None, (steps[0], None))

    return measured


NAMES = ("Effective_ACs", "Effective_MACs", "Dense")


@pytest.mark.parametrize("values", [_SPIKES, _TERNARY, _GRADED, (0, 2), (0,)])
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (3, 2, 0)]
)
def test_convolutions_cost_what_neurobench_says(
    values, side, stride, padding, neurobench
):
    x = _draw((_T, _B, 6, 5, 2), values, 0)
    convolution = _sparse_kernel((side, side, 2, 3), 1), stride, padding
    theirs = neurobench("SynapticOperations", x, *convolution)
    assert _alone(x, *convolution) == tuple(theirs[name] for name in NAMES)


def test_a_network_costs_what_neurobench_says(neurobench):
    """Layer by layer, the still image shown T times, the features per step."""
    network = _network()
    image = np.random.default_rng(0).normal(size=(_B, 6, 6, 3))
    values = {"image": np.stack([image] * _T), **network.values}
    expected = np.zeros(3)
    for synapse in network.synapses:
        x, kernel = values[synapse.source], network.kernels[synapse.name]
        if kernel.ndim == 2:
            x, kernel = x[:, :, None, None, :], kernel[None, None]
        convolution = kernel, synapse.stride, synapse.padding
        theirs = neurobench("SynapticOperations", x, *convolution)
        expected += [theirs[name] for name in NAMES]
    ours = _cost(network, "neurobench")
    np.testing.assert_allclose((ours.acs, ours.macs, ours.dense), expected)


def test_sparsity_is_neurobenchs(neurobench):
    spikes = _draw((_T, _B, 6, 5, 2), _SPIKES, 0)
    theirs = neurobench("ActivationSparsity", spikes)
    counts = {"sn": spikes.sum(axis=(0, 1))}
    assert math.isclose(cost.sparsity(counts, timesteps=_T, images=_B), theirs)
