"""Configs to JSON and back."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.stompp.base import binary
from jsnnq import config
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
    from_dict,
    kernels,
    neurons,
    to_dict,
)
from jsnnq.errors import InputError
from jsnnq.study import default
from jsnnq.study.experiment import load_experiment

BASE = Config()
TUNED = dataclasses.replace(BASE, start="checkpoint")
BINARY = Config(network=BinaryNetworkConfig())
QUANTIZED = dataclasses.replace(TUNED, weights=kernels(Uniform(2)))

NUMBERS = st.floats(0.01, 100)
BITS = st.integers(1, 8)


def fields(cls, **drawn):
    """A dataclass in JSON: its defaults, and drawn values for some fields."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.name != "bits"}
    assert set(drawn) - {"bits", "method"} <= set(defaults)
    return st.fixed_dictionaries(
        {**{name: st.just(value) for name, value in defaults.items()}, **drawn}
    )


def quantizers(place):
    """In JSON, with what the place decides decided."""
    weights = place == "weights"
    uniform = fields(
        Uniform,
        method=st.just("uniform"),
        bits=st.integers(2, 8),
        clip=NUMBERS | st.sampled_from(["max", "percentile"]),
        grid=st.sampled_from(["even", "symmetric", "unsigned"]),
        channelwise=st.booleans(),
    )
    lqnet = fields(
        LQNet,
        method=st.just("lqnet"),
        bits=BITS,
        clip=st.none() | NUMBERS if weights else NUMBERS,
        codes=st.just("signed" if weights else "unsigned"),
    )
    snntorch = fields(SnnTorch, method=st.just("snntorch"), bits=BITS, upper=NUMBERS)
    ste = fields(STE, method=st.just("ste"), scaled=st.just(weights))
    order = st.permutations(range(3)).map(list)
    stompp = fields(
        StoMPP,
        method=st.just("stompp"),
        masks=st.just("entry" if weights else "sample"),
        order=st.sampled_from(["forward", "global"]) | order,
        refresh=st.integers(1, 999),
        tail=st.none() | NUMBERS,
    )
    shared = st.just(False) if weights else st.booleans()
    bits = st.integers(2, 8)
    mint = fields(Mint, method=st.just("mint"), bits=bits, shared=shared)
    here = {
        "weights": [ste, stompp, mint],
        "membranes": [snntorch, mint],
        "activations": [ste, stompp],
    }
    return st.one_of(st.none(), uniform, lqnet, *here[place])


def rules(place):
    rule = st.tuples(st.text(max_size=8), quantizers(place)).map(list)
    return st.lists(rule, max_size=3)


CONFIGS = fields(
    Config,
    data=st.text(max_size=8),
    network=fields(
        NetworkConfig,
        width=NUMBERS,
        timesteps=st.integers(1, 9),
        neuron=fields(NeuronConfig, v_reset=st.none() | NUMBERS),
    )
    | fields(BinaryNetworkConfig, width=NUMBERS, shortcut=st.text(max_size=8)),
    training=fields(TrainingConfig, rate=NUMBERS, augment=st.booleans()),
    start=st.sampled_from(config.STARTS),
    weights=rules("weights"),
    membranes=rules("membranes"),
    activations=rules("activations"),
    calibration=st.integers(1, 999),
)


# To JSON and back.


@settings(deadline=None, max_examples=50)
@given(CONFIGS)
def test_a_config_survives_json(values):
    made = from_dict(values)
    assert to_dict(made) == values
    assert from_dict(json.loads(json.dumps(to_dict(made)))) == made
    assert hash(made) == hash(from_dict(values))


@pytest.mark.parametrize("name", default.ROWS)
def test_the_default_rows_survive_json(name):
    row = default.ROWS[name]
    assert from_dict(json.loads(json.dumps(to_dict(row)))) == row


def test_a_config_in_json_names_every_number():
    found = to_dict(QUANTIZED)
    assert set(found) == {
        *("data", "network", "training", "start", "weights", "membranes"),
        *("activations", "calibration"),
    }
    assert found["network"]["neuron"]["tau"] == 2.0
    ((pattern, quantizer),) = found["weights"]
    assert pattern == config.HIDDEN_KERNELS
    assert quantizer == {
        "method": "uniform",
        "bits": 2,
        "clip": 1.0,
        "grid": "even",
        "channelwise": False,
        "outside": 0.0,
        "percentile": 99.9,
    }


def test_kinds_follow_from_start_and_quantizers():
    assert BASE.kind == "float"
    assert TUNED.kind == "control"
    assert QUANTIZED.kind == "quantized"
    scratch = dataclasses.replace(BASE, membranes=neurons(LQNet(2)))
    assert scratch.kind == "quantized"
    assert binary(BINARY, STE()).kind == "quantized"
    signs = dataclasses.replace(BINARY, activations=((".*", STE()),))
    assert signs.kind == "quantized"
    assert BASE.spikes
    assert not BINARY.spikes


def test_a_config_written_before_there_were_activations_is_read():
    values = to_dict(QUANTIZED)
    del values["activations"]
    assert from_dict(values) == QUANTIZED


def test_configs_written_before_quantizers_knew_their_place_mean_what_they_did():
    """Settings that are new had one value then."""
    then = {"method": "uniform", "bits": 2, "clip": 1.0, "grid": "even"}
    then |= {"channelwise": False, "outside": 0.0, "percentile": 99.9}
    lqnet = {"method": "lqnet", "bits": 2, "clip": None, "start": "qem"}
    lqnet |= {"debias": True, "average": 0.9, "ridge": 1e-4, "follow": "step"}
    mint = {"method": "mint", "bits": 4, "squash": True, "shared": False}
    values = to_dict(QUANTIZED)
    rules = [["sn1", then], ["layer1_0/sn1", lqnet], [".*", mint]]
    found = from_dict({**values, "membranes": rules}).membranes
    assert found[0][1] == Uniform(2, grid="even")
    assert found[1][1] == LQNet(2, clip=1.0, codes="unsigned")
    assert found[2][1] == Mint(4, start="published")


RESULTS = sorted(Path(__file__).parents[1].glob("experiments/*/results/*/results.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_published_rows_are_those_of_their_experiments_today(path):
    file = path.parents[2] / f"{path.parent.name}.py"
    wanted = load_experiment(file).rows
    found = json.loads(path.read_text())["rows"]
    assert found
    for row in found:
        assert from_dict(row["config"]) == wanted[row["name"]], row["name"]


def test_writing_configs_starts_no_device():
    """Only then may the command line still choose how many there are."""
    code = "import jax\nfrom jsnnq.config import *\n"
    code += "Config(weights=kernels(LQNet(2)), membranes=neurons(Uniform(2)))\n"
    code += "jax.config.update('jax_num_cpu_devices', 3)\n"
    code += "assert len(jax.devices()) == 3"
    subprocess.run([sys.executable, "-c", code], check=True)


# Settings as they are typed.


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("training.epochs=3", lambda c: c.training.epochs),
        ("training.rate=1", lambda c: c.training.rate),
        ("network.neuron.tau=1.5", lambda c: c.network.neuron.tau),
        ("network.neuron.v_reset=None", lambda c: c.network.neuron.v_reset),
        ("network.zero_init=True", lambda c: c.network.zero_init),
        ("training.schedule=constant", lambda c: c.training.schedule),
        ("data=a=b", lambda c: c.data),
    ],
)
def test_a_setting_that_was_typed_changes_nothing_else(typed, found):
    changed = config.override(QUANTIZED, typed)
    path, _, text = typed.partition("=")
    assert str(found(changed)) == text
    usual = found(QUANTIZED)
    assert config.override(changed, f"{path}={usual!r}") == QUANTIZED
    assert changed != QUANTIZED


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("training.epochs", "NAME=VALUE is needed"),
        ("training.epochs=2.5", "training.epochs is 2.5: int is needed"),
        ("training.epochs=True", "training.epochs is True: int is needed"),
        ("training.rate=fast", "training.rate is 'fast': float is needed"),
        ("training.latent_clip=x", "float or NoneType is needed"),
        ("network.nam=x", "no setting 'network.nam': known here are name, width"),
        ("weights=3", "no setting 'weights': known here are data, network"),
        ("network=3", "'network' is no single setting"),
        ("training.rate.x=3", "'training.rate.x' is no single setting"),
    ],
)
def test_a_setting_that_is_none_is_one_sentence(typed, says):
    with pytest.raises(InputError, match=says):
        config.override(BASE, typed)


# Quantizers as they are typed.


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("lqnet:2", LQNet(2)),
        ("lqnet:bits=2", LQNet(2)),
        ("uniform:4:grid=unsigned", Uniform(4, grid="unsigned")),
        ("uniform:4:clip=2", Uniform(4, clip=2.0)),
        ("uniform:4:clip=max:channelwise=True", Uniform(4, "max", channelwise=True)),
        ("lqnet:2:clip=None", LQNet(2)),
        ("snntorch:4", SnnTorch(4)),
        ("mint:4:shared=True", Mint(4, shared=True)),
        ("ste", STE()),
        ("ste:gradient=clipped", STE(gradient="clipped")),
        ("stompp:order=reverse", StoMPP(order="reverse")),
        ("stompp:order=[1,0,2]", StoMPP(order=(1, 0, 2))),
        ("stompp:window=(3,5):refresh=7", StoMPP(window=(3, 5), refresh=7)),
    ],
)
def test_a_quantizer_is_typed_in_a_word(typed, found):
    assert config.read_quantizer(typed) == found


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "unknown quantizer '': accepted are 'lqnet', 'mint'"),
        ("lint:2", "unknown quantizer 'lint': accepted are 'lqnet'"),
        ("LQNet:2", "unknown quantizer 'LQNet'"),
        ("lqnet", "'lqnet' does not say its bits: say them, as lqnet:4"),
        ("uniform:grid=even", "does not say its bits"),
        ("lqnet:two", "bits of lqnet is 'two': int is needed"),
        ("lqnet:2.0", "bits of lqnet is 2.0: int is needed"),
        ("lqnet:", "bits of lqnet is '': int is needed"),
        ("lqnet:9", "bits=9: an integer from 1 to 8 is needed"),
        ("lqnet:2:bits=3", "sets bits twice"),
        ("ste:2", "'ste:2' has '2' where SETTING=VALUE.*: ste has .* gradient, scaled"),
        ("lqnet:2:4", "has '4' where SETTING=VALUE is needed"),
        ("lqnet:2:clop=3", "unknown setting of lqnet 'clop': accepted are 'average'"),
        ("lqnet:2:average=x", "average of lqnet is 'x': float is needed"),
        ("lqnet:2:average=3", "average is 3: below 1 is needed"),
        ("uniform:4:grid=odd", "unknown grid 'odd'"),
        ("uniform:4:clip=True", "clip of uniform is True: float or str is needed"),
        ("stompp:window=3", r"window of stompp is 3: tuple\[int, int\] or NoneType"),
        ("stompp:window=(1,2,3)", "window of stompp is"),
        ("stompp:order=(1,'a')", "order of stompp is"),
        ("mint:4:shared=maybe", "shared of mint is 'maybe': bool is needed"),
    ],
)
def test_a_quantizer_that_is_none_is_one_sentence(typed, says):
    with pytest.raises(InputError, match=says):
        config.read_quantizer(typed)
