"""What runs a network and keeps what it made, whatever the network is.

`parallel` puts arrays on devices, `cpu` is what a CPU computes in another form, by
minimal filtering in `winograd` or by products of `patches`, `compiling` compiles what
runs once, `programs` keeps what was compiled for the next process, `hugepages` asks
Linux for large pages of memory, `interrupt` makes Ctrl-C patient, `files` writes whole
files or none, `paths` makes paths plain, `checkpoint` keeps states with their digests,
`precision` says in which dtype numbers are kept and added up and how exactly they are
multiplied, `memory` how much fits on a device, and `provenance` which commit made a
result.
"""
