"""When each layer of a binary network is frozen (StoMPP): windows over a training."""

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import TypeVar

from jsnnq.errors import InputError
from jsnnq.networks.network import Layers, Network
from jsnnq.networks.rules import Rules
from jsnnq.quantizers import StoMPP
from jsnnq.quantizers.stompp import bernoulli_lag, windows

Window = tuple[int, int]
"""First step and number of steps in which a layer is frozen."""

Net = TypeVar("Net", bound=Network)

_FREEZES = ("weights", "activations")


def scheduled(
    net: Net, layers: Layers, epochs: int, steps_per_epoch: int | None
) -> Net:
    """The network with a window for every layer that StoMPP freezes.

    Args:
        net, layers, epochs, steps_per_epoch: of `freezing`, which also says what is
            refused.
    """
    found = freezing(net, layers, epochs, steps_per_epoch)
    placed = {}
    for place in _FREEZES:
        rules = getattr(net, place)
        # Each of these layers has a window of its own, and so a rule.
        own = tuple(
            (re.escape(path), dataclasses.replace(one, window=_of(found, path)))
            for path in layers[place]
            if isinstance(one := rules(path), StoMPP)
        )
        placed[place] = Rules((*own, *rules.rules))
    return net.with_rules(placed)


def freezing(
    net: Network, layers: Layers, epochs: int, steps_per_epoch: int | None
) -> dict[str, Window]:
    """When each layer of a network is frozen: its window under the kernel's path.

    A kernel and the activation it reads are one layer and share a window: the one that
    is given, or a part of the training's steps less warm-up and tail.

    Args:
        net: without StoMPP among its rules nothing is frozen.
        layers: the network's layers.
        epochs: of the training.
        steps_per_epoch: of the training; without it, windows are of one step and mean
            nothing.

    Raises:
        InputError: the order is no order of these layers, or too few steps are left.
    """
    by_kernel = {}
    for place in _FREEZES:
        for path in layers[place]:
            if isinstance(one := getattr(net, place)(path), StoMPP):
                # Masks differ between the two places, windows do not.
                by_kernel[kernel_of(path)] = dataclasses.replace(one, masks=None)
    frozen = [path for path in layers["weights"] if path in by_kernel]
    if steps_per_epoch is None:
        return {path: by_kernel[path].window or (0, 1) for path in frozen}
    placed = {
        one: _placed(one, len(frozen), epochs * steps_per_epoch, steps_per_epoch)
        for one in set(by_kernel.values())
        if one.window is None
    }
    return {
        path: by_kernel[path].window or placed[by_kernel[path]][k]
        for k, path in enumerate(frozen)
    }


def _of(found: Mapping[str, Window], path: str) -> Window:
    # What no kernel of a block reads closes with nothing, and so at once.
    return found.get(kernel_of(path), (0, 1))


def kernel_of(path: str) -> str:
    """The kernel that reads an activation; a kernel's path stays as it is."""
    return re.sub(r"/act(\d)$", r"/conv\1", path)


def _placed(one: StoMPP, layers: int, steps: int, steps_per_epoch: int) -> list[Window]:
    """The windows of all layers between warm-up and tail."""
    warmup = round(one.warmup * steps_per_epoch)
    if one.tail is None:
        tail = max(-(-steps // 20), steps_per_epoch)
    else:
        tail = round(one.tail * steps_per_epoch)
    left = steps - warmup - tail
    if left < 1:
        raise InputError(
            f"{steps} steps of training leave none for freezing beside {warmup} of "
            f"warm-up and {tail} of tail: train for more epochs, or set a shorter tail"
        )
    found = windows(left, layers, one.order)
    shortest = min(length for _, length in found)
    if one.law == "bernoulli" and one.refresh > shortest / 10:
        lag = bernoulli_lag(one.schedule, one.refresh, shortest)
        warnings.warn(
            f"bernoulli masks lag: with refresh {one.refresh} and windows of "
            f"{shortest} steps {100 * lag:.0f} % are expected to be open still when a "
            "window ends, and are frozen at once; use a smaller refresh, more steps, "
            "or the law 'soft'",
            stacklevel=2,
        )
    return [(warmup + start, length) for start, length in found]
