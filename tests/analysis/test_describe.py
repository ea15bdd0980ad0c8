"""What a deployed network multiplies with and stores, by hand."""

import math

import jax
import numpy as np
import pytest

from jsnnq.analysis import describe
from jsnnq.config import LQNet, Mint, SnnTorch, Uniform, kernels, neurons
from jsnnq.networks import quantize
from tests import tiny
from tests.tiny import HIDDEN, KERNELS, NEURONS, SMALL, with_


def test_uniform_kernels_are_the_formula():
    net, variables = tiny.quantized(with_(weights=kernels(Uniform(2, clip=0.3))))
    found = describe.kernels(net, variables)
    assert list(found) == list(KERNELS)
    for path in KERNELS:
        w = tiny.kernel(path)
        if path in HIDDEN:
            step = 2 * 0.3 / 3
            w = -0.3 + step * np.round((np.clip(w, -0.3, 0.3) + 0.3) / step)
            assert len(np.unique(np.float32(found[path]))) <= 4
        np.testing.assert_allclose(found[path], w, atol=1e-6)


def test_mint_kernels_use_the_alpha_among_the_parameters():
    net, variables = tiny.quantized(with_(weights=kernels(Mint(4, start="published"))))
    assert variables["quant"] == {}
    for path in HIDDEN:
        w = tiny.kernel(path)
        alpha = 2 * np.abs(w).mean() / math.sqrt(7)
        state = quantize.at(variables["params"], path)["quantizer"]
        np.testing.assert_allclose(state.alpha, alpha, rtol=1e-5)
        alpha = np.float64(state.alpha)
        expected = alpha / 7 * np.round(7 * np.clip(np.tanh(w) / alpha, -1, 1))
        found = np.asarray(describe.kernels(net, variables)[path])
        # A value on the edge between two levels may go either way in float32.
        assert np.mean(np.abs(found - expected) > 1e-6) < 0.01
    stem = variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(stem, tiny.kernel("conv1"))


def bits_of(config):
    net, variables = tiny.quantized(config)
    weights = describe.weight_bits(net, variables)
    membranes = describe.state_bits(net, variables, NEURONS)
    assert list(weights) == list(KERNELS)
    assert list(membranes) == list(NEURONS)
    return weights, membranes


CHANNELS = dict(zip(KERNELS, (4, 4, 4, 8, 8, 8, 10), strict=True))


def beside(path):
    """Two float32 numbers a channel for normalisation, one for the bias of `fc`."""
    return 32 * CHANNELS[path] * (1 if path == "fc" else 2)


def test_bits_of_the_float_network():
    weights, states = bits_of(SMALL)
    assert weights == {path: 32 * n + beside(path) for path, n in KERNELS.items()}
    assert states == {path: 32 * n for path, n in NEURONS.items()}
    assert weights["conv1"] == 1408
    assert weights["fc"] == 2880


@pytest.mark.parametrize(
    ("quantizer", "numbers"),
    [
        (Uniform(2), lambda path: 2),  # an offset and a step
        (Uniform(2, clip="max", channelwise=True), lambda path: 2 * CHANNELS[path]),
        (LQNet(2), lambda path: 2 * CHANNELS[path]),  # a basis of two for a channel
        (Mint(2), lambda path: 1),
    ],
)
def test_bits_of_weights_of_two_bits(quantizer, numbers):
    weights, _ = bits_of(with_(weights=kernels(quantizer)))
    for path, size in KERNELS.items():
        hidden = path in HIDDEN
        expected = 2 * size + 32 * numbers(path) if hidden else 32 * size
        assert weights[path] == expected + beside(path), path


@pytest.mark.parametrize(
    ("quantizer", "bits", "numbers"),
    [
        (Uniform(2, grid="unsigned"), 2, 2),
        (LQNet(2), 2, 2),
        (SnnTorch(3), 3, 8),
        (Mint(4), 4, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:the neurons rest at 0")
def test_bits_of_membranes(quantizer, bits, numbers):
    weights, states = bits_of(with_(membranes=neurons(quantizer)))
    assert weights == bits_of(SMALL)[0]
    assert states == {path: bits * n + 32 * numbers for path, n in NEURONS.items()}


# MINT shares one scale between a tiny.kernel and the membranes it feeds.


def test_mint_shares_the_scale_of_its_kernel():
    net, variables = tiny.quantized(
        with_(weights=kernels(Mint(4)), membranes=tiny.SHARED)
    )
    assert all(net.membranes(path).shared for path in NEURONS if path != "sn1")
    assert variables["quant"] == {}
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    alphas = [path for path, _ in leaves if "alpha" in jax.tree_util.keystr(path)]
    assert len(alphas) == len(HIDDEN)
    membranes = describe.state_bits(net, variables, NEURONS)
    assert membranes["layer1_0/sn1"] == 4 * NEURONS["layer1_0/sn1"]
    assert membranes["sn1"] == 32 * NEURONS["sn1"]
