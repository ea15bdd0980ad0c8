"""Optimal transport on a line, between samples that were checked before.

It needs no entropic approximation: with distribution functions F, G and their inverses
(Peyré and Cuturi, "Computational Optimal Transport", 2019, remark 2.30)

    W_p(x, y) = (int_0^1 |F^-1(u) - G^-1(u)|^p du)^(1/p),
    W_1(x, y) = int |F(r) - G(r)| dr.

Rates go through the univariate solvers of OTT-JAX, which evaluate the first line.
Spike counts out of the same total lie on a grid, where the second line is a sum of
integers: with c_x(k) the number of x that are at most k, and L the least common
multiple of the sizes N and M,

    W_1(x, y) = sum_{k=0}^{total-1} |L/N c_x(k) - L/M c_y(k)| / (L total).

Every term is below 2^31; their sum is taken exactly and rounded once, at the end.
"""

import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

# Histograms have one int32 for each layer and possible count: 128 MiB at this many.
_MOST_BINS = 2**25


def exact(n: int, m: int, bins: int) -> bool:
    """Whether n and m counts fit into exact sums, with so many bins in all."""
    return math.lcm(n, m) < 2**31 and bins <= _MOST_BINS


def are_weights(weights: Float[Array, "N"]) -> Bool[Array, ""]:
    """Whether none is negative and they have a positive finite sum."""
    return (weights >= 0).all() & jnp.isfinite(weights.sum()) & (weights.sum() > 0)


def as_rates(counts: Integer[ArrayLike, "N"], total: int) -> Float[Array, "N"]:
    """Rates of counts; NaN where traced counts are out of range."""
    rates = jnp.asarray(counts).astype(float) / total
    return jnp.where(_inside(counts, total), rates, jnp.nan)


def _inside(counts: Integer[ArrayLike, "N"], total: int) -> Bool[Array, "N"]:
    counts = jnp.asarray(counts, jnp.int32)
    return (counts >= 0) & (counts <= total)


@functools.partial(jax.jit, static_argnames=("p", "method"))
def from_rates(
    x: Float[Array, "N"],
    y: Float[Array, "M"],
    a: Float[Array, "N"] | None,
    b: Float[Array, "M"] | None,
    *,
    p: int | float,
    method: str,
) -> Float[Array, ""]:
    """The first line above by OTT's `method`; the quantile solver takes weights.

    NaN where a value is not finite, or weights are none.
    """
    costs, pointcloud, linear_problem, univariate = _ott()

    # OTT's default is the square, and its norms take the value 1 at 0 as soon as they
    # are differentiated (0.6.0), which rates that tie would bring into the distance.
    class Power(costs.CostFn):
        def __call__(self, x, y):
            return (_absolute(x - y) ** p).sum()

    valid = jnp.isfinite(x).all() & jnp.isfinite(y).all()
    if a is not None and b is not None:
        valid = valid & are_weights(a) & are_weights(b)
        x, y = _into_range(x, y, a, b)
        a, b = a / a.sum(), b / b.sum()
    points = pointcloud.PointCloud(x[:, None], y[:, None], cost_fn=Power())
    solve = getattr(univariate, f"{method}_solver")
    cost = solve(linear_problem.LinearProblem(points, a, b)).ot_costs[0]
    # The root has derivative 1 at 0, where for p > 1 it would be infinite.
    zero = cost == 0
    distance = jnp.where(zero, cost, jnp.where(zero, 1.0, cost) ** (1 / p))
    return jnp.where(valid, distance, jnp.nan)


@functools.partial(jax.jit, static_argnames="total")
def from_counts(
    x: Integer[ArrayLike, "N"], y: Integer[ArrayLike, "M"], total: int
) -> Float[Array, ""]:
    """The third line above, in 32 bits; NaN where a count is out of range."""
    f, g = (jnp.bincount(jnp.asarray(c, jnp.int32), length=total + 1) for c in (x, y))
    n, m = jnp.size(x), jnp.size(y)
    terms = _terms(f, g, n, m)
    # Cut into digits so short that the sum of total + 1 of them fits 32 bits.
    bits = 32 - (total + 1).bit_length()
    places = range(0, 31, bits)
    digits = [(terms >> place) & (2**bits - 1) for place in places]
    sums = jnp.stack([digit.sum(dtype=jnp.uint32) for digit in digits])
    whole = (sums.astype(float) * 2.0 ** np.asarray(places)).sum()
    valid = _inside(x, total).all() & _inside(y, total).all()
    return jnp.where(valid, whole / float(math.lcm(n, m) * total), jnp.nan)


def from_histograms(
    f: Int[np.ndarray, "K"], g: Int[np.ndarray, "K"], total: int
) -> float:
    """The third line above in 64 bits, exact up to the division."""
    n, m = int(f.sum()), int(g.sum())
    return int(_terms(f, g, n, m).sum()) / (math.lcm(n, m) * total)


def _terms(f: Any, g: Any, n: int, m: int) -> Any:
    """|L/N c_x(k) - L/M c_y(k)|, K of them, from histograms of n and m counts."""
    common = math.lcm(n, m)
    return abs((f * (common // n) - g * (common // m)).cumsum())


@jax.jit
def mean_difference(
    x: Float[Array, "*shape"], y: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean |x - y|; NaN where one is not finite."""
    difference = x - y
    valid = jnp.isfinite(difference).all()
    return jnp.where(valid, _absolute(difference).mean(), jnp.nan)


def _absolute(d: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|d|, with derivative 0 at 0, where that of jnp.abs is 1."""
    return jnp.maximum(d, -d)


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


def _into_range(
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
