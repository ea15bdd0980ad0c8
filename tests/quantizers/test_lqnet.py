"""LQ-Net against its formulas typed in NumPy, and where float32 usually breaks it."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import InputError, lqnet
from jsnnq.quantizers.lqnet import _moved, _terms, minimise, refit, sorted_levels
from jsnnq.runtime import cpu
from tests.witness import nearest, on_levels, refitted


def kernel(seed=0, shape=(3, 3, 5, 7)):
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_weights_go_to_the_nearest_level_of_their_channel(bits):
    w = kernel()
    quantizer = lqnet(bits)
    state = quantizer.init(None, jnp.asarray(w))
    found = np.asarray(quantizer.apply(jnp.asarray(w), state, False)[0])
    expected, _ = on_levels(w, np.asarray(state.basis), True, np.inf)
    np.testing.assert_allclose(found, expected, atol=2e-7 * 2**bits)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("signed", [True, False])
def test_refit_solves_the_ridge_system(bits, signed):
    rng = np.random.default_rng(bits)
    x = np.abs(rng.normal(0, 0.5, (400, 3)))
    if signed:
        x *= rng.choice([-1, 1], x.shape)
    basis = np.sort(rng.uniform(0.05, 0.5, (bits, 3)), axis=0)
    found = refit(jnp.asarray(x, jnp.float32), jnp.asarray(basis, jnp.float32), signed)
    np.testing.assert_allclose(found, refitted(x, basis, signed), atol=2e-5)


def test_one_bit_is_the_mean_magnitude():
    w = kernel()
    state = lqnet(1).init(None, jnp.asarray(w))
    np.testing.assert_allclose(
        np.abs(state.basis[0]), np.abs(w).mean((0, 1, 2)), rtol=1e-4
    )


def test_start_has_converged():
    x = jnp.asarray(kernel().reshape(-1, 7))
    basis = lqnet(2).init(None, jnp.asarray(kernel())).basis
    np.testing.assert_allclose(refit(x, basis, True), basis, rtol=2e-4, atol=1e-7)


def test_a_large_layer_starts_from_a_sample_that_says_as_much():
    x = np.random.default_rng(0).beta(0.4, 2, 2**19).astype(np.float32)
    state = lqnet(3, 1.0, codes="unsigned").init(jax.random.key(0), jnp.asarray(x))
    basis = best = np.asarray(state.basis)
    for _ in range(50):
        best = refitted(x, best, False)
    errors = [
        np.mean((x - on_levels(x, b, False, np.inf)[0]) ** 2) for b in (basis, best)
    ]
    assert errors[0] < 1.01 * errors[1]


def test_published_start_of_weights():
    """v_j = 2^j s / 2^(K-1), s = 0.6745 sqrt(2 / (k k C_out)), for every channel."""
    state = lqnet(3, start="published").init(None, jnp.asarray(kernel()))
    s = 0.6745 * np.sqrt(2 / (3 * 3 * 7))
    expected = np.array([1, 2, 4])[:, None] * s / 4 * np.ones(7)
    np.testing.assert_allclose(state.basis, expected, rtol=1e-6)


def test_published_start_of_membranes():
    """v_j = 2^j 0.6745 2 / (2^K - 1)."""
    quantizer = lqnet(2, 1.0, codes="unsigned", start="published")
    state = quantizer.init(None, jnp.ones((2, 3)))
    expected = np.array([[1], [2]]) * 0.6745 * 2 / 3
    np.testing.assert_allclose(state.basis, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("debias", "past"), [(True, 0.9), (False, 0.9), (True, 0.99), (False, 0.0)]
)
def test_moving_average(debias, past):
    quantizer = lqnet(2, debias=debias, average=past)
    state = quantizer.init(None, jnp.asarray(kernel(0)))
    basis = np.asarray(state.basis, np.float64)
    average, weight = (0 * basis, 0.0) if debias else (basis, 1.0)
    for seed in range(1, 5):
        w = kernel(seed)
        x_hat, after = quantizer.apply(jnp.asarray(w), state, True)
        unmoved, _ = quantizer.apply(jnp.asarray(w), state, False)
        np.testing.assert_array_equal(x_hat, unmoved)  # forward uses the stored basis
        fresh = refitted(w, np.asarray(state.basis), True)
        average = past * average + (1 - past) * fresh
        weight = past * weight + (1 - past)
        np.testing.assert_allclose(after.basis, average / weight, rtol=1e-3, atol=1e-6)
        state = after


@pytest.mark.parametrize("size", [(3, 3, 4, 2), (3, 3, 512, 2)])
def test_degenerate_channels_keep_their_levels(size):
    """All weights equal: codes are collinear and the Gram matrix is singular."""
    w = np.full(size, 0.04, np.float32)
    w[..., 1] = np.random.default_rng(0).choice([-0.03, 0.03], size[:-1])
    w = jnp.asarray(w)
    for debias in (True, False):
        quantizer = lqnet(2, debias=debias)
        train = jax.jit(functools.partial(quantizer.apply, train=True))
        state = quantizer.init(None, w)
        for _ in range(200):
            x_hat, state = train(w, state)
        np.testing.assert_allclose(x_hat, w, atol=1e-7)


def degenerate_channels(size=4608):
    """Channels whose codes are collinear, or all but for a few values."""
    rng = np.random.default_rng(0)
    normal = rng.normal(0, 0.05, size)
    few = np.array([-0.04, 0.02, 0.3, -0.7, 0.11])
    return np.stack(
        [
            np.zeros(size),
            np.full(size, 0.04),
            rng.choice([-0.03, 0.03], size),
            rng.choice([-0.01, 0.05], size),
            rng.choice([-0.03, 0.0, 0.05], size),
            np.append(np.full(size - 1, 0.04), 1.7),
            np.append(normal[1:], 3.0),
            np.append(normal[1:] * 1e-3, 3.0),
            np.append(np.full(size - 5, 0.04), few),
            normal,
        ],
        axis=1,
    ).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("size", [36, 4608])
def test_degenerate_channels_move_as_in_float64(bits, signed, size):
    """Of float32 sums: the system itself is solved in float64, without JAX's x64."""
    x = degenerate_channels(size)
    x = x if signed else np.abs(x)
    reach = np.abs(x).max(axis=0)
    basis = 2.0 ** np.arange(bits)[:, None] * np.where(reach > 0, reach, 1)
    basis = (basis / (2**bits - 1)).astype(np.float32)
    step = jax.jit(refit, static_argnums=2)
    for _ in range(3):
        with jax.enable_x64(False):
            found = np.asarray(step(jnp.asarray(x), jnp.asarray(basis), signed))
        expected = refitted(x, basis, signed)
        scale = np.maximum(np.abs(expected), np.abs(basis)).max(axis=0)
        assert np.max(np.abs(found - expected) / scale) < 1e-5
        basis = expected.astype(np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("ridge", [1e-4, 1e-6])
def test_nothing_of_the_sums_is_lost_in_the_system(bits, ridge):
    """All codes but one are equal up to their sign, and so is what is left."""
    count = 4608
    codes = np.ones((count, bits))
    codes[: count // 3] = -1
    for i in range(1, bits):
        codes[-i, i] = -1
    right = (codes.T @ np.linspace(0.01, 0.03, count)).astype(np.float32)
    gram = codes.T @ codes
    upper = [gram[i, j] for i in range(bits) for j in range(i, bits)]
    sums = np.append(right, upper).astype(np.float32)[:, None]
    system = gram / count + ridge * np.eye(bits)
    expected = 0.5 + np.linalg.solve(system, right.astype(float) / count)
    basis = jnp.full((bits, 1), 0.5)
    found = jax.jit(_moved, static_argnums=(2, 3))(basis, sums, count, ridge)
    np.testing.assert_allclose(found[:, 0], expected, rtol=2e-7)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_step_is_the_authors_but_for_the_ridges_share(bits):
    """Theirs adds eps to the sums, ours to the means: see the docstring's bound."""
    rng = np.random.default_rng(0)
    normal = rng.normal(0, 0.05, 4608).astype(np.float32)
    outlier = np.append(normal[1:], np.float32(3))
    start = 2.0 ** np.arange(bits) / (2**bits - 1)
    for x, old in ((normal, 0.15 * start), (normal, 3 * start), (outlier, 3 * start)):
        old = old.astype(np.float32).astype(float)
        codes, _ = nearest(x.astype(float), old, True)
        gram, right = codes.T @ codes, codes.T @ x.astype(float)
        theirs = np.linalg.solve(gram + 1e-4 * np.eye(bits), right + 1e-4 * old) - old
        ours = refit(jnp.asarray(x)[:, None], jnp.asarray(old, "f4")[:, None], True)
        ours = np.asarray(ours, float)[:, 0] - old
        least = np.linalg.eigvalsh(gram / len(x))[0]
        most = 1e-4 / (1e-4 + max(least, 0)) * np.linalg.norm(theirs)
        assert np.linalg.norm(ours - theirs) < 1.001 * most + 1e-5 * old.max()


@pytest.mark.parametrize(("bits", "share"), [(1, 1), (2, 1.5), (3, 2.1), (4, 3)])
def test_the_ridges_share_on_normal_weights_is_a_few_eps(bits, share):
    x = np.random.default_rng(0).normal(0, 0.05, (4608, 1)).astype(np.float32)
    basis = lqnet(bits).init(None, jnp.asarray(x)).basis
    codes, _ = nearest(x[:, 0].astype(float), np.asarray(basis, float)[:, 0], True)
    least = np.linalg.eigvalsh(codes.T @ codes / len(x))[0]
    np.testing.assert_allclose(1 / least, share, rtol=0.05)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_another_ridge_is_that_of_its_system(ridge):
    w = kernel()
    quantizer = lqnet(2, ridge=ridge, average=0.0)
    state = quantizer.init(None, jnp.asarray(w))
    after = quantizer.apply(jnp.asarray(w), state, True)[1]
    expected = refitted(w, np.asarray(state.basis), True, ridge)
    np.testing.assert_allclose(after.basis, expected, rtol=1e-4, atol=1e-6)


def test_without_a_ridge_a_silent_layer_has_no_solution():
    """The basis of a layer whose potentials are all zero: what the ridge is for."""
    v = jnp.zeros((2, 3, 3, 4))
    for ridge, finite in ((1e-4, True), (0.0, False)):
        quantizer = lqnet(2, 1.0, codes="unsigned", ridge=ridge)
        state = quantizer.init(None, v)
        after = quantizer.apply(v, state, True)[1]
        assert bool(jnp.isfinite(after.basis).all()) == finite


def test_a_clip_comes_before_the_encoding():
    w = jnp.asarray(np.linspace(-1, 1, 400, dtype=np.float32).reshape(1, 1, 400, 1))
    narrow, wide = lqnet(2, 0.5), lqnet(2)
    state = narrow.init(None, w)
    clipped = jnp.clip(w, -0.5, 0.5)
    np.testing.assert_allclose(
        state.basis, wide.init(None, clipped).basis, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(
        narrow.apply(w, state, False)[0], wide.apply(clipped, state, False)[0]
    )


def test_minimise_finds_separated_clusters_exactly():
    levels = np.array([-0.7, -0.1, 0.1, 0.7], np.float32)
    x = np.repeat(levels, 25)[:, None]
    basis = minimise(jnp.asarray(x), jnp.array([[0.2], [0.5]]), True)
    found = np.sort(np.asarray(sorted_levels(basis, True)[0])[:, 0])
    np.testing.assert_allclose(found, levels, atol=1e-6)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("bits", "groups", "rows"), [(3, 5, 210), (2, 1, 40_000), (2, 8, 2**16 + 1)]
)
def test_all_ways_to_the_sums_over_values_equal_numpy(bits, groups, rows, signed):
    """Two ways run on a CPU and one on accelerators."""
    rng = np.random.default_rng(0)
    word = rng.integers(2**bits, size=(rows, groups), dtype=np.uint8)
    away = rng.normal(size=(rows, groups)).astype(np.float32)
    terms = functools.partial(_terms, bits=bits, signed=signed)
    code = word[None] >> np.arange(bits)[:, None, None] & 1
    code = 2.0 * code - 1 if signed else code.astype(float)
    right = [(e * away).sum(axis=0) for e in code]
    products = [
        (code[i] * code[j]).sum(axis=0) for i in range(bits) for j in range(i, bits)
    ]

    def each(terms, word, away):
        parts = [(word[i::2], away[i::2]) for i in range(2)] if rows % 2 == 0 else None
        return cpu._each(terms, parts or [(word, away)], groups=groups)

    for way in (cpu._in_blocks, cpu._at_once, each):
        summed = jax.jit(functools.partial(way, terms))
        found = summed(jnp.asarray(word), jnp.asarray(away))
        np.testing.assert_allclose(found[:bits], right, rtol=0, atol=5e-8 * rows)
        np.testing.assert_array_equal(found[bits:], products)


@pytest.mark.parametrize("codes", ["signed", "unsigned"])
def test_timesteps_teach_what_all_of_them_as_one_array_do(codes):
    quantizer = lqnet(2, clip=1.0, codes=codes)
    x = np.random.default_rng(0).normal(0.4, 0.5, (3, 4, 5, 6)).astype(np.float32)
    state = quantizer.init(jax.random.key(0), jnp.asarray(x) / 2)
    _, expected = quantizer.apply(jnp.asarray(x), state, True)
    found = quantizer.learn(tuple(map(jnp.asarray, x)), state)
    np.testing.assert_allclose(found.basis, expected.basis, rtol=1e-6)
    assert not np.allclose(found.basis, state.basis, rtol=1e-4)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_write_no_term_of_the_sums_beside_another(platform):
    """Whole terms in one array were gigabytes."""
    x, basis = jnp.ones((1234, 3)), jnp.ones((4, 3))
    lowered = jax.export.export(
        jax.jit(lambda x, basis: refit(x, basis, True)), platforms=[platform]
    )(x, basis)
    text = lowered.mlir_module()
    assert "tensor<1234x3x" in text
    assert not re.search(r"tensor<\d+x1234x3x", text)


@pytest.mark.parametrize("place", ["weights", "membranes"])
@pytest.mark.parametrize("start", ["qem", "published"])
def test_padded_it_has_the_numbers_of_its_bits_and_shares_their_program(place, start):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(quantizer, x, state):
        traces.append(quantizer)
        return jax.value_and_grad(
            lambda x: (jnp.sum((y := quantizer.apply(x, state, True))[0] ** 2), y),
            has_aux=True,
        )(x)

    x = jnp.asarray(kernel())
    for bits in (1, 2, 3, 4):
        plain = lqnet(bits, clip=1.0, start=start).placed(place)
        padded = lqnet(bits, clip=1.0, start=start, padded=4).placed(place)
        state, other = plain.init(None, x), padded.init(None, x)
        assert padded.stored_numbers(other) == plain.stored_numbers(state)
        for moved in (x, 1.5 * x, 2 * x):
            (_, (y, state)), slope = step(plain, moved, state)
            found = step(padded.representative, moved, other)
            (_, (z, other)), tilt = found
            # Arrays of another shape may be added up in another order.
            np.testing.assert_allclose(y, z, rtol=2e-6)
            np.testing.assert_allclose(slope, tilt, rtol=2e-6)
            np.testing.assert_allclose(state.basis, other.basis[:bits], rtol=2e-6)
            np.testing.assert_array_equal(other.basis[bits:], 0)
            np.testing.assert_allclose(state.average, other.average[:bits], rtol=2e-6)
    assert traces.count(padded.representative) == 1


def test_it_is_padded_to_no_fewer_than_its_bits():
    with pytest.raises(InputError, match="padded got bits=2: an integer from 3 to 8"):
        lqnet(3, padded=2)


@pytest.mark.parametrize("follow", ["step", "timestep"])
def test_no_gradient_passes_what_it_learns(follow):
    """It would have to pass float64, which warns where that is off."""
    quantizer = lqnet(2, clip=1.0, codes="unsigned", follow=follow)
    x = jnp.linspace(0.1, 0.8, 12).reshape(4, 3)
    state = quantizer.init(jax.random.key(0), x)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(x, state):
        for _ in range(2):
            y, state = quantizer.apply(x, state, True)
        return jnp.sum(y**2) + jnp.sum(state.basis)

    of_x, of_state = gradients(x, state)
    used = quantizer.apply(x, state, True)[1]
    levels = quantizer.apply(x, used, False)[0]
    inside = x <= jnp.sum(used.basis)  # The largest level.
    np.testing.assert_allclose(of_x, jnp.where(inside, 2 * levels, 0), rtol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_state))
