"""The questions every present and future member of the family must answer."""

import copy
import dataclasses
import functools
import multiprocessing
import pickle
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jsnnq import Quantizer, lqnet, mint, snntorch, ste, stompp, uniform
from jsnnq.errors import InputError
from jsnnq.quantizers.mint import MintState

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
    # The largest value is on the edge, where NumPy rounds another way.
    inner = np.abs(np.tanh(x)) <= (1 + 1e-6) * abs(float(state.alpha))
    return inner * (1 - np.tanh(x) ** 2)


ones = lambda x, state: np.ones_like(x)
zeros = lambda x, state: np.zeros_like(x)
clipped = lambda x, state: (np.abs(x) < 1).astype(np.float32)


def magnitude(x, state):
    """The scale of XNOR-Net's signs, a constant for the gradient."""
    return np.broadcast_to(np.abs(x).mean((0, 1, 2)), x.shape)


@dataclasses.dataclass(frozen=True)
class Halfway(stompp):
    """StoMPP in the middle of a window: half of the entries are frozen."""

    window: tuple = (0, 4)
    schedule: str = "linear"

    def init(self, key, x):
        return super().init(key, x)._replace(step=jnp.int32(2))


def mixed(hard):
    """The clip's gradient, and that of hard signs where entries are frozen.

    Masks are random, so they are read off the output: there 0.5 is no longer 0.5.
    """

    def slope(x, state):
        half = jnp.full(x.shape, 0.5)
        frozen = np.asarray(Halfway().apply(half, state, True)[0]) != 0.5
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
    "snntorch-zero": Member(
        lambda: snntorch(3, spacing="exponential", centre="zero"), ones, 3
    ),
    **{
        f"mint-{bits}bit": Member(
            lambda bits=bits: mint(bits), through_tanh, bits, idempotent=False
        )
        for bits in (2, 4, 8)
    },
    "mint-published": Member(
        lambda: mint(4, start="published"), through_tanh, 4, idempotent=False
    ),
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
    "stompp-inside": Member(Halfway, zeros, 1, slope_in_training=mixed(zeros)),
    "stompp+ste": Member(
        lambda: Halfway(surrogate="identity"), zeros, 1, slope_in_training=mixed(ones)
    ),
    "stompp-scaled": Member(
        lambda: Halfway(surrogate="identity", scaled=True),
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


@pytest.mark.parametrize("train", [False, True])
def test_gradient_is_the_published_one(member, parts, train):
    quantizer, state = parts
    x = values(2)
    weights = jnp.asarray(np.random.default_rng(3).normal(size=SHAPE), jnp.float32)

    def loss(x):
        return jnp.sum(weights * quantizer.apply(x, state, train)[0])

    slope = (train and member.slope_in_training) or member.slope
    expected = np.asarray(weights) * slope(np.asarray(x), state)
    np.testing.assert_allclose(jax.grad(loss)(x), expected, rtol=2e-5)


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


def test_its_planes_are_whole_numbers_of_its_bits_that_add_up_to_its_values(parts):
    quantizer, state = parts
    x = values()
    found = quantizer.planes(x, state)
    if found is None:  # A membrane's levels, or signs that are none yet.
        assert "weights" not in quantizer.places or quantizer == quantizer.present
        return
    total = np.zeros(SHAPE)
    for codes, scale in zip(*found, strict=True):
        assert codes.dtype == x.dtype
        np.testing.assert_array_equal(codes, np.round(codes))
        # bfloat16, of which products may be, has those that occur.
        np.testing.assert_array_equal(codes.astype(jnp.bfloat16).astype(float), codes)
        assert len(np.unique(codes)) <= 2**quantizer.bits
        total += np.float64(codes) * np.asarray(scale, np.float64)
    x_hat, _ = quantizer.apply(x, state, False)
    reach = np.abs(np.asarray(x_hat)).max()
    np.testing.assert_allclose(total, x_hat, rtol=0, atol=3e-7 * reach)


def test_planes_of_its_representative_are_its_own(parts):
    quantizer, state = parts
    for one, other in zip(
        jax.tree.leaves(quantizer.planes(values(), state)),
        jax.tree.leaves(quantizer.representative.planes(values(), state)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


# A quantizer is a value

SETTINGS = {
    "bits": uniform(2),
    "other bits": uniform(8),
    "clip": uniform(2, 0.5),
    "grid": uniform(2, grid="unsigned"),
    "passing": uniform(2, outside=1),
    "measured": uniform(2, "max"),
    "by channel": uniform(2, "max", channelwise=True),
    "percentile": uniform(2, "percentile", percentile=99.0),
    "lqnet": lqnet(2),
    "lqnet start": lqnet(2, start="published"),
    "lqnet plain": lqnet(2, debias=False),
    "lqnet codes": lqnet(2, 1.0, codes="unsigned"),
    "lqnet signed clip": lqnet(2, 1.0),
    "lqnet average": lqnet(2, average=0.5),
    "lqnet ridge": lqnet(2, ridge=0.0),
    "lqnet timestep": lqnet(2, 1.0, codes="unsigned", follow="timestep"),
    "mint": mint(2),
    "mint straight": mint(2, squash=False),
    "mint shared": mint(2, shared=True),
    "mint start": mint(2, start="published"),
    "snntorch": snntorch(2),
    "snntorch threshold": snntorch(2, threshold=2.0),
    "snntorch lower": snntorch(2, lower=0.5),
    "snntorch upper": snntorch(2, upper=0.5),
    "snntorch zero": snntorch(2, spacing="exponential", centre="zero"),
    "ste": ste(),
    "ste clipped": ste("clipped"),
    "ste scaled": ste(scaled=True),
    "stompp": stompp((0, 9)),
    "stompp window": stompp((9, 4)),
    "stompp refresh": stompp((0, 9), refresh=7),
    "stompp surrogate": stompp((0, 9), surrogate="identity"),
    "stompp law": stompp((0, 9), law="fixed"),
    "stompp present": stompp((0, 9)).present,
}


def test_quantizers_are_equal_where_every_setting_is_and_nowhere_else():
    for name, one in SETTINGS.items():
        for other_name, other in SETTINGS.items():
            assert (one == other) == (name == other_name), (name, other_name)
    assert len(set(SETTINGS.values())) == len(SETTINGS)
    assert hash(uniform(2)) == hash(uniform(2, 1.0))


@pytest.mark.parametrize("name", SETTINGS)
def test_it_comes_through_copy_and_pickle_as_it_was(name):
    quantizer = SETTINGS[name]
    for same in (
        copy.copy(quantizer),
        copy.deepcopy(quantizer),
        pickle.loads(pickle.dumps(quantizer)),
    ):
        assert same == quantizer
        assert hash(same) == hash(quantizer)


def test_they_come_back_from_another_process_as_they_were():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(copy.copy, SETTINGS.values()) == list(SETTINGS.values())


def test_a_static_argument_of_jit_keeps_its_bits():
    @functools.partial(jax.jit, static_argnums=0)
    def quantized(quantizer, x):
        return quantizer.apply(x, quantizer.init(jax.random.key(0), x), False)[0]

    x = jnp.linspace(-1, 1, 4001)
    for bits in (2, 8):
        assert len(np.unique(quantized(uniform(bits), x))) == 2**bits


@pytest.mark.parametrize("train", [False, True])
def test_its_representative_does_the_same_with_its_state(parts, train):
    quantizer, state = parts
    found = quantizer.representative.apply(values(1), state, train)
    expected = quantizer.apply(values(1), state, train)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert quantizer.representative.representative == quantizer.representative


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (uniform(2, 1.0), uniform(4, 10.0, grid="unsigned"), True),
        (uniform(2, 1.0), uniform(2, 1.0, outside=1), False),
        (uniform(2, 1.0), uniform(2, "max"), False),
        (uniform(2, "max"), uniform(3, "percentile", percentile=100), False),
        (uniform(2, "max"), uniform(2, "max", channelwise=True), False),
        (lqnet(2), lqnet(4, 10.0, start="published", debias=False), True),
        (lqnet(2, 1.0), lqnet(2, 1.0, codes="unsigned"), False),
        (lqnet(2), lqnet(2, ridge=0.0), False),
        (lqnet(2, padded=4), lqnet(4, 10.0, padded=4), True),
        (lqnet(2, padded=4), lqnet(2, padded=3), False),
        (snntorch(2), snntorch(8, lower=0.3, threshold=2.0), True),
        (mint(2), mint(2, start="published"), True),
        (mint(2), mint(3), False),
        (ste(), ste("clipped"), False),
        (stompp((0, 9)), stompp((9, 4), refresh=7, order="global"), True),
        (stompp((0, 9)), stompp((0, 9), surrogate="identity"), False),
        (stompp((0, 9)), stompp((0, 9)).present, False),
    ],
)
def test_what_may_share_a_compilation_has_one_representative(one, other, alike):
    assert (one.representative == other.representative) == alike


def test_levels_are_those_it_rounds_to(member, parts):
    quantizer, state = parts
    if quantizer.levels is None:
        _, after = quantizer.apply(values(1), state, True)
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), state, after)
        learns = quantizer.trainable or any(jax.tree.leaves(moved))
        assert quantizer.needs_values or learns or quantizer.makes_signs
        return
    near = np.concatenate([quantizer.levels, np.linspace(-3, 3, 20_000)])
    column = jnp.tile(jnp.asarray(near, jnp.float32)[:, None], (1, SHAPE[-1]))
    found = np.unique(quantizer.apply(column, state, False)[0])
    np.testing.assert_allclose(found, quantizer.levels, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("quantizer", "place"),
    [
        (snntorch(2), "weights"),
        (snntorch(2), "activations"),
        (mint(2, shared=True), "weights"),
        (mint(2), "activations"),
        (lqnet(2, 1.0, follow="timestep"), "weights"),
        (ste(), "membranes"),
        (ste(scaled=True), "activations"),
        (stompp(), "membranes"),
    ],
)
def test_it_is_refused_where_it_has_no_meaning(quantizer, place):
    with pytest.raises(InputError, match=f"cannot be used on {place}: it is for"):
        quantizer.placed(place)


def test_what_is_left_to_the_place_is_what_the_place_needs():
    assert uniform(2).placed("weights") == uniform(2, grid="even")
    assert uniform(2).placed("activations") == uniform(2, grid="even")
    assert uniform(2).placed("membranes") == uniform(2, grid="symmetric")
    assert uniform(1).placed("membranes") == uniform(1, grid="unsigned")
    assert uniform(2, grid="even").placed("membranes") == uniform(2, grid="even")
    assert lqnet(2).placed("weights") == lqnet(2, codes="signed")
    assert lqnet(2).placed("membranes") == lqnet(2, 1.0, codes="unsigned")
    assert lqnet(2, 1.0, codes="signed").placed("membranes").codes == "signed"
    assert snntorch(2).placed("membranes", 0.5) == snntorch(2, threshold=0.5)
    assert snntorch(2, threshold=2.0).placed("membranes", 0.5).threshold == 2.0
    assert stompp().placed("weights").masks == "entry"
    assert stompp().placed("activations").masks == "position"
    assert stompp(masks="sample").placed("activations").masks == "sample"


@pytest.mark.parametrize("bits", range(1, 9))
def test_resting_membranes_rest_at_zero(bits):
    quantizer = uniform(bits).placed("membranes")
    zero = jnp.zeros((4,))
    state = quantizer.init(jax.random.key(0), zero)
    assert np.all(np.asarray(quantizer.apply(zero, state, False)[0]) == 0)


# The ends of grids


def ends(quantizer, state, x, constant):
    """What becomes of x, whether XLA knows the numbers of the grid or is given them."""
    if constant:
        return jax.jit(lambda x: quantizer.apply(x, state, False)[0])(x)
    return jax.jit(lambda x, state: quantizer.apply(x, state, False)[0])(x, state)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("grid", ["even", "symmetric", "unsigned"])
def test_the_ends_of_a_uniform_grid_are_the_clip_exactly(grid, constant):
    draw = np.random.default_rng(0)
    for bits in range(2 if grid == "symmetric" else 1, 9):
        for clip in (1.0, 10.0, *draw.uniform(0.01, 5, 4)):
            quantizer = uniform(bits, float(clip), grid=grid)
            x = jnp.asarray([-1e3, 1e3, -clip, clip], jnp.float32)
            state = quantizer.init(jax.random.key(0), x)
            low = 0 if grid == "unsigned" else -np.float32(clip)
            expected = [low, np.float32(clip)] * 2
            found = ends(quantizer, state, x, constant)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("constant", [False, True])
def test_the_ends_of_mints_grid_are_its_scale_exactly(constant):
    x = jnp.asarray([-1e3, 1e3], jnp.float32)
    for bits in range(2, 9):
        quantizer = mint(bits, squash=False)
        for alpha in np.random.default_rng(1).uniform(0.01, 5, 4).astype(np.float32):
            found = ends(quantizer, MintState(jnp.asarray(alpha)), x, constant)
            np.testing.assert_array_equal(found, [-alpha, alpha])


# Refusals


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (uniform, {"bits": 0}, "bits=0: an integer from 1 to 8"),
        (uniform, {"bits": 9}, "bits=9"),
        (uniform, {"bits": 1, "grid": "symmetric"}, "bits=1: an integer from 2 to 8"),
        (uniform, {"bits": True}, "bits=True"),
        (uniform, {"bits": 2, "clip": 0.0}, "clip is 0.0: a finite number"),
        (uniform, {"bits": 2, "clip": -1.0}, "clip is -1.0: a finite number"),
        (uniform, {"bits": 2, "clip": float("nan")}, "clip is nan: a finite number"),
        (uniform, {"bits": 2, "clip": float("inf")}, "clip is inf: a finite number"),
        (uniform, {"bits": 2, "clip": "mean"}, "unknown clip 'mean'"),
        (uniform, {"bits": 2, "grid": "odd"}, "unknown grid 'odd'"),
        (uniform, {"bits": 2, "outside": 0.5}, "outside=0.5"),
        (
            uniform,
            {"bits": 2, "clip": "percentile", "percentile": 0},
            "percentile is 0: a finite number",
        ),
        (lqnet, {"bits": 0}, "bits=0"),
        (lqnet, {"bits": 9}, "bits=9"),
        (lqnet, {"bits": 2, "clip": 0.0}, "clip is 0.0: a finite number"),
        (lqnet, {"bits": 2, "clip": float("nan")}, "clip is nan: a finite number"),
        (lqnet, {"bits": 2, "codes": "unsigned"}, "no clip for unsigned codes"),
        (lqnet, {"bits": 2, "codes": "ternary"}, "unknown codes"),
        (lqnet, {"bits": 2, "start": "random"}, "unknown start"),
        (lqnet, {"bits": 2, "average": 1.0}, "average is 1.0: below 1"),
        (lqnet, {"bits": 2, "average": -0.1}, "average is -0.1: a finite number from"),
        (lqnet, {"bits": 2, "ridge": -1e-4}, "ridge is -0.0001: a finite number from"),
        (lqnet, {"bits": 2, "follow": "image"}, "unknown follow 'image'"),
        (mint, {"bits": 1}, "bits=1: an integer from 2 to 8"),
        (mint, {"bits": 4, "start": "qem"}, "unknown start 'qem'.*'fitted', 'publish"),
        (snntorch, {"bits": 0}, "bits=0"),
        (snntorch, {"bits": 2, "upper": -0.1}, "upper is -0.1: a finite number"),
        (snntorch, {"bits": 2, "lower": -0.1}, "lower is -0.1: a finite number"),
        (snntorch, {"bits": 2, "threshold": 0.0}, "threshold is 0.0: a finite number"),
        (snntorch, {"bits": 2, "spacing": "log"}, "unknown spacing"),
        (snntorch, {"bits": 2, "centre": "mean"}, "unknown centre"),
        (ste, {"gradient": "soft"}, "gradient 'soft': accepted are 'clipped', 'ident"),
        (stompp, {"schedule": "quartic"}, "unknown schedule 'quartic': accepted are"),
        (stompp, {"law": "hard"}, "unknown law 'hard': accepted are"),
        (stompp, {"masks": "pixel"}, "unknown masks 'pixel': accepted are"),
        (stompp, {"refresh": 0}, "refresh is 0: an integer from 1 is needed"),
        (stompp, {"window": (0, 0)}, "length of the window is 0: an integer from 1 is"),
        (stompp, {"window": (-1, 9)}, "start of the window is -1: an integer from 0"),
        (
            stompp,
            {"law": "bernoulli", "masks": "sample"},
            "'bernoulli' .* masks='sample' .* use masks='position', or another law",
        ),
        (stompp, {"surrogate": "tanh"}, "unknown surrogate 'tanh'.*'clipped'"),
        (
            stompp,
            {"masks": "position", "scaled": True},
            "leave activations without scale",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(make, settings, says):
    with pytest.raises(InputError, match=says) as raised:
        make(**settings)
    assert "\n" not in str(raised.value)
