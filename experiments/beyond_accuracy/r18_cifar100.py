"""Weights, membranes and both of SEW-ResNet18 on CIFAR-100, quantized.

Paper: *Quantization of Spiking Neural Networks Beyond Accuracy* (arXiv 2604.14487).
Claims under test: accuracy recovers with bits before the firing distribution does; a
wide clip moves the firing of uniformly quantized networks at equal accuracy; LQ-Net
stays near the float network whatever the clip; membranes need about 4 bits, and
unsigned ones beat signed ones at 2; LQ-Net on the membrane is unstable, and what cures
it: the ridge, a basis that is frozen over the timesteps, a slower average.

    jsnnq study experiments/beyond_accuracy/r18_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: 200 epochs of SGD with a cosine schedule for the float networks, 30 more at a
tenth of the rate for every other row; the paper's is not known. Its numbers are, for
some rows of this table. Hardware: an accelerator. Cost: 39 rows; not measured
yet. `--smoke` runs it in small.
"""

from experiments.beyond_accuracy import grid
from experiments.beyond_accuracy.claims import CLAIMS as CLAIMS

ROWS = grid.complete("sew_resnet18", "cifar100")

# From summaries of the paper.
PAPER = {
    name: {"accuracy": accuracy, "emd": emd, "grade": "S"}
    | ({"dead": dead} if dead else {})
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
