"""A network in a folder: everything that is needed to use it, and no code."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from experiments.examples.own_network import PlainSNN
from experiments.examples.own_quantizer import Saturating, Ternary, triangle
from jsnnq import InputError
from jsnnq.networks.surrogate import SURROGATES
from jsnnq.runtime import checkpoint
from jsnnq.workflow import specification
from tests.workflow.small import NET, RULE, data, equal, fitted, quantized

NETS = {
    "float": NET,
    "quantized": quantized(),
    "rules": jsnnq.quantize(
        NET,
        weights=((".*conv1", jsnnq.mint(4)), (".*", jsnnq.uniform(2, clip="max"))),
        membranes=((".*1", jsnnq.lqnet(3)), (".*", None)),
    ),
    "neurons": jsnnq.sew_resnet(
        "sew_resnet_tiny",
        classes=3,
        connect="iand",
        timesteps=2,
        dtype=jnp.bfloat16,
        neuron=jsnnq.Neuron("plif", v_reset=None, surrogate=SURROGATES["erf"](1.5)),
    ),
    "binary": jsnnq.quantize(
        jsnnq.binary_resnet("mobilenet_tiny", classes=3),
        weights=jsnnq.stompp((0, 5), scaled=True),
        activations=jsnnq.ste(),
    ),
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_network_comes_back_from_json(net):
    written = json.loads(json.dumps(specification.specify(net)))
    assert specification.own_parts(written) == []
    again = specification.build(written)
    assert again == net
    assert hash(again) == hash(net)


@pytest.mark.parametrize("name", ["float", "quantized"])
def test_a_saved_network_is_used_without_its_data(name, tmp_path):
    net = NETS[name]
    state = jsnnq.calibrate(net, fitted(), data())
    jsnnq.save(tmp_path / "NET", net, state)
    again, found = jsnnq.load(tmp_path / "NET")
    assert again == net
    equal(found.variables, state.variables)
    images = data().test.images
    equal(found.inputs(images), state.inputs(images))
    assert (
        jsnnq.evaluate(again, found, data()).loss
        == jsnnq.evaluate(net, state, data()).loss
    )
    # It can be trained on, and saved in its place.
    more = jsnnq.fit(again, data(), RULE, epochs=1, batch=64, start=found)
    jsnnq.save(tmp_path / "NET", again, more)
    equal(jsnnq.load(tmp_path / "NET")[1].variables, more.variables)


OWN = {
    "network": (PlainSNN(classes=10), "PlainSNN"),
    "quantizer": (jsnnq.quantize(NET, weights=Ternary()), "Ternary"),
    "neuron": (NET.clone(neuron=Saturating()), "Saturating"),
    "surrogate": (NET.clone(neuron=jsnnq.Neuron(surrogate=triangle)), "triangle"),
}


@pytest.mark.parametrize(("net", "name"), OWN.values(), ids=OWN)
def test_what_is_ones_own_is_named_and_handed_in(net, name, tmp_path):
    variables = jsnnq.train_state(net, RULE, data()).variables
    state = jsnnq.calibrate(net, variables, data())
    jsnnq.save(tmp_path, net, state)
    with pytest.raises(InputError, match=rf"{name}.*never stores.*network=net"):
        jsnnq.load(tmp_path)
    again, found = jsnnq.load(tmp_path, network=net)
    assert again is net
    equal(found.variables, state.variables)
    other = jsnnq.quantize(net, membranes=jsnnq.uniform(3))
    with pytest.raises(InputError, match="not the one that was saved.*membranes"):
        jsnnq.load(tmp_path, network=other)


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="no.*checkpoint"):
        jsnnq.load(tmp_path / "nothing")
    checkpoint.save(tmp_path / "other", {"a": np.zeros(2)}, {"step": 3})
    with pytest.raises(InputError, match="not of a finished network"):
        jsnnq.load(tmp_path / "other")
    written = {"network": {"class": "SEWResNet", "colour": 1}, "format": 1}
    checkpoint.save(tmp_path / "newer", {"a": np.zeros(2)}, written)
    with pytest.raises(InputError, match="does not know .colour."):
        jsnnq.load(tmp_path / "newer")
    checkpoint.save(tmp_path / "newest", {"a": np.zeros(2)}, written | {"format": 2})
    with pytest.raises(InputError, match="newer version of jsnnq .format 2"):
        jsnnq.load(tmp_path / "newest")


def test_variables_alone_do_not_know_how_pixels_are_seen(tmp_path):
    with pytest.raises(InputError, match="state is a dict"):
        jsnnq.save(tmp_path / "NET", NET, fitted().variables)
    assert not (tmp_path / "NET").exists()


def test_the_network_of_a_state_stays_what_it_was_saved_with():
    state = fitted()
    assert dataclasses.replace(state, network=quantized()).network != state.network
