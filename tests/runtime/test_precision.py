"""Which precision products are asked for, and which dtypes mixed precision keeps."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import jsnnq
from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import evaluate
from jsnnq.config import NetworkConfig, from_dict, to_dict
from jsnnq.errors import InputError
from jsnnq.networks import QuantConv
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.network import observe
from jsnnq.networks.sew import init_state, sew_resnet
from jsnnq.quantizers.lqnet import LQNet
from jsnnq.runtime.precision import PRECISIONS
from jsnnq.training.step import Program, start, train_step
from jsnnq.workflow import specification
from tests import tiny
from tests.test_x64 import PIXELS

SHAPE = (16, 16, 3)
RULE = optax.adam(0.01)
NETWORKS = {
    "spiking": functools.partial(sew_resnet, "sew_resnet_tiny", classes=3),
    # Convolutions that a CPU computes in tiles; a large kernel, and pooling.
    "wide": functools.partial(
        sew_resnet, "sew_resnet_tiny", classes=3, width=16, stem="imagenet"
    ),
    "lqnet": functools.partial(
        sew_resnet,
        "sew_resnet_tiny",
        classes=3,
        weights=jsnnq.Rules(((".*conv.", jsnnq.lqnet(2)),)),
        membranes=jsnnq.Rules(((".*", jsnnq.lqnet(2)),)),
    ),
    "binary": functools.partial(binary_resnet, "resnet_tiny", classes=3),
    "depthwise": functools.partial(binary_resnet, "mobilenet_tiny", classes=3),
}


def trained(net):
    """A step of training: a function of state, images and labels, and its arguments."""
    program = Program(net, RULE, 4, PIXELS)
    images = jnp.ones((4, *SHAPE), jnp.float32)
    data = jsnnq.from_arrays(np.ones((8, *SHAPE), np.float32), np.arange(8) % 3)
    state = start(program, _variables(net, data))
    step = functools.partial(train_step, program, key=jax.random.key(0))
    return step, (state, images, jnp.zeros(4, jnp.int32))


def _variables(net, data):
    shape = jnp.zeros((1, *SHAPE))
    return jsnnq.calibrate(
        net, jax.jit(net.bare.init)(jax.random.key(0), shape), data
    ).variables


def asked(function, arguments, platform):
    """What each convolution and product of a lowered program is asked for."""
    text = export.export(jax.jit(function), platforms=[platform])(*arguments)
    found = []
    for line in text.mlir_module().splitlines():
        if re.search(r"stablehlo\.(convolution|dot_general|dot)\b", line):
            found.append(tuple(re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line)))
    return found


def products(net, planes=lambda quantizer: 1):
    """Of a forward pass: stem and classifier have one, other kernels one a timestep."""
    first, *others, last = net.kernel_layers()
    times = {first: 1, last: 1, **dict.fromkeys(others, net.timesteps)}
    return sum(count * planes(net.weights(path)) for path, count in times.items())


def in_evaluation(quantizer):
    """One for each plane of LQ-Net."""
    return quantizer.bits if isinstance(quantizer, LQNet) else 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_product_has_the_precision_of_its_network(name, platform):
    """As many forward as `products` says, and backward two, but for the image's one."""
    for precision in ("highest", "high"):
        net = NETWORKS[name](precision=precision)
        step, (state, images, labels) = trained(net)
        forward = lambda state, images, net=net: net.apply(state.variables, images)[0]
        each = (precision.upper(),) * 2
        expected = [each] * products(net, in_evaluation)
        assert asked(forward, (state, images), platform) == expected
        backward = asked(step, (state, images, labels), platform)
        assert backward == [each] * (3 * products(net) - 1)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_default_is_what_the_device_does_by_itself(platform):
    net = NETWORKS["spiking"](precision="default")
    for each in asked(*trained(net), platform):
        assert {*each} <= {"DEFAULT"}


@pytest.mark.parametrize("name", ["spiking", "wide", "depthwise"])
def test_on_a_cpu_it_changes_no_bit(name):
    results = []
    for precision in PRECISIONS:
        step, arguments = trained(NETWORKS[name](precision=precision))
        random = np.random.default_rng(0).normal(size=(4, *SHAPE))
        arguments = (arguments[0], jnp.asarray(random, jnp.float32), arguments[2])
        results.append(jax.jit(step)(*arguments))
    for other in results[1:]:
        tiny.assert_same(results[0], other)


# What is said of it.


def test_an_unknown_precision_is_refused_when_a_network_is_made():
    with pytest.raises(InputError, match="precision 'float32'.*highest"):
        NETWORKS["spiking"](precision="float32")
    with pytest.raises(InputError, match="precision 'low'.*highest"):
        QuantConv(precision="low").init(jax.random.key(0), jnp.ones((1, 3, 3, 1)), True)


def test_results_say_it_and_older_ones_are_read():
    row = to_dict(tiny.SMALL)
    assert row["network"]["precision"] == "highest"
    del row["network"]["precision"]
    assert from_dict(json.loads(json.dumps(row))) == tiny.SMALL
    net = NETWORKS["spiking"](precision="high")
    written = specification.specify(net)
    assert specification.build(json.loads(json.dumps(written))) == net
    with pytest.raises(InputError, match="precision was 'high', is 'highest'"):
        specification.check_same(NETWORKS["spiking"](), written)
    del written["precision"]
    assert specification.build(written) == NETWORKS["spiking"]()
    specification.check_same(NETWORKS["spiking"](), written)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, {"dtype": "float32", "precision": "highest"}),
        (
            {"dtype": "bfloat16", "precision": "default"},
            {"dtype": "bfloat16", "precision": "default"},
        ),
    ],
)
def test_an_evaluation_says_it(fields, said):
    config = tiny.with_(
        network=NetworkConfig(name="sew_resnet_tiny", timesteps=2, **fields)
    )
    net, variables = tiny.quantized(config)
    seen = evaluate(net, variables, tiny.digits())
    row = describe(net, variables, seen, tiny.digits().image_shape)
    assert row["products"] == said
    json.dumps(row)


# Mixed precision.


def mixed(name):
    return NETWORKS[name](dtype=jnp.bfloat16)


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_precision_keeps_everything_in_float32(name):
    """Parameters, statistics, quantizers, the optimizer's numbers, losses."""
    step, arguments = trained(mixed(name))
    state, numbers = jax.eval_shape(step, *arguments)
    for path, leaf in jax.tree_util.tree_leaves_with_path((arguments[0], state)):
        assert leaf.dtype in (jnp.float32, jnp.int32), jax.tree_util.keystr(path)
    assert numbers["loss"].dtype == jnp.float32


@pytest.mark.parametrize("name", ["spiking", "wide", "lqnet"])
def test_mixed_precision_has_membranes_of_float32_and_spikes_of_bfloat16(name):
    net, (state, images, _) = mixed(name), trained(mixed(name))[1]
    held = jax.eval_shape(lambda: init_state(net, state.variables, images))
    assert {leaf.dtype for leaf in jax.tree.leaves(held)} == {jnp.dtype(jnp.float32)}
    look = functools.partial(observe, net)
    _, seen = jax.eval_shape(look, state.variables, images)
    kept = {*seen.spikes.values(), *seen.joins.values()}
    assert {leaf.dtype for leaf in kept} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_precision_multiplies_in_bfloat16_only(name):
    step, arguments = trained(mixed(name))
    text = export.export(jax.jit(step), platforms=["tpu"])(*arguments).mlir_module()
    lines = re.findall(r".*stablehlo\.(?:convolution|dot_general|dot)\b.*", text)
    assert len(lines) == 3 * products(mixed(name)) - 1
    for line in lines:
        assert set(re.findall(r"tensor<[\dx]*x(\w+)>", line)) == {"bf16"}, line
        assert "HIGH" not in line
