"""Programs of tiny networks, compiled for TPUs with every quantizer.

In CI two networks that have all of them; one by one with `-m tpu`.
"""

import dataclasses
import functools
import importlib.util
import os

import jax
import pytest

from experiments.benchmarks import chips, compiled, programs
from experiments.stompp.base import binary
from jsnnq.config import (
    STE,
    BinaryNetworkConfig,
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    SnnTorch,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
    neurons,
)

pytestmark = [
    pytest.mark.tpu,
    # snnTorch's levels have no zero.
    pytest.mark.filterwarnings("ignore:the neurons rest"),
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is not installed (extra: tpu)",
    ),
]

CHIP = chips.CHIPS["v5e"]
# StoMPP needs some steps for every layer.
TRAINING = TrainingConfig(epochs=20, batch=16, weight_decay=5e-4)
SPIKING = NetworkConfig(name="sew_resnet_tiny", dtype="bfloat16")
BINARY = BinaryNetworkConfig(name="resnet_tiny", dtype="bfloat16")


def spiking(**quantizers):
    return Config(network=SPIKING, training=TRAINING, **quantizers)


def signs(*methods, **fields):
    base = Config(network=dataclasses.replace(BINARY, **fields), training=TRAINING)
    return binary(base, *methods) if methods else base


ALL_OF_THEM = {
    "spikes": spiking(
        weights=(
            ("layer1_0/conv1", LQNet(2)),
            ("layer1_0/conv2", Mint(4)),
            ("layer2_0/conv1", Uniform(3, clip=0.1)),
        ),
        membranes=(
            ("sn1", LQNet(2)),
            ("layer1_0/sn1", LQNet(2, follow="timestep")),
            ("layer1_0/sn2", Mint(4, shared=True)),
            ("layer2_0/sn1", SnnTorch(3)),
            ("layer2_0/sn2", Uniform(2, grid="unsigned")),
        ),
    ),
    "signs": signs(
        StoMPP(surrogate="identity"), StoMPP(surrogate="clipped", masks="position")
    ),
}
ONE_BY_ONE = {
    "float": spiking(),
    "uniform weights": spiking(weights=kernels(Uniform(4))),
    "LQ-Net weights": spiking(weights=kernels(LQNet(2))),
    "uniform membranes": spiking(membranes=neurons(Uniform(2, grid="unsigned"))),
    "LQ-Net membranes": spiking(membranes=neurons(LQNet(2))),
    "LQ-Net membranes, each timestep": spiking(
        membranes=neurons(LQNet(2, follow="timestep"))
    ),
    "snnTorch membranes": spiking(membranes=neurons(SnnTorch(4))),
    "MINT": spiking(weights=kernels(Mint(4)), membranes=neurons(Mint(4))),
    "float, no spikes": signs(),
    "StoMPP": signs(StoMPP(), StoMPP()),
    "STE": signs(STE(), STE("clipped")),
    "MobileNetV2": signs(StoMPP(), StoMPP(), name="mobilenetv2", width=0.25),
}


@pytest.fixture(autouse=True)
def as_users_compile(monkeypatch):
    """With all optimizations, and nothing kept of it."""
    for name, value in chips.environment(CHIP).items():
        monkeypatch.setenv(name, value)
    before = {
        "jax_disable_most_optimizations": os.environ.get(
            "JAX_DISABLE_MOST_OPTIMIZATIONS"
        )
        == "1",
        "jax_enable_compilation_cache": jax.config.jax_enable_compilation_cache,
    }
    for name in before:
        jax.config.update(name, False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@functools.cache
def row(config, what, devices):
    """What is read in the program that is compiled."""
    case = programs.Case(config.network.name, what=what, batch=16, devices=devices)
    dataset = programs.images(programs.Stem(8, 10, 64))
    traced = programs.traced(case, chips.devices(CHIP, devices), config, dataset)
    made = traced.lower().compile()
    return compiled.row_of(CHIP, case, made.as_text(), made)


def check(config):
    step, evaluation = ("convolution forward", "convolution gradient of kernel"), ()
    for what, needed in {"step": step, "evaluation": evaluation}.items():
        alone, shared = row(config, what, 1), row(config, what, 4)
        for one in (alone, shared):
            assert {*needed} <= one["kinds"].keys(), one["kinds"]
            assert one["bytes"] > 0
            assert "reason" not in one
        # Each of four devices has a quarter of the images, and all of the weights.
        assert shared["flops"] < alone["flops"]
        assert "between devices" in shared["kinds"]
        assert "between devices" not in alone["kinds"]


@pytest.mark.parametrize("name", ALL_OF_THEM)
def test_all_quantizers_in_one_network(name):
    check(ALL_OF_THEM[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_quantizer(name):
    check(ONE_BY_ONE[name])
