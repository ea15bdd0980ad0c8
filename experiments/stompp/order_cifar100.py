"""The order in which layers are frozen, on CIFAR-100.

Paper: StoMPP (arXiv 2606.27759), order ablation, without estimator. Claims under test:
in fully binary networks the order from input to output works, freezing all layers at
once is worse, more so with depth, and the reverse order collapses, because frozen
activations close the path of the gradient to layers that still have to learn; with
binary weights alone the order does not matter.

    jsnnq study experiments/stompp/order_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers'; their number of epochs is not known, 100 here.
Hardware: an accelerator. Cost: 14 rows of full width; not measured yet. `--smoke` runs
it in small.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=100, looks=2)
_ORDERS = ("stompp", "global", "reverse")

ROWS = {
    name: row
    for depth in (18, 50)
    for name, row in rows(
        network(f"resnet{depth}", "cifar100", _RECIPE), bnn=_ORDERS, bwn=_ORDERS
    ).items()
}

PAPER = {
    "bnn-stompp-r18": {"accuracy": 0.538, "grade": "S"},
    "bnn-global-r18": {"accuracy": 0.532, "grade": "S"},
    "bnn-reverse-r18": {"accuracy": 0.284, "grade": "S"},
    "bnn-stompp-r50": {"accuracy": 0.400, "grade": "S"},
    "bnn-global-r50": {"accuracy": 0.359, "grade": "S"},
    "bnn-reverse-r50": {"accuracy": 0.086, "grade": "S"},
}
