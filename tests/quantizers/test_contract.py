"""The questions every present and future member of the family must answer."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jsnnq.quantizers import Quantizer, lqnet, mint, snntorch, ste, stompp, uniform

SHAPE = (3, 3, 4, 6)


@dataclasses.dataclass(frozen=True)
class Member:
    """A member with settings, and what its paper says of its gradient.

    `slope(x, state)` is the published derivative of the forward pass, in NumPy.
    `slope_in_training` says it where training is not yet what evaluation will be:
    StoMPP trains with a part of the entries frozen and evaluates with all.
    `idempotent` is false only where the published formula is not: MINT squashes its
    input by tanh before the grid. `rounding` is how far float32 may move values that
    are on their grid already: the mean of equal magnitudes is that magnitude up to
    the rounding of a sum.
    """

    make: Callable[[], Quantizer]
    slope: Callable
    bits: int
    idempotent: bool = True
    slope_in_training: Callable | None = None
    rounding: float = 0


def inside(low, high):
    return lambda x, state: ((x >= low) & (x <= high)).astype(np.float32)


def through_levels(x, state):
    """LQ-Net's unsigned codes: identity from 0 to the largest level or the clip."""
    top = np.sum(np.maximum(np.asarray(state.basis)[:, 0], 0))
    return ((x >= 0) & (x <= min(top, float(state.clip)))).astype(np.float32)


def through_tanh(x, state):
    inner = np.abs(np.tanh(x)) <= float(state.alpha)
    return inner * (1 - np.tanh(x) ** 2)


ones = lambda x, state: np.ones_like(x)
zeros = lambda x, state: np.zeros_like(x)
clipped = lambda x, state: (np.abs(x) < 1).astype(np.float32)


def magnitude(x, state):
    """The scale of XNOR-Net's signs, a constant for the gradient."""
    return np.broadcast_to(np.abs(x).mean((0, 1, 2)), x.shape)


def halfway(**options):
    """StoMPP in the middle of a window: half of the entries are frozen."""
    quantizer = stompp((0, 4), schedule="linear", **options)

    def init(key, x):
        return quantizer.init(key, x)._replace(step=jnp.int32(2))

    return dataclasses.replace(quantizer, init=init)


def mixed(hard):
    """The clip's gradient, and that of hard signs where entries are frozen.

    Masks are random, so they are read off the output: there 0.5 is no longer 0.5.
    """

    def slope(x, state):
        half = jnp.full(x.shape, 0.5)
        frozen = np.asarray(halfway().apply(half, state, True)[0]) != 0.5
        assert 0.3 < frozen.mean() < 0.7
        return np.where(frozen, hard(x, state), np.abs(x) < 1)

    return slope


MEMBERS = {
    f"uniform-{grid}-{bits}bit": Member(
        lambda bits=bits, grid=grid: uniform(bits, 0.8, grid=grid),
        inside(-0.8 if grid != "unsigned" else 0.0, 0.8),
        bits,
    )
    for grid in ("even", "symmetric", "unsigned")
    for bits in (1, 2, 3, 4, 6, 8)
    if (grid, bits) != ("symmetric", 1)
} | {
    "uniform-passing": Member(lambda: uniform(2, 0.8, outside=1), ones, 2),
    "uniform-max": Member(lambda: uniform(3, "max", grid="symmetric"), ones, 3),
    "uniform-max-channels": Member(
        lambda: uniform(4, "max", channelwise=True), ones, 4
    ),
    **{
        f"lqnet-{bits}bit": Member(lambda bits=bits: lqnet(bits), ones, bits)
        for bits in (1, 2, 3, 4, 6, 8)
    },
    "lqnet-clipped": Member(lambda: lqnet(2, 0.8), inside(-0.8, 0.8), 2),
    "lqnet-published": Member(lambda: lqnet(2, start="published"), ones, 2),
    "lqnet-plain": Member(lambda: lqnet(2, debias=False), ones, 2),
    **{
        f"lqnet-membrane-{bits}bit": Member(
            lambda bits=bits: lqnet(bits, 1.0, codes="unsigned"), through_levels, bits
        )
        for bits in (1, 2, 4)
    },
    "lqnet-membrane-published": Member(
        lambda: lqnet(2, 1.0, codes="unsigned", start="published"), through_levels, 2
    ),
    **{
        f"snntorch-{spacing}-{bits}bit": Member(
            lambda bits=bits, spacing=spacing: snntorch(bits, spacing=spacing),
            ones,
            bits,
        )
        for spacing in ("uniform", "exponential")
        for bits in (1, 2, 4, 8)
    },
    "snntorch-zero": Member(lambda: snntorch(3, centre="zero"), ones, 3),
    **{
        f"mint-{bits}bit": Member(
            lambda bits=bits: mint(bits), through_tanh, bits, idempotent=False
        )
        for bits in (2, 4, 8)
    },
    "mint-straight": Member(
        lambda: mint(4, squash=False),
        lambda x, state: (np.abs(x) <= float(state.alpha)).astype(np.float32),
        4,
    ),
    "ste-identity": Member(ste, ones, 1),
    "ste-clipped": Member(lambda: ste("clipped"), clipped, 1),
    "ste-scaled": Member(lambda: ste(scaled=True), magnitude, 1, rounding=1e-6),
    "stompp-before": Member(
        lambda: stompp((9, 4)), zeros, 1, slope_in_training=clipped
    ),
    "stompp-inside": Member(halfway, zeros, 1, slope_in_training=mixed(zeros)),
    "stompp+ste": Member(
        lambda: halfway(surrogate="identity"), zeros, 1, slope_in_training=mixed(ones)
    ),
    "stompp-scaled": Member(
        lambda: halfway(surrogate="identity", scaled=True),
        zeros,
        1,
        slope_in_training=mixed(magnitude),
        rounding=1e-6,
    ),
}


def values(seed=0, scale=0.5):
    """Ordinary values with some outside every clip and some exactly zero."""
    x = np.random.default_rng(seed).normal(0.1, scale, SHAPE).astype(np.float32)
    x[0, 0, 0] = 0.0
    x[0, 0, 1] = 3.0
    return jnp.asarray(x)


@pytest.fixture(params=MEMBERS)
def member(request):
    return MEMBERS[request.param]


@pytest.fixture
def parts(member):
    quantizer = member.make()
    return quantizer, quantizer.init(jax.random.key(0), values())


def groups(x_hat, state):
    """Values that share one grid: per channel where the state has one for each."""
    per_channel = any(
        leaf.ndim and leaf.shape[-1] == SHAPE[-1] for leaf in jax.tree.leaves(state)
    )
    flat = np.asarray(x_hat).reshape(-1, SHAPE[-1])
    return flat.T if per_channel else [flat.reshape(-1)]


def test_takes_at_most_as_many_values_as_its_bits_can_name(member, parts):
    quantizer, state = parts
    x_hat, _ = quantizer.apply(values(1), state, False)
    for group in groups(x_hat, state):
        assert 1 <= len(np.unique(group)) <= 2**member.bits
    if member.bits >= 2:  # and it does not collapse everything into one
        assert max(len(np.unique(group)) for group in groups(x_hat, state)) >= 2


def test_its_own_output_stays_as_it_is(member, parts):
    if not member.idempotent:
        pytest.skip("the published formula squashes its input by tanh")
    quantizer, state = parts
    once, _ = quantizer.apply(values(1), state, False)
    twice, _ = quantizer.apply(once, state, False)
    np.testing.assert_allclose(twice, once, rtol=member.rounding)


@settings(max_examples=20, deadline=None)
@given(
    x=hnp.arrays(np.float32, 64, elements=st.floats(-5, 5, width=32)),
    name=st.sampled_from(sorted(MEMBERS)),
)
def test_larger_stays_larger(x, name):
    quantizer = MEMBERS[name].make()
    state = quantizer.init(jax.random.key(0), values())
    column = jnp.broadcast_to(jnp.sort(jnp.asarray(x))[:, None], (64, SHAPE[-1]))
    x_hat, _ = quantizer.apply(column, state, False)
    assert np.all(np.diff(np.asarray(x_hat), axis=0) >= 0)


@pytest.mark.parametrize(
    "quantizer",
    [
        pytest.param(quantizer, id=name)
        for name, quantizer in ((name, MEMBERS[name].make()) for name in MEMBERS)
        if not quantizer.needs_values
    ],
)
def test_starts_from_a_shape_alone_unless_it_needs_values(quantizer):
    shape = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    blind = quantizer.init(jax.random.key(0), shape)
    seeing = quantizer.init(jax.random.key(0), values())
    jax.tree.map(np.testing.assert_array_equal, blind, seeing)


def test_evaluation_changes_no_state(parts):
    quantizer, state = parts
    _, after = quantizer.apply(values(1), state, False)
    jax.tree.map(np.testing.assert_array_equal, state, after)


def test_training_keeps_shape_and_dtype_of_values_and_state(parts):
    quantizer, state = parts
    x_hat, after = quantizer.apply(values(1), state, True)
    assert (x_hat.shape, x_hat.dtype) == (SHAPE, jnp.float32)
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    assert described == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after)


def test_gradient_is_the_published_one(member, parts):
    quantizer, state = parts
    x = values(2)
    weights = jnp.asarray(np.random.default_rng(3).normal(size=SHAPE), jnp.float32)

    def loss(x, train):
        return jnp.sum(weights * quantizer.apply(x, state, train)[0])

    expected = np.asarray(weights) * member.slope(np.asarray(x), state)
    np.testing.assert_allclose(jax.grad(loss)(x, False), expected, rtol=1e-5)


def test_gradient_in_training_is_the_same_rule(member, parts):
    quantizer, state = parts
    x = values(2)
    slope = jax.grad(lambda x: jnp.sum(quantizer.apply(x, state, True)[0]))(x)
    published = member.slope_in_training or member.slope
    np.testing.assert_allclose(slope, published(np.asarray(x), state), rtol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_jit_changes_nothing_and_traces_once(parts, train):
    quantizer, state = parts
    traces = []

    @jax.jit
    def step(x, state):
        traces.append(1)
        return quantizer.apply(x, state, train)

    plain = state
    for seed in range(3):
        x = values(seed)
        x_hat, state = step(x, state)
        expected, plain = quantizer.apply(x, plain, train)
        np.testing.assert_allclose(x_hat, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        state,
        plain,
    )
    assert len(traces) == 1


def test_zero_and_constant_input_stay_finite(parts):
    quantizer, _ = parts
    for x in (jnp.zeros(SHAPE), jnp.full(SHAPE, 0.3)):
        state = quantizer.init(jax.random.key(0), x)
        for _ in range(5):
            x_hat, state = quantizer.apply(x, state, True)
            assert np.all(np.isfinite(x_hat))
        assert not any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(state))
        assert len(np.unique(quantizer.apply(x, state, False)[0])) == 1


def test_equal_programs_compare_equal_whatever_their_numbers():
    assert uniform(2, 1.0) == uniform(4, 10.0)
    assert hash(uniform(2, 1.0)) == hash(uniform(8, 3.0, grid="unsigned"))
    assert uniform(2, 1.0) != uniform(2, 1.0, outside=1)
    assert uniform(2, 1.0) != uniform(2, "max")
    assert lqnet(2) == lqnet(2, 10.0)
    assert lqnet(2, 1.0) != lqnet(2, 1.0, codes="unsigned")
    assert ste() != ste("clipped")
    assert stompp((0, 9)) == stompp((9, 4), refresh=7)
    assert stompp((0, 9)) != stompp((0, 9), surrogate="identity")
