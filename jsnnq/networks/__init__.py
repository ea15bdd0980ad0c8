"""Networks that are given their quantizers: spiking and binary, pure and thin."""
