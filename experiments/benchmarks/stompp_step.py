"""What a step of StoMPP costs beside one of STE and of full precision.

ResNet-18 at full width, weights and activations binary, on random images of CIFAR's
size: the time of a training step, without data or report. StoMPP is timed where it
works, in the middle of a layer's window, for the first, a middle and the last layer.

    python experiments/benchmarks/stompp_step.py --batch 32 --rounds 9 > OUT.json

Rounds are interleaved: every round takes one block of steps of each program in turn, in
an order that rotates, and what is quoted is the median over rounds of the ratio within
a round, with its quartiles. Cost: about ten minutes on two CPU cores at batch 32.
"""

import argparse
import dataclasses
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from experiments.stompp.base import METHODS, RECIPE, binary, network
from jsnnq.data import batches
from jsnnq.networks import quantize
from jsnnq.quantizers.stompp import Freezing
from jsnnq.runtime import hugepages
from jsnnq.study import build
from jsnnq.training.step import Program, TrainState, jitted, start
from jsnnq.workflow.state import initial_variables

_CIFAR = (32, 32, 3)
_STEPS_PER_EPOCH = 390


def programs(width: float) -> dict[str, tuple[Program, TrainState]]:
    """What is timed: a program, and the state it is timed at."""
    base = network(
        "resnet18", "cifar10", dataclasses.replace(RECIPE, epochs=100), width
    )
    found = {"float": _begun(base, None)}
    found["ste"] = _begun(binary(base, *METHODS["ste"]), None)
    for name, layer in {"first": 0, "middle": 8, "last": 15}.items():
        found[f"stompp-{name}"] = _begun(binary(base, *METHODS["stompp"]), layer)
    return found


def _begun(config, layer):
    net = build.network(config, 10, _STEPS_PER_EPOCH)
    bare = net.bare
    variables = initial_variables(bare, jax.random.key(0), _CIFAR)
    if config.kind == "quantized":
        images = jnp.zeros((1, *_CIFAR))
        variables = quantize.quantize(net, variables, jax.random.key(1), images)
    program = Program(
        network=net,
        optimizer=build.optimizer(config.training, _STEPS_PER_EPOCH),
        batch=1,
        preprocessing=batches.Preprocessing((0.5,) * 3, (0.25,) * 3, 255.0),
    )
    state = start(program, variables)
    return program, state if layer is None else _at_window(config, net, state, layer)


def _at_window(config, net, state, layer):
    """The state with every mask in the middle of this layer's window."""
    windows = list(build.freezing(config, net, _STEPS_PER_EPOCH).values())
    first, length = windows[layer]
    step = jnp.int32(first + length // 2)

    def move(one):
        return one._replace(step=step) if isinstance(one, Freezing) else one

    quant = jax.tree.map(move, state.quant, is_leaf=lambda x: isinstance(x, Freezing))
    return state._replace(quant=quant)


def measure(width: float, batch: int, rounds: int, steps: int) -> dict[str, Any]:
    """Times all programs, interleaved."""
    key = jax.random.key(2)
    images = jax.random.randint(key, (batch, *_CIFAR), 0, 256).astype(jnp.uint8)
    labels = jax.random.randint(key, (batch,), 0, 10)
    timed, memory, compile_s = {}, {}, {}
    for name, (program, state) in programs(width).items():
        began = time.perf_counter()
        compiled = (
            jitted(program).train_step.lower(state, images, labels, key).compile()
        )
        compile_s[name] = time.perf_counter() - began
        memory[name] = _bytes(compiled, state)

        def block(compiled=compiled, state=state):
            began = time.perf_counter()
            for _ in range(steps):
                # The same state each time: a window must not end while it is timed.
                _, numbers = compiled(state, images, labels, key)
                numbers["loss"].block_until_ready()
            return (time.perf_counter() - began) / steps

        block()
        timed[name] = block
    names, seconds = list(timed), {name: [] for name in timed}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(timed[name]())
    return {
        "batch": batch,
        "width": width,
        "rounds": rounds,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "step_ms": {n: 1000 * statistics.median(t) for n, t in seconds.items()},
        "compile_s": compile_s,
        "over_ste": {n: _ratio(t, seconds["ste"]) for n, t in seconds.items()},
        "over_float": {n: _ratio(t, seconds["float"]) for n, t in seconds.items()},
        "memory_bytes": memory,
    }


def _ratio(times, base):
    ratios = [one / other for one, other in zip(times, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": middle, "quartiles": [low, high]}


def _bytes(compiled, state):
    """What the step keeps between steps for its quantizers, and needs while it runs."""
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(state.quant))
    found = compiled.memory_analysis()
    return {"quantizers": kept, "temporary": getattr(found, "temp_size_in_bytes", None)}


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="images in a step")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies channels")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=2, help="steps in a block")
    options = parser.parse_args()
    found = measure(options.width, options.batch, options.rounds, options.steps)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    hugepages.begin_again()
    main()
