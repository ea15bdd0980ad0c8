#!/usr/bin/env bash
# Starts an experiment on a machine with one or several NVIDIA GPUs.
#
#   pip install '.[cuda]'
#   experiments/launch/gpu.sh experiments/beyond_accuracy/r18_cifar100.py \
#       --data-dir DATA --out OUT [any option of 'jsnnq study']
#
# All GPUs share each batch; `--devices N` takes the first N. Stopped by Ctrl-C, a
# budget or a crash, the same command goes on. To choose GPUs: CUDA_VISIBLE_DEVICES.
set -euo pipefail

# Programs are compiled once for all starts on this machine.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-${HOME:-/tmp}/.cache/jsnnq/xla}"
# Gradients of one layer are combined while the next layer's are computed.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_latency_hiding_scheduler=true"
# Without this JAX falls back to the CPU where it cannot use a GPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"

if ! devices=$(python -c 'import jax; print(*jax.devices())' 2>/dev/null); then
    echo "gpu.sh: JAX finds no NVIDIA GPU here: install '.[cuda]' into the Python on PATH;" \
        "python -c 'import jax; jax.devices()' says more" >&2
    exit 2
fi
echo "$devices" >&2
exec python -m jsnnq.cli study "$@"
