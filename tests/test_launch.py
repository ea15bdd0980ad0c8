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

from jsnnq import checkpoint, footprint
from jsnnq.prepare import prepare

from . import test_prepare

ROOT = Path(__file__).parents[1]
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
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": bin_folder + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    # Flags of a GPU's compiler are unknown to one that was built without it.
    environment["XLA_FLAGS"] = ""
    subprocess.run(
        [
            *("bash", str(ROOT / "experiments" / "launch" / f"{script}.sh")),
            *("experiment.py", "--data-dir", str(data_dir), "--out", str(out)),
            *("--seeds", "1", "--devices", str(devices), "--quiet"),
        ],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    folder = out / "runs" / "weights-stompp-1bit-seed0"
    lines = (folder / "log.jsonl").read_text().splitlines()
    return folder, [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("script", ["gpu", pytest.param("tpu", marks=pytest.mark.slow)])
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
    counts, same = (footprint.load(f / "firing.npz")["counts"] for f in (one, eight))
    total = 2 * 64
    for name, value in counts.items():
        assert value.max() <= total
        assert np.abs(same[name] - value).sum() <= 1e-3 * total * value.size, name
    assert sum(value.sum() for value in counts.values()) > 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator is here")
@pytest.mark.parametrize("script", ["gpu", "tpu"])
def test_without_an_accelerator_nothing_is_started(script, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["PATH"] = (
        str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    )
    found = subprocess.run(
        ["bash", str(ROOT / "experiments" / "launch" / f"{script}.sh"), "x.py"],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path), "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"{script}.sh: JAX finds no")
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.glob("jsnnq-study"))
