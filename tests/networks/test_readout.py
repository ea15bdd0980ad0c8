"""Readout, cross-entropy and accuracy against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax

from jsnnq.networks import readout

LOGITS = arrays.arrays(
    np.float32, (5, 7), elements=st.floats(-60, 60, width=32, allow_subnormal=False)
)
LABELS = arrays.arrays(np.int32, (5,), elements=st.integers(0, 6))


@settings(deadline=None)
@given(LOGITS, LABELS)
def test_cross_entropy_is_the_negative_log_softmax_in_nats(logits, labels):
    found = readout.cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    expected = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(5), labels]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(LOGITS, LABELS)
def test_correct_is_the_largest_logit(logits, labels):
    found = readout.correct(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_array_equal(found, logits.argmax(axis=1) == labels)


def test_the_gradient_is_the_error_of_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    labels = np.array([0, 5, 2, 2])
    gradient = jax.grad(
        lambda x: jnp.sum(readout.cross_entropy(x, jnp.asarray(labels)))
    )(jnp.asarray(logits))
    expected = softmax(logits, axis=1) - np.eye(6)[labels]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_readout_is_the_mean_over_time_in_float32():
    logits = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(
        readout.readout(jnp.asarray(logits)), logits.mean(axis=0), rtol=1e-6
    )
    # 256 + 1 is no number of bfloat16, but their mean in float32 is exact.
    halves = jnp.array([[[256.0]], [[1.0]]], jnp.bfloat16)
    found = readout.readout(halves)
    assert found.dtype == jnp.float32
    assert found.item() == 128.5
