"""Networks that leave jsnnq: whole numbers for inference, and files of their true size.

`pack` makes the variables of a packed network, `packed` is the file.
"""
