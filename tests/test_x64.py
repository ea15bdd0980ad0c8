"""float32 is what it is where JAX could compute in 64 bits: numbers, checkpoints."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsnnq import lqnet, mint, snntorch, ste, stompp, uniform
from jsnnq.data import batches
from jsnnq.networks import quantize
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import sew_resnet
from jsnnq.runtime import checkpoint
from jsnnq.training import step
from jsnnq.workflow.state import initial_variables
from tests.programs import python

SHAPE = (8, 8, 3)

NETWORKS = {
    "spikes": sew_resnet(
        "sew_resnet_tiny",
        classes=4,
        timesteps=2,
        neuron=Neuron("plif"),
        weights=Rules(
            (
                ("layer1_0/conv1", lqnet(2)),
                ("layer1_0/conv2", mint(3)),
                ("layer2_0/conv1", uniform(3, "percentile")),
                ("layer2_0/conv2", lqnet(2, start="published", debias=False)),
                ("layer2_0/downsample_conv", uniform(4, 0.1)),
            )
        ),
        membranes=Rules(
            (
                ("sn1", lqnet(3, 1.1, codes="unsigned")),
                ("layer1_0/sn1", lqnet(2, 1.1, codes="unsigned", follow="timestep")),
                ("layer1_0/sn2", mint(3, shared=True)),
                ("layer2_0/sn1", snntorch(3, upper=1 / 3)),
                ("layer2_0/sn2", mint(4)),
                ("layer2_0/downsample_sn", uniform(4, "max", grid="unsigned")),
            )
        ),
    ),
    "signs": binary_resnet(
        "resnet_tiny",
        classes=4,
        weights=Rules(
            (
                ("layer1_0/conv1", stompp((0, 9), scaled=True)),
                ("layer1_0/conv2", stompp((0, 9), law="bernoulli", refresh=2)),
                ("layer2_0/conv1", stompp((0, 9), law="fixed")),
                ("layer2_0/conv2", ste(scaled=True)),
            )
        ),
        activations=Rules(
            (
                ("layer1_0/act1", stompp((0, 9), masks="position", law="full")),
                ("layer1_0/act2", stompp((0, 9), masks="sample")),
                ("layer2_0/act1", ste("clipped")),
                ("layer2_0/act2", lqnet(2, codes="unsigned", clip=2.0)),
            )
        ),
    ),
}


def trained(network):
    """The state after two steps from scratch, with all that is drawn at random."""
    keys = step.keys(0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, *SHAPE), dtype=np.uint8)
    labels = rng.integers(0, 4, 12).astype(np.int32)
    bare = network.bare
    variables = initial_variables(bare, keys.init, SHAPE)
    shown = PIXELS(jnp.asarray(images))
    state = quantize.quantize(network, variables, keys.init, shown)
    program = step.Program(network, SGD, 4, PIXELS, pad=2, flip=True)
    state = step.start(program, state)
    order = batches.epoch_order(keys.order, 0, len(images))
    data = batches.hold(images, labels)
    for _ in range(2):
        state, _ = step.jitted(program).next_step(state, data, order, keys.augment)
    return state


PIXELS = batches.Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 255.0)
SGD = optax.sgd(0.1, momentum=0.9)


def save(folder: str) -> None:
    """Trains both networks and keeps their states."""
    for name, network in NETWORKS.items():
        checkpoint.save(Path(folder) / name, trained(network), {})


def compare(folder: str) -> None:
    """Restores what the other precision kept, and trains the same."""
    for name, network in NETWORKS.items():
        ours = trained(network)
        theirs, _ = checkpoint.restore(Path(folder) / name, ours)
        for path, leaf in jax.tree_util.tree_leaves_with_path(theirs):
            assert leaf.dtype.itemsize <= 4, jax.tree_util.keystr(path)
        jax.tree.map(_same, ours, theirs)


def _same(one, other):
    assert one.dtype == other.dtype
    if jnp.issubdtype(one.dtype, jnp.floating):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(one, other)


def test_checkpoints_and_random_numbers_do_not_depend_on_x64(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    save(str(here))
    code = "import sys; from tests import test_x64; test_x64.compare(sys.argv[1]); "
    code += "test_x64.save(sys.argv[2])"
    other = str(int(not jax.config.read("jax_enable_x64")))
    root = Path(__file__).parent.parent
    python(code, here, there, cwd=root, JAX_ENABLE_X64=other)
    compare(str(there))
