"""Networks that are given their quantizers: spiking and binary, pure and thin.

`surrogate` has the spike and its pretended derivatives, `neurons` the only scan over
timesteps, `convolve` the convolution, `layers` the Flax modules, `resnet` the units and
blocks that `sew` (spiking) and `bnn` (without spikes) share, `readout` what is made of
logits, and `quantize` how a network's quantizers start.
"""
