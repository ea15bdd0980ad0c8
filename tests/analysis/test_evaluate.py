"""Evaluation against counting every spike of every image one by one."""

import dataclasses
import functools
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq.analysis import evaluate as evaluation
from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import _add, _count, evaluate
from jsnnq.config import STE
from jsnnq.data import sets, streams
from jsnnq.data.batches import Preprocessing
from jsnnq.errors import InputError
from jsnnq.networks.network import Seen, observe
from jsnnq.runtime import memory, parallel
from jsnnq.study import build, run
from jsnnq.workflow.state import initial_variables
from tests.training.test_loop import BINARY, SMALL, digits


@functools.cache
def network():
    return build.float_network(SMALL.network, 10)


@functools.cache
def variables():
    """A start with larger currents, so that every layer fires and joins reach 2."""
    started = initial_variables(network(), jax.random.key(3), (8, 8, 1))
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
    assert found().counts.images == 360
    assert found().counts.timesteps == 2


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


def test_what_fills_the_last_batch_is_not_judged():
    """It is the first image of that batch again: here one that is recognised."""
    logits = np.concatenate([each[0] for each in one_by_one()], axis=1).mean(axis=0)
    right = logits.argmax(axis=1) == digits().test.labels
    first = 181 + int(np.argmax(right[181:359]))
    assert right[first]
    assert found(first).accuracy == right.mean()


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


class Source:
    def __len__(self):
        return 360

    def __getitems__(self, keys):
        raise AssertionError("the fake reads nothing from its source")


class Together(streams.Records):
    """The digits as records, of which no batch is read before seven others are."""

    meeting = threading.Barrier(8)

    def read(self, indices, seed=0):
        self.meeting.wait(timeout=60)
        return digits().test.read(indices)


def test_records_on_disk_are_evaluated_like_arrays_on_as_many_cores_as_there_are(
    monkeypatch,
):
    """As in training: batches are read at once."""
    monkeypatch.setattr(streams.os, "cpu_count", lambda: 8)
    streamed = dataclasses.replace(digits(), test=Together(Source(), False, "memory"))
    again = evaluate(network(), variables(), streamed, batch=46)
    assert_counts(again.counts, found().counts)
    assert again.accuracy == found().accuracy


# Batches.


def watched(monkeypatch):
    """What happens to each batch, by its number: brought to the device, computed."""
    events, sizes = [], []
    shared, observer = parallel.shared, evaluation._observer

    def bring(batch, mesh):
        events.append(("brought", sum(kind == "brought" for kind, _ in events)))
        sizes.append(len(batch[0]))
        return shared(batch, mesh)

    def observing(*arguments):
        function = observer(*arguments)

        def observe_batch(variables, batch):
            assert all(isinstance(x, jax.Array) for x in batch)
            events.append(("computed", sum(kind != "brought" for kind, _ in events)))
            return function(variables, batch)

        observe_batch.lower = function.lower
        return observe_batch

    monkeypatch.setattr(parallel, "shared", bring)
    monkeypatch.setattr(evaluation, "_observer", observing)
    return events, sizes


def test_two_batches_are_on_the_device_before_the_one_in_front_is_computed(
    monkeypatch,
):
    events, _ = watched(monkeypatch)
    evaluate(network(), variables(), digits(), batch=60)
    order = [(kind[0], number) for kind, number in events]
    assert order == [
        *[("b", 0), ("b", 1), ("b", 2), ("c", 0), ("b", 3), ("c", 1), ("b", 4)],
        *[("c", 2), ("b", 5), ("c", 3), ("c", 4), ("c", 5)],
    ]


def needs(batch):
    """Bytes that the program takes for so many images."""
    preprocessing = digits().preprocessing
    function = evaluation._observer(network(), preprocessing, None)
    images = jax.ShapeDtypeStruct((batch, 8, 8, 1), digits().dtype)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    valid = jax.ShapeDtypeStruct((batch,), bool)
    return memory.needed(function, variables(), (images, labels, valid))


@pytest.mark.parametrize(("fits", "chosen"), [(256, 256), (64, 64), (100, 64), (0, 1)])
def test_a_batch_is_halved_until_it_fits(fits, chosen, monkeypatch):
    most = needs(fits) if fits else 0
    monkeypatch.setattr(memory, "limit", lambda mesh: most)
    _, sizes = watched(monkeypatch)
    few = dataclasses.replace(digits(), test=digits().train)
    run.evaluate_ahead(network(), variables(), few)
    seen = evaluate(network(), variables(), few)
    assert {*sizes} == {chosen}
    assert seen.counts.images == len(few.test) == 1437
    monkeypatch.undo()
    assert_counts(seen.counts, evaluate(network(), variables(), few).counts)


def test_what_is_asked_for_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda mesh: 0)
    _, sizes = watched(monkeypatch)
    evaluate(network(), variables(), digits(), batch=90)
    assert sizes == [90] * 4


# Values that are no signs.


@functools.cache
def half_binary():
    """A network of which every second activation is signs."""
    config = dataclasses.replace(
        BINARY, weights=(), activations=((".*/act1", STE()),), training=SMALL.training
    )
    program = build.program(config, digits())
    return program.network, run.start(program, config, digits(), seed=0).variables


def test_an_activation_with_values_that_are_no_signs_is_graded():
    net, variables = half_binary()
    scaled = (digits().test.images / 16.0 - digits().mean[0]) / digits().std[0]
    images = jnp.asarray(scaled, jnp.float32)
    _, seen = jax.jit(functools.partial(observe, net))(variables, images)
    graded = {
        name
        for name, values in seen.activations.items()
        if not np.isin(np.asarray(values), (-1, 0, 1)).all()
    }
    assert set() < graded < set(seen.activations)
    measured = evaluate(net, variables, digits())
    assert measured.graded == graded
    assert evaluate(net, variables, digits(), batch=7).graded == graded
    # What they feed is charged as products, the rest as sums.
    spent = describe(net, variables, measured, digits().image_shape)["cost"]
    all_signs = measured._replace(graded=frozenset())
    fewer = describe(net, variables, all_signs, digits().image_shape)["cost"]
    assert spent["macs"] > fewer["macs"]
    assert spent["acs"] > 0


def seeing(monkeypatch, *, logits, graded=None):
    """The evaluation of a network that does with images what is given here."""
    activations = {} if graded is None else {"act": graded}

    def observe(network, variables, x):
        found = {name: make(x) for name, make in activations.items()}
        return logits(x)[None], Seen({}, {}, {}, found)

    monkeypatch.setattr("jsnnq.analysis.evaluate.observe", observe)
    return build.float_network(BINARY.network, 2)


def test_graded_values_are_noticed_however_many_there_are(monkeypatch):
    """65,536 images of 32x32x64 of them are 2^32, which is 0 in 32 bits."""
    net = seeing(
        monkeypatch,
        logits=lambda x: jnp.zeros((len(x), 2)),
        graded=lambda x: jnp.full((1, len(x), 32, 32, 64), 0.5),
    )
    batch = (np.zeros((256, 1, 1, 1), np.uint8), np.zeros(256, int), np.ones(256, bool))
    pixels = Preprocessing((0.0,), (1.0,), 255.0)
    _, sums = _count(net, pixels, {}, tuple(map(jnp.asarray, batch)))
    for _ in range(8):  # to 256 batches
        sums = _add(sums, sums)
    assert int(sums.graded["act"]) > 0


# Sums over a whole split.


def test_the_loss_of_many_images_keeps_the_small_beside_the_large(monkeypatch):
    """In float32 2^24 + log 2 is 2^24."""

    def logits(x):
        wrong = jnp.where(x.max(axis=(1, 2, 3)) > 0, 2.0**24, 0.0)
        return jnp.stack([jnp.zeros_like(wrong), wrong], axis=1)

    images, labels = np.zeros((360, 1, 1, 1), np.uint8), np.zeros(360, np.int32)
    images[0] = 255
    split = sets.Split(images, labels)
    one = dataclasses.replace(digits(), test=split, mean=(0.0,), std=(1.0,))
    loss = evaluate(seeing(monkeypatch, logits=logits), {}, one, batch=1).loss
    assert loss == pytest.approx((2**24 + 359 * math.log(2)) / 360, rel=1e-7)


class Endless(sets.Split):
    """As many images as it says, none of which is ever read."""

    def __init__(self, size):
        super().__init__(np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int32))
        object.__setattr__(self, "size", size)

    def __len__(self):
        return self.size

    def read(self, indices, seed=0):
        raise EOFError


def test_counts_that_might_not_fit_are_refused_before_an_image_is_read():
    """At 2 timesteps and values below 64: 2^24 images could reach 2^31."""
    large = lambda size: dataclasses.replace(digits(), test=Endless(size))
    with pytest.raises(InputError, match="2 timesteps x 16777216 images"):
        evaluate(network(), variables(), large(2**24))
    with pytest.raises(EOFError):
        evaluate(network(), variables(), large(2**24 - 1))


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
