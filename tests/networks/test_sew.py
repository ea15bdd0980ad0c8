"""SEW-ResNet: published sizes, tables of the joins, streaming, and the wiring."""

import copy
import functools
import itertools
import math
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import mint, uniform
from jsnnq.errors import InputError
from jsnnq.networks import quantize
from jsnnq.networks.layers import QuantConv, QuantDense
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import CONNECTS, SEWResNet, init_state, join, sew_resnet, stream
from tests.drawn import lively, normals
from tests.witness import by_path

_IF = Neuron(kind="if")
_T, _B = 2, 2
_BASIC = SEWResNet(depths=(2, 1), channels=(4, 6), classes=3, neuron=_IF, timesteps=_T)
_DEEP = _BASIC.clone(channels=(2, 3), block="bottleneck")


def _images(shape=(_B, 8, 8, 3), seed=0):
    return jnp.asarray(normals(shape, seed))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(net, variables, x, train=False):
    """Logits, what was seen, and the running statistics afterwards."""
    found, changed = net.apply(variables, x, train, mutable=["batch_stats", "quant"])
    return *found, changed["batch_stats"]


def _seen(net, x=None):
    x = _images() if x is None else x
    return _run(net, lively(net, x), x, True)[1]


def _shapes(net, side, batch=1):
    """Shapes of (logits, seen) and of the variables, without computing anything."""
    x = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    (found, variables) = jax.eval_shape(net.init_with_output, jax.random.key(0), x)
    return *found, variables


def _parameters(variables):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


# Sizes.


@pytest.mark.parametrize(
    ("name", "stem", "classes", "parameters", "layers"),
    [
        # Counted on SpikingJelly 2.0.0.
        ("sew_resnet18", "cifar", 10, 11_173_962, 20),
        ("sew_resnet34", "imagenet", 10, 21_289_802, 36),
        ("sew_resnet50", "imagenet", 10, 23_528_522, 53),
        ("sew_resnet101", "imagenet", 10, 42_520_650, 104),
        ("sew_resnet152", "imagenet", 10, 58_164_298, 155),
        # torchvision's ResNet-18.
        ("sew_resnet18", "imagenet", 1000, 11_689_512, 20),
    ],
)
def test_published_counts(name, stem, classes, parameters, layers):
    net = sew_resnet(name, classes=classes, stem=stem, timesteps=1)
    logits, seen, variables = _shapes(net, 32)
    assert _parameters(variables) == parameters
    assert len(seen.spikes) == layers
    assert logits.shape == (1, 1, classes)


def test_sew_resnet8_is_a_stem_and_three_blocks():
    net = sew_resnet("sew_resnet8", classes=10)
    logits, seen, variables = _shapes(net, 32, batch=2)
    stages = ((32, 64), (16, 128), (8, 256))
    full, half, quarter = ((4, 2, side, side, c) for side, c in stages)
    blocks = {"layer1_0": full, "layer2_0": half, "layer3_0": quarter}
    spikes = {f"{name}/{sn}": s for name, s in blocks.items() for sn in ("sn1", "sn2")}
    shortcuts = {f"{name}/downsample_sn": blocks[name] for name in list(blocks)[1:]}
    shape_of = functools.partial(jax.tree.map, jnp.shape)
    assert shape_of(seen.spikes) == {"sn1": full} | spikes | shortcuts
    assert shape_of(seen.joins) == {f"{name}/join": s for name, s in blocks.items()}
    assert shape_of(seen.pooled) == {"features": (4, 2, 256)}
    assert logits.shape == (4, 2, 10)
    convolutions = 9 * (3 * 64 + 2 * 64**2 + 64 * 128 + 128**2 + 128 * 256 + 256**2)
    shortcuts = 64 * 128 + 128 * 256
    normalisations = 2 * (3 * 64 + 3 * 128 + 3 * 256)
    expected = convolutions + shortcuts + normalisations + 256 * 10 + 10
    assert _parameters(variables) == expected


def test_imagenet_stem_halves_twice():
    net = sew_resnet("sew_resnet18", classes=10, stem="imagenet")
    _, seen, _ = _shapes(net, 64)
    assert seen.spikes["sn1"].shape == (4, 1, 32, 32, 64)
    assert seen.pooled["maxpool"].shape == (4, 1, 16, 16, 64)
    assert seen.joins["layer4_1/join"].shape == (4, 1, 2, 2, 512)


def test_a_bottleneck_strides_on_its_3x3_and_leaves_four_times_the_channels():
    net = sew_resnet("sew_resnet50", classes=10)
    _, seen, variables = _shapes(net, 8)
    sides = {path: s.shape[2:] for path, s in seen.spikes.items()}
    assert sides["layer1_0/downsample_sn"] == (8, 8, 256)
    assert sides["layer2_0/sn1"] == (8, 8, 128)
    assert sides["layer2_0/sn2"] == (4, 4, 128)
    assert sides["layer2_0/sn3"] == (4, 4, 512)
    kernels = variables["params"]["layer2_0"]
    assert kernels["conv1"]["kernel"].shape == (1, 1, 256, 128)
    assert kernels["conv2"]["kernel"].shape == (3, 3, 128, 128)
    assert kernels["conv3"]["kernel"].shape == (1, 1, 128, 512)
    assert "downsample_conv" not in variables["params"]["layer2_1"]


@pytest.mark.parametrize(
    ("width", "channels"), [(0.25, (16, 32, 64)), (2, (128, 256, 512))]
)
def test_width_multiplies_all_channels(width, channels):
    net = sew_resnet("sew_resnet8", classes=10, width=width)
    _, seen, variables = _shapes(net, 8)
    assert tuple(s.shape[-1] for s in seen.joins.values()) == channels
    assert seen.spikes["sn1"].shape[-1] == channels[0]
    assert variables["params"]["fc"]["kernel"].shape == (channels[-1], 10)


# Joins.

_TABLE = {  # (S, A) -> joined, arXiv 2102.04159, Table 1
    "add": {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2},
    "and": {(0, 0): 0, (0, 1): 0, (1, 0): 0, (1, 1): 1},
    "iand": {(0, 0): 0, (0, 1): 0, (1, 0): 1, (1, 1): 0},
}


@pytest.mark.parametrize("connect", CONNECTS)
def test_join_table(connect):
    for (s, a), expected in _TABLE[connect].items():
        assert join(connect, jnp.float32(s), jnp.float32(a)) == expected


@pytest.mark.parametrize(("net", "last"), [(_BASIC, "sn2"), (_DEEP, "sn3")])
@pytest.mark.parametrize("connect", CONNECTS)
def test_blocks_join_shortcut_and_branch(connect, net, last):
    """The shortcut is what entered, or the downsampling neurons; at every depth."""
    seen = _seen(net.clone(connect=connect))
    entering = np.asarray(seen.spikes["sn1"])
    met = set()
    for name, _, shortcut in net.plans():
        downsamples = shortcut == "convolution"
        s = seen.spikes[f"{name}/downsample_sn"] if downsamples else entering
        s, a = np.asarray(s), np.asarray(seen.spikes[f"{name}/{last}"])
        table = _TABLE[connect]
        binary = np.vectorize(lambda s, a, table=table: table[(s, a)])
        # Above 1, a shortcut under ADD, the table says nothing: the sum.
        expected = np.where(s > 1, s + a, binary(np.minimum(s, 1), a))
        entering = np.asarray(seen.joins[f"{name}/join"])
        np.testing.assert_array_equal(entering, expected)
        met |= set(zip(s.ravel(), a.ravel(), strict=True))
    assert met >= set(itertools.product((0, 1), (0, 1)))
    assert all(set(np.unique(spikes)) == {0, 1} for spikes in seen.spikes.values())
    assert set(seen.joins) == {f"{name}/join" for name, _, _ in net.plans()}
    assert seen.joins.keys().isdisjoint(seen.spikes)


def test_add_joins_reach_one_more_than_their_place_in_the_stage():
    net = SEWResNet(depths=(3, 2), channels=(2, 3), classes=2, neuron=_IF, timesteps=2)
    variables = lively(net, _images())

    def always(path, leaf):
        """Every neuron gets a current of 1 and fires at every timestep."""
        if "bn" not in path[-2].key:
            return leaf
        return jnp.full(leaf.shape, 1.0 if path[-1].key == "bias" else 0.0)

    params = jax.tree_util.tree_map_with_path(always, variables["params"])
    seen = _run(net, {**variables, "params": params}, _images())[1]
    assert all(float(spikes.min()) == 1 for spikes in seen.spikes.values())
    reached = {path: (float(j.min()), float(j.max())) for path, j in seen.joins.items()}
    assert reached == {
        "layer1_0/join": (2, 2),
        "layer1_1/join": (3, 3),
        "layer1_2/join": (4, 4),
        "layer2_0/join": (2, 2),
        "layer2_1/join": (3, 3),
    }


# Zero-init.


_STARTS = {"scale": 1.0, "bias": 0.0}


@pytest.mark.parametrize("net", [_BASIC, _DEEP])
@pytest.mark.parametrize("connect", CONNECTS)
def test_zero_init_touches_the_last_normalisation_of_each_branch(connect, net):
    net = net.clone(connect=connect, zero_init=True)
    variables = jax.jit(net.init)(jax.random.key(0), _images())
    params = {k: v for k, v in by_path(variables["params"]).items() if "bn" in k}
    last = "bn3" if net.block == "bottleneck" else "bn2"
    zeroed = {f"{name}/{last}/{of}" for name, _, _ in net.plans() for of in _STARTS}
    assert zeroed < params.keys()
    for path, leaf in params.items():
        of = path.split("/")[-1]
        expected = _STARTS[of]
        if path in zeroed:
            # The paper's bias for its IF neurons; LIF divides its current by tau = 2.
            firing = 1.0 if net.neuron.kind == "if" else 2.0
            expected = firing if (connect, of) == ("and", "bias") else 0.0
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, expected))


@pytest.mark.parametrize("connect", CONNECTS)
def test_zero_init_makes_blocks_of_if_neurons_the_identity(connect):
    net = _BASIC.clone(connect=connect)
    variables = lively(net, _images())
    for name, _, _ in net.plans():  # as the test above finds it
        last = variables["params"][name]["bn2"]
        last["scale"] = jnp.zeros_like(last["scale"])
        last["bias"] = jnp.full_like(last["bias"], 1.0 if connect == "and" else 0.0)
    seen = _run(net, variables, _images(), True)[1]
    for start, through in (
        ("sn1", "layer1_1/join"),
        ("layer2_0/downsample_sn", "layer2_0/join"),
    ):
        assert 0 < seen.spikes[start].mean() < 1
        np.testing.assert_array_equal(seen.joins[through], seen.spikes[start])


# Input.


@pytest.mark.parametrize(
    ("stem", "train"), [("cifar", False), ("cifar", True), ("imagenet", True)]
)
def test_a_still_image_equals_its_repetition(stem, train):
    net = _BASIC.clone(stem=stem)
    x = _images((_B, 16, 16, 3))
    variables = lively(net, x)
    logits, seen, stats = _run(net, variables, x, train)
    many, otherwise, stats_of_many = _run(net, variables, jnp.stack([x] * _T), train)
    for path, spikes in seen.spikes.items():
        np.testing.assert_array_equal(spikes, otherwise.spikes[path])
    np.testing.assert_allclose(logits, many, atol=1e-6)
    for one, other in zip(
        jax.tree.leaves(stats), jax.tree.leaves(stats_of_many), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    moved = float(jnp.max(jnp.abs(stats["bn1"]["mean"])))
    assert (moved > 0) == train


def test_one_timestep():
    net = _BASIC.clone(timesteps=1)
    x = _images()
    variables = lively(net, x)
    logits, seen, _ = _run(net, variables, x)
    assert logits.shape == (1, _B, 3)
    # The first of many, as no neuron has a past.
    many = _run(_BASIC, variables, x)
    np.testing.assert_allclose(logits[0], many[0][0], atol=1e-6)
    for path, spikes in seen.spikes.items():
        np.testing.assert_array_equal(spikes[0], many[1].spikes[path][0])


def test_max_pooling_of_the_imagenet_stem():
    net = _BASIC.clone(stem="imagenet")
    seen = _seen(net, _images((_B, 14, 18, 3)))
    spikes = np.asarray(seen.spikes["sn1"])  # 7 x 9
    padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [
        [padded[:, :, i : i + 3, j : j + 3].max(axis=(2, 3)) for j in range(0, 9, 2)]
        for i in range(0, 7, 2)
    ]
    expected = np.moveaxis(np.array(expected), (0, 1), (2, 3))
    np.testing.assert_array_equal(seen.pooled["maxpool"], expected)
    assert 0 < expected.mean() < 1


# Streaming.


def _streamed(net, variables, frames):
    """What the network says of each frame and saw, and its state before each."""
    state = init_state(net, variables, frames[0])
    advance = jax.jit(functools.partial(stream, net))
    for frame in frames:
        before = state
        logits, seen, state = advance(variables, state, frame)
        yield logits, seen, before


@pytest.mark.parametrize(
    ("kind", "v_reset", "quantized"),
    [
        ("if", 0.0, False),
        ("if", None, True),
        ("lif", 0.0, True),
        ("lif", -0.2, False),
        ("plif", None, True),
    ],
)
def test_streaming_equals_the_folded_form(kind, v_reset, quantized):
    neuron = Neuron(kind=kind, v_reset=v_reset)
    net = sew_resnet("sew_resnet_tiny", classes=3, neuron=neuron)
    frames = _images((3, _B, 8, 8, 3))
    variables = lively(net, frames[0], shift=1.3)
    if quantized:
        net = net.clone(membranes=Rules(((".*", uniform(2, grid="unsigned")),)))
        variables = quantize.quantize(net, variables, jax.random.key(0), _images())
    logits, seen, _ = _run(net, variables, frames)
    assert all(0 < float(spikes.mean()) < 1 for spikes in seen.spikes.values())

    assert len(logits) == len(frames) != net.timesteps  # A sequence sets them.
    rest = 0.0 if v_reset is None else v_reset
    for t, (now, saw, state) in enumerate(_streamed(net, variables, frames)):
        leaves = jax.tree.leaves(state)
        assert len(leaves) == len(seen.spikes)
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
        assert t > 0 or all(np.all(np.asarray(leaf) == rest) for leaf in leaves)
        np.testing.assert_allclose(now, logits[t], atol=1e-5)
        for path, spikes in saw.spikes.items():
            np.testing.assert_array_equal(spikes[0], seen.spikes[path][t])


def test_streaming_of_a_bottleneck_with_imagenet_stem():
    net = _DEEP.clone(stem="imagenet", connect="iand", depths=(1, 1))
    frames = _images((3, _B, 16, 16, 3))
    variables = lively(net, frames[0])
    logits, _, _ = _run(net, variables, frames)
    steps = _streamed(net, variables, frames)
    for (now, _, _), expected in zip(steps, logits, strict=True):
        np.testing.assert_allclose(now, expected, atol=1e-5)


# Wiring.


@functools.partial(jax.jit, static_argnums=0)
def _wires(net, variables, x):
    """What the network saw, and of every kernel, as it runs, its input and output.

    Beside the output stands what the synapse of that name says about stride and
    padding makes of the input.
    """
    synapses = {synapse.name: synapse for synapse in net.synapses()}
    found = {}

    def watch(call, arguments, named, context):
        result = call(*arguments, **named)
        kernels = isinstance(context.module, (QuantConv, QuantDense))
        if kernels and context.method_name == "__call__":
            path = "/".join(context.module.path)
            kernel = context.module.variables["params"]["kernel"]
            x, y = map(_whole, (arguments[0], result))
            found[path] = (x, y, _convolved(synapses[path], x, kernel))
        return result

    with nn.intercept_methods(watch):
        (_, seen) = net.apply(variables, x, False)
    return seen, found


def _whole(x):
    """Timesteps folded into the batch."""
    return jnp.concatenate(x) if isinstance(x, tuple) else x


def _convolved(synapse, x, kernel):
    if kernel.ndim == 2:  # the classifier, its bias still zero
        return x @ kernel
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (synapse.stride, synapse.stride),
        [(synapse.padding, synapse.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("net", [_BASIC, _DEEP])
def test_synapses_name_what_really_feeds_each_kernel(net, stem):
    net = net.clone(stem=stem, timesteps=2)
    x = _images((_B, 16, 16, 3))
    seen, wires = _wires(net, lively(net, x), x)
    synapses = {synapse.name: synapse for synapse in net.synapses()}
    assert synapses.keys() == wires.keys()
    assert len(synapses) == len(net.synapses())
    sources = {**seen.spikes, **seen.joins, **seen.pooled, "image": x[None]}
    for name, (fed, result, expected) in wires.items():
        source = sources[synapses[name].source]
        assert np.count_nonzero(fed) == np.count_nonzero(source) > 0
        np.testing.assert_array_equal(fed, source.reshape(fed.shape))
        np.testing.assert_allclose(result, expected, atol=1e-5)
    first = "sn1" if stem == "cifar" else "maxpool"
    assert synapses["layer1_0/conv1"].source == first
    assert synapses["layer1_1/conv1"].source == "layer1_0/join"
    assert synapses["layer2_0/downsample_conv"].source == "layer1_1/join"


def test_quantizers_sit_where_the_rules_say():
    """A kernel quantized by the network equals the network of that kernel."""
    x = _images()
    variables = lively(_BASIC, x)
    # Of one bit, as the levels -1 and 1 are exact and cannot flip a spike.
    net = _BASIC.clone(weights=Rules((("layer1_1/conv2|fc", uniform(1)),)))
    quantized = quantize.quantize(net, variables, jax.random.key(0), x)
    assert set(quantized["quant"]) == {"layer1_1", "fc"}
    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    for at in (params["layer1_1"]["conv2"], params["fc"]):
        at["kernel"] = jnp.where(at["kernel"] > 0, 1.0, -1.0)
    expected = _run(_BASIC, {**variables, "params": params}, x)[0]
    np.testing.assert_allclose(_run(net, quantized, x)[0], expected, atol=1e-5)
    assert not np.allclose(expected, _run(_BASIC, variables, x)[0], atol=1e-3)


def test_mints_scale_is_shared_by_kernel_and_neurons():
    kernels = {"sn1": "conv1", "layer2_0/downsample_sn": "layer2_0/downsample_conv"}
    net = _BASIC.clone(
        weights=Rules((("|".join(kernels.values()), mint(2)),)),
        membranes=Rules((("|".join(kernels), mint(2, shared=True)),)),
    )
    x = _images()
    variables = quantize.quantize(net, lively(_BASIC, x), jax.random.key(0), x)
    apply = jax.jit(functools.partial(net.apply, mutable=["membrane"]))
    membranes = apply(variables, x)[1]["membrane"]
    for neurons, kernel in kernels.items():
        alpha = quantize.at(variables["params"], kernel)["quantizer"].alpha
        found = np.unique(quantize.at(membranes, neurons)["v"] / alpha)
        assert set(np.round(found, 5)) <= {-1, 0, 1}
        assert len(found) > 1


# Types and compilation.


def test_bfloat16_keeps_float32_membranes_and_parameters():
    net = SEWResNet((1,), (4,), 3, dtype=jnp.bfloat16, stem="imagenet", neuron=_IF)
    x = _images((_B, 16, 16, 3))
    variables = lively(net, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))

    @jax.jit
    def run(params):
        (logits, seen), changed = net.apply(
            {**variables, "params": params},
            x,
            True,
            mutable=["batch_stats", "membrane"],
        )
        return jnp.mean(jnp.square(logits.astype(jnp.float32))), (seen, changed)

    (_, (seen, changed)), slopes = jax.value_and_grad(run, has_aux=True)(
        variables["params"]
    )
    kept = jax.tree.leaves(changed)
    assert {leaf.dtype for leaf in kept} == {jnp.dtype("float32")}
    assert {s.dtype for s in seen.spikes.values()} == {jnp.dtype("bfloat16")}
    for spikes in seen.spikes.values():
        assert set(np.unique(spikes.astype(jnp.float32))) == {0.0, 1.0}
    for slope in jax.tree.leaves(slopes):
        assert slope.dtype == jnp.float32
        assert bool(jnp.all(jnp.isfinite(slope)))
    assert float(jnp.max(jnp.abs(slopes["conv1"]["kernel"]))) > 0


def test_networks_of_one_representative_are_traced_once():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(net, variables, x):
        traced.append(net)
        return net.apply(variables, x)[0]

    def make(bits):
        rules = Rules(((".*conv.*", uniform(bits, clip=float(bits))),))
        return sew_resnet("sew_resnet_tiny", classes=3, neuron=Neuron(), weights=rules)

    x = _images()
    plain = lively(sew_resnet("sew_resnet_tiny", classes=3), x)
    logits = []
    for bits in (2, 4):  # other numbers, the same program
        net = make(bits)
        variables = quantize.quantize(net, plain, jax.random.key(0), x)
        logits.append(run(net.representative, variables, x))
        np.testing.assert_array_equal(logits[-1], net.apply(variables, x)[0])
    assert len(traced) == 1
    run(make(2).clone(connect="and").representative, variables, x)
    assert len(traced) == 2
    assert make(2) != make(4)
    assert make(2) == pickle.loads(pickle.dumps(make(2)))
    assert hash(make(2)) == hash(copy.deepcopy(make(2)))


# Bad arguments.


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"name": "resnet18"},
            "unknown network 'resnet18': accepted are .*sew_resnet18",
        ),
        ({"connect": "or"}, "unknown connect 'or': accepted are 'add', 'and', 'iand'"),
        ({"connect": "ADD"}, "unknown connect 'ADD'"),
        ({"stem": "mnist"}, "unknown stem 'mnist': accepted are 'cifar', 'imagenet'"),
        ({"timesteps": 0}, "timesteps is 0: an integer from 1 is needed"),
        ({"timesteps": True}, "timesteps is True: an integer"),
        ({"classes": 0}, "classes is 0: an integer from 1 is needed"),
        ({"classes": -3}, "classes is -3: an integer from 1 is needed"),
        ({"width": 0.001}, "width 0.001 leaves no channel in sew_resnet8: more than"),
        ({"width": -1.0}, "width is -1.0: a finite number above 0"),
    ],
)
def test_refuses(fields, says):
    with pytest.raises(InputError, match=says) as refusal:
        sew_resnet(**{"name": "sew_resnet8", "classes": 10, **fields})
    assert "\n" not in str(refusal.value)


def test_refuses_an_unknown_block():
    with pytest.raises(InputError, match="unknown block 'wide': accepted are 'basic'"):
        SEWResNet((1,), (4,), 10, block="wide")
