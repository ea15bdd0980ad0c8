"""Experiment files, and rows that cannot be one study."""

import dataclasses
import subprocess
import sys

import pytest

from experiments.stompp.base import binary
from jsnnq.config import (
    STE,
    BinaryNetworkConfig,
    Config,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
)
from jsnnq.errors import InputError
from jsnnq.study.experiment import check_rows, load_experiment, parent

BASE = Config()
TUNED = dataclasses.replace(BASE, start="checkpoint")
BINARY = Config(network=BinaryNetworkConfig())
QUANTIZED = dataclasses.replace(TUNED, weights=kernels(Uniform(2)))


def written(folder, text):
    path = folder / "experiment.py"
    path.write_text(text)
    return path


def test_an_experiment_is_its_docstring_and_its_rows(tmp_path):
    path = written(
        tmp_path,
        '"""A title.\n\nMore."""\nfrom jsnnq.config import Config\n'
        "ROWS = {'float': Config(data='synthetic')}\n"
        "PAPER = {'float': {'accuracy': 0.9, 'grade': 'S'}}\n"
        "def claimed(rows):\n    return []\nCLAIMS = [claimed]",
    )
    title, rows, paper, claims = load_experiment(path)
    assert title == "A title."
    assert rows == {"float": Config(data="synthetic")}
    assert paper == {"float": {"accuracy": 0.9, "grade": "S"}}
    assert [claim([]) for claim in claims] == [[]]


def test_an_experiment_without_docstring_is_called_by_its_file(tmp_path):
    text = "from jsnnq.config import Config\nROWS = {'a': Config()}"
    found = load_experiment(str(written(tmp_path, text)))
    assert found.title == "experiment"
    assert found.paper == {}
    assert found.claims == ()


def test_experiments_of_a_package_share_code_wherever_they_are_run(tmp_path):
    """As tests do under pytest: what holds the outermost package is on the path."""
    folder = tmp_path / "papers_of_mine" / "first"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        (place / "__init__.py").touch()
    (folder / "base.py").write_text("DATA = 'synthetic'")
    path = folder / "table.py"
    path.write_text(
        "from jsnnq.config import Config\nfrom papers_of_mine.first.base import DATA\n"
        "ROWS = {'float': Config(data=DATA)}"
    )
    code = "import sys; from jsnnq.study.experiment import load_experiment; "
    code += "print(load_experiment(sys.argv[1]).rows['float'].data)"
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True
    )
    assert found.stdout == "synthetic\n", found.stderr


_ONE = "from jsnnq.config import Config\nROWS = {'a': Config()}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no ROWS"),
        ("ROWS = {}", "has no ROWS"),
        ("ROWS = [1]", "has no ROWS"),
        ("ROWS = {'a': 3}", "row 'a' is a int, not a Config"),
        ("ROWS = {", "fails with SyntaxError"),
        ("import no_such_module", "fails with ModuleNotFoundError: No module named"),
        ("raise ValueError('two\\nlines')", "fails with ValueError: two$"),
        ("assert False", "fails with AssertionError: no message"),
        ("raise SystemExit(3)", "fails with SystemExit: 3"),
        ("from jsnnq.config import Uniform\nUniform()", "fails with TypeError"),
        (_ONE + "PAPER = {'b': {'grade': 'S'}}", "values for 'b', which is no row"),
        (_ONE + "PAPER = {'a': 0.5}", "must map names of rows to dictionaries"),
        (_ONE + "PAPER = {'a': {'accuracy': 0.5}}", "'grade': 'S'"),
        (_ONE + "CLAIMS = {'more bits are better'}", "must be functions from rows"),
        (_ONE + "CLAIMS = ['more bits are better']", "must be functions from rows"),
    ],
)
def test_an_experiment_that_cannot_be_used_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says) as caught:
        load_experiment(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.py", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path, path):
    with pytest.raises(InputError, match="no experiment file"):
        load_experiment(tmp_path / path)


# Rows of one study.


def changed(row, **fields):
    return dataclasses.replace(row, network=dataclasses.replace(row.network, **fields))


def test_rows_of_one_study_are_accepted():
    check_rows({"float": BASE, "tuned": TUNED, "w-2bit": QUANTIZED})
    check_rows({"quantized": dataclasses.replace(QUANTIZED, start="scratch")})


def test_a_study_of_binary_networks_may_have_several_backbones_and_recipes():
    deeper = changed(BINARY, name="resnet50")
    longer = dataclasses.replace(
        binary(BINARY, StoMPP(), StoMPP()), training=TrainingConfig(9)
    )
    check_rows({"float-r18": BINARY, "float-r50": deeper, "bnn-stompp-r18": longer})


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a\n", 3, None])
def test_names_that_cannot_be_folders_are_refused(name):
    with pytest.raises(InputError, match="cannot name a folder"):
        check_rows({name: BASE})


def test_a_row_that_is_no_config_is_refused_before_its_neighbours_ask_it():
    with pytest.raises(InputError, match="row 'b' is a dict, not a Config"):
        check_rows({"a": TUNED, "b": {"bits": 2}, "float": BASE})


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"a": dataclasses.replace(BASE, start="zero")}, "'zero'.*post-training"),
        ({"tuned": TUNED}, "'tuned' starts from a checkpoint, but no row trains"),
        (
            {"float": BASE, "other": changed(QUANTIZED, timesteps=8)},
            "'other' starts from a checkpoint, but no row trains",
        ),
        (
            {"float": BASE, "other": dataclasses.replace(QUANTIZED, data="cifar10")},
            "'other' starts from a checkpoint, but no row trains",
        ),
        (
            {"float": BASE, "wide": changed(BASE, width=2.0)},
            "'float' and 'wide' are both float.*one floor",
        ),
        (
            {"float": BASE, "one": TUNED, "two": TUNED},
            "'one' and 'two' are both control.*one drift",
        ),
        (
            {
                "float": BASE,
                "tuned": TUNED,
                "longer": dataclasses.replace(
                    QUANTIZED, training=TrainingConfig(epochs=99)
                ),
            },
            "'longer' is trained otherwise than its control 'tuned'",
        ),
        (
            {"float": BASE, "bnn": binary(BINARY, STE())},
            "'float' is a spiking network and row 'bnn' is none",
        ),
    ],
)
def test_rows_that_cannot_be_one_study_are_refused(rows, says):
    with pytest.raises(InputError, match=says):
        check_rows(rows)


def test_the_parent_has_the_same_data_and_network():
    elsewhere = dataclasses.replace(BASE.network.neuron, placement="before_fire")
    rows = {
        "float": BASE,
        "quantized": QUANTIZED,
        "elsewhere": changed(QUANTIZED, neuron=elsewhere),
        "deeper": changed(QUANTIZED, name="sew_resnet18"),
    }
    assert parent(rows, rows["quantized"]) == "float"
    # Where a membrane quantizer acts makes no difference to the float network.
    assert parent(rows, rows["elsewhere"]) == "float"
    assert parent(rows, rows["deeper"]) is None
