"""Networks that leave jsnnq as files, and compute the same when they come back."""

import hashlib
import json
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from experiments.examples.own_quantizer import Ternary
from jsnnq import InputError
from jsnnq.networks.integers import PackedKernel
from jsnnq.workflow.quantize import quantize
from tests.drawn import normals

SHAPE = (12, 12, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, *SHAPE), dtype=np.uint8)
DATA = jsnnq.from_arrays(IMAGES, np.arange(24) % 4, IMAGES[:8], np.arange(8) % 4)


def spiking(**fields):
    return jsnnq.sew_resnet("sew_resnet_tiny", classes=4, **fields)


def binary(name="resnet_tiny", **fields):
    return jsnnq.binary_resnet(name, classes=4, **fields)


SIGNS = {"weights": jsnnq.stompp((0, 1)), "activations": jsnnq.stompp((0, 1))}
NETS = {
    "float": spiking(),
    "uniform": quantize(spiking(), weights=jsnnq.uniform(2, clip=0.3)),
    "uniform, 8 bits": quantize(
        spiking(connect="iand"), weights=jsnnq.uniform(8, clip="max")
    ),
    "unsigned, 8 bits": quantize(spiking(), weights=jsnnq.uniform(8, grid="unsigned")),
    "symmetric": quantize(
        spiking(neuron=jsnnq.Neuron("plif", v_reset=None)),
        weights=jsnnq.uniform(4, "max", grid="symmetric", channelwise=True),
        membranes=jsnnq.uniform(3),
    ),
    "lqnet": quantize(spiking(), weights=jsnnq.lqnet(3), membranes=jsnnq.lqnet(2)),
    "lqnet, padded": quantize(spiking(), weights=jsnnq.lqnet(2, padded=4)),
    "mint": quantize(
        spiking(),
        weights=((".*conv.*", jsnnq.mint(4)),),
        membranes=jsnnq.mint(4, shared=True),
    ),
    "signs": quantize(
        spiking(connect="and", stem="imagenet"),
        weights=jsnnq.ste(scaled=True),
        membranes=jsnnq.snntorch(3, upper=1 / 3),
    ),
    "every kernel": quantize(spiking(), weights=((".*", jsnnq.uniform(4)),)),
    "binary": quantize(binary(), **SIGNS),
    "binary, real shortcuts": quantize(binary(shortcut="real"), **SIGNS),
    "MobileNetV2": quantize(
        binary("mobilenet_tiny"), weights=((r".*conv\d", jsnnq.uniform(3)),)
    ),
}


def trained(net):
    """Its state with statistics and gains that make it fire."""
    bare = jax.jit(net.bare.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    state = jsnnq.calibrate(net.bare, bare, DATA)
    pixels = state.inputs(IMAGES)
    _, seen = net.bare.apply(bare, pixels, True, mutable=["batch_stats"])
    moved = jax.tree.map(
        lambda new, old: (new - 0.9 * old) / 0.1,
        seen["batch_stats"],
        bare["batch_stats"],
    )

    def varied(path, leaf):
        names = {getattr(key, "key", "") for key in path}
        if not names & {"scale", "bias"}:
            return leaf
        gain = 1 + 0.3 * normals(leaf.shape, seed=leaf.size)
        return jnp.asarray((2.5 * gain if "scale" in names else 0.2 * gain) + 0 * leaf)

    params = jax.tree_util.tree_map_with_path(varied, bare["params"])
    return jsnnq.calibrate(net, {"params": params, "batch_stats": moved}, DATA)


@pytest.fixture(scope="module", params=NETS)
def exported(request, tmp_path_factory):
    """A network with its state, the file it was exported to, and how large that is."""
    net = NETS[request.param]
    state, file = trained(net), tmp_path_factory.mktemp("export") / "net.jsnnq"
    return net, state, file, jsnnq.export(file, net, state)


def test_a_packed_network_computes_the_same(exported):
    net, state, file, size = exported
    again, found = jsnnq.import_(file)
    assert again == net
    assert file.stat().st_size == size
    np.testing.assert_array_equal(found.inputs(IMAGES), state.inputs(IMAGES))
    run = jax.jit(lambda variables, x: net.apply(variables, x))
    pixels = state.inputs(IMAGES)
    (logits, seen), (others, theirs) = (
        run(one.variables, pixels) for one in (state, found)
    )
    rates = [np.mean(spikes) for spikes in seen.spikes.values()]
    assert sum(0.02 < rate < 0.98 for rate in rates) >= len(rates) / 2
    for path, spikes in seen.spikes.items():
        np.testing.assert_array_equal(theirs.spikes[path], spikes)
    for path, signs in seen.activations.items():
        np.testing.assert_allclose(theirs.activations[path], signs, atol=1e-5)
    np.testing.assert_allclose(others, logits, rtol=1e-5, atol=1e-5)


def test_evaluating_the_file_says_the_same(exported):
    net, state, file, _ = exported
    ours, theirs = (
        jsnnq.evaluate(net, one, DATA) for one in (state, jsnnq.import_(file)[1])
    )
    assert theirs.accuracy == ours.accuracy
    for path, counts in ours.counts.items():
        np.testing.assert_array_equal(theirs.counts[path], counts)
    assert theirs.cost.acs == ours.cost.acs
    # A scale is stored for signs too, and no offset for a grid.
    kernels = len(net.known_layers()["weights"])
    assert abs(ours.cost.weight_bits - theirs.cost.weight_bits) <= 32 * 8 * kernels


def test_no_quantized_kernel_is_there_as_floats(exported):
    net, state, file, _ = exported
    _, found = jsnnq.import_(file)
    is_packed = lambda leaf: isinstance(leaf, PackedKernel)
    leaves = jax.tree.leaves(found.variables["params"], is_leaf=is_packed)
    kernels = [leaf for leaf in leaves if is_packed(leaf)]
    paths = net.known_layers()["weights"]
    assert len(kernels) == sum(net.weights(p) != jsnnq.identity for p in paths)
    assert all(codes.dtype == jnp.int8 for one in kernels for codes in one.codes)


def test_it_can_be_read_with_numpy_alone(exported):
    """As the guide has it; the values are those of the quantizers."""
    net, state, file, _ = exported
    content = file.read_bytes()
    magic, version, length, digest = struct.unpack_from("<6sHI32s", content)
    assert (magic, version) == (b"jsnnq\0", 1)
    assert hashlib.sha256(content[44:]).digest() == digest
    about = json.loads(zlib.decompress(content[44 : 44 + length]))
    arrays, at = {}, 44 + length
    for one in about["arrays"]:
        count = int(np.prod(one["shape"]))
        if one["type"] == "codes":
            size = one["bits"] * ((count + 7) // 8)
            planes = np.frombuffer(content[at : at + size], np.uint8)
            bits = np.unpackbits(planes.reshape(one["bits"], -1), axis=1, count=count)
            number = sum(2**j * bits[j].astype(int) for j in range(one["bits"]))
            array = one["first"] + one["every"] * number
        else:
            dtype = np.dtype(one["type"])
            size = count * dtype.itemsize
            array = np.frombuffer(content[at : at + size], dtype)
        arrays[one["path"]] = array.reshape(one["shape"])
        at += size
    assert at == len(content)
    for path, (planes, start, step, _) in about["kernels"].items():
        kernel = sum(
            arrays[f"{path}/{k}/scale"] * (start + step * arrays[f"{path}/{k}/codes"])
            for k in range(planes)
        )
        layer = path.removeprefix("params/").removesuffix("/kernel")
        params, quant = state.variables["params"], state.variables["quant"]
        for name in layer.split("/"):
            params, quant = params[name], quant.get(name, {})
        quantizer = net.weights(layer)
        kept = {**quant, **params}.get("quantizer")
        expected, _ = quantizer.apply(params["kernel"], kept, False)
        reach = np.abs(expected).max()
        np.testing.assert_allclose(kernel, expected, atol=1e-6 * reach)


def _least(net, state):
    """Bytes of the bits of weights, their scales, and floats."""
    bits = 0
    cost = jsnnq.evaluate(net, state, DATA).cost
    bits += cost.weight_bits
    for path in net.known_layers()["membranes"]:
        quantizer = net.membranes(path)
        if quantizer != jsnnq.identity and not quantizer.shared:
            place = "params" if quantizer.trainable else "quant"
            kept = state.variables[place]
            for name in path.split("/"):
                kept = kept[name]
            bits += 32 * quantizer.stored_numbers(kept["quantizer"])
    return bits / 8


def test_a_small_file_has_at_most_four_kibibytes_more(exported):
    net, state, _, size = exported
    assert size <= _least(net, state) + 4096


@pytest.mark.parametrize(
    "weights", [jsnnq.lqnet(2), jsnnq.uniform(4), jsnnq.ste()], ids=str
)
def test_a_large_file_has_at_most_a_twentieth_more(weights, tmp_path):
    net = jsnnq.sew_resnet("sew_resnet18", classes=4, width=0.75)
    net = quantize(net, weights=weights)
    variables = jax.jit(net.bare.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    state = jsnnq.calibrate(net, variables, DATA)
    size = jsnnq.export(tmp_path / "net", net, state)
    assert size > 100 * 1024
    assert _least(net, state) * 0.99 < size <= 1.05 * _least(net, state)


# What cannot be


@pytest.fixture
def file(tmp_path):
    net = NETS["lqnet"]
    jsnnq.export(tmp_path / "net.jsnnq", net, trained(net))
    return tmp_path / "net.jsnnq"


def changed(content, at, value):
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: c[:-1], "damaged"),
        (lambda c: c[:50], "damaged"),
        (lambda c: c[:20], "no packed network"),
        (lambda c: b"", "no packed network"),
        (lambda c: b"PK\3\4" + c, "no packed network"),
        (lambda c: changed(c, len(c) // 2, bytes([c[len(c) // 2] ^ 4])), "damaged"),
        (lambda c: changed(c, 6, b"\2\0"), "newer version"),
    ],
    ids=["shorter", "cut", "a head", "empty", "foreign", "a bit", "newer"],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(file, damage, says):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=says) as refused:
        jsnnq.import_(file)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_written_is_refused(file, tmp_path):
    net, state = NETS["float"], trained(NETS["float"])
    with pytest.raises(InputError, match="no such file|cannot read"):
        jsnnq.import_(tmp_path / "nowhere")
    (tmp_path / "plain").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        jsnnq.export(tmp_path / "plain" / "net", net, state)
    with pytest.raises(InputError, match="format"):
        jsnnq.export(tmp_path / "net", net, state, format="zip")
    with pytest.raises(InputError, match="state is a dict"):
        jsnnq.export(tmp_path / "net", net, state.variables)
    own = quantize(spiking(), weights=Ternary())
    with pytest.raises(InputError, match="Ternary"):
        jsnnq.export(tmp_path / "net", own, jsnnq.calibrate(own, state, DATA))
    unfinished = quantize(spiking(), weights=jsnnq.stompp((0, 9)).present)
    begun = jsnnq.calibrate(unfinished, state, DATA)
    with pytest.raises(InputError, match="no whole numbers"):
        jsnnq.export(tmp_path / "net", unfinished, begun)
    again, packed = jsnnq.load(file)
    with pytest.raises(InputError, match="packed already"):
        jsnnq.export(tmp_path / "net", again, packed)
    assert {path.name for path in tmp_path.iterdir()} == {"net.jsnnq", "plain"}
