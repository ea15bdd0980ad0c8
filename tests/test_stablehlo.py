"""Programs exported for a batch of any size, against the same on batches of some."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jsnnq.analysis import firing
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.network import observe
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.sew import init_state, sew_resnet, stream
from jsnnq.training.step import Program, train_step
from tests import test_x64
from tests.drawn import lively, normals

PLATFORMS = ("cpu", "cuda", "tpu")
SHAPE = (16, 16, 3)


def _exported(function, variables, *batches):
    """A function of variables and of arrays whose first axis is the batch."""
    (size,) = export.symbolic_shape("b")
    given = [jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in batches]
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    return export.export(jax.jit(function), platforms=PLATFORMS)(like, *given)


def _images(count):
    return jnp.asarray(normals((count, *SHAPE), seed=count))


def _close(found, expected):
    """To float32's rounding: a batch of known size may be convolved in tiles."""

    def compare(a, b):
        assert a.dtype == b.dtype
        b = np.asarray(b, np.float64)
        finite = np.abs(b)[np.isfinite(b)].max(initial=1e-6)
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * finite)

    jax.tree.map(compare, found, expected)


def _logits(net, variables, x):
    return observe(net, variables, x)[0]


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (sew_resnet, "sew_resnet8"),
        (sew_resnet, "sew_resnet18"),
        pytest.param(sew_resnet, "sew_resnet50", marks=pytest.mark.slow),
        (binary_resnet, "resnet18"),
        pytest.param(binary_resnet, "resnet50", marks=pytest.mark.slow),
        (binary_resnet, "mobilenetv2"),
    ],
)
def test_networks_of_full_width(make, name, stem):
    neuron = {"neuron": Neuron("if")} if make is sew_resnet else {}
    net = make(name, classes=10, stem=stem, **neuron)
    variables = lively(net, _images(1), shift=0.6)
    evaluated = functools.partial(_logits, net)
    program = _exported(evaluated, variables, _images(1))
    assert program.platforms == PLATFORMS
    for count in (1, 4):
        x = _images(count)
        expected = jax.jit(evaluated)(variables, x)
        assert count == 1 or np.std(expected[..., 0]) > 0
        _close(program.call(variables, x), expected)


def test_frame_by_frame():
    net = sew_resnet("sew_resnet8", classes=10, neuron=Neuron("if"))
    variables = lively(net, _images(1), shift=0.6)

    def two_steps(variables, x, y):
        state = init_state(net, variables, x)
        _, _, state = stream(net, variables, state, x)
        logits, _, state = stream(net, variables, state, y)
        return logits, state

    program = _exported(two_steps, variables, _images(1), _images(1))
    x, y = _images(4), _images(8)[4:]
    _close(program.call(variables, x, y), jax.jit(two_steps)(variables, x, y))


@pytest.mark.parametrize("name", test_x64.NETWORKS)
def test_training_and_evaluation_with_quantizers(name):
    net = test_x64.NETWORKS[name]
    program = Program(net, test_x64.SGD, 1, test_x64.PIXELS, pad=2, flip=True)
    state = test_x64.trained(net)
    random = np.random.default_rng(3)

    def batch(count):
        images = random.integers(0, 256, (count, *test_x64.SHAPE), dtype=np.uint8)
        return jnp.asarray(images), jnp.asarray(np.arange(count) % 4, jnp.int32)

    def one_step(state, images, labels):
        return train_step(program, state, images, labels, jax.random.key(5))

    def evaluated(state, images):
        return _logits(net, state.variables, program.inputs(images))

    trained = _exported(one_step, state, *batch(1))
    tested = _exported(evaluated, state, batch(1)[0])
    images, labels = batch(5)
    expected = jax.jit(one_step)(state, images, labels)
    _close(trained.call(state, images, labels), expected)
    _close(tested.call(state, images), jax.jit(evaluated)(state, images))


def test_counts_of_spikes():
    random = np.random.default_rng(0)
    spikes = jnp.asarray(random.integers(0, 3, (9, 5, 4, 2)), jnp.float32)
    valid = jnp.asarray(random.integers(0, 2, 9), bool)

    def count(_, spikes, valid):
        # Batch first, as every argument of an exported program here.
        spikes = spikes.swapaxes(0, 1)
        return firing.count(spikes, valid), firing.count_nonzero(spikes, valid)

    found = _exported(count, (), spikes, valid).call((), spikes, valid)
    kept = np.asarray(spikes)[np.asarray(valid)]
    for one, values in zip(found, (kept, kept != 0), strict=True):
        assert one.dtype == jnp.int32
        np.testing.assert_array_equal(one, values.sum(axis=(0, 1)))
