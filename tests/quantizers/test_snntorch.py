"""snnTorch's levels, nearest level and spikes, held by snnTorch 1.0.0 itself.

Numbers written out here were printed by `snntorch.functional.quant.state_quant` and
`snntorch.Leaky` of snnTorch 1.0.0 under torch 2.14.1. Where it is installed (the extra
`interop`), it is asked about every setting.
"""

import functools
import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import snntorch
from jsnnq.networks.neurons import Neuron, unroll

exponential = functools.partial(snntorch, spacing="exponential")
around_zero = functools.partial(exponential, centre="zero")

LEVELS = [
    (exponential(1), [-1, 1.2]),
    (exponential(2), [-1, 0.8018018, 0.981982, 1.2]),
    (
        exponential(3),
        [-1, 0.4003063, 0.8203981, 0.9464257, 0.984234, 0.9955764, 0.9989792, 1.2],
    ),
    (
        exponential(2, threshold=5.0, lower=0.3, upper=0.5),
        [-6.5, 3.86036, 4.896396, 7.5],
    ),
    # Three quarters of the range below the threshold, but for rounding.
    (
        exponential(2, threshold=0.37, lower=0.4, upper=0.8),
        [-0.518, 0.282, 0.362, 0.666],
    ),
    (exponential(2, upper=0.0), [-1, 0.80018, 0.980198, 0.9981998]),
    (around_zero(1), [0.05714286, 1.2]),
    (around_zero(2), [-1, 0.01081081, 0.1189189, 1.2]),
    (around_zero(2, upper=0.0), [-1, -0.09090909, 0.09090909, 1]),
    (
        around_zero(3),
        [-1, -0.2805755, -0.0647482, 0.006820574, 0.02955582, 0.10534, 0.3579538, 1.2],
    ),
    (snntorch(2), [-1, -0.2666667, 0.4666667, 1.2]),
    (snntorch(2, upper=0.0, threshold=0.5), [-0.5, -0.1666667, 0.1666667, 0.5]),
]


def levels_of(quantizer):
    return np.asarray(quantizer.init(None, jnp.zeros(1)).levels)


@pytest.mark.parametrize(("quantizer", "expected"), LEVELS)
def test_levels_are_those_of_snntorch(quantizer, expected):
    np.testing.assert_allclose(levels_of(quantizer), expected, 1e-6)


BASE = {4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925, 8: 0.95}


@pytest.mark.parametrize("bits", BASE)
@pytest.mark.parametrize("middle", [1, 0])
def test_exponential_gaps_shrink_towards_the_centre_and_leave_it_out(bits, middle):
    """Both ends are levels, and gaps are a geometric series on either side."""
    centre = "threshold" if middle else "zero"
    quantizer = snntorch(bits, spacing="exponential", centre=centre)
    levels = quantizer.levels
    below = int(2**bits * (middle + 1) / 2.2)
    assert len(levels) == 2**bits
    assert np.sum(levels < middle) == below
    assert levels[0] == -1
    assert levels[-1] == pytest.approx(1.2)
    down = np.diff([*levels[:below], middle])
    up = np.diff([middle, *levels[below:]])
    np.testing.assert_allclose(down[1:] / down[:-1], BASE[bits], rtol=1e-6)
    np.testing.assert_allclose(up[:-1] / up[1:], BASE[bits], rtol=1e-6)


@pytest.mark.parametrize("spacing", ["uniform", "exponential"])
def test_goes_to_the_nearest_level_and_from_halfway_to_the_lower_one(spacing):
    quantizer = snntorch(4, spacing=spacing)
    state = quantizer.init(None, jnp.zeros(1, jnp.float32))
    levels = np.asarray(state.levels, np.float64)
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    expected = levels[np.argmin(np.abs(levels - x[:, None].astype(float)), axis=1)]
    np.testing.assert_array_equal(
        quantizer.apply(jnp.asarray(x), state, False)[0], expected
    )
    halfway = jnp.asarray([0.0, 0.5, -0.5], jnp.float32)
    state = state._replace(levels=jnp.array([-1.0, 0.0, 1.0], jnp.float32))
    np.testing.assert_array_equal(
        quantizer.apply(halfway, state, False)[0], [0.0, 0.0, -1.0]
    )


def currents(steps, neurons):
    x = 0.5 + np.sin(np.arange(steps * neurons, dtype=float) ** 2)
    return x.reshape(steps, neurons).astype(np.float32)


def spikes(quantizer, x, v_reset):
    """Of neurons that reset at once and whose current no leak divides."""
    neuron = Neuron(
        "lif", 2.0, v_reset=v_reset, decay_input=False, placement="before_fire"
    )
    state = quantizer.init(None, jnp.zeros(1))
    quantize = lambda v, state: quantizer.apply(v, state, False)
    v = jnp.zeros(x.shape[1:])
    found = unroll(neuron, jnp.asarray(x), v, quantize=quantize, state=state)
    return np.asarray(found[0])


# A row for each timestep; beta 0.5, hard reset, `reset_delay=False`.
SPIKES = {
    "uniform": [
        "0101000010010010",
        "0000010100000010",
        "0100100100011100",
        "0100101111100100",
        "0111000111011011",
        "0111001000101011",
    ],
    "exponential": [
        "0100000010010010",
        "0001010000000010",
        "0100100100011000",
        "0100101001100100",
        "0001000111011000",
        "0110000000100011",
    ],
}


@pytest.mark.parametrize("spacing", SPIKES)
def test_spikes_are_those_of_a_leaky_of_snntorch(spacing):
    expected = [[int(spike) for spike in row] for row in SPIKES[spacing]]
    found = spikes(snntorch(2, spacing=spacing), currents(6, 16), 0.0)
    np.testing.assert_array_equal(found, expected)


# snnTorch itself, side by side.


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def library(torch):
    pytest.importorskip("snntorch.functional.quant")
    return pytest.importorskip("snntorch")


def state_quant(library, quantizer):
    return library.functional.quant.state_quant(
        num_bits=quantizer.bits,
        uniform=quantizer.spacing == "uniform",
        thr_centered=quantizer.centre == "threshold",
        threshold=quantizer.threshold or 1.0,
        lower_limit=quantizer.lower,
        upper_limit=quantizer.upper,
    )


# In some of them a side's share of the levels is a whole number but for rounding.
LIMITS = [(0.0, 0.2), (0.3, 0.5), (0.0, 0.0), (0.0, 2.0), (0.4, 0.8), (1.0, 1.0)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("centre", ["threshold", "zero"])
@pytest.mark.parametrize("spacing", ["uniform", "exponential"])
def test_every_level_is_one_of_the_library(bits, centre, spacing, library):
    for threshold in (1.0, 5.0, 0.37, 0.7):
        for lower, upper in LIMITS:
            quantizer = snntorch(bits, lower, upper, spacing, centre, threshold)
            closure = inspect.getclosurevars(state_quant(library, quantizer))
            levels = closure.nonlocals["levels"].numpy()
            reach = threshold * (1 + max(lower, upper))
            np.testing.assert_allclose(
                levels_of(quantizer), levels, rtol=0, atol=3e-7 * reach
            )


@pytest.mark.filterwarnings("ignore")
def test_the_defaults_are_the_librarys(library):
    theirs = inspect.signature(library.functional.quant.state_quant).parameters
    ours = snntorch(8)
    assert theirs["num_bits"].default == ours.bits
    assert theirs["uniform"].default == (ours.spacing == "uniform")
    assert theirs["thr_centered"].default == (ours.centre == "threshold")
    assert theirs["lower_limit"].default == ours.lower
    assert theirs["upper_limit"].default == ours.upper


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("spacing", "centre"),
    [("uniform", "threshold"), ("exponential", "threshold"), ("exponential", "zero")],
)
@pytest.mark.parametrize(("v_reset", "mechanism"), [(0.0, "zero"), (None, "subtract")])
def test_every_spike_is_one_of_the_library(
    bits, spacing, centre, v_reset, mechanism, library, torch
):
    quantizer = snntorch(bits, spacing=spacing, centre=centre)
    layer = library.Leaky(
        beta=0.5,
        threshold=1.0,
        state_quant=state_quant(library, quantizer),
        reset_mechanism=mechanism,
        reset_delay=False,
    )
    x = np.random.default_rng(0).normal(0.4, 0.6, (20, 512)).astype(np.float32)
    v, expected = torch.zeros(512), []
    for current in torch.tensor(x):
        s, v = layer(current, v)
        expected.append(s.detach().numpy())
    found = spikes(quantizer, x, v_reset)
    np.testing.assert_array_equal(found, np.stack(expected))
    assert 0.1 < found.mean() < 0.9
