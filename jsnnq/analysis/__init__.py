"""What a network does, and what that costs.

`firing` has spike counts, rates and the shares of dead and saturated neurons, `emd`
the Wasserstein distances between firing distributions, by the equations of
`transport`, `cost` synaptic operations, sparsity, events and bits, `evaluate` a network
over a data set, and `describe` the numbers that say what an evaluated network is.
"""
