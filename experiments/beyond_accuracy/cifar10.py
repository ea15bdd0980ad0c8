"""Beyond accuracy on CIFAR-10, reduced to two CPU cores.

Paper: *Quantization of Spiking Neural Networks Beyond Accuracy* (arXiv 2604.14487).
Claims under test: accuracy recovers with bits before the firing distribution does; a
wide clip moves the firing of uniformly quantized networks at equal accuracy; LQ-Net
stays near the float network whatever the clip; unsigned membranes beat signed ones at
2 bits.

Reduced: SEW-ResNet8 of an eighth of the width (8, 16, 32 channels), all 50,000
training images, 3 epochs for the float networks and 1 for every other row, where the
paper trains SEW-ResNet8 and 18 to convergence.

    jsnnq study experiments/beyond_accuracy/cifar10.py --data-dir DATA --out OUT

Seeds: two float networks (floor) and two fine-tuned controls (drift), one seed for
each quantized row. Cost: about 90 minutes on two CPU cores.
"""

import dataclasses

from jsnnq import default
from jsnnq.config import Config, NetworkConfig, TrainingConfig

_RECIPE = TrainingConfig(
    epochs=3, batch=32, optimizer="sgd", rate=0.3, momentum=0.9, weight_decay=5e-4
)

ROWS = default.rows(
    Config(
        data="cifar10",
        network=NetworkConfig(name="sew_resnet8", width=0.125),
        training=_RECIPE,
    ),
    dataclasses.replace(_RECIPE, epochs=1, rate=0.03),
    bits=(2, 4, 6),
)

# Published for SEW-ResNet18 on CIFAR-100; nothing is known of its CIFAR-10 tables.
# All from summaries of the paper (evidence grade S), accuracy and EMD as fractions.
PAPER = {
    "float": {"accuracy": 0.752, "emd": 0.0},
    "weights-uniform-clip1-6bit": {"accuracy": 0.749, "emd": 0.0077},
    "weights-uniform-clip10-6bit": {"accuracy": 0.737, "emd": 0.0136},
    "weights-lqnet-clip1-6bit": {"accuracy": 0.753, "emd": 0.0073},
    "weights-lqnet-clip10-6bit": {"accuracy": 0.753, "emd": 0.0072},
    "weights-uniform-clip10-2bit": {"accuracy": 0.516, "emd": 0.1206},
    "weights-lqnet-clip10-2bit": {"accuracy": 0.744, "emd": 0.0121},
    "membrane-uniform-unsigned-2bit": {"accuracy": 0.719, "emd": 0.010},
    "membrane-uniform-signed-2bit": {"accuracy": 0.671, "emd": 0.014},
}
