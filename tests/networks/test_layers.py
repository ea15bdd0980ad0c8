"""Layers against NumPy formulas typed a second time, with quantizers made here."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from jsnnq.errors import InputError
from jsnnq.networks.convolve import convolve
from jsnnq.networks.layers import QuantConv, QuantDense, Spiking, fan_out_normal
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.normalisation import BatchNorm
from jsnnq.networks.quantize import quantize as starts
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import sew_resnet
from jsnnq.networks.timesteps import direct, fold
from jsnnq.quantizers.base import Quantizer, identity
from jsnnq.quantizers.lqnet import LQNet, lqnet
from jsnnq.quantizers.mint import mint
from jsnnq.quantizers.ste import ste
from jsnnq.quantizers.stompp import stompp
from jsnnq.quantizers.uniform import uniform
from jsnnq.workflow.quantize import quantize
from tests import witness
from tests.drawn import normals

# Quantizers whose every call can be seen.


class _Count(NamedTuple):
    """A quantizer's state: what it multiplies by, and how often it learned."""

    factor: Array
    updates: Array
    last: Array  # sum of what it learned from last


@dataclasses.dataclass(frozen=True)
class _Counting(Quantizer):
    """Multiplies, and counts how often it learned."""

    trainable: bool = False
    shared: bool = False
    each_timestep: bool = False

    bits = 4

    def init(self, key, x):
        return None

    def apply(self, x, state, train):
        x_hat = x * state.factor
        if train:
            total = jnp.sum(jax.lax.stop_gradient(x))
            state = _Count(state.factor / 2, state.updates + 1, total)
        return x_hat, state


def _count(factor):
    return _Count(jnp.float32(factor), jnp.int32(0), jnp.float32(0))


# Products in evaluation.

KERNELS = {
    "uniform": uniform(2, 0.3),
    "uniform, 8 bits": uniform(8, "max"),
    "uniform by channel": uniform(3, "max", grid="symmetric", channelwise=True),
    "mint": mint(4),
    "lqnet": lqnet(3),
    "signs": stompp((0, 1)),
    "signs with a scale": ste(scaled=True),
}


def _convolution(quantizer, seed=0):
    """A layer, its variables, and joins of spikes: whole numbers."""
    rng = np.random.default_rng(seed)
    layer = QuantConv(quantizer, features=5, stride=2)
    kernel = jnp.asarray(rng.normal(0, 0.2, (3, 3, 7, 5)), jnp.float32)
    state = quantizer.init(jax.random.key(0), kernel)
    place = "params" if quantizer.trainable else "quant"
    variables = {"params": {"kernel": kernel}, "quant": {}}
    variables[place] = {**variables[place], "quantizer": state}
    joins = rng.integers(0, 4, (2, 9, 8, 7)).astype(np.float32)
    return layer, variables, kernel, state, joins


def _sums(x, kernel, stride):
    """A convolution of whole numbers in NumPy, padded by one pixel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)


@pytest.mark.parametrize("name", KERNELS)
def test_evaluation_multiplies_whole_numbers_exactly(name):
    quantizer = KERNELS[name]
    layer, variables, kernel, state, joins = _convolution(quantizer)
    found = jax.jit(layer.apply, static_argnums=2)(variables, joins, False)
    expected = np.float32(0)
    for codes, scale in zip(*quantizer.planes(kernel, state), strict=True):
        sums = _sums(joins.astype(np.int64), np.asarray(codes, np.int64), 2)
        assert sums.dtype == np.int64
        # One plane: one product, rounded once. A sum of several may be fused.
        expected = expected + sums.astype(np.float32) * np.asarray(scale, np.float32)
    exact = quantizer.bits == 1 or not isinstance(quantizer, LQNet)
    reach = np.abs(expected).max()
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=0 if exact else 2e-7 * reach
    )


@pytest.mark.parametrize("name", KERNELS)
def test_evaluation_has_the_gradients_of_the_quantized_kernel(name):
    quantizer = KERNELS[name]
    layer, variables, kernel, state, joins = _convolution(quantizer)

    def through_layer(kernel, state, joins):
        place = "params" if quantizer.trainable else "quant"
        given = {"params": {"kernel": kernel}, "quant": {}}
        given[place] = {**given[place], "quantizer": state}
        return jnp.sum(jnp.sin(layer.apply(given, joins, False)))

    def by_hand(kernel, state, joins):
        used, _ = quantizer.apply(kernel, state, False)
        return jnp.sum(jnp.sin(convolve(joins, used, 2)))

    differentiated = (0, 1, 2) if quantizer.trainable else (0, 2)
    for one, other in zip(
        jax.tree.leaves(jax.grad(through_layer, differentiated)(kernel, state, joins)),
        jax.tree.leaves(jax.grad(by_hand, differentiated)(kernel, state, joins)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


# Rules.


def test_first_full_match_wins():
    one, two = _Counting(), _Counting(trainable=True)
    rules = Rules(((r"layer1_0/conv\d", one), (r"layer\d_\d/.*", two)))
    assert rules("layer1_0/conv2") is one
    assert rules("layer1_1/conv2") is two
    assert rules("layer1_0/downsample_conv") is two
    assert Rules(rules.rules[::-1])("layer1_0/conv2") is two


@pytest.mark.parametrize("path", ["layer1_0/conv1", "conv12", "aconv1", "conv", ""])
def test_a_partial_match_is_none(path):
    assert Rules((("conv1", _Counting()),))(path) is identity


def test_no_rules_leave_everything_float():
    assert Rules()("conv1") is identity


# Folding.


def test_fold_hands_time_and_batch_over_as_one_axis_and_back():
    x = normals((3, 2, 5, 4))
    shapes = []

    def layer(y):
        shapes.append(y.shape)
        return jnp.sum(y, axis=1)

    found = fold(layer, jnp.asarray(x))
    assert shapes == [(6, 5, 4)]
    np.testing.assert_allclose(found, x.sum(axis=2), rtol=1e-6)


# Starts.


@pytest.mark.parametrize("shape", [(3, 3, 64, 128), (1, 1, 256, 200), (7, 7, 3, 600)])
def test_fan_out_normal_has_kaimings_deviation(key, shape):
    values = np.asarray(fan_out_normal(key, shape))
    size, _, _, out = shape
    deviation = np.sqrt(2 / (size * size * out))
    # Standard errors: deviation / sqrt(n) of the mean, deviation / sqrt(2 n).
    assert abs(values.mean()) < 5 * deviation / np.sqrt(values.size)
    error = deviation / np.sqrt(2 * values.size)
    assert abs(values.std() - deviation) < 5 * error
    assert np.abs(values).max() > 3 * deviation  # not truncated


def test_dense_starts_uniform_within_one_over_root_of_inputs(key):
    params = QuantDense(features=500).init(key, jnp.zeros((1, 100)), False)["params"]
    for values in (params["kernel"], params["bias"]):
        reach = 0.1
        assert np.abs(values).max() <= reach
        error = reach**2 / 3 * np.sqrt(4 / 5 / values.size)  # of a uniform's variance
        assert abs(np.mean(np.square(values)) - reach**2 / 3) < 5 * error
    assert params["kernel"].shape == (100, 500)
    assert params["bias"].shape == (500,)


# Convolution and classifier.


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [8, 7, 2, 1])
def test_conv_equals_numpy(size, stride, side):
    x, kernel = normals((2, side, side + 1, 3)), normals((size, size, 3, 5), 1)
    layer = QuantConv(features=5, size=size, stride=stride)
    params = {"kernel": jnp.asarray(kernel)}
    found = layer.apply({"params": params}, jnp.asarray(x), False)
    given = witness.Value(x), witness.Value(kernel), stride
    expected = witness.Tape().convolved(*given).data
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_conv_has_one_kernel_and_no_bias(key):
    variables = QuantConv(features=5, size=3).init(key, jnp.zeros((1, 4, 4, 2)), False)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (3, 3, 2, 5)}}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (QuantConv(features=5, dtype=jnp.bfloat16), (2, 4, 4, 3)),
        (QuantDense(features=5, dtype=jnp.bfloat16), (2, 3)),
    ],
)
def test_bfloat16_products_of_float32_parameters(key, layer, shape):
    x = jnp.asarray(normals(shape))
    variables = layer.init(key, x, False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    found = layer.apply(variables, x, False)
    assert found.dtype == jnp.bfloat16
    exact = layer.clone(dtype=jnp.float32).apply(variables, x, False)
    np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.1)
    assert float(jnp.max(jnp.abs(found - exact))) > 0


# Quantized kernels.

_KERNELS = {
    "conv": (QuantConv(features=2, size=1), (1, 3, 3, 4), (1, 1, 4, 2)),
    "dense": (QuantDense(features=2), (5, 4), (4, 2)),
}


def _with_kernel(kind, quantizer, collection, factor):
    layer, x, kernel = _KERNELS[kind]
    params = {"kernel": jnp.asarray(normals(kernel, 1))}
    if kind == "dense":
        params["bias"] = jnp.zeros(2)
    variables = {"params": params}
    variables.setdefault(collection, {})["quantizer"] = _count(factor)
    return layer.clone(quantizer=quantizer), jnp.asarray(normals(x)), variables


@pytest.mark.parametrize("kind", _KERNELS)
def test_the_kernel_is_used_as_its_quantizer_returns_it_and_teaches_it(kind):
    layer, x, variables = _with_kernel(kind, _Counting(), "quant", 3.0)
    plain = layer.clone(quantizer=identity).apply(variables, x, False)
    for train in (False, True):  # It learns in training, for the next step.
        found, changed = layer.apply(variables, x, train, mutable=["quant"])
        np.testing.assert_allclose(found, 3 * plain, rtol=1e-5, atol=1e-6)
        state = changed["quant"]["quantizer"]
        assert (state.updates, state.factor) == ((1, 1.5) if train else (0, 3))
    total = np.sum(variables["params"]["kernel"])
    np.testing.assert_allclose(state.last, total, rtol=1e-5)


def test_a_trainable_state_lives_among_the_parameters_and_gets_gradients():
    quantizer = _Counting(trainable=True)
    layer, x, variables = _with_kernel("dense", quantizer, "params", 3.0)

    def total(params):
        y, changed = layer.apply({"params": params}, x, True, mutable=["quant"])
        return jnp.sum(y), changed

    slope, changed = jax.grad(total, has_aux=True, allow_int=True)(variables["params"])
    assert "quant" not in changed
    expected = np.sum(x @ variables["params"]["kernel"])
    np.testing.assert_allclose(slope["quantizer"].factor, expected, rtol=1e-5)


def test_initialising_leaves_the_quantizer_alone(key):
    for layer, x in (
        (QuantConv(quantizer=_Counting()), jnp.zeros((1, 3, 3, 2))),
        (QuantDense(quantizer=_Counting()), jnp.zeros((1, 2))),
        (Spiking(quantizer=_Counting()), jnp.zeros((2, 1, 2))),
    ):
        variables = layer.init(key, x, True)
        assert set(variables) <= {"params"}
        assert "quantizer" not in variables.get("params", {})


# Normalisation.


def _normalised(x, scale, bias, mean, var, epsilon=1e-5):
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def _statistics(x):
    """Mean and biased variance over all axes but the last, in float64."""
    x = x.astype(np.float64)
    return x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))


def _normalisation():
    """A layer of three channels, its parameters and its running statistics."""
    params = {"scale": normals((3,), 5), "bias": normals((3,), 6)}
    running = {"mean": normals((3,), 7), "var": np.abs(normals((3,), 8)) + 0.5}
    return BatchNorm(), {"params": params, "batch_stats": running}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _train(layer, variables, x, repeats=1):
    y, changed = layer.apply(variables, x, True, repeats, mutable=["batch_stats"])
    return y, changed["batch_stats"]


@settings(max_examples=15, deadline=None)
@given(
    offset=st.floats(-100, 100),
    spread=st.floats(0.01, 10),
    repeats=st.sampled_from([1, 4]),
    seed=st.integers(0, 99),
)
def test_batch_norm_in_training(offset, spread, repeats, seed):
    layer, variables = _normalisation()
    x = (spread * normals((4, 3, 2, 3), seed) + offset).astype(np.float32)
    found, changed = _train(layer, variables, jnp.asarray(x), repeats)
    mean, var = _statistics(x)
    params, running = variables["params"], variables["batch_stats"]
    expected = _normalised(x, params["scale"], params["bias"], mean, var)
    # float32 holds a value near the offset to 6e-8 of it.
    rounding = 1e-4 + 2e-6 * (abs(offset) + spread) / spread
    for y in (found, layer.apply(variables, jnp.asarray(x), True, repeats)):
        np.testing.assert_allclose(y, expected, atol=5 * rounding)
    n = 4 * 3 * 2 * repeats
    for name, moment in (("mean", mean), ("var", var * n / (n - 1))):
        expected = 0.9 * running[name] + 0.1 * moment
        atol = 1e-5 if name == "mean" else 0
        np.testing.assert_allclose(changed[name], expected, rtol=1e-5, atol=atol)


def test_batch_norm_in_evaluation_uses_the_running_statistics():
    layer, variables = _normalisation()
    x = normals((4, 3, 2, 3)) + 2
    found, changed = layer.apply(
        variables, jnp.asarray(x), False, mutable=["batch_stats"]
    )
    params, running = variables["params"], variables["batch_stats"]
    expected = _normalised(
        x, params["scale"], params["bias"], running["mean"], running["var"]
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], running)


def test_a_single_value_leaves_finite_statistics():
    layer, variables = _normalisation()
    x = jnp.ones((1, 1, 1, 3))
    y, changed = _train(layer, variables, x)
    np.testing.assert_allclose(y[0, 0, 0], variables["params"]["bias"], atol=1e-4)
    expected = 0.9 * variables["batch_stats"]["var"]
    np.testing.assert_allclose(changed["var"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "scale", "bias"), [({}, 1, 0), ({"scale": 0.0, "bias": 1.0}, 0, 1)]
)
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_starts_as_told(key, settings, scale, bias, train):
    x = jnp.asarray(normals((2, 3, 3, 4)))
    variables = BatchNorm(**settings).init(key, x, train)
    numbers = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": 0, "var": 1},
    }
    expected = jax.tree.map(lambda number: np.full(4, number), numbers)
    jax.tree.map(np.testing.assert_array_equal, dict(variables), expected)


def test_batch_norm_of_bfloat16_keeps_the_type_and_float32_statistics():
    layer, variables = _normalisation()
    x = jnp.asarray(normals((16, 4, 4, 3)) + 10, jnp.bfloat16)
    y, running = _train(layer, variables, x)
    assert y.dtype == jnp.bfloat16
    assert running["mean"].dtype == running["var"].dtype == jnp.float32
    mean, var = _statistics(np.asarray(x.astype(jnp.float32)))
    expected = 0.9 * variables["batch_stats"]["var"] + 0.1 * var * 256 / 255
    np.testing.assert_allclose(running["var"], expected, rtol=1e-5)
    assert layer.apply(variables, x, False).dtype == jnp.bfloat16


# Spiking.

_IF = Neuron(kind="if")


def _currents(time=4, shape=(2, 3), seed=0):
    return jnp.asarray(0.4 + normals((time, *shape), seed))


def _if_loop(x, quantize=lambda v: v):
    """An IF layer with hard reset to 0 and threshold 1: spikes and what is stored."""
    v, spikes, potentials = np.zeros(x.shape[1:]), [], []
    for current in np.asarray(x, np.float64):
        h = v + current
        s = h >= 1
        potentials.append(np.where(s, 0, h))
        v = quantize(potentials[-1])
        spikes.append(s)
    return np.array(spikes, float), np.array(potentials), v


def test_spiking_equals_a_loop_and_keeps_what_it_is_asked_for():
    x = _currents()
    layer = Spiking(neuron=_IF)
    expected, potentials, last = _if_loop(x)
    assert 0 < expected.mean() < 1
    spikes, changed = layer.apply({}, x, False, mutable=["membrane", "potentials"])
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(changed["membrane"]["v"], last, atol=1e-6)
    np.testing.assert_allclose(changed["potentials"]["v"], potentials, atol=1e-6)
    for asked, kept in (("potentials", {"potentials"}), ("batch_stats", set())):
        spikes, changed = layer.apply({}, x, False, mutable=[asked])
        np.testing.assert_array_equal(spikes, expected)
        assert set(changed) == kept
    np.testing.assert_array_equal(layer.apply({}, x, False), expected)


@pytest.mark.parametrize("v_reset", [0.0, None, -0.5])
def test_membranes_travel_from_call_to_call(v_reset):
    x = _currents(time=6, shape=(5, 40))
    layer = Spiking(neuron=Neuron(v_reset=v_reset))
    whole = layer.apply({}, x, False)
    first, changed = layer.apply({}, x[:2], False, mutable=["membrane"])
    second, changed = layer.apply(changed, x[2:], False, mutable=["membrane"])
    np.testing.assert_array_equal(whole, jnp.concatenate([first, second]))
    assert not np.array_equal(second, layer.apply({}, x[2:], False))
    assert len(np.unique(changed["membrane"]["v"])) > 2


def test_a_layer_without_membranes_starts_at_the_reset_value():
    # At rest -0.5 with threshold 0.4 a current of 0.8 does not fire; from 0 it would.
    neuron = Neuron(kind="if", v_reset=-0.5, v_threshold=0.4)
    layer = Spiking(neuron=neuron)
    spikes, changed = layer.apply(
        {}, jnp.full((1, 1, 1), 0.8), False, mutable=["membrane"]
    )
    assert spikes == 0
    np.testing.assert_allclose(changed["membrane"]["v"], 0.3, atol=1e-6)


_QUARTER = {"quant": {"quantizer": _count(0.25)}}


@pytest.mark.parametrize("train", [False, True])
def test_the_membrane_quantizer_acts_between_timesteps(train):
    """In training, too, with the state before the call; and learns then, once."""
    x = _currents()
    layer = Spiking(neuron=_IF, quantizer=_Counting())
    expected, potentials, last = _if_loop(x, lambda v: v / 4)
    kept = ["membrane", "potentials", "quant"]
    spikes, changed = layer.apply(_QUARTER, x, train, mutable=kept)
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(changed["membrane"]["v"], last, atol=1e-6)
    np.testing.assert_allclose(changed["potentials"]["v"], potentials, atol=1e-6)
    state = changed["quant"]["quantizer"]
    assert (state.updates, state.factor) == ((1, 0.125) if train else (0, 0.25))
    if train:
        np.testing.assert_allclose(state.last, potentials.sum(), rtol=1e-5)
    only, _ = layer.apply(_QUARTER, x, train, mutable=["quant"])
    np.testing.assert_array_equal(only, expected)
    assert not np.array_equal(expected, _if_loop(x)[0])


def test_a_membrane_quantizer_may_learn_at_every_timestep():
    x = _currents()
    layer = Spiking(neuron=_IF, quantizer=_Counting(each_timestep=True))
    spikes, changed = layer.apply(_QUARTER, x, True, mutable=["quant", "potentials"])
    factors = iter(0.25 / 2**t for t in range(len(x)))
    expected, potentials, _ = _if_loop(x, lambda v: v * next(factors))
    np.testing.assert_array_equal(spikes, expected)
    state = changed["quant"]["quantizer"]
    assert (state.updates, state.factor) == (len(x), 0.25 / 2 ** len(x))
    np.testing.assert_allclose(state.last, potentials[-1].sum(), rtol=1e-5)
    # In evaluation it is frozen, as any other.
    spikes, changed = layer.apply(_QUARTER, x, False, mutable=["quant"])
    np.testing.assert_array_equal(spikes, _if_loop(x, lambda v: v / 4)[0])
    assert changed["quant"]["quantizer"].updates == 0


def test_a_shared_quantizer_uses_the_kernels_state_and_sends_gradients_there():
    x = _currents()
    quantizer = _Counting(trainable=True, shared=True)
    layer = Spiking(neuron=_IF, quantizer=quantizer)
    spikes = layer.apply({}, x, False, _count(0.25))
    np.testing.assert_array_equal(spikes, _if_loop(x, lambda v: v / 4)[0])

    def total(factor):
        state = _Count(factor, jnp.int32(0), jnp.float32(0))
        spikes, changed = layer.apply({}, x, True, state, mutable=["quant"])
        assert not changed
        return jnp.sum(spikes)

    assert float(jax.grad(total)(jnp.float32(0.25))) != 0


def test_an_own_trainable_quantizer_is_found_among_the_parameters():
    layer = Spiking(neuron=_IF, quantizer=_Counting(trainable=True))
    x = _currents()
    spikes = layer.apply({"params": {"quantizer": _count(0.25)}}, x, True)
    np.testing.assert_array_equal(spikes, _if_loop(x, lambda v: v / 4)[0])


@pytest.mark.parametrize(("tau", "w"), [(2.0, 0.0), (5.0, -np.log(4))])
def test_plif_has_one_parameter_and_is_lif_at_the_start(key, tau, w):
    x = _currents()
    layer = Spiking(neuron=Neuron(kind="plif", tau=tau))
    variables = layer.init(key, x, False)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"w": ()}}
    np.testing.assert_allclose(variables["params"]["w"], w, atol=1e-6)
    lif = Spiking(neuron=Neuron(kind="lif", tau=tau)).apply({}, x, False)
    np.testing.assert_array_equal(layer.apply(variables, x, False), lif)
    slope = jax.grad(lambda v: jnp.sum(layer.apply(v, x, False)))(variables)
    assert float(slope["params"]["w"]) != 0


def test_if_and_lif_have_no_parameters(key):
    for kind in ("if", "lif"):
        assert not Spiking(neuron=Neuron(kind=kind)).init(key, _currents(), False)


def test_spikes_of_bfloat16_currents_come_from_float32_membranes():
    x = _currents().astype(jnp.bfloat16)
    spikes, changed = Spiking(neuron=_IF).apply(
        {}, x, False, mutable=["membrane", "potentials"]
    )
    assert spikes.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(
        spikes.astype(jnp.float32), _if_loop(x.astype(jnp.float32))[0]
    )


# Direct encoding


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("timesteps", [1, 4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_repeats_the_input_at_every_timestep(shape, timesteps, dtype):
    x = np.asarray(jnp.asarray(normals(shape), dtype))
    found = direct(jnp.asarray(x), timesteps)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.stack([x] * timesteps))


def test_gradient_is_the_sum_over_time():
    weights = jnp.array([[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]])
    slope = jax.grad(lambda x: jnp.sum(weights * direct(x, 3)))(jnp.ones(2))
    np.testing.assert_array_equal(slope, [12.0, 20.0])


@pytest.mark.parametrize("timesteps", [0, -1])
def test_refuses_no_timesteps(timesteps):
    with pytest.raises(InputError, match=f"timesteps is {timesteps}: at least 1"):
        direct(jnp.ones((2, 3)), timesteps)


def test_a_quantizer_without_a_state_is_named():
    net = sew_resnet("sew_resnet_tiny", classes=3)
    x, qnet = jnp.zeros((1, 4, 4, 1)), quantize(net, weights=lqnet(2))
    variables = qnet.init(jax.random.key(0), x)
    with pytest.raises(InputError, match="LQNet.*layer1_0/conv1.*jsnnq.calibrate"):
        qnet.apply(variables, x)
    with pytest.raises(InputError, match="sn1.*init does not"):
        quantize(net, membranes=uniform(4)).apply(variables, x)


@pytest.mark.parametrize("method", [lqnet(2), stompp((0, 5))])
def test_a_quantizer_that_learns_is_not_frozen_without_a_word(method):
    net = quantize(sew_resnet("sew_resnet_tiny", classes=3), weights=method)
    x = jnp.ones((2, 4, 4, 1))
    variables = starts(net, net.init(jax.random.key(0), x), jax.random.key(1), x)
    with pytest.raises(InputError, match="'quant'.*train=False"):
        net.apply(variables, x, True, mutable=["batch_stats"])
    net.apply(variables, x, True, mutable=["batch_stats", "quant"])
    net.apply(variables, x, False)
