#!/usr/bin/env bash
# The papers' tables in the order of what they say most about, within a time.
#
#   experiments/launch/tables.sh DATA OUT 9m
#
# One accelerator, seed by seed: the full-precision SEW-ResNet18 on CIFAR-100, its
# weights quantized to 2 and 6 bits, its membranes to 2, then StoMPP's ResNet-18 and 50
# on CIFAR-10 and the order ablation, then the next seed, then the rest of these and
# every other table on CIFAR. Typed again, on this machine or where OUT was carried to,
# it goes on where it stopped; status 75 says that rows are left. The time is that of
# `jsnnq study --budget`. ImageNet's tables are started by themselves, with gpu.sh.
set -euo pipefail

if (($# != 3)); then
    echo "usage: tables.sh DATA OUT TIME, for example: tables.sh data out 9m" >&2
    exit 2
fi
data=$1 out=$2
seconds=$(python -c 'import sys
from jsnnq.study.budget import seconds
from jsnnq.errors import InputError
try:
    print(round(seconds(sys.argv[1])))
except InputError as error:
    sys.exit(f"tables.sh: {error}")' "$3") || exit 2
end=$(($(date +%s) + seconds))
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=$here/..
beyond=$all/beyond_accuracy/r18_cifar100.py
methods=$all/stompp/methods_cifar10.py
orders=$all/stompp/order_cifar100.py
worst=0

run() { # experiment, seeds, rows
    local left=$((end - $(date +%s))) status=0
    local done="$out/done-$(basename "$1" .py)-$2-$(printf %s "$3" | cksum | cut -d' ' -f1)"
    # A part that is done costs nothing the next time.
    [[ -e $done ]] && return
    # A row that needs more is begun where the whole time is at hand.
    ((left > 30 && left > seconds / 4)) || exit 75
    "${LAUNCH:-$here/gpu.sh}" "$1" --data-dir "$data" --out "$out/$(basename "$1" .py)" \
        --seeds "$2" --row-seeds "$2" --rows "$3" --keep float --budget "${left}s" \
        --quiet || status=$?
    case $status in
        0) mkdir -p "$out" && touch "$done" ;;
        1 | 75) # rows diverged, or there was no time for them: others may go on
            ((status > worst)) && worst=$status || true ;;
        *) exit "$status" ;;
    esac
}

for seeds in 1 2 3; do
    run "$beyond" $seeds 'float(-finetuned)?'
    run "$beyond" $seeds 'weights-(uniform|lqnet)-clip(1|10)-(2|6)bit'
    run "$beyond" $seeds 'membrane-uniform-(signed|unsigned)-2bit'
    run "$methods" $seeds 'bnn-(ste|stompp|stompp\+ste)-r(18|50)'
    run "$orders" $seeds '.*'
done
run "$beyond" 3 '.*'
run "$methods" 3 '.*'
for rest in beyond_accuracy/{r18_cifar10,r8_cifar10,r8_cifar100} \
    stompp/{methods,rate,masks,mobilenet}_cifar100; do
    run "$all/$rest.py" 3 '.*'
done
exit $worst
