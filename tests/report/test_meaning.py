"""What configs say of rows; what these are called says nothing."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnnq.config import (
    STE,
    BinaryNetworkConfig,
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    NeuronConfig,
    SnnTorch,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
    neurons,
)
from jsnnq.quantizers import Quantizer
from jsnnq.report import meaning


def spiking(weights=None, membranes=None, **others):
    """A row of a spiking network, by its quantizers."""
    others |= {"weights": kernels(weights)} if weights else {}
    others |= {"membranes": neurons(membranes)} if membranes else {}
    return Config(**others)


def binary(weights=None, activations=None, **others):
    """A row of a network without spikes, by its quantizers."""
    others |= {"weights": (("conv", weights),)} if weights else {}
    others |= {"activations": (("act", activations),)} if activations else {}
    return Config(network=BinaryNetworkConfig(), **others)


@dataclasses.dataclass(frozen=True)
class Halving(Quantizer):
    """One of the reader's own."""

    bits: int = 3
    twice: bool = False

    def init(self, key, x):
        return ()

    def apply(self, x, state, train):
        return x / 2, state


# What is quantized


@pytest.mark.parametrize(
    ("config", "place"),
    [
        (spiking(), ""),
        (spiking(LQNet(2)), "weights"),
        (spiking(None, Uniform(2)), "membranes"),
        (spiking(LQNet(2), Uniform(2)), "weights and membranes"),
        (spiking(STE()), "weights"),  # It spikes, whatever its weights are.
        (binary(STE(), STE("clipped")), "BNN"),
        (binary(StoMPP(), STE()), "BNN"),
        (binary(STE()), "BWN"),
        (binary(None, StoMPP()), "activations"),
        (binary(Uniform(2)), "weights"),
        (binary(Uniform(2), Uniform(2)), "weights and activations"),
        (binary(STE(), Uniform(2)), "weights and activations"),
        (Config(weights=((".*", None),), start="checkpoint"), ""),
    ],
)
def test_what_is_quantized(config, place):
    assert meaning.place(config) == place


# With what

HELPED = StoMPP(surrogate="identity")


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (spiking(Uniform(2)), "uniform"),
        (spiking(LQNet(2)), "LQ-Net"),
        (spiking(None, SnnTorch(2)), "snnTorch"),
        (spiking(Mint(2), Mint(2, shared=True)), "MINT"),
        (spiking(LQNet(2), LQNet(2)), "LQ-Net"),
        (spiking(LQNet(2), Uniform(2)), "LQ-Net and uniform"),
        (spiking(Halving()), "Halving"),
        (spiking(), "float network"),
        (spiking(start="checkpoint"), "float network, fine-tuned"),
        (binary(), "float network"),
        # Of binary networks.
        (binary(STE(), STE("clipped")), "STE"),
        (binary(STE(), STE("identity")), "STE identity"),
        (binary(STE("clipped"), STE("identity")), "STE identity"),
        (binary(STE("identity")), "STE"),
        (binary(STE("clipped")), "STE"),
        (binary(StoMPP(), StoMPP()), "StoMPP"),
        (binary(StoMPP()), "StoMPP"),
        (binary(HELPED, StoMPP(surrogate="clipped")), "StoMPP+STE"),
        (binary(HELPED), "StoMPP+STE"),
        (binary(StoMPP(order="global"), StoMPP(order="global")), "StoMPP global"),
        (binary(StoMPP(order="reverse")), "StoMPP reverse"),
        (binary(StoMPP(order=(1, 0)), StoMPP(order=(1, 0))), "StoMPP own order"),
        (binary(StoMPP(order="global", surrogate="clipped")), "StoMPP+STE global"),
        (binary(StoMPP(order=(1, 0), surrogate="clipped")), "StoMPP+STE own order"),
        # How activations become signs says how a network is trained.
        (binary(StoMPP(), STE("clipped")), "STE"),
        (binary(STE(), StoMPP()), "StoMPP"),
        (binary(STE(), Uniform(2)), "STE and uniform"),
    ],
)
def test_the_method(config, method):
    assert meaning.method(config) == method


def test_what_stands_on_several_layers_is_said_once():
    rules = (("a", Uniform(4)), ("b", None), ("c", Uniform(2)), ("d", Uniform(4)))
    config = Config(weights=rules)
    assert meaning.method(config) == "uniform"
    assert meaning.bits(config) == "4 and 2"
    four, two = Uniform(4, grid="even"), Uniform(2, grid="even")
    assert meaning.quantizers(config) == [("weights", four), ("weights", two)]


def test_quantizers_stand_beside_their_places():
    config = spiking(LQNet(2), SnnTorch(3))
    assert meaning.quantizers(config) == [
        ("weights", LQNet(2, codes="signed")),
        ("membranes", SnnTorch(3)),
    ]
    # One that stands in two places is told twice.
    found = meaning.quantizers(binary(STE(), STE()))
    assert found == [("weights", STE()), ("activations", STE())]


def test_whether_all_that_is_quantized_becomes_signs():
    assert meaning.makes_signs(binary(STE(), StoMPP()))
    assert meaning.makes_signs(spiking(STE()))
    assert not meaning.makes_signs(binary(STE(), Uniform(1)))
    assert not meaning.makes_signs(binary())


# How

LINEAR = StoMPP(schedule="linear")


@pytest.mark.parametrize(
    ("config", "bits", "clip"),
    [
        (spiking(Uniform(4)), "4", "1"),
        (spiking(Uniform(4, clip=0.25)), "4", "0.25"),
        (spiking(Uniform(4, clip=10.0)), "4", "10"),
        (spiking(Uniform(4, clip="max")), "4", "max"),
        (spiking(Uniform(4, clip="percentile")), "4", "percentile"),
        (spiking(LQNet(2)), "2", ""),
        (spiking(None, LQNet(2)), "2", "1"),  # as it is placed
        (spiking(LQNet(2), LQNet(4)), "2 and 4", "1"),
        (spiking(LQNet(2), LQNet(2)), "2", "1"),
        (spiking(Uniform(8, clip=2.5), Uniform(3)), "8 and 3", "2.5 and 1"),
        (spiking(Mint(4)), "4", ""),
        (spiking(Halving()), "3", ""),
        (binary(STE(), StoMPP()), "1", ""),
        (spiking(), "", ""),
    ],
)
def test_bits_and_clip(config, bits, clip):
    assert (meaning.bits(config), meaning.clip(config)) == (bits, clip)


@pytest.mark.parametrize(
    "config",
    [
        spiking(Uniform(2)),
        spiking(Uniform(2, grid="even")),
        spiking(None, Uniform(2)),
        spiking(None, Uniform(2, grid="symmetric")),
        spiking(None, Uniform(1, grid="unsigned")),  # One bit has no other grid.
        spiking(LQNet(2, clip=3.0), LQNet(2, clip=2.0)),
        spiking(LQNet(2, codes="signed"), LQNet(2, clip=1.0, codes="unsigned")),
        spiking(Mint(2), SnnTorch(2)),
        spiking(Halving(4)),
        spiking(),
        binary(STE("clipped"), STE("identity")),
        binary(StoMPP(order="reverse", surrogate="clipped"), StoMPP(masks="position")),
    ],
)
def test_nothing_is_said_of_usual_settings(config):
    assert meaning.details(config) == ()


@pytest.mark.parametrize(
    ("config", "details"),
    [
        (spiking(None, Uniform(2, grid="unsigned")), ("grid unsigned",)),
        (spiking(None, Uniform(2, grid="even")), ("grid even",)),
        (spiking(Uniform(2, grid="symmetric")), ("grid symmetric",)),
        (spiking(Uniform(2, outside=1.0)), ("outside 1",)),
        (
            spiking(Uniform(2, clip="percentile", channelwise=True, percentile=99.0)),
            ("channelwise", "percentile 99"),
        ),
        (spiking(LQNet(2, start="published")), ("start published",)),
        (spiking(LQNet(2, debias=False)), ("debias False",)),
        (
            spiking(None, LQNet(2, average=0.99, ridge=0.0, follow="timestep")),
            ("average 0.99", "ridge 0", "follow timestep"),
        ),
        (spiking(LQNet(2, codes="unsigned", clip=1.0)), ("codes unsigned",)),
        (spiking(Mint(2, squash=False)), ("squash False",)),
        (spiking(Mint(2), Mint(2, shared=True)), ("shared",)),
        (
            spiking(None, SnnTorch(2, upper=0.5, spacing="exponential")),
            ("upper 0.5", "spacing exponential"),
        ),
        (spiking(Halving(4, twice=True)), ("twice",)),
        (binary(STE(scaled=True)), ("scaled",)),
        # What is the same in both places is said once.
        (binary(LINEAR, LINEAR), ("schedule linear",)),
        (
            binary(StoMPP(law="bernoulli"), StoMPP(law="full", refresh=10)),
            ("law bernoulli", "law full", "refresh 10"),
        ),
        (binary(None, StoMPP(masks="sample")), ("masks sample",)),
        (binary(StoMPP(window=(0, 10), tail=1.5)), ("window (0, 10)", "tail 1.5")),
        (binary(StoMPP(warmup=2)), ("warmup 2",)),
    ],
)
def test_unusual_settings_are_said(config, details):
    assert meaning.details(config) == details


@pytest.mark.parametrize(
    ("config", "setting", "words"),
    [
        (
            spiking(Uniform(2, clip=10.0)),
            "2-bit, clip 10",
            ["weights", "uniform", "2-bit", "clip 10"],
        ),
        (
            spiking(LQNet(2), LQNet(4)),
            "2 and 4-bit",
            ["weights and membranes", "LQ-Net", "2 and 4-bit", "clip 1"],
        ),
        (
            spiking(None, Uniform(4, grid="unsigned")),
            "4-bit, grid unsigned",
            ["membranes", "uniform", "grid unsigned", "4-bit", "clip 1"],
        ),
        (
            binary(StoMPP(), StoMPP(refresh=10)),
            "refresh 10",
            ["BNN", "Net", "StoMPP", "refresh 10"],
        ),
        (binary(STE()), "", ["BWN", "Net", "STE"]),
        # A clip is usual or not by its quantizer and its place.
        (
            spiking(LQNet(2, clip=1.0), LQNet(2, clip=1.0)),
            "2-bit, clip 1",
            ["weights and membranes", "LQ-Net", "2-bit", "clip 1"],
        ),
        (
            spiking(Uniform(8, clip=2.5), Uniform(3, clip="max")),
            "8 and 3-bit, clip 2.5, clip max",
            ["weights and membranes", "uniform", "8 and 3-bit", "clip 2.5 and max"],
        ),
        (binary(Uniform(2)), "2-bit", ["weights", "Net", "uniform", "2-bit", "clip 1"]),
    ],
)
def test_all_that_is_said_of_a_config(config, setting, words):
    assert meaning.setting(config) == setting
    assert meaning.words(config, "Net") == words


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("bits", 2, "2-bit"),
        ("clip", 10.0, "clip 10"),
        ("clip", "max", "clip max"),
        ("clip", None, "no clip"),
        ("grid", "unsigned", "grid unsigned"),
        ("ridge", 1e-4, "ridge 0.0001"),
        ("refresh", 10, "refresh 10"),
        ("method", "StoMPP", "StoMPP"),
        ("order", "global", "global"),
        ("schedule", "cubic", "cubic"),
        ("training.rate", 0.05, "training.rate 0.05"),
        ("", "", ""),
    ],
)
def test_values_of_settings_are_named(setting, value, words):
    assert meaning.named(setting, value) == words


# Networks


@pytest.mark.parametrize(
    ("name", "words", "depth"),
    [
        ("resnet18", "ResNet-18", 18),
        ("resnet50", "ResNet-50", 50),
        ("sew_resnet8", "sew_resnet8", 8),
        ("mobilenetv2", "MobileNetV2", math.inf),
        ("resnet_tiny", "resnet_tiny", math.inf),
        ("resnet18_wide", "ResNet-18_wide", math.inf),
        ("one of 18", "one of 18", math.inf),
    ],
)
def test_networks_are_printed_and_have_a_depth(name, words, depth):
    assert (meaning.network(name), meaning.depth(name)) == (words, depth)


# All but one setting


def rest(config, setting):
    return meaning.but_for(config, setting)[0]


def value(config, setting):
    return meaning.but_for(config, setting)[1]


STOMPP = binary(
    StoMPP(schedule="cubic"),
    StoMPP(schedule="cubic"),
    training=TrainingConfig(schedule="constant"),
)


@pytest.mark.parametrize(
    ("config", "setting", "expected"),
    [
        (spiking(Uniform(4)), "bits", 4),
        (spiking(Uniform(4), Uniform(4)), "bits", 4),
        (spiking(Halving()), "bits", 3),
        (spiking(Uniform(4, clip=10.0)), "clip", 10.0),
        (spiking(Uniform(4, clip="max")), "clip", "max"),
        (spiking(LQNet(4)), "clip", None),
        (spiking(None, LQNet(4)), "clip", 1.0),  # as it is placed
        (spiking(None, Uniform(4)), "grid", "symmetric"),
        (spiking(None, Uniform(4, grid="unsigned")), "grid", "unsigned"),
        (binary(StoMPP(order=(1, 0))), "order", (1, 0)),
        (binary(StoMPP(order="global"), STE()), "order", "global"),
        (STOMPP, "order", "forward"),
        (STOMPP, "schedule", "cubic"),
        (STOMPP, "refresh", 100),
        (spiking(LQNet(2)), "method", "LQ-Net"),
        (spiking(LQNet(2, ridge=0.0)), "method", "LQ-Net, ridge 0"),
        (STOMPP, "method", "StoMPP"),
        # Other settings are paths.
        (STOMPP, "training.schedule", "constant"),
        (STOMPP, "training.rate", 0.1),
        (STOMPP, "network.name", "resnet18"),
        (spiking(), "network.neuron.tau", 2.0),
        (spiking(), "data", "digits"),
        (spiking(start="checkpoint"), "start", "checkpoint"),
        # One that is absent, or is not one, has none.
        (spiking(), "bits", ...),
        (spiking(), "schedule", ...),  # Of a training there is one, which is another.
        (binary(STE(), STE()), "order", ...),
        (binary(STE(), STE()), "bits", ...),  # They have no other, so it is not set.
        (spiking(Mint(4)), "clip", ...),
        (spiking(Uniform(2), Uniform(4)), "bits", ...),
        (spiking(LQNet(2), LQNet(2)), "clip", ...),  # None, and 1 as it is placed
        (spiking(Uniform(2), Uniform(2)), "grid", ...),
        (binary(StoMPP(order="global"), StoMPP()), "order", ...),
        (spiking(Uniform(2)), "rate", ...),
        (spiking(Uniform(2)), "network", ...),
        (spiking(Uniform(2)), "training.nothing", ...),
        (spiking(Uniform(2)), "training.looks", ...),
    ],
)
def test_a_setting_has_a_value(config, setting, expected):
    assert value(config, setting) == expected


SPIKING = spiking(Uniform(2))
TUNED = dataclasses.replace(SPIKING, start="checkpoint")
FAST = TrainingConfig(rate=0.3)


def in_network(bits=2, **settings):
    return spiking(Uniform(bits), network=NetworkConfig(**settings))


@pytest.mark.parametrize(
    ("one", "other", "setting"),
    [
        (SPIKING, spiking(Uniform(8)), "bits"),
        (spiking(None, LQNet(2)), spiking(None, LQNet(3)), "bits"),
        (spiking(LQNet(2), LQNet(2)), spiking(LQNet(4), LQNet(4)), "bits"),
        (SPIKING, spiking(Uniform(2, clip=10.0)), "clip"),
        (spiking(LQNet(2)), spiking(LQNet(2, clip=10.0)), "clip"),
        (spiking(None, Uniform(2)), spiking(None, Uniform(2, grid="unsigned")), "grid"),
        (
            binary(StoMPP(), StoMPP()),
            binary(StoMPP(order="global"), StoMPP(order="global")),
            "order",
        ),
        (binary(StoMPP()), binary(LINEAR), "schedule"),
        (SPIKING, spiking(Uniform(2), training=FAST), "training.rate"),
        (SPIKING, in_network(width=0.5), "network.width"),
        (SPIKING, in_network(neuron=NeuronConfig(tau=4.0)), "network.neuron.tau"),
        (SPIKING, TUNED, "start"),
        # A method is all that is set of it, but for bits and clip.
        (SPIKING, spiking(LQNet(2, clip=1.0)), "method"),
        (SPIKING, spiking(Uniform(2, outside=1.0)), "method"),
        (binary(STE(), STE()), binary(StoMPP(), StoMPP()), "method"),
    ],
)
def test_what_differs_in_one_setting_is_alike_but_for_it(one, other, setting):
    assert rest(one, setting) == rest(other, setting)
    assert value(one, setting) != value(other, setting)
    assert rest(one, "calibration") != rest(other, "calibration")


@pytest.mark.parametrize(
    "other",
    [
        spiking(Uniform(4, clip=10.0)),
        spiking(Uniform(4), Uniform(4)),
        spiking(LQNet(4, clip=1.0)),
        spiking(None, Uniform(4)),
        spiking(Uniform(4, grid="symmetric")),
        spiking(Uniform(4, outside=1.0)),
        spiking(Uniform(4), training=FAST),
        spiking(Uniform(4), data="cifar10"),
        spiking(Uniform(4), calibration=100),
        in_network(4, dtype="bfloat16"),
        in_network(4, neuron=NeuronConfig(kind="if")),
        Config(weights=(("other layers", Uniform(4)),)),
        Config(weights=(("first", None), *kernels(Uniform(4)))),
        dataclasses.replace(TUNED, weights=kernels(Uniform(4))),
    ],
)
def test_whatever_else_differs_is_seen(other):
    assert rest(SPIKING, "bits") == rest(spiking(Uniform(4)), "bits")
    assert value(other, "bits") == 4
    assert rest(SPIKING, "bits") != rest(other, "bits")


@pytest.mark.parametrize(
    "other",
    [
        spiking(LQNet(4, clip=1.0)),  # bits
        spiking(LQNet(2, clip=10.0)),  # clip
        spiking(Mint(2)),  # which has no clip
        Config(weights=(("other layers", LQNet(2, clip=1.0)),)),
        spiking(LQNet(2, clip=1.0), training=FAST),
    ],
)
def test_methods_are_compared_where_nothing_else_differs(other):
    assert rest(SPIKING, "method") == rest(spiking(LQNet(2, clip=1.0)), "method")
    assert rest(SPIKING, "method") != rest(other, "method")


def test_the_schedule_of_a_training_is_not_that_of_masks():
    slower = dataclasses.replace(STOMPP, training=TrainingConfig(schedule="cosine"))
    assert value(slower, "schedule") == value(STOMPP, "schedule") == "cubic"
    assert rest(slower, "schedule") != rest(STOMPP, "schedule")
    assert rest(slower, "training.schedule") == rest(STOMPP, "training.schedule")
    linear = binary(LINEAR, LINEAR, training=STOMPP.training)
    assert rest(linear, "schedule") == rest(STOMPP, "schedule")
    assert rest(linear, "training.schedule") != rest(STOMPP, "training.schedule")


@pytest.mark.parametrize("setting", ["bits", "method", "refresh", "training.rate"])
def test_how_often_a_network_is_looked_into_changes_nothing(setting):
    training = dataclasses.replace(STOMPP.training, looks=8)
    looked = dataclasses.replace(STOMPP, training=training)
    assert meaning.but_for(looked, setting) == meaning.but_for(STOMPP, setting)


def test_what_the_place_decides_is_as_good_as_written():
    named = spiking(None, Uniform(4, grid="symmetric"))
    usual = spiking(None, Uniform(4))
    assert meaning.but_for(usual, "bits") == meaning.but_for(named, "bits")


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_only_what_is_named_is_left_out(data):
    """Two configs are alike but for a setting if they differ in it at most."""
    drawn = {
        "bits": st.sampled_from((2, 4)),
        "clip": st.sampled_from((1.0, 10.0, "max")),
        "grid": st.sampled_from(("even", "unsigned")),
        "outside": st.sampled_from((0.0, 1.0)),
    }
    rates = st.sampled_from((0.1, 0.3))
    one, other = (data.draw(st.fixed_dictionaries(drawn)) for _ in "12")
    rate, other_rate = data.draw(rates), data.draw(rates)
    a, b = (
        spiking(Uniform(**each), training=TrainingConfig(rate=rate))
        for each, rate in ((one, rate), (other, other_rate))
    )
    first, second = one | {"training.rate": rate}, other | {"training.rate": other_rate}
    for setting in first:
        assert value(a, setting) == first[setting]
        alike = {**first, setting: 0} == {**second, setting: 0}
        assert (rest(a, setting) == rest(b, setting)) == alike
