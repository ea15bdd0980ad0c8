"""One file per table of a paper: docstring, ROWS, PAPER."""
