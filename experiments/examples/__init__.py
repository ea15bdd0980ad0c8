"""Five short programs, each of which runs as it stands: `python -m experiments.examples.NAME`."""
