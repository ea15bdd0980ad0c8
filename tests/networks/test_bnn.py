"""Networks without spikes: published sizes, He's block, signs, and the blockade."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import ste, stompp
from jsnnq.analysis import describe
from jsnnq.config import BRANCH_ACTIVATIONS, BRANCH_KERNELS
from jsnnq.errors import InputError
from jsnnq.networks import quantize
from jsnnq.networks.bnn import BinaryResNet, binary_resnet, inverted_plans
from jsnnq.networks.rules import Rules
from tests import witness
from tests.drawn import normals

_TINY = BinaryResNet(depths=(1, 2), channels=(4, 6), classes=3)
_FROZEN, _OPEN = (0, 1), (10_000, 1)  # windows long over, and far ahead


def _images(seed=0, shape=(4, 8, 8, 3)):
    return jnp.asarray(normals(shape, seed))


def _variables(net, x):
    """A float network's variables, its running statistics those of the batch."""
    bare = net.bare
    variables = dict(jax.jit(bare.init)(jax.random.key(1), x))
    key = jax.random.key(2)
    return quantize.quantize(net, {"quant": {}, **variables}, key, x)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(net, variables, x, train=False):
    (logits, seen), changed = net.apply(
        variables, x, train, mutable=["batch_stats", "quant"]
    )
    return logits, seen, changed


def _signs(make, *, kernels=BRANCH_KERNELS, reads=BRANCH_ACTIVATIONS, **fields):
    """The tiny network with one quantizer for kernels and for what they read."""
    inner = make("position") if reads else None
    return _TINY.clone(
        weights=Rules(((kernels, make("entry")),)) if kernels else Rules(),
        activations=Rules(((reads, inner),)) if reads else Rules(),
        **fields,
    )


# Sizes.


@pytest.mark.parametrize(
    ("name", "stem", "classes", "parameters", "pairs"),
    [
        # torchvision's documented numbers, and the sums for a 3x3 stem.
        ("resnet18", "imagenet", 1000, 11_689_512, 16),
        ("resnet34", "imagenet", 1000, 21_797_672, 32),
        ("resnet50", "imagenet", 1000, 25_557_032, 48),
        ("mobilenetv2", "imagenet", 1000, 3_504_872, 51),
        ("resnet18", "cifar", 10, 11_173_962, 16),
        ("resnet34", "cifar", 10, 21_282_122, 32),
        ("resnet50", "cifar", 10, 23_520_842, 48),
    ],
)
def test_published_sizes(name, stem, classes, parameters, pairs):
    net = binary_resnet(name, classes=classes, stem=stem)
    side = 32 if stem == "cifar" else 64
    shapes = jax.eval_shape(
        lambda key: net.init(key, jnp.zeros((1, side, side, 3))), jax.random.key(0)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    assert len(net.activation_layers()) == pairs
    branch = [path for path in net.kernel_layers() if "/conv" in path]
    assert [path.replace("conv", "act") for path in branch] == list(
        net.activation_layers()
    )


def test_mobilenetv2_has_the_strides_of_its_table():
    """Table 2 of arXiv 1801.04381: t, c, n, s; for CIFAR the second s is 1."""
    table = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    depths = tuple(n for _, _, n, _ in table)
    channels = tuple(c for _, c, _, _ in table)
    for stem in ("imagenet", "cifar"):
        plans = iter(inverted_plans(depths, channels, stem))
        entering = 32
        for number, (t, c, n, s) in enumerate(table):
            for i in range(n):
                plan = next(plans)
                stride = s if i == 0 else 1
                stride = 1 if stem == "cifar" and number == 1 else stride
                sizes = [(u.features, u.size, u.stride) for u in plan.units]
                hidden = t * entering
                expand = [(hidden, 1, 1)] if t > 1 else []
                assert sizes == [*expand, (hidden, 3, stride), (c, 1, 1)]
                assert [u.depthwise for u in plan.units][-2:] == [True, False]
                same = stride == 1 and entering == c
                assert plan.shortcut == ("identity" if same else "none")
                entering = c
        assert next(plans).units[0][:4] == ("1", 1280, 1, 1)


# The block.


def _he_block(x, variables, path, stride, downsample):
    """He et al. 2016, section 3.3: ReLU behind the sum; typed a second time."""
    params, stats = (
        jax.tree.map(np.asarray, variables[kind][path])
        for kind in ("params", "batch_stats")
    )

    def unit(x, conv, bn, stride):
        given = witness.Value(x), witness.Value(params[conv]["kernel"]), stride
        y, s = witness.Tape().convolved(*given).data, stats[bn]
        standard = (y - s["mean"]) / np.sqrt(s["var"] + 1e-5)
        return standard * params[bn]["scale"] + params[bn]["bias"]

    y = np.maximum(unit(x, "conv1", "bn1", stride), 0)
    y = unit(y, "conv2", "bn2", 1)
    if downsample:
        x = unit(x, "downsample_conv", "downsample_bn", stride)
    return np.maximum(y + np.asarray(x), 0)


def test_in_full_precision_the_blocks_are_those_of_he():
    x = _images()
    variables = _variables(_TINY, x)
    logits, seen, _ = _run(_TINY, variables, x)
    value = seen.activations["layer1_0/act1"][0]  # the stem's ReLU
    for path, stride, downsample in (
        ("layer1_0", 1, False),
        ("layer2_0", 2, True),
        ("layer2_1", 1, False),
    ):
        np.testing.assert_allclose(
            seen.activations[f"{path}/act1"][0], value, rtol=0, atol=2e-5
        )
        value = _he_block(value, variables, path, stride, downsample)
    features = value.mean(axis=(1, 2))
    np.testing.assert_allclose(seen.pooled["features"][0], features, atol=2e-5)
    fc = variables["params"]["fc"]
    expected = features @ np.asarray(fc["kernel"]) + np.asarray(fc["bias"])
    np.testing.assert_allclose(logits[0], expected, atol=5e-5)


def test_linear_bottlenecks_read_the_sum_as_it_is():
    net = binary_resnet("mobilenet_tiny", classes=3)
    x = _images()
    _, seen, _ = _run(net, _variables(net, x), x)
    entering = seen.activations["layer2_1/act1"]
    assert (np.asarray(entering) < 0).any()
    hidden = np.asarray(seen.activations["layer2_1/act2"])
    assert hidden.min() == 0
    assert hidden.max() <= 6


# Signs.


def test_evaluation_uses_two_values_per_tensor_only():
    net = _signs(lambda masks: stompp(_OPEN, masks=masks))
    x = _images()
    variables = _variables(net, x)
    _, seen, _ = _run(net, variables, x)
    for path in net.activation_layers():
        np.testing.assert_array_equal(np.unique(seen.activations[path]), [-1, 1])
    for path, kernel in describe.kernels(net, variables).items():
        if "/conv" in path:
            np.testing.assert_array_equal(np.unique(kernel), [-1, 1])
        else:
            assert len(np.unique(kernel)) > 2
    # What the last join leaves stays real.
    assert len(np.unique(seen.pooled["features"])) > 3


@pytest.mark.parametrize("shortcut", ["quantized", "real"])
def test_what_the_shortcut_carries(shortcut):
    net = _signs(lambda masks: ste(), shortcut=shortcut)
    x = _images()
    variables = _variables(net, x)
    _, seen, _ = _run(net, variables, x)
    values = np.unique(seen.activations["layer2_0/shortcut"])
    if shortcut == "quantized":
        np.testing.assert_array_equal(values, [-1, 1])
    else:
        assert len(values) > 2


def test_before_its_window_training_clips():
    """Then kernels pass unchanged if |w| < 1, and activations are clipped."""
    x = _images()
    clip = _TINY.clone(activation="clip")
    mixed = clip.clone(
        weights=Rules(((BRANCH_KERNELS, stompp(_OPEN)),)),
        activations=Rules(((BRANCH_ACTIVATIONS, stompp(_OPEN, masks="position")),)),
    )
    variables = _variables(mixed, x)
    kernels = [
        v for k, v in witness.by_path(variables["params"]).items() if "conv" in k
    ]
    assert max(np.abs(kernel).max() for kernel in kernels) < 1.5
    small = jax.tree.map(lambda leaf: leaf / 2, variables["params"])
    trained, _, changed = _run(mixed, {**variables, "params": small}, x, True)
    plain = {"params": small, "batch_stats": variables["batch_stats"], "quant": {}}
    np.testing.assert_array_equal(trained, _run(clip, plain, x, True)[0])
    step = changed["quant"]["layer1_0"]["conv1"]["quantizer"].step
    assert int(step) == 1


# The gradient blockade.


def _learns(net):
    """Which layers of a network get any gradient at all, by their path."""
    x = _images()
    variables = _variables(net, x)

    def loss(params):
        (logits, _), _ = net.apply(
            {**variables, "params": params}, x, True, mutable=["batch_stats", "quant"]
        )
        return jnp.sum(jnp.sin(logits))

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    return {path: leaf.any() for path, leaf in witness.by_path(gradients).items()}


def _before_block(learns, block):
    """Whether anything before this block learns."""
    order = ["conv1", "bn1", "layer1_0", "layer2_0", "layer2_1"]
    earlier = order[: order.index(block)]
    return [on for path, on in learns.items() if path.split("/")[0] in earlier]


@dataclasses.dataclass(frozen=True)
class _Closed(stompp):
    """StoMPP in a step after its window."""

    def init(self, key, x):
        return super().init(key, x)._replace(step=jnp.int32(5))


def _frozen_at(pattern, surrogate="none", **fields):
    closed = _Closed(_FROZEN, surrogate=surrogate)
    return _TINY.clone(activations=Rules(((pattern, closed),)), **fields)


def test_a_frozen_block_input_closes_everything_before_it():
    learns = _learns(_frozen_at("layer2_0/act1"))
    assert not any(_before_block(learns, "layer2_0"))
    assert learns["layer2_0/conv1/kernel"]  # it reads signs, and learns itself
    assert learns["layer2_1/conv1/kernel"]
    assert learns["fc/kernel"]


def test_with_a_real_shortcut_the_path_stays_open():
    learns = _learns(_frozen_at("layer2_0/act1", shortcut="real"))
    assert all(_before_block(learns, "layer2_0"))


def test_a_freeze_inside_a_branch_closes_the_branch_only():
    learns = _learns(_frozen_at("layer2_0/act2"))
    assert all(_before_block(learns, "layer2_0"))
    assert not learns["layer2_0/conv1/kernel"]
    assert learns["layer2_0/downsample_conv/kernel"]
    assert learns["layer2_0/conv2/kernel"]


def test_an_estimator_opens_what_was_frozen():
    assert all(
        _before_block(_learns(_frozen_at("layer2_0/act1", "identity")), "layer2_0")
    )


# Cost.


def test_synapses_of_depthwise_kernels_have_a_group_for_each_channel():
    net = binary_resnet("mobilenet_tiny", classes=3)
    synapse = next(s for s in net.synapses() if s.name == "layer2_0/conv2")
    assert synapse.groups == 24


# Refusals.


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"block": "wide"}, "unknown block 'wide'.*'inverted'"),
        ({"activation": "none"}, "unknown activation 'none'.*'relu6'"),
        ({"shortcut": "none"}, "unknown shortcut 'none'.*'real'"),
        ({"stem": "svhn"}, "unknown stem 'svhn'.*'cifar'"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_networks_that_cannot_be_are_refused(fields, says):
    with pytest.raises(InputError, match=says):
        _TINY.clone(**fields)


def test_unknown_names_and_widths_are_refused():
    with pytest.raises(InputError, match="unknown network 'vgg'.*'resnet50'"):
        binary_resnet("vgg", classes=2)
    with pytest.raises(InputError, match="width 0.001 leaves no channel"):
        binary_resnet("resnet18", classes=2, width=0.001)
