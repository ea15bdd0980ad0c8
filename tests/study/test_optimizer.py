"""Recipes as optax walks them: schedules, decay, and bounds of latent kernels."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsnnq.config import TrainingConfig
from jsnnq.errors import InputError
from jsnnq.quantizers.mint import MintState
from jsnnq.study.optimizer import optimizer


def rates_of(training, steps, steps_per_epoch):
    """The rates an optimizer walks with, from plain SGD on a constant gradient."""
    rule = optimizer(training, steps_per_epoch)
    params = {"kernel": jnp.float32(0)}
    state, rates = rule.init(params), []
    for _ in range(steps):
        updates, state = rule.update({"kernel": jnp.float32(1)}, state, params)
        rates.append(-float(updates["kernel"]))
    return rates


PLAIN = TrainingConfig(epochs=2, rate=0.5, momentum=0.0)


def test_the_cosine_falls_to_zero_after_the_last_step():
    expected = [0.5 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(11)]
    assert rates_of(PLAIN, 11, 5) == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_first_and_the_cosine_has_the_rest():
    warm = dataclasses.replace(PLAIN, warmup=0.8)
    rise = [0.5 * t / 4 for t in range(4)]
    fall = [0.5 * (1 + math.cos(math.pi * t / 6)) / 2 for t in range(7)]
    assert rates_of(warm, 11, 5) == pytest.approx(rise + fall, abs=1e-6)


def test_a_constant_schedule_stays():
    constant = dataclasses.replace(PLAIN, schedule="constant")
    assert rates_of(constant, 4, 5) == pytest.approx([0.5] * 4)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_only_kernels_decay(name):
    recipe = dataclasses.replace(PLAIN, optimizer=name, weight_decay=0.1)
    params = {"bn": {"scale": jnp.ones(2)}, "fc": {"kernel": 2 * jnp.ones(2)}}
    rule = optimizer(recipe, 5)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = rule.update(zero, rule.init(params), params)
    np.testing.assert_array_equal(updates["bn"]["scale"], 0)
    # Decoupled and SGD: rate x decay x weight. Adam normalises its L2 to the rate.
    expected = -0.5 if name == "adam" else -0.5 * 0.1 * 2
    np.testing.assert_allclose(updates["fc"]["kernel"], expected, rtol=1e-5)


def test_latent_kernels_stay_within_their_bound_and_others_move_freely():
    """One step of 0.05 from 0.04, within 0.05 where the bound holds."""
    recipe = dataclasses.replace(PLAIN, schedule="constant", latent_clip=0.05)
    rule = optimizer(recipe, 5, ("layer1_0/conv1",))
    params = {
        "conv1": {"kernel": jnp.full(2, 0.04)},
        "layer1_0": {
            "conv1": {"kernel": jnp.array([0.04, -0.04])},
            "bn1": {"scale": jnp.full(2, 0.04)},
        },
    }
    down = jax.tree.map(lambda leaf: jnp.array([-0.1, 0.1]), params)
    updates, _ = rule.update(down, rule.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["conv1"]["kernel"], [0.09, -0.01], rtol=1e-6)
    np.testing.assert_allclose(moved["layer1_0"]["bn1"]["scale"], [0.09, -0.01], 1e-6)
    np.testing.assert_allclose(
        moved["layer1_0"]["conv1"]["kernel"], [0.05, -0.05], rtol=1e-6
    )


def test_what_a_quantizer_learns_moves_freely_beside_bounded_kernels():
    """The scale of MINT is a field of a tuple, one step on as SGD makes it."""
    recipe = dataclasses.replace(PLAIN, schedule="constant", latent_clip=0.05)
    rule = optimizer(recipe, 5, ("conv1",))
    learned = MintState(jnp.float32(0.04))
    params = {"conv1": {"kernel": jnp.full(2, 0.04), "quant": learned}}
    down = jax.tree.map(lambda leaf: jnp.full_like(leaf, -0.1), params)
    updates, _ = jax.jit(rule.update)(down, rule.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["conv1"]["kernel"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(moved["conv1"]["quant"].alpha, 0.09, rtol=1e-6)


def test_equal_recipes_are_one_object():
    """So that their steps compile once; looking inside changes no recipe."""
    recipe = dataclasses.replace(PLAIN, latent_clip=1.0)
    looked = dataclasses.replace(recipe, looks=7)
    assert optimizer(recipe, 5, ("a",)) is optimizer(looked, 5, ("a",))
    assert optimizer(PLAIN, 5) is not optimizer(PLAIN, 6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latent_clip": 0.0}, "latent_clip is 0.0"),
        ({"latent_clip": math.nan}, "latent_clip is nan"),
        ({"looks": -1}, "looks is -1"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        optimizer(dataclasses.replace(PLAIN, **changes), 5)
