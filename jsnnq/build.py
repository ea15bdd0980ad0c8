"""From a `Config` to objects: the one room where config meets code.

Everything a config can get wrong is refused here, before anything compiles.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

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
from jsnnq.layers import STATE, Rules
from jsnnq.neurons import Neuron
from jsnnq.quantizers import Quantizer, identity, lqnet, mint, snntorch, uniform
from jsnnq.quantizers.base import storage_bits
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


class _Place(NamedTuple):
    """Where a quantizer sits: its layer's path and what it will see."""

    path: str
    quantizer: Quantizer
    values: Array


def quantize(
    net: SEWResNet,
    variables: Mapping[str, Any],
    key: jax.Array,
    images: Array,
) -> dict[str, Any]:
    """Gives a float network's variables the states its quantizers start from.

    A kernel's state starts from the kernel, a membrane's from the potentials of the
    float network on `images`.

    Args:
        net: the network with its quantizers.
        variables: parameters and running statistics of the float network.
        key: for quantizers that draw random numbers.
        images: normalised calibration images `B H W C`.
    """
    states: dict[str, dict] = {"params": {}, "quant": {}}
    for number, place in enumerate(_places(net, variables, images)):
        if place.quantizer == identity or place.quantizer.shared:
            continue
        state = place.quantizer.init(jax.random.fold_in(key, number), place.values)
        collection = "params" if place.quantizer.trainable else "quant"
        _put(states[collection], place.path, state)
    return {
        "params": _merged(variables["params"], states["params"]),
        "batch_stats": variables["batch_stats"],
        "quant": states["quant"],
    }


def _places(net, variables, images):
    for path in net.kernel_layers():
        yield _Place(path, net.weights(path), _at(variables["params"], path)["kernel"])
    names = net.neuron_layers()
    if all(net.membranes(name) == identity for name in names):
        return
    potentials = _potentials(net, variables, images)
    for path in names:
        yield _Place(path, net.membranes(path), _at(potentials, path)["v"])


def _potentials(net, variables, images):
    """What the membrane quantizers of the float network would see."""
    return _observe(net.clone(weights=Rules(), membranes=Rules()), variables, images)


@functools.partial(jax.jit, static_argnums=0)
def _observe(net, variables, images):
    _, changed = net.apply(dict(variables), images, False, mutable=["potentials"])
    return changed["potentials"]


def _at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _put(tree, path, state):
    for name in path.split("/"):
        tree = tree.setdefault(name, {})
    tree[STATE] = state


def _merged(tree, more):
    if not isinstance(tree, Mapping):
        return tree
    return {
        name: _merged(tree.get(name, {}), more.get(name, {}))
        if isinstance(tree.get(name, {}), Mapping)
        and isinstance(more.get(name, {}), Mapping)
        else more.get(name, tree.get(name))
        for name in {**tree, **more}
    }


def kernels(net: SEWResNet, variables: Mapping[str, Any]) -> dict[str, Array]:
    """Every kernel as the deployed network multiplies with it, by layer."""
    found = {}
    for path in net.kernel_layers():
        quantizer = net.weights(path)
        kernel = _at(variables["params"], path)["kernel"]
        state = _state(variables, quantizer, path)
        found[path] = quantizer.apply(kernel, state, False)[0]
    return found


def weight_bits(net: SEWResNet, variables: Mapping[str, Any]) -> dict[str, int]:
    """Bits of the weights of each layer, with the scales and bases they need.

    The classifier's bias is float32, and normalisation counts as the two float32
    numbers per channel it folds into.
    """
    found = {}
    for path in net.kernel_layers():
        kernel = _at(variables["params"], path)["kernel"]
        quantizer = net.weights(path)
        state = _state(variables, quantizer, path)
        beside = kernel.shape[-1] * (1 if path == "fc" else 2)
        found[path] = storage_bits(quantizer, kernel.size, state) + 32 * beside
    return found


def state_bits(
    net: SEWResNet, variables: Mapping[str, Any], neurons: Mapping[str, int]
) -> dict[str, int]:
    """Bits of the membranes of each neuron layer for one image.

    A membrane is stored with the quantizer's bits only where the quantizer acts on
    what is stored; before the spike test the stored potential is the reset of a
    quantized value, which takes the same levels and the reset value.

    Args:
        net: the network.
        variables: with the quantizers' states.
        neurons: how many neurons each layer has.
    """
    found = {}
    for path, count in neurons.items():
        quantizer = net.membranes(path)
        state = () if quantizer.shared else _state(variables, quantizer, path)
        found[path] = storage_bits(quantizer, count, state)
    return found


def _state(variables, quantizer, path):
    if quantizer == identity:
        return ()
    collection = "params" if quantizer.trainable else "quant"
    return _at(variables[collection], path)[STATE]
