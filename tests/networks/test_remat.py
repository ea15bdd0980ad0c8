"""Blocks that the backward pass computes again, against those that are kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from jsnnq.networks.bnn import BinaryResNet
from jsnnq.networks.network import observe
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import SEWResNet
from jsnnq.workflow import specification
from tests.drawn import normals

SHAPE = (4, 8, 8, 3)
DEEP = {
    "spiking": functools.partial(SEWResNet, (3, 3), (4, 8), 3, timesteps=2),
    "quantized": functools.partial(
        SEWResNet,
        (1, 1),
        (4, 8),
        3,
        timesteps=2,
        weights=Rules((("layer.*conv.?", jsnnq.mint(4)),)),
        membranes=Rules(
            ((".*sn1", jsnnq.lqnet(2)), (".*", jsnnq.mint(4, shared=True)))
        ),
    ),
    "binary": functools.partial(
        BinaryResNet,
        (1, 1),
        (4, 8),
        3,
        activations=Rules(((".*act1", jsnnq.ste()),)),
        weights=Rules(((".*conv.", jsnnq.stompp((0, 4))),)),
    ),
}


@functools.cache
def variables(name):
    net = DEEP[name]()
    data = jsnnq.from_arrays(normals((8, *SHAPE[1:])), np.arange(8) % 3)
    bare = net.bare.init(jax.random.key(0), jnp.zeros((1, *SHAPE[1:])))
    return jsnnq.calibrate(net, bare, data).variables


def loss(net, variables, x, params):
    (logits, seen), changed = net.apply(
        {**variables, "params": params}, x, True, mutable=["batch_stats", "quant"]
    )
    return jnp.sum(jnp.square(logits)), (seen, changed)


@pytest.mark.parametrize("name", DEEP)
def test_numbers_are_the_same(name):
    """Loss, what was seen, what is remembered, and gradients, which are not zero."""
    found, x = [], jnp.asarray(normals(SHAPE, seed=1))
    for remat in (False, True):
        net = DEEP[name](remat=remat)
        step = jax.value_and_grad(functools.partial(loss, net), 2, has_aux=True)
        found.append(jax.jit(step)(variables(name), x, variables(name)["params"]))
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    largest = max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(found[0][1]))
    assert largest > 0

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * largest)

    jax.tree.map(compare, *found)
    (_, (seen, changed)), _ = found[1]
    assert {*changed} == {"batch_stats", "quant"}
    assert sum(map(len, seen)) > 4


def kept(net, variables):
    """Bytes that the backward pass reads of the forward one."""
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)

    def backward(variables, x):
        function = functools.partial(loss, net, variables, x)
        return jax.vjp(function, variables["params"], has_aux=True)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, variables, x))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def test_of_a_block_only_its_input_is_kept():
    """Six blocks of two units, each of which keeps several arrays of its size.

    Stage inputs are 3 x 16 and 3 x 4 or 8 kB here; without it, the neurons alone keep
    currents and spikes of twelve layers.
    """
    all_of_it, inputs = (
        kept(DEEP["spiking"](remat=remat), variables("spiking"))
        for remat in (False, True)
    )
    assert inputs < all_of_it / 2


def test_streaming_and_observing_see_every_layer():
    net = DEEP["spiking"](remat=True)
    x = jnp.asarray(normals(SHAPE, seed=2))
    logits, seen = observe(net, variables("spiking"), x)
    expected = observe(DEEP["spiking"](), variables("spiking"), x)
    np.testing.assert_allclose(logits, expected[0], rtol=1e-6)
    assert {*seen.spikes} == {*net.neuron_layers()} == {*expected[1].spikes}
    assert {*seen.joins} == {*expected[1].joins}
    state = jsnnq.init_state(net, variables("spiking"), x)
    _, _, after = jsnnq.stream(net, variables("spiking"), state, x)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_layers_and_files_are_those_of_the_same_network():
    plain, net = DEEP["spiking"](), DEEP["spiking"](remat=True)
    assert net.layers((1, *SHAPE[1:])) == plain.layers((1, *SHAPE[1:]))
    written = specification.specify(net)
    assert specification.build(written) == net != plain
    del written["remat"]
    assert specification.build(written) == plain
