"""MINT against its formula typed in NumPy, and alpha's gradient by the chain rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import mint
from jsnnq.errors import InputError
from jsnnq.quantizers.mint import MintState

X = np.random.default_rng(0).normal(0, 0.4, (3, 3, 4, 5)).astype(np.float32)


def formula(x, alpha, n, squash=True):
    y = np.tanh(x) if squash else x
    return alpha / n * np.round(n * np.clip(y / alpha, -1, 1))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("squash", [True, False])
def test_equals_the_formula(bits, squash):
    n = 2 ** (bits - 1) - 1
    quantizer = mint(bits, squash=squash)
    state = quantizer.init(None, jnp.asarray(X))
    alpha = 2 * np.abs(X).mean() / np.sqrt(n)
    np.testing.assert_allclose(state.alpha, alpha, rtol=1e-5)
    found = np.asarray(quantizer.apply(jnp.asarray(X), state, False)[0])
    expected = formula(X.astype(np.float64), float(state.alpha), n, squash)
    step = float(state.alpha) / n
    differs = np.abs(found - expected) > 1e-6
    assert differs.mean() < 0.01  # a value on a midpoint may round to either side
    assert np.abs(found - expected).max() < 1.001 * step


@pytest.mark.parametrize("squash", [True, False])
def test_gradient_of_alpha(squash):
    """Straight-through round in w_q: q = alpha r / n with r = n y + (round - n y)."""
    n, alpha = 7, 0.35
    g = np.random.default_rng(1).normal(size=X.shape)
    values = np.tanh(X) if squash else X
    y = np.clip(values / alpha, -1, 1)
    inside = np.abs(values) <= alpha
    # d(alpha r / n) = r / n + alpha dy, and dy = -values / alpha^2 inside the clip
    direct = np.round(n * y) / n
    through = np.where(inside, -values / alpha, 0)
    expected = np.sum(g * (direct + through)) / np.sqrt(X.size * n)
    quantizer = mint(4, squash=squash)

    def loss(alpha):
        x_hat, _ = quantizer.apply(jnp.asarray(X), MintState(alpha), True)
        return jnp.sum(jnp.asarray(g, jnp.float32) * x_hat)

    np.testing.assert_allclose(jax.grad(loss)(jnp.float32(alpha)), expected, rtol=2e-3)


def test_one_bit_is_refused():
    with pytest.raises(InputError, match="bits=1: an integer from 2 to 8"):
        mint(1)
