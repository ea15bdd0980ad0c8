"""Weights, membranes and both of SEW-ResNet8 on CIFAR-10, quantized.

Paper: *Quantization of Spiking Neural Networks Beyond Accuracy* (arXiv 2604.14487).
Claims under test: accuracy recovers with bits before the firing distribution does; a
wide clip moves the firing of uniformly quantized networks at equal accuracy; LQ-Net
stays near the float network whatever the clip; membranes need about 4 bits, and
unsigned ones beat signed ones at 2.

    jsnnq study experiments/beyond_accuracy/r8_cifar10.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: 200 epochs of SGD with a cosine schedule for the float networks, 30 more at a
tenth of the rate for every other row; the paper's is not known. Neither are its
numbers for this table. Hardware: an accelerator. Cost: 34 rows; not measured
yet. `--smoke` runs it in small.
"""

import dataclasses

from jsnnq import default
from jsnnq.config import Config, NetworkConfig, TrainingConfig

_RECIPE = TrainingConfig(
    epochs=200, batch=128, optimizer="sgd", rate=0.1, momentum=0.9, weight_decay=5e-4
)

ROWS = default.rows(
    Config(
        data="cifar10",
        network=NetworkConfig(name="sew_resnet8", dtype="bfloat16"),
        training=_RECIPE,
    ),
    dataclasses.replace(_RECIPE, epochs=30, rate=0.01),
    bits=(2, 4, 6, 8),
    lqnet_membranes=(2, 4, 6, 8),
    both=(2, 4),
    both_lqnet=(2, 4),
)
