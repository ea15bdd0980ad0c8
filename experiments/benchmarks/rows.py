"""What is compared: training, evaluation, distances, and starting."""

import dataclasses
import functools
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.stompp.base import METHODS, RECIPE, binary, network
from jsnnq.analysis import emd
from jsnnq.config import LQNet, Uniform, kernels, neurons
from jsnnq.data import batches
from jsnnq.networks.neurons import Neuron, unroll
from jsnnq.runtime import parallel
from jsnnq.training.step import jitted

from . import ours, peers
from .timing import WARM, Row, Skipped, Work, compare


class Settings(NamedTuple):
    """How large and how often; `width` below 1 leaves out what peers do not have.

    On a CPU jsnnq is timed with `devices` that share a batch, which is not its default;
    the names of rows say so.
    """

    batches: tuple[int, ...]
    width: float
    rounds: int
    devices: int

    def named(
        self, what: str, *, width: float = 1.0, devices: int | None = None
    ) -> str:
        """The name of a row, with what is not as usual."""
        width, devices = width * self.width, devices or self.devices
        if width != 1:
            what += f", {width:g} x the width"
        return f"{what}, {devices} CPU devices" if _on_cpu() and devices > 1 else what


Rows = Iterator[Row | Skipped]


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def training(settings: Settings) -> Rows:
    """Steps of SEW-ResNet18, T = 4, beside SpikingJelly's."""
    step = "training step, SEW-ResNet18, T = 4, batch {}, {}"
    # On a CPU bfloat16 is emulated, and nobody trains in it; but there one device is
    # what a user gets who asks for nothing.
    halves = ("",) if _on_cpu() else ("", "autocast", "policy")
    shared = dict.fromkeys((1, settings.devices)) if _on_cpu() else (settings.devices,)
    for batch, half, devices in itertools.product(settings.batches, halves, shared):
        dtype = "bfloat16" if half else "float32"
        name = settings.named(step.format(batch, dtype), devices=devices)
        config = ours.spiking(batch, settings.width, dtype=dtype)
        mine = ours.training(config, devices)
        make = functools.partial(peers.spikingjelly_training, batch, half=half)
        yield from _beside_both(settings, name, mine, make, f", {half}" if half else "")


def utilisation(settings: Settings) -> Rows:
    """Operations a second in a training step, beside those of a matrix product."""
    dtype = "float32" if _on_cpu() else "bfloat16"
    batch = settings.batches[-1]
    config = ours.spiking(batch, settings.width, dtype=dtype)
    product, most = ours.product(dtype)
    name = settings.named(f"training step, SEW-ResNet18, batch {batch}, {dtype}")
    mine = ours.training(config, settings.devices)
    found = compare(name, mine, "", product, settings.rounds)
    rates = ours.flops(config) / found.ours / 1e6, most / found.peer / 1e6
    # Twice as many operations in the same time are twice the rate.
    scale = rates[0] / rates[1] / found.ratio
    low, high = found.range
    yield Row(
        name, *rates, "matrix product", "GFLOP/s", scale * found.ratio,
        (scale * low, scale * high),
    )  # fmt: skip


def epochs(settings: Settings) -> Rows:
    """A whole epoch, from images in memory to parameters."""
    batch = settings.batches[len(settings.batches) // 2]
    count = batch * (4 if _on_cpu() else 100)
    config = ours.spiking(batch, settings.width)
    mine = ours.epoch(config, count, settings.devices)
    name = f"epoch of {count:,} images, SEW-ResNet18, T = 4, batch {batch}"
    make = functools.partial(peers.spikingjelly_epoch, batch, count)
    yield from _beside_both(settings, settings.named(name), mine, make)


def evaluation(settings: Settings) -> Rows:
    """Logits of SEW-ResNet18 beside SpikingJelly's, and with the firing counted."""
    for batch in settings.batches:
        config = ours.spiking(batch, settings.width)
        what = f"evaluation, SEW-ResNet18, T = 4, batch {batch}"
        name = settings.named(what)
        mine = ours.predicting(config, settings.devices)
        make = functools.partial(peers.spikingjelly_predicting, batch)
        yield from _beside_both(settings, name, mine, make)
    counted = ours.evaluating(config, settings.devices)
    yield compare(
        settings.named(f"{what}, every neuron counted"),
        counted,
        "jsnnq without counts",
        mine,
        settings.rounds,
    )


def weights(settings: Settings) -> Rows:
    """What LQ-Net's quantized weights add to a full-precision step."""
    return _beside_float(
        settings,
        {
            f"LQ-Net weights, {bits} bits": {"weights": kernels(LQNet(bits))}
            for bits in (2, 4)
        },
    )


def membranes(settings: Settings) -> Rows:
    """What quantized membranes add to a full-precision step."""
    return _beside_float(
        settings,
        {
            "LQ-Net membrane, 2 bits": {"membranes": neurons(LQNet(2))},
            "uniform membrane, 4 bits": {"membranes": neurons(Uniform(4))},
        },
    )


def _beside_float(settings: Settings, rows: dict[str, dict[str, Any]]) -> Rows:
    batch = settings.batches[0]
    plain = ours.training(ours.spiking(batch, settings.width), settings.devices)
    for name, quantizers in rows.items():
        config = ours.spiking(batch, settings.width, **quantizers)
        work = ours.training(config, settings.devices)
        yield compare(
            settings.named(f"training step, SEW-ResNet18, {name}, batch {batch}"),
            work,
            "jsnnq, full precision",
            plain,
            settings.rounds,
        )


def freezing(settings: Settings) -> Rows:
    """Steps of StoMPP beside the straight-through estimator's."""
    batch = settings.batches[0]
    for name in ("resnet18", "resnet50"):
        recipe = dataclasses.replace(RECIPE, batch=batch, epochs=10)
        base = network(name, "synthetic", recipe, settings.width)
        stompp, ste = (
            ours.training(binary(base, *METHODS[key]), settings.devices)
            for key in ("stompp", "ste")
        )
        yield compare(
            settings.named(f"training step, BNN {name}, StoMPP, batch {batch}"),
            stompp,
            "jsnnq, STE",
            ste,
            settings.rounds,
        )


def timesteps(settings: Settings) -> Rows:
    """A step of T timesteps beside T steps of one."""
    batch = max(4, settings.batches[0] // 4)
    one = ours.training(ours.spiking(batch, settings.width, 1), settings.devices)
    for count in (2, 4, 8, 16):
        config = ours.spiking(batch, settings.width, count)
        megabytes = ours.memory(config, settings.devices) / 1e6
        what = (
            f"training step, T = {count}, batch {batch} ({megabytes:.0f} MB a device)"
        )
        yield compare(
            settings.named(what),
            ours.training(config, settings.devices),
            f"jsnnq, {count} steps of T = 1",
            lambda n=count: [one() for _ in range(n)],
            settings.rounds,
        )


def growth(settings: Settings) -> Rows:
    """A step of a run over 50,000 images beside one over 2,000."""
    batch = settings.batches[0]
    config = ours.spiking(batch, settings.width / 4)

    def step(count):
        dataset = ours.images(count)
        program, state = ours.begun(config, settings.devices, dataset)
        data = batches.hold(dataset.train.images, dataset.train.labels)
        order = batches.epoch_order(jax.random.key(0), 0, count)
        arrays = parallel.everywhere((data, order), program.mesh)
        work = jitted(program).next_step
        key = jax.random.key(1)
        return lambda: jax.block_until_ready(work(state, *arrays, key))

    yield compare(
        settings.named(f"step of a run over 50,000 images, batch {batch}", width=1 / 4),
        step(50_000),
        "jsnnq, over 2,000 images",
        step(2_000),
        settings.rounds,
    )


def layers(settings: Settings) -> Rows:
    """A layer of LIF neurons, forward and backward, on the CPU."""
    shape = (4, 32, 64, 32, 32)
    neuron = Neuron(kind="lif", tau=2.0, detach_reset=True)
    currents = jax.random.uniform(jax.random.key(0), shape)
    rest = jnp.zeros(shape[1:])
    work = jax.jit(jax.grad(lambda x: unroll(neuron, x, rest)[0].sum()))
    mine = lambda: work(currents).block_until_ready()
    for name, packages, make in (
        ("SpikingJelly", ("torch", "spikingjelly"), peers.spikingjelly_neurons),
        ("snnTorch", ("torch", "snntorch"), peers.snntorch_neurons),
    ):
        label = "LIF layer, T = 4, 32x64x32x32, forward and backward"
        if why := peers.missing(*packages):
            yield Skipped(f"{label}: {name}", why)
        elif not _on_cpu():
            yield Skipped(f"{label}: {name}", "timed on the CPU only")
        else:
            yield compare(label, mine, name, make(shape), settings.rounds)


def distances(settings: Settings) -> Rows:
    """The EMD of a whole SEW-ResNet18, counts over 10,000 images, beside SciPy's."""
    shapes = [(side, side, 2048 // side) for side in (32, 16, 8, 4) for _ in range(5)]
    total = 40_000

    def counts(seed):
        rng = np.random.default_rng(seed)
        return {
            f"layer {i}": (rng.beta(0.5, 2, shape) * total).astype(np.int32)
            for i, shape in enumerate(shapes)
        }

    a, b = counts(0), counts(1)
    mine = lambda: emd.compare(a, b, a_total=total, b_total=total)
    name = "EMD of SEW-ResNet18, 614,400 neurons in 20 layers"

    def layer_by_layer(distance: Callable) -> Work:
        pairs = [(a[key].ravel() / total, b[key].ravel() / total) for key in a]
        return lambda: [distance(x, y) for x, y in pairs]

    from scipy.stats import wasserstein_distance

    yield compare(
        name, mine, "SciPy", layer_by_layer(wasserstein_distance), settings.rounds
    )
    if why := peers.missing("ot"):
        yield Skipped(f"{name}: POT", why)
    else:
        import ot

        yield compare(
            name, mine, "POT", layer_by_layer(ot.wasserstein_1d), settings.rounds
        )


def first_step(settings: Settings) -> Rows:
    """From starting Python to the end of the first training step, compiled."""
    batch = settings.batches[0]
    here = "from experiments.benchmarks import ours, peers; "
    mine = f"ours.training(ours.spiking({batch}, {settings.width}))()"
    what = f"start to first training step, SEW-ResNet18, batch {batch}"
    name = settings.named(what, devices=1)

    def theirs(*, compiled):
        return _python(
            f"{here}peers.spikingjelly_training({batch}, compiled={compiled})()"
        )

    once = settings._replace(rounds=1)
    yield from _beside_both(once, name, _python(here + mine), theirs, warm=0)


def starting(settings: Settings) -> Rows:
    """Importing jsnnq beside importing what it stands on."""
    yield compare(
        "import of every public name of jsnnq",
        _python("from jsnnq import *"),
        "jax, flax.linen and optax",
        _python("import jax, flax.linen, optax"),
        settings.rounds,
    )


GROUPS: dict[str, Callable[[Settings], Rows]] = {
    one.__name__: one
    for one in (
        training, utilisation, evaluation, weights, membranes, freezing, epochs,
        timesteps, growth, layers, distances, first_step, starting,
    )
}  # fmt: skip


def _beside_both(
    settings: Settings,
    name: str,
    mine: Work,
    make: Callable[..., Work],
    how: str = "",
    warm: int = WARM,
) -> Rows:
    """Beside SpikingJelly as it is, and with its network compiled by torch."""
    for words, compiled in {"": False, ", torch.compile": True}.items():
        peer = f"SpikingJelly{words}{how}"
        yield _beside(
            settings, name, mine, peer, functools.partial(make, compiled=compiled), warm
        )


def _beside(
    settings: Settings,
    name: str,
    mine: Work,
    peer: str,
    make: Callable[[], Work],
    warm: int = WARM,
) -> Row | Skipped:
    why: Any = peers.missing("torch", "spikingjelly")
    if settings.width != 1:
        why = "it has one width, and another was asked for"
    if why is None:
        try:
            return compare(name, mine, peer, make(), settings.rounds, warm)
        except Exception as error:  # torch.compile fails in many ways
            first = (str(error).splitlines() or ["no message"])[0]
            why = f"{type(error).__name__}: {first}"
    return Skipped(f"{name}: {peer}", why)


def _python(code: str) -> Work:
    # A user's first start finds no cache of either compiler.
    off = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "JSNNQ_COMPILATION_CACHE": "off"}
    environment = os.environ | off
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, check=True, env=environment)
