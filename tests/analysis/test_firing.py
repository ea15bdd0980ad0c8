"""Counts against NumPy's exact sums, rates and shares against hand counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnnq.analysis import firing
from jsnnq.errors import InputError


def spikes_of(shape: tuple[int, ...], seed: int = 0, most: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most + 1, shape).astype(np.float32)


# Counting on the device.


@pytest.mark.parametrize("neuron", [(2, 3, 5), (7,), ()])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_count_is_the_integer_sum_over_timesteps_and_valid_images(neuron, dtype):
    spikes = spikes_of((4, 6, *neuron))
    valid = np.array([True, True, False, True, False, True])
    counts = jax.jit(firing.count)(jnp.asarray(spikes, dtype), jnp.asarray(valid))
    assert counts.dtype == jnp.int32
    expected = spikes[:, valid].astype(np.int64).sum(axis=(0, 1))
    np.testing.assert_array_equal(counts, expected)


def test_count_is_exact_at_its_largest_batch():
    spikes = jnp.full((2, 2**17 - 1, 1), 63.0)
    valid = jnp.ones(2**17 - 1, bool)
    assert int(firing.count(spikes, valid)[0]) == 63 * 2 * (2**17 - 1)


def test_count_refuses_a_batch_whose_sum_may_be_rounded_before_computing_it():
    spikes = jax.ShapeDtypeStruct((4, 2**16, 1), jnp.float32)
    valid = jax.ShapeDtypeStruct((2**16,), jnp.bool_)
    with pytest.raises(InputError, match="4 timesteps x 65536 images"):
        jax.eval_shape(firing.count, spikes, valid)


def test_graded_joins_count_events_and_nonzero_entries():
    joins = spikes_of((4, 3, 5), most=3)
    valid = np.array([True, False, True])
    events = firing.count(jnp.asarray(joins), jnp.asarray(valid))
    nonzero = firing.count_nonzero(jnp.asarray(joins), jnp.asarray(valid))
    np.testing.assert_array_equal(events, joins[:, valid].sum(axis=(0, 1)))
    np.testing.assert_array_equal(nonzero, (joins[:, valid] > 0).sum(axis=(0, 1)))
    assert (np.asarray(events) > np.asarray(nonzero)).any()


# Rates.


def test_channel_rates_average_over_positions():
    counts = np.random.default_rng(0).integers(0, 21, (3, 2, 5))
    rates = firing.rates(jnp.asarray(counts), timesteps=4, images=5, unit="channel")
    expected = [np.mean(counts[..., c] / 20) for c in range(5)]
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-15)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(1, 10_000), st.data())
def test_rates_are_correctly_rounded_and_between_0_and_1(timesteps, images, data):
    total = timesteps * images
    counts = data.draw(st.lists(st.integers(0, total), min_size=4, max_size=4))
    layer = np.array(counts).reshape(1, 2, 2)
    rates = firing.rates(layer, timesteps=timesteps, images=images)
    assert list(rates) == [count / total for count in counts]
    assert rates.min() >= 0
    assert rates.max() <= 1


def test_shares_are_strict_at_their_limits():
    # 2,000 of 40,000 is 0.05 exactly, but not as XLA divides, 2,000 * (1/40,000).
    counts = np.array([0, 1999, 2000, 2001, 37_999, 38_000, 38_001, 40_000])
    rates = firing.rates(counts, timesteps=4, images=10_000)
    shares = firing.shares(rates)
    assert shares.dead == 2 / 8
    assert shares.saturated == 2 / 8
    assert firing.shares(rates, dead_below=0.5).dead == 4 / 8
    assert firing.shares(rates, saturated_above=0.5).saturated == 4 / 8


def test_mean_rate_is_the_mean():
    assert firing.shares(np.array([0.0, 0.5, 1.0])).mean_rate == 0.5
    assert firing.shares(jnp.array([[0.25], [0.75]])).mean_rate == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [1, 10, 20, 7])
def test_histogram_puts_every_rate_of_the_grid_into_its_bin(bins, dtype):
    counts = np.arange(4 * 35 + 1)
    rates = firing.rates(counts, timesteps=4, images=35).astype(dtype)
    # Bin of k/140, in integers; 1 belongs to the last bin.
    expected = np.bincount(np.minimum(counts * bins // 140, bins - 1), minlength=bins)
    np.testing.assert_array_equal(firing.histogram(rates, bins=bins), expected)


@pytest.mark.parametrize(
    ("unit", "mean", "dead", "saturated", "b"),
    [
        ("neuron", (0 + 1 + 0.5 + 0.5 + 0 + 0.5) / 6, 2 / 6, 1 / 6, (0.375, 0.25, 0)),
        ("channel", (0 + 1 + 0.25 + 0.5) / 4, 1 / 4, 1 / 4, (0.375, 0, 0)),
    ],
)
def test_summary_pools_neurons_or_channels_and_keeps_layers(
    unit, mean, dead, saturated, b
):
    counts = {"a": np.array([[[0, 20]]]), "b": np.array([[[10, 10], [0, 10]]])}
    summary = firing.summary(counts, timesteps=4, images=5, unit=unit)
    assert summary.mean_rate == mean
    assert (summary.dead, summary.saturated) == (dead, saturated)
    assert summary.layers == {"a": (0.5, 0.5, 0.5), "b": b}


# Lists, and scalars of any kind.


@pytest.mark.parametrize("scalar", [int, np.int64, np.uint8, np.array, jnp.array])
def test_lists_and_any_scalars_are_taken(scalar):
    options = {"timesteps": scalar(2), "images": scalar(2)}
    np.testing.assert_array_equal(firing.rates([1, 2], **options), [0.25, 0.5])
    assert firing.summary({"u": [1, 2]}, **options).mean_rate == 0.375
    np.testing.assert_array_equal(firing.histogram([0.25, 1.0], scalar(2)), [1, 1])
    half = scalar(1) / 2
    assert firing.shares([0.25, 1.0], dead_below=half, saturated_above=half)[1:] == (
        0.5,
        0.5,
    )


# Bad input.


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([0, -1], {}, "from -1 to 0.*between 0 and timesteps x images = 20"),
        ([0, 21], {}, "from 0 to 21.*between 0 and timesteps x images = 20"),
        ([0.0, 1.0], {}, "counts are float64.*integer"),
        (np.zeros((2, 0), int), {}, "at least one"),
        (np.array(3), {}, r"shape \(\)"),
        ([1], {"images": 0}, "images is 0"),
        ([1], {"timesteps": -4}, "timesteps is -4"),
        ([1], {"timesteps": True}, "timesteps is True"),
        ([[1], [2, 3]], {}, "counts has lists of different lengths"),
        ([1], {"unit": "layer"}, "unknown unit 'layer'.*'channel', 'neuron'"),
    ],
)
def test_rates_refuse_what_cannot_be_counts(counts, options, message):
    settings = {"timesteps": 4, "images": 5} | options
    with pytest.raises(InputError, match=message):
        firing.rates(counts, **settings)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([0.5, 1.5], "from 0.5 to 1.5"),
        ([-0.5], "from -0.5"),
        ([0.5, np.nan], "nan"),
        (np.zeros(0), "no rates"),
        ([1, 2], "rates are int64"),
        ([[0.5], [0.5, 1.0]], "rates has lists of different lengths"),
    ],
)
@pytest.mark.parametrize("measure", [firing.shares, firing.histogram])
def test_measures_refuse_what_cannot_be_rates(measure, rates, message):
    with pytest.raises(InputError, match=message):
        measure(rates)


def test_histogram_refuses_no_bins():
    with pytest.raises(InputError, match="bins is 0"):
        firing.histogram(np.array([0.5]), bins=0)


def test_shares_refuse_bounds_that_are_no_numbers():
    with pytest.raises(InputError, match="dead_below is nan: a finite number"):
        firing.shares([0.5], dead_below=np.nan)


def test_summary_refuses_no_layers():
    with pytest.raises(InputError, match="no layer"):
        firing.summary({}, timesteps=4, images=5)
