"""What a user would take instead, each on its best path.

SpikingJelly 2.0: SEW-ResNet18 with CIFAR's stem in multi-step mode and channels_last,
on a CPU eager and compiled by torch, on a GPU with TF32. Its stem is run T times on the
same image, as its users run it. snnTorch has no SEW-ResNet; its neurons are timed.
"""

import contextlib
import functools
import importlib.util
import itertools
import sys
import types
from collections.abc import Iterator
from typing import Any

from .timing import Work


def missing(*names: str) -> str | None:
    """Why a peer cannot be timed here, or None."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed (extra: bench)" if absent else None


def spikingjelly_network() -> Any:
    """Its SEW-ResNet18 for CIFAR images, which it has in one width."""
    import torch

    with _without_torchvision():
        from spikingjelly.activation_based import functional, layer, neuron, surrogate
        from spikingjelly.activation_based.model import sew_resnet

    network = sew_resnet.sew_resnet18(
        pretrained=False,
        cnf="ADD",
        spiking_neuron=neuron.LIFNode,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
        num_classes=10,
    )
    network.conv1 = layer.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = torch.nn.Identity()
    functional.set_step_mode(network, "m")
    place = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # as XLA tries its convolutions
    return network.to(place).to(memory_format=torch.channels_last)


def spikingjelly_training(
    batch: int, *, compiled: bool = False, half: str = ""
) -> Work:
    """One training step with SGD and momentum.

    Args:
        batch: images.
        compiled: by torch.
        half: bfloat16 by torch's `autocast`, under which its neurons keep bfloat16
            membranes and leave their fused path, or by its own `policy`.
    """
    network = spikingjelly_network()
    step = _stepping(network, compiled, half)
    images, labels = _batch(network, batch)

    def work():
        step(images, labels)
        _wait()

    return work


def _stepping(network, compiled, half):
    """A step of training on images `T B C H W` and labels."""
    import torch
    from spikingjelly.activation_based import functional

    place = next(network.parameters()).device.type
    under = functools.partial(torch.autocast, place, torch.bfloat16, bool(half))
    if half == "policy":
        from spikingjelly.activation_based import precision

        config = {"mode": "bf16", "neuron_storage": "bf16"}
        prepared = precision.prepare_model_for_precision(network, place, config)
        network = prepared.model
    call = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step(images, labels):
        optimizer.zero_grad()
        with under():
            logits = call(images).mean(0)
            loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        functional.reset_net(network)

    return step


def spikingjelly_epoch(batch: int, count: int, *, compiled: bool = False) -> Work:
    """An epoch over images in memory: shuffled, cast, repeated T times, trained on."""
    import torch

    network = spikingjelly_network()
    step = _stepping(network, compiled, half="")
    place = next(network.parameters()).device
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,))
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(pixels, labels), batch, shuffle=True
    )

    def work():
        for images, classes in loader:
            images = images.to(place).float() / 255
            step(images.unsqueeze(0).repeat(4, 1, 1, 1, 1), classes.to(place))
        _wait()

    return work


def spikingjelly_predicting(batch: int, *, compiled: bool = False) -> Work:
    """The evaluation of one batch, convolutions fused with normalisation."""
    import torch
    from spikingjelly.activation_based import functional
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network = spikingjelly_network().eval()
    for block in list(network.modules()):
        children = list(block.named_children())
        for (one, conv), (other, bn) in itertools.pairwise(children):
            if isinstance(conv, torch.nn.Conv2d) and "BatchNorm" in type(bn).__name__:
                setattr(block, one, fuse_conv_bn_eval(conv, bn))
                setattr(block, other, torch.nn.Identity())
    images, labels = _batch(network, batch)
    call = torch.compile(network) if compiled else network

    def work():
        with torch.no_grad():
            (call(images).mean(0).argmax(1) == labels).sum().item()
        functional.reset_net(network)

    return work


def spikingjelly_neurons(shape: tuple[int, ...]) -> Work:
    """A layer of LIF neurons, forward and backward."""
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate

    layer = neuron.LIFNode(
        surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    )
    currents = torch.rand(shape, requires_grad=True)

    def work():
        currents.grad = None
        layer(currents).sum().backward()
        functional.reset_net(layer)

    return work


def snntorch_neurons(shape: tuple[int, ...]) -> Work:
    """The same with snnTorch's Leaky, step by step as its users write it."""
    import snntorch
    import torch

    layer = snntorch.Leaky(beta=0.5, spike_grad=snntorch.surrogate.atan())
    currents = torch.rand(shape, requires_grad=True)

    def work():
        currents.grad = None
        membrane, total = layer.init_leaky(), 0
        for current in currents:
            spikes, membrane = layer(current, membrane)
            total = total + spikes.sum()
        total.backward()

    return work


def _batch(network, batch):
    import torch

    place = next(network.parameters()).device
    images = torch.rand(4, batch, 3, 32, 32, device=place)
    return images, torch.randint(0, 10, (batch,), device=place)


def _wait():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """SpikingJelly takes one download function from torchvision, unused here."""
    names = ("torchvision", "torchvision.models", "torchvision.models.utils")
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].load_state_dict_from_url = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        # Others look whether torchvision is there, and must not find this.
        for name in names:
            del sys.modules[name]
