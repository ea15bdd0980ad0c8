"""Distances against SciPy, POT, exact fractions and finite differences."""

import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from jsnnq.analysis import emd
from jsnnq.errors import InputError
from tests.programs import python

with warnings.catch_warnings():  # invalid escapes in its docstrings
    warnings.simplefilter("ignore")
    import ot

TOTAL = 4 * 10_000  # timesteps x images of CIFAR's test set


def layer_counts(shape, seed: int, total: int = TOTAL) -> np.ndarray:
    """Counts as layers have them: most neurons rarely fire, some never, some always."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(0.3, 2.0, shape)
    rates = np.where(rng.random(shape) < 0.3, 0, rates)
    rates = np.where(rng.random(shape) < 0.01, 1, rates)
    return np.round(rates * total).astype(np.int32)


def random_pair(n: int, m: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.random(n), rng.random(m) ** 2


def random_weights(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(n) * (rng.random(n) < 0.7) * 10


def pot(x, y, p: float = 1, a=None, b=None) -> float:
    """W_p by POT, which returns its power p."""
    a = None if a is None else a / a.sum()
    b = None if b is None else b / b.sum()
    return float(ot.wasserstein_1d(x, y, a, b, p=p)) ** (1 / p)


def exact(x, y, total: int) -> Fraction:
    """W1 in rational arithmetic, by the sum over cumulative counts."""
    f = np.cumsum(np.bincount(x, minlength=total + 1)).astype(object)
    g = np.cumsum(np.bincount(y, minlength=total + 1)).astype(object)
    gaps = sum(abs(f * len(y) - g * len(x)))
    return Fraction(int(gaps), len(x) * len(y) * total)


# Against SciPy and POT.


def assert_near(found, x, y, a=None, b=None, within=1e-6):
    """A distance against SciPy's and POT's."""
    assert abs(float(found) - wasserstein_distance(x, y, a, b)) < within
    a, b = (np.ones(len(v)) if w is None else w for v, w in ((x, a), (y, b)))
    assert abs(float(found) - pot(x, y, 1, a, b)) < within


@pytest.mark.parametrize("method", ["auto", "uniform", "quantile"])
@pytest.mark.parametrize("n", [1, 30, 300])
def test_random_rates_of_equal_size(method, n):
    x, y = random_pair(n, n, seed=n)
    distance = emd.wasserstein(x, y, method=method)
    assert_near(distance, x, y)
    if n < 100:
        assert abs(float(distance) - ot.emd2_1d(x, y, metric="euclidean")) < 1e-6


@pytest.mark.parametrize("sizes", [(1, 5), (300, 200), (4096, 3000)])
def test_random_rates_of_different_sizes(sizes):
    x, y = random_pair(*sizes)
    assert_near(emd.wasserstein(x, y), x, y)


@pytest.mark.parametrize("method", ["counts", "uniform", "quantile"])
@pytest.mark.parametrize(("n", "total"), [(8192, TOTAL), (300, 4)])
def test_counts_of_ten_thousand_images_and_ties_at_four_timesteps(method, n, total):
    x, y = layer_counts(n, 0, total), layer_counts(n, 1, total)
    distance = emd.wasserstein(x, y, total=total, method=method)
    within = 1e-8 if method == "counts" else 1e-6
    assert_near(distance, x / total, y / total, within=within)
    rates = emd.wasserstein(x / total, y / total)
    assert_near(rates, x / total, y / total)


@pytest.mark.parametrize("sizes", [(300, 300), (300, 200)])
@pytest.mark.parametrize("given_for", ["both", "x", "y"])
def test_weighted_supports(sizes, given_for):
    x, y = random_pair(*sizes)
    a = random_weights(sizes[0], 1) if given_for != "y" else None
    b = random_weights(sizes[1], 2) if given_for != "x" else None
    assert_near(emd.wasserstein(x, y, x_weights=a, y_weights=b), x, y, a, b)


def test_a_value_of_weight_zero_takes_no_part_wherever_it_lies():
    x, y = random_pair(300, 200)
    a = np.ones(300)
    x[7], a[7] = 1e6, 0
    assert_near(emd.wasserstein(x, y, x_weights=a), np.delete(x, 7), y)


@pytest.mark.parametrize("p", [1.5, 2, 6])
def test_powers_with_equal_sizes_and_with_others(p):
    x, y = random_pair(300, 300)
    formula = np.mean(np.abs(np.sort(x) - np.sort(y)) ** p) ** (1 / p)
    assert abs(float(emd.wasserstein(x, y, p=p)) - formula) < 1e-6
    x, y = random_pair(300, 200)
    assert abs(float(emd.wasserstein(x, y, p=p)) - pot(x, y, p)) < 1e-6


def test_counts_with_power_two_go_through_rates():
    x, y = layer_counts(300, 0), layer_counts(200, 1)
    distance = float(emd.wasserstein(x, y, total=TOTAL, p=2))
    assert abs(distance - pot(x / TOTAL, y / TOTAL, 2)) < 1e-6


# The exact path.


@pytest.mark.parametrize(
    ("n", "m", "total"),
    [(50, 50, 1), (64, 64, 4), (60, 36, 20), (31, 37, 1440), (9, 9, 70_000)],
)
def test_counts_equal_rational_arithmetic(n, m, total):
    rng = np.random.default_rng(total)
    x, y = rng.integers(0, total + 1, n), rng.integers(0, total // 2 + 1, m)
    distance = float(emd.wasserstein(x, y, total=total, method="counts"))
    assert abs(Fraction(distance) - exact(x, y, total)) < 2e-7 * exact(x, y, total)


@pytest.mark.parametrize("n", [65_536, 2**17 - 1])
def test_counts_whose_sum_passes_32_bits(n):
    # 65,536 neurons are the largest layer on CIFAR: the terms add up to 2.6e9.
    silent, full = np.zeros(n, np.int32), np.full(n, TOTAL)
    assert float(emd.wasserstein(silent, full, total=TOTAL, method="counts")) == 1


def test_counts_of_millions_of_images():
    total = 2**22
    x, y = np.array([0, total, 7]), np.array([total, total - 1, 3])
    distance = float(emd.wasserstein(x, y, total=total, method="counts"))
    assert abs(distance - (total - 1 - 7 + 3) / (3 * total)) < 2e-8


def test_one_spike_of_one_neuron_is_seen():
    x = layer_counts(65_536, 0)
    x[0], y = 5, x.copy()
    y[0] = 6
    distance = float(emd.wasserstein(x, y, total=TOTAL, method="counts"))
    assert abs(distance * 65_536 * TOTAL - 1) < 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint32])
def test_counts_of_any_integer_type(dtype):
    x, y = np.array([0, 3, 255], dtype), np.array([1, 1, 1], dtype)
    distance = float(emd.wasserstein(x, y, total=1000, method="counts"))
    assert abs(distance - wasserstein_distance(x / 1000, y / 1000)) < 1e-8


def test_auto_takes_counts_exactly_and_falls_back_where_they_do_not_fit():
    x, y = layer_counts(100, 0), layer_counts(100, 1)
    automatic = emd.wasserstein(x, y, total=TOTAL)
    exactly = emd.wasserstein(x, y, total=TOTAL, method="counts")
    assert float(automatic) == float(exactly)
    # Coprime sizes whose product passes 2^31.
    x, y = layer_counts(50_000, 0), layer_counts(49_999, 1)
    distance = float(emd.wasserstein(x, y, total=TOTAL))
    assert abs(distance - wasserstein_distance(x / TOTAL, y / TOTAL)) < 1e-6
    with pytest.raises(InputError, match="least common multiple"):
        emd.wasserstein(x, y, total=TOTAL, method="counts")


# Metric properties.

TWELVE = st.lists(st.integers(0, 20), min_size=12, max_size=12).map(np.array)


@jax.jit
def three_ways(x, y):
    return jnp.stack(
        [
            emd.wasserstein(x, y, total=20, method="counts"),
            emd.wasserstein(x / 20, y / 20, method="uniform"),
            emd.wasserstein(x / 20, y / 20, method="quantile"),
        ]
    )


@settings(deadline=None, max_examples=60)
@given(TWELVE, TWELVE, TWELVE)
def test_w1_is_a_metric_between_sets(x, y, z):
    xy, yx, xz, zy = map(three_ways, (x, y, x, z), (y, x, z, y))
    np.testing.assert_allclose(xy, yx, rtol=0, atol=1e-6)
    assert (xy <= xz + zy + 1e-6).all()
    assert (xy >= abs(x.mean() - y.mean()) / 20 - 1e-6).all()
    assert (xy <= 1 + 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(TWELVE, TWELVE)
def test_w1_is_zero_for_equal_sets_only(x, y):
    np.testing.assert_allclose(three_ways(x, x[::-1]), 0, rtol=0, atol=1e-6)
    if sorted(x) != sorted(y):
        assert (three_ways(x, y) > 1 / (12 * 20) - 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(TWELVE, TWELVE, st.permutations(range(12)))
def test_w1_is_blind_to_permutations_and_below_matched(x, y, order):
    distances = three_ways(x, y)
    np.testing.assert_allclose(
        three_ways(x, y[list(order)]), distances, rtol=0, atol=1e-7
    )
    assert (distances <= np.abs(x - y).mean() / 20 + 1e-6).all()


def test_matched_is_the_mean_absolute_difference():
    x, y = layer_counts((9, 9, 16), 0) / TOTAL, layer_counts((9, 9, 16), 1) / TOTAL
    assert abs(float(emd.matched(x, y)) - np.abs(x - y).mean()) < 1e-7


# jit, vmap, gradients, types.


@pytest.mark.parametrize("method", ["counts", "uniform", "quantile"])
def test_jit_and_vmap_equal_one_call_each(method):
    x, y = layer_counts((2, 5, 300), 0, total=100)
    distance = lambda x, y: emd.wasserstein(x, y, total=100, method=method)
    single = [float(distance(u, v)) for u, v in zip(x, y, strict=True)]
    atol = 0 if method == "counts" else 1e-7
    for at_once in (jax.vmap(distance), jax.jit(jax.vmap(distance))):
        np.testing.assert_allclose(at_once(x, y), single, rtol=0, atol=atol)


def test_vmap_over_weights_and_matched():
    x, y = random_pair(20, 15)
    weights = np.stack([random_weights(20, seed) for seed in range(3)])
    distance = lambda a: emd.wasserstein(x, y, x_weights=a)
    expected = [wasserstein_distance(x, y, a) for a in weights]
    np.testing.assert_allclose(jax.vmap(distance)(weights), expected, rtol=0, atol=1e-6)
    pairs = np.random.default_rng(0).random((2, 4, 6))
    expected = np.abs(pairs[0] - pairs[1]).mean(axis=1)
    np.testing.assert_allclose(
        jax.vmap(emd.matched)(*pairs), expected, rtol=0, atol=1e-7
    )


def finite_differences(f, x, y, step: float = 1e-6):
    """Central differences by both arguments in double precision."""
    slope = lambda f, x: np.array(
        [(f(x + e) - f(x - e)) / (2 * step) for e in np.eye(len(x)) * step]
    )
    return slope(lambda x: f(x, y), x), slope(lambda y: f(x, y), y)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("sizes", [(9, 9), (9, 7)])
def test_gradients_through_rates(p, sizes):
    x, y = random_pair(*sizes, seed=3)
    gradients = jax.grad(lambda x, y: emd.wasserstein(x, y, p=p), argnums=(0, 1))
    slopes = finite_differences(lambda x, y: pot(x, y, p), x, y)
    for found, expected in zip(jax.jit(gradients)(x, y), slopes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("method", ["uniform", "quantile"])
def test_values_and_gradients_agree_where_rates_tie(p, method):
    # OTT's own costs give 0.81 here in place of 0.06: 1 for each pair without distance.
    x, y = np.array([0, 0.25, 0.5, 1]), np.array([0, 0.25, 0.75, 1])
    distance = lambda x: emd.wasserstein(x, y, p=p, method=method)
    value, gradient = jax.jit(jax.value_and_grad(distance))(x)
    gaps = x - y
    expected = np.mean(np.abs(gaps) ** p) ** (1 / p)
    assert abs(float(value) - expected) < 1e-6
    by_formula = np.sign(gaps) * np.abs(gaps) ** (p - 1) / 4 / expected ** (p - 1)
    np.testing.assert_allclose(gradient, by_formula, rtol=0, atol=1e-6)


def test_gradients_of_matched():
    x, y = jnp.array([[0.0, 0.5], [0.25, 1.0]]), jnp.array([[0.0, 0.75], [0.0, 1.0]])
    gradient = jax.grad(emd.matched)(x, y)
    np.testing.assert_array_equal(gradient, np.array([[0, -1], [1, 0]]) / 4)


def test_gradients_through_weights():
    x, y = random_pair(9, 7, seed=4)
    a, b = np.random.default_rng(5).random(9) + 0.1, np.full(7, 0.5)
    distance = lambda a, b: emd.wasserstein(x, y, x_weights=a, y_weights=b)
    slopes = finite_differences(lambda a, b: wasserstein_distance(x, y, a, b), a, b)
    gradients = jax.jit(jax.grad(distance, argnums=(0, 1)))(a, b)
    for found, expected in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_gradients_between_equal_sets_are_finite(p):
    x, a = jnp.array([0.0, 0.25, 0.25, 1.0]), jnp.ones(4)
    uniform = lambda x: emd.wasserstein(x, x[::-1], p=p)
    weighted = lambda x, a: emd.wasserstein(x, x[::-1], x_weights=a, p=p)
    assert np.isfinite(jax.jit(jax.grad(uniform))(x)).all()
    for gradient in jax.jit(jax.grad(weighted, argnums=(0, 1)))(x, a):
        assert np.isfinite(gradient).all()


def test_gradients_of_counts_are_refused_by_name():
    x, y = jnp.array([0.0, 3.0]), jnp.array([1, 2])
    distance = lambda x: emd.wasserstein(x, y, total=4, method="counts")
    with pytest.raises(InputError, match="no gradient"):
        jax.grad(distance)(x)
    with pytest.raises(InputError, match="no gradient"):
        jax.grad(lambda x: emd.wasserstein(x, y, total=4))(x)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_short_floats_are_exact_on_the_grid_of_four_timesteps(dtype):
    x, y = layer_counts(500, 0, total=4) / 4, layer_counts(500, 1, total=4) / 4
    distance = emd.wasserstein(jnp.asarray(x, dtype), jnp.asarray(y, dtype))
    assert distance.dtype == jnp.float32
    assert abs(float(distance) - wasserstein_distance(x, y)) < 1e-7


def test_double_precision_is_used_where_it_is_enabled():
    x, y = random_pair(40, 30)
    counts = layer_counts((2, 40), 0)
    with jax.enable_x64(True):
        rates = float(emd.wasserstein(x, y))
        whole = float(emd.wasserstein(*counts, total=TOTAL, method="counts"))
    assert abs(rates - wasserstein_distance(x, y)) < 1e-14
    assert abs(whole - wasserstein_distance(*counts / TOTAL)) < 1e-14


def test_ott_is_imported_late_and_even_within_a_trace():
    script = """
import sys, warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp
from jsnnq.analysis import emd
assert "ott" not in sys.modules
x, y = jnp.array([0.0, 0.5, 1.0]), jnp.array([0.5, 1.0])
first = jax.jit(emd.wasserstein)(x, x + 0.25)
second = jax.vmap(lambda x: emd.wasserstein(x, y))(x[None])
assert "ott" in sys.modules
print(first, second)
"""
    python(script)


# Two networks.

SHAPES = {"stem": (8, 8, 6), "stage1.0.sn1": (8, 8, 6), "stage2.0.sn1": (4, 4, 12)}
LARGEST = 4 * 360


def network(seed: int, total: int = LARGEST) -> dict[str, np.ndarray]:
    return {
        name: layer_counts(shape, seed + i, total)
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def rates(layers, total: int, unit: str = "neuron") -> dict[str, np.ndarray]:
    """Rates of each layer's neurons or channels, in one row."""
    axes = () if unit == "neuron" else (0, 1)
    return {k: np.mean(v / total, axis=axes).ravel() for k, v in layers.items()}


def assert_aggregates(distances, u, v, measure, tolerance):
    """Compares with a measure of rates by layer, and aggregates typed again."""
    assert list(distances.layers) == list(u)
    layers = np.array([measure(u[name], v[name]) for name in u])
    sizes = np.array([layer.size for layer in u.values()])
    weighted = (sizes * layers).sum() / sizes.sum()
    pooled = measure(*(np.concatenate(list(each.values())) for each in (u, v)))
    expected = [*layers, layers.mean(), weighted, layers.max(), pooled]
    d = distances
    found = [*d.layers.values(), d.mean, d.weighted, d.max, d.pooled]
    assert all(isinstance(number, float) for number in found)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["auto", "counts", "uniform"])
def test_compare_equals_scipy_layer_by_layer(method):
    a, b = network(0), network(10)
    reordered = {name: jnp.asarray(b[name]) for name in reversed(b)}
    options = {"a_total": LARGEST, "b_total": LARGEST, "method": method}
    found = emd.compare(a, reordered, **options)
    tolerance = 1e-6 if method == "uniform" else 1e-14
    u, v = rates(a, LARGEST), rates(b, LARGEST)
    assert_aggregates(found, u, v, wasserstein_distance, tolerance)


@pytest.mark.parametrize(
    ("total", "cut", "unit", "tolerance"),
    [
        (400, 8, "neuron", 1e-6),
        (LARGEST, 4, "neuron", 1e-14),
        (LARGEST, 8, "channel", 1e-6),
    ],
    ids=["over other images", "layers of other sizes", "by channel"],
)
def test_compare_equals_scipy(total, cut, unit, tolerance):
    a, b = network(0), network(10, total)
    b["stem"] = b["stem"][:cut]
    found = emd.compare(a, b, a_total=LARGEST, b_total=total, unit=unit)
    u, v = rates(a, LARGEST, unit), rates(b, total, unit)
    assert_aggregates(found, u, v, wasserstein_distance, tolerance)


@pytest.mark.parametrize("unit", ["neuron", "channel"])
def test_compare_matched(unit):
    a, b = network(0), network(10, total=400)
    found = emd.compare_matched(a, b, a_total=LARGEST, b_total=400, unit=unit)
    u, v = rates(a, LARGEST, unit), rates(b, 400, unit)
    assert_aggregates(found, u, v, lambda x, y: np.abs(x - y).mean(), 1e-7)
    assert found.pooled == found.weighted


# Lists, and scalars of any kind.


def test_lists_are_taken_like_arrays():
    assert emd.wasserstein([1, 2], [3, 4], total=4) == 0.5
    assert emd.wasserstein([0.25, 0.5], (0.5, 0.75)) == 0.25
    assert emd.wasserstein([0.25], [0.5, 0.75], y_weights=[1.0, 0.0]) == 0.25
    assert emd.matched([[0.25, 0.5]], [[0.5, 0.25]]) == 0.25
    for measure in (emd.compare, emd.compare_matched):
        found = measure({"u": [1, 2]}, {"u": [3, 4]}, a_total=4, b_total=4)
        assert found.layers == {"u": 0.5}
    with pytest.raises(InputError, match=r"b\['u'\] has lists of different lengths"):
        emd.compare({"u": [1]}, {"u": [[1], [2, 3]]}, a_total=4, b_total=4)


def test_lists_of_traced_numbers_are_taken_like_arrays():
    slope = jax.grad(lambda x: emd.matched([x, 0.5], [0.75, 0.25]))(0.25)
    assert slope == -0.5


@pytest.mark.parametrize("make", [list, np.asarray, jnp.asarray])
def test_whole_numbers_are_weights_too(make):
    x, y = np.array([0.0, 0.5, 1.0]), np.array([0.25, 0.75])
    expected = emd.wasserstein(
        x, y, x_weights=np.array([1.0, 2.0, 3.0]), y_weights=np.array([1.0, 3.0])
    )
    found = emd.wasserstein(x, y, x_weights=make([1, 2, 3]), y_weights=make([1, 3]))
    assert found == expected


@pytest.mark.parametrize("scalar", [np.int64, np.uint8, np.array, jnp.array])
def test_totals_and_exponents_are_scalars_of_any_kind(scalar):
    x, y = np.array([1, 2]), np.array([3, 4])
    assert emd.wasserstein(x, y, total=scalar(4)) == 0.5
    assert emd.wasserstein(x / 4, y / 4, p=scalar(2)) == 0.5
    options = {"a_total": scalar(4), "b_total": scalar(8)}
    assert emd.compare({"u": x}, {"u": 2 * y}, **options).mean == 0.5


# Bad input.

RATES = np.array([0.0, 0.5, 1.0], np.float32)
COUNTS = np.array([0, 2, 4], np.int32)
SHORT = np.array([0.5])


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros(0), RATES, {}, "x is empty"),
        (RATES, np.zeros((2, 3)), {}, r"y has shape \(2, 3\).*one axis"),
        (RATES, np.array([0, np.nan, 1]), {}, "y has values that are NaN"),
        (np.array([0, np.inf, 1]), RATES, {}, "x has values that are NaN or infinite"),
        (COUNTS, RATES, {}, "x is int32.*`total`"),
        (RATES > 0, RATES, {}, "x is bool"),
        (RATES, COUNTS, {"total": 4}, "x is float32.*no gradient"),
        (COUNTS, COUNTS + 1, {"total": 4}, "y goes from 1 to 5.*total = 4"),
        (COUNTS - 1, COUNTS, {"total": 4}, "x goes from -1 to 3"),
        (COUNTS, COUNTS, {"total": 0}, "total is 0"),
        (COUNTS, COUNTS, {"total": 2**31}, "total is 2147483648"),
        (COUNTS[:0], COUNTS, {"total": 4}, "x is empty"),
        (RATES, RATES, {"p": 0.5}, "p is 0.5.*from 1 to 6"),
        (RATES, RATES, {"p": float("nan")}, "p is nan"),
        (RATES, RATES, {"p": 7}, "p is 7"),
        (RATES, RATES, {"p": True}, "p is True"),
        (COUNTS, COUNTS, {"total": True}, "total is True"),
        ([0, 2], [2, 4], {}, "x is int64: give rates as floats"),
        ([[0.5], [0.5, 1.0]], RATES, {}, "x has lists of different lengths"),
        (["a"], RATES, {}, "x is <U1: give rates as floats"),
        (RATES, RATES, {"method": "sinkhorn"}, "unknown method 'sinkhorn'"),
        (RATES, SHORT, {"method": "uniform"}, "'uniform'.*equal size.*'auto'"),
        (RATES, RATES, {"method": "uniform", "x_weights": RATES}, "without weights"),
        (RATES, RATES, {"method": "counts"}, "integer counts with their total"),
        (COUNTS, COUNTS, {"method": "counts", "total": 4, "p": 2}, "p = 1"),
        (COUNTS, COUNTS, {"method": "counts", "total": 2**25}, "at most 2.25"),
        (RATES, RATES, {"x_weights": SHORT}, r"x_weights has shape \(1,\).*3 values"),
        (RATES, RATES, {"y_weights": -RATES}, "y_weights has a negative weight"),
        (RATES, RATES, {"x_weights": 0 * RATES}, "none above 0"),
        (RATES, RATES, {"x_weights": COUNTS > 0}, "x_weights is bool: give weights as"),
        (RATES, RATES, {"x_weights": -COUNTS}, "x_weights has a negative weight"),
        (RATES, RATES, {"x_weights": RATES * np.nan}, "x_weights has values that are"),
        (RATES, RATES, {"y_weights": RATES[:0]}, r"shape \(0,\)"),
    ],
)
def test_wasserstein_refuses(x, y, options, message):
    with pytest.raises(InputError, match=message):
        emd.wasserstein(x, y, **options)


@pytest.mark.parametrize("method", ["uniform", "quantile"])
def test_under_jit_what_is_not_finite_gives_nan(method):
    distance = jax.jit(lambda x, y: emd.wasserstein(x, y, method=method))
    for value in (np.nan, np.inf, -np.inf):
        spoiled = np.array([0, value, 1])
        assert np.isnan(distance(spoiled, RATES))
        assert np.isnan(distance(RATES, spoiled))
        assert np.isnan(jax.jit(emd.matched)(RATES, spoiled))
    assert distance(RATES, RATES) == 0


def test_under_jit_bad_weights_and_what_they_would_hide_give_nan():
    of_x = jax.jit(lambda v, a: emd.wasserstein(v, RATES, x_weights=a))
    of_y = jax.jit(lambda v, a: emd.wasserstein(RATES, v, y_weights=a))
    hidden, hiding = np.array([0.0, np.nan, 1.0]), np.array([1.0, 0.0, 1.0])
    for distance in (of_x, of_y):
        for weights in ([-1.0, 1, 1], [0.0, 0, 0], [np.nan, 1, 1], [np.inf, 1, 1]):
            assert np.isnan(distance(RATES, np.array(weights)))
        assert np.isnan(distance(hidden, hiding))
        assert np.isfinite(distance(RATES, np.ones(3)))


@pytest.mark.parametrize("method", ["counts", "uniform", "quantile"])
def test_under_jit_counts_out_of_range_give_nan(method):
    distance = jax.jit(lambda x, y: emd.wasserstein(x, y, total=4, method=method))
    assert np.isnan(distance(COUNTS + 1, COUNTS))
    assert np.isnan(distance(COUNTS, COUNTS - 1))
    assert distance(COUNTS, COUNTS) == 0


def test_under_jit_shapes_are_checked():
    with pytest.raises(InputError, match="one axis"):
        jax.jit(emd.wasserstein)(np.zeros((2, 2)), RATES)
    with pytest.raises(InputError, match="x_weights has shape"):
        jax.jit(lambda a: emd.wasserstein(RATES, RATES, x_weights=a))(SHORT)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (RATES, SHORT, r"shape \(3,\) and y \(1,\)"),
        (COUNTS, COUNTS, "x is int32"),
        (RATES[:0], RATES[:0], "empty"),
    ],
)
def test_matched_refuses(x, y, message):
    with pytest.raises(InputError, match=message):
        emd.matched(x, y)


@pytest.mark.parametrize("measure", [emd.compare, emd.compare_matched])
@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ({"u": COUNTS}, {"v": COUNTS}, {}, r"only in a: \['u'\], only in b: \['v'\]"),
        ({}, {}, {}, "no layer"),
        ({"u": RATES}, {"u": COUNTS}, {}, r"a\['u'\] is float32.*integer"),
        ({"u": COUNTS}, {"u": COUNTS + 1}, {}, r"b\['u'\] goes from 1 to 5"),
        ({"u": COUNTS[:0]}, {"u": COUNTS}, {}, r"a\['u'\] is empty"),
        ({"u": COUNTS}, {"u": COUNTS}, {"b_total": 0}, "total is 0"),
        ([1, 2], {"u": COUNTS}, {}, "a is of type list: .*mapping of counts by layer"),
        ({"u": COUNTS}, {"u": COUNTS}, {"unit": "layer"}, "unknown unit 'layer'"),
    ],
)
def test_comparisons_refuse(measure, a, b, options, message):
    with pytest.raises(InputError, match=message):
        measure(a, b, **{"a_total": 4, "b_total": 4} | options)


def test_compare_refuses_counts_where_they_do_not_fit():
    layers = {"u": COUNTS}
    for options in ({"unit": "channel"}, {"b_total": 8}):
        settings = {"a_total": 4, "b_total": 4, "method": "counts"} | options
        with pytest.raises(InputError, match="method 'counts' does not take"):
            emd.compare(layers, layers, **settings)
    with pytest.raises(InputError, match="unknown method"):
        emd.compare(layers, layers, a_total=4, b_total=4, method="exact")


def test_compare_matched_refuses_other_shapes():
    with pytest.raises(InputError, match=r"a\['u'\] has shape \(3,\).*\(2,\)"):
        emd.compare_matched({"u": COUNTS}, {"u": COUNTS[1:]}, a_total=4, b_total=4)
