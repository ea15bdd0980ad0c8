"""How quantizers start, by hand."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jsnnq import stompp
from jsnnq.config import LQNet, Uniform, kernels, neurons
from jsnnq.networks import quantize
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.layers import Rules
from jsnnq.workflow.state import initial_variables
from tests import tiny
from tests.tiny import SMALL


@pytest.mark.parametrize(
    "config",
    [
        tiny.with_(weights=kernels(Uniform(2))),
        tiny.with_(
            weights=kernels(LQNet(2)), membranes=neurons(Uniform(2, clip="max"))
        ),
    ],
)
def test_quantize_leaves_the_float_network_as_it_was(config):
    before = jax.tree.map(np.array, tiny.float_variables())
    _, variables = tiny.quantized(config)
    for collection in ("params", "batch_stats"):
        found, expected = variables[collection], before[collection]
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(np.testing.assert_array_equal, tiny.float_variables(), before)


def stem_potentials(placement):
    """The stem's membranes over time, by SciPy's correlation and the LIF equation."""
    x = np.asarray(tiny.images(), np.float64)
    weights = tiny.kernel("conv1")[:, :, 0]
    current = np.stack(
        [
            [signal.correlate2d(image, weights[..., c], mode="same") for c in range(4)]
            for image in x[..., 0]
        ]
    ) / math.sqrt(1 + 1e-5)
    v, seen = np.zeros_like(current), []
    for _ in range(2):
        charged = v + (current - v) / 2
        v = np.where(charged >= 1, 0, charged)
        seen.append(charged if placement == "before_fire" else v)
    return np.stack(seen)


@pytest.mark.parametrize("placement", ["stored", "before_fire"])
@pytest.mark.parametrize(
    ("clip", "percentile"), [("max", 99.9), ("percentile", 99.9), ("percentile", 70.0)]
)
def test_membranes_are_calibrated_on_what_their_quantizer_will_see(
    placement, clip, percentile
):
    neuron = dataclasses.replace(SMALL.network.neuron, placement=placement)
    _, variables = tiny.quantized(
        tiny.with_(
            network=dataclasses.replace(SMALL.network, neuron=neuron),
            membranes=neurons(Uniform(4, clip=clip, percentile=percentile)),
        )
    )
    magnitudes = np.abs(stem_potentials(placement))
    expected = np.percentile(magnitudes, 100 if clip == "max" else percentile)
    state = variables["quant"]["sn1"]["quantizer"]
    np.testing.assert_allclose(state.high, expected, rtol=1e-5)
    np.testing.assert_allclose(state.low, -expected, rtol=1e-5)
    for path in tiny.NEURONS:
        assert np.isfinite(quantize.at(variables["quant"], path)["quantizer"].high)


def test_every_layer_freezes_by_random_numbers_of_its_own(key):
    """Shares of one half that two layers draw agree in one half of their entries."""
    quantizer = stompp((0, 2), schedule="linear", law="fixed")
    net = binary_resnet("resnet_tiny", classes=3).with_rules(
        {
            "weights": Rules(((".*conv2", quantizer),)),
            "activations": Rules(((".*act2", quantizer),)),
        }
    )
    shape = (8, 8, 3)
    variables = initial_variables(net.bare, key, shape)
    variables = quantize.quantize(net, variables, key, jnp.zeros((2, *shape)))
    masks = []
    for layer in ("layer1_0/conv2", "layer2_0/conv2", "layer1_0/act2", "layer2_0/act2"):
        state = quantize.at(variables["quant"], layer)["quantizer"]
        state = state._replace(step=state.step + 1)
        masks.append(np.asarray(quantizer.frozen(jnp.zeros((4000,)), state)))
    for one, other in itertools.combinations(masks, 2):
        assert abs(np.mean(one == other) - 0.5) < 5 * 0.5 / np.sqrt(4000)


def test_weights_can_be_clipped_where_their_data_end():
    _, variables = tiny.quantized(
        tiny.with_(weights=kernels(Uniform(2, clip="max", channelwise=True)))
    )
    for path in tiny.HIDDEN:
        state = quantize.at(variables["quant"], path)["quantizer"]
        expected = np.abs(tiny.kernel(path)).max(axis=(0, 1, 2))
        np.testing.assert_allclose(state.high, expected, rtol=1e-6)
