"""Schedules, refresh and mask laws, on CIFAR-100.

Paper: StoMPP (arXiv 2606.27759), ablations; numbers are not known. Claims under test:
results are flat over linear, quadratic, cubic, cosine and flipped quadratic schedules
and over refresh from 10 to 1000; freezing all layers at once is more sensitive to both.
Beyond the paper: the laws by which masks are drawn, which it leaves open, and masks
for each image instead of each position.

    jsnnq study experiments/stompp/masks_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers'; their number of epochs is not known, 100 here.
Hardware: an accelerator. Cost: 18 rows of full width; not measured yet. `--smoke` runs
it in small.
"""

import dataclasses

from experiments.stompp.base import RECIPE, binary, network
from experiments.stompp.claims import CLAIMS as CLAIMS
from jsnnq.config import StoMPP

_BASE = network("resnet18", "cifar100", dataclasses.replace(RECIPE, epochs=100))

_VARIANTS = {
    **{
        f"{order}-{schedule}": StoMPP(order=order, schedule=schedule)
        for order in ("forward", "global")
        for schedule in ("linear", "quadratic", "cubic", "cosine", "flipped")
    },
    **{
        f"{order}-refresh{refresh}": StoMPP(order=order, refresh=refresh)
        for order in ("forward", "global")
        for refresh in (10, 1000)
    },
    **{f"forward-{law}": StoMPP(law=law) for law in ("bernoulli", "full", "fixed")},
    "forward-samples": StoMPP(masks="sample"),
}

ROWS = {
    f"bnn-stompp-{name}-r18": binary(_BASE, variant, variant)
    for name, variant in _VARIANTS.items()
}

# Those of the order ablation, which has the same settings.
PAPER = {
    "bnn-stompp-forward-cubic-r18": {"accuracy": 0.538, "grade": "S"},
    "bnn-stompp-global-cubic-r18": {"accuracy": 0.532, "grade": "S"},
}
