"""StoMPP against the straight-through estimator on CIFAR-10, by depth.

Paper: StoMPP (arXiv 2601.22660 and 2606.27759), main table. Claims under test:
StoMPP without an estimator beats STE in fully binary networks, its gain grows with
depth (ResNet-18 +3.1 points, ResNet-50 +18.0), and StoMPP+STE gains most.

    jsnnq study experiments/stompp/methods_cifar10.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers' (SGD 0.9, constant rate 0.1, no decay, batch 256). Their number of
epochs is not known; 100 here. A summary has the estimator's gradient as the identity;
here that of activations is the clipped identity, and `ste-identity` is the other
reading. Hardware: an accelerator; `reduced_r18.py` and `reduced_r50.py` are for two CPU
cores. Cost: 21 rows of full width; not measured yet. `--smoke` runs it in small.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=100, looks=2)
_BNN = ("ste", "ste-identity", "stompp", "stompp+ste")

ROWS = {
    name: row
    for depth in (18, 34, 50)
    for name, row in rows(
        network(f"resnet{depth}", "cifar10", _RECIPE),
        bnn=_BNN,
        bwn=("ste", "stompp"),
    ).items()
}

# Summaries of the successor paper; the gains over STE are from the abstracts.
PAPER = {
    "bnn-stompp-r18": {"gain": 0.031, "grade": "P"},
    "bnn-ste-r50": {"accuracy": 0.515, "grade": "S"},
    "bnn-stompp-r50": {
        "accuracy": 0.695,
        "grade": "S",
        "gain": 0.180,
        "gain_grade": "P",
    },
    "bnn-stompp+ste-r50": {
        "accuracy": 0.786,
        "grade": "S",
        "gain": 0.271,
        "gain_grade": "P",
    },
    "bwn-stompp-r50": {"accuracy": 0.912, "grade": "P"},
}
