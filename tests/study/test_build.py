"""From configs to objects: which layer gets what, its bits, and what is refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stompp.base import binary
from jsnnq.config import (
    ALL_NEURONS,
    HIDDEN_KERNELS,
    STE,
    Config,
    LQNet,
    Mint,
    NetworkConfig,
    NeuronConfig,
    SnnTorch,
    StoMPP,
    Uniform,
    kernels,
    neurons,
)
from jsnnq.errors import InputError
from jsnnq.quantizers import identity
from jsnnq.study import build
from jsnnq.training import step
from tests import tiny
from tests.tiny import (
    HIDDEN,
    KERNELS,
    NEURONS,
    SHARED,
    SMALL,
    changed,
    digits,
    quantized,
    with_,
)

# Progressive freezing needs some steps.
BINARY = changed(tiny.BINARY, "training.epochs", 20)
LAYERS = [f"layer{stage}_0/conv{k}" for stage in (1, 2) for k in (1, 2)]


def network_of(config, steps_per_epoch=None):
    return build.network(config, 10, steps_per_epoch)


# Which layer gets what.


def test_the_usual_rules_keep_first_convolution_and_classifier_float():
    net = network_of(with_(weights=kernels(Uniform(2)), membranes=neurons(LQNet(2))))
    assert net.kernel_layers() == tuple(KERNELS)
    assert net.neuron_layers() == tuple(NEURONS)
    assert [path for path in KERNELS if net.weights(path) != identity] == HIDDEN
    assert all(net.membranes(path) != identity for path in NEURONS)


@pytest.mark.parametrize("size", ["sew_resnet8", "sew_resnet18", "sew_resnet50"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_usual_rules_reach_every_block_of_every_size(size, stem):
    rules = {"weights": kernels(Uniform(2)), "membranes": neurons(Uniform(2))}
    net = network_of(Config(network=NetworkConfig(name=size, stem=stem), **rules))
    float_ones = [path for path in net.kernel_layers() if net.weights(path) == identity]
    assert float_ones == ["conv1", "fc"]
    assert all(net.membranes(path) != identity for path in net.neuron_layers())


def test_the_first_full_match_wins():
    rules = (
        ("layer1_0/.*", None),
        ("layer._0/conv1", Uniform(3)),
        ("conv1|fc", LQNet(4)),
        (HIDDEN_KERNELS, Uniform(8)),
    )
    net = network_of(with_(weights=rules))
    assert {path: net.weights(path).bits for path in KERNELS} == {
        "conv1": 4,
        "layer1_0/conv1": 32,
        "layer1_0/conv2": 32,
        "layer2_0/conv1": 3,
        "layer2_0/conv2": 8,
        "layer2_0/downsample_conv": 8,
        "fc": 4,
    }


def test_decisions_say_what_each_layer_got():
    config = with_(
        weights=(("layer1_0/.*", None), *kernels(Uniform(2))),
        membranes=(("sn1|.*downsample_sn", LQNet(3)),),
    )
    rows = build.decisions(config, network_of(config))
    assert [row[0] for row in rows] == list(KERNELS)
    assert {path: ("Uniform(bits=2" in weight) for path, weight, _ in rows} == {
        path: path.startswith("layer2_0") for path in KERNELS
    }
    assert {path for path, weight, _ in rows if weight == "float"} == {
        *("conv1", "fc", "layer1_0/conv1", "layer1_0/conv2")
    }
    with_membrane = [path for path, _, membrane in rows if "LQNet(bits=3" in membrane]
    assert with_membrane == ["conv1", "layer2_0/downsample_conv"]
    assert rows[-1][2] == ""


# What is refused.


@pytest.mark.parametrize("what", ["weights", "membranes"])
@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("layer9_.*", "'layer9_.*' matches no layer: there are .*layer1_0/"),
        ("layer1_0", "matches no layer"),  # a part of a path is no match
        ("fc|(", "'fc.*' is no regular expression"),
        ("", "matches no layer"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(what, pattern, says):
    with pytest.raises(InputError, match=says) as caught:
        network_of(with_(**{what: ((pattern, Uniform(2)),)}))
    assert what in str(caught.value)


@pytest.mark.parametrize("what", ["weights", "membranes"])
@pytest.mark.parametrize(
    ("quantizer", "says"),
    [
        (lambda: Uniform(0), "bits=0"),
        (lambda: Uniform(9), "bits=9"),
        (lambda: Uniform(-1), "bits=-1"),
        (lambda: Uniform(1, grid="symmetric"), "bits=1"),
        (lambda: Uniform(2, clip=0.0), "clip is 0.0"),
        (lambda: Uniform(2, clip=-1.0), "clip is -1.0"),
        (lambda: Uniform(2, clip=math.nan), "clip is nan"),
        (lambda: Uniform(2, clip=math.inf), "clip is inf"),
        (lambda: Uniform(2, clip="largest"), "'largest'.*'max'"),
        (lambda: Uniform(2, grid="odd"), "unknown grid 'odd'.*'even'"),
        (lambda: Uniform(2, outside=0.5), "outside=0.5"),
        (lambda: Uniform(2, clip="percentile", percentile=101.0), "percentile is 101"),
        (lambda: Uniform(2, clip="percentile", percentile=0.0), "percentile is 0"),
        (lambda: LQNet(0), "bits=0"),
        (lambda: LQNet(9), "bits=9"),
        (lambda: LQNet(2, clip=0.0), "clip is 0.0"),
        (lambda: LQNet(2, clip=-3.0), "clip is -3.0"),
        (lambda: LQNet(2, clip=math.nan), "clip is nan"),
        (lambda: LQNet(2, start="zero"), "unknown start 'zero'.*'qem'"),
        (lambda: Mint(0), "bits=0"),
        (lambda: Mint(1), "bits=1"),
        (lambda: Mint(9), "bits=9"),
        (lambda: SnnTorch(0), "bits=0"),
        (lambda: SnnTorch(9), "bits=9"),
        (lambda: SnnTorch(2, spacing="log"), "unknown spacing 'log'.*'uniform'"),
        (lambda: SnnTorch(2, centre="reset"), "unknown centre 'reset'.*'threshold'"),
        (lambda: SnnTorch(2, upper=-0.1), "upper is -0.1"),
        (lambda: SnnTorch(2, lower=math.nan), "lower is nan"),
    ],
)
def test_quantizers_out_of_range_are_refused(what, quantizer, says):
    rule = {"weights": kernels, "membranes": neurons}[what]
    with pytest.raises(InputError, match=says):
        with_(**{what: rule(quantizer())})


@pytest.mark.parametrize(
    "quantizer", [SnnTorch(2), Mint(4, shared=True), LQNet(2, follow="timestep")]
)
def test_a_membrane_quantizer_is_refused_for_weights(quantizer):
    with pytest.raises(InputError, match="on weights: it is for membranes"):
        with_(weights=kernels(quantizer))


def test_membranes_have_timesteps_to_follow():
    net = network_of(with_(membranes=neurons(LQNet(2, follow="timestep"))))
    assert all(net.membranes(path).each_timestep for path in NEURONS)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("network.name", "vgg", "unknown network 'vgg'.*'sew_resnet18'"),
        ("network.stem", "wide", "unknown stem 'wide'.*'cifar'"),
        ("network.connect", "xor", "unknown connect 'xor'.*'iand'"),
        ("network.dtype", "float16", "unknown dtype 'float16'.*'bfloat16'"),
        ("network.timesteps", 0, "timesteps is 0"),
        ("network.timesteps", -4, "timesteps is -4"),
        ("network.width", 0.0, "width is 0.0"),
        ("network.width", math.nan, "width is nan"),
        ("network.width", math.inf, "width is inf"),
        ("network.width", 1e-3, "leaves no channel"),
        ("network.neuron.kind", "izhikevich", "'izhikevich'.*'plif'"),
        ("network.neuron.surrogate", "step", "unknown surrogate 'step'.*'atan'"),
        ("network.neuron.placement", "after", "'after'.*'stored'"),
        ("network.neuron.tau", math.nan, "tau is nan"),
        ("network.neuron.tau", 0.0, "tau is 0.0"),
        ("network.neuron.v_threshold", math.nan, "v_threshold is nan"),
        ("network.neuron.alpha", 0.0, "alpha of atan is 0.0"),
        ("network.neuron.alpha", math.nan, "alpha of atan is nan"),
        ("training.optimizer", "lion", "unknown optimizer 'lion'.*'adamw'"),
        ("training.schedule", "step", "unknown schedule 'step'.*'cosine'"),
        ("training.epochs", 0, "epochs is 0"),
        ("training.batch", 0, "batch is 0"),
        ("training.batch", 1438, "1438 does not fit 1,437"),
        ("training.rate", 0.0, "rate is 0.0"),
        ("training.rate", math.nan, "rate is nan"),
        ("training.rate", math.inf, "rate is inf"),
        ("training.momentum", -0.1, "momentum is -0.1"),
        ("training.weight_decay", math.nan, "weight_decay is nan"),
        ("training.warmup", -1.0, "warmup is -1.0"),
        ("training.latent_clip", 0.0, "latent_clip is 0.0"),
        ("training.latent_clip", math.nan, "latent_clip is nan"),
        ("training.looks", -1, "looks is -1"),
        ("calibration", 0, "calibration is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, value, says):
    with pytest.raises(InputError, match=says):
        build.program(changed(SMALL, setting, value), digits())


# The program.


def test_a_program_follows_the_data_set_and_the_recipe():
    program = build.program(SMALL, digits())
    assert program.batch == 128
    assert (program.pad, program.flip) == (1, False)
    still = dataclasses.replace(SMALL.training, augment=False)
    assert build.program(with_(training=still), digits()).pad == 0
    # Equal recipes compile once, whatever clip and bits are.
    one, other = (
        build.program(with_(weights=kernels(Uniform(b, clip=c))), digits())
        for b, c in ((2, 1.0), (4, 10.0))
    )
    assert one != other
    assert one.representative == other.representative
    assert hash(one.representative) == hash(other.representative)
    assert one.representative != program.representative
    assert step.jitted(one) is step.jitted(other)


# Quantizers' first states.


@pytest.mark.parametrize(
    ("weights", "membranes", "layer"),
    [
        ((), SHARED, "layer1_0/sn1"),
        (kernels(Uniform(4)), SHARED, "layer1_0/sn1"),
        (kernels(Mint(4)), ((ALL_NEURONS, Mint(4, shared=True)),), "sn1"),
        (
            (("layer1.*conv.", Mint(4)), ("layer2_0/conv.", Mint(4))),
            SHARED,
            "layer2_0/downsample_sn",
        ),
    ],
)
def test_a_scale_that_nobody_has_cannot_be_shared(weights, membranes, layer):
    with pytest.raises(InputError, match=f"membranes of {layer} share") as caught:
        network_of(with_(weights=weights, membranes=membranes))
    assert "shared=False" in str(caught.value)


@pytest.mark.filterwarnings("ignore:the neurons rest at 0")
def test_the_threshold_of_snntorch_is_the_neurons():
    row = with_(membranes=neurons(SnnTorch(2, spacing="uniform")))
    _, variables = quantized(changed(row, "network.neuron.v_threshold", 0.5))
    levels = variables["quant"]["sn1"]["quantizer"].levels
    np.testing.assert_allclose(levels, np.linspace(-0.5, 0.6, 4), atol=1e-6)


@pytest.mark.parametrize("surrogate", sorted(build.surrogate.SURROGATES))
def test_every_surrogate_can_be_named_with_and_without_its_width(surrogate):
    plain = build.neuron(NeuronConfig(surrogate=surrogate)).surrogate
    wide = build.neuron(NeuronConfig(surrogate=surrogate, alpha=1.7)).surrogate
    x = jnp.float32(0.1)
    assert np.isfinite(plain(x))
    assert plain(x) != wide(x)


# Where membranes rest.


@pytest.mark.parametrize(
    ("neuron", "quantizer", "held"),
    [
        (NeuronConfig(), Uniform(2, grid="even"), "rest at 0, .*: -?0.333333 is"),
        (NeuronConfig(), SnnTorch(2), "rest at 0, .*: -0.266667 is"),
        (
            NeuronConfig(v_reset=-0.5),
            Uniform(4, grid="unsigned"),
            "rest at -0.5, .*grid='unsigned'.*quantizer of sn1: 0 is",
        ),
    ],
)
def test_a_resting_value_that_is_no_level_is_warned_of_and_not_refused(
    neuron, quantizer, held
):
    row = with_(membranes=neurons(quantizer))
    with pytest.warns(UserWarning, match=held):
        network_of(changed(row, "network.neuron", neuron))


@pytest.mark.parametrize(
    ("neuron", "quantizer"),
    [
        *((NeuronConfig(), Uniform(bits)) for bits in range(1, 9)),
        (NeuronConfig(v_reset=None), Uniform(2, grid="unsigned")),
        (NeuronConfig(v_reset=-1.0), Uniform(3, grid="even")),
        (NeuronConfig(v_reset=-0.2), LQNet(2)),
        (NeuronConfig(), Uniform(2, clip="max", grid="even")),
        (NeuronConfig(), Mint(2)),
    ],
)
def test_a_resting_value_that_is_a_level_or_learned_is_not_warned_of(neuron, quantizer):
    row = with_(membranes=neurons(quantizer))
    network_of(changed(row, "network.neuron", neuron))


# Progressive freezing.


def frozen(config, steps_per_epoch=100):
    net = network_of(config, steps_per_epoch)
    return build.freezing(config, net, steps_per_epoch)


def both(quantizer, epochs=20):
    """A row of signs that are made so in both places."""
    row = binary(BINARY, quantizer, quantizer)
    return changed(row, "training.epochs", epochs)


def of_state(net, path):
    quantizer = (net.weights if "conv" in path else net.activations)(path)
    state = quantizer.init(jax.random.key(0), jnp.ones((2, 3)))
    return int(state.start), int(state.length)


def test_a_window_that_is_given_is_kept():
    row = binary(BINARY, StoMPP((7, 11)))
    for steps in (100, None):
        assert set(frozen(row, steps).values()) == {(7, 11)}
        assert of_state(network_of(row, steps), "layer1_0/conv1") == (7, 11)


def test_a_kernel_and_what_it_reads_share_a_window():
    """2,000 steps, 5 % and at least one epoch of them tail: 1,900 for 4 layers."""
    row = both(StoMPP())
    # The downsampling layer is not among them.
    assert frozen(row) == {path: (475 * k, 475) for k, path in enumerate(LAYERS)}
    net = network_of(row, 100)
    for k, path in enumerate(LAYERS):
        for one in (path, path.replace("conv", "act")):
            assert of_state(net, one) == (475 * k, 475)


@pytest.mark.parametrize(
    ("quantizer", "epochs", "expected"),
    [
        (StoMPP(order="reverse"), 20, [(475 * k, 475) for k in (3, 2, 1, 0)]),
        (StoMPP(order="global"), 20, [(0, 1900)] * 4),
        (StoMPP(order=(2, 0, 3, 1)), 20, [(475 * k, 475) for k in (1, 3, 0, 2)]),
        # 5 % of 4,000 steps is more than an epoch of 100.
        (StoMPP(order="global"), 40, [(0, 3800)] * 4),
        (StoMPP(order="global"), 3, [(0, 200)] * 4),
        (StoMPP(order="global", tail=0), 3, [(0, 300)] * 4),
        (StoMPP(order="global", warmup=0.5, tail=1.5), 3, [(50, 100)] * 4),
        (StoMPP(), 2, [(0, 25), (25, 25), (50, 25), (75, 25)]),
    ],
)
def test_windows_lie_between_warm_up_and_tail(quantizer, epochs, expected):
    assert list(frozen(both(quantizer, epochs)).values()) == expected


def test_binary_weights_alone_are_frozen_in_the_same_windows():
    assert frozen(binary(BINARY, StoMPP())) == frozen(both(StoMPP()))


def test_kernels_of_a_spiking_network_are_frozen_too():
    row = with_(weights=kernels(StoMPP()))
    assert frozen(row, 50) == {path: (10 * k, 10) for k, path in enumerate(HIDDEN)}


def test_without_freezing_there_are_no_windows():
    assert frozen(both(STE())) == {}


@pytest.mark.parametrize(
    ("quantizer", "epochs", "says"),
    [
        (lambda: StoMPP(), 1, "100 steps .* leave none for freezing.*100 of tail"),
        (lambda: StoMPP(tail=0.97), 1, "3 steps of freezing are left for 4 layers"),
        (lambda: StoMPP(order="sideways"), 20, "unknown order 'sideways'.*'reverse'"),
        (lambda: StoMPP(order=(0, 1, 2)), 20, r"order \(0, 1, 2\) is given for 4"),
        (lambda: StoMPP(schedule="sine"), 20, "unknown schedule 'sine'.*'cubic'"),
        (lambda: StoMPP(law="maybe"), 20, "unknown law 'maybe'.*'soft'"),
        (lambda: StoMPP(masks="pixel"), 20, "unknown masks 'pixel'.*'position'"),
        (lambda: StoMPP(refresh=0), 20, "refresh is 0"),
        (lambda: StoMPP(warmup=-1.0), 20, "warmup is -1.0"),
        (lambda: StoMPP(tail=math.nan), 20, "tail is nan"),
        (lambda: StoMPP(scaled=True), 20, "cannot be used on activations"),
        (lambda: STE(gradient="tanh"), 20, "unknown gradient 'tanh'.*'clipped'"),
    ],
)
def test_freezing_that_cannot_be_is_refused(quantizer, epochs, says):
    with pytest.raises(InputError, match=says):
        frozen(both(quantizer(), epochs))


def test_lagging_masks_are_warned_of():
    share = 0.0
    for i in range(475):
        share += ((i / 475) ** 3 - share) / 100
    with pytest.warns(UserWarning, match=f"{100 * (1 - share):.0f} % are expected"):
        frozen(both(StoMPP(law="bernoulli", refresh=100)))
    frozen(both(StoMPP(law="bernoulli", refresh=47)))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (lambda: with_(membranes=neurons(STE())), "weights and activations"),
        (lambda: with_(membranes=neurons(StoMPP())), "weights and activations"),
        (lambda: with_(activations=((".*", STE()),)), "no layer: there are none"),
        (
            lambda: changed(BINARY, "membranes", neurons(Uniform(2))),
            "matches no layer: there are none",
        ),
    ],
)
def test_signs_where_they_cannot_be_are_refused(row, says):
    with pytest.raises(InputError, match=says):
        network_of(row(), 100)


def test_decisions_name_what_each_kernel_reads():
    row = both(STE())
    found = build.decisions(row, network_of(row, 100))
    assert found[0] == ("conv1", "float", "")
    assert found[1] == ("layer1_0/conv1", "STE()", "STE()")
    assert ("layer2_0/downsample_conv", "float", "") in found


def test_how_often_a_run_is_looked_into_compiles_nothing_new():
    one = both(StoMPP())
    two = changed(one, "training.looks", 9)
    assert build.program(one, digits()) == build.program(two, digits())
