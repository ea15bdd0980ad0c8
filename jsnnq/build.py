"""From a `Config` to objects: the one room where config meets code.

Everything a config can get wrong is refused here, before anything compiles.
"""

import functools
import re
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jsnnq import batching, data, surrogate
from jsnnq.config import (
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    NeuronConfig,
    QuantizerConfig,
    SnnTorch,
    TrainingConfig,
    Uniform,
)
from jsnnq.errors import InputError, check_integer, check_number, choose
from jsnnq.layers import Rules
from jsnnq.neurons import Neuron
from jsnnq.quantizers import Quantizer, identity, lqnet, mint, snntorch, uniform
from jsnnq.resnet import SEWResNet, sew_resnet
from jsnnq.train import Program

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def neuron(config: NeuronConfig) -> Neuron:
    """The neurons a config describes."""
    choose("surrogate", config.surrogate, surrogate.SURROGATES)
    make = surrogate.SURROGATES[config.surrogate]
    return Neuron(
        kind=config.kind,
        tau=config.tau,
        v_threshold=config.v_threshold,
        v_reset=config.v_reset,
        decay_input=config.decay_input,
        detach_reset=config.detach_reset,
        surrogate=make() if config.alpha is None else make(config.alpha),
        placement=config.placement,
    )


def weight_quantizer(config: QuantizerConfig | None) -> Quantizer:
    """The quantizer of kernels that a config describes."""
    match config:
        case None:
            return identity
        case Uniform():
            return _uniform(config)
        case LQNet():
            return lqnet(
                config.bits, config.clip, start=config.start, debias=config.debias
            )
        case Mint(shared=False):
            return mint(config.bits, squash=config.squash)
        case Mint():
            raise InputError("mint got shared=True for weights: membranes share it")
    raise InputError(
        f"{config!r} is a membrane quantizer: it cannot be used on weights"
    )


def membrane_quantizer(config: QuantizerConfig | None, threshold: float) -> Quantizer:
    """The quantizer of membranes that a config describes."""
    match config:
        case None:
            return identity
        case Uniform():
            return _uniform(config)
        case LQNet():
            return lqnet(
                config.bits,
                1.0 if config.clip is None else config.clip,
                codes="unsigned",
                start=config.start,
                debias=config.debias,
            )
        case SnnTorch():
            return snntorch(
                config.bits,
                threshold=threshold,
                lower=config.lower,
                upper=config.upper,
                spacing=config.spacing,
                centre=config.centre,
            )
        case Mint():
            return mint(config.bits, squash=config.squash, shared=config.shared)
    raise InputError(f"{config!r} is no quantizer")


def _uniform(config: Uniform) -> Quantizer:
    return uniform(
        config.bits,
        config.clip,
        grid=config.grid,
        channelwise=config.channelwise,
        outside=config.outside,
        percentile=config.percentile,
    )


def network(config: Config, classes: int) -> SEWResNet:
    """The network of a row, with its quantizers.

    Raises:
        InputError: a name is unknown, a number out of range, or a rule matches no
            layer.
    """
    net = float_network(config.network, classes)
    threshold = config.network.neuron.v_threshold
    net = net.clone(
        weights=_rules(
            "weights", config.weights, weight_quantizer, net.kernel_layers()
        ),
        membranes=_rules(
            "membranes",
            config.membranes,
            functools.partial(membrane_quantizer, threshold=threshold),
            net.neuron_layers(),
        ),
    )
    _check_shared(net)
    return net


def float_network(config: NetworkConfig, classes: int) -> SEWResNet:
    """The network without quantizers."""
    choose("dtype", config.dtype, DTYPES)
    return sew_resnet(
        config.name,
        width=config.width,
        classes=classes,
        timesteps=config.timesteps,
        stem=config.stem,
        connect=config.connect,
        zero_init=config.zero_init,
        neuron=neuron(config.neuron),
        dtype=DTYPES[config.dtype],
    )


def _neurons_of(kernel: str) -> str:
    return re.sub(r"conv(\d?)$", r"sn\1", kernel)


def _is_rule(rule):
    return isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str)


def _rules(what, rules, make, layers):
    if not isinstance(rules, tuple) or not all(map(_is_rule, rules)):
        raise InputError(
            f"{what} is {rules!r}: a tuple of pairs (pattern, quantizer) is needed"
        )
    built = []
    for pattern, config in rules:
        try:
            matches = [layer for layer in layers if re.fullmatch(pattern, layer)]
        except re.error as error:
            raise InputError(
                f"the {what} rule {pattern!r} is no regular expression: {error}"
            ) from error
        if not matches:
            raise InputError(
                f"the {what} rule {pattern!r} matches no layer: "
                f"there are {', '.join(layers)}"
            )
        built.append((pattern, make(config)))
    return Rules(tuple(built))


def _check_shared(net):
    for kernel in net.kernel_layers()[:-1]:
        layer = _neurons_of(kernel)
        if net.membranes(layer).shared and not net.weights(kernel).trainable:
            raise InputError(
                f"the membranes of {layer} share MINT's scale with {kernel}, whose "
                "weights are not quantized by MINT: quantize both, or use shared=False"
            )


def decisions(config: Config, net: SEWResNet) -> list[tuple[str, str, str]]:
    """What each layer got: its path, its kernel's quantizer, its membranes'."""

    def say(rules, path):
        for pattern, quantizer in rules:
            if re.fullmatch(pattern, path):
                return "float" if quantizer is None else str(quantizer)
        return "float"

    return [
        (
            kernel,
            say(config.weights, kernel),
            "" if kernel == "fc" else say(config.membranes, _neurons_of(kernel)),
        )
        for kernel in net.kernel_layers()
    ]


def optimizer(config: TrainingConfig, steps_per_epoch: int) -> Any:
    """The optax transformation of a recipe; equal recipes give the same object.

    Raises:
        InputError: a name is unknown or a number out of range.
    """
    check_number("rate", config.rate, above=0)
    check_integer("epochs", config.epochs)
    for name in ("weight_decay", "momentum", "warmup"):
        check_number(name, getattr(config, name), least=0)
    choose("optimizer", config.optimizer, ("sgd", "adam", "adamw"))
    choose("schedule", config.schedule, ("cosine", "constant"))
    return _optimizer(config, config.epochs * steps_per_epoch, steps_per_epoch)


@functools.cache
def _optimizer(config: TrainingConfig, steps: int, steps_per_epoch: int):
    rate = _schedule(config, steps, round(config.warmup * steps_per_epoch))
    if config.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.weight_decay, mask=_kernels_only)
    rule = (
        optax.adam(rate)
        if config.optimizer == "adam"
        else optax.sgd(rate, momentum=config.momentum or None)
    )
    if not config.weight_decay:
        return rule
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=_kernels_only), rule
    )


def _schedule(config, steps, warmup):
    if config.schedule == "constant":
        after = optax.constant_schedule(config.rate)
    else:
        after = optax.cosine_decay_schedule(config.rate, max(1, steps - warmup))
    if not warmup:
        return after
    rise = optax.linear_schedule(0.0, config.rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def _kernels_only(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params
    )


def program(config: Config, dataset: data.DataSet) -> Program:
    """What a row compiles to."""
    training = config.training
    check_integer("batch", training.batch)
    check_integer("calibration", config.calibration)
    steps_per_epoch = batching.steps_per_epoch(len(dataset.train), training.batch)
    return Program(
        network=network(config, dataset.classes),
        optimizer=optimizer(training, steps_per_epoch),
        batch=training.batch,
        mean=dataset.mean,
        std=dataset.std,
        scale=dataset.scale,
        pad=dataset.pad if training.augment else 0,
        flip=dataset.flip and training.augment,
    )


def initial_variables(
    net: SEWResNet, key: jax.Array, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Parameters and running statistics of a network without quantizers."""
    return _initializer(cast(Any, net), image_shape, jax.default_backend())(key)


def abstract_variables(
    net: SEWResNet, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The shapes and dtypes of `initial_variables`, without computing them."""
    key = jax.random.key(0)
    return jax.eval_shape(lambda key: _initialize(net, image_shape, key), key)


def _initialize(net, image_shape, key):
    return dict(net.init(key, jnp.zeros((1, *image_shape))))


@functools.cache
def _initializer(net, image_shape, backend):
    # This runs once and mostly draws random numbers. On a CPU, where code generation
    # is what takes the time, not optimizing it saves 4 of 5 seconds.
    options = {"xla_backend_optimization_level": 0} if backend == "cpu" else None
    return jax.jit(
        functools.partial(_initialize, net, image_shape), compiler_options=options
    )
