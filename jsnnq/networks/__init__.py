"""Networks that are given their quantizers: spiking and binary, pure and thin.

`surrogate` has the spike and its pretended derivatives, `neurons` the only scan over
timesteps, `convolve` the convolution, `layers` the Flax modules, `network` what a
network promises, `resnet` the units and
blocks that `sew` (spiking) and `bnn` (without spikes) share, `readout` what is made of
logits, and `quantize` how a network's quantizers start.

Your own network is built from the names below; `jsnnq.networks.network` says how.
"""

from jsnnq.networks.layers import Activation as Activation
from jsnnq.networks.layers import BatchNorm as BatchNorm
from jsnnq.networks.layers import QuantConv as QuantConv
from jsnnq.networks.layers import QuantDense as QuantDense
from jsnnq.networks.layers import Rules as Rules
from jsnnq.networks.layers import Spiking as Spiking
from jsnnq.networks.layers import fold as fold
from jsnnq.networks.layers import over_time as over_time
from jsnnq.networks.network import Network as Network
from jsnnq.networks.network import Seen as Seen
from jsnnq.networks.network import Synapse as Synapse
