"""The default study is the one that was agreed on, row by row."""

import dataclasses

from jsnnq.config import (
    ALL_NEURONS,
    HIDDEN_KERNELS,
    Config,
    LQNet,
    NetworkConfig,
    NeuronConfig,
    TrainingConfig,
    Uniform,
)
from jsnnq.study import default
from jsnnq.study.experiment import check_rows

BASE = Config(
    data="digits",
    network=NetworkConfig(name="sew_resnet8", width=0.25, timesteps=4),
    training=default.ROWS["float"].training,
)


def weights(quantizer):
    return {"weights": ((HIDDEN_KERNELS, quantizer),)}


def membranes(quantizer):
    return {"membranes": ((ALL_NEURONS, quantizer),)}


EXPECTED = {
    "weights-uniform-clip1-2bit": weights(Uniform(2, clip=1.0, grid="even")),
    "weights-uniform-clip1-4bit": weights(Uniform(4, clip=1.0, grid="even")),
    "weights-uniform-clip10-2bit": weights(Uniform(2, clip=10.0, grid="even")),
    "weights-uniform-clip10-4bit": weights(Uniform(4, clip=10.0, grid="even")),
    "weights-lqnet-clip1-2bit": weights(LQNet(2, clip=1.0, padded=4)),
    "weights-lqnet-clip1-4bit": weights(LQNet(4, clip=1.0, padded=4)),
    "weights-lqnet-clip10-2bit": weights(LQNet(2, clip=10.0, padded=4)),
    "weights-lqnet-clip10-4bit": weights(LQNet(4, clip=10.0, padded=4)),
    "membrane-uniform-signed-2bit": membranes(Uniform(2, grid="symmetric")),
    "membrane-uniform-signed-4bit": membranes(Uniform(4, grid="symmetric")),
    "membrane-uniform-unsigned-2bit": membranes(Uniform(2, grid="unsigned")),
    "membrane-uniform-unsigned-4bit": membranes(Uniform(4, grid="unsigned")),
    "membrane-lqnet-2bit": membranes(LQNet(2, clip=1.0)),
    "both-uniform-2bit": {
        **weights(Uniform(2)),
        **membranes(Uniform(2, grid="unsigned")),
    },
}


def test_the_rows_are_those_of_the_study():
    names = ["float", "float-finetuned", *EXPECTED]
    assert list(default.ROWS) == names
    tuning = default.ROWS["float-finetuned"].training
    tuned = dataclasses.replace(BASE, start="checkpoint", training=tuning)
    assert default.ROWS["float"] == BASE
    assert default.ROWS["float-finetuned"] == tuned
    for name, quantizers in EXPECTED.items():
        assert default.ROWS[name] == dataclasses.replace(tuned, **quantizers), name
    kinds = [row.kind for row in default.ROWS.values()]
    assert kinds == ["float", "control", *["quantized"] * 14]


def test_the_neurons_are_the_default_of_studies():
    """LIF, tau 2, threshold 1, hard reset to 0, T = 4, ATan, ADD."""
    network = default.ROWS["float"].network
    assert network.connect == "add"
    assert network.neuron == NeuronConfig(
        kind="lif",
        tau=2.0,
        v_threshold=1.0,
        v_reset=0.0,
        decay_input=True,
        detach_reset=True,
        surrogate="atan",
        alpha=None,
        placement="stored",
    )


def test_the_grid_grows_with_bits_and_clips():
    tuning = TrainingConfig(epochs=1)
    made = default.rows(BASE, tuning, bits=(2, 4, 6), clips=(0.5, 1.0))
    check_rows(made)
    assert len(made) == 2 + 2 * 2 * 3 + 2 * 3 + 1 + 1
    (_, quantizer), *_ = made["weights-uniform-clip0.5-6bit"].weights
    assert quantizer == Uniform(6, clip=0.5, grid="even")
    assert all(row.data == "digits" for row in made.values())
    epochs = [row.training.epochs for row in made.values()]
    assert epochs == [BASE.training.epochs, *[1] * (len(made) - 1)]
