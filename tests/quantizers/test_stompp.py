"""StoMPP: masks against their laws, gradients against the clip's, windows, refusals.

Masks are read off the output: 0.5 becomes 1 where it is frozen and stays where it is
not, and masks do not look at values.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from jsnnq import stompp
from jsnnq.errors import InputError
from jsnnq.quantizers.primitives import freeze
from jsnnq.quantizers.stompp import (
    LAWS,
    SCHEDULES,
    Freezing,
    _thresholds,
    bernoulli_lag,
    windows,
)

SHAPE = (4, 8, 16, 16)
STEPS = 54
FORMULAS = {
    "linear": lambda x: x,
    "quadratic": lambda x: x * x,
    "cubic": lambda x: x * x * x,
    "cosine": lambda x: 0.5 - 0.5 * np.cos(np.pi * x),
    "flipped": lambda x: 2 * x - x * x,
}
MEMORYLESS = [law for law in LAWS if law != "bernoulli"]


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def run(quantizer, state, steps=STEPS, shape=SHAPE):
    """Masks of the next training steps, and the state after them."""

    def step(state, _):
        x_hat, state = quantizer.apply(jnp.full(shape, 0.5), state, True)
        return state, x_hat == 1

    return jax.lax.scan(step, state, None, steps)[::-1]


class Seen(NamedTuple):
    """What a training step makes of a state, and what is shown before it."""

    values: jax.Array
    after: Freezing
    gradient: jax.Array
    mask: jax.Array
    present: jax.Array
    frozen: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def see(quantizer, x, state, upstream):
    out, pull, after = jax.vjp(
        lambda x: quantizer.apply(x, state, True), x, has_aux=True
    )
    probe = quantizer.apply(jnp.full_like(x, 0.5), state, True)[0]
    present, same = quantizer.present.apply(x, state, False)
    frozen = jnp.broadcast_to(quantizer.frozen(x, state), x.shape)
    return Seen(out, after, pull(upstream)[0], probe == 1, present, frozen), same


def look(quantizer, x, state, upstream=None):
    upstream = np.ones_like(x) if upstream is None else upstream
    seen, same = see(quantizer, jnp.asarray(x), state, jnp.asarray(upstream))
    assert_same(same, state)  # Showing the present changes nothing.
    return jax.tree.map(np.asarray, seen)


def start(quantizer, shape=SHAPE, seed=0, at=0):
    state = quantizer.init(jax.random.key(seed), jnp.zeros(shape))
    return state._replace(step=jnp.int32(at))


def values(seed=0):
    """Values inside and outside the clip, with its ends and both zeros."""
    x = np.random.default_rng(seed).normal(0, 0.9, SHAPE).astype(np.float32)
    x.reshape(-1)[:600] = np.resize([1.0, -1.0, 0.0, -0.0, 1.5, -1.5], 600)
    return x


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_its_formula(name):
    x = np.linspace(0, 1, 101)
    p = np.asarray(SCHEDULES[name](jnp.asarray(x, jnp.float32)))
    np.testing.assert_allclose(p, FORMULAS[name](x), atol=1e-6)
    assert (p[0], p[-1]) == (0, 1)


def expected_shares(schedule, law, refresh, length):
    shares, m = [], 0.0
    for i in range(length):
        p = FORMULAS[schedule](i / length)
        m = m + (p - m) / refresh if law == "bernoulli" else p
        shares.append(m)
    return np.array(shares)


@pytest.mark.parametrize(
    ("law", "schedule"),
    [
        # Every pair compiles; one law with all schedules and one schedule with all
        # laws are enough for every day.
        pytest.param(law, schedule, marks=[] if near else pytest.mark.slow)
        for law, schedule in itertools.product(LAWS, SCHEDULES)
        for near in [law == "soft" or schedule == "cubic"]
    ],
)
def test_frozen_share_follows_its_expectation(law, schedule):
    """Entries are independent, so in every step their number is binomial.

    Each of the 4 x 5 x 3 x 50 = 3000 comparisons is exact and alarms falsely at a
    rate of at most 1e-9, all together at most 3e-6 (over the choice of the seed). At
    8192 entries a share near 1/2 may be off by 0.034, one near 0.94 by 0.016.
    """
    first, length, entries = 3, 50, math.prod(SHAPE)
    for refresh in (1, 7, 100):
        quantizer = stompp((first, length), schedule=schedule, law=law, refresh=refresh)
        masks, _ = run(quantizer, start(quantizer))
        found = np.asarray(masks).reshape(STEPS, -1).sum(1)
        np.testing.assert_array_equal(found[:first], 0)
        np.testing.assert_array_equal(found[first + length :], entries)
        share = expected_shares(schedule, law, refresh, length)
        # From the exact tails; where nothing is expected SciPy says -1.
        low = np.maximum(scipy.stats.binom.ppf(5e-10, entries, share), 0)
        high = np.maximum(scipy.stats.binom.isf(5e-10, entries, share), 0)
        assert np.all((low <= found[first:-1]) & (found[first:-1] <= high))


@pytest.mark.parametrize(
    ("schedule", "refresh", "length", "slope"),
    [("cubic", 100, 5000, 3), ("linear", 20, 1000, 1)],
)
def test_lag_of_bernoulli(schedule, refresh, length, slope):
    """About r dp/dt at the window's end."""
    lag = bernoulli_lag(schedule, refresh, length)
    expected = 1 - expected_shares(schedule, "bernoulli", refresh, length)[-1]
    assert lag == pytest.approx(expected, rel=1e-4)
    assert lag == pytest.approx(slope * refresh / length, rel=0.1)


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def thresholds(law, refresh, key, steps, entries=4000):
    one = lambda i: _thresholds(law, key, i, jnp.int32(refresh), (entries,))
    return jax.vmap(one)(jnp.arange(steps))


def test_soft_refresh_draws_every_entry_once_in_r_steps(key):
    """A fraction 1/r each step: 6-sigma bounds alarm falsely at 2e-9 x 28 steps."""
    r, cycles = 7, 5
    held = np.asarray(thresholds("soft", r, key, r * cycles))
    # A threshold drawn again equals the old one at a rate of 2^-23.
    changed = np.diff(held, axis=0) != 0
    by_cycle = changed[r - 1 :].reshape(cycles - 1, r, -1)
    np.testing.assert_array_equal(by_cycle.sum(1), 1)
    share = by_cycle.mean(2)
    assert np.all(np.abs(share - 1 / r) < 6 * np.sqrt(1 / r * (1 - 1 / r) / 4000))
    moments = by_cycle.argmax(1)  # of its own: not the same one in every cycle
    same = np.mean(moments[1:] == moments[:-1])
    assert abs(same - 1 / r) < 0.03


def test_thresholds_are_uniform_always_and_where_they_are_new(key):
    """Kolmogorov-Smirnov at 1e-6, 8 tests of each kind."""
    held = np.asarray(thresholds("soft", 7, key, 35))
    for i in range(3, 35, 4):
        new = held[i] != held[i - 1]
        for sample in (held[i], held[i][new], held[i][~new]):
            assert scipy.stats.kstest(sample, "uniform").pvalue > 1e-6


def test_other_refreshes(key):
    anew = np.diff(np.asarray(thresholds("soft", 1, key, 6)), axis=0) != 0
    assert np.mean(anew) > 0.999
    full = np.diff(np.asarray(thresholds("full", 3, key, 9)), axis=0) != 0
    np.testing.assert_array_equal(full.any(1), [False, False, True] * 2 + [False] * 2)
    assert np.mean(full[[2, 5]]) > 0.999
    fixed = np.asarray(thresholds("fixed", 3, key, 9))
    np.testing.assert_array_equal(fixed, np.broadcast_to(fixed[:1], fixed.shape))


def test_fixed_thresholds_freeze_for_good_and_others_do_not():
    returns = {}
    for law in LAWS:
        quantizer = stompp((0, 50), law=law, refresh=7)
        masks = np.asarray(run(quantizer, start(quantizer))[0])
        returns[law] = np.sum(masks[:-1] & ~masks[1:])
    assert returns.pop("fixed") == 0
    assert min(returns.values()) > 0


@pytest.mark.parametrize("law", LAWS)
def test_masks_are_empty_before_the_window_and_full_after_it(law):
    first = 2
    for length, refresh in itertools.product((1, 2, 7, 1000), (1, 7, 100, 10_000)):
        quantizer = stompp((first, length), law=law, refresh=refresh)
        masks, state = run(quantizer, start(quantizer, (60,)), 1005, (60,))
        share = np.asarray(masks).mean(1)
        np.testing.assert_array_equal(share[: first + 1], 0)  # p(0) = 0
        np.testing.assert_array_equal(share[first + length :], 1)
        assert np.all(share[first : first + length // 2 + 1] < 1)
        assert int(state.step) == 1005


@pytest.mark.parametrize(
    ("masks", "surrogate"),
    [
        ("entry", "none"),
        ("entry", "identity"),
        ("entry", "clipped"),
        ("position", "none"),
        ("sample", "none"),
    ],
)
def test_values_and_gradient_inside_the_window(masks, surrogate):
    """Exactly the clip's where nothing is frozen; else nothing, or all with STE."""
    quantizer = stompp((0, 10), schedule="linear", masks=masks, surrogate=surrogate)
    x, upstream = values(), values(1)
    seen = look(quantizer, x, start(quantizer, at=5), upstream)
    assert 0.4 < seen.mask.mean() < 0.6
    signs = np.where(x < 0, -1, 1)
    np.testing.assert_array_equal(
        seen.values, np.where(seen.mask, signs, np.clip(x, -1, 1))
    )
    clip = np.where(np.abs(x) < 1, upstream, 0)
    hard = {"none": 0, "identity": upstream, "clipped": clip}[surrogate]
    expected = np.where(seen.mask, hard, clip)
    np.testing.assert_array_equal(seen.gradient, expected)


def test_scaled_signs_have_the_mean_magnitude_of_their_channel():
    quantizer = stompp((0, 10), schedule="linear", surrogate="identity", scaled=True)
    x = values()
    alpha = np.abs(x.astype(np.float64)).mean((0, 1, 2))
    signs = np.where(x < 0, -1, 1) * alpha
    state = quantizer.init(jax.random.key(0), jnp.asarray(x))
    np.testing.assert_allclose(state.scale, alpha, rtol=1e-5)
    assert quantizer.stored_numbers(state) == SHAPE[-1]
    whole = quantizer.apply(jnp.asarray(x), state, False)[0]
    np.testing.assert_allclose(whole, signs, rtol=1e-5)
    state = state._replace(step=jnp.int32(5), scale=jnp.zeros(SHAPE[-1]))
    seen = look(quantizer, x, state)
    np.testing.assert_allclose(seen.after.scale, alpha, rtol=1e-5)
    mask = seen.frozen
    assert 0.4 < mask.mean() < 0.6
    expected = np.where(mask, signs, np.clip(x, -1, 1))
    np.testing.assert_allclose(seen.values, expected, rtol=1e-5)
    expected = np.where(mask, alpha, np.abs(x) < 1)  # the scale is a constant
    np.testing.assert_allclose(seen.gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("law", ["soft", "bernoulli"])
def test_a_position_has_one_mask_whatever_the_batch(law):
    quantizer = stompp((0, 6), schedule="linear", law=law, masks="position", refresh=2)
    shapes = [(size, 8, 5, 3) for size in (1, 3, 8)]
    first, *others = (
        run(quantizer, start(quantizer, shape), 6, shape) for shape in shapes
    )
    assert 0 < np.mean(first[0][-1]) < 1
    for masks, state in others:
        np.testing.assert_array_equal(masks, np.broadcast_to(first[0], masks.shape))
        assert_same(state, first[1])


def test_samples_have_masks_of_their_own():
    quantizer = stompp((0, 10), schedule="linear", masks="sample")
    mask = look(quantizer, values(), start(quantizer, at=5)).mask
    for a, b in itertools.combinations(mask, 2):
        assert 0.4 < np.mean(a != b) < 0.6


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("masks", ["entry", "position"])
def test_evaluation_is_binary_whatever_the_step(law, masks):
    quantizer = stompp((5, 10), law=law, masks=masks)
    x = values()
    for step in (0, 5, 10, 15, 100):
        state = start(quantizer, at=step)
        out, same = quantizer.apply(jnp.asarray(x), state, False)
        np.testing.assert_array_equal(out, np.where(x < 0, -1, 1))
        assert_same(same, state)


@pytest.mark.parametrize(
    ("law", "masks"),
    [*itertools.product(MEMORYLESS, ["entry"]), ("soft", "position")],
)
def test_present_and_frozen_show_what_training_does_next(law, masks):
    quantizer = stompp((2, 4), schedule="linear", law=law, masks=masks, refresh=3)
    state, x = start(quantizer), values()
    inside = (np.abs(x) > 0) & (np.abs(x) < 1)
    for _ in range(8):
        seen = look(quantizer, x, state)
        np.testing.assert_array_equal(seen.present, seen.values)
        is_sign = seen.values == np.sign(x)
        np.testing.assert_array_equal(seen.frozen[inside], is_sign[inside])
        state = seen.after


def test_under_bernoulli_they_show_what_training_did_last():
    quantizer = stompp((2, 4), schedule="linear", law="bernoulli", refresh=2)
    x = values()
    state, mask = start(quantizer), np.zeros(SHAPE, bool)
    for step in range(8):
        seen = look(quantizer, x, state)
        # Once the window is over every mask is forced to one.
        np.testing.assert_array_equal(seen.frozen, mask if step < 6 else True)
        signs = np.where(x < 0, -1, 1)
        expected = np.where(seen.frozen, signs, np.clip(x, -1, 1))
        np.testing.assert_array_equal(seen.present, expected)
        state, mask = seen.after, seen.mask
    assert mask.all()


@pytest.mark.parametrize("law", LAWS)
def test_a_resumed_run_continues_exactly(law):
    quantizer = stompp((3, 40), law=law, refresh=4)
    whole, end = run(quantizer, start(quantizer))
    first, middle = run(quantizer, start(quantizer), STEPS // 2)
    assert 0.1 < np.mean(first[-1]) < 0.5
    read = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).copy()), middle)
    second, after = run(quantizer, read, STEPS // 2)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert_same(after, end)


@pytest.mark.parametrize("law", LAWS)
def test_masks_belong_to_the_key(law):
    quantizer = stompp((3, 50), law=law, refresh=2)
    a, b, again = (
        np.asarray(run(quantizer, start(quantizer, seed=seed))[0][43])
        for seed in (0, 1, 0)
    )
    assert 0.4 < np.mean(a != b) < 0.6
    np.testing.assert_array_equal(a, again)


def random_primitives(jaxpr, within=False):
    """Names of the random primitives, with whether a branch of a `cond` holds them."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name.startswith(("random_", "threefry")):
            yield name, within
        for inner in jaxprs_in_params(equation.params):
            yield from random_primitives(inner, within or name == "cond")


@pytest.mark.parametrize("law", LAWS)
def test_random_numbers_are_drawn_in_transition_only(law):
    quantizer = stompp((0, 8), law=law)
    state = start(quantizer)

    def loss(x, state):
        return jnp.sum(quantizer.apply(x, state, True)[0])

    for f in (loss, jax.grad(loss)):
        jaxpr = jax.make_jaxpr(f)(jnp.zeros(SHAPE), state).jaxpr
        found = set(random_primitives(jaxpr))
        assert ("random_bits", True) in found
        assert not [name for name, within in found if not within]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_own_every_step_once(data):
    layers = data.draw(st.integers(1, 50))
    steps = data.draw(st.integers(layers, 700))
    explicit = data.draw(st.permutations(range(layers)))
    for order, as_list in (
        ("forward", list(range(layers))),
        ("reverse", list(range(layers))[::-1]),
        (explicit, explicit),
        (tuple(explicit), explicit),
    ):
        # The k-th owns floor(kS/L) to floor((k+1)S/L) - 1.
        ends = [k * steps // layers for k in range(layers + 1)]
        rule = dict(zip(as_list, itertools.pairwise(ends), strict=True))
        found = windows(steps, layers, order)
        spans = [(first, first + length) for first, length in found]
        assert spans == [rule[layer] for layer in range(layers)]
        owned = itertools.chain.from_iterable(range(*span) for span in spans)
        assert sorted(owned) == list(range(steps))
    assert windows(steps, layers) == windows(steps, layers, "forward")
    assert windows(steps, layers, "global") == [(0, steps)] * layers


def test_windows_by_hand():
    assert windows(7, 3) == [(0, 2), (2, 2), (4, 3)]
    assert windows(7, 3, "reverse") == [(4, 3), (2, 2), (0, 2)]
    assert windows(7, 3, [1, 2, 0]) == [(4, 3), (0, 2), (2, 2)]
    assert windows(2, 3, "global") == [(0, 2)] * 3


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ((3, 4), "^3 steps of freezing are left for 4 layers: "),
        ((0, 1, "reverse"), "^0 steps of freezing are left for 1 layers: "),
        ((0, 4, "global"), "^steps of freezing is 0: an integer from 1"),
        ((9, 3, [0, 1]), r"^order \(0, 1\) is given for 3 layers: .* 0 to 2 once"),
        ((9, 3, (0, 1, 1)), r"^order \(0, 1, 1\) is given for 3 layers: "),
        ((9, 3, (1, 2, 3)), r"^order \(1, 2, 3\) is given for 3 layers: "),
        ((9, 3, "sideways"), "^unknown order 'sideways': accepted are 'forward'"),
    ],
)
def test_windows_refuses(given_, says):
    with pytest.raises(InputError, match=says) as raised:
        windows(*given_)
    assert "\n" not in str(raised.value)


# The primitive: freeze.


def half(seed=0):
    return np.random.default_rng(seed).random(SHAPE) < 0.5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("surrogate", ["none", "identity", "clipped"])
def test_freeze_by_hand(surrogate, scaled, dtype):
    u, upstream = (jnp.asarray(values(seed), dtype) for seed in (0, 1))
    frozen = half()
    # Powers of two: products are exact.
    scale = 2.0 ** np.arange(-8, 8, dtype=np.float32) if scaled else np.float32(1)
    given = (u, jnp.asarray(scale)) if scaled else (u,)
    out, pull = jax.vjp(
        lambda u, *scale: freeze(u, jnp.asarray(frozen), surrogate, *scale), *given
    )
    to_u, *to_scale = pull(upstream)
    assert (out.dtype, to_u.dtype) == (dtype, dtype)
    u, out, to_u, upstream = (
        np.asarray(each, np.float32) for each in (u, out, to_u, upstream)
    )
    signs = np.where(u < 0, -1, 1) * scale
    np.testing.assert_array_equal(out, np.where(frozen, signs, np.clip(u, -1, 1)))
    inside = np.abs(u) < 1
    hard = {"none": 0, "identity": np.ones(SHAPE), "clipped": inside}[surrogate]
    expected = upstream * np.where(frozen, hard * scale, inside)
    np.testing.assert_array_equal(to_u, expected)
    assert not np.any(to_scale)


@pytest.mark.parametrize("scaled", [False, True])
def test_freeze_under_jit_and_vmap(scaled):
    u, frozen = jnp.asarray(values()), jnp.asarray(half()[0])
    scale = jnp.arange(1.0, 17.0) if scaled else None

    def both(u):
        out, pull = jax.vjp(lambda u: freeze(u, frozen, "identity", scale), u)
        return out, pull(jnp.full_like(u, 3.0))[0]

    eager = both(u)
    assert_same(jax.jit(both)(u), eager)
    assert_same(jax.vmap(both)(u), eager)


def test_signs_of_what_is_no_number_are_none():
    u = jnp.array([jnp.nan, -0.0, -2.0])
    found = freeze(u, jnp.array([True, True, True]))
    np.testing.assert_array_equal(found, [np.nan, 1, -1])


def test_in_forward_order_no_layer_begins_before_the_last_is_complete():
    layers = [stompp(window, refresh=3) for window in windows(30, 4)]
    shares = []
    for number, quantizer in enumerate(layers):
        masks, _ = run(quantizer, start(quantizer, (60,), number), 34, (60,))
        shares.append(np.asarray(masks).mean(1))
    for earlier, later in itertools.pairwise(shares):
        assert np.all(earlier[later > 0] == 1)
        assert np.any((earlier == 1) & (later == 0))
    assert all(share[30] == 1 for share in shares)
