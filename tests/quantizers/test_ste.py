"""Signs with a straight-through gradient, against the rules typed in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import ste

SIGNS = np.array([1, 1, 1, 1, 1, -1, -1, -1, -1, 1], np.float32)
U = np.array([0.0, -0.0, 1e-30, 0.3, 1.0, -1e-30, -0.3, -1.0, -2.5, 2.5], np.float32)
PASSES = {"identity": np.ones_like, "clipped": lambda u: np.abs(u) < 1}


def columns():
    """The values, one channel beside twice the values in another."""
    return np.stack([U, 2 * U], axis=1)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("gradient", PASSES)
def test_sign_forward_and_the_named_rule_backward(gradient, scaled, train):
    """Scaled by the mean magnitude of the channel, a constant for the gradient."""
    quantizer, u = ste(gradient, scaled=scaled), columns()
    alpha = np.abs(u.astype(np.float64)).mean(axis=0) if scaled else np.ones(2)
    state = quantizer.init(None, jnp.asarray(u))
    out, pull = jax.vjp(lambda u: quantizer.apply(u, state, train)[0], jnp.asarray(u))
    rtol = 1e-6 if scaled else 0
    np.testing.assert_allclose(out, SIGNS[:, None] * alpha, rtol=rtol)
    upstream = np.random.default_rng(0).normal(size=u.shape).astype(np.float32)
    expected = PASSES[gradient](u) * upstream * alpha
    np.testing.assert_allclose(pull(jnp.asarray(upstream))[0], expected, rtol=rtol)


def test_the_scale_is_remembered_in_training_only_and_counted():
    quantizer = ste(scaled=True)
    u = jnp.asarray(columns())
    state = quantizer.init(None, u)
    np.testing.assert_allclose(state.scale, np.abs(columns()).mean(0), rtol=1e-6)
    doubled = quantizer.apply(2 * u, state, True)[1]
    np.testing.assert_allclose(doubled.scale, 2 * state.scale, rtol=1e-6)
    same = quantizer.apply(2 * u, state, False)[1]
    np.testing.assert_array_equal(same.scale, state.scale)
    assert quantizer.stored_numbers(state) == 2
    assert ste().stored_numbers(ste().init(None, u)) == 0


def test_everything_is_frozen_from_the_first_step():
    quantizer = ste()
    u = jnp.asarray(columns())
    mask = quantizer.frozen(u, quantizer.init(None, u))
    np.testing.assert_array_equal(mask, np.ones(u.shape, bool))
