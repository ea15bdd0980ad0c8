"""StoMPP on the weights of a spiking network: binary weights read by behaviour.

No paper has done this. The weights of a SEW-ResNet8 are binarized progressively, by
the straight-through estimator, and by uniform and LQ-Net quantizers of 1 and 2 bits,
all from scratch under one recipe, and each is read against the floor: the distance in
firing between float networks of different seeds. Rows from the float network's
checkpoint are read against the drift. Claims under test: LQ-Net keeps the firing at
every width; beside it, whether progressive freezing keeps it better than STE.

    jsnnq study experiments/stompp/spiking_digits.py --out OUT --seeds 2 --row-seeds 2

Reduced: scikit-learn's 8x8 digits. Hardware: a CPU. Cost: 28 runs, about a minute each
on two cores.
"""

import dataclasses

from experiments.beyond_accuracy.claims import CLAIMS as CLAIMS
from jsnnq.config import (
    STE,
    Config,
    LQNet,
    NetworkConfig,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
)

_RECIPE = TrainingConfig(
    epochs=20,
    batch=32,
    optimizer="sgd",
    rate=0.3,
    momentum=0.9,
    weight_decay=5e-4,
    looks=6,
)
_FLOAT = Config(
    data="digits",
    network=NetworkConfig(name="sew_resnet8", width=0.25),
    training=_RECIPE,
)
_TUNED = dataclasses.replace(
    _FLOAT,
    start="checkpoint",
    training=dataclasses.replace(_RECIPE, epochs=5, rate=0.03),
)
_QUANTIZERS = {
    "stompp": StoMPP(scaled=True),
    "stompp+ste": StoMPP(scaled=True, surrogate="identity"),
    "ste": STE(scaled=True),
    "lqnet-1bit": LQNet(1),
    "lqnet-2bit": LQNet(2),
    "uniform-2bit": Uniform(2),
}


def _rows(base, suffix):
    return {
        f"weights-{name}{suffix}": dataclasses.replace(base, weights=kernels(one))
        for name, one in _QUANTIZERS.items()
    }


ROWS = {
    "float": _FLOAT,
    "float-finetuned": _TUNED,
    **_rows(_FLOAT, ""),
    **_rows(_TUNED, "-finetuned"),
}

PAPER = {}
