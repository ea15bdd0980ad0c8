"""What is seen inside a binary network, against masks and gradients taken apart."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stompp.base import binary
from jsnnq.config import STE, BinaryNetworkConfig, StoMPP, TrainingConfig
from jsnnq.networks import readout
from jsnnq.networks.quantize import at
from jsnnq.study import build, run
from jsnnq.training import loop, probe
from tests.tiny import SMALL, STEPS, changed, digits

_BASE = dataclasses.replace(
    SMALL,
    network=BinaryNetworkConfig(name="resnet_tiny", activation="clip"),
    training=TrainingConfig(
        epochs=4, batch=128, rate=0.05, schedule="constant", augment=False
    ),
)
LAYERS = [f"layer{stage}_0/conv{k}" for stage in (1, 2) for k in (1, 2)]


@functools.cache
def trained(quantizer):
    """A row's program, and its states before the first step and after two epochs."""
    row = binary(_BASE, quantizer, quantizer)
    program = build.program(row, digits())
    start = run.start(program, row, digits(), seed=0)
    after = loop.fit(program, start, digits().train, seed=0, epochs=2)
    return row, program, start, after


@pytest.fixture
def looked(tmp_path):
    def look(quantizer):
        row, program, start, after = trained(quantizer)
        windows = build.freezing(row, program.network, STEPS)
        watch = probe.Probe(program, start, digits(), tmp_path / "looks.jsonl", windows)
        watch(start)
        watch(after)
        found = probe.read_looks(tmp_path / "looks.jsonl")
        assert [one["step"] for one in found["looks"]] == [0, 2 * STEPS]
        return found

    return look


def test_shares_of_frozen_entries_are_those_of_the_masks(looked):
    """33 steps for 4 layers; after 22 of them the third window is under way."""
    found = looked(StoMPP())
    assert found["windows"] == {
        path: [edge, length]
        for path, edge, length in zip(LAYERS, (0, 8, 16, 24), (8, 8, 8, 9), strict=True)
    }
    first, last = (one["layers"] for one in found["looks"])
    assert [first[path]["frozen"] for path in LAYERS] == [0, 0, 0, 0]
    assert [last[path]["frozen"] for path in LAYERS[:2]] == [1, 1]
    assert last[LAYERS[3]]["frozen"] == last[LAYERS[3]]["activations"] == 0
    _, program, _, after = trained(StoMPP())
    path = LAYERS[2]
    kernel = at(after.params, path)["kernel"]
    # What a training step makes of the kernel: signs have magnitude one.
    state = at(after.quant, path)["quantizer"]
    mixed, _ = program.network.weights(path).apply(kernel, state, True)
    share = float(np.mean(np.abs(mixed) == 1))
    assert 0 < share < 1
    np.testing.assert_allclose(last[path]["frozen"], share, rtol=1e-6)
    # p = (6 / 8)^3; a position is frozen or not: within 5 deviations of 4 x 4 x 8.
    expected, entries = 0.75**3, 4 * 4 * 8
    spread = 5 * np.sqrt(expected * (1 - expected) / entries)
    assert abs(last[path]["activations"] - expected) < spread


@pytest.mark.parametrize("quantizer", [StoMPP(order="reverse"), STE()])
def test_gradients_and_flips_against_their_definition(quantizer, looked):
    found = looked(quantizer)
    _, program, start, after = trained(quantizer)
    split = digits().train
    inputs = program.inputs(jnp.asarray(split.images[:128]))
    labels = jnp.asarray(split.labels[:128])

    @jax.jit
    def gradients(state):
        def loss(params):
            (logits, _), _ = program.network.apply(
                {**state.variables, "params": params},
                inputs,
                True,
                mutable=["batch_stats", "quant"],
            )
            return readout.cross_entropy(readout.readout(logits), labels).mean()

        return jax.grad(loss)(state.params)

    for state, seen in zip((start, after), found["looks"], strict=True):
        slopes = gradients(state)
        assert list(seen["layers"]) == sorted(LAYERS)
        for path in LAYERS:
            slope = np.asarray(at(slopes, path)["kernel"])
            layer = seen["layers"][path]
            norm = np.sqrt((slope.astype(np.float64) ** 2).sum())
            np.testing.assert_allclose(layer["gradient"], norm, rtol=1e-3, atol=1e-7)
            np.testing.assert_allclose(layer["zero"], np.mean(slope == 0), atol=0.01)
            before = np.asarray(at(start.params, path)["kernel"]) >= 0
            now = np.asarray(at(state.params, path)["kernel"]) >= 0
            np.testing.assert_allclose(
                layer["flipped"], np.mean(before != now), rtol=1e-6
            )
    last = found["looks"][1]["layers"]
    if quantizer == STE():
        assert all(last[path]["frozen"] == 1 for path in LAYERS)
        assert all(last[path]["zero"] < 1 for path in LAYERS)
    else:  # the blockade: what the last layers closed, earlier ones feel
        assert [last[path]["zero"] for path in LAYERS[:2]] == [1, 1]
        assert [last[path]["gradient"] for path in LAYERS[:2]] == [0, 0]


def test_both_accuracies(tmp_path):
    """Before any freezing the present network clips; the binary one is all signs.

    What was trained in one of them is worse in the other.
    """
    _, program, start, after = trained(StoMPP())
    start = start._replace(params=after.params, batch_stats=after.batch_stats)
    watch = probe.Probe(program, start, digits(), tmp_path / "looks.jsonl", {})
    watch(start)
    found = probe.read_looks(tmp_path / "looks.jsonl")
    test, shown = digits().test, found["looks"][0]
    inputs = program.inputs(jnp.asarray(test.images[: probe.IMAGES]))
    clipping = build.network(_BASE, 10)
    present = clip_kernels({**start.variables, "quant": {}})
    for kind, network, variables in (
        ("present", clipping, present),
        ("binary", program.network, start.variables),
    ):
        logits, _ = network.apply(variables, inputs, False)
        correct = np.asarray(logits[0]).argmax(1) == test.labels[: probe.IMAGES]
        np.testing.assert_allclose(shown[kind], correct.mean(), atol=0.01)
    assert abs(shown["present"] - shown["binary"]) > 0.05


def clip_kernels(variables):
    params = dict(variables["params"])
    for path in LAYERS:
        block, layer = path.split("/")
        kernel = jnp.clip(params[block][layer]["kernel"], -1, 1)
        params[block] = {**params[block], layer: {"kernel": kernel}}
    return {**variables, "params": params}


def test_an_estimator_is_evaluated_as_it_is_trained():
    _, program, _, _ = trained(STE())
    assert probe.as_trained(program.network) == program.network
    _, program, _, _ = trained(StoMPP())
    assert probe.as_trained(program.network) != program.network


def test_a_float_network_has_nothing_to_look_into():
    assert probe.sign_layers(build.network(_BASE, 10)) == ()


def test_a_file_cut_short_and_continued_is_read(tmp_path):
    path = tmp_path / "looks.jsonl"
    lines = [
        {"windows": {"a": [0, 5]}},
        {"step": 0, "binary": 0.1},
        {"step": 5, "binary": 0.2},
        {"windows": {"a": [0, 5]}},
        {"step": 5, "binary": 0.3},
        {"step": 9, "binary": 0.4},
    ]
    text = "\n".join(map(json.dumps, lines[:3])) + '\n{"step": 9, "bi\n'
    path.write_text(text + "\n".join(map(json.dumps, lines[3:])))
    assert probe.read_looks(path) == {
        "windows": {"a": [0, 5]},
        "looks": [lines[1], lines[4], lines[5]],
    }


def test_after_a_kill_a_look_begins_on_a_line_of_its_own(tmp_path):
    _, program, start, _ = trained(STE())
    path = tmp_path / "looks.jsonl"
    path.write_text('{"windows": {"a": [0, 5]}}\n{"step": 9, "bi')
    probe.Probe(program, start, digits(), path, {"b": (3, 4)})(start)
    found = probe.read_looks(path)
    assert found["windows"] == {"b": [3, 4]}
    assert [one["step"] for one in found["looks"]] == [0]


def test_a_run_keeps_its_looks_and_continues_them(tmp_path):
    base = changed(changed(_BASE, "training.epochs", 2), "training.looks", 2)
    row = binary(base, StoMPP(), StoMPP())
    program = build.program(row, digits())
    options = {"seed": 0, "quiet": True}
    found, evaluation = run.execute(program, row, digits(), tmp_path, **options)
    looks = probe.read_looks(tmp_path / "looks.jsonl")["looks"]
    assert [one["step"] for one in looks] == [0, 6, 11, 17, 22]
    assert not (tmp_path / "firing.npz").exists()
    assert found["mean_rate"] is found["dead"] is found["saturated"] is None
    assert found["cost"]["sparsity"] is None
    assert evaluation.counts == {}
    # What the signs feed is accumulated, the rest multiplied: by hand, of the layers
    # whose input is +-1 and whose kernel has no zero, every product inside the image.
    inside = (3 * 8 - 2) ** 2 * 4 * 4 * 2 + (3 * 4 - 1) ** 2 * 4 * 8
    inside += (3 * 4 - 2) ** 2 * 8 * 8
    shortcut = 4 * 4 * 4 * 8  # 1x1, reads signs too
    assert found["cost"]["acs"] == inside + shortcut
