"""The command line: what it prints, what it refuses, and that it refuses cleanly."""

import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import jax
import numpy as np
import pytest
from scipy import stats

import jsnnq
from jsnnq import cli
from jsnnq.analysis import cost, firing
from jsnnq.cli import options
from jsnnq.config import (
    METHODS,
    Config,
    LQNet,
    NetworkConfig,
    NeuronConfig,
    TrainingConfig,
    Uniform,
    to_dict,
)
from jsnnq.data import prepare, sets
from jsnnq.errors import InputError
from jsnnq.networks import bnn, sew
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.sew import ALL_NEURONS, HIDDEN_KERNELS
from jsnnq.runtime.files import read_json
from jsnnq.runtime.precision import PRECISIONS
from jsnnq.study import build, quantization, recipe, run, runner
from jsnnq.study.budget import OutOfTime
from jsnnq.study.optimizer import optimizer
from jsnnq.study.saved import save_network
from jsnnq.training.monitor import Monitor
from jsnnq.workflow.state import initial_variables, untrained
from tests.commands import SMALL_NETWORK, Finished, done, enter, refused
from tests.tiny import (
    EXPERIMENT,
    ORDER,
    SMALL,
    digits,
    diverging,
    fake_execute,
    few_digits,
    rates_of,
    read,
    runs_of,
    save_arrays,
    tree,
)

COMMANDS = tuple(cli.COMMANDS)
TUNED = ("--epochs", 1, "--batch", 128, "--quiet")
BOTH = ("--weights", "lqnet:2", "--membranes", "uniform:4:grid=unsigned")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in; what is refused must leave it as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Two trained networks that differ in their seed."""
    folder = tmp_path_factory.mktemp("networks")
    for seed in (0, 1):
        out = folder / str(seed)
        assert str(out) in done("train", *SMALL_NETWORK, "--seed", seed, "--out", out)
    return folder


@pytest.fixture(scope="module")
def quantized(networks, tmp_path_factory):
    """The first of them, quantized beside its control, and what that printed."""
    out = tmp_path_factory.mktemp("quantized") / "net"
    return out, done("quantize", networks / "0", *BOTH, *TUNED, "--out", out)


@pytest.fixture
def damaged(networks, tmp_path):
    """A copy of a trained network that a test may destroy."""
    return shutil.copytree(networks / "0", tmp_path / "damaged")


# Help.


def test_help_names_every_command_and_an_example_of_each():
    found = done("--help")
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", found, re.MULTILINE)
        assert f"  jsnnq {command}" in found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(command):
    found = done(command, "--help")
    assert f"jsnnq {command}" in found
    assert re.search(r"^  (--?[a-z][\w-]*.*)$", found, re.MULTILINE)
    made = options.parser(cli.COMMANDS)
    (below,) = (a.choices for a in made._actions if isinstance(a.choices, dict))
    assert all(action.help for action in below[command]._actions)
    assert "--quiet" in found
    assert not re.search(r"default: (None|False|\[\])", found)


def test_help_imports_nothing_large():
    code = "import sys\nfrom jsnnq import cli\ntry: cli.main(['--help'])\n"
    code += "except SystemExit: print({'jax', 'numpy', 'rich'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=PIPE)
    assert found.stdout.endswith(b"set()\n")


def test_names_that_are_offered_are_those_that_exist():
    offered = {what: set(names) for what, names in options.ACCEPTED.items()}
    assert offered["network"] == {*sew.SIZES, *bnn.SIZES}
    assert offered["connect"] == {*sew.CONNECTS}
    assert offered["dtype"] == {*build.DTYPES}
    assert offered["precision"] == {*PRECISIONS}
    assert offered["keep"] == {*runner.KEEP}
    assert offered["policy"] == {*cost.POLICIES}
    assert offered["unit"] == {*firing.UNITS}
    assert offered["set"] == {*prepare.PUBLISHED}
    assert {*options.METHODS} == {*METHODS}
    for name, make in (
        ("neuron", lambda x: Neuron(kind=x)),
        ("stem", lambda x: sew.sew_resnet("sew_resnet8", classes=2, stem=x)),
        ("optimizer", lambda x: optimizer(TrainingConfig(optimizer=x), 1)),
    ):
        with pytest.raises(InputError, match=f"unknown {name}") as refusal:
            make("none")
        assert offered[name] == {*re.findall("'(\\w+)'", str(refusal.value))[1:]}
        assert all(map(make, offered[name]))


def test_what_help_calls_usual_is_trained():
    made = options.parser(cli.COMMANDS).parse_args(["train"])
    found = recipe.config(made.usual, None, {})
    for path, value in made.usual.items():
        assert functools.reduce(getattr, path.split("."), found) == value
    made = options.parser(cli.COMMANDS).parse_args("quantize NET --out Q".split())
    assert TrainingConfig(**made.usual) == TrainingConfig(epochs=3, batch=64, rate=0.03)


def completed(*words):
    """What bash offers for the last of these words."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    typed = " ".join(f"'{word}'" for word in words)
    script = done("--print-completion", "bash")
    script += f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}\n"
    script += "_shtab_jsnnq; echo ${COMPREPLY[@]}"
    told = subprocess.run(["bash"], input=script, check=True, stdout=PIPE, text=True)
    return told.stdout.split()


def test_a_shell_completes_what_may_be_typed(here):
    assert completed("jsnnq", "qu") == ["quantize"]
    assert "--post-training" in completed("jsnnq", "quantize", "NET", "--p")
    assert completed("jsnnq", "train", "--connect", "") == ["add", "and", "iand"]
    assert completed("jsnnq", "train", "--network", "sew_resnet3") == ["sew_resnet34"]
    (here / "NET").mkdir()
    assert completed("jsnnq", "quantize", "N") == ["NET"]
    assert completed("jsnnq", "--print-completion", "z") == ["zsh"]
    for shell in ("zsh", "tcsh"):
        assert "quantize" in done("--print-completion", shell)
    assert "unknown shell 'elvish'" in refused("--print-completion", "elvish")


def test_version_names_what_decides_a_result():
    try:
        importlib.metadata.version("jsnnq")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("jsnnq is imported from a checkout and not installed")
    found = done("--version")
    assert f"jax {jax.__version__}\n" in found
    names = [line.split()[0] for line in found.splitlines()]
    assert names == ["jsnnq", "jax", "flax", "optax", "ott-jax", "orbax-checkpoint"]


# Train, evaluate, compare.


def test_train_leaves_a_network_of_the_config_that_was_typed(networks):
    row = json.loads((networks / "1" / "row.json").read_text())
    assert row["config"] == json.loads(json.dumps(to_dict(SMALL)))
    assert row["seed"] == 1
    assert (row["kind"], row["start"]) == ("float", "scratch")
    assert list((networks / "1").glob("events.out.tfevents.*"))
    assert not list(networks.rglob("*partial*"))


def test_a_folder_of_another_network_is_refused(networks):
    before = tree(networks)
    sentence = refused("train", *SMALL_NETWORK, "--seed", 7, "--out", networks / "0")
    assert "seed was 0, is 7" in sentence
    assert tree(networks) == before


def test_evaluate_prints_what_training_measured(networks):
    row = json.loads((networks / "0" / "row.json").read_text())
    printed = json.loads(done("evaluate", networks / "0"))
    for key in ("accuracy", "mean_rate", "dead", "saturated", "cost"):
        assert printed[key] == row[key]
    assert "digits" in printed["dataset"]
    same = done("evaluate", networks / "0" / "checkpoint", "--quiet")
    assert json.loads(same) == printed


def test_evaluate_on_another_data_set_and_policy(networks):
    typed = ("--data", "synthetic", "--policy", "events")
    printed = json.loads(done("evaluate", networks / "0", *typed))
    assert "synthetic" in printed["dataset"]
    assert printed["cost"]["policy"] == "events"


def test_evaluate_takes_fewer_images_than_a_training_batch(networks, here):
    save_arrays(here / "few", **few_digits(50))
    (here / "few" / "classes.txt").write_text("\n".join("0123456789"))
    printed = json.loads(done("evaluate", networks / "0", "--data", "few"))
    assert 0 <= printed["accuracy"] <= 1


def test_compare_prints_the_distance_of_every_layer(networks, here):
    found = done("compare", networks / "0", networks / "1", "--out", "plots")
    a, b = (rates_of(networks / seed) for seed in "01")
    for name in a:
        layer = name.removeprefix("counts/")
        (line,) = [x for x in found.splitlines() if x.split()[:1] == [layer]]
        emd, apart = map(float, line.split()[-2:])
        witness = stats.wasserstein_distance(a[name], b[name])
        assert emd == pytest.approx(witness, abs=6e-5)
        assert apart == pytest.approx(np.abs(a[name] - b[name]).mean(), abs=6e-5)
    written = [here / line for line in found.splitlines() if "plots" in line]
    assert written
    assert all(path.stat().st_size > 100 for path in written)


def test_a_network_compared_with_itself_has_not_moved(networks):
    found = done("compare", networks / "0", networks / "0", "--unit", "channel")
    (line,) = [x for x in found.splitlines() if x.split()[:1] == ["sn1"]]
    assert list(map(float, line.split()[-2:])) == [0, 0]


def test_networks_of_other_images_are_not_compared(networks, here):
    """Another number of colours and of classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (130, 8, 8, 3), np.uint8)
    part = (images, np.arange(130) % 10)
    save_arrays(here / "colours", train=part, test=part)
    config = dataclasses.replace(SMALL, data=str(here / "colours"))
    dataset = sets.load(config.data)
    program = build.program(config, dataset)
    variables = run.start(program, config, dataset, seed=0).variables
    other = here / "other"
    save_network(other / "checkpoint", program.network, variables, config, dataset)
    for pair in ((networks / "0", other), (other, networks / "0")):
        sentence = refused("compare", *pair)
        assert "one architecture" in sentence
        assert "conv1" in sentence
    sentence = refused("evaluate", networks / "0", "--data", here / "colours")
    assert re.search(r"trained on images of \(8, 8, 1\) .* has \(8, 8, 3\)", sentence)
    typed = ("--data", here / "colours", "--weights", "ste", "--out", here / "new")
    assert sentence == refused("quantize", networks / "0", *typed)
    assert not (here / "new").exists()


# Quantize.


def lines_of(printed):
    """The cells behind the first of each line of tables, by that cell."""
    return {x.split()[0]: x.split()[1:] for x in printed.splitlines() if x.split()}


def test_a_network_is_exported_evaluated_and_compared_as_a_file(quantized, here):
    net, _ = quantized
    said = done("export", net, "--out", "net.jsnnq")
    size = (here / "net.jsnnq").stat().st_size
    assert said == f"{size:,} bytes: net.jsnnq\n"
    told, packed = (json.loads(done("evaluate", one)) for one in (net, "net.jsnnq"))
    assert packed["accuracy"] == told["accuracy"]
    assert packed["mean_rate"] == told["mean_rate"]
    rows = lines_of(done("compare", net, "net.jsnnq"))
    assert rows["largest"] == ["0.0000", "0.0000"]
    assert "packed already" in refused("export", "net.jsnnq", "--out", "again.jsnnq")
    (here / "cut.jsnnq").write_bytes((here / "net.jsnnq").read_bytes()[:-7])
    for command in ("evaluate", "export"):
        more = ("--out", "again.jsnnq") if command == "export" else ()
        assert "damaged" in refused(command, "cut.jsnnq", *more)
    assert not (here / "again.jsnnq").exists()


def test_quantize_prints_what_evaluate_and_compare_find(networks, quantized):
    out, printed = quantized
    result = json.loads((out / "result.json").read_text())
    found = lines_of(printed)
    places = {"float": networks / "0", "control": out / "control", "quantized": out}
    for kind, place in places.items():
        told = json.loads(done("evaluate", place))
        assert result[kind]["accuracy"] == told["accuracy"]
        assert result[kind]["cost"] == told["cost"]
        accuracy, weights, membranes, *_ = map(float, found[kind])
        assert accuracy == pytest.approx(100 * told["accuracy"], abs=0.051)
        assert weights == pytest.approx(told["cost"]["weight_bits"] / 8192, abs=0.051)
        assert membranes == pytest.approx(told["cost"]["state_bits"] / 8192, abs=0.051)
    moved = lines_of(done("compare", networks / "0", out))
    drift = lines_of(done("compare", networks / "0", out / "control"))
    for layer in ("sn1", "layer1_0/sn2", "layer2_0/downsample_sn"):
        *rates, emd, beside, times = found[layer]
        assert [*rates, emd] == moved[layer][:3]
        assert beside == drift[layer][2]
        assert float(times[:-1]) == pytest.approx(float(emd) / float(beside), rel=0.06)


def test_quantize_again_prints_the_same_at_once(networks, quantized, monkeypatch):
    out, printed = quantized
    typed = ("quantize", networks / "0", *BOTH, *TUNED)
    before = tree(out)
    monkeypatch.setattr(quantization, "fit", None)
    assert done(*typed, "--out", out) == printed
    sentence = refused(*typed, "--out", out, "--weights", "lqnet:3")
    assert "another configuration (quantizers.weights was" in sentence
    assert "seed was 0, is 1" in refused(*typed, "--out", out, "--seed", 1)
    assert tree(out) == before
    assert not list(out.rglob("partial"))


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("name", ["control", "quantized"])
def test_quantize_goes_on_after_ctrl_c(networks, quantized, here, monkeypatch, name):
    typed = ("quantize", networks / "0", *BOTH, *TUNED, "--out", "net")
    step = Monitor.step

    def stop(monitor, number, loss, accuracy):
        step(monitor, number, loss, accuracy)
        if monitor._label == name and number == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as stopped:
        stopped.setattr(Monitor, "step", stop)
        assert "type the same command again" in refused(*typed, status=130)
    assert not (here / "net" / "checkpoint").exists()
    out, printed = quantized
    assert done(*typed) == printed.replace(str(out), "net")
    assert read_json(here / "net/result.json") == read_json(out / "result.json")


RULES = """
[[rule]]
layer = "layer1_0/.*"
weights = "float"

[[rule]]
layer = ".*"
weights = "lqnet:2"
membranes = "uniform:4:grid=unsigned"
"""


def test_rules_and_no_training(networks, here):
    Path("rules.toml").write_text(RULES)
    typed = ("quantize", networks / "0", "--rules", "rules.toml", "--post-training")
    printed = done(*typed, "--out", "net")
    assert "Drift" not in printed
    assert "control" not in printed
    net, _ = jsnnq.load("net")
    assert net.weights("layer1_0/conv1") == jsnnq.quantizers.identity
    assert net.weights("fc").bits == net.weights("conv1").bits == 2
    assert str(net.membranes("sn1")) == "Uniform(bits=4, grid='unsigned')"
    result = read_json(here / "net/result.json")
    assert result["training"] is result["control"] is result["drift"] is None
    assert sorted(x.name for x in (here / "net").iterdir()) == [
        *("checkpoint", "quantize.json", "result.json")
    ]


@pytest.fixture
def binary(here):
    """A folder with a network that does not spike, as it starts."""
    net, data = jsnnq.binary_resnet("resnet_tiny", classes=10), digits()
    variables = initial_variables(net, jax.random.key(0), data.image_shape)
    about = {"data": "digits"}
    jsnnq.save("net", net, untrained(net, variables, data), about=about)
    return here


def check_binary(*typed):
    printed = done("quantize", "net", *typed, "--out", "q")
    told = json.loads(done("evaluate", "q"))
    found = lines_of(printed)
    assert float(found["quantized"][0]) == pytest.approx(
        100 * told["accuracy"], abs=0.051
    )
    assert float(found["quantized"][1]) < float(found["float"][1])
    assert "EMD" not in printed
    assert "control" not in found


def test_a_network_without_spikes_has_no_firing_to_compare(binary):
    check_binary("--weights", "ste", "--activations", "ste", "--post-training")
    again = ("quantize", "q", "--weights", "ste", "--out", "new")
    assert "is quantized already" in refused(*again)
    spiking = ("quantize", "net", "--membranes", "uniform:4", "--out", "new")
    assert "the membranes rule '.*' matches no layer" in refused(*spiking)
    assert not (binary / "new").exists()


SIGNS = ("--weights", "stompp:tail=1", "--activations", "stompp:tail=1")


def test_stompp_needs_epochs_to_freeze_in(binary):
    late = ("quantize", "net", *SIGNS, "--epochs", 1, "--out", "new")
    assert "train for more epochs" in refused(*late)
    assert not (binary / "new").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("binary")
def test_stompp_freezes_within_the_fine_tuning():
    check_binary(*SIGNS, "--epochs", 2, "--batch", 128, "--no-control", "--quiet")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "give --weights, --membranes, --activations or --rules"),
        ("--weights lint:2", "unknown quantizer 'lint'.*'lqnet'"),
        ("--weights lqnet", "does not say its bits"),
        ("--weights lqnet:9", "bits=9"),
        ("--membranes ste", "cannot be used on membranes"),
        ("--activations ste", "activations rule '.*' matches no layer"),
        ("--weights stompp:order=sideways", "unknown order 'sideways'"),
        ("--weights stompp --post-training", "has no window"),
        ("--weights ste --post-training --rate 0.1", "--rate is of a training"),
        ("--weights ste --epochs 0", "epochs is 0"),
        ("--weights ste --rate 0", "rate is 0"),
        ("--weights ste --batch 1438", "1438.*1,?437"),
        ("--weights ste --seed -1", "seed is -1"),
        ("--weights ste --data cifar10", "cifar10.*prepare"),
        ("--weights ste --data mnist", "unknown data set 'mnist'"),
        ("--weights ste --rules rules.toml", "--weights is typed and 'rules.toml'"),
        ("--rules nowhere", "cannot read 'nowhere'"),
        ("--rules text.toml", "'text.toml' is no TOML"),
        ("--rules none.toml", "matches no layer: there are conv1, layer1_0/conv1"),
        ("--rules regex.toml", "is no regular expression"),
        ("--weights ste --out file", "is a file"),
        ("--weights ste --out full", "is not empty"),
    ],
)
def test_what_cannot_be_quantized_is_refused_before_a_folder_is_made(
    networks, here, typed, says
):
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("mine")
    (here / "rules.toml").write_text(RULES)
    (here / "text.toml").write_text("mine")
    rule = "[[rule]]\nlayer = '{}'\nweights = 'ste'"
    (here / "none.toml").write_text(rule.format("layer9.*"))
    (here / "regex.toml").write_text(rule.format("("))
    before = tree(here)
    sentence = refused("quantize", networks / "0", "--out", "new", *typed.split())
    assert re.search(says, sentence), sentence
    assert tree(here) == before


def test_quantize_needs_a_network_and_a_folder(networks, here):
    assert "no complete checkpoint" in refused(
        "quantize", "nowhere", "--weights", "ste", "--out", "new"
    )
    assert "--out" in refused("quantize", networks / "0", "--weights", "ste")
    assert not list(here.iterdir())


# Checkpoints that are none.


def stored_files(network):
    """The files of a checkpoint by size; the largest holds the arrays."""
    files = [path for path in (network / "checkpoint").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_is_refused(damaged, networks, command, number, damage):
    file = stored_files(damaged)[number]
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
    file.write_bytes(content[: {"flip": None, "truncate": -7, "empty": 0}[damage]])
    before = tree(damaged)
    others = [networks / "0"] if command == "compare" else []
    sentence = refused(command, *others, damaged)
    assert re.search("damaged|complete", sentence)
    assert tree(damaged) == before


def test_what_is_no_checkpoint_is_refused(here):
    (here / "file").write_text("mine")
    for given in ("nowhere", "file", "."):
        assert "checkpoint" in refused("evaluate", given)
        assert "checkpoint" in refused("compare", given, given)
    assert [path.name for path in here.iterdir()] == ["file"]


# What cannot be used.


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "COMMAND"),
        ("dance", "dance"),
        ("train --data mnist", "unknown data set 'mnist'.*digits"),
        ("train --data cifar10", "cifar10.*prepare"),
        ("train --data cifar10 --data-dir nowhere", "cifar10.*prepare"),
        ("train --network vgg", "unknown network 'vgg'.*'resnet18'.*'sew_resnet18'"),
        ("train --network", "expected one argument"),
        ("train --depth 3", "--depth"),
        ("train --stem wide", "unknown stem 'wide'.*cifar"),
        ("train --connect or", "unknown connect 'or'.*iand"),
        ("train --neuron hodgkin", "'hodgkin'.*plif"),
        ("train --dtype float16", "unknown dtype 'float16'.*bfloat16"),
        ("train --optimizer lion", "unknown optimizer 'lion'.*adamw"),
        ("train --timesteps 0", "timesteps is 0"),
        ("train --timesteps two", "invalid int value: 'two'"),
        ("train --width 0", "width is 0.0"),
        ("train --rate 0", "rate is 0.0"),
        ("train --epochs 0", "epochs is 0"),
        ("train --batch 0", "batch is 0"),
        ("train --batch 1438", "1438.*1,?437"),
        ("train --seed -1", "seed is -1"),
        ("train --seed 4294967296", "seed is 4294967296"),
        ("train --seed 99999999999999999999", "seed is 9{20}"),
        ("train --out file", "is a file.*--out"),
        ("train --out file/below", "cannot write into.*--out"),
        ("train --out full", "is not empty.*--out"),
        ("study nowhere.py", "no experiment file 'nowhere.py'"),
        ("study full", "no experiment file 'full'"),
        ("study clip.py", "clip is nan"),
        ("study rule.py", "'nowhere' matches no layer.*layer1_0/conv1"),
        ("study --seeds 1 --row-seeds 2", "row seeds 2, seeds 1"),
        ("study --seeds many", "invalid int value: 'many'"),
        ("study --out file", "is a file.*--out"),
        ("study --out full", "is not empty.*--out"),
        ("study --out file/below", "cannot write into .*folder you may write.*--out"),
        ("report nowhere", "no results.json"),
        ("report file", "no results.json"),
        ("report full", "no results.json"),
        ("prepare mnist --data-dir new", "mnist"),
        ("prepare imagenet2012 --data-dir new", "imagenet2012"),
        ("prepare cifar10", "--data-dir"),
        ("prepare cifar10 --data-dir new --archive nowhere", "nowhere"),
        ("prepare cifar10 --data-dir new --archive file", "file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(here, typed, says):
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("mine")
    row = "from jsnnq.config import *\nROWS = {{'a': Config(weights=(({}),))}}"
    (here / "clip.py").write_text(row.format("'.*', Uniform(2, clip=float('nan'))"))
    (here / "rule.py").write_text(row.format("'nowhere', Uniform(2)"))
    before = tree(here)
    sentence = refused(*typed.split())
    assert re.search(says, sentence), sentence
    assert tree(here) == before


@pytest.mark.parametrize("kind", ["empty", "labels", "shape", "missing"])
def test_arrays_that_cannot_be_images_are_refused(here, kind):
    images, labels = np.zeros((200, 8, 8, 1), np.uint8), np.arange(200) % 10
    if kind == "empty":
        images, labels = images[:0], labels[:0]
    if kind == "shape":
        images = images[..., 0]
    if kind == "labels":
        labels = labels - 1
    save_arrays(here / "arrays", train=(images, labels), test=(images, labels))
    if kind == "missing":
        for path in here.glob("arrays/*_labels.npy"):
            path.unlink()
    before = tree(here)
    assert "arrays" in refused("train", "--data", "arrays", *SMALL_NETWORK)
    assert tree(here) == before


def test_options_of_a_network_that_is_read_are_refused(networks, here):
    sentence = refused("evaluate", networks / "0", "--policy", "free")
    assert re.search("unknown policy 'free'.*neurobench", sentence)
    sentence = refused("compare", *[networks / "0"] * 2, "--unit", "brain")
    assert re.search("unknown unit 'brain'.*channel", sentence)
    assert "mnist" in refused("evaluate", networks / "0", "--data", "mnist")
    (here / "file").write_text("mine")
    refused("compare", networks / "0", networks / "1", "--out", "file")
    assert (here / "file").read_text() == "mine"


def started(*arguments, cwd):
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_a_shell(*arguments, cwd):
    process = started("-m", "jsnnq.cli", *arguments, cwd=cwd)
    out, err = process.communicate()
    return Finished(process.returncode, out, err)


def test_a_command_nobody_reads_ends_quietly(networks, tmp_path):
    """As in `jsnnq compare A B | head -1`; what it prints here is one line."""
    typed = ("train", *SMALL_NETWORK, "--seed", 0, "--out", networks / "0")
    with started("-m", "jsnnq.cli", *typed, cwd=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_rule_that_is_no_pair_is_refused_in_a_shell(tmp_path):
    """Forgetting the outer brackets of a rule is easily done."""
    (tmp_path / "rules.py").write_text(
        "from jsnnq.config import Config, Uniform, HIDDEN_KERNELS\n"
        "ROWS = {'a': Config(weights=(HIDDEN_KERNELS, Uniform(2)))}"
    )
    found = in_a_shell("study", "rules.py", cwd=tmp_path)
    assert found.status == 2
    assert found.err.count("\n") == 1
    assert "a tuple of pairs (pattern, quantizer) is needed" in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["rules.py"]


def test_an_unknown_network_is_refused_in_a_shell(tmp_path):
    found = in_a_shell("train", "--network", "vgg", cwd=tmp_path)
    assert found.status == 2
    assert re.fullmatch("jsnnq: unknown network 'vgg': .*\n", found.err)
    assert found.out == ""
    assert not list(tmp_path.iterdir())


# Studies.


@pytest.fixture
def experiment(here, uncompiled):
    (here / "small.py").write_text(EXPERIMENT)
    return here


@pytest.mark.usefixtures("faked")
def test_study_runs_reports_and_is_finished(experiment, monkeypatch):
    command, out = ("study", "small.py", "--quiet"), experiment / "jsnnq-study"
    found = done(*command)
    assert "weights-uniform-2bit" in found
    assert "report: jsnnq-study/report.html" in found
    results = read(out)
    assert results["provenance"]["command"] == "jsnnq study small.py --quiet"
    assert runs_of(results) == ORDER
    report = (out / "report.md").read_bytes()

    monkeypatch.setattr(runner, "execute", None)
    said = "jsnnq-study is finished; nothing was computed again"
    assert said in done(*command)

    (out / "report.md").unlink()
    assert "weights-uniform-2bit" in done("report", "jsnnq-study")
    assert (out / "report.md").read_bytes() == report

    before = tree(experiment)
    assert "hold_out is new" in refused(*command, "--hold-out", 100)
    assert tree(experiment) == before


@pytest.mark.usefixtures("faked")
def test_a_study_whose_time_is_spent_says_what_is_left_with_status_75(
    experiment, monkeypatch
):
    def execute(*arguments, label, **options):
        if label == "float-finetuned/seed0":
            raise OutOfTime("out of time after 3 of 9 steps")
        return fake_execute(*arguments, label=label, **options)

    monkeypatch.setattr(runner, "execute", execute)
    typed = ("study", "small.py", "--quiet", "--budget", "9m")
    found = enter(*typed)
    assert found.status == 75
    assert "5 of 6 rows are left, next float-finetuned/seed0" in found.out
    assert "same command again" in found.out
    assert (experiment / "jsnnq-study" / "report.html").exists()
    monkeypatch.setattr(runner, "execute", fake_execute)
    done(*typed)
    assert "'9x' is no duration" in refused("study", "small.py", "--budget", "9x")


@pytest.mark.usefixtures("faked")
def test_parts_of_a_study_are_merged(experiment):
    parts = {"a": "float.*", "b": "weights-.*"}
    for out, rows in parts.items():
        done("study", "small.py", "--quiet", "--out", out, "--rows", rows)
    assert "name it with --out" in refused("report", *parts)
    quiet = enter("report", *parts, "--out", "quiet", "--quiet").out
    assert "report: quiet/report.html" in quiet
    assert quiet.lstrip().startswith("Quantization study")
    assert "report: both/report.html" in done("report", *parts, "--out", "both")
    assert runs_of(read(experiment / "both")) == ORDER
    assert "matches no row" in refused("study", "small.py", "--rows", "nothing")


@pytest.mark.usefixtures("faked")
def test_study_says_each_row_as_it_is_done(experiment):
    printed = enter("study", "small.py", "--seeds", 1, "--out", "out").out
    said = re.findall(r"^(\S+): accuracy [\d.]+ %", printed, re.MULTILINE)
    assert said == [f"{name}/seed0" for name, seed in ORDER if seed == 0]


def test_a_diverged_study_is_reported_with_status_1(experiment, monkeypatch):
    execute, _ = diverging("float-finetuned/seed1")
    monkeypatch.setattr(runner, "execute", execute)
    assert "step 3" in refused("study", "small.py", status=1)
    assert len(read(experiment / "jsnnq-study")["rows"]) == len(ORDER) - 1


@pytest.mark.usefixtures("unreported", "experiment")
def test_what_waits_for_a_network_that_diverged_is_not_left(monkeypatch):
    """No time would help, so that a loop that goes on at status 75 has to end."""
    monkeypatch.setattr(runner, "execute", diverging("float/seed0")[0])
    typed = ("study", "small.py", "--quiet", "--budget", "9h", "--seeds", 1)
    for _ in range(2):
        found = enter(*typed)
        assert found.status == 1
        assert "diverged: float/seed0; without --budget" in found.out
        assert "and 3 rows that start from them" in found.out
        assert "rows are left" not in found.out


@pytest.mark.parametrize("command", ["study", "train"])
def test_ctrl_c_is_a_sentence_and_130(experiment, monkeypatch, command):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", stop)
    monkeypatch.setattr(run, "execute", stop)
    typed = {"study": ["small.py"], "train": SMALL_NETWORK}[command]
    assert "type the same command again" in refused(command, *typed, status=130)


_ENDLESS = """
import signal, sys, time
from jsnnq import cli
from jsnnq.study import runner

def compile_ahead(*_):
    print("compiling", flush=True)
    time.sleep(3600)

# In the background a shell may have made it deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
runner.compile_ahead = compile_ahead
sys.argv = ["jsnnq", "study", "small.py", "--quiet"]
sys.exit(cli.main())
"""


def test_ctrl_c_ends_a_command_that_compiles(experiment):
    with started("-c", _ENDLESS, cwd=experiment) as process:
        try:
            assert process.stdout.readline() == "compiling\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "jsnnq: stopped; type the same command again to go on\n"


@pytest.mark.usefixtures("uncompiled")
def test_the_default_study_needs_no_arguments(here, monkeypatch):
    """Its rows are built and the first one begun, in ./jsnnq-study."""
    begun = []

    def stop(program, config, *_, label, **__):
        begun.append((label, config))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", stop)
    assert enter("study").status == 130
    ((label, config),) = begun
    assert label == "float/seed0"
    assert config.data == "digits"
    kept = json.loads((here / "jsnnq-study" / "study.json").read_text())
    assert len(kept["rows"]) == 16


def test_what_is_no_fault_of_the_user_keeps_its_traceback(here, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a defect")

    monkeypatch.setattr(run, "train_one", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["train"])
    assert not list(here.iterdir())


def test_a_full_disk_is_a_sentence(here, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "some/file")

    monkeypatch.setattr(run, "train_one", full)
    assert "some/file: No space left on device" in refused("train")


def test_more_devices_than_there_are_is_refused(tmp_path):
    """In a test JAX is in use already, so a CPU has as many devices as it had."""
    for devices in (0, 99):
        sentence = refused("train", "--devices", devices, "--out", tmp_path / "net")
        assert f"devices is {devices}: there are " in sentence
    assert not (tmp_path / "net").exists()


@pytest.mark.usefixtures("experiment")
def test_settings_may_be_typed():
    small = [*SMALL_NETWORK, "--set", "training.epochs=1", "--set"]
    done("train", *small, "network.neuron.tau=1.5", "--out", "net")
    kept = json.loads(Path("net/run.json").read_text())["config"]
    assert kept["network"]["neuron"]["tau"] == 1.5
    assert kept["training"]["epochs"] == 1
    typed = ("study", "small.py", "--set", "training.epoch=1")
    assert "no setting 'training.epoch'" in refused(*typed)


def test_a_recipe_comes_before_what_is_typed(here, monkeypatch):
    (here / "recipe.toml").write_text(
        """
data = "synthetic"
[network]
name = "sew_resnet_tiny"
timesteps = 2
[network.neuron]
tau = 1.5
[training]
epochs = 7
rate = 1
schedule = "constant"
"""
    )
    rows = []

    def train_one(config, *_, **__):
        rows.append(config)
        return {"accuracy": 0.5}

    monkeypatch.setattr(run, "train_one", train_one)
    written = ("train", "--recipe", "recipe.toml")
    done(*written)
    done(*written, "--epochs", 3, "--set", "network.neuron.tau=3.5", *BOTH)
    plain, typed = rows
    network = NetworkConfig(
        "sew_resnet_tiny", timesteps=2, neuron=NeuronConfig(tau=1.5)
    )
    training = TrainingConfig(7, 64, "adam", 1, schedule="constant")
    assert plain == Config("synthetic", network, training)
    assert typed.training == dataclasses.replace(training, epochs=3)
    assert typed.network.neuron.tau == 3.5
    assert dict(typed.weights) == {HIDDEN_KERNELS: LQNet(2, codes="signed")}
    assert dict(typed.membranes) == {ALL_NEURONS: Uniform(4, grid="unsigned")}
    assert "no setting 'network.timesteps'" in refused(
        *written, "--network", "resnet18"
    )
    for text, says in (
        ("rate = 3", "no setting 'rate'.*known here are data, network, training"),
        ("[training]\nrate = 'fast'", "training.rate is 'fast': float is needed"),
        ("[training.rate]\nx = 1", "'training.rate.x' is no single setting"),
        ("network = 3", "'network' is no single setting"),
        ("[network]\nname = ['x']", "network.name is \\['x'\\]: str is needed"),
        ("rate", "is no TOML"),
    ):
        (here / "recipe.toml").write_text(text)
        sentence = refused(*written)
        assert re.search(f"recipe.toml.*{says}", sentence), sentence
    assert "cannot read 'nowhere'" in refused("train", "--recipe", "nowhere")


def test_train_refuses_quantizers_as_quantize_does(here):
    (here / "rules.toml").write_text(RULES)
    for typed, says in (
        ("--activations ste", "the activations rule '.*' matches no layer"),
        ("--weights ste --rules rules.toml", "--weights is typed and 'rules.toml' has"),
        ("--membranes lint:2", "unknown quantizer 'lint'"),
        ("--weights stompp", "train for more epochs"),
    ):
        sentence = refused("train", "--epochs", 1, *typed.split(), "--out", "new")
        assert re.search(says, sentence), sentence
    assert not (here / "new").exists()


@pytest.mark.slow
def test_train_quantizes_from_the_start(here):
    (here / "rules.toml").write_text(RULES)
    typed = ("--epochs", 1, "--rules", "rules.toml", "--out", "net")
    done("train", *SMALL_NETWORK, *typed)
    net, _ = jsnnq.load("net")
    assert net.weights("layer1_0/conv1") == jsnnq.quantizers.identity
    assert net.weights("layer2_0/conv1").bits == 2
    assert net.membranes("sn1").bits == 4


@pytest.mark.usefixtures("experiment", "faked")
def test_claims_of_an_experiment_are_held_against_a_study():
    """When it is run, and again where a report is written with its file."""
    claims = """
from jsnnq.report.comparisons import Answer
def many(rows):
    yield Answer("there are rows", "shows", [], f"{len(rows)} of them")
CLAIMS = [many]
"""
    Path("claiming.py").write_text(Path("small.py").read_text() + claims)
    answers = lambda: read(Path("out"))["claims"]
    held = lambda: [(one["words"], one["reading"]) for one in answers()]
    told = [("there are rows", "shows")]
    enter("study", "small.py", "--out", "out", "--quiet")
    assert held() == []
    enter("report", "out", "--experiment", "claiming.py")
    assert held() == told
    assert "there are rows: SHOWS" in Path("out/report.md").read_text()
    enter("report", "out")  # Without it what is known stays.
    assert held() == told
    enter("study", "small.py", "--out", "out", "--quiet")
    assert held() == []
    enter("study", "claiming.py", "--out", "out", "--quiet")
    assert held() == told
