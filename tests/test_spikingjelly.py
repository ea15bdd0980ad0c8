"""Parity with SpikingJelly 2.0 on the CPU, from one neuron to ten training steps.

SpikingJelly is the witness: its networks are built, their weights imported by the
names of their state dict, and every number compared. One flipped spike cascades, so
layers are compared on equal inputs, and whole networks with their flips counted.

Needs torch and spikingjelly (the extra `interop`); skipped without them.
"""

import functools
import importlib
import importlib.util
import itertools
import re
import sys
import types

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsnnq.networks import readout, surrogate
from jsnnq.networks.layers import QuantConv, QuantDense, Spiking
from jsnnq.networks.neurons import Neuron, initial_decay, unroll
from jsnnq.networks.normalisation import BatchNorm
from jsnnq.networks.sew import join, sew_resnet
from jsnnq.networks.timesteps import fold

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")


def _sew_module():
    """SpikingJelly's SEW-ResNet; of torchvision it uses one download function."""
    stubs = ("torchvision", "torchvision.models", "torchvision.models.utils")
    missing = importlib.util.find_spec("torchvision") is None
    if missing:
        sys.modules.update({name: types.ModuleType(name) for name in stubs})
        sys.modules[stubs[-1]].load_state_dict_from_url = None
    try:
        return importlib.import_module("spikingjelly.activation_based.model.sew_resnet")
    finally:
        for name in stubs if missing else ():
            del sys.modules[name]


sew = _sew_module()
functional = importlib.import_module("spikingjelly.activation_based.functional")
layer = importlib.import_module("spikingjelly.activation_based.layer")
nodes = importlib.import_module("spikingjelly.activation_based.neuron")
theirs = importlib.import_module("spikingjelly.activation_based.surrogate")

pytestmark = pytest.mark.filterwarnings("ignore")
torch.set_num_threads(1)  # Its threads wait busily, which XLA's then do too.

T = 4
NODES = {"if": nodes.IFNode, "lif": nodes.LIFNode, "plif": nodes.ParametricLIFNode}
SURROGATES = {
    "sigmoid": theirs.Sigmoid,
    "atan": theirs.ATan,
    "piecewise_quadratic": theirs.PiecewiseQuadratic,
    "piecewise_exp": theirs.PiecewiseExp,
    "soft_sign": theirs.SoftSign,
    "super_spike": theirs.SuperSpike,
    "erf": theirs.Erf,
    "rect": theirs.Rect,
}


# Building their networks and importing the weights.


def node_settings(neuron, name="atan"):
    """Keyword arguments of a SpikingJelly node that does what `neuron` says."""
    settings = {
        "v_threshold": neuron.v_threshold,
        "v_reset": neuron.v_reset,
        "detach_reset": neuron.detach_reset,
        "surrogate_function": SURROGATES[name](),
    }
    if neuron.kind == "plif":
        settings["init_tau"] = neuron.tau
    if neuron.kind == "lif":
        settings["tau"] = neuron.tau
    if neuron.kind != "if":
        settings["decay_input"] = neuron.decay_input
    return settings


def kaiming(weight):
    torch.nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def narrow(neuron):
    """SpikingJelly's network of narrow stages for images of one colour, and ours."""
    torch.manual_seed(0)
    settings = node_settings(neuron)
    settings |= {"cnf": "ADD", "spiking_neuron": NODES[neuron.kind]}
    net = sew.SEWResNet(sew.BasicBlock, (1, 1, 1, 1), num_classes=10, **settings)
    net.conv1 = layer.Conv2d(1, 16, 3, padding=1, bias=False)
    net.bn1, net.inplanes = layer.BatchNorm2d(16), 16
    for stage, features, stride in ((1, 16, 1), (2, 32, 2), (3, 64, 2)):
        made = net._make_layer(sew.BasicBlock, features, 1, stride, **settings)
        setattr(net, f"layer{stage}", made)
    net.maxpool = net.layer4 = torch.nn.Identity()
    net.fc = layer.Linear(64, 10)
    for module in net.modules():
        if isinstance(module, layer.Conv2d):
            kaiming(module.weight)
    functional.set_step_mode(net, "m")
    return net, sew_resnet("sew_resnet8", width=0.25, classes=10, neuron=neuron)


def published(depth, stem, connect, neuron, classes=10):
    """SpikingJelly's own network; the CIFAR stem replaces conv1 and the max-pool."""
    torch.manual_seed(0)
    net = getattr(sew, f"sew_resnet{depth}")(
        cnf=connect.upper(),
        spiking_neuron=NODES[neuron.kind],
        num_classes=classes,
        **node_settings(neuron),
    )
    if stem == "cifar":
        net.conv1 = layer.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        kaiming(net.conv1.weight)
        net.maxpool = torch.nn.Identity()
    functional.set_step_mode(net, "m")
    return net


def our_trees(tensors):
    """Tensors by the names of a state dict, as our variables."""
    flat = {}
    for key, value in tensors.items():
        *path, name = our_path(key).split("/")
        if name != "num_batches_tracked":
            kind, name, value = _leaf(name, value.detach().numpy())
            # A copy: torch updates its own in place.
            flat[kind, *path, name] = jnp.array(value)
    return flax.traverse_util.unflatten_dict(flat)


def imported(net):
    return our_trees(net.state_dict())


def our_path(key):
    key = re.sub(r"^(layer\d)\.(\d+)\.", r"\1_\2.", key)
    key = key.replace("downsample.0", "downsample_conv")
    return key.replace("downsample.1", "downsample_bn").replace(".", "/")


def _leaf(name, value):
    if name.startswith("running_"):
        return "batch_stats", name.removeprefix("running_"), value
    if name == "weight" and value.ndim == 4:
        return "params", "kernel", value.transpose(2, 3, 1, 0)
    if name == "weight" and value.ndim == 2:
        return "params", "kernel", value.T
    return "params", "scale" if name == "weight" else name, value


def channels_last(tensor):
    """`... C H W` as `... H W C`."""
    values = tensor.detach().numpy()
    return np.moveaxis(values, -3, -1) if values.ndim > 3 else values


def images(batch, side, channels=3, seed=0):
    shape = (batch, channels, side, side)
    values = np.random.default_rng(seed).normal(size=shape)
    return torch.tensor(values, dtype=torch.float32)


def repeated(x):
    return x[None].repeat(T, 1, 1, 1, 1)


def run_theirs(net, x):
    """Logits `T B K`, and input and output of every layer by our path."""
    seen = {}

    def hook(path):
        def keep(module, inputs, output):
            seen[path] = (inputs[0], output)

        return keep

    handles = [
        module.register_forward_hook(hook(our_path(name)))
        for name, module in net.named_modules()
        if not list(module.children()) or isinstance(module, nodes.BaseNode)
    ]
    functional.reset_net(net)
    logits = net(repeated(x))
    for handle in handles:
        handle.remove()
    return logits, seen


def with_other_statistics(net, x, seed=1):
    """Normalisation away from its start, with statistics of `x`, as after training."""
    generator = torch.Generator().manual_seed(seed)
    normalisations = [m for m in net.modules() if isinstance(m, layer.BatchNorm2d)]
    for module in normalisations:
        size = module.weight.shape
        with torch.no_grad():
            module.weight.copy_(1 + 0.3 * torch.randn(size, generator=generator))
            module.bias.copy_(0.6 + 0.3 * torch.randn(size, generator=generator))
        module.momentum = 1.0
    with torch.no_grad():
        net.train()(repeated(x))
    for module in normalisations:
        module.momentum = 0.1
    return net


def flips(ours, seen):
    """Spikes that differ, by layer in the order of the data, where any do."""
    different = {
        path: int((np.asarray(ours.spikes[path]) != channels_last(output)).sum())
        for path, (_, output) in seen.items()
        if path in ours.spikes
    }
    assert different.keys() == ours.spikes.keys()
    return {path: count for path, count in different.items() if count}


# Neurons and surrogates.


_NEURONS = [
    ("atan", *settings, 2.0)
    for settings in itertools.product(
        NODES, [0.0, -0.25, None], [True, False], [True, False]
    )
]
_NEURONS += [(name, "lif", 0.0, False, True, 2.0) for name in SURROGATES]
_NEURONS += [
    ("atan", kind, 0.0, True, True, tau)
    for kind in ("lif", "plif")
    for tau in (1.5, 3.0)
]


@pytest.mark.parametrize(
    ("name", "kind", "v_reset", "detach", "decay_input", "tau"), _NEURONS
)
def test_neurons_and_surrogates(name, kind, v_reset, detach, decay_input, tau):
    neuron = Neuron(
        kind=kind,
        tau=tau,
        v_reset=v_reset,
        detach_reset=detach,
        decay_input=decay_input,
        surrogate=surrogate.SURROGATES[name](),
    )
    random = np.random.default_rng(3)
    x = random.normal(0.7, 1.0, (8, 200)).astype(np.float32)
    weight = random.normal(size=(8, 200)).astype(np.float32)

    node = NODES[kind](step_mode="m", store_v_seq=True, **node_settings(neuron, name))
    current = torch.tensor(x, requires_grad=True)
    spikes = node(current)
    (spikes * torch.tensor(weight)).sum().backward()

    decay = jnp.float32(initial_decay(neuron)) if kind == "plif" else None

    def weighted(x, decay):
        found, seen, _, _ = unroll(neuron, x, jnp.full(200, neuron.rest), decay)
        return jnp.sum(found * weight), (found, seen)

    slopes, (found, seen) = jax.grad(
        weighted, argnums=(0, 1) if kind == "plif" else (0,), has_aux=True
    )(jnp.asarray(x), decay)
    np.testing.assert_array_equal(found, spikes.detach())
    np.testing.assert_allclose(seen, node.v_seq.detach(), atol=1e-6)
    np.testing.assert_allclose(slopes[0], current.grad, atol=1e-5)
    if kind == "plif":
        np.testing.assert_allclose(slopes[1], node.w.grad, rtol=1e-4, atol=1e-4)


# Architecture.


@pytest.mark.parametrize(
    ("depth", "stem"), [(18, "cifar"), (34, "imagenet"), (50, "imagenet")]
)
def test_state_dict_has_our_names_and_shapes(depth, stem):
    neuron = Neuron(kind="plif")
    found = imported(published(depth, stem, "add", neuron))
    net = sew_resnet(f"sew_resnet{depth}", classes=10, stem=stem, neuron=neuron)
    expected = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(
        jnp.shape, flax.core.unfreeze(expected)
    )


# Layer by layer on their inputs.


def _ours(path, module, neuron, variables, x):
    """What our layer makes of the input `T B ...` of one of theirs."""
    inside = {kind: _at(tree, path) for kind, tree in variables.items()}
    if isinstance(module, nodes.BaseNode):
        return Spiking(neuron=neuron).apply(inside, x, False)
    if isinstance(module, layer.Conv2d):
        (size, _), (stride, _) = module.kernel_size, module.stride
        ours = QuantConv(features=module.out_channels, size=size, stride=stride)
    elif isinstance(module, layer.BatchNorm2d):
        ours = BatchNorm()
    else:
        ours = QuantDense(features=module.out_features)
    return fold(lambda y: ours.apply(inside, y, False), x)


def _at(tree, path):
    for part in path.split("/"):
        tree = tree.get(part, {})
    return tree


@pytest.mark.parametrize(
    ("stem", "kind", "v_reset"),
    [("cifar", "lif", 0.0), ("cifar", "plif", None), ("imagenet", "if", 0.0)],
)
def test_every_layer_on_their_input(stem, kind, v_reset):
    neuron = Neuron(kind=kind, v_reset=v_reset)
    x = images(2, 16 if stem == "cifar" else 32)
    net = with_other_statistics(published(18, stem, "add", neuron), x).eval()
    with torch.no_grad():
        _, seen = run_theirs(net, x)
    variables = imported(net)
    modules = {our_path(name): module for name, module in net.named_modules()}
    kinds = (layer.Conv2d, layer.BatchNorm2d, layer.Linear, nodes.BaseNode)
    compared = 0
    for path, (given, returned) in seen.items():
        if isinstance(modules[path], kinds):
            x = jnp.asarray(channels_last(given))
            found = _ours(path, modules[path], neuron, variables, x)
            expected = channels_last(returned)
            np.testing.assert_allclose(found, expected, 1e-5, 1e-5, err_msg=path)
            compared += 1
    assert compared == 20 * 3 + 1


@pytest.mark.parametrize("connect", ["add", "and", "iand"])
def test_bottleneck_swaps_iand_and_basic_does_not(connect):
    s, a = np.meshgrid([0.0, 1.0], [0.0, 1.0])
    found = join(connect, jnp.asarray(s), jnp.asarray(a))
    s, a = torch.tensor(s), torch.tensor(a)
    basic = sew.sew_function(s, a, connect.upper())
    bottleneck = sew.sew_function(a, s, connect.upper())
    np.testing.assert_array_equal(found, basic)
    assert np.array_equal(found, bottleneck) == (connect != "iand")


# Whole networks.

_WHOLE = [
    (18, "cifar", "add", Neuron()),
    (18, "cifar", "iand", Neuron(kind="if", v_reset=None)),
    (18, "imagenet", "and", Neuron(kind="plif")),
    (50, "imagenet", "add", Neuron(kind="if")),
]


@pytest.mark.parametrize(("depth", "stem", "connect", "neuron"), _WHOLE)
def test_whole_network_in_evaluation_mode(depth, stem, connect, neuron):
    x = images(2, 16 if stem == "cifar" else 64)
    net = with_other_statistics(published(depth, stem, connect, neuron), x).eval()
    with torch.no_grad():
        logits, seen = run_theirs(net, x)
    ours = sew_resnet(
        f"sew_resnet{depth}", classes=10, stem=stem, connect=connect, neuron=neuron
    )
    found, saw = jax.jit(ours.apply)(imported(net), jnp.asarray(channels_last(x)))
    different = flips(saw, seen)
    assert all(float(spikes.mean()) > 0.01 for spikes in saw.spikes.values())
    if different:
        # A membrane within float32 rounding of the threshold; the rest follows from it.
        path, count = next(iter(different.items()))
        assert count <= 3
        assert _closest_to_threshold(seen[path][0], neuron) < 1e-6
    else:
        assert np.abs(found - logits.numpy()).max() < 1e-5


def _closest_to_threshold(current, neuron):
    node = NODES[neuron.kind](step_mode="s", **node_settings(neuron))
    distance = np.inf
    for now in current:
        h = node.v + now if neuron.kind == "if" else node.v + (now - node.v) / 2
        distance = min(distance, float((h - neuron.v_threshold).abs().min()))
        node(now)
    return distance


def _our_step(ours):
    """(loss, (statistics, seen)) and gradients of parameters."""

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(params, variables, x, labels):
        (logits, seen), changed = ours.apply(
            {**variables, "params": params}, x, True, mutable=["batch_stats"]
        )
        loss = jnp.mean(readout.cross_entropy(readout.readout(logits), labels))
        return loss, (changed["batch_stats"], seen)

    return step


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize(
    "neuron",
    [
        Neuron(),
        Neuron(detach_reset=False),
        Neuron(v_reset=None, detach_reset=False),
        Neuron(kind="plif"),
        Neuron(kind="if"),
    ],
    ids=["lif", "lif-attached", "lif-soft-attached", "plif", "if"],
)
def test_training_mode_statistics_and_gradients(neuron, still):
    """The stem runs once in ours if the image is still, and T times in theirs."""
    net, ours = narrow(neuron)
    x = images(4, 8, channels=1)
    net = with_other_statistics(net, x).train()
    variables = imported(net)
    labels = torch.tensor([3, 1, 4, 1])
    logits, seen = run_theirs(net, x)
    loss = torch.nn.functional.cross_entropy(logits.mean(0), labels)
    loss.backward()

    given = jnp.asarray(channels_last(x if still else repeated(x)))
    (found, (stats, saw)), slopes = _our_step(ours)(
        variables["params"], variables, given, jnp.asarray(labels.numpy())
    )
    assert not flips(saw, seen)
    np.testing.assert_allclose(found, loss.item(), rtol=1e-6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, stats, imported(net)["batch_stats"])
    expected = our_trees({k: leaf.grad for k, leaf in net.named_parameters()})
    assert jax.tree.structure(slopes) == jax.tree.structure(expected["params"])
    relative = lambda a, b: float(np.abs(a - b).max() / np.abs(b).max())
    apart = jax.tree.map(relative, slopes, expected["params"])
    assert max(jax.tree.leaves(apart)) < 1e-4


def digits():
    """Real 8x8 digits as `N 1 H W`, normalised, in a seeded order."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:640]
    x = pixels[order].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    return (x - x.mean()) / x.std(), labels[order]


def test_ten_steps_of_training_follow_theirs():
    """By SGD with momentum 0.9, from equal weights on equal batches of 64."""
    net, ours = narrow(Neuron())
    net.train()
    variables = imported(net)
    their_optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer = optax.sgd(0.1, momentum=0.9)
    opt_state = optimizer.init(variables["params"])
    our_step = _our_step(ours)
    losses = []
    for x, labels in zip(*(np.split(each, 10) for each in digits()), strict=True):
        functional.reset_net(net)
        their_optimizer.zero_grad()
        logits = net(repeated(torch.tensor(x)))
        theirs_ = torch.nn.functional.cross_entropy(
            logits.mean(0), torch.tensor(labels)
        )
        theirs_.backward()
        their_optimizer.step()
        given = jnp.asarray(np.moveaxis(x, 1, -1)), jnp.asarray(labels)
        params = variables["params"]
        (loss, (stats, _)), slopes = our_step(params, variables, *given)
        updates, opt_state = optimizer.update(slopes, opt_state)
        params = optax.apply_updates(params, updates)
        variables = {"params": params, "batch_stats": stats}
        losses.append((float(loss), theirs_.item()))
    found, expected = np.array(losses).T
    np.testing.assert_allclose(found[:3], expected[:3], rtol=0.005)
    np.testing.assert_allclose(found, expected, rtol=0.05)
