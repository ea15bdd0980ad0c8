"""Learning rates, and the optimizer every guide to binary networks recommends.

Paper: StoMPP (arXiv 2606.27759), learning-rate table; the model is not named, the
values match ResNet-18 on CIFAR-100. Claims under test: StoMPP stays ahead of STE at
half the rate. Beyond the paper: Adam with a cosine schedule, for both.

    jsnnq study experiments/stompp/rate_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers' apart from the rate; their number of epochs is not known, 100 here.
Hardware: an accelerator. Cost: 9 rows of full width; not measured yet. `--smoke` runs
it in small.
"""

import dataclasses

from experiments.stompp.base import METHODS, RECIPE, binary, network
from experiments.stompp.claims import CLAIMS as CLAIMS

_SGD = dataclasses.replace(RECIPE, epochs=100)
_RECIPES = {
    "lr0.1": _SGD,
    "lr0.05": dataclasses.replace(_SGD, rate=0.05),
    "adam": dataclasses.replace(_SGD, optimizer="adam", rate=0.001, schedule="cosine"),
}

ROWS = {
    f"bnn-{method}-{name}-r18": binary(
        network("resnet18", "cifar100", recipe), *METHODS[method]
    )
    for name, recipe in _RECIPES.items()
    for method in ("ste", "stompp", "stompp+ste")
}

PAPER = {
    f"bnn-{name}-r18": {"accuracy": accuracy, "grade": "S", "note": "network inferred"}
    for name, accuracy in {
        "ste-lr0.1": 0.489,
        "ste-lr0.05": 0.468,
        "stompp-lr0.1": 0.538,
        "stompp-lr0.05": 0.542,
    }.items()
}
