"""Golden vectors of SpikingJelly 2.0, and the equations typed as a Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq.errors import InputError
from jsnnq.networks.neurons import (
    PLACEMENTS,
    Neuron,
    initial_decay,
    steady_drive,
    unroll,
)

X = [0.4, 0.8, 1.1, 0.2, 1.5]
IF = {"kind": "if"}

# SpikingJelly 2.0.0, scalar neuron, ATan(2), loss = sum over t = 1..5 of t s_t.
GOLDEN = {
    "if hard detach": (
        {**IF},
        [0, 1, 1, 0, 1],
        [0.4, 0, 0, 0.2, 0],
        [1.653546, 1.433913, 2.730509, 1.403442, 0.856736],
    ),
    "if hard no detach": (
        {**IF, "detach_reset": False},
        [0, 1, 1, 0, 1],
        [0.4, 0, 0, 0.2, 0],
        [0.469044, 0.273434, 1.348849, 1.380022, 0.856736],
    ),
    "if soft detach": (
        {**IF, "v_reset": None},
        [0, 1, 1, 0, 1],
        [0.4, 0.2, 0.3, 0.5, 1.0],
        [4.855906, 4.636274, 3.202360, 1.613600, 0.459998],
    ),
    "lif decay detach": (
        {},
        [0, 0, 0, 0, 1],
        [0.2, 0.5, 0.8, 0.5, 0],
        [0.709747, 1.282818, 1.988836, 1.826801, 2.5],
    ),
    "lif no decay detach": (
        {"decay_input": False},
        [0, 1, 1, 0, 1],
        [0.4, 0, 0, 0.2, 0],
        [1.219633, 2.0, 2.730509, 1.095788, 1.098163],
    ),
    "plif decay detach": (
        {"kind": "plif"},
        [0, 0, 0, 0, 1],
        [0.2, 0.5, 0.8, 0.5, 0],
        [0.709747, 1.282818, 1.988836, 1.826801, 2.5],
    ),
}


def run(neuron, x, decay=None):
    """Spikes, the membranes after every reset, and the last membrane."""
    return unroll(neuron, jnp.asarray(x), jnp.float32(neuron.rest), decay)[:3]


def weighted(neuron, x, decay=None):
    return jnp.sum(jnp.arange(1.0, len(x) + 1) * run(neuron, x, decay)[0])


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_vectors(case):
    fields, spikes, membranes, gradient = GOLDEN[case]
    neuron = Neuron(**fields)
    decay = jnp.float32(initial_decay(neuron)) if neuron.kind == "plif" else None
    found, seen, last = run(neuron, X, decay)
    np.testing.assert_array_equal(found, spikes)
    np.testing.assert_allclose(seen, membranes, atol=1e-6)
    np.testing.assert_allclose(last, membranes[-1], atol=1e-6)
    slope = jax.grad(weighted, argnums=1)(neuron, jnp.asarray(X), decay)
    np.testing.assert_allclose(slope, gradient, atol=2e-6)


def test_plif_golden_gradient_of_the_decay():
    neuron = Neuron(kind="plif")
    slope = jax.grad(weighted, argnums=2)(neuron, jnp.asarray(X), jnp.float32(0.0))
    np.testing.assert_allclose(slope, 1.825405, atol=2e-6)


def test_an_exact_tie_fires():
    assert run(Neuron(**IF), [1.0])[0] == 1


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.3])
@pytest.mark.parametrize("decay_input", [True, False])
def test_equals_a_loop_in_numpy(kind, v_reset, decay_input):
    neuron = Neuron(kind=kind, tau=3.0, v_reset=v_reset, decay_input=decay_input)
    x = np.random.default_rng(0).normal(0.6, 1.0, (20, 50)).astype(np.float32)
    rest = 0.0 if v_reset is None else v_reset
    v = np.full(50, rest)
    spikes = []
    for current in x.astype(np.float64):
        if kind == "if":
            h = v + current
        elif decay_input:
            h = v + (current - (v - rest)) / 3.0
        else:
            h = v - (v - rest) / 3.0 + current
        s = (h >= 1.0).astype(float)
        v = h - s if v_reset is None else s * v_reset + (1 - s) * h
        spikes.append(s)
    found, _, last, _ = unroll(neuron, jnp.asarray(x), jnp.full(50, rest, jnp.float32))
    np.testing.assert_array_equal(found, spikes)
    np.testing.assert_allclose(last, v, atol=1e-5)


def test_long_and_short_unrolling_agree():
    x = jax.random.normal(jax.random.key(0), (40, 7)) + 0.5
    whole, _, last, _ = unroll(Neuron(), x, jnp.zeros(7))
    v = jnp.zeros(7)
    pieces = []
    for part in jnp.split(x, 5):  # 8 timesteps each: written out, not looped
        spikes, _, v, _ = unroll(Neuron(), part, v)
        pieces.append(spikes)
    np.testing.assert_array_equal(whole, jnp.concatenate(pieces))
    np.testing.assert_allclose(last, v, atol=1e-6)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placement_by_hand(placement):
    # Levels 0, 0.5, 1 by rounding 2v; IF, hard reset to 0, currents of 0.7.
    # stored: h = .7 -> .5; 1.2 fires -> 0; .7 -> .5; 1.2 fires -> 0.
    # before_fire: h = .7 -> .5; 1.2 -> 1 fires -> 0; again.
    found, _, last, _ = unroll(
        Neuron(kind="if", placement=placement),
        jnp.full(4, 0.7),
        jnp.float32(0),
        quantize=lambda v, state: (jnp.clip(jnp.round(2 * v) / 2, 0, 1), state),
    )
    np.testing.assert_array_equal(found, [0, 1, 0, 1])
    assert last == 0


def test_placement_before_fire_changes_the_decision():
    # h = 0.8 rounds up to the threshold: only the placement before the spike fires.
    def first_spike(placement):
        neuron = Neuron(kind="if", placement=placement)
        quantize = lambda v, state: (jnp.round(2 * v) / 2, state)
        return unroll(neuron, jnp.array([0.8]), jnp.float32(0), quantize=quantize)[0]

    assert first_spike("before_fire") == 1
    assert first_spike("stored") == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_quantizer_may_learn_at_every_timestep(placement):
    """One whose level is the largest value of the timesteps before; IF by hand."""
    neuron = Neuron(kind="if", placement=placement, v_threshold=10.0)

    def quantize(v, level):
        return jnp.minimum(v, level), jnp.maximum(level, v)

    x = jnp.array([0.5, 1.0, 2.0])
    spikes, seen, last, level = unroll(
        neuron, x, jnp.float32(0), quantize=quantize, state=jnp.float32(0.25)
    )
    # .5 -> .25, level .5; 1.25 -> .5, level 1.25; 2.5 -> 1.25, level 2.5.
    np.testing.assert_array_equal(seen, [0.5, 1.25, 2.5])
    assert (last, level) == (1.25, 2.5)
    assert not spikes.any()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "izhikevich"}, "unknown neuron 'izhikevich'"),
        ({"tau": 1.0}, "tau is 1.0"),
        ({"tau": float("nan")}, "tau is nan"),
        ({"v_reset": 2.0}, "not above the reset value"),
        ({"placement": "after"}, "unknown membrane placement"),
        ({"v_threshold": float("inf")}, "v_threshold is inf"),
    ],
)
def test_refuses(fields, says):
    with pytest.raises(InputError, match=says):
        Neuron(**fields)


def test_plif_without_its_decay_is_refused():
    with pytest.raises(InputError, match="a plif neuron got no decay: give .* w"):
        run(Neuron(kind="plif"), X)


@pytest.mark.parametrize("kind", ["if", "lif", "plif"])
@pytest.mark.parametrize("tau", [2.0, 3.0, 7.3])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_threshold", [1.0, 1.5])
def test_steady_drive_fires_at_every_step_and_less_does_not(
    kind, tau, decay_input, v_threshold
):
    neuron = Neuron(
        kind=kind, tau=tau, decay_input=decay_input, v_threshold=v_threshold
    )
    decay = jnp.float32(initial_decay(neuron)) if kind == "plif" else None

    def spikes(current):
        x = jnp.full(5, current, jnp.float32)
        return unroll(neuron, x, jnp.float32(0), decay)[0]

    np.testing.assert_array_equal(spikes(steady_drive(neuron)), np.ones(5))
    assert spikes(0.99 * steady_drive(neuron))[0] == 0


def test_steady_drive_of_the_papers_neuron_is_its_bias():
    assert steady_drive(Neuron(kind="if")) == 1.0
