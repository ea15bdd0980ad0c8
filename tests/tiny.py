"""Tiny networks that train in seconds, and a study of them that need train nothing."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from experiments.stompp.base import binary
from jsnnq.analysis.evaluate import Evaluation
from jsnnq.analysis.firing import Counts
from jsnnq.config import (
    BinaryNetworkConfig,
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    Run,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
    to_dict,
)
from jsnnq.data import sets
from jsnnq.networks.quantize import at, quantize
from jsnnq.study import build
from jsnnq.study.runner import Study
from jsnnq.training import divergence, step
from jsnnq.workflow.state import initial_variables

# One for all tests, which then share its compilations.
SMALL = Config(
    network=NetworkConfig(name="sew_resnet_tiny", timesteps=2),
    training=TrainingConfig(epochs=2, batch=128, optimizer="adam", rate=0.01),
)
STEPS = 1437 // 128
CLIP = 0.1
# 4 layers, and half of 22 steps to freeze them in.
BINARY = binary(
    dataclasses.replace(SMALL, network=BinaryNetworkConfig(name="resnet_tiny")),
    StoMPP(),
    StoMPP(),
)


def changed(config, path, value):
    """The config with another value at a path of settings."""
    head, _, rest = path.partition(".")
    value = changed(getattr(config, head), rest, value) if rest else value
    return dataclasses.replace(config, **{head: value})


@functools.cache
def digits():
    return sets.load("digits")


def save_arrays(folder, **parts):
    """A data set as arrays: images and labels of `train` and `test`."""
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)


def few_digits(count):
    """So many of each split."""
    return {
        split: (part.images[:count], part.labels[:count])
        for split, part in (("train", digits().train), ("test", digits().test))
    }


def assert_same(one, other):
    """Equal structures of equal bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for path, leaf in jax.tree_util.tree_leaves_with_path(one):
        found = leaf_at(other, path)
        assert leaf.dtype == found.dtype, jax.tree_util.keystr(path)
        np.testing.assert_array_equal(leaf, found, jax.tree_util.keystr(path))


def leaf_at(tree, path):
    return dict(jax.tree_util.tree_leaves_with_path(tree))[path]


# Its layers


# The tiny network on 8x8 images of one colour, by hand: kernel sizes and neurons.
KERNELS = {
    "conv1": 3 * 3 * 1 * 4,
    "layer1_0/conv1": 3 * 3 * 4 * 4,
    "layer1_0/conv2": 3 * 3 * 4 * 4,
    "layer2_0/conv1": 3 * 3 * 4 * 8,
    "layer2_0/conv2": 3 * 3 * 8 * 8,
    "layer2_0/downsample_conv": 1 * 1 * 4 * 8,
    "fc": 8 * 10,
}
NEURONS = {
    "sn1": 8 * 8 * 4,
    "layer1_0/sn1": 8 * 8 * 4,
    "layer1_0/sn2": 8 * 8 * 4,
    "layer2_0/sn1": 4 * 4 * 8,
    "layer2_0/sn2": 4 * 4 * 8,
    "layer2_0/downsample_sn": 4 * 4 * 8,
}
HIDDEN = [path for path in KERNELS if path not in ("conv1", "fc")]
SHARED = (("layer.*sn.?", Mint(4, shared=True)),)


def with_(**quantizers):
    return dataclasses.replace(SMALL, **quantizers)


@functools.cache
def float_variables():
    bare = build.float_network(SMALL.network, 10)
    return initial_variables(bare, jax.random.key(3), (8, 8, 1))


@functools.cache
def images():
    return digits().preprocessing(jnp.asarray(digits().train.images[:16]))


def quantized(config):
    net = build.network(config, 10)
    return net, quantize(net, float_variables(), jax.random.key(0), images())


def kernel(path):
    return np.asarray(at(float_variables()["params"], path)["kernel"], np.float64)


# A study


TUNED = with_(start="checkpoint")
SCRATCH = with_(weights=kernels(Uniform(2, clip=CLIP)))
ROWS = {
    "weights-uniform-2bit": changed(SCRATCH, "start", "checkpoint"),
    "weights-lqnet-2bit": with_(start="post-training", weights=kernels(LQNet(2))),
    "float": SMALL,
    "float-finetuned": TUNED,
}
EXPERIMENT = '"""A small study."""\nfrom tests.tiny import ROWS\n'
"""The same as a file."""
ORDER = [  # float networks, controls, then quantized rows as they are written
    Run("float", 0),
    Run("float", 1),
    Run("float-finetuned", 0),
    Run("float-finetuned", 1),
    Run("weights-uniform-2bit", 0),
    Run("weights-lqnet-2bit", 0),
]


def make(out, rows=ROWS, **options):
    options = {"quiet": True, "say": lambda line: None, "command": "test", **options}
    return Study(rows, out, **options)


def read(out):
    return json.loads((out / "results.json").read_text())


def runs_of(results):
    """The runs that have results."""
    return [Run(row["name"], row["seed"]) for row in results["rows"]]


def texts(runs):
    """Runs, or jobs, as they are printed."""
    return [str(getattr(one, "run", one)) for one in runs]


def without_times(results):
    rows = [{k: v for k, v in row.items() if k != "wall_s"} for row in results["rows"]]
    return {**results, "rows": rows}


def row_files(out):
    return {p: p.stat().st_mtime_ns for p in out.glob("runs/*/row.json")}


def tree(folder):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def rates_of(folder):
    """Rates by layer from the stored counts, read a second time."""
    with np.load(folder / "firing.npz") as stored:
        total = int(stored["timesteps"]) * int(stored["images"])
        return {
            name: stored[name].ravel() / total
            for name in stored.files
            if name.startswith("counts/")
        }


# What trains nothing


LAYERS = {"sn1": (4, 4, 3), "layer1_0/sn1": (2, 2, 5)}


def fake_execute(
    program, config, dataset, folder, *, seed, parent, label, quiet, budget
):
    """What `run.execute` leaves behind, from counts that depend on row and seed."""
    del program, dataset, quiet, budget
    if config.start != "scratch":
        assert (parent / "state").read_text() == f"float/seed{seed}"
    rng = np.random.default_rng([seed, *label.encode()])
    counts = {
        name: rng.integers(0, 721, shape, np.int32) for name, shape in LAYERS.items()
    }
    evaluation = Evaluation(0.5, 1.0, Counts(counts, 2, 360), {}, {}, frozenset())
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "state").write_text(label)
    evaluation.counts.save(folder / "firing.npz")
    cost = {"sparsity": 0.9, "acs": 1e6, "macs": 1e5, "dense": 1e7}
    cost |= {"weight_bits": 1000, "state_bits": 500, "events": 3.0}
    row = {
        "kind": config.kind,
        "start": config.start,
        "config": to_dict(config),
        "seed": seed,
        "accuracy": 0.9 + 0.01 * seed,
        "mean_rate": 0.1,
        "dead": 0.5,
        "saturated": 0.0,
        "cost": {**cost, "events_per_layer": {"sn1": 3.0}, "policy": "neurobench"},
        "wall_s": 1.0,
    }
    return row, evaluation


def diverging(*labels):
    """A fake in which some rows diverge, and what was tried.

    As `run.execute` it keeps the state before.
    """
    tried = []

    def execute(*arguments, label, **options):
        tried.append(label)
        if label not in labels:
            return fake_execute(*arguments, label=label, **options)
        (arguments[3] / "last_good").mkdir(parents=True, exist_ok=True)
        said = f"training of {label} stopped at step 3"
        nothing = step.TrainState(jnp.int32(3), {}, {}, {}, ())
        raise divergence.Diverged(said, 3, nothing)

    return execute, tried
