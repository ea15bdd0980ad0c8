"""What runs a network and keeps what it made, whatever the network is.

`parallel` puts arrays on devices, `compiling` keeps compiled programs, `hugepages` asks
Linux for large pages of memory, `interrupt` makes Ctrl-C patient, `files` writes whole
files or none, `checkpoint` keeps states with their digests, and `provenance` says which
versions and commit made a result.
"""
