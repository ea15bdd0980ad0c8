"""Schedules, refresh and mask laws on CIFAR-10, ResNet-18 of a quarter of the width.

Paper: StoMPP (arXiv 2606.27759), ablations; numbers are not known. Claim under test:
results are flat over schedules and over refresh from 10 to 1000; compare
`bnn-stompp-r18` of `reduced_r18.py`, which has the cubic schedule and a refresh of 100.
Beyond the paper: another law by which masks are drawn, and masks for each image.

    jsnnq study experiments/stompp/reduced_masks.py --data-dir DATA --out OUT \
        --seeds 2 --row-seeds 2

Reduced: as `reduced_r18.py`, 3 epochs of all 50,000 images in batches of 50, windows
of 125 steps. Hardware: a CPU. Cost: 14 runs, 9 to 17 minutes each on one core.
"""

import dataclasses

from experiments.stompp.base import RECIPE, binary, network
from experiments.stompp.claims import CLAIMS as CLAIMS
from jsnnq.config import StoMPP

_BASE = network(
    "resnet18", "cifar10", dataclasses.replace(RECIPE, epochs=3, batch=50), width=1 / 4
)

_VARIANTS = {
    **{s: StoMPP(schedule=s) for s in ("linear", "cosine", "flipped")},
    **{f"refresh{r}": StoMPP(refresh=r) for r in (10, 1000)},
    "fixed": StoMPP(law="fixed"),
    "samples": StoMPP(masks="sample"),
}

ROWS = {
    f"bnn-stompp-{name}-r18": binary(_BASE, variant, variant)
    for name, variant in _VARIANTS.items()
}

PAPER = {}  # That results are flat is known, and no number.
