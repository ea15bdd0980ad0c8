#!/usr/bin/env bash
# The papers' tables in the order of what they say most about, within a time.
#
#   experiments/launch/tables.sh DATA OUT 9m
#
# One accelerator, seed by seed: the full-precision SEW-ResNet18 on CIFAR-100, its
# weights quantized to 2 and 6 bits, its membranes to 2, then StoMPP's ResNet-18 and 50
# on CIFAR-10 and the order ablation, then the next seed. Typed again, on this machine
# or where OUT was carried to, it goes on where it stopped; status 75 says that rows are
# left. The time is that of `jsnnq study --budget`.
set -euo pipefail

data=$1 out=$2 budget=$3
end=$(($(date +%s) + $(python -c "
import sys
from jsnnq.budget import seconds
print(round(seconds(sys.argv[1])))" "$budget")))
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
beyond=$here/../beyond_accuracy/r18_cifar100.py
methods=$here/../stompp/methods_cifar10.py
orders=$here/../stompp/order_cifar100.py
left=0

run() { # experiment, seeds, rows
    local seconds=$((end - $(date +%s))) status=0
    ((seconds > 10)) || exit 75
    "${LAUNCH:-$here/gpu.sh}" "$1" --data-dir "$data" --out "$out/$(basename "$1" .py)" \
        --seeds "$2" --row-seeds "$2" --rows "$3" --keep float --budget "${seconds}s" \
        --quiet || status=$?
    ((status == 0 || status == 75)) || exit "$status"
    ((status == 0)) || left=75
}

for seeds in 1 2 3; do
    run "$beyond" $seeds 'float(-finetuned)?'
    run "$beyond" $seeds 'weights-(uniform|lqnet)-clip(1|10)-(2|6)bit'
    run "$beyond" $seeds 'membrane-uniform-(signed|unsigned)-2bit'
    run "$methods" $seeds 'bnn-(ste|stompp|stompp\+ste)-r(18|50)'
    run "$orders" $seeds 'bnn-.*-r18'
done
run "$beyond" 3 '.*'
run "$methods" 3 '.*'
run "$orders" 3 '.*'
exit $left
