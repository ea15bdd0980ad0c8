"""Networks that are given their quantizers: spiking and binary, pure and thin.

`timesteps` has the axis of time, `surrogate` the spike and its pretended derivatives,
`neurons` the only scan over timesteps, `convolve` the convolution, `integers` kernels
of whole numbers and exact products with them, `normalisation` that of the batch and
what becomes one with it, `rules` which layer gets which quantizer, `layers` the Flax
modules, `network` what a network promises, `resnet` the units and
blocks that `sew` (spiking) and `bnn` (without spikes) share, `readout` what is made of
logits, and `quantize` how a network's quantizers start.

Your own network is built from the names below; `jsnnq.networks.network` says how.
"""

from jsnnq.networks.layers import Activation as Activation
from jsnnq.networks.layers import QuantConv as QuantConv
from jsnnq.networks.layers import QuantDense as QuantDense
from jsnnq.networks.layers import Spiking as Spiking
from jsnnq.networks.network import Network as Network
from jsnnq.networks.network import Seen as Seen
from jsnnq.networks.network import Synapse as Synapse
from jsnnq.networks.normalisation import BatchNorm as BatchNorm
from jsnnq.networks.rules import Rules as Rules
from jsnnq.networks.timesteps import fold as fold
from jsnnq.networks.timesteps import over_time as over_time
