"""Names of version 0.1 answer with a warning, or say what they are called now."""

import importlib
import re
import subprocess
import sys

import numpy as np
import pytest

import jsnnq
from jsnnq import renamed
from tests.programs import python

OLD = """
batching bnn budget build charts checkpoint claims compiling convolve cost default
descent divergence drawing emd encode evaluate evidence files firing footprint
groups histograms hugepages inside interrupt layers ledger losses measure monitor
names neurons optimizer parallel pictures plan prepare probe provenance records
resnet results run scatter sew smoke standings states stored surrogate tables train
verdict
""".split()
"""The rooms of the flat package, but for those that are packages today, and papers'."""


@pytest.fixture(autouse=True)
def forgotten():
    """Old rooms are gone from the package again: `evaluate` is a function too."""
    yield
    for name in {*renamed.ROOMS, *renamed.ELSEWHERE}:
        sys.modules.pop(f"jsnnq.{name}", None)
        vars(jsnnq).pop(name, None)


def test_every_room_of_the_flat_package_is_known():
    assert sorted(renamed.ROOMS) == OLD


def imported(name, says):
    """A module, whose import warns."""
    sys.modules.pop(f"jsnnq.{name}", None)
    with pytest.warns(DeprecationWarning, match=says):
        return importlib.import_module(f"jsnnq.{name}")


@pytest.mark.parametrize("name", OLD)
def test_an_old_room_is_found_where_it_stands_now(name):
    assert imported(name, f"jsnnq.{name} is called jsnnq[.]").__doc__


@pytest.mark.parametrize(
    ("old", "attribute", "new"),
    [
        ("emd", "wasserstein", "jsnnq.analysis.emd"),
        ("sew", "sew_resnet", "jsnnq.networks.sew"),
        ("batching", "augment", "jsnnq.data.batches"),
        ("stored", "load_network", "jsnnq.study.saved"),
        ("binary", "RECIPE", "experiments.stompp.base"),
    ],
)
def test_an_old_room_offers_what_it_did(old, attribute, new):
    room = imported(old, f"is called {new}")
    assert getattr(room, attribute) is getattr(importlib.import_module(new), attribute)


@pytest.mark.parametrize(
    ("room", "name", "new"),
    [
        ("data", "load", "jsnnq.data.sets"),
        ("report", "write", "jsnnq.report.page"),
        ("study", "Study", "jsnnq.study.runner"),
        ("config", "load_experiment", "jsnnq.study.experiment"),
        ("config", "Experiment", "jsnnq.study.experiment"),
    ],
)
def test_what_moved_out_of_a_room_is_found(room, name, new):
    with pytest.warns(DeprecationWarning, match=f"{name} is called {new}.{name}"):
        found = getattr(importlib.import_module(f"jsnnq.{room}"), name)
    assert found is getattr(importlib.import_module(new), name)
    with pytest.raises(AttributeError):
        getattr(importlib.import_module(f"jsnnq.{room}"), name + "s")


def test_the_step_of_a_network_names_its_new_name():
    with pytest.raises(AttributeError, match="jsnnq.step is called") as raised:
        jsnnq.step  # noqa: B018
    # Names of the package, not of rooms in it.
    assert re.findall(r"jsnnq\.[\w.]*\w", str(raised.value)) == [
        "jsnnq.step",
        "jsnnq.stream",
        "jsnnq.train_step",
    ]


def test_a_room_of_a_paper_is_one_sentence_where_its_experiments_are_not():
    code = "import sys; sys.modules['experiments'] = None; import jsnnq.binary"
    command = [sys.executable, "-W", "ignore", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True)
    last = found.stderr.splitlines()[-1]
    assert "jsnnq.binary is no longer part of the library" in last


def test_new_names_warn_of_nothing():
    code = "from jsnnq.report import page, summary, tables, results; "
    code += "from jsnnq.data import sets; from jsnnq.study import runner, jobs"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


_OLD_EXPERIMENT = '''"""Written for 0.1."""
import dataclasses
from jsnnq import default
from jsnnq.binary import RECIPE, network, rows
from jsnnq.config import Config, LQNet, NetworkConfig, TrainingConfig, Uniform
from jsnnq.config import STE, BinaryNetworkConfig, Mint, SnnTorch, StoMPP
from jsnnq.config import NeuronConfig, kernels, neurons, load_experiment
ROWS = default.rows(
    Config(network=NetworkConfig("sew_resnet8", width=0.25)), TrainingConfig(epochs=1)
)
ROWS |= default.learned_membranes(ROWS["float-finetuned"])
BINARY = rows(network("resnet18", "digits", RECIPE), bnn=("ste", "stompp"))
'''


@pytest.mark.filterwarnings("ignore:.* is called:DeprecationWarning")
def test_an_experiment_written_for_the_version_before_is_read(tmp_path):
    from jsnnq.study.experiment import load_experiment

    (tmp_path / "old.py").write_text(_OLD_EXPERIMENT)
    found = load_experiment(tmp_path / "old.py")
    assert "membrane-lqnet-noridge-2bit" in found.rows
    assert found.rows["float-finetuned"].kind == "control"


def test_functions_of_the_version_before_answer_with_what_does_their_work():
    from jsnnq.analysis import emd, firing

    rates = np.array([0.0, 0.04, 0.5, 1.0])
    for room, name, given, today in (
        (firing, "mean_rate", (rates,), firing.shares(rates).mean_rate),
        (firing, "dead_share", (rates,), 0.5),
        (firing, "saturated_share", (rates, 0.4), 0.5),
    ):
        with pytest.warns(DeprecationWarning, match="is called shares"):
            assert getattr(room, name)(*given) == today
    with pytest.warns(DeprecationWarning, match="wasserstein_counts is called"):
        distance = emd.wasserstein_counts
    assert float(distance(np.array([0, 2]), np.array([1, 2]), total=2)) == 0.25
    with pytest.raises(AttributeError, match="no 'wasserstein_count'"):
        emd.wasserstein_count  # noqa: B018


def test_an_old_room_whose_name_is_a_function_today_is_both():
    code = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "import jsnnq; from jsnnq.evaluate import BATCH; print(BATCH)\n"
        "try: jsnnq.evaluate(1, 2, 3)\n"
        "except jsnnq.InputError as error: print(error)"
    )
    said = python(code).stdout.splitlines()
    assert said[0] == "256"
    assert said[1].startswith("net is a int")
