"""Every number an experiment may set, as frozen dataclasses.

A row of an experiment is a `Config`, usually made from one base with
`dataclasses.replace`. A row without quantizers that starts from scratch is a
full-precision network; one that starts from a checkpoint is the control that is
fine-tuned as long as the quantized rows.

Quantizers check their numbers when they are written, and get from a `Config` what
depends on whether they stand on weights, membranes or activations. Other numbers are
checked where they are used, when objects are built from a config (`jsnnq.study.build`),
before anything compiles.
"""

import ast
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jsnnq import renamed
from jsnnq.errors import InputError, as_python, choose, settle
from jsnnq.networks.bnn import BRANCH_ACTIVATIONS as BRANCH_ACTIVATIONS
from jsnnq.networks.bnn import BRANCH_KERNELS as BRANCH_KERNELS
from jsnnq.networks.bnn import POINTWISE_ACTIVATIONS as POINTWISE_ACTIVATIONS
from jsnnq.networks.bnn import POINTWISE_KERNELS as POINTWISE_KERNELS
from jsnnq.networks.rules import check_pairs
from jsnnq.networks.sew import ALL_NEURONS as ALL_NEURONS
from jsnnq.networks.sew import HIDDEN_KERNELS as HIDDEN_KERNELS
from jsnnq.quantizers import STE, LQNet, Mint, Quantizer, SnnTorch, StoMPP, Uniform
from jsnnq.quantizers.base import PLACES

STARTS = ("scratch", "checkpoint", "post-training")


Rule = tuple[str, Quantizer | None]
"""A regular expression on a layer's path, and its quantizer (`None`: keep float)."""

METHODS: dict[str, type] = {
    one.__name__.lower(): one for one in (Uniform, LQNet, SnnTorch, Mint, STE, StoMPP)
}
"""The quantizers a config can name, as they are written into files and typed."""


class Run(NamedTuple):
    """A row of a study with one seed; as text `name/seed0`."""

    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.name}/seed{self.seed}"


class _Settings:
    """What becomes Python's own numbers when it is written, whatever they were."""

    def __post_init__(self):
        settle(self)


@dataclasses.dataclass(frozen=True)
class NeuronConfig(_Settings):
    """The neurons; see `jsnnq.networks.neurons.Neuron`.

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
class NetworkConfig(_Settings):
    """A spiking network; see `jsnnq.networks.sew.SEWResNet`.

    `dtype` is that of convolutions: `float32`, `bfloat16` (mixed precision), or
    `float64` where JAX computes in 64 bits. Membranes and statistics have at least
    float32. `precision` is that of products of float32; see `jsnnq.runtime.precision`.
    `remat` computes each block again in the backward pass, to keep less.
    """

    name: str = "sew_resnet8"
    width: float = 1.0
    timesteps: int = 4
    stem: str = "cifar"
    connect: str = "add"
    zero_init: bool = False
    neuron: NeuronConfig = NeuronConfig()
    dtype: str = "float32"
    precision: str = "highest"
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class BinaryNetworkConfig(_Settings):
    """A network without spikes; see `jsnnq.networks.bnn.BinaryResNet`.

    `activation` is that of full-precision activations (`None`: the published one).
    """

    name: str = "resnet18"
    width: float = 1.0
    stem: str = "cifar"
    activation: str | None = None
    shortcut: str = "quantized"
    dtype: str = "float32"
    precision: str = "highest"
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingConfig(_Settings):
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
        latent_clip: quantized kernels are kept within this magnitude after each step.
        looks: how often in an epoch binary layers are looked into
            (`jsnnq.training.probe`).
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
    latent_clip: float | None = None
    looks: int = 0


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
        activations: ordered rules for the activations of a network without spikes.
        calibration: how many training images a data-driven start may see.

    Raises:
        InputError: rules are no pairs of a pattern and a quantizer, or a quantizer
            has no meaning in its place.

    Example:
        >>> config = jsnnq.Config(weights=((r"layer.*/conv1", jsnnq.uniform(2)),))
        >>> config.kind, config.network.name
        ('quantized', 'sew_resnet8')
    """

    data: str = "digits"
    network: NetworkConfig | BinaryNetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    start: str = "scratch"
    weights: tuple[Rule, ...] = ()
    membranes: tuple[Rule, ...] = ()
    activations: tuple[Rule, ...] = ()
    calibration: int = 256

    def __post_init__(self):
        object.__setattr__(self, "calibration", as_python(self.calibration))
        for place in PLACES:
            object.__setattr__(self, place, _placed(getattr(self, place), place))

    @property
    def kind(self) -> str:
        """`quantized`, `control` (fine-tuned float network) or `float`."""
        if self.weights or self.membranes or self.activations:
            return "quantized"
        return "float" if self.start == "scratch" else "control"

    @property
    def spikes(self) -> bool:
        """Whether the network is a spiking one, whose firing can be compared."""
        return isinstance(self.network, NetworkConfig)


def kernels(quantizer: Quantizer) -> tuple[Rule, ...]:
    """The usual rule for weights: the first convolution and classifier stay float."""
    return ((HIDDEN_KERNELS, quantizer),)


def neurons(quantizer: Quantizer) -> tuple[Rule, ...]:
    """The usual rule for membranes: every neuron layer."""
    return ((ALL_NEURONS, quantizer),)


def _placed(rules: Any, place: str) -> tuple[Rule, ...]:
    """Rules whose quantizers know their place."""
    check_pairs(place, rules)
    return tuple(
        (pattern, None if quantizer is None else quantizer.placed(place))
        for pattern, quantizer in rules
    )


def override(config: Config, typed: str) -> Config:
    """The config with one field set as it was typed: `network.neuron.tau=1.5`.

    Args:
        config: of a row.
        typed: the path of a field, `=`, and its value as Python writes it; what Python
            cannot read is text.

    Raises:
        InputError: there is no such field, or the value is of another kind.
    """
    path, equals, text = typed.partition("=")
    if not equals:
        raise InputError(f"--set {typed!r}: NAME=VALUE is needed, as training.rate=0.1")
    return setting(config, path, _value(text))


def setting(config: Config, path: str, value: Any) -> Config:
    """The config with another value in the field at a path, `network.neuron.tau`.

    Raises:
        InputError: there is no such field, or the value is of another kind.
    """
    return _with(config, path.split("."), value, path)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _with(config: Any, path: Sequence[str], value: Any, said: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(config)}
    name, *inner = path
    if name not in fields or name in PLACES:
        known = ", ".join(field for field in fields if field not in PLACES)
        raise InputError(f"there is no setting {said!r}: known here are {known}")
    known = getattr(config, name)
    if inner and dataclasses.is_dataclass(known):
        value = _with(known, inner, value, said)
    elif inner or dataclasses.is_dataclass(known):
        raise InputError(f"{said!r} is no single setting: name one, as training.rate")
    else:
        _check_kind(said, value, fields[name].type)
    return dataclasses.replace(config, **{name: value})


def _check_kind(said: str, value: Any, annotation: Any) -> None:
    """Refuses a value that is not of the kind a field is annotated with."""
    is_union = isinstance(annotation, types.UnionType)
    kinds = typing.get_args(annotation) if is_union else (annotation,)
    if not any(_fits(value, kind) for kind in kinds):
        # A generic alias has the name of what it is an alias of.
        words = [x.__name__ if isinstance(x, type) else str(x) for x in kinds]
        raise InputError(f"{said} is {value!r}: {' or '.join(words)} is needed")


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple and isinstance(value, tuple):
        items = typing.get_args(kind)
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        return len(items) == len(value) and all(map(_fits, value, items))
    return type(value) is kind or (kind is float and type(value) is int)


def read_quantizer(typed: str) -> Quantizer:
    """The quantizer that was typed as `NAME[:BITS][:SETTING=VALUE]...`.

    Args:
        typed: a name of `METHODS`, its bits if it has some, and settings whose values
            are as Python writes them; what Python cannot read is text. For example
            `lqnet:2`, `uniform:4:grid=unsigned`, `stompp:order=(1,0,2)`.

    Raises:
        InputError: there is no such quantizer or setting, or a value cannot be used.
    """
    name, *parts = typed.split(":")
    choose("quantizer", name, METHODS)
    fields = {field.name: field for field in dataclasses.fields(METHODS[name])}
    if parts and "=" not in parts[0] and "bits" in fields:
        parts[0] = f"bits={parts[0]}"
    given = {}
    for part in parts:
        setting, equals, text = part.partition("=")
        if not equals:
            raise InputError(
                f"{typed!r} has {part!r} where SETTING=VALUE is needed: {name} has the "
                f"settings {', '.join(fields)}"
            )
        choose(f"setting of {name}", setting, fields)
        if setting in given:
            raise InputError(f"{typed!r} sets {setting} twice: set it once")
        value = _value(text)
        given[setting] = tuple(value) if isinstance(value, list) else value
        _check_kind(f"{setting} of {name}", given[setting], fields[setting].type)
    if "bits" in fields and "bits" not in given:
        raise InputError(f"{typed!r} does not say its bits: say them, as {name}:4")
    return METHODS[name](**given)


def to_dict(config: Any) -> Any:
    """A config as JSON values; `from_dict` is its inverse."""
    if isinstance(config, tuple):
        return [to_dict(item) for item in config]
    if not dataclasses.is_dataclass(config):
        return config
    fields = {name: to_dict(value) for name, value in vars(config).items()}
    names = {cls: {"method": name} for name, cls in METHODS.items()}
    return names.get(type(config), {}) | fields


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `to_dict` was given."""
    rules = {
        place: tuple((p, _quantizer(one, place)) for p, one in values.get(place, ()))
        for place in PLACES
    }
    known = dict(values["network"])
    if "neuron" in known:
        known["neuron"] = NeuronConfig(**known["neuron"])
        network: Any = NetworkConfig(**known)
    else:
        network = BinaryNetworkConfig(**known)
    training = TrainingConfig(**values["training"])
    return Config(**{**values, "network": network, "training": training, **rules})


def _quantizer(values, place):
    if values is None:
        return None
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
    }
    method = str(fields.pop("method", ""))
    if method not in METHODS:
        raise InputError(
            f"a quantizer was written as {dict(values)!r}: files hold the ones that "
            f"jsnnq has, {', '.join(METHODS)}"
        )
    if method == "mint":  # It had no other start before it had this setting.
        fields.setdefault("start", "published")
    if method == "stompp" and place == "weights":  # Once with those of activations.
        fields["masks"] = "entry"
    return METHODS[method](**fields)


__getattr__ = renamed.attributes_of(
    "jsnnq.study.experiment", "Experiment", "check_rows", "load_experiment", "parent"
)
