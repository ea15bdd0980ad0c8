"""Which layer gets which quantizer, and what starts without training."""

import numpy as np
import pytest

import jsnnq
from experiments.examples.own_network import PlainSNN
from jsnnq import InputError
from jsnnq.quantizers import identity
from tests import tiny
from tests.workflow.small import BATCH, NET, RULE, data, equal, fitted, quantized


def test_one_quantizer_is_for_the_usual_layers():
    net = quantized()
    bits = {path: net.weights(path).bits for path in net.kernel_layers()}
    assert bits == {path: 2 if path in tiny.HIDDEN else 32 for path in tiny.KERNELS}
    assert {net.membranes(path).bits for path in net.neuron_layers()} == {4}
    # Places that are not given stay as they are.
    again = jsnnq.quantize(net, membranes=jsnnq.uniform(2))
    assert again.weights == net.weights
    assert again.membranes("sn1").bits == 2


@pytest.mark.parametrize("name", ["resnet_tiny", "mobilenet_tiny"])
def test_binary_networks_make_signs_of_what_binary_kernels_read(name):
    net = jsnnq.binary_resnet(name, classes=3)
    binary = jsnnq.quantize(net, weights=jsnnq.ste(), activations=jsnnq.ste())
    signs = [p for p in net.kernel_layers() if binary.weights(p).makes_signs]
    assert signs
    assert not {"conv1", "fc"} & set(signs)
    for path in net.activation_layers():
        kernel = path.replace("/act", "/conv")
        assert binary.activations(path).makes_signs == (kernel in signs)


def test_the_first_rule_that_matches_wins():
    rules = (("layer1_0/.*", None), (".*conv.*", jsnnq.lqnet(3)), (".*", jsnnq.ste()))
    net = jsnnq.quantize(NET, weights=rules)
    assert net.weights("layer1_0/conv1") == identity
    assert net.weights("conv1").bits == 3
    assert net.weights("fc").bits == 1


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"weights": (("conv9", jsnnq.lqnet(2)),)}, "'conv9' matches no layer: there"),
        ({"activations": jsnnq.ste()}, "activations rule.*there are none"),
        ({"weights": (("(", jsnnq.lqnet(2)),)}, "no regular expression"),
        ({"weights": (("conv1",),)}, "pairs"),
        ({"membranes": jsnnq.ste()}, "cannot be used on membranes"),
        ({"membranes": jsnnq.mint(4, shared=True)}, "share MINT's scale"),
    ],
)
def test_rules_that_cannot_be_are_refused_at_once(rules, sentence):
    with pytest.raises(InputError, match=sentence):
        jsnnq.quantize(NET, **rules)


def test_rules_for_a_network_of_ones_own_are_checked_when_it_sees_an_image():
    net = PlainSNN(classes=10)
    qnet = jsnnq.quantize(net, weights=(("conv9", jsnnq.lqnet(2)),))
    for use in (
        lambda: jsnnq.fit(qnet, data(), RULE, epochs=1, batch=BATCH),
        lambda: jsnnq.calibrate(qnet, {}, data()),
    ):
        with pytest.raises(
            InputError, match="'conv9' matches no layer.*conv1, conv2, fc"
        ):
            use()


def test_calibration_starts_from_the_values():
    qnet = jsnnq.quantize(NET, weights=jsnnq.uniform(4, clip="max"))
    state = jsnnq.calibrate(qnet, fitted(), data())
    equal(state.variables["params"], fitted().variables["params"])
    for path in tiny.HIDDEN:
        block, layer = path.split("/")
        kernel = np.asarray(fitted().variables["params"][block][layer]["kernel"])
        found = state.variables["quant"][block][layer]["quantizer"].high
        assert float(found) == pytest.approx(float(np.abs(kernel).max()))
    before = jsnnq.evaluate(NET, fitted(), data())
    after = jsnnq.evaluate(qnet, state, data())
    assert after.loss == pytest.approx(before.loss, abs=0.05)
    assert after.cost.weight_bits < before.cost.weight_bits
