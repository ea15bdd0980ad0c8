"""Made-up studies with known findings, for the tests of every room that shows them."""

import dataclasses

import numpy as np

from experiments.beyond_accuracy import grid
from experiments.stompp import base as stompp
from jsnnq.analysis.firing import Counts
from jsnnq.config import (
    Config,
    LQNet,
    NetworkConfig,
    Run,
    TrainingConfig,
    Uniform,
    kernels,
    to_dict,
)
from jsnnq.study import default

LAYERS8 = (
    "stem",
    "stage0.block0.neuron0",
    "stage0.block0.neuron1",
    "stage1.block0.neuron0",
    "stage1.block0.neuron1",
    "stage1.block0.shortcut",
    "stage2.block0.neuron0",
    "stage2.block0.neuron1",
    "stage2.block0.shortcut",
)
# Name, accuracy lost in points, EMD over drift: papers.md 1.4 and the prototype on
# digits of issue 2, section 8.
ROWS = (
    ("weights-uniform-clip1-2bit", 0.5, 1.9),
    ("weights-uniform-clip1-4bit", 0.1, 0.9),
    ("weights-uniform-clip10-2bit", 23.6, 15.7),
    ("weights-uniform-clip10-4bit", 1.5, 2.8),
    ("weights-lqnet-clip1-2bit", 0.4, 1.05),
    ("weights-lqnet-clip1-4bit", -0.1, 0.92),
    ("weights-lqnet-clip10-2bit", 0.5, 1.08),
    ("weights-lqnet-clip10-4bit", -0.1, 0.95),
    ("membrane-uniform-signed-2bit", 8.1, 3.1),
    ("membrane-uniform-signed-4bit", 0.6, 1.4),
    ("membrane-uniform-unsigned-2bit", 3.3, 2.2),
    ("membrane-uniform-unsigned-4bit", 0.2, 1.0),
    ("membrane-lqnet-2bit", 0.8, 1.6),
    ("both-uniform-2bit", 9.5, 4.0),
    ("both-lqnet-2bit", 4.0, 2.5),
)
_FLOAT = Config(network=NetworkConfig("sew_resnet8", width=0.25))
SPIKING = default.rows(
    _FLOAT,
    TrainingConfig(epochs=6),
    bits=(2, 3, 4, 6),
    lqnet_membranes=(2, 4, 8),
    both=(2, 4, 6),
    both_lqnet=(2, 4, 6),
)
SPIKING |= grid.learned_membranes(SPIKING["float-finetuned"])
SPIKING |= {
    name: dataclasses.replace(SPIKING["float-finetuned"], weights=kernels(quantizer))
    for name, quantizer in {
        "weights-uniform-clipmax-4bit": Uniform(4, clip="max"),
        "weights-lqnet-2bit": LQNet(2),
        "weights-lqnet-4bit": LQNet(4),
    }.items()
}
"""The configs of rows, by name; what is called otherwise is `ROWS[0]`."""
DRIFT = 0.0045
FLOOR = 0.010


def study(rows=ROWS, layers=LAYERS8, seeds=1, dataset="digits", seed=0):
    """results.json, firing and curves of a finished study on checkpoints."""
    rng = np.random.default_rng(seed)
    profile = rng.lognormal(0.0, 0.5, len(layers))
    profile /= profile.mean()
    float_counts = {layer: _counts(rng, 0.06) for layer in layers}

    def row(name, kind, start, seed, accuracy, ratio):
        layer_emds = ratio * DRIFT * profile * rng.lognormal(0, 0.2, len(layers))
        bits = int(name[-4]) if name in SPIKING and kind == "quantized" else 32
        rate = 0.062 * (1 + 0.02 * ratio * rng.normal())
        weight_bits = 32 if name.startswith("membrane") else bits
        state_bits = 32 if name.startswith("weights") else bits
        return {
            "name": name,
            "kind": kind,
            "start": start,
            "config": to_dict(SPIKING.get(name, SPIKING[ROWS[0][0]])),
            "seed": seed,
            "accuracy": float(accuracy),
            "emd": None if ratio == 0 else distances(layers, layer_emds),
            "matched": None if ratio == 0 else distances(layers, 2.2 * layer_emds),
            "mean_rate": float(rate),
            "dead": float(0.66 + 0.01 * rng.normal()),
            "saturated": float(0.004 + 0.0005 * ratio),
            "cost": {
                "sparsity": 1 - float(rate),
                "acs": float(2.1e6 * rate / 0.062),
                "macs": 3.1e5,
                "dense": 2.4e7,
                "weight_bits": 78_000 * weight_bits + 12_000,
                "state_bits": 19_000 * state_bits,
                "events": float(9.4e3 * rate / 0.062),
                "events_per_layer": {layer: 9.4e3 / len(layers) for layer in layers},
                "policy": "neurobench",
            },
            "wall_s": 10.5,
        }

    made = [row("float", "float", "scratch", s, 0.989 + 0.002 * s, 0) for s in (0, 1)]
    made += [
        row("float-finetuned", "control", "checkpoint", s, 0.990, r)
        for s, r in ((0, 0.92), (1, 1.08))
    ]
    for name, lost, ratio in rows:
        for s in range(seeds):
            accuracy = 0.99 - lost / 100 + 0.001 * rng.normal()
            jitter = ratio * (1 + 0.03 * rng.normal())
            made.append(row(name, "quantized", "checkpoint", s, accuracy, jitter))
    results = {
        "schema": 2,
        "provenance": {
            "jax": "0.10.2",
            "device": "cpu",
            "commit": None,
            "command": "jsnnq study",
            "dataset": dataset,
        },
        "floor": distances(layers, FLOOR * profile),
        "drift": distances(layers, DRIFT * profile),
        "floor_range": {"mean": [0.0095, 0.0107]},
        "drift_range": {"mean": [0.0041, 0.0049]},
        "rows": made,
    }
    firing, curves = {}, {}
    for each in made:
        moved = each["emd"]["mean"] if each["emd"] else 0.0
        counts = float_counts
        if moved:
            counts = {
                layer: _moved(rng, float_counts[layer], each["emd"]["layers"][layer])
                for layer in layers
            }
        key = Run(each["name"], each["seed"])
        firing[key] = Counts(counts, 4, 360)
        epochs = 15 if each["kind"] == "float" else 6
        curves[key] = _curve(rng, epochs, each["accuracy"])
    return results, firing, curves


def distances(layers, values):
    """The five views of an EMD, from those of the layers."""
    return {
        "mean": float(np.mean(values)),
        "weighted": float(0.9 * np.mean(values)),
        "max": float(np.max(values)),
        "pooled": float(0.7 * np.mean(values)),
        "layers": dict(zip(layers, map(float, values), strict=True)),
    }


def _counts(rng, rate):
    rates = np.clip(rng.gamma(0.25, rate / 0.25, (8, 8, 16)), 0, 1)
    return rng.binomial(4 * 360, rates)


def _moved(rng, counts, distance):
    shift = rng.gamma(0.5, 2 * distance * 4 * 360, counts.shape)
    return np.clip(counts + np.where(counts > 20, shift, 0), 0, 1440).astype(int)


def _curve(rng, epochs, accuracy):
    return [
        {
            "step": 12 * (epoch + 1),
            "epoch": epoch + 1,
            "loss": float((1.8 * 0.72**epoch + 0.02 * rng.random()) / accuracy**4),
            "accuracy": float(accuracy - 0.5 * 0.6**epoch),
            "images_per_s": 1500.0,
        }
        for epoch in range(epochs)
    ]


SMALL = ("first", "second", "third")
KNOWN = (  # the four readings, far from every border
    ("weights-uniform-clip10-2bit", 0.2, 2.0),
    ("weights-lqnet-clip10-2bit", 0.2, 0.8),
    ("membrane-uniform-signed-2bit", 8.0, 3.0),
    ("membrane-lqnet-2bit", 5.0, 0.8),
)


def exactly(rows, layers=SMALL, seeds=2, **others):
    """The results of a study whose quantized rows have just these numbers.

    They are equal for all seeds but the second, for which `others` may have other ones,
    by a row's name with _ for -.
    """
    results, _, _ = study(rows, layers, seeds=seeds)
    known = {name: numbers for name, *numbers in rows}
    for row in results["rows"]:
        if row["kind"] == "quantized":
            name = row["name"]
            second = others.get(name.replace("-", "_")) if row["seed"] else None
            lost, ratio = second or known[name]
            row["accuracy"] = 0.99 - lost / 100
            row["emd"]["mean"] = ratio * results["drift"]["mean"]
    return results


def small(**options):
    """A study that is drawn in a second."""
    return study(KNOWN, SMALL, **options)


HOSTILE = "<script>window.hacked = 1</script>|$x_{1}$ [bold]_a_*b* `c`"


def find(results, name):
    return next(row for row in results["rows"] if row["name"] == name)


def restart(row, start):
    """The row, from another start."""
    row["start"] = row["config"]["start"] = start


def runs(results):
    """All of them, as they are planned."""
    return [{"name": row["name"], "seed": row["seed"]} for row in results["rows"]]


def cells(lines, name):
    """The cells of a network in a Markdown table, by heading."""
    lines = [line for line in lines if line.startswith("| ")]
    head, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    return dict(zip(head, next(row for row in rows if row[0] == name), strict=True))


def comparison(seed=0):
    """What `saved.compare_saved` returns, of a study's first quantized network."""
    results, firing, _ = small(seed=seed)
    a, b = results["rows"][0], results["rows"][4]
    keys = ("accuracy", "mean_rate", "dead", "saturated", "cost")
    return {
        "rows": [{key: row[key] for key in keys} for row in (a, b)],
        "firing": [firing[Run("float", 0)], firing[Run(b["name"], 0)]],
        "emd": b["emd"],
        "matched": b["matched"],
    }


# Binary networks

BACKBONES = {"r18": "resnet18", "r50": "resnet50", "mobilenetv2": "mobilenetv2"}
RECIPE = TrainingConfig(epochs=3, batch=50, looks=4)
KNOWN_BINARY = {  # every order shows, and nothing is closer than it looks
    "float-r18": [0.92, 0.93],
    "bnn-ste-r18": [0.60, 0.62],
    "bnn-stompp-r18": [0.65, 0.67],
    "bnn-stompp+ste-r18": [0.70, 0.72],
    "bnn-global-r18": [0.60, 0.64],
    "bnn-reverse-r18": [0.20, 0.30],
    "bwn-ste-r18": [0.88, 0.89],
    "bwn-stompp-r18": [0.902, 0.908],
    "bwn-reverse-r18": [0.899, 0.905],
}


DEEP = {
    "bnn-ste-r18": [0.60, 0.61],
    "bnn-stompp-r18": [0.63, 0.64],
    "bnn-ste-r50": [0.40, 0.41],
    "bnn-stompp-r50": [0.55, 0.57],
}
PAPER = {"bnn-stompp-r18": {"accuracy": 0.538, "grade": "S", "of": "CIFAR-100"}}


def binary(accuracies=KNOWN_BINARY, paper=None, dataset="digits", **changes):
    """results.json of a study of binary networks, from its accuracies by name.

    Changes are to configs: `{"bnn-ste-r18": {"training.rate": 0.01}}`.
    """
    rows = []
    for name, values in accuracies.items():
        config = to_dict(_binary_config(name, dataset))
        for path, value in changes.get("configs", {}).get(name, {}).items():
            branch, _, leaf = path.partition(".")
            config[branch] = {**config[branch], leaf: value} if leaf else value
        rows += [
            _binary_row(name, config, seed, value) for seed, value in enumerate(values)
        ]
    return {
        "schema": 2,
        "provenance": {"jax": "0.10.2", "device": "cpu", "dataset": dataset},
        **dict.fromkeys(("floor", "drift", "floor_range", "drift_range")),
        "paper": paper or {},
        "rows": rows,
    }


def signs(weights, activations=None):
    """The rules of a binary network, to be changed in a config."""
    net = stompp.network("resnet18", "digits", RECIPE)
    made = to_dict(stompp.binary(net, weights, activations or weights))
    return {place: made[place] for place in ("weights", "activations")}


def _binary_config(name, dataset):
    """Of `bnn-METHOD-...-NETWORK`: what is between them says nothing."""
    place, _, rest = name.partition("-")
    network = BACKBONES.get(name.split("-")[-1], "resnet18")
    base = stompp.network(network, dataset, RECIPE)
    methods = [method for method in stompp.METHODS if rest.startswith(f"{method}-")]
    if place == "float" or not methods:
        return base
    weights, activations = stompp.METHODS[max(methods, key=len)]
    return stompp.binary(base, weights, activations if place == "bnn" else None)


def _binary_row(name, config, seed, accuracy):
    is_bnn, is_float = name.startswith("bnn"), name.startswith("float")
    nothing = ("emd", "matched", "mean_rate", "dead", "saturated")
    return {
        "name": name,
        "kind": "float" if is_float else "quantized",
        "start": "scratch",
        "config": config,
        "seed": seed,
        "accuracy": accuracy,
        **dict.fromkeys(nothing),
        "cost": {
            "sparsity": None,
            "acs": 3.0e5 if is_bnn else 0.0,
            "macs": 4.0e3 if is_bnn else 1.6e5,
            "dense": 3.1e5,
            "weight_bits": 8192 * (640 if is_float else 40),
            "state_bits": 0,
            "events": 0,
            "events_per_layer": {},
            "policy": "neurobench",
        },
        "wall_s": 12.0,
    }


SIGNS = ("layer1_0/conv1", "layer1_0/conv2", "layer2_0/conv1", "layer2_0/conv2")


def looks(order=(0, 1, 2, 3), blocked=False, layers=SIGNS):
    """What a probe saw of 8 steps in which one layer after another is frozen.

    With `blocked`, nothing passes what is frozen completely.
    """
    windows = {path: [2 * order.index(k), 2] for k, path in enumerate(layers)}
    seen = []
    for step in range(0, 2 * len(layers) + 1):
        frozen = [min(1.0, max(0.0, (step - windows[path][0]) / 2)) for path in layers]
        inside = {}
        for k, path in enumerate(layers):
            closed = frozen[k] == 1 or (blocked and 1.0 in frozen[k:])
            inside[path] = {
                "frozen": frozen[k],
                "gradient": 0.0 if closed else 10.0 ** (k - 2),
                "zero": 1.0 if closed else frozen[k],
                "flipped": 0.01 * step,
            }
        accuracy = {"present": 0.3 + 0.05 * (step % 2), "binary": 0.05 * step}
        seen.append({"step": step, **accuracy, "layers": inside})
    return {"windows": windows, "looks": seen}


def binary_study(**options):
    """The known study whole: results, curves, and looks at all that is frozen."""
    results = binary(**options)
    rng = np.random.default_rng(0)
    keys = {Run(row["name"], row["seed"]): row for row in results["rows"]}
    curves = {key: _curve(rng, 3, row["accuracy"]) for key, row in keys.items()}
    seen = {
        key: looks((3, 2, 1, 0), blocked="bnn" in key.name)
        if "reverse" in key.name
        else looks()
        for key in keys
        if "stompp" in key.name or "reverse" in key.name
    }
    return results, curves, seen
