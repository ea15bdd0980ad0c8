"""Normalisation and neurons as one unit: equal to one after the other, at less memory.

The witness is the plain formula, differentiated by JAX operation by operation.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from jsnnq.networks import readout
from jsnnq.networks.neurons import initial_decay, unroll
from jsnnq.networks.normalisation import Affine, moments, normalise
from tests.drawn import normals

EPSILON = 1e-5
T, SHAPE = 4, (6, 4, 4, 3)

NEURONS = {
    "if": jsnnq.Neuron("if"),
    "lif": jsnnq.Neuron("lif", tau=1.5),
    "lif, soft reset": jsnnq.Neuron("lif", v_reset=None),
    "lif, reset in the gradient": jsnnq.Neuron("lif", detach_reset=False),
    "plif": jsnnq.Neuron("plif"),
    "before_fire": jsnnq.Neuron("if", placement="before_fire"),
}


def plain(then, x, affine, given):
    """Ioffe and Szegedy's Algorithm 1, and what follows."""
    values, axes = jnp.stack(x), (0, 1, 2, 3)
    gain, shift = (jnp.broadcast_to(one, values.shape) for one in affine)
    away = values - values.mean(axes, keepdims=True)
    var = jnp.square(away).mean(axes, keepdims=True)
    y = gain * away / jnp.sqrt(var + EPSILON) + shift
    return then(tuple(y), *given)


def unit(then, x, affine, given):
    return normalise(then, EPSILON, x, affine, given)[0]


def inputs(neuron):
    x = tuple(jnp.asarray(2 * normals(SHAPE, t) + 0.5, jnp.float32) for t in range(T))
    affine = Affine(jnp.array([1.0, 1.5, -0.5]), jnp.array([0.5, 0.7, 0.9]))
    v = jnp.asarray(normals(SHAPE, 9) / 4, jnp.float32)
    decay = jnp.float32(initial_decay(neuron)) if neuron.kind == "plif" else None
    return x, affine, (v, decay)


def outcome(way, neuron, quantizer=None):
    """Spikes, last membranes, and the gradients of all that has one."""
    x, affine, given = inputs(neuron)
    state = quantizer.init(jax.random.key(0), x[0]) if quantizer else ()

    def then(y, v, decay):
        quantize = lambda v, state: (v, state)
        if quantizer:
            quantize = lambda v, state: quantizer.apply(v, state, False)
        spikes, _, v, _ = unroll(neuron, y, v, decay, quantize=quantize, state=state)
        return spikes, v

    weights = [normals(SHAPE, 20 + t) for t in range(T + 1)]

    def loss(x, affine, given):
        spikes, v = way(then, x, affine, given)
        terms = zip((*spikes, v), weights, strict=True)
        return sum(jnp.sum(one * weight) for one, weight in terms), (spikes, v)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(x, affine, given)


def assert_near(found, expected):
    """Equal to 1e-5 of the largest number of each array."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))


@contextlib.contextmanager
def as_on(platform):
    """What is meant for a platform, computed here."""

    def branch(*arguments, default=None, **branches):
        return branches.get(platform, default)(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jax.lax, "platform_dependent", branch)
        jax.clear_caches()
        yield
    jax.clear_caches()


@pytest.fixture(params=["cpu", "tpu", "cuda"])
def platform(request):
    with as_on(request.param):
        yield


@pytest.mark.parametrize("name", NEURONS)
def test_a_unit_is_normalisation_and_then_neurons(name, platform):
    found, expected = (outcome(way, NEURONS[name]) for way in (unit, plain))
    ((_, (spikes, v)), gradients), ((_, (same, w)), slopes) = found, expected
    assert 0.05 < np.mean(same) < 0.6
    np.testing.assert_array_equal(spikes, same)
    assert_near(v, w)
    assert_near(gradients, slopes)


@pytest.mark.parametrize("quantizer", [jsnnq.uniform(3, clip=1.0), jsnnq.lqnet(2)])
def test_a_unit_holds_membrane_quantizers(quantizer, platform):
    placed = quantizer.placed("membranes", 1.0)
    found, expected = (outcome(w, NEURONS["if"], placed) for w in (unit, plain))
    np.testing.assert_array_equal(found[0][1][0], expected[0][1][0])
    assert_near(found, expected)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_networks_are_the_same_on_every_platform(platform):
    net = jsnnq.SEWResNet(depths=(1, 1), channels=(4, 8), classes=10)
    images = jnp.asarray(normals((6, 8, 8, 3)), jnp.float32)
    variables = jax.jit(net.init)(jax.random.key(0), images)

    def loss(params):
        found, changed = net.apply(
            {**variables, "params": params}, images, True, mutable=["batch_stats"]
        )
        logits, seen = found
        loss = readout.cross_entropy(readout.readout(logits), jnp.arange(6)).mean()
        return loss, (changed, seen.spikes)

    def trained(where):
        with as_on(where):
            return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    (_, (changed, spikes)), gradients = trained(platform)
    (_, (running, same)), slopes = trained("cpu")
    for name, values in spikes.items():
        np.testing.assert_array_equal(values, same[name])
    assert_near(changed, running)
    assert_near(gradients, slopes)


def test_only_the_input_is_kept_for_the_gradient():
    x, affine, given = inputs(NEURONS["lif"])

    def fire(y, v, decay):
        return unroll(NEURONS["lif"], y, v, decay)[0]

    def kept(way):
        _, back = jax.vjp(lambda *arguments: way(fire, *arguments), x, affine, given)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(back))

    of_channels = 6 * affine.gain.nbytes
    assert kept(unit) <= sum(one.nbytes for one in (*x, given[0])) + of_channels
    assert kept(plain) > 2 * kept(unit)


def test_what_has_no_gradient_costs_none():
    """Zeros for what nobody reads would be as large as the spikes."""
    x, affine, (v, decay) = inputs(NEURONS["if"])
    seen = []

    def then(y, v, decay):
        spikes, values, v, _ = unroll(NEURONS["if"], y, v, decay)
        return spikes, values, v

    def loss(x):
        spikes, *_ = unit(then, x, affine, (v, decay))
        return sum(jnp.sum(one) for one in spikes)

    text = jax.jit(jax.grad(loss)).trace(x).lower(lowering_platforms=("tpu",)).as_text()
    for line in text.splitlines():
        if "optimization_barrier" in line and "->" not in line:
            seen.append(line.split(" : ")[-1].count("tensor<6x4x4x3x"))
    # Timesteps of the input, and those of the input and of the spikes' gradient.
    assert sorted(seen) == [T, 2 * T]


@pytest.mark.parametrize(
    "x",
    [
        2000 + normals((4, 8, 4, 4, 3)),
        np.concatenate([np.zeros((2, 8, 4, 4, 3)), 50 + normals((2, 8, 4, 4, 3))]),
        np.full((4, 8, 4, 4, 3), 7.25),
    ],
    ids=["far from zero", "nothing arrives at first", "constant"],
)
def test_moments_lose_nothing_in_one_pass(x):
    x = np.asarray(x, np.float32)
    mean, var = jax.jit(moments)(tuple(map(jnp.asarray, x)))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2, 3)), rtol=2e-5, atol=1e-9)
