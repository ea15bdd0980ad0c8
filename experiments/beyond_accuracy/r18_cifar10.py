"""Weights, membranes and both of SEW-ResNet18 on CIFAR-10, quantized.

Paper: *Quantization of Spiking Neural Networks Beyond Accuracy* (arXiv 2604.14487).
Claims under test: accuracy recovers with bits before the firing distribution does; a
wide clip moves the firing of uniformly quantized networks at equal accuracy; LQ-Net
stays near the float network whatever the clip; membranes need about 4 bits, and
unsigned ones beat signed ones at 2; LQ-Net on the membrane is unstable, and what cures
it: the ridge, a basis that is frozen over the timesteps, a slower average.

    jsnnq study experiments/beyond_accuracy/r18_cifar10.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: 200 epochs of SGD with a cosine schedule for the float networks, 30 more at a
tenth of the rate for every other row; the paper's is not known. Neither are its
numbers for this table. Hardware: an accelerator. Cost: 39 rows; not measured
yet. `--smoke` runs it in small.
"""

from experiments.beyond_accuracy import grid
from experiments.beyond_accuracy.claims import CLAIMS as CLAIMS

ROWS = grid.complete("sew_resnet18", "cifar10")

PAPER = {}  # Nothing is known of it.
