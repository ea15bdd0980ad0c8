"""Every number an experiment may set, as frozen dataclasses; plain Python, no JAX.

An experiment file is a Python file with `ROWS`, a mapping from the name a row is
printed under to its `Config`, usually made from one base with
`dataclasses.replace`. A row without quantizers that starts from scratch is a
full-precision network; one that starts from a checkpoint is the control that is
fine-tuned as long as the quantized rows.

The numbers are checked where they are used, when objects are built from a config
(`jsnnq.build`), before anything compiles.
"""

import dataclasses
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsnnq.errors import InputError

HIDDEN_KERNELS = r"layer\d+_\d+/(conv\d|downsample_conv)"
"""Kernels of the residual blocks: all but the first convolution and the classifier."""

ALL_NEURONS = r".*sn\d?"
"""Every neuron layer."""

STARTS = ("scratch", "checkpoint", "post-training")


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A b-bit grid; see `jsnnq.quantizers.uniform`."""

    bits: int
    clip: float | str = 1.0
    grid: str = "even"
    channelwise: bool = False
    outside: float = 0.0
    percentile: float = 99.9


@dataclasses.dataclass(frozen=True)
class LQNet:
    """Learned levels; see `jsnnq.quantizers.lqnet`."""

    bits: int
    clip: float | None = None
    start: str = "qem"
    debias: bool = True


@dataclasses.dataclass(frozen=True)
class SnnTorch:
    """snnTorch's membrane levels; see `jsnnq.quantizers.snntorch`."""

    bits: int
    lower: float = 0.0
    upper: float = 0.2
    spacing: str = "exponential"
    centre: str = "threshold"


@dataclasses.dataclass(frozen=True)
class Mint:
    """A learnable scale; see `jsnnq.quantizers.mint`."""

    bits: int
    squash: bool = True
    shared: bool = False


QuantizerConfig = Uniform | LQNet | SnnTorch | Mint
Rule = tuple[str, QuantizerConfig | None]
"""A regular expression on a layer's path, and its quantizer (`None`: keep float)."""

METHODS: dict[str, type] = {
    "uniform": Uniform,
    "lqnet": LQNet,
    "snntorch": SnnTorch,
    "mint": Mint,
}


@dataclasses.dataclass(frozen=True)
class NeuronConfig:
    """The neurons; see `jsnnq.neurons.Neuron`.

    `alpha` is the width of the surrogate (`None`: its published default), and
    `placement` where a membrane quantizer acts.
    """

    kind: str = "lif"
    tau: float = 2.0
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    decay_input: bool = True
    detach_reset: bool = True
    surrogate: str = "atan"
    alpha: float | None = None
    placement: str = "stored"


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The network; see `jsnnq.resnet.SEWResNet`. `dtype` is that of convolutions."""

    name: str = "sew_resnet8"
    width: float = 1.0
    timesteps: int = 4
    stem: str = "cifar"
    connect: str = "add"
    zero_init: bool = False
    neuron: NeuronConfig = NeuronConfig()
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch: images per step; the last, incomplete batch of an epoch is dropped.
        optimizer: `sgd` (Nesterov off), `adam` or `adamw`.
        rate: peak learning rate.
        momentum: of SGD.
        weight_decay: of kernels only (SGD: L2; AdamW: decoupled).
        schedule: `cosine` to zero, or `constant`.
        warmup: epochs of linear warm-up, fractions allowed.
        augment: whether the data set's shifts and flips are used.
    """

    epochs: int = 15
    batch: int = 128
    optimizer: str = "sgd"
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    augment: bool = True


@dataclasses.dataclass(frozen=True)
class Config:
    """One row of an experiment.

    Attributes:
        data: name of a data set, or the path of a directory of arrays.
        network: which network.
        training: how it is trained (ignored by post-training rows).
        start: `scratch`, `checkpoint` (the float network of the same seed), or
            `post-training` (that network, calibrated and not trained).
        weights: ordered rules for kernels; the first full match of a path wins.
        membranes: ordered rules for the membranes of neuron layers.
        calibration: how many training images a data-driven start may see.
    """

    data: str = "digits"
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    start: str = "scratch"
    weights: tuple[Rule, ...] = ()
    membranes: tuple[Rule, ...] = ()
    calibration: int = 256

    @property
    def kind(self) -> str:
        """`quantized`, `control` (fine-tuned float network) or `float`."""
        if self.weights or self.membranes:
            return "quantized"
        return "float" if self.start == "scratch" else "control"


def kernels(quantizer: QuantizerConfig) -> tuple[Rule, ...]:
    """The usual rule for weights: the first convolution and classifier stay float."""
    return ((HIDDEN_KERNELS, quantizer),)


def neurons(quantizer: QuantizerConfig) -> tuple[Rule, ...]:
    """The usual rule for membranes: every neuron layer."""
    return ((ALL_NEURONS, quantizer),)


def to_dict(config: Any) -> Any:
    """A config as JSON values; `from_dict` is its inverse."""
    if isinstance(config, tuple):
        return [to_dict(item) for item in config]
    if not dataclasses.is_dataclass(config):
        return config
    fields = {
        field.name: to_dict(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }
    names = {cls: name for name, cls in METHODS.items()}
    if type(config) in names:
        return {"method": names[type(config)], **fields}
    return fields


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `to_dict` was given."""
    network = dict(values["network"])
    network["neuron"] = NeuronConfig(**network["neuron"])
    return Config(
        **{
            **values,
            "network": NetworkConfig(**network),
            "training": TrainingConfig(**values["training"]),
            "weights": _rules(values["weights"]),
            "membranes": _rules(values["membranes"]),
        }
    )


def _rules(values):
    return tuple((pattern, _quantizer(quantizer)) for pattern, quantizer in values)


def _quantizer(values):
    if values is None:
        return None
    fields = dict(values)
    return METHODS[fields.pop("method")](**fields)


def load_experiment(path: str | Path) -> tuple[str, dict[str, Config]]:
    """Reads an experiment file.

    Args:
        path: a Python file with `ROWS`.

    Returns:
        The first line of its docstring, and its rows.

    Raises:
        InputError: there is no such file, it fails, or it has no usable `ROWS`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no experiment file {str(path)!r}: give the path of a Python file with "
            "ROWS, or no path for the default study"
        )
    try:
        module = runpy.run_path(str(path), run_name="jsnnq_experiment")
    except (Exception, SystemExit) as error:
        what = (str(error).splitlines() or ["no message"])[0]
        raise InputError(
            f"the experiment {str(path)!r} fails with {type(error).__name__}: {what}"
        ) from error
    rows = module.get("ROWS")
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"the experiment {str(path)!r} has no ROWS, name -> Config")
    check_rows(rows)
    title = (module.get("__doc__") or "").strip() or path.stem
    return title.splitlines()[0], rows


def check_rows(rows: Mapping[Any, Any]) -> None:
    """Refuses rows that cannot be one study.

    Raises:
        InputError: an entry is no `Config`, a name cannot be a folder's, a start is
            unknown, or a row needs a float network that no row trains.
    """
    for name, row in rows.items():
        if not isinstance(row, Config):
            raise InputError(f"row {name!r} is a {type(row).__name__}, not a Config")
    for name, row in rows.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w+=-][\w+=.-]*", name):
            raise InputError(
                f"row name {name!r} cannot name a folder: use letters, digits, - and _"
            )
        if row.start not in STARTS:
            raise InputError(
                f"row {name!r} starts from {row.start!r}: accepted are "
                f"{', '.join(STARTS)}"
            )
        if row.start != "scratch" and parent(rows, row) is None:
            raise InputError(
                f"row {name!r} starts from a checkpoint, but no row trains a float "
                "network of the same data and network from scratch: add one"
            )
    _check_controls(rows)


def _check_controls(rows: Mapping[str, Config]) -> None:
    """One study has one floor and one drift, so one float network and one control."""
    for kind, start, control in (
        ("float", "scratch", "floor"),
        ("control", "checkpoint", "drift"),
    ):
        found = [name for name, row in rows.items() if row.kind == kind]
        if len(found) > 1:
            raise InputError(
                f"rows {found[0]!r} and {found[1]!r} are both {kind} networks, but a "
                f"study has one {control}: make one study for each"
            )
        if found:
            recipe = rows[found[0]].training
            for name, row in rows.items():
                if row.start == start and row.training != recipe:
                    raise InputError(
                        f"row {name!r} is trained otherwise than its control "
                        f"{found[0]!r}: both must have the same steps and rate"
                    )


def parent(rows: Mapping[str, Config], row: Config) -> str | None:
    """Name of the float row a row is compared with: same data, same network."""
    for name, other in rows.items():
        if other.kind == "float" and _same_network(other, row):
            return name
    return None


def _same_network(one: Config, other: Config) -> bool:
    def without_placement(config):
        neuron = dataclasses.replace(config.network.neuron, placement="stored")
        return config.data, dataclasses.replace(config.network, neuron=neuron)

    return without_placement(one) == without_placement(other)
