"""StoMPP against the straight-through estimator on CIFAR-100, by depth.

Paper: StoMPP (arXiv 2601.22660 and 2606.27759), main table. Claims under test:
StoMPP without an estimator beats STE in fully binary networks (ResNet-18 +4.7 points,
ResNet-50 +13.5), and StoMPP+STE gains most.

    jsnnq study experiments/stompp/methods_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers' (SGD 0.9, constant rate 0.1, no decay, batch 256). Their number of
epochs is not known; 100 here. A summary has the estimator's gradient as the identity;
here that of activations is the clipped identity, and `ste-identity` is the other
reading. Hardware: an accelerator. Cost: 21 rows of full width; not measured yet.
`--smoke` runs it in small.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=100, looks=2)

ROWS = {
    name: row
    for depth in (18, 34, 50)
    for name, row in rows(
        network(f"resnet{depth}", "cifar100", _RECIPE),
        bnn=("ste", "ste-identity", "stompp", "stompp+ste"),
        bwn=("ste", "stompp"),
    ).items()
}

# Summaries of the successor paper; that of ResNet-18 is the order ablation's value.
PAPER = {
    "bnn-stompp-r18": {
        "accuracy": 0.538,
        "grade": "S",
        "gain": 0.047,
        "gain_grade": "P",
    },
    "bnn-ste-r50": {"accuracy": 0.267, "grade": "S"},
    "bnn-stompp-r50": {
        "accuracy": 0.402,
        "grade": "S",
        "gain": 0.135,
        "gain_grade": "P",
    },
    "bnn-stompp+ste-r50": {
        "accuracy": 0.465,
        "grade": "S",
        "gain": 0.198,
        "gain_grade": "P",
    },
    "bwn-stompp-r50": {"accuracy": 0.695, "grade": "P"},
}
