"""Beyond accuracy on CIFAR-10, reduced to two CPU cores.

Paper: *Quantization of Spiking Neural Networks Beyond Accuracy* (arXiv 2604.14487).
Claims under test: accuracy recovers with bits before the firing distribution does; a
wide clip moves the firing of uniformly quantized networks at equal accuracy; LQ-Net
stays near the float network whatever the clip; membranes need about 4 bits, and
unsigned ones beat signed ones at 2; LQ-Net on the membrane is unstable, and what cures
it: the ridge, a basis that is frozen over the timesteps, a slower average.

    jsnnq study experiments/beyond_accuracy/reduced_cifar10.py --data-dir DATA \
        --out OUT --seeds 2 --row-seeds 2

Reduced: SEW-ResNet8 of an eighth of the width (8, 16, 32 channels), all 50,000
training images, 3 epochs for the float networks and 1 for every other row, where the
paper trains SEW-ResNet8 and 18 to convergence. Hardware: a CPU. Cost: 68 runs, five to
ten minutes each on one core by processor, and 12 to 28 for the float networks. The
recipe is that of the default study on digits, with fewer epochs; none was chosen by
these test images.
"""

import dataclasses

from experiments.beyond_accuracy import grid
from experiments.beyond_accuracy.claims import CLAIMS as CLAIMS
from jsnnq.config import Config, NetworkConfig, TrainingConfig
from jsnnq.study import default

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
    lqnet_membranes=(2, 4, 6),
    both=(2, 4, 6),
    both_lqnet=(2, 4, 6),
)

ROWS |= grid.learned_membranes(ROWS["float-finetuned"])

# Nothing is known of the paper's CIFAR-10 tables. From summaries of the paper.
_OF = {"grade": "S", "of": "CIFAR-100, SEW-ResNet18"}
PAPER = {
    name: {"accuracy": accuracy, "emd": emd, **_OF} | ({"dead": dead} if dead else {})
    for name, accuracy, emd, dead in (
        ("float", 0.752, 0.0, 0.66),
        ("weights-uniform-clip1-6bit", 0.749, 0.0077, 0.665),
        ("weights-uniform-clip10-6bit", 0.737, 0.0136, 0.598),
        ("weights-lqnet-clip1-6bit", 0.753, 0.0073, 0.687),
        ("weights-lqnet-clip10-6bit", 0.753, 0.0072, 0.714),
        ("weights-uniform-clip10-2bit", 0.516, 0.1206, None),
        ("weights-lqnet-clip10-2bit", 0.744, 0.0121, None),
        ("membrane-uniform-unsigned-2bit", 0.719, 0.010, None),
        ("membrane-uniform-signed-2bit", 0.671, 0.014, None),
    )
}
