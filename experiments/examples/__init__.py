"""Five short programs, each run as `python -m experiments.examples.NAME`."""
