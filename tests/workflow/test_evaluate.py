"""What an evaluation says, of our networks and of one's own."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest

import jsnnq
from experiments.examples.own_network import Connected, PlainSNN
from jsnnq import InputError
from jsnnq.analysis import firing
from jsnnq.networks import (
    Network,
    QuantConv,
    QuantDense,
    Seen,
    Spiking,
    fold,
    over_time,
)
from tests.workflow.small import BATCH, NET, RULE, data, equal, fitted


def test_accuracy_counts_rates_shares_and_cost():
    seen = jsnnq.evaluate(NET, fitted(), data())
    assert 0 < seen.accuracy < 1
    assert seen.counts.total == 4 * 100
    rates = np.concatenate([layer.ravel() for layer in seen.rates.values()])
    assert seen.dead == np.mean(rates < 0.05)
    assert seen.saturated == np.mean(rates > 0.95)
    assert seen.cost.sparsity == pytest.approx(1 - rates.mean())
    assert seen.cost.weight_bits > 0


def test_batches_change_nothing():
    whole, parts = (jsnnq.evaluate(NET, fitted(), data(), batch=b) for b in (100, 7))
    assert whole.accuracy == parts.accuracy
    equal(dict(whole.counts), dict(parts.counts))
    assert whole.cost == parts.cost


def test_without_test_images_the_training_split_is_asked_for():
    alone = dataclasses.replace(data(), test=None)
    trained = jsnnq.fit(NET, alone, RULE, epochs=2, batch=BATCH)
    equal(trained.training, fitted().training)
    with pytest.raises(InputError, match="no test images.*split='train'"):
        jsnnq.evaluate(NET, trained, alone)
    assert jsnnq.evaluate(NET, trained, alone, split="train").accuracy > 0
    with pytest.raises(InputError, match="unknown split 'val'"):
        jsnnq.evaluate(NET, trained, alone, split="val")


def test_a_network_goes_on_seeing_pixels_as_in_its_training():
    brighter = dataclasses.replace(data(), mean=(0.5,), std=(0.1,))
    assert (
        jsnnq.evaluate(NET, fitted(), brighter).loss
        == jsnnq.evaluate(NET, fitted(), data()).loss
    )
    # Variables alone do not know.
    assert (
        jsnnq.evaluate(NET, fitted().variables, brighter).loss
        != jsnnq.evaluate(NET, fitted(), data()).loss
    )


def test_images_of_another_shape_are_refused():
    other = jsnnq.from_arrays(np.zeros((4, 9, 9, 1), np.uint8), np.arange(4))
    with pytest.raises(InputError, match=r"\(8, 8, 1\) and arrays has \(9, 9, 1\)"):
        jsnnq.evaluate(NET, fitted(), other, split="train")


@pytest.mark.parametrize("kind", [PlainSNN, Connected])
def test_what_a_network_of_ones_own_costs_is_counted_from_what_its_kernels_read(kind):
    net = kind(classes=10)
    state = jsnnq.calibrate(net, jsnnq.train_state(net, RULE, data()).variables, data())
    seen = jsnnq.evaluate(net, state, data())
    images = data().test.images
    logits, saw = net.apply(state.variables, state.inputs(images))
    for name, spikes in saw.spikes.items():
        counts = np.asarray(spikes).sum((0, 1)).astype(int)
        np.testing.assert_array_equal(seen.counts[name], counts)
    params = state.variables["params"]
    if kind is Connected:
        spikes = np.asarray(saw.spikes["sn1"])
        hidden = np.count_nonzero(params["fc2"]["kernel"], axis=1)
        assert seen.cost.acs * len(images) == np.sum(spikes * hidden)
        # Normalised pixels are no signs: every one of 64 meets 64 weights, 4 times.
        pixels = np.count_nonzero(np.asarray(state.inputs(images)))
        assert seen.cost.macs * len(images) == 4 * pixels * 64
        assert seen.cost.dense == 4 * (64 * 64 + 64 * 10)
        assert seen.cost.weight_bits == 32 * (64 * 64 + 64 + 64 * 10 + 10)
    else:
        assert seen.cost.dense == 4 * (
            # A convolution of 3x3 with stride 2 and a margin of one: 8 to 4 to 2
            # pixels, of which the first row and column miss one of three.
            1 * 16 * (3 * 4 - 1) ** 2 + 16 * 32 * (3 * 2 - 1) ** 2 + 2 * 2 * 32 * 10
        )
    assert list(seen.counts) == list(saw.spikes)


class Still(Network):
    """Convolves a still image once, and repeats what that gives."""

    timesteps: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        seen = Seen()
        x = over_time(QuantConv(self.weights, 2, name="conv1")(x, train), 3)
        x = seen.spikes["sn1"] = Spiking(self.membranes, name="sn1")(x, train)
        classify = QuantDense(self.weights, 10, name="fc")
        return fold(lambda y: classify(y.mean((1, 2)), train), x), seen


def test_what_is_computed_once_is_charged_at_every_timestep():
    net = Still()
    variables = jsnnq.train_state(net, RULE, data()).variables
    seen = jsnnq.evaluate(net, variables, data())
    assert seen.cost.dense == 3 * (1 * 2 * (3 * 8 - 2) ** 2 + 2 * 10)
    assert net.layers((1, 8, 8, 1))["weights"] == ("conv1", "fc")


def test_spikes_stand_under_the_path_of_their_layer():
    class Misnamed(Still):
        @nn.compact
        def __call__(self, x, train=False):
            logits, seen = super().__call__(x, train)
            return logits, seen._replace(spikes={"first": seen.spikes["sn1"]})

    net = Misnamed()
    variables = jsnnq.train_state(net, RULE, data()).variables
    with pytest.raises(InputError, match="spikes of first.*layers of neurons are sn1"):
        jsnnq.evaluate(net, variables, data())


def test_comparisons_take_evaluations_and_have_the_matched_distance_beside():
    a = jsnnq.evaluate(NET, fitted(), data())
    b = jsnnq.evaluate(NET, jsnnq.train_state(NET, RULE, data()).variables, data())
    found = jsnnq.compare(a, b)
    assert found == jsnnq.compare(a.counts, b.counts)
    assert found.matched == jsnnq.compare_matched(a.counts, b.counts)
    for name, distance in found.layers.items():
        assert distance <= found.matched.layers[name] + 1e-6
    assert found.max == max(found.layers.values())
    assert firing.summary(a.counts).dead == a.dead
