"""The launch scripts start an experiment on all devices of a machine, for real.

Eight devices are simulated on the CPU; the data are a small CIFAR-10 that was prepared
as a TFDS directory.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jsnnq.analysis.firing import Counts
from jsnnq.data.prepare import prepare
from jsnnq.runtime import checkpoint
from jsnnq.study.experiment import load_experiment
from jsnnq.study.jobs import plan, select
from tests.data import test_prepare

ROOT = Path(__file__).parents[2]
# Python is the one that runs the tests.
PATH = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
ENVIRONMENT = os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT)}


def launch(script, *typed, env=ENVIRONMENT, **options):
    """A launch script, run to its end."""
    path = ROOT / "experiments" / "launch" / f"{script}.sh"
    command = ["bash", str(path), *map(str, typed)]
    return subprocess.run(command, env=env, capture_output=True, text=True, **options)


EXPERIMENT = '''\
"""One row that draws masks, learns a basis and counts spikes: two steps."""

from jsnnq.config import (
    Config, LQNet, NetworkConfig, StoMPP, TrainingConfig, kernels, neurons
)

ROWS = {
    "weights-stompp-1bit": Config(
        data="cifar10",
        network=NetworkConfig(name="sew_resnet_tiny", timesteps=2),
        training=TrainingConfig(epochs=1, batch=64, optimizer="sgd", rate=0.1),
        weights=kernels(StoMPP(order="global", tail=0)),
        membranes=neurons(LQNet(2, clip=1.0)),
        calibration=32,
    )
}
'''


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_prepare, "SIZES", {"train": 128, "test": 64})
        file, published, _ = test_prepare.small_archive("cifar10", folder)
    prepare("cifar10", folder, file, published=published)
    return folder


def launched(script, folder, data_dir, devices):
    """What a launch script leaves: its run's folder, and the losses of its steps."""
    (folder / "experiment.py").write_text(EXPERIMENT)
    out = folder / f"{script}-{devices}"
    environment = ENVIRONMENT | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        # Flags of a GPU's compiler are unknown to one that was built without it.
        "XLA_FLAGS": "",
    }
    typed = ("experiment.py", "--data-dir", data_dir, "--out", out, "--quiet")
    typed += ("--seeds", 1, "--devices", devices)
    launch(script, *typed, cwd=folder, env=environment, check=True)
    folder = out / "runs" / "weights-stompp-1bit-seed0"
    lines = (folder / "log.jsonl").read_text().splitlines()
    return folder, [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["gpu", "tpu"])
def test_eight_devices_do_what_one_does(script, tmp_path, data_dir):
    """Two steps: masks are equal, losses to 1e-4, and one count in 1000 may differ.

    Sums over a batch are taken in another order; where that moves a membrane across
    the threshold, a spike is another.
    """
    one, losses = launched(script, tmp_path, data_dir, 1)
    eight, others = launched(script, tmp_path, data_dir, 8)
    assert len(losses) == 2
    np.testing.assert_allclose(others, losses, rtol=1e-4)
    a, b = (checkpoint.restore(f / "checkpoint")[0] for f in (one, eight))
    kernel = a["quant"]["layer1_0"]["conv1"]["quantizer"]
    assert kernel.keys() >= {"key", "step"}
    for layer in ("conv1", "conv2"):
        mine, theirs = (x["quant"]["layer1_0"][layer]["quantizer"] for x in (a, b))
        for name, value in mine.items():
            np.testing.assert_array_equal(theirs[name], value, err_msg=name)
    basis, other = (x["quant"]["layer1_0"]["sn1"]["quantizer"]["basis"] for x in (a, b))
    np.testing.assert_allclose(other, basis, rtol=1e-3)
    counts, same = (Counts.load(f / "firing.npz") for f in (one, eight))
    total = 2 * 64
    for name, value in counts.items():
        assert value.max() <= total
        assert np.abs(same[name] - value).sum() <= 1e-3 * total * value.size, name
    assert sum(value.sum() for value in counts.values()) > 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator is here")
@pytest.mark.parametrize("script", ["gpu", "tpu"])
def test_without_an_accelerator_nothing_is_started(script, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"PATH": PATH, "HOME": str(tmp_path), "XLA_FLAGS": ""}
    found = launch(script, "x.py", cwd=tmp_path, env=environment)
    assert found.returncode == 2
    assert found.stderr.startswith(f"{script}.sh: JAX finds no")
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.glob("jsnnq-study"))


FAKE = """\
#!/usr/bin/env bash
echo "$@" >> "$LOG"
case "$*" in *order_cifar100*) exit "$LAST";; *membrane*) exit "$SECOND";; esac
"""


@pytest.mark.parametrize(
    ("second", "last", "status"),
    [(0, 0, 0), (75, 0, 75), (0, 75, 75), (1, 0, 1), (1, 75, 75), (2, 0, 2)],
)
def test_tables_are_done_in_the_order_of_what_they_say(tmp_path, second, last, status):
    fake, log = tmp_path / "fake.sh", tmp_path / "log"
    fake.write_text(FAKE)
    fake.chmod(0o755)

    def tables(second, last):
        said = {"LAUNCH": str(fake), "LOG": str(log)}
        said |= {"SECOND": str(second), "LAST": str(last)}
        typed = ("DATA", "out", "2h")
        return launch("tables", *typed, env=ENVIRONMENT | said, cwd=tmp_path)

    assert tables(second, last).returncode == status
    calls = [line.split() for line in log.read_text().splitlines()]
    for call in calls:
        assert Path(call[0]).is_file()
        rows = load_experiment(call[0]).rows
        assert select(plan(rows, 1, 1), call[call.index("--rows") + 1])
    left = [int(call[call.index("--budget") + 1].removesuffix("s")) for call in calls]
    assert left == sorted(left, reverse=True)  # one time for all
    assert left[0] <= 7200
    if status == 2:  # what is wrong stops it, being out of time does not
        assert len(calls) == 3
        return
    first = [f"{Path(call[0]).stem} {call[call.index('--rows') + 1]}" for call in calls]
    assert first[:5] == [
        "r18_cifar100 float(-finetuned)?",
        "r18_cifar100 weights-(uniform|lqnet)-clip(1|10)-(2|6)bit",
        "r18_cifar100 membrane-uniform-(signed|unsigned)-2bit",
        "methods_cifar10 bnn-(ste|stompp|stompp\\+ste)-r(18|50)",
        "order_cifar100 .*",
    ]
    seeds = [int(call[call.index("--seeds") + 1]) for call in calls]
    assert seeds == [1] * 5 + [2] * 5 + [3] * 14
    assert [name.split()[1] for name in first[-9:]] == [".*"] * 9
    # Every table on CIFAR that is not in small.
    folder = ROOT / "experiments"
    every = {p.stem for p in folder.glob("*/*_cifar10*.py")} - {"reduced_cifar10"}
    assert {name.split()[0] for name in first} == every
    # What is done is not begun again, what is left is.
    log.unlink()
    assert tables(0, 0).returncode == 0
    count = len(log.read_text().splitlines()) if log.exists() else 0
    assert count == 3 * bool(second) + 3 * bool(last)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([], "usage: tables.sh DATA OUT TIME"),
        (["DATA", "OUT"], "usage: tables.sh DATA OUT TIME"),
        (["DATA", "OUT", "9x"], "tables.sh: the budget '9x' is no duration"),
    ],
)
def test_what_tables_need_is_one_sentence(typed, says):
    found = launch("tables", *typed)
    assert found.returncode == 2
    assert found.stderr.startswith(says)
    assert found.stderr.count("\n") == 1
