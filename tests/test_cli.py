"""The command line: what it prints, what it refuses, and that it refuses cleanly."""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

import jsnnq
from jsnnq import cli
from jsnnq.config import to_dict
from jsnnq.data import sets
from jsnnq.study import build, run, runner
from jsnnq.study.budget import OutOfTime
from jsnnq.study.saved import save_network
from jsnnq.training import divergence, step
from tests.study.test_runner import EXPERIMENT, ORDER, fake_execute, rates_of, tree
from tests.training.test_loop import SMALL

COMMANDS = ("study", "train", "evaluate", "compare", "report", "prepare")
SMALL_NETWORK = (  # as typed, the network of test_train
    "--network sew_resnet_tiny --timesteps 2 --epochs 2 --batch 128 --optimizer adam "
    "--rate 0.01 --quiet"
).split()


class Finished(tuple):
    """Status, standard output and standard error of a command."""

    status, out, err = (property(lambda self, i=i: self[i]) for i in range(3))


def enter(*arguments):
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
    return Finished((status, out.getvalue(), err.getvalue()))


def refused(*arguments, status=2):
    """The one sentence with which a command is refused."""
    found = enter(*arguments)
    assert found.status == status, found
    assert found.err.startswith("jsnnq: ")
    assert found.err.count("\n") == 1
    assert found.err.endswith("\n")
    return found.err


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
        found = enter("train", *SMALL_NETWORK, "--seed", seed, "--out", out)
        assert found.status == 0, found
        assert str(out) in found.out
    return folder


@pytest.fixture
def damaged(networks, tmp_path):
    """A copy of a trained network that a test may destroy."""
    return shutil.copytree(networks / "0", tmp_path / "damaged")


# Help.


def test_help_names_every_command_and_an_example_of_each():
    found = enter("--help")
    assert found.status == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", found.out, re.MULTILINE)
        assert f"  jsnnq {command}" in found.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(command):
    found = enter(command, "--help")
    assert found.status == 0
    assert f"jsnnq {command}" in found.out
    options = re.findall(r"^  (--?[a-z][\w-]*.*)$", found.out, re.MULTILINE)
    assert len(options) >= 1
    parser = cli._parser()
    (choices,) = (a.choices for a in parser._actions if a.choices)
    assert all(action.help for action in choices[command]._actions)


def test_version_names_what_decides_a_result():
    try:
        importlib.metadata.version("jsnnq")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("jsnnq is imported from a checkout and not installed")
    found = enter("--version")
    assert found.status == 0
    assert f"jax {jax.__version__}\n" in found.out
    names = [line.split()[0] for line in found.out.splitlines()]
    assert names == ["jsnnq", "jax", "flax", "optax", "ott-jax", "orbax-checkpoint"]


# Train, evaluate, compare.


def test_train_leaves_a_network_of_the_config_that_was_typed(networks):
    row = json.loads((networks / "1" / "row.json").read_text())
    assert row["config"] == json.loads(json.dumps(to_dict(SMALL)))
    assert row["seed"] == 1
    assert (row["kind"], row["start"]) == ("float", "scratch")
    assert list((networks / "1").glob("events.out.tfevents.*"))
    assert not list(networks.rglob("*partial*"))


def test_a_trained_network_is_not_trained_again(networks, monkeypatch):
    before = tree(networks)
    monkeypatch.setattr(run, "execute", None)
    found = enter("train", *SMALL_NETWORK, "--seed", 0, "--out", networks / "0")
    assert found.status == 0
    assert "accuracy" in found.out
    assert tree(networks) == before


def test_a_folder_of_another_network_is_refused(networks):
    before = tree(networks)
    sentence = refused("train", *SMALL_NETWORK, "--seed", 7, "--out", networks / "0")
    assert "seed was 0, is 7" in sentence
    assert tree(networks) == before


def test_evaluate_prints_what_training_measured(networks):
    row = json.loads((networks / "0" / "row.json").read_text())
    found = enter("evaluate", networks / "0")
    assert found.status == 0
    printed = json.loads(found.out)
    for key in ("accuracy", "mean_rate", "dead", "saturated", "cost"):
        assert printed[key] == row[key]
    assert "digits" in printed["dataset"]
    assert found.err == ""
    same = enter("evaluate", networks / "0" / "checkpoint", "--quiet")
    assert json.loads(same.out) == printed


def test_evaluate_on_another_data_set_and_policy(networks):
    found = enter(
        "evaluate", networks / "0", "--data", "synthetic", "--policy", "events"
    )
    printed = json.loads(found.out)
    assert "synthetic" in printed["dataset"]
    assert printed["cost"]["policy"] == "events"


def test_evaluate_takes_fewer_images_than_a_training_batch(networks, here):
    digits = sets.load("digits")
    (here / "few").mkdir()
    for split, part in (("train", digits.train), ("test", digits.test)):
        np.save(here / "few" / f"{split}_images.npy", part.images[:50])
        np.save(here / "few" / f"{split}_labels.npy", part.labels[:50])
    (here / "few" / "classes.txt").write_text("\n".join("0123456789"))
    found = enter("evaluate", networks / "0", "--data", "few")
    assert found.status == 0, found
    assert 0 <= json.loads(found.out)["accuracy"] <= 1


def test_compare_prints_the_distance_of_every_layer(networks, here):
    found = enter("compare", networks / "0", networks / "1", "--out", "plots")
    assert found.status == 0
    a, b = (rates_of(networks / seed) for seed in "01")
    for name in a:
        layer = name.removeprefix("counts/")
        (line,) = [x for x in found.out.splitlines() if x.split()[:1] == [layer]]
        emd, apart = map(float, line.split()[-2:])
        witness = stats.wasserstein_distance(a[name], b[name])
        assert emd == pytest.approx(witness, abs=6e-5)
        assert apart == pytest.approx(np.abs(a[name] - b[name]).mean(), abs=6e-5)
    written = [here / line for line in found.out.splitlines() if "plots" in line]
    assert written
    assert all(path.stat().st_size > 100 for path in written)


def test_a_network_compared_with_itself_has_not_moved(networks):
    found = enter("compare", networks / "0", networks / "0", "--unit", "channel")
    assert found.status == 0
    (line,) = [x for x in found.out.splitlines() if x.split()[:1] == ["sn1"]]
    assert list(map(float, line.split()[-2:])) == [0, 0]


def untrained(folder, config=SMALL, dataset=None):
    """A network as it starts, stored as training would."""
    dataset = dataset or sets.load("digits")
    program = build.program(config, dataset)
    state = run.start(program, config, dataset, seed=0)
    save_network(folder / "checkpoint", state.variables(), config, dataset)
    return folder


def test_networks_of_other_architectures_are_not_compared(networks, here):
    wide = dataclasses.replace(
        SMALL, network=dataclasses.replace(SMALL.network, width=0.5)
    )
    sentence = refused("compare", networks / "0", untrained(here / "wide", wide))
    assert "one architecture" in sentence
    assert "conv1" in sentence


def test_networks_of_other_images_are_not_compared(networks, here):
    """Another number of colours and of classes."""
    rng = np.random.default_rng(0)
    (here / "colours").mkdir()
    for split in ("train", "test"):
        images = rng.integers(0, 256, (130, 8, 8, 3), np.uint8)
        np.save(here / "colours" / f"{split}_images.npy", images)
        np.save(here / "colours" / f"{split}_labels.npy", np.arange(130) % 10)
    config = dataclasses.replace(SMALL, data=str(here / "colours"))
    other = untrained(here / "other", config, sets.load(config.data))
    for pair in ((networks / "0", other), (other, networks / "0")):
        assert "one architecture" in refused("compare", *pair)
    sentence = refused("evaluate", networks / "0", "--data", here / "colours")
    assert "conv1/kernel" in sentence


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
        ("train --timesteps -1", "timesteps is -1"),
        ("train --timesteps two", "invalid int value: 'two'"),
        ("train --width 0", "width is 0.0"),
        ("train --width nan", "width is nan"),
        ("train --width inf", "width is inf"),
        ("train --width 0.001", "width 0.001 leaves no channel"),
        ("train --rate 0", "rate is 0.0"),
        ("train --rate nan", "rate is nan"),
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
        ("study broken.py", "broken.py.*SyntaxError"),
        ("study empty.py", "has no ROWS"),
        ("study clip.py", "clip is nan"),
        ("study clip0.py", "clip is 0"),
        ("study clip-1.py", "clip is -1"),
        ("study bits0.py", "bits=0"),
        ("study bits9.py", "bits=9"),
        ("study rule.py", "'nowhere' matches no layer.*layer1_0/conv1"),
        ("study --seeds 0", "row seeds 1, seeds 0"),
        ("study --seeds 1 --row-seeds 2", "row seeds 2, seeds 1"),
        ("study --seeds many", "invalid int value: 'many'"),
        ("study --out file", "is a file.*--out"),
        ("study --out full", "is not empty.*--out"),
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
    (here / "broken.py").write_text("ROWS = {")
    (here / "empty.py").write_text("ROWS = {}")
    experiment = "from jsnnq.config import Config, Uniform\nROWS = {{'a': Config({})}}"
    for name, row in (
        ("clip", "weights=(('.*', Uniform(2, clip=float('nan'))),)"),
        ("clip0", "weights=(('.*', Uniform(2, clip=0.0)),)"),
        ("clip-1", "weights=(('.*', Uniform(2, clip=-1.0)),)"),
        ("bits0", "weights=(('.*', Uniform(0)),)"),
        ("bits9", "membranes=(('.*', Uniform(9)),)"),
        ("rule", "weights=(('nowhere', Uniform(2)),)"),
    ):
        (here / f"{name}.py").write_text(experiment.format(row))
    before = tree(here)
    sentence = refused(*typed.split())
    assert re.search(says, sentence), sentence
    assert tree(here) == before


@pytest.mark.parametrize("kind", ["empty", "labels", "shape", "missing"])
def test_arrays_that_cannot_be_images_are_refused(here, kind):
    folder = here / "arrays"
    folder.mkdir()
    for split in ("train", "test"):
        images, labels = np.zeros((200, 8, 8, 1), np.uint8), np.arange(200) % 10
        if kind == "empty":
            images, labels = images[:0], labels[:0]
        if kind == "shape":
            images = images[..., 0]
        if kind == "labels":
            labels = labels - 1
        np.save(folder / f"{split}_images.npy", images)
        if kind != "missing":
            np.save(folder / f"{split}_labels.npy", labels)
    before = tree(here)
    assert "arrays" in refused("train", "--data", "arrays", *SMALL_NETWORK)
    assert tree(here) == before


def test_options_of_a_network_that_is_read_are_refused(networks):
    sentence = refused("evaluate", networks / "0", "--policy", "free")
    assert re.search("unknown policy 'free'.*neurobench", sentence)
    sentence = refused("compare", *[networks / "0"] * 2, "--unit", "brain")
    assert re.search("unknown unit 'brain'.*channel", sentence)
    assert "mnist" in refused("evaluate", networks / "0", "--data", "mnist")


def test_a_comparison_is_not_written_into_a_file(networks, here):
    (here / "file").write_text("mine")
    refused("compare", networks / "0", networks / "1", "--out", "file")
    assert (here / "file").read_text() == "mine"


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(jsnnq.__file__).parents[1])}


def started(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "jsnnq.cli", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_a_shell(*arguments, cwd):
    process = started(*arguments, cwd=cwd)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_a_command_nobody_reads_ends_quietly(networks, tmp_path):
    """As in `jsnnq compare A B | head -1`; what it prints here is one line."""
    typed = ("train", *SMALL_NETWORK, "--seed", 0, "--out", networks / "0")
    with started(*typed, cwd=tmp_path) as process:
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
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "a tuple of pairs (pattern, quantizer) is needed" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rules.py"]


def test_an_unknown_network_is_refused_in_a_shell(tmp_path):
    found = in_a_shell("train", "--network", "vgg", cwd=tmp_path)
    assert found.returncode == 2
    assert re.fullmatch("jsnnq: unknown network 'vgg': .*\n", found.stderr)
    assert found.stdout == ""
    assert not list(tmp_path.iterdir())


# Studies.


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr(runner, "execute", fake_execute)


@pytest.fixture
def experiment(here, uncompiled):
    (here / "small.py").write_text(EXPERIMENT)
    return here


@pytest.mark.usefixtures("faked")
def test_study_runs_reports_and_is_finished(experiment, monkeypatch):
    command = ("study", "small.py", "--quiet")
    found = enter(*command)
    assert found.status == 0
    assert found.err == ""
    assert "weights-uniform-2bit" in found.out
    assert "report: jsnnq-study/report.html" in found.out
    results = json.loads((experiment / "jsnnq-study" / "results.json").read_text())
    assert results["provenance"]["command"] == "jsnnq study small.py --quiet"
    assert [(row["name"], row["seed"]) for row in results["rows"]] == ORDER
    report = (experiment / "jsnnq-study" / "report.md").read_bytes()

    monkeypatch.setattr(runner, "execute", None)
    again = enter(*command)
    assert again.status == 0
    assert "jsnnq-study is finished; nothing was computed again" in again.out

    (experiment / "jsnnq-study" / "report.md").unlink()
    written = enter("report", "jsnnq-study")
    assert written.status == 0
    assert "weights-uniform-2bit" in written.out
    assert (experiment / "jsnnq-study" / "report.md").read_bytes() == report

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
    assert enter(*typed).status == 0
    assert "'9x' is no duration" in refused("study", "small.py", "--budget", "9x")


@pytest.mark.usefixtures("faked")
def test_parts_of_a_study_are_merged(experiment):
    parts = {"a": "float.*", "b": "weights-.*"}
    for out, rows in parts.items():
        typed = ("study", "small.py", "--quiet", "--out", out, "--rows", rows)
        assert enter(*typed).status == 0
    assert "name it with --out" in refused("report", *parts)
    merged = enter("report", *parts, "--out", "both")
    assert merged.status == 0
    assert "report: both/report.html" in merged.out
    results = json.loads((experiment / "both" / "results.json").read_text())
    assert [(row["name"], row["seed"]) for row in results["rows"]] == ORDER
    assert "matches no row" in refused("study", "small.py", "--rows", "nothing")


@pytest.mark.usefixtures("faked")
def test_study_says_each_row_as_it_is_done(experiment):
    printed = enter("study", "small.py", "--seeds", 1, "--out", "out").out
    said = re.findall(r"^(\S+): accuracy [\d.]+ %", printed, re.MULTILINE)
    assert said == [f"{name}/seed0" for name, seed in ORDER if seed == 0]


def test_a_diverged_study_is_reported_with_status_1(experiment, monkeypatch):
    def execute(*arguments, label, **options):
        if label == "float-finetuned/seed1":
            nothing = step.TrainState(jax.numpy.int32(3), {}, {}, {}, ())
            raise divergence.Diverged("training stopped at step 3", 3, nothing)
        return fake_execute(*arguments, label=label, **options)

    monkeypatch.setattr(runner, "execute", execute)
    sentence = refused("study", "small.py", status=1)
    assert "step 3" in sentence
    results = json.loads((experiment / "jsnnq-study" / "results.json").read_text())
    assert len(results["rows"]) == len(ORDER) - 1


@pytest.mark.usefixtures("unreported")
def test_what_waits_for_a_network_that_diverged_is_not_left(experiment, monkeypatch):
    """No time would help, so that a loop that goes on at status 75 has to end."""

    def execute(*arguments, label, **options):
        if label == "float/seed0":
            (arguments[3] / "last_good").mkdir(parents=True, exist_ok=True)
            nothing = step.TrainState(jax.numpy.int32(3), {}, {}, {}, ())
            raise divergence.Diverged("training stopped at step 3", 3, nothing)
        return fake_execute(*arguments, label=label, **options)

    monkeypatch.setattr(runner, "execute", execute)
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
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS],
        cwd=experiment,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
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


def test_more_devices_than_there_are_is_refused(capsys, tmp_path):
    """In a test JAX is in use already, so a CPU has as many devices as it had."""
    for devices in (0, 99):
        given = ["train", "--devices", str(devices), "--out", str(tmp_path / "net")]
        assert cli.main(given) == 2
        assert f"devices is {devices}: there are " in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


@pytest.mark.usefixtures("experiment")
def test_settings_may_be_typed(capsys):
    small = [*SMALL_NETWORK, "--set", "training.epochs=1", "--set"]
    assert cli.main(["train", *small, "network.neuron.tau=1.5", "--out", "net"]) == 0
    kept = json.loads(Path("net/run.json").read_text())["config"]
    assert kept["network"]["neuron"]["tau"] == 1.5
    assert kept["training"]["epochs"] == 1
    assert "no setting 'training.epoch'" in refused(
        "study", "small.py", "--set", "training.epoch=1"
    )


@pytest.mark.usefixtures("experiment", "uncompiled")
def test_claims_of_an_experiment_are_held_against_a_study(monkeypatch):
    """When it is run, and again where a report is written with its file."""
    monkeypatch.setattr(runner, "execute", fake_execute)
    claims = """
from jsnnq.report.comparisons import Answer
def many(rows):
    yield Answer("there are rows", "shows", [], f"{len(rows)} of them")
CLAIMS = [many]
"""
    claiming = Path("claiming.py")
    claiming.write_text(Path("small.py").read_text() + claims)
    answers = lambda: json.loads(Path("out/results.json").read_text())["claims"]
    enter("study", "small.py", "--out", "out", "--quiet")
    assert answers() == []
    enter("report", "out", "--experiment", "claiming.py")
    told = [(one["words"], one["reading"]) for one in answers()]
    assert told == [("there are rows", "shows")]
    assert "there are rows: SHOWS" in Path("out/report.md").read_text()
    enter("report", "out")  # Without it what is known stays.
    assert [(one["words"], one["reading"]) for one in answers()] == told
    enter("study", "small.py", "--out", "out", "--quiet")
    assert answers() == []
    enter("study", "claiming.py", "--out", "out", "--quiet")
    assert [(one["words"], one["reading"]) for one in answers()] == told
