"""Evaluation against counting every spike of every image one by one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq import build, records
from jsnnq.errors import InputError
from jsnnq.evaluate import evaluate
from jsnnq.resnet import observe

from .test_train import SMALL, digits


@functools.cache
def network():
    return build.float_network(SMALL.network, 10)


@functools.cache
def variables():
    """A start with larger currents, so that every layer fires and joins reach 2."""
    started = build.initial_variables(network(), jax.random.key(3), (8, 8, 1))
    louder = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if path[-1].key == "scale" else leaf,
        started["params"],
    )
    return {**started, "params": louder, "quant": {}}


@functools.cache
def found(batch=256):
    return evaluate(network(), variables(), digits(), batch=batch)


@functools.cache
def one_by_one():
    """What the network saw of each test image, alone in its batch."""
    forward = jax.jit(lambda x: observe(network(), variables(), x))
    test = digits().test
    scaled = (test.images / 16.0 - digits().mean[0]) / digits().std[0]
    images = jnp.asarray(scaled, jnp.float32)
    return [jax.device_get(forward(images[i : i + 1])) for i in range(len(test))]


def summed(name_of_kind, value=lambda x: x):
    """Each layer's values over all timesteps and images."""
    sums = {}
    for _, seen in one_by_one():
        for name, values in getattr(seen, name_of_kind).items():
            sums[name] = sums.get(name, 0) + value(values).sum(axis=(0, 1))
    return sums


def assert_counts(counts, expected):
    assert set(counts) == set(expected)
    for name, values in expected.items():
        assert counts[name].dtype == np.int32, name
        np.testing.assert_array_equal(counts[name], values, name)


def test_the_test_split_does_not_divide_by_the_batch():
    assert len(digits().test) % 256 != 0


def test_spikes_are_counted_exactly():
    assert_counts(found().counts, summed("spikes"))
    assert all(0 < values.max() < 720 for values in found().counts.values())
    assert found().images == 360
    assert found().timesteps == 2


def test_joins_and_pooled_values_stand_apart():
    assert set(found().counts).isdisjoint({*found().nonzero, *found().total})
    joins = summed("joins")
    assert_counts(found().total, joins)
    nonzero = lambda values: values != 0
    expected = {**summed("joins", nonzero), **summed("pooled", nonzero)}
    assert_counts(found().nonzero, expected)
    # Some join reached 2: its sum is more than its nonzero entries.
    assert any(np.any(found().total[n] > found().nonzero[n]) for n in joins)


def test_accuracy_and_loss_are_those_of_the_images_one_by_one():
    logits = np.concatenate([each[0] for each in one_by_one()], axis=1).mean(axis=0)
    labels = digits().test.labels
    assert found().accuracy == np.mean(logits.argmax(axis=1) == labels)
    assert 0 < found().accuracy < 1
    logits = logits.astype(np.float64)
    lost = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(360), labels]
    assert found().loss == pytest.approx(lost.mean(), rel=1e-5)


@pytest.mark.parametrize("batch", [100, 1000])
def test_the_batch_size_changes_nothing(batch):
    other = found(batch)
    for kind in ("counts", "nonzero", "total"):
        assert_counts(getattr(other, kind), getattr(found(), kind))
    assert other.accuracy == found().accuracy
    assert other.loss == pytest.approx(found().loss, rel=1e-5)


def test_layers_stand_in_the_order_of_the_data():
    assert list(found().counts) == [
        "sn1",
        "layer1_0/sn1",
        "layer1_0/sn2",
        "layer2_0/sn1",
        "layer2_0/sn2",
        "layer2_0/downsample_sn",
    ]


def test_the_training_split_can_be_evaluated():
    small = dataclasses.replace(digits(), train=digits().test, test=digits().train)
    train = evaluate(network(), variables(), small, split="train")
    assert_counts(train.counts, found().counts)


class Memory(records.Records):
    """Records whose images are the digits as they are."""

    def read(self, indices, seed=0):
        del seed
        return digits().test.read(indices)


class Source:
    def __len__(self):
        return 360

    def __getitems__(self, keys):
        raise AssertionError("the fake reads nothing from its source")


def test_records_on_disk_are_evaluated_like_arrays():
    streamed = dataclasses.replace(digits(), test=Memory(Source(), False, "memory"))
    again = evaluate(network(), variables(), streamed)
    assert_counts(again.counts, found().counts)
    assert again.accuracy == found().accuracy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "validation"}, "unknown split 'validation'.*'test', 'train'"),
        ({"split": "name"}, "unknown split 'name'"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": -5}, "batch is -5"),
    ],
)
def test_unknown_splits_and_empty_batches_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        evaluate(network(), variables(), digits(), **options)
