"""StoMPP on digits: every method in a narrow ResNet-18, in minutes.

Paper: StoMPP (arXiv 2601.22660 and 2606.27759); it has no such table. The example to
start from: it needs no data set, and shows the gradient blockade of the reverse order.
Claims under test: StoMPP beats STE and StoMPP+STE gains more; forward > global >
reverse; with binary weights alone the order does not matter.

    jsnnq study experiments/stompp/digits_r18.py --out OUT --seeds 2 --row-seeds 2

Reduced: scikit-learn's 8x8 digits, 8 to 64 channels, 20 epochs of 44 steps. Hardware: a
CPU. Cost: 18 runs, about a minute each on two cores that
do nothing else.
"""

import dataclasses

from experiments.stompp.base import RECIPE, network, rows
from experiments.stompp.claims import CLAIMS as CLAIMS

_RECIPE = dataclasses.replace(RECIPE, epochs=20, batch=32, looks=6)

ROWS = rows(
    network("resnet18", "digits", _RECIPE, width=1 / 8),
    bnn=("ste", "stompp", "stompp+ste", "global", "reverse"),
    bwn=("ste", "stompp", "reverse"),
)

PAPER = {}
