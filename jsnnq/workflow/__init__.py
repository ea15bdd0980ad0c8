"""From a network and data to a comparison: what a user calls, one function a room.

`fit` trains, `quantize` gives a network quantizers and calibrates it, `evaluate` says
what it does and costs, `saved` writes it into a folder and reads it back, `export` into
a file. `state` is what passes between them, `freezing` places the windows of StoMPP in
a training, and `specification` has a network's settings as JSON values.
"""
