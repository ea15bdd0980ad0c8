"""Experiment files, and rows that cannot be one study."""

import subprocess
import sys

import pytest

from experiments.stompp.base import binary
from jsnnq.config import STE, BinaryNetworkConfig, Config, StoMPP, Uniform, kernels
from jsnnq.errors import InputError
from jsnnq.study.experiment import check_rows, load_experiment, parent
from tests.tiny import changed

BASE, BINARY = Config(), Config(network=BinaryNetworkConfig())
TUNED = changed(BASE, "start", "checkpoint")
QUANTIZED = changed(TUNED, "weights", kernels(Uniform(2)))
FLOAT = {"float": BASE}


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
    found = load_experiment(str(written(tmp_path, _ONE)))
    assert (found.title, found.paper, found.claims) == ("experiment", {}, ())


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
    command = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
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


# Rows of one study.


def test_rows_of_one_study_are_accepted():
    check_rows({"float": BASE, "tuned": TUNED, "w-2bit": QUANTIZED})
    check_rows({"quantized": changed(QUANTIZED, "start", "scratch")})


ORPHAN = "'other' starts from a checkpoint, but no row trains"


def test_a_study_of_binary_networks_may_have_several_backbones_and_recipes():
    deeper = changed(BINARY, "network.name", "resnet50")
    longer = changed(binary(BINARY, StoMPP(), StoMPP()), "training.epochs", 9)
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
        ({"a": changed(BASE, "start", "zero")}, "'zero'.*post-training"),
        ({"other": TUNED}, ORPHAN),
        (FLOAT | {"other": changed(QUANTIZED, "network.timesteps", 8)}, ORPHAN),
        (FLOAT | {"other": changed(QUANTIZED, "data", "cifar10")}, ORPHAN),
        (
            FLOAT | {"wide": changed(BASE, "network.width", 2.0)},
            "'float' and 'wide' are both float.*one floor",
        ),
        (
            FLOAT | {"one": TUNED, "two": TUNED},
            "'one' and 'two' are both control.*one drift",
        ),
        (
            FLOAT | {"tuned": TUNED, "more": changed(QUANTIZED, "training.epochs", 99)},
            "'more' is trained otherwise than its control 'tuned'",
        ),
        (
            FLOAT | {"bnn": binary(BINARY, STE())},
            "'float' is a spiking network and row 'bnn' is none",
        ),
    ],
)
def test_rows_that_cannot_be_one_study_are_refused(rows, says):
    with pytest.raises(InputError, match=says):
        check_rows(rows)


def test_the_parent_has_the_same_data_and_network():
    assert parent(FLOAT, QUANTIZED) == "float"
    # Where a membrane quantizer acts makes no difference to the float network.
    elsewhere = changed(QUANTIZED, "network.neuron.placement", "before_fire")
    assert parent(FLOAT, elsewhere) == "float"
    assert parent(FLOAT, changed(QUANTIZED, "network.name", "sew_resnet18")) is None
