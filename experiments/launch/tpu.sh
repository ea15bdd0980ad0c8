#!/usr/bin/env bash
# Starts an experiment on the chips of a TPU VM: a slice of one host (v4-8, v5e-8, ...).
#
#   pip install '.[tpu]'
#   experiments/launch/tpu.sh experiments/beyond_accuracy/r18_cifar100.py \
#       --data-dir DATA --out OUT [any option of 'jsnnq study']
#
# All chips share each batch; `--devices N` takes the first N. Stopped by Ctrl-C, a
# budget or preemption, the same command goes on: put OUT on a disk that stays.
#
# On a slice of several hosts start it on every host, each with an OUT and rows of its
# own; every host then uses its own chips, and one report joins the folders:
#
#   gcloud compute tpus tpu-vm ssh NAME --worker=0 --command "... --rows 'weights-.*' --out A"
#   gcloud compute tpus tpu-vm ssh NAME --worker=1 --command "... --rows 'membrane-.*' --out B"
#   jsnnq report A B --out BOTH
set -euo pipefail

# Programs are compiled once for all starts on this machine.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-${HOME:-/tmp}/.cache/jsnnq/xla}"
# Without this JAX falls back to the CPU where it cannot use the chips.
export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu}"
if [[ "$JAX_PLATFORMS" == tpu ]]; then
    # The chips of this host alone: JAX would wait for the other hosts of the slice.
    export TPU_PROCESS_BOUNDS="${TPU_PROCESS_BOUNDS:-1,1,1}"
fi

if ! devices=$(python -c 'import jax; print(*jax.devices())' 2>/dev/null); then
    echo "tpu.sh: JAX finds no TPU here: install '.[tpu]' into the Python on PATH;" \
        "python -c 'import jax; jax.devices()' says more" >&2
    exit 2
fi
echo "$devices" >&2
exec python -m jsnnq.cli study "$@"
