"""Recipes as optax walks them: schedules, decay, and bounds of latent kernels."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsnnq.config import TrainingConfig
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


def falling(steps):
    """The cosine to zero."""
    return [0.5 * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps + 1)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, falling(10)),  # to zero after the last step
        ({"warmup": 0.8}, [0, 0.125, 0.25, 0.375, *falling(6)]),
        ({"schedule": "constant"}, [0.5] * 11),
    ],
    ids=["cosine", "warm-up", "constant"],
)
def test_rates_follow_the_schedule(changes, expected):
    recipe = dataclasses.replace(PLAIN, **changes)
    assert rates_of(recipe, 11, 5) == pytest.approx(expected, abs=1e-6)


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


def moved(params, gradients, bounded):
    """After one step of 0.5, within 0.05 where the bound holds."""
    recipe = dataclasses.replace(PLAIN, schedule="constant", latent_clip=0.05)
    rule = optimizer(recipe, 5, (bounded,))
    updates, _ = jax.jit(rule.update)(gradients, rule.init(params), params)
    return optax.apply_updates(params, updates)


def test_latent_kernels_stay_within_their_bound_and_others_move_freely():
    params = {
        "conv1": {"kernel": jnp.full(2, 0.04)},
        "layer1_0": {
            "conv1": {"kernel": jnp.array([0.04, -0.04])},
            "bn1": {"scale": jnp.full(2, 0.04)},
        },
    }
    down = jax.tree.map(lambda leaf: jnp.array([-0.1, 0.1]), params)
    found = moved(params, down, "layer1_0/conv1")
    np.testing.assert_allclose(found["conv1"]["kernel"], [0.09, -0.01], rtol=1e-6)
    block = found["layer1_0"]
    np.testing.assert_allclose(block["bn1"]["scale"], [0.09, -0.01], rtol=1e-6)
    np.testing.assert_allclose(block["conv1"]["kernel"], [0.05, -0.05], rtol=1e-6)


def test_what_a_quantizer_learns_moves_freely_beside_bounded_kernels():
    """The scale of MINT is a field of a tuple."""
    learned = MintState(jnp.float32(0.04))
    params = {"conv1": {"kernel": jnp.full(2, 0.04), "quant": learned}}
    down = jax.tree.map(lambda leaf: jnp.full_like(leaf, -0.1), params)
    found = moved(params, down, "conv1")["conv1"]
    np.testing.assert_allclose(found["kernel"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(found["quant"].alpha, 0.09, rtol=1e-6)


def test_equal_recipes_are_one_object():
    """So that their steps compile once; looking inside changes no recipe."""
    recipe = dataclasses.replace(PLAIN, latent_clip=1.0)
    looked = dataclasses.replace(recipe, looks=7)
    assert optimizer(recipe, 5, ("a",)) is optimizer(looked, 5, ("a",))
    assert optimizer(PLAIN, 5) is not optimizer(PLAIN, 6)
