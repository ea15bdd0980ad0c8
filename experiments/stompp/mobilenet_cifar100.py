"""MobileNetV2 with binary 1x1 convolutions, on CIFAR-100.

Paper: StoMPP (arXiv 2606.27759). Claim under test: StoMPP+STE gains 7.5 points over
STE. Which layers the paper makes binary is not known; here the 1x1 convolutions are,
and `depthwise` rows make the 3x3 ones binary too.

    jsnnq study experiments/stompp/mobilenet_cifar100.py --data-dir DATA --out OUT \
        --seeds 3 --row-seeds 3

Recipe: the papers'; their number of epochs is not known, 100 here.
Hardware: an accelerator. Cost: 6 rows of full width; not measured yet. `--smoke` runs
it in small.
"""

import dataclasses

from experiments.stompp.base import METHODS, RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_BASE = network(
    "mobilenetv2", "cifar100", dataclasses.replace(RECIPE, epochs=100, looks=2)
)
_EVERY_KERNEL = r"(layer\d+_\d+|head)/conv\d"
_EVERY_ACTIVATION = r"(layer\d+_\d+|head)/act\d"

ROWS = rows(_BASE, bnn=("ste", "stompp", "stompp+ste")) | {
    f"bnn-{method}-depthwise-mobilenetv2": dataclasses.replace(
        _BASE,
        weights=((_EVERY_KERNEL, METHODS[method].weights),),
        activations=((_EVERY_ACTIVATION, METHODS[method].activations),),
    )
    for method in ("ste", "stompp+ste")
}

PAPER = {
    "bnn-ste-mobilenetv2": {"accuracy": 0.405, "grade": "S"},
    "bnn-stompp+ste-mobilenetv2": {"accuracy": 0.480, "grade": "S"},
}
