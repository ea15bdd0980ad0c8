"""How quantizers start, by hand."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jsnnq import lqnet, mint, snntorch, stompp, uniform
from jsnnq.config import LQNet, Uniform, kernels, neurons
from jsnnq.networks import quantize
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.layers import Spiking
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import sew_resnet
from jsnnq.quantizers.base import ENOUGH, ENOUGH_OF_CHANNEL, Quantizer, at_random, rows
from jsnnq.workflow.state import abstract_variables, initial_variables
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


# Layers with more values than a start is fitted to.

WIDE = sew_resnet("sew_resnet_tiny", classes=3, timesteps=2)
MANY = (80, 32, 32, 3)
LARGE = {"sn1": (2, 80, 32, 32, 4), "layer1_0/sn2": (2, 80, 32, 32, 4)}


@functools.cache
def many():
    """Variables whose neurons fire, images, and all potentials of two large layers."""
    variables = initial_variables(WIDE, jax.random.key(1), MANY[1:])
    images = 3 * jax.random.normal(jax.random.key(2), MANY)
    apply = functools.partial(WIDE.apply, mutable=["potentials"])
    _, seen = jax.jit(apply)(variables, images)
    found = {path: quantize.at(seen["potentials"], path)["v"] for path in LARGE}
    assert {path: values.shape for path, values in found.items()} == LARGE
    assert all(values.size > ENOUGH for values in found.values())
    return variables, images, found


def started(quantizer):
    variables, images, _ = many()
    rules = Rules(tuple((path, quantizer) for path in LARGE))
    net = WIDE.with_rules({"membranes": rules})
    key = jax.random.key(7)
    return net, quantize.quantize(net, variables, key, images)


@pytest.mark.parametrize(
    "quantizer",
    [
        uniform(4, clip="max"),
        uniform(4, clip="max", channelwise=True),
        uniform(4, clip="percentile", percentile=100.0),
        lqnet(2),
        mint(4),
    ],
)
def test_large_layers_start_as_if_all_values_were_looked_at(quantizer):
    """The largest magnitude is that of all; where values are drawn, the same ones.

    The number of a layer, which with the key decides them, is its place in the network.
    """
    net, variables = started(quantizer)
    known = net.known_layers()
    collection = "params" if quantizer.trainable else "quant"
    for path, values in many()[2].items():
        number = len(known["weights"]) + known["membranes"].index(path)
        own = jax.random.fold_in(jax.random.key(7), number)
        expected = net.membranes(path).init(own, values)
        found = quantize.at(variables[collection], path)["quantizer"]
        same = functools.partial(np.testing.assert_allclose, rtol=1e-6)
        jax.tree.map(same, found, expected)


@pytest.mark.parametrize("channelwise", [False, True])
def test_a_percentile_of_a_large_layer_is_that_of_a_part_of_it(channelwise):
    """The drawn share below it is binomial: five deviations off it is something else.

    A quarter of all values, drawn with replacement, is not all of them either.
    """
    quantizer = uniform(4, clip="percentile", percentile=90.0, channelwise=channelwise)
    _, variables = started(quantizer)
    for path, values in many()[2].items():
        clip = quantize.at(variables["quant"], path)["quantizer"].high
        magnitudes = np.abs(np.asarray(values)).reshape(-1, 4)
        if not channelwise:
            magnitudes = magnitudes.reshape(-1, 1)
        drawn = ENOUGH // 4 if channelwise else ENOUGH
        off = 5 * np.sqrt(0.9 * 0.1 / drawn)
        low, high = np.quantile(magnitudes, [0.9 - off, 0.9 + off], axis=0)
        assert np.all((low <= clip) & (clip <= high))
        assert np.any(clip != np.percentile(magnitudes, 90, axis=0))


def test_rows_keep_channels_together_and_enough_of_each(key):
    few = jnp.ones((ENOUGH // 4, 4))
    choose = at_random(key)
    assert rows(choose, few) is few
    x = jnp.arange(2 * ENOUGH, dtype=jnp.float32)
    drawn = np.asarray(rows(choose, x.reshape(-1, 2, 4)))
    assert drawn.shape == (ENOUGH // 4, 4)
    np.testing.assert_array_equal(drawn - drawn[:, :1], np.tile(range(4), (2**16, 1)))
    assert np.all(drawn[:, 0] % 4 == 0)
    assert len(np.unique(drawn[:, 0])) > ENOUGH // 8
    # As many channels as would leave sixteen places.
    x = jax.ShapeDtypeStruct((2 * ENOUGH_OF_CHANNEL, 2**14), jnp.float32)
    assert jax.eval_shape(functools.partial(rows, choose), x).shape == (
        ENOUGH_OF_CHANNEL,
        2**14,
    )


def drawing(*layers, images=MANY):
    """The program that draws values of these layers, compiled for many images."""
    variables = abstract_variables(WIDE, MANY[1:])
    numbers = [jax.ShapeDtypeStruct((ENOUGH,), jnp.int32)]
    return quantize.drawn.lower(
        WIDE,
        tuple((path, lqnet(2).placed("membranes").draw) for path in layers),
        variables,
        jax.ShapeDtypeStruct(images, jnp.float32),
        dict.fromkeys(layers, numbers),
    )


def test_never_all_potentials_are_there_at_once():
    """Beside the memory of the network itself there is room for one layer."""
    shape = jax.ShapeDtypeStruct(MANY, jnp.float32)
    layers = WIDE.neuron_layers()
    sizes = jax.eval_shape(
        functools.partial(quantize._potentials, WIDE),
        abstract_variables(WIDE, MANY[1:]),
        shape,
    )
    largest = max(x.nbytes for x in map(_full, jax.tree.leaves(sizes)))
    whole = sum(x.nbytes for x in map(_full, jax.tree.leaves(sizes)))
    alone = jax.jit(lambda variables, x: WIDE.apply(variables, x)[0])
    alone = alone.lower(abstract_variables(WIDE, MANY[1:]), shape).compile()
    needed = drawing(*layers).compile().memory_analysis()
    assert needed.output_size_in_bytes <= 4 * ENOUGH * len(layers) + 4096
    free = needed.temp_size_in_bytes - alone.memory_analysis().temp_size_in_bytes
    assert free <= largest < whole / 2


def _full(shape):
    return np.broadcast_to(np.zeros((), shape.dtype), shape.shape)


def test_layers_behind_the_last_that_asks_are_not_computed():
    """Each convolution counts once: the stem has one, the whole network six."""
    count = lambda lowered: lowered.compile().as_text().count(" convolution(")
    assert count(drawing("sn1")) == 1
    assert count(drawing("sn1", "layer1_0/sn1")) == 2


@dataclasses.dataclass(frozen=True)
class Blind(Quantizer):
    """A quantizer of one's own that asks for nothing but a shape."""

    bits: int = 4
    needs_values = False

    def init(self, key, x):
        assert isinstance(x, jax.ShapeDtypeStruct)
        return jnp.zeros(x.shape[-1])

    def apply(self, x, state, train):
        return x, state


@pytest.mark.parametrize(
    "quantizer",
    [
        uniform(4, clip=2.0),
        snntorch(4),
        lqnet(2, start="published"),
        Blind(),
    ],
)
def test_nothing_is_computed_for_quantizers_that_ask_for_no_values(
    quantizer, monkeypatch
):
    def computed(self, *arguments, **named):
        # A sequence is the tuple of its timesteps.
        given = jax.tree.leaves(arguments[0])
        assert all(isinstance(x, jax.core.Tracer) for x in given)
        return call(self, *arguments, **named)

    call = Spiking.__call__
    monkeypatch.setattr(Spiking, "__call__", computed)
    monkeypatch.setattr(quantize, "drawn", None)
    _, variables = started(quantizer)
    for path, shape in LARGE.items():
        state = quantize.at(variables["quant"], path)["quantizer"]
        if isinstance(quantizer, Blind):
            assert state.shape == shape[-1:]


def test_only_layers_that_ask_are_drawn_from(monkeypatch):
    asked = []
    drawn = quantize.drawn

    def watched(net, draws, *rest):
        asked.extend(path for path, _ in draws)
        return drawn(net, draws, *rest)

    monkeypatch.setattr(quantize, "drawn", watched)
    rules = Rules((("sn1", uniform(4, clip="max")), (".*sn2", snntorch(4))))
    net = WIDE.with_rules({"membranes": rules})
    variables, images, _ = many()
    found = quantize.quantize(net, variables, jax.random.key(0), images)
    assert asked == ["sn1"]
    assert {*found["quant"]} == {"sn1", "layer1_0", "layer2_0"}
