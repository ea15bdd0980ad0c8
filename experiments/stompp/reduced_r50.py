"""StoMPP on CIFAR-10 with a ResNet-50 of an eighth of the width, for two CPU cores.

Paper: StoMPP (arXiv 2601.22660 and 2606.27759). Claim under test: the gain over the
straight-through estimator grows with depth; compare `reduced_r18.py`.

    jsnnq study experiments/stompp/reduced_r50.py --data-dir DATA --out OUT \
        --seeds 2 --row-seeds 2

Reduced: 8 to 64 channels (times 4 behind each bottleneck) and 6 epochs of all 50,000
images in batches of 50, the last of them with all masks closed, so each of 48 layers
has a window of 104 steps. Every method makes the same 6,000 steps. Rate, momentum and
decay are the papers'; their batch is 256. Hardware: a CPU. Cost: 8 runs, 22 to 34
minutes each on one core that does nothing else.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=6, batch=50, looks=24)

ROWS = rows(
    network("resnet50", "cifar10", _RECIPE, width=1 / 8),
    bnn=("ste", "stompp", "stompp+ste"),
)

# Full width. From summaries of the paper; the gains are from its abstract.
_OF = "full width"
PAPER = {
    "bnn-ste-r50": {"accuracy": 0.515, "grade": "S", "of": _OF},
    "bnn-stompp-r50": {
        "accuracy": 0.695,
        "gain": 0.180,
        "grade": "S",
        "gain_grade": "P",
        "of": _OF,
    },
    "bnn-stompp+ste-r50": {
        "accuracy": 0.786,
        "gain": 0.271,
        "grade": "S",
        "gain_grade": "P",
        "of": _OF,
    },
}
