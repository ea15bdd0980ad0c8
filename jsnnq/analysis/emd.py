"""Wasserstein distances between firing distributions.

The firing distribution of a layer is the set of its neurons' rates. How far it
moved is the Earth Mover's Distance, W1, between the two sets
("Quantization of Spiking Neural Networks Beyond Accuracy", arXiv 2604.14487).
`transport` has the equations; here stands what they take: one sample against another,
and two networks layer by layer.

W1 compares sets and does not see neurons that exchange their rates; `matched` does,
and is never smaller.

Arrays whose values are known are checked. Under `jit`, `vmap` and `grad` only shapes
and dtypes can be, and what a check would have refused there becomes NaN.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat, SupportsIndex

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jsnnq import renamed
from jsnnq.analysis import transport
from jsnnq.analysis.firing import Counts, Numbers, as_array
from jsnnq.errors import InputError, as_python, choose
from jsnnq.runtime.precision import at_least_float32

Compared = Mapping[str, Numbers] | Any
"""Counts by layer, or what has them as `counts`: an evaluation."""

METHODS = ("auto", "counts", "uniform", "quantile")
"""The ways to a distance; `wasserstein` says which takes what."""

# Above it |d|^p leaves float32 for differences d that matter (1e-6).
_LARGEST_POWER = 6

_TAKES = {
    "counts": "integer counts with their total, p = 1, no weights, sizes with a least "
    "common multiple below 2^31 and at most 2^25 possible counts in all layers",
    "uniform": "samples of equal size without weights",
}


@dataclasses.dataclass(frozen=True)
class Distances:
    """How far a network's firing distributions moved, in units of rate (0 to 1).

    Example:
        >>> a, b = {"sn1": [0, 4]}, {"sn1": [4, 2]}
        >>> found = jsnnq.compare(a, b, a_total=4, b_total=4)
        >>> found.mean, found.matched.mean
        (0.25, 0.75)
    """

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

    between: tuple[Counts, Counts, str] = dataclasses.field(repr=False, compare=False)
    """What was compared, and its unit."""

    @functools.cached_property
    def matched(self) -> "Distances":
        """Mean |rate_i - rate_i'| neuron by neuron, which is never smaller.

        Raises:
            InputError: the layers of both networks differ in shape.
        """
        a, b, unit = self.between
        return compare_matched(a, b, unit=unit)

    def as_data(self) -> dict[str, Any]:
        """As they stand in `results.json`, the layers last."""
        whole = {n: getattr(self, n) for n in ("mean", "weighted", "max", "pooled")}
        return {**whole, "layers": self.layers}


def wasserstein(
    x: Numbers,
    y: Numbers,
    *,
    x_weights: Numbers | None = None,
    y_weights: Numbers | None = None,
    total: SupportsIndex | None = None,
    p: SupportsFloat = 1,
    method: str = "auto",
) -> Float[Array, ""]:
    """Wasserstein distance W_p between two samples on a line.

    `p=1` is the Earth Mover's Distance; `p=2` gives W_2, not its square. Methods:

    * `"counts"`: exact integers, only the result is rounded, to a relative error of
      about 1e-7; takes counts with their `total`, p = 1 and no weights.
    * `"uniform"`: sorted values are paired (OTT's `uniform_solver`); takes equal
      sizes and no weights. On rates only the rounding to float32 is lost, 6e-8.
    * `"quantile"`: inverse distribution functions (OTT's `quantile_solver`); takes
      any sizes and weights. Cumulative weights are rounded to float32, an error of
      about 2e-7 in W_p^p; so a W_2 near 0 may be wrong by the root of that.
    * `"auto"`: the first of these that takes what is given.

    Differentiable in rates and weights: piecewise linear for p = 1; where two paired
    values are equal, their difference counts as constant. Counts have no gradient.

    Args:
        x: rates "N", floats; or spike counts "N", integers, with their `total`. Lists
            are taken like arrays, here and below.
        y: likewise "M".
        x_weights: weights "N" of x, floats or integers: not negative, with any positive
            sum; equal ones by default. An x of weight 0 takes no part.
        y_weights: likewise "M".
        total: what counts are out of, timesteps x images; for counts only.
        p: exponent from 1 to 6, whose value is known.
        method: `"auto"`, `"counts"`, `"uniform"` or `"quantile"`.

    Returns:
        The distance, in the unit of the rates.

    Raises:
        InputError: an array is empty, not one-dimensional, not finite or of the
            wrong kind, weights do not fit, or the method does not take what is given.

    Example:
        >>> float(jsnnq.wasserstein([0.0, 0.5], [0.25, 0.75]))
        0.25
        >>> float(jsnnq.wasserstein([0, 2], [1, 3], total=4))  # Of counts, exactly.
        0.25
    """
    power = _power(p)
    out_of: int | None = as_python(total)
    x, y = _sample("x", x, out_of), _sample("y", y, out_of)
    n, m = jnp.size(x), jnp.size(y)
    weighted = x_weights is not None or y_weights is not None
    method = _method(method, n, m, weighted=weighted, total=out_of, p=power)
    if out_of is not None:
        if method == "counts":
            return transport.from_counts(x, y, out_of)
        x, y = transport.as_rates(x, out_of), transport.as_rates(y, out_of)
    a = b = None
    if method == "quantile":
        a, b = _weights("x_weights", x_weights, n), _weights("y_weights", y_weights, m)
    return transport.from_rates(x, y, a, b, p=power, method=method)


def matched(x: Numbers, y: Numbers) -> Float[Array, ""]:
    """Mean |x_i - y_i|, neuron by neuron; never smaller than W1.

    Args:
        x: rates, floats of any shape.
        y: rates of the same shape.

    Returns:
        The mean absolute difference, in the unit of the rates.

    Raises:
        InputError: shapes differ, or an array is empty, not finite or no float.

    Example:
        >>> float(jsnnq.matched([0.0, 0.5], [0.5, 0.0]))  # As a set nothing moved.
        0.5
    """
    x, y = as_array("x", x), as_array("y", y)
    _check_same_shape("x", x, "y", y)
    return transport.mean_difference(_floats("x", x), _floats("y", y))


def compare(
    a: Compared,
    b: Compared,
    *,
    a_total: SupportsIndex | None = None,
    b_total: SupportsIndex | None = None,
    unit: str = "neuron",
    method: str = "auto",
) -> Distances:
    """W1 between the firing distributions of two networks, layer by layer.

    Counts out of the same total take the exact integer path: they are on the host,
    where 64-bit sums are at hand, and are divided once, in double precision. Counts
    over different numbers of images, and whole channels, go through rates.

    Args:
        a: an evaluation, its `Counts`, or a mapping of integer spike counts, `H W C`,
            by layer.
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

    Example:
        >>> a, b = {"sn1": [0, 4], "sn2": [2]}, {"sn1": [2, 4], "sn2": [2]}
        >>> jsnnq.compare(a, b, a_total=4, b_total=4).layers
        {'sn1': 0.25, 'sn2': 0.0}
    """
    choose("method", method, METHODS)
    a, b = _checked(a, b, a_total, b_total)
    exact = unit == "neuron" and a.total == b.total and _all_exact(a, b)
    if method == "counts" and not exact:
        raise InputError(
            f"method 'counts' does not take unit {unit!r} with totals {a.total} and "
            f"{b.total}, only {_TAKES['counts']}, of neurons out of equal totals: use "
            "method 'auto'"
        )
    if exact and method in ("auto", "counts"):
        values = _from_layers(a, b)
    else:
        us, vs = [*a.rates(unit).values()], [*b.rates(unit).values()]
        pairs = [*zip(us, vs, strict=True), (np.concatenate(us), np.concatenate(vs))]
        values = [wasserstein(u, v, method=method) for u, v in pairs]
    # Only now to the host, so that no layer waits for the one before.
    *layers, pooled = np.asarray(values).tolist()
    return _distances(a, b, unit, layers, pooled)


def compare_matched(
    a: Compared,
    b: Compared,
    *,
    a_total: SupportsIndex | None = None,
    b_total: SupportsIndex | None = None,
    unit: str = "neuron",
) -> Distances:
    """Mean |rate_i - rate_i'| between two networks, layer by layer.

    Args:
        a: counts by layer, as in `compare`.
        b: those of the other network, under the same names, of the same shapes.
        a_total: timesteps x images of a; `Counts` know it.
        b_total: timesteps x images of b; `Counts` know it.
        unit: `"neuron"` or `"channel"`, as in `compare`.

    Returns:
        The distances; `pooled`, the mean over all neurons, equals `weighted`.

    Raises:
        InputError: shapes differ, or `compare` would refuse what was given.

    Example:
        >>> a, b = {"sn1": [0, 4]}, {"sn1": [4, 0]}  # The neurons exchange their rates.
        >>> jsnnq.compare_matched(a, b, a_total=4, b_total=4).mean
        1.0
    """
    a, b = _checked(a, b, a_total, b_total)
    for name in a:
        _check_same_shape(f"a[{name!r}]", a[name], f"b[{name!r}]", b[name])
    us, vs = a.rates(unit), b.rates(unit)
    values = [matched(us[name], vs[name]) for name in a]
    return _distances(a, b, unit, np.asarray(values).tolist())


# Two networks: layers in, `Distances` out.


def _checked(
    a: Any,
    b: Any,
    a_total: SupportsIndex | None,
    b_total: SupportsIndex | None,
) -> tuple[Counts, Counts]:
    """Both on the host with what they are out of, the layers in the order of a."""
    # An evaluation has them.
    a, b = getattr(a, "counts", a), getattr(b, "counts", b)
    for name, given in (("a", a), ("b", b)):
        if not isinstance(given, Mapping):
            raise InputError(
                f"{name} is of type {type(given).__name__}: give an evaluation, its "
                "Counts, or a mapping of counts by layer; for two samples there is "
                "`wasserstein`"
            )
    if a.keys() != b.keys():
        raise InputError(
            f"layers only in a: {sorted(a.keys() - b.keys())}, only in b: "
            f"{sorted(b.keys() - a.keys())}: both networks need the same names"
        )
    if not a:
        raise InputError("a and b have no layer: give the counts of one at least")
    found = []
    for name, counts, given in (("a", a, a_total), ("b", b, b_total)):
        total = counts.total if isinstance(counts, Counts) else as_python(given)
        if total is None:
            raise InputError(
                f"{name} is a mapping of counts without what they are out of: give "
                f"Counts, or {name}_total, timesteps x images"
            )
        layers = {}
        for layer in a:
            said = f"{name}[{layer!r}]"
            layers[layer] = np.asarray(as_array(said, counts[layer]))
            _check_counts(said, layers[layer], total)
        found.append(Counts(layers, timesteps=total, images=1))
    return found[0], found[1]


def _all_exact(a: Counts, b: Counts) -> bool:
    """Whether every layer and the pooled network fit into exact integers."""
    bins = (a.total + 1) * (len(a) + 1)
    sizes = [(a[name].size, b[name].size) for name in a]
    pooled = [sum(each) for each in zip(*sizes, strict=True)]
    return all(transport.exact(n, m, bins) for n, m in [*sizes, pooled])


def _from_layers(a: Counts, b: Counts) -> list[float]:
    """W1 of each layer, and last of all layers pooled, in double precision."""
    total = a.total
    values, all_f, all_g = [], *np.zeros((2, total + 1), int)
    # One layer at a time, so that its histograms stay in the cache.
    for name in a:
        f, g = (np.bincount(c[name].ravel(), minlength=total + 1) for c in (a, b))
        values.append(transport.from_histograms(f, g, total))
        all_f, all_g = all_f + f, all_g + g
    return [*values, transport.from_histograms(all_f, all_g, total)]


def _distances(
    a: Counts,
    b: Counts,
    unit: str,
    layers: Sequence[float],
    pooled: float | None = None,
) -> Distances:
    """Puts the numbers together; without a pooled one it is the weighted mean."""
    of_layer = lambda x: x.size if unit == "neuron" else x.shape[-1]
    sizes = [of_layer(layer) for layer in a.values()]
    weighted = float(np.average(layers, weights=sizes))
    return Distances(
        layers=dict(zip(a, layers, strict=True)),
        mean=float(np.mean(layers)),
        weighted=weighted,
        max=max(layers),
        pooled=weighted if pooled is None else pooled,
        between=(a, b, unit),
    )


# What is accepted.


def _power(p: SupportsFloat) -> int | float:
    power: Any = as_python(p)
    number = isinstance(power, int | float) and not isinstance(power, bool)
    if not (number and 1 <= power <= _LARGEST_POWER):
        raise InputError(f"p is {p!r}: give a number from 1 to {_LARGEST_POWER}")
    return power


def _method(
    method: str, n: int, m: int, *, weighted: bool, total: int | None, p: int | float
) -> str:
    """The method to use: the one asked for if it fits, else the first that fits."""
    choose("method", method, METHODS)
    fits = {
        "counts": total is not None
        and p == 1
        and not weighted
        and transport.exact(n, m, total + 1),
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


def _sample(name: str, numbers: Numbers, total: int | None) -> Array | np.ndarray:
    """One axis of rates as floats, or of counts as they are."""
    values = as_array(name, numbers)
    if jnp.ndim(values) != 1:
        raise InputError(
            f"{name} has shape {jnp.shape(values)}: give one axis of values, for a "
            "layer its .reshape(-1), and jax.vmap for many samples"
        )
    if total is None:
        return _floats(name, values)
    _check_counts(name, values, total)
    return values


def _check_same_shape(x_name: str, x: ArrayLike, y_name: str, y: ArrayLike) -> None:
    if jnp.shape(x) != jnp.shape(y):
        raise InputError(
            f"{x_name} has shape {jnp.shape(x)} and {y_name} {jnp.shape(y)}: matching "
            "neurons needs equal shapes, the Wasserstein distance does not"
        )


def _check_not_empty(name: str, values: ArrayLike) -> None:
    if jnp.size(values) == 0:
        raise InputError(f"{name} is empty: give one value at least")


def _floats(
    name: str,
    values: Array | np.ndarray,
    advice: str = "rates as floats, or spike counts as integers together with `total`",
) -> Float[Array, "..."]:
    """Values in float32 or wider, finite if they are known."""
    _check_not_empty(name, values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise InputError(f"{name} is {values.dtype}: give {advice}")
    floats = jnp.asarray(values)
    if not isinstance(floats, Tracer) and not np.isfinite(floats).all():
        raise InputError(f"{name} has values that are NaN or infinite: remove them")
    return at_least_float32(floats)


def _weights(name: str, given: Numbers | None, size: int) -> Float[Array, "N"]:
    if given is None:
        return jnp.ones(size)
    weights = as_array(name, given)
    if jnp.shape(weights) != (size,):
        raise InputError(
            f"{name} has shape {jnp.shape(weights)}: give one weight for each of the "
            f"{size} values"
        )
    if jnp.issubdtype(weights.dtype, jnp.integer):
        weights = weights.astype(float)
    floats = _floats(name, weights, "weights as numbers")
    if not isinstance(floats, Tracer) and not transport.are_weights(floats):
        raise InputError(
            f"{name} has a negative weight or none above 0: give weights that are not "
            "negative and have a positive finite sum"
        )
    return floats


def _check_counts(name: str, counts: Array | np.ndarray, total: Any) -> None:
    whole = isinstance(total, int) and not isinstance(total, bool)
    if not (whole and 1 <= total < 2**31):
        raise InputError(
            f"total is {total!r}: give timesteps x images, a whole number from 1 and "
            "below 2^31"
        )
    _check_not_empty(name, counts)
    if not jnp.issubdtype(counts.dtype, jnp.integer):
        raise InputError(
            f"{name} is {counts.dtype}: `total` goes with integer spike counts, which "
            "have no gradient; give integers, or for gradients rates without `total`"
        )
    if isinstance(counts, Tracer):
        return
    values = np.asarray(counts)
    low, high = values.min(), values.max()
    if low < 0 or high > total:
        raise InputError(
            f"{name} goes from {low} to {high}: spike counts lie between 0 and "
            f"total = {total}, so check timesteps and images"
        )


__getattr__ = renamed.answers(
    wasserstein_counts=(
        "wasserstein(x, y, total=total, method='counts')",
        functools.partial(wasserstein, method="counts"),
    )
)
