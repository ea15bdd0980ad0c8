"""Weights, membranes and both of SEW-ResNet18 on ImageNet, quantized.

Beyond the paper (arXiv 2604.14487), which stops at CIFAR: does quantization move the
firing of a network on ImageNet as it does on CIFAR? Claims under test: those of the
CIFAR tables.

    jsnnq study experiments/beyond_accuracy/r18_imagenet.py --data-dir DATA --out OUT \
        --seeds 2 --row-seeds 2

Recipe of the float network: SEW-ResNet's (arXiv 2102.04159 and its code): IF neurons,
ATan, reset detached, T = 4, SGD at 0.1 without decay, 256 images, 320 epochs, cosine;
10 more epochs at a tenth of the rate for every other row. Hardware: an accelerator, or
several. Cost: days; not measured yet. Preparing the data needs TensorFlow. `--smoke`
runs it in small.
"""

import dataclasses

from experiments.beyond_accuracy.claims import CLAIMS as CLAIMS
from jsnnq.config import Config, NetworkConfig, NeuronConfig, TrainingConfig
from jsnnq.study import default

_RECIPE = TrainingConfig(epochs=320, batch=256, optimizer="sgd", rate=0.1, momentum=0.9)

ROWS = default.rows(
    Config(
        data="imagenet2012",
        network=NetworkConfig(
            name="sew_resnet18",
            stem="imagenet",
            neuron=NeuronConfig(kind="if"),
            dtype="bfloat16",
        ),
        training=_RECIPE,
    ),
    dataclasses.replace(_RECIPE, epochs=10, rate=0.01),
)

# The last epoch of the released log; the published 63.18 % is the best one.
PAPER = {"float": {"accuracy": 0.6281, "grade": "P", "note": "SEW-ResNet's own log"}}
