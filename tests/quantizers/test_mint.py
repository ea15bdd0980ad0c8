"""MINT against its authors' code, its formula in float64, and what it is for.

Numbers written out here were computed by `w_q` of the authors' repository
(RuokaiYin/MINT_Quantization, commit 1002358) and its autograd, under torch 2.14.1; the
gradient of alpha is divided by sqrt(N n) as in its training loop.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsnnq import mint
from jsnnq.data import sets
from jsnnq.quantizers.mint import MintState, least_error
from tests.witness import on_symmetric_grid

X = np.random.default_rng(0).normal(0, 0.4, (3, 3, 4, 5)).astype(np.float32)


def steps(bits):
    return 2 ** (bits - 1) - 1


# The authors' numbers.

W = [-1.2, -0.4, -0.1, 0.0, 0.05, 0.2, 0.3, 1.5]
G = [1.0, -2.0, 3.0, 0.5, -1.0, 2.0, 0.25, -0.75]
FOR_W = [0.0, 0.0, 2.9701989, 0.5, -0.9975042, 1.922086, 0.2287842, 0.0]
AUTHORS = [
    (2, [-0.35, -0.35, 0.0, 0.0, 0.0, 0.35, 0.35, 0.35], 0.7640627678587143),
    (
        3,
        [-0.35, -0.35, -0.1166667, 0.0, 0.0, 0.2333333, 0.2333333, 0.35],
        0.08391459054511917,
    ),
    (4, [-0.35, -0.35, -0.1, 0.0, 0.05, 0.2, 0.3, 0.35], 0.03584493105116389),
]


def values_and_gradients(quantizer, x, alpha, g):
    """What comes out, and the gradients of x and alpha."""
    found, back = jax.vjp(
        lambda x, alpha: quantizer.apply(x, MintState(alpha), True)[0],
        jnp.asarray(x, jnp.float32),
        jnp.float32(alpha),
    )
    return found, *back(jnp.asarray(g, jnp.float32))


@pytest.mark.parametrize(("bits", "expected", "for_alpha"), AUTHORS)
@pytest.mark.parametrize("sign", [1, -1])
def test_values_and_gradients_are_the_authors(bits, expected, for_alpha, sign):
    """Of either sign of alpha: what their autograd does with a negative one."""
    found = values_and_gradients(mint(bits), W, sign * 0.35, G)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], FOR_W, rtol=1e-6)
    np.testing.assert_allclose(found[2], sign * for_alpha, rtol=2e-5)


# The formula.


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("alpha", [0.5, -0.5])
def test_equals_the_formula(bits, squash, alpha):
    quantizer, state = mint(bits, squash=squash), MintState(jnp.float32(alpha))
    found = np.asarray(quantizer.apply(jnp.asarray(X), state, False)[0])
    x = X.astype(np.float64)
    expected, _ = on_symmetric_grid(np.tanh(x) if squash else x, bits, 0.5)
    differs = np.abs(found - expected) > 1e-6
    assert differs.mean() < 0.01  # a value on a midpoint may round to either side
    assert np.abs(found - expected).max() < 1.001 * 0.5 / steps(bits)


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("alpha", [0.35, -0.35])
def test_gradient_of_alpha(squash, alpha):
    """Straight-through round in w_q: q = alpha r / n with r = n y + (round - n y)."""
    n = 7
    g = np.random.default_rng(1).normal(size=X.shape)
    values = np.tanh(X) if squash else X
    y = np.clip(values / alpha, -1, 1)
    inside = np.abs(values) <= abs(alpha)
    # d(alpha r / n) = r / n + alpha dy, and dy = -values / alpha^2 inside the clip
    direct = np.round(n * y) / n
    through = np.where(inside, -values / alpha, 0)
    expected = np.sum(g * (direct + through)) / np.sqrt(X.size * n)
    found = values_and_gradients(mint(4, squash=squash), X, alpha, g)[2]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("alpha", [0.0, -0.0, 1e-45, 2e-38, -2e-38, 1e-30, -1e-30])
def test_a_scale_of_nothing_leaves_numbers_and_a_way_out(alpha):
    x, g = jnp.array([-2.0, 0.0, 0.5, 1.0]), jnp.array([1.0, 1.0, -1.0, -1.0])
    found, for_x, for_alpha = values_and_gradients(mint(4), x, alpha, g)
    np.testing.assert_allclose(found, 0, atol=1.001 * abs(alpha))
    np.testing.assert_array_equal(for_x[jnp.array([0, 2, 3])], 0)
    # Every value is clipped: dq/d|alpha| is its sign, and the sum here is -3.
    sign = -1 if alpha < 0 else 1
    np.testing.assert_allclose(for_alpha, sign * -3 / np.sqrt(4 * 7), rtol=1e-6)


# The start.

RNG = np.random.default_rng(2)
STARTS = {
    "kaiming": RNG.normal(0, np.sqrt(2 / (9 * 32)), 9 * 32 * 16),
    "heavy tails": RNG.laplace(0, 0.03, 4000),
    "wide": RNG.normal(0, 1, 4000),
    "outlier": np.append(RNG.normal(0, 0.02, 3999), 3.0),
    "membrane": np.where(RNG.random(4000) < 0.3, 0, RNG.normal(0.2, 0.4, 4000)),
    "silent but for one": np.append(np.zeros(999), 0.7),
}


def relative_error(values, alpha, bits):
    away = values - on_symmetric_grid(values, bits, alpha)[0]
    return np.sqrt(np.mean(away**2) / np.mean(values**2))


def start(x, bits, **options):
    quantizer = mint(bits, **options)
    return float(quantizer.init(jax.random.key(0), jnp.asarray(x, jnp.float32)).alpha)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("squash", [True, False])
def test_the_start_errs_least_and_less_with_every_bit(name, squash):
    x = STARTS[name]
    values = np.tanh(x) if squash else x
    errors = []
    for bits in range(2, 9):
        errors.append(relative_error(values, start(x, bits, squash=squash), bits))
        scales = np.abs(values).max() * np.geomspace(1 / 200, 1, 1500)
        best = min(relative_error(values, alpha, bits) for alpha in scales)
        assert errors[-1] <= 1.03 * best + 1e-6
    if errors[0] > 1e-6:
        assert np.all(np.diff(errors) <= 0)
        assert errors[-1] < 0.4 * errors[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("x", [[0.0] * 9, [-0.3] * 9, [0.3, -0.3] * 4])
def test_values_of_one_magnitude_start_without_an_error(bits, x):
    alpha = start(x, bits)
    expected = np.tanh(0.3) if any(x) else 1  # the range of tanh
    np.testing.assert_allclose(alpha, expected, rtol=1e-6)
    found, _ = mint(bits).apply(jnp.array(x), MintState(jnp.float32(alpha)), False)
    np.testing.assert_allclose(found, np.tanh(x), rtol=1e-6)


def test_many_values_start_from_a_part_of_them(monkeypatch):
    seen = []
    watched = lambda x, n: seen.append(x.size) or least_error(x, n)
    monkeypatch.setattr("jsnnq.quantizers.mint.least_error", watched)
    x = np.random.default_rng(0).normal(0, 0.05, 2**19)
    ratio = start(x, 3) / start(x[: 2**18], 3)
    assert 2 ** (-1 / 16) - 1e-3 < ratio < 2 ** (1 / 16) + 1e-3
    assert seen == [2**18, 2**18]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_published_start(bits):
    alpha = 2 * np.abs(X.astype(float)).mean() / np.sqrt(steps(bits))
    np.testing.assert_allclose(start(X, bits, start="published"), alpha, rtol=1e-5)


def test_the_published_start_of_silence_is_a_scale_of_nothing():
    assert start(np.zeros(9), 4, start="published") == 0


# What it is for.


def digits():
    """Images as rows with a column of ones, and labels."""
    split = sets.load("digits").train
    x = np.asarray(split.images, np.float32).reshape(len(split.images), -1) / 16
    return np.insert(x, 0, 1, axis=1), np.asarray(split.labels)


def test_a_finished_classifier_keeps_its_accuracy_with_enough_bits():
    x, labels = digits()
    weights, *_ = np.linalg.lstsq(x, np.eye(10)[labels] - 0.1, rcond=1e-2)
    accuracy = lambda w: np.mean(np.argmax(x @ w, axis=1) == labels)
    kernel = jnp.asarray(weights, jnp.float32)

    def quantized(bits, **options):
        quantizer = mint(bits, **options)
        state = quantizer.init(jax.random.key(0), kernel)
        return accuracy(np.asarray(quantizer.apply(kernel, state, False)[0]))

    assert accuracy(weights) > 0.9
    found = [quantized(bits) for bits in (3, 4, 6, 8)]
    assert np.all(np.diff(found) > -0.005)
    assert found[-1] > accuracy(weights) - 0.005
    assert quantized(8, start="published") < accuracy(weights) - 0.05


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_small_network_learns_digits_at_every_width(bits):
    x, labels = map(jnp.asarray, digits())
    quantizer = mint(bits)
    one, other = jax.random.split(jax.random.key(0))
    kernels = [
        jax.random.normal(one, (65, 64)) * np.sqrt(2 / 65),
        jax.random.normal(other, (64, 10)) * np.sqrt(2 / 64),
    ]
    params = kernels, [quantizer.init(one, kernel) for kernel in kernels]
    optimizer = optax.adam(0.01)

    def logits(params):
        first, second = (
            quantizer.apply(kernel, state, True)[0]
            for kernel, state in zip(*params, strict=True)
        )
        return jax.nn.relu(x @ first) @ second

    def loss(params):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(params), labels)
        return losses.mean()

    @jax.jit
    def step(params, memory):
        updates, memory = optimizer.update(jax.grad(loss)(params), memory)
        return optax.apply_updates(params, updates), memory

    memory = optimizer.init(params)
    for _ in range(60):
        params, memory = step(params, memory)
    assert jnp.mean(jnp.argmax(logits(params), axis=1) == labels) > 0.93
