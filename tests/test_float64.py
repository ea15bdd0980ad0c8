"""Training in double precision, against the same steps in NumPy (`witness`)."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from jsnnq import config, lqnet, mint, snntorch, ste, stompp, uniform
from jsnnq.analysis import evaluate
from jsnnq.data import batches, sets
from jsnnq.errors import InputError
from jsnnq.networks import quantize
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.network import observe
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import init_state, sew_resnet, stream
from jsnnq.study import saved
from jsnnq.study.optimizer import optimizer
from jsnnq.training import step
from jsnnq.workflow.state import calibration_images, initial_variables
from tests import witness

SHAPE, CLASSES, TIMESTEPS = (6, 7, 2), 3, 3
MEAN, STD, SCALE = (0.3, 0.6), (0.21, 0.37), 255.0
RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-3
GRID, CLIP = 0.3, 1.4  # clips of kernels and membranes


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def _images(count=4):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, count).astype(np.int32)


def _normalised(images):
    return (images / SCALE - np.array(MEAN)) / np.array(STD)


# A training: ours, and the witness's with the same states.

KERNELS = {
    "float": (None, None),
    "uniform": (uniform(3, GRID), lambda x, one: witness.on_even_grid(x, 3, GRID)),
    "maximum": (
        uniform(3, "max"),
        lambda x, one: witness.on_even_grid(x, 3, abs(x).max()),
    ),
    "lqnet": (lqnet(2), lambda x, one: witness.on_levels(x, one.basis, True, np.inf)),
}
MEMBRANES = {
    "float": (None, None),
    "uniform": (
        uniform(4, CLIP),
        lambda x, one: witness.on_symmetric_grid(x, 4, CLIP),
    ),
    "lqnet": (
        lqnet(3, CLIP, codes="unsigned"),
        lambda x, one: witness.on_levels(x, one.basis, False, CLIP),
    ),
}


def _rules(where, quantizer):
    return Rules(((where, quantizer),) if quantizer else ())


def _program(neuron, kernels, membranes):
    net = sew_resnet(
        "sew_resnet_tiny",
        classes=CLASSES,
        timesteps=TIMESTEPS,
        neuron=neuron,
        dtype=jnp.float64,
        weights=_rules(config.HIDDEN_KERNELS, kernels),
        membranes=_rules(config.ALL_NEURONS, membranes),
    )
    return step.Program(net, _optimizer(), 4, batches.Preprocessing(MEAN, STD, SCALE))


def _optimizer():
    recipe = config.TrainingConfig(
        epochs=2, rate=RATE, momentum=MOMENTUM, weight_decay=DECAY, schedule="cosine"
    )
    return optimizer(recipe, steps_per_epoch=3)


def _start(program):
    """A state whose neurons fire."""
    net = program.network
    bare = net.bare
    variables = initial_variables(bare, jax.random.key(1), SHAPE)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.7 * (path[-1].key == "bias"), variables["params"]
    )
    shown = jnp.asarray(_normalised(_images()[0]))
    quantized = quantize.quantize(
        net, {**variables, "params": params}, jax.random.key(2), shown
    )
    return step.start(program, quantized)


def _of_quantizers(quant, path=""):
    """The states of all quantizers, by the path of their layer."""
    if not isinstance(quant, dict):
        return {path[1:].removesuffix("/quantizer"): jax.tree.map(np.asarray, quant)}
    inner = (_of_quantizers(branch, f"{path}/{name}") for name, branch in quant.items())
    return {name: one for some in inner for name, one in some.items()}


def _witnessed(neuron, quantize, state, images, labels):
    """The witness's step from one of our states."""
    bound: tuple[dict, dict] = ({}, {})
    for path, one in _of_quantizers(state.quant).items():
        which = "sn" in path
        bound[which][path] = functools.partial(quantize[which], one=one)
    params, x = witness.by_path(state.params), _normalised(images)
    return witness.Step(neuron, params, x, labels, TIMESTEPS, *bound)


def _following(state, expected, follows_maximum):
    """The numbers of all quantizers' states after a step, typed again."""
    params = witness.by_path(state.params)
    for path, one in _of_quantizers(state.quant).items():
        signed = path not in expected.saw
        seen = params[f"{path}/kernel"] if signed else expected.saw[path]
        if hasattr(one, "basis"):
            limit = np.inf if signed else CLIP
            seen = np.clip(seen, -limit if signed else 0, limit)
            fresh = witness.refitted(seen, one.basis, signed)
            average = 0.9 * one.average + 0.1 * fresh
            weight = 0.9 * one.weight + 0.1
            yield path, (average / weight, average, weight, limit)
        elif signed:
            clip = abs(seen).max() if follows_maximum else GRID
            yield path, (-clip, clip, -clip, 2 * clip, 7)
        else:
            yield path, (-CLIP, CLIP, 0, CLIP, 7)


def _close(found, expected, path):
    """To 1e-9 of the largest number."""
    assert found.dtype == np.float64, path
    finite = np.abs(expected)[np.isfinite(expected)]
    bound = 1e-9 * finite.max(initial=1e-30)
    np.testing.assert_allclose(found, expected, 0, bound, err_msg=path)


@pytest.mark.parametrize(
    ("kind", "placement", "kernels", "membranes"),
    [
        ("if", "stored", "float", "float"),
        ("lif", "stored", "float", "float"),
        ("plif", "stored", "float", "float"),
        ("lif", "stored", "float", "uniform"),
        ("lif", "before_fire", "float", "uniform"),
        ("lif", "before_fire", "float", "lqnet"),
        ("if", "stored", "uniform", "uniform"),
        ("if", "before_fire", "float", "uniform"),
        ("plif", "before_fire", "lqnet", "uniform"),
        ("plif", "stored", "maximum", "lqnet"),
    ],
)
def test_two_steps_of_training_are_those_of_numpy(kind, placement, kernels, membranes):
    neuron = Neuron(kind=kind, placement=placement)
    ours, theirs = zip(KERNELS[kernels], MEMBRANES[membranes], strict=True)
    program = _program(neuron, *ours)
    state = _start(program)
    images, labels = _images()
    trace = dict.fromkeys(witness.by_path(state.params), 0)
    for number in range(2):
        expected = _witnessed(neuron, theirs, state, images, labels)
        before = state
        state, numbers = step.jitted(program).train_step(
            state, images, labels, jax.random.key(number)
        )
        _close(numbers["loss"], expected.loss, "loss")
        # L2 on kernels, momentum, and half a cosine over six steps.
        rate = RATE * (1 + np.cos(np.pi * number / 6)) / 2
        updated = witness.by_path(state.params)
        traced = witness.by_path(optax.tree_utils.tree_get(state.opt_state, "trace"))
        assert set(traced) == set(expected.gradients)
        for path, leaf in witness.by_path(before.params).items():
            gradient = expected.gradients[path]
            assert gradient.any(), path
            past = MOMENTUM * trace[path] + DECAY * leaf * path.endswith("kernel")
            _close(traced[path] - past, gradient, path)
            trace[path] = past + gradient
            _close(updated[path], leaf - rate * trace[path], path)
        for bn, moments in expected.moments.items():
            now, old = (quantize.at(one.batch_stats, bn) for one in (state, before))
            for name, moment in zip(("mean", "var"), moments, strict=True):
                running = 0.9 * np.asarray(old[name]) + 0.1 * moment
                _close(now[name], running, f"{bn}/{name}")
        following = dict(_following(before, expected, kernels == "maximum"))
        after = _of_quantizers(state.quant)
        assert set(after) == set(following)
        for path, numbers in following.items():
            for name, number in zip(after[path]._fields, numbers, strict=True):
                exact = getattr(after[path], name).astype(np.float64)
                _close(exact, number, f"{path}/{name}")


# Everything else.


def _binary(kernels, activations):
    net = binary_resnet(
        "resnet_tiny",
        classes=CLASSES,
        dtype=jnp.float64,
        weights=_rules(config.BRANCH_KERNELS, kernels),
        activations=_rules(config.BRANCH_ACTIVATIONS, activations),
    )
    return step.Program(net, _optimizer(), 4, batches.Preprocessing(MEAN, STD, SCALE))


PROGRAMS = {
    "if": (_program, Neuron("if"), None, None),
    "uniform": (_program, Neuron("plif"), uniform(3, "percentile"), uniform(4, CLIP)),
    "lqnet": (
        _program,
        Neuron("plif"),
        lqnet(2),
        lqnet(3, CLIP, codes="unsigned", follow="timestep"),
    ),
    "mint": (_program, Neuron(), mint(3), mint(3)),
    "snntorch": (_program, Neuron(), None, snntorch(2, upper=1.0)),
    "relu": (_binary, None, None),
    "ste": (_binary, ste(scaled=True), ste()),
    "stompp": (_binary, stompp((0, 9), scaled=True), stompp((0, 9), masks="sample")),
    "lqnet, binary": (_binary, lqnet(2), lqnet(3, CLIP, codes="unsigned")),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_on_the_way_has_fewer_bits(name):
    """No number of a step comes from or goes to a shorter float, and none is kept."""
    make, *settings = PROGRAMS[name]
    program = make(*settings)
    state = jax.eval_shape(lambda: _start(program))  # shapes are enough
    given = (state, *map(jnp.asarray, _images()), jax.random.key(0))
    text = step.jitted(program).train_step.lower(*given).as_text()
    converted = re.findall(
        r"stablehlo\.convert .*tensor<(?:\S+x)?(\w+)>\) -> tensor<(?:\S+x)?(\w+)>",
        text,
    )
    assert ("ui8", "f64") in converted  # the images
    # Whether a class is right, and the numbers of masks with JAX's own bounds for them.
    expected = {("i1", "f32"), ("i32", "f32"), ("ui32", "f32")}
    expected |= {("f64", "f32")} if name == "stompp" else set()
    assert {pair for pair in converted if "f32" in pair} <= expected
    after, _ = jax.eval_shape(functools.partial(step.train_step, program), *given)
    kept = jax.tree.leaves((state, after))
    assert {x.dtype for x in kept if jnp.issubdtype(x.dtype, jnp.floating)} == {
        jnp.dtype("float64")
    }


def _dataset():
    images, labels = _images(7)
    split = sets.Split(images, labels)
    return sets.DataSet(
        "made", CLASSES, SHAPE, split, split, MEAN, STD, SCALE, 0, False, ""
    )


def test_evaluation_is_double():
    program = _program(Neuron("plif"), None, uniform(4, CLIP))
    net, variables, dataset = program.network, _start(program).variables, _dataset()
    found = evaluate.evaluate(net, variables, dataset, batch=7)
    inputs = _normalised(dataset.test.images)
    logits = np.asarray(observe(net, variables, jnp.asarray(inputs))[0])
    logs = log_softmax(logits.mean(axis=0), axis=1)
    expected = -logs[np.arange(7), dataset.test.labels].mean()
    assert logits.dtype == np.float64
    assert abs(found.loss - expected) < 1e-12 * expected


def test_images_of_the_calibration_and_of_a_stored_network_are_double(key):
    dataset = _dataset()
    order = np.asarray(batches.epoch_order(key, 0, 7))
    shown = calibration_images(dataset, 4, key, jnp.float64)
    expected = _normalised(dataset.train.images)
    np.testing.assert_allclose(shown, expected[order[:4]], 0, 1e-14)
    net = _program(Neuron(), None, None).network
    network = saved.Network(net, {}, config.Config(), 0, dataset, "made")
    np.testing.assert_allclose(network.inputs(dataset.train.images), expected, 0, 1e-14)


@pytest.mark.parametrize("kind", ["if", "lif", "plif"])
def test_frame_by_frame_is_all_at_once_in_double(kind):
    program = _program(Neuron(kind), None, uniform(4, CLIP))
    net, variables = program.network, _start(program).variables
    x = jnp.asarray(_normalised(_images()[0]))
    whole, _ = observe(net, variables, x)
    membranes = init_state(net, variables, x)
    for logits in whole:
        found, _, membranes = stream(net, variables, membranes, x)
        np.testing.assert_allclose(found, logits, 0, 1e-13)
    assert {leaf.dtype for leaf in jax.tree.leaves(membranes)} == {whole.dtype}


def test_a_quantizer_that_is_not_a_number_is_seen():
    program = _program(Neuron(), lqnet(2), None)
    state = _start(program)
    assert step.is_sound(jnp.float64(1), state)
    broken = jax.tree.map(lambda x: x * jnp.nan, state.quant)
    assert not step.is_sound(jnp.float64(1), state._replace(quant=broken))


@pytest.mark.parametrize("make", [sew_resnet, binary_resnet])
def test_float64_is_refused_where_jax_computes_in_32_bits(make):
    name = {sew_resnet: "sew_resnet_tiny", binary_resnet: "resnet_tiny"}[make]
    with jax.enable_x64(False):
        with pytest.raises(InputError, match="float64 .* set JAX_ENABLE_X64=1"):
            make(name, classes=3, dtype=jnp.float64)
        make(name, classes=3, dtype=jnp.bfloat16)
    with pytest.raises(InputError, match="dtype is <class .*int32.*: give a float"):
        make(name, classes=3, dtype=jnp.int32)
    with pytest.raises(InputError, match="dtype is 'quadruple': give a float"):
        make(name, classes=3, dtype="quadruple")


@pytest.mark.parametrize("kind", ["if", "lif", "plif"])
def test_a_float32_network_computes_in_float32_whatever_its_parameters(kind):
    program = _program(Neuron(kind), None, None)
    state = _start(program)
    network = program.network.clone(dtype=jnp.float32)
    short = dataclasses.replace(program, network=network)
    images, labels = map(jnp.asarray, _images())
    after, numbers = step.jitted(short).train_step(
        state, images, labels, jax.random.key(0)
    )
    assert {x.dtype for x in jax.tree.leaves(after.params)} == {jnp.dtype("float64")}
    assert numbers["loss"].dtype == jnp.float32
    exact = step.loss_and_changes(program, state, state.params, images, labels)[0]
    assert 0 < abs(numbers["loss"] - exact) < 1e-5
