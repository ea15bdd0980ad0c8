"""From a recipe to an optax transformation: rule, schedule, decay, latent bounds."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jsnnq.config import TrainingConfig
from jsnnq.errors import check_integer, check_number, choose


def optimizer(
    config: TrainingConfig, steps_per_epoch: int, latent: tuple[str, ...] = ()
) -> Any:
    """The optax transformation of a recipe; equal recipes give the same object.

    Args:
        config: the recipe.
        steps_per_epoch: for its schedule.
        latent: paths of the layers whose kernels `latent_clip` is for.

    Raises:
        InputError: a name is unknown or a number out of range.
    """
    check_number("rate", config.rate, above=0)
    check_integer("epochs", config.epochs)
    for name in ("weight_decay", "momentum", "warmup"):
        check_number(name, getattr(config, name), least=0)
    choose("optimizer", config.optimizer, ("sgd", "adam", "adamw"))
    choose("schedule", config.schedule, ("cosine", "constant"))
    check_integer("looks", config.looks, least=0)
    # How often a run is looked into does not change what is compiled.
    config = dataclasses.replace(config, looks=0)
    rule = _optimizer(config, config.epochs * steps_per_epoch, steps_per_epoch)
    if config.latent_clip is None:
        return rule
    bound = check_number("latent_clip", config.latent_clip, above=0)
    return _kept_within(rule, bound, latent)


@functools.cache
def _kept_within(rule, bound: float, latent: tuple[str, ...]):
    """The rule, after which these layers' kernels lie within the bound."""

    def update(updates, state, params=None):
        updates, state = rule.update(updates, state, params)

        def shorten(path, change, value):
            # What a quantizer learns is a leaf too, and no dictionary's.
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            layer, _, name = place.rpartition("/")
            if name != "kernel" or layer not in latent:
                return change
            return jnp.clip(value + change, -bound, bound) - value

        return jax.tree_util.tree_map_with_path(shorten, updates, params), state

    return optax.GradientTransformation(rule.init, update)


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
