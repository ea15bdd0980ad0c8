"""Wasserstein distances between firing distributions.

The firing distribution of a layer is the set of its neurons' rates. How far it
moved is the Earth Mover's Distance, W1, between the two sets
("Quantization of Spiking Neural Networks Beyond Accuracy", arXiv 2604.14487). On a
line optimal transport needs no entropic approximation: with distribution functions
F, G and their inverses (Peyré and Cuturi, "Computational Optimal Transport", 2019,
remark 2.30)

    W_p(x, y) = (int_0^1 |F^-1(u) - G^-1(u)|^p du)^(1/p),
    W_1(x, y) = int |F(r) - G(r)| dr.

Rates go through the univariate solvers of OTT-JAX, which evaluate the first line.
Spike counts out of the same total lie on a grid, where the second line is a sum of
integers: it is taken exactly and rounded once, at the end.

W1 compares sets and does not see neurons that exchange their rates; `matched` does,
and is never smaller.

Arrays whose values are known are checked. Under `jit`, `vmap` and `grad` only shapes
and dtypes can be, and what a check would have refused there becomes NaN.
"""

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

from jsnnq.analysis.firing import Counts, rates
from jsnnq.errors import InputError, choose
from jsnnq.runtime.precision import at_least_float32

METHODS = ("auto", "counts", "uniform", "quantile")
"""The ways to a distance; `wasserstein` says which takes what."""

# Above it |d|^p leaves float32 for differences d that matter (1e-6).
_LARGEST_POWER = 6
# Histograms have one int32 for each layer and possible count: 128 MiB at this many.
_MOST_BINS = 2**25

_TAKES = {
    "counts": "integer counts with their total, p = 1, no weights, sizes with a least "
    "common multiple below 2^31 and at most 2^25 possible counts in all layers",
    "uniform": "samples of equal size without weights",
}


class Distances(NamedTuple):
    """How far a network's firing distributions moved, in units of rate (0 to 1)."""

    layers: dict[str, float]
    """Distance of each layer."""
    mean: float
    """Mean over the layers."""
    weighted: float
    """Mean over the layers weighted by their sizes n_l: sum n_l W_l / sum n_l."""
    max: float
    """Largest over the layers."""
    pooled: float
    """Distance with all neurons of the network taken as one distribution."""

    def as_data(self) -> dict[str, Any]:
        """As they stand in `results.json`, the layers last."""
        layers, *whole = self
        return {**dict(zip(self._fields[1:], whole, strict=True)), "layers": layers}


def wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
    total: int | None = None,
    p: int | float = 1,
    method: str = "auto",
) -> Float[Array, ""]:
    """Wasserstein distance W_p between two samples on a line.

    `p=1` is the Earth Mover's Distance; `p=2` gives W_2, not its square. Methods:

    * `"counts"`: exact integers, see `wasserstein_counts`; takes counts with their
      `total`, p = 1 and no weights.
    * `"uniform"`: sorted values are paired (OTT's `uniform_solver`); takes equal
      sizes and no weights. On rates only the rounding to float32 is lost, 6e-8.
    * `"quantile"`: inverse distribution functions (OTT's `quantile_solver`); takes
      any sizes and weights. Cumulative weights are rounded to float32, an error of
      about 2e-7 in W_p^p; so a W_2 near 0 may be wrong by the root of that.
    * `"auto"`: the first of these that takes what is given.

    Differentiable in rates and weights: piecewise linear for p = 1; where two paired
    values are equal, their difference counts as constant. Counts have no gradient.

    Args:
        x: rates "N", floats; or spike counts "N", integers, with their `total`.
        y: likewise "M".
        x_weights: weights "N" of x: not negative, with any positive sum; equal ones
            by default. An x of weight 0 takes no part.
        y_weights: likewise "M".
        total: what counts are out of, timesteps x images; for counts only.
        p: exponent from 1 to 6, a Python number.
        method: `"auto"`, `"counts"`, `"uniform"` or `"quantile"`.

    Returns:
        The distance, in the unit of the rates.

    Raises:
        InputError: an array is empty, not one-dimensional, not finite or of the
            wrong kind, weights do not fit, or the method does not take what is given.
    """
    _check_line("x", x)
    _check_line("y", y)
    _check_power(p)
    n, m = jnp.size(x), jnp.size(y)
    weighted = x_weights is not None or y_weights is not None
    if total is None:
        x, y = _floats("x", x), _floats("y", y)
    else:
        _check_counts("x", x, total)
        _check_counts("y", y, total)
    method = _method(method, n, m, weighted=weighted, total=total, p=p)
    if method == "counts":
        return _from_counts(x, y, total)
    if total is not None:
        x, y = _shares(x, total), _shares(y, total)
    if method == "uniform":
        return _uniform(x, y, p)
    a, b = _weights("x_weights", x_weights, n), _weights("y_weights", y_weights, m)
    return _quantile(x, y, a, b, p)


def wasserstein_counts(x: ArrayLike, y: ArrayLike, *, total: int) -> Float[Array, ""]:
    """W1 between two samples of spike counts out of the same total, exactly.

    With c_x(k) the number of x that are at most k, and L the least common multiple of
    the sizes N and M,

        W1 = sum_{k=0}^{total-1} |L/N c_x(k) - L/M c_y(k)| / (L total).

    Every term is an integer below 2^31, and their sum is taken exactly too: only the
    result is rounded, to a relative error of about 1e-7. The same formula in rates
    is the second one at the head of this module.

    Args:
        x: integer spike counts "N" between 0 and `total`.
        y: likewise "M".
        total: timesteps x images.

    Returns:
        The distance in units of rate, between 0 and 1. It has no gradient.

    Raises:
        InputError: counts are no integers, out of range, empty or not
            one-dimensional, or too large for exact sums.
    """
    return wasserstein(x, y, total=total, method="counts")


def matched(x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """Mean |x_i - y_i|, neuron by neuron; never smaller than W1.

    Args:
        x: rates, floats of any shape.
        y: rates of the same shape.

    Returns:
        The mean absolute difference, in the unit of the rates.

    Raises:
        InputError: shapes differ, or an array is empty, not finite or no float.
    """
    _check_same_shape("x", x, "y", y)
    return _mean_difference(_floats("x", x), _floats("y", y))


def compare(
    a: Mapping[str, ArrayLike],
    b: Mapping[str, ArrayLike],
    *,
    a_total: int | None = None,
    b_total: int | None = None,
    unit: str = "neuron",
    method: str = "auto",
) -> Distances:
    """W1 between the firing distributions of two networks, layer by layer.

    Counts out of the same total take the exact integer path: they are on the host,
    where 64-bit sums are at hand, and are divided once, in double precision. Counts
    over different numbers of images, and whole channels, go through rates.

    Args:
        a: `firing.Counts`, or a mapping of integer spike counts, `H W C`, by layer.
        b: those of the other network, under the same names.
        a_total: timesteps x images of a; `Counts` know it.
        b_total: timesteps x images of b; `Counts` know it.
        unit: `"neuron"`, a rate per channel and position; or `"channel"`, one per
            channel (the last axis), averaged over its positions.
        method: as in `wasserstein`; `"counts"` takes neurons and equal totals.

    Returns:
        The distances; `weighted` takes the sizes of a's layers.

    Raises:
        InputError: layer names differ, there is no layer, counts are no integers,
            out of range or empty, or a total or an option is not accepted.
    """
    choose("method", method, METHODS)
    a_total, b_total = _total("a", a, a_total), _total("b", b, b_total)
    _check_layers(a, b, a_total, b_total)
    xs, ys = [a[name] for name in a], [b[name] for name in a]
    exact = unit == "neuron" and a_total == b_total and _all_exact(xs, ys, a_total)
    if method == "counts" and not exact:
        raise InputError(
            f"method 'counts' does not take unit {unit!r} with totals {a_total} and "
            f"{b_total}, only {_TAKES['counts']}, of neurons out of equal totals: use "
            "method 'auto'"
        )
    if exact and method in ("auto", "counts"):
        values = _from_layers(xs, ys, a_total)
    else:
        us = [rates(x, timesteps=a_total, images=1, unit=unit) for x in xs]
        vs = [rates(y, timesteps=b_total, images=1, unit=unit) for y in ys]
        pairs = [*zip(us, vs, strict=True), (np.concatenate(us), np.concatenate(vs))]
        values = [wasserstein(u, v, method=method) for u, v in pairs]
    *layers, pooled = np.asarray(values).tolist()
    return _distances(list(a), layers, _sizes(xs, unit), pooled)


def compare_matched(
    a: Mapping[str, ArrayLike],
    b: Mapping[str, ArrayLike],
    *,
    a_total: int | None = None,
    b_total: int | None = None,
    unit: str = "neuron",
) -> Distances:
    """Mean |rate_i - rate_i'| between two networks, layer by layer.

    Args:
        a: `firing.Counts`, or a mapping of integer spike counts, `H W C`, by layer.
        b: those of the other network, under the same names, of the same shapes.
        a_total: timesteps x images of a; `Counts` know it.
        b_total: timesteps x images of b; `Counts` know it.
        unit: `"neuron"` or `"channel"`, as in `compare`.

    Returns:
        The distances; `pooled`, the mean over all neurons, equals `weighted`.

    Raises:
        InputError: layer names or shapes differ, there is no layer, counts are no
            integers, out of range or empty, or a total or `unit` is not accepted.
    """
    a_total, b_total = _total("a", a, a_total), _total("b", b, b_total)
    _check_layers(a, b, a_total, b_total)
    xs, ys = [a[name] for name in a], [b[name] for name in a]
    for name in a:
        _check_same_shape(f"a[{name!r}]", a[name], f"b[{name!r}]", b[name])
    us = [rates(x, timesteps=a_total, images=1, unit=unit) for x in xs]
    vs = [rates(y, timesteps=b_total, images=1, unit=unit) for y in ys]
    values = [matched(u, v) for u, v in zip(us, vs, strict=True)]
    return _distances(list(a), np.asarray(values).tolist(), _sizes(xs, unit))


# One sample against another: the three methods, on checked arrays.


@functools.partial(jax.jit, static_argnames="p")
def _uniform(
    x: Float[Array, "N"], y: Float[Array, "N"], p: int | float
) -> Float[Array, ""]:
    valid = jnp.isfinite(x).all() & jnp.isfinite(y).all()
    problem, solvers = _problem(x, y, None, None, p)
    cost = solvers.uniform_solver(problem).ot_costs[0]
    return jnp.where(valid, _root(cost, p), jnp.nan)


@functools.partial(jax.jit, static_argnames="p")
def _quantile(
    x: Float[Array, "N"],
    y: Float[Array, "M"],
    a: Float[Array, "N"],
    b: Float[Array, "M"],
    p: int | float,
) -> Float[Array, ""]:
    valid = jnp.isfinite(x).all() & jnp.isfinite(y).all() & _weigh(a) & _weigh(b)
    x, y = _without_strays(x, y, a, b)
    problem, solvers = _problem(x, y, a / a.sum(), b / b.sum(), p)
    cost = solvers.quantile_solver(problem).ot_costs[0]
    return jnp.where(valid, _root(cost, p), jnp.nan)


@functools.partial(jax.jit, static_argnames="total")
def _from_counts(
    x: Integer[ArrayLike, "N"], y: Integer[ArrayLike, "M"], total: int
) -> Float[Array, ""]:
    valid = _inside(x, total).all() & _inside(y, total).all()
    f, g, n, m = _histogram(x, total), _histogram(y, total), jnp.size(x), jnp.size(y)
    distance = _from_digits(_digits(f, g, n, m), n, m, total)
    return jnp.where(valid, distance, jnp.nan)


def _from_layers(
    xs: Sequence[ArrayLike], ys: Sequence[ArrayLike], total: int
) -> list[float]:
    """W1 of each layer, and last of all layers pooled, in double precision."""
    values, all_f, all_g = [], *np.zeros((2, total + 1), int)
    # One layer at a time, so that its histograms stay in the cache.
    for x, y in zip(xs, ys, strict=True):
        f, g = (np.bincount(np.ravel(one), minlength=total + 1) for one in (x, y))
        values.append(_w1(f, g, total))
        all_f, all_g = all_f + f, all_g + g
    return [*values, _w1(all_f, all_g, total)]


def _w1(f: Int[np.ndarray, "K"], g: Int[np.ndarray, "K"], total: int) -> float:
    """The second line of the equation, of two histograms, exact up to the division."""
    n, m = int(f.sum()), int(g.sum())
    common = math.lcm(n, m)
    difference = f * (common // n) - g * (common // m)
    return int(np.abs(np.cumsum(difference)).sum()) / (common * total)


def _inside(counts: Integer[ArrayLike, "N"], total: int) -> Bool[Array, "N"]:
    counts = jnp.asarray(counts, jnp.int32)
    return (counts >= 0) & (counts <= total)


def _histogram(counts: Integer[ArrayLike, "..."], total: int) -> Int[Array, "K"]:
    """How many neurons have each of the K = total + 1 possible counts."""
    return jnp.bincount(jnp.ravel(counts).astype(jnp.int32), length=total + 1)


def _digits(
    f: Int[Array, "K"], g: Int[Array, "K"], n: int, m: int
) -> UInt32[Array, "digits"]:
    """Exact sum over k in `wasserstein_counts`, of the histograms of n and m counts.

    The terms, below 2^31, are cut into digits so short that the sum of K of them fits
    32 bits.
    """
    common = math.lcm(n, m)
    terms = jnp.abs(jnp.cumsum(f * (common // n) - g * (common // m)))
    bits = _digit_bits(len(terms))
    digits = [(terms >> s) & (2**bits - 1) for s in range(0, 31, bits)]
    return jnp.stack([digit.sum(dtype=jnp.uint32) for digit in digits])


def _digit_bits(bins: int) -> int:
    return 32 - bins.bit_length()


def _from_digits(
    digits: UInt32[Array, "digits"], n: int, m: int, total: int
) -> Float[Array, ""]:
    """W1 in units of rate."""
    places = 2.0 ** (_digit_bits(total + 1) * np.arange(len(digits)))
    return (digits.astype(float) * places).sum() / float(math.lcm(n, m) * total)


@jax.jit
def _mean_difference(
    x: Float[Array, "*shape"], y: Float[Array, "*shape"]
) -> Float[Array, ""]:
    difference = x - y
    valid = jnp.isfinite(difference).all()
    return jnp.where(valid, _absolute(difference).mean(), jnp.nan)


def _absolute(d: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|d|, with derivative 0 at 0, where that of jnp.abs is 1."""
    return jnp.maximum(d, -d)


def _problem(x, y, a, b, p):
    """The problem in OTT's terms, with cost |x - y|^p, and OTT's solvers."""
    costs, pointcloud, linear_problem, univariate = _ott()

    # OTT's default is the square, and its norms take the value 1 at 0 as soon as they
    # are differentiated (0.6.0), which rates that tie would bring into the distance.
    class Power(costs.CostFn):
        def __call__(self, x, y):
            return (_absolute(x - y) ** p).sum()

    points = pointcloud.PointCloud(x[:, None], y[:, None], cost_fn=Power())
    return linear_problem.LinearProblem(points, a, b), univariate


@functools.cache
def _ott():
    """Imports OTT, once and late: with it `import jsnnq` would take twice as long."""
    # JAXopt, which OTT uses, warns on import that it is no longer maintained.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.geometry import costs, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import univariate
    return costs, pointcloud, linear_problem, univariate


def _root(cost: Float[Array, ""], p: int | float) -> Float[Array, ""]:
    """cost^(1/p), with derivative 1 at 0, where for p > 1 it is infinite."""
    zero = cost == 0
    return jnp.where(zero, cost, jnp.where(zero, 1.0, cost) ** (1 / p))


def _weigh(weights: Float[Array, "N"]) -> Bool[Array, ""]:
    return (weights >= 0).all() & jnp.isfinite(weights.sum()) & (weights.sum() > 0)


def _without_strays(
    x: Float[Array, "N"],
    y: Float[Array, "M"],
    a: Float[Array, "N"],
    b: Float[Array, "M"],
) -> tuple[Float[Array, "N"], Float[Array, "M"]]:
    """Pulls points of weight 0 into the range of the others.

    They carry nothing, but OTT multiplies the rounding of the cumulative weights by
    their distance: one at 1e6 cost an error of 0.24.
    """
    points, weights = jnp.concatenate([x, y]), jnp.concatenate([a, b])
    low = points.min(where=weights > 0, initial=jnp.inf)
    high = points.max(where=weights > 0, initial=-jnp.inf)
    x = jnp.where(a > 0, x, jnp.clip(x, low, high))
    y = jnp.where(b > 0, y, jnp.clip(y, low, high))
    return x, y


# Two networks: layers in, `Distances` out.


def _total(name: str, counts: Mapping[str, ArrayLike], given: int | None) -> int:
    """What counts are out of: they know it, or the caller does."""
    known = counts.total if isinstance(counts, Counts) else given
    if known is None:
        raise InputError(
            f"{name} is a mapping of counts without what they are out of: give Counts, "
            f"or {name}_total, timesteps x images"
        )
    return known


def _check_layers(
    a: Mapping[str, ArrayLike], b: Mapping[str, ArrayLike], a_total: int, b_total: int
) -> None:
    if a.keys() != b.keys():
        raise InputError(
            f"layers only in a: {sorted(a.keys() - b.keys())}, only in b: "
            f"{sorted(b.keys() - a.keys())}: both networks need the same names"
        )
    if not a:
        raise InputError("a and b have no layer: give the counts of one at least")
    for name in a:
        _check_counts(f"a[{name!r}]", a[name], a_total)
        _check_counts(f"b[{name!r}]", b[name], b_total)


def _all_exact(xs: Sequence[ArrayLike], ys: Sequence[ArrayLike], total: int) -> bool:
    """Whether every layer and the pooled network fit into exact integers."""
    bins = (total + 1) * (len(xs) + 1)
    pairs = zip(_sizes_and_all(xs), _sizes_and_all(ys), strict=True)
    return all(_exact(n, m, bins) for n, m in pairs)


def _sizes_and_all(layers: Sequence[ArrayLike]) -> list[int]:
    sizes = [jnp.size(layer) for layer in layers]
    return [*sizes, sum(sizes)]


def _sizes(layers: Sequence[ArrayLike], unit: str) -> list[int]:
    return [jnp.size(x) if unit == "neuron" else jnp.shape(x)[-1] for x in layers]


def _distances(
    names: Sequence[str],
    layers: Sequence[float],
    sizes: Sequence[int],
    pooled: float | None = None,
) -> Distances:
    """Puts the numbers together; without a pooled one it is the weighted mean."""
    weighted = float(np.average(layers, weights=sizes))
    return Distances(
        layers=dict(zip(names, layers, strict=True)),
        mean=float(np.mean(layers)),
        weighted=weighted,
        max=max(layers),
        pooled=weighted if pooled is None else pooled,
    )


# What is accepted.


def _method(
    method: str, n: int, m: int, *, weighted: bool, total: int | None, p: int | float
) -> str:
    """The method to use: the one asked for if it fits, else the first that fits."""
    choose("method", method, METHODS)
    fits = {
        "counts": total is not None
        and p == 1
        and not weighted
        and _exact(n, m, total + 1),
        "uniform": n == m and not weighted,
        "quantile": True,
    }
    if method == "auto":
        return next(name for name, fit in fits.items() if fit)
    if not fits[method]:
        raise InputError(
            f"method {method!r} does not take what was given, only {_TAKES[method]}: "
            "use method 'auto'"
        )
    return method


def _exact(n: int, m: int, bins: int) -> bool:
    return math.lcm(n, m) < 2**31 and bins <= _MOST_BINS


def _check_power(p: int | float) -> None:
    if not (isinstance(p, int | float) and 1 <= p <= _LARGEST_POWER):
        raise InputError(f"p is {p!r}: give a number from 1 to {_LARGEST_POWER}")


def _check_line(name: str, values: ArrayLike) -> None:
    if jnp.ndim(values) != 1:
        raise InputError(
            f"{name} has shape {jnp.shape(values)}: give one axis of values, for a "
            "layer its .reshape(-1), and jax.vmap for many samples"
        )


def _check_same_shape(x_name: str, x: ArrayLike, y_name: str, y: ArrayLike) -> None:
    if jnp.shape(x) != jnp.shape(y):
        raise InputError(
            f"{x_name} has shape {jnp.shape(x)} and {y_name} {jnp.shape(y)}: matching "
            "neurons needs equal shapes, the Wasserstein distance does not"
        )


def _check_not_empty(name: str, values: ArrayLike) -> None:
    if jnp.size(values) == 0:
        raise InputError(f"{name} is empty: give one value at least")


def _known(values: ArrayLike) -> bool:
    return not isinstance(values, Tracer)


def _floats(name: str, values: ArrayLike) -> Float[Array, "..."]:
    """Values in float32 or wider, finite if they are known."""
    _check_not_empty(name, values)
    floats = jnp.asarray(values)
    if not jnp.issubdtype(floats.dtype, jnp.floating):
        raise InputError(
            f"{name} is {floats.dtype}: give rates as floats, or spike counts as "
            "integers together with `total`"
        )
    if _known(floats) and not np.isfinite(floats).all():
        raise InputError(f"{name} has values that are NaN or infinite: remove them")
    return at_least_float32(floats)


def _weights(name: str, weights: ArrayLike | None, size: int) -> Float[Array, "N"]:
    if weights is None:
        return jnp.ones(size)
    if jnp.shape(weights) != (size,):
        raise InputError(
            f"{name} has shape {jnp.shape(weights)}: give one weight for each of the "
            f"{size} values"
        )
    floats = _floats(name, weights)
    if _known(floats) and not _weigh(floats):
        raise InputError(
            f"{name} has a negative weight or none above 0: give weights that are not "
            "negative and have a positive finite sum"
        )
    return floats


def _check_total(total: int) -> None:
    if not isinstance(total, int | np.integer) or not 1 <= total < 2**31:
        raise InputError(
            f"total is {total!r}: give timesteps x images, a whole number from 1 and "
            "below 2^31"
        )


def _check_counts(name: str, counts: ArrayLike, total: int) -> None:
    _check_total(total)
    _check_not_empty(name, counts)
    dtype = jnp.result_type(counts)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(
            f"{name} is {dtype}: `total` goes with integer spike counts, which have no "
            "gradient; give integers, or for gradients rates without `total`"
        )
    if _known(counts):
        values = np.asarray(counts)
        low, high = values.min(), values.max()
        if low < 0 or high > total:
            raise InputError(
                f"{name} goes from {low} to {high}: spike counts lie between 0 and "
                f"total = {total}, so check timesteps and images"
            )


def _shares(counts: Integer[ArrayLike, "N"], total: int) -> Float[Array, "N"]:
    """Rates of counts; NaN where traced counts are out of range."""
    rates = jnp.asarray(counts).astype(float) / total
    return jnp.where(_inside(counts, total), rates, jnp.nan)
