"""Learning rates, and Adam, on CIFAR-10 with a ResNet-18 of a quarter of the width.

Paper: StoMPP (arXiv 2606.27759), learning-rate table. Claim under test: StoMPP stays
ahead of STE at half the rate; compare `reduced_r18.py`, which has the rate of 0.1.
Beyond the paper: Adam with a cosine schedule, which guides to binary networks
recommend.

    jsnnq study experiments/stompp/reduced_rate.py --data-dir DATA --out OUT \
        --seeds 2 --row-seeds 2

Reduced: as `reduced_r18.py`, 3 epochs of all 50,000 images in batches of 50. Hardware:
a CPU. Cost: 12 runs, 11 to 14 minutes each on one core.
"""

import dataclasses

from experiments.stompp.base import METHODS, RECIPE, binary, network
from experiments.stompp.claims import CLAIMS as CLAIMS

_SGD = dataclasses.replace(RECIPE, epochs=3, batch=50)
_RECIPES = {
    "lr0.05": dataclasses.replace(_SGD, rate=0.05),
    "adam": dataclasses.replace(_SGD, optimizer="adam", rate=0.001, schedule="cosine"),
}

ROWS = {
    f"bnn-{method}-{name}-r18": binary(
        network("resnet18", "cifar10", recipe, width=1 / 4), *METHODS[method]
    )
    for name, recipe in _RECIPES.items()
    for method in ("ste", "stompp", "stompp+ste")
}

_OF = "CIFAR-100, full width"
PAPER = {
    f"bnn-{method}-lr0.05-r18": {
        "accuracy": accuracy,
        "grade": "S",
        "of": _OF,
        "note": "network inferred",
    }
    for method, accuracy in {"ste": 0.468, "stompp": 0.542}.items()
}
