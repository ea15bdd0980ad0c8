"""StoMPP on CIFAR-10 with a ResNet-18 of a quarter of the width, for two CPU cores.

Paper: StoMPP (arXiv 2601.22660 and 2606.27759). Claims under test: StoMPP without an
estimator beats STE in a fully binary network, StoMPP+STE gains more; of the orders,
forward > global > reverse; with binary weights alone the order does not matter.

    jsnnq study experiments/stompp/reduced_r18.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Reduced: 16 to 128 channels and 3 epochs of all 50,000 images in batches of 50, the
last of them with all masks closed, so each of 16 layers has a window of 125 steps.
Every method makes the same 3,000 steps. Rate, momentum and decay are the papers';
their batch is 256. Hardware: a CPU. Cost: 27 runs, 9 to 17 minutes each
on one core that does nothing else.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=3, batch=50, looks=24)

ROWS = rows(
    network("resnet18", "cifar10", _RECIPE, width=1 / 4),
    bnn=("ste", "stompp", "stompp+ste", "global", "reverse"),
    bwn=("ste", "stompp", "reverse"),
)

# Published for CIFAR-100 at full width (order ablation and learning-rate table). From
# summaries of the paper; the gain is from its abstract.
_OF = "CIFAR-100, full width"
PAPER = {
    "bnn-ste-r18": {
        "accuracy": 0.489,
        "grade": "S",
        "of": _OF,
        "note": "network inferred",
    },
    "bnn-stompp-r18": {
        "accuracy": 0.538,
        "grade": "S",
        "of": _OF,
        "note": "on CIFAR-10 +3.1 on STE, P",
    },
    "bnn-global-r18": {"accuracy": 0.532, "grade": "S", "of": _OF},
    "bnn-reverse-r18": {"accuracy": 0.284, "grade": "S", "of": _OF},
}
