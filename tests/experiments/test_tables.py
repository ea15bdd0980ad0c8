"""Every experiment file can be read, built, and run in small."""

import json
import re
from pathlib import Path

import pytest

from experiments import publish, tables
from experiments.benchmarks import stompp_step
from jsnnq.errors import InputError
from jsnnq.report.results import read
from jsnnq.study import build, smoke
from jsnnq.study.experiment import Experiment, load_experiment
from tests.commands import done
from tests.studies import DEEP, KNOWN_BINARY, binary, small
from tests.tiny import tree

_FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(
    path
    for path in _FOLDER.glob("*/*.py")
    if path.parent.name not in ("benchmarks", "examples")
    and path.stem not in tables.SHARED
)
IDS = [str(path.relative_to(_FOLDER)) for path in FILES]
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "imagenet2012": 1_281_167}

each_file = pytest.mark.parametrize("path", FILES, ids=IDS)


@each_file
def test_its_page_says_what_and_how(path):
    text = path.read_text(encoding="utf-8")
    docstring = text.split('"""')[1]
    assert "\nPAPER = {" in text  # what was published, if nothing
    command = f"jsnnq study experiments/{path.relative_to(_FOLDER).as_posix()} "
    assert command in docstring
    prose = " ".join(docstring.split())
    for word in ("Claim", "Hardware: ", "Cost: ", "--seeds ", "--row-seeds "):
        assert word in prose, word
    assert ("Reduced: " in prose) == tables.is_small(path)
    found = load_experiment(path)
    assert found.title == docstring.splitlines()[0]
    for name, values in found.paper.items():
        assert values["grade"] in ("P", "S"), name
        assert values.keys() & {"accuracy", "gain"}, name
        for part in values.keys() & {"accuracy", "gain", "emd", "dead"}:
            assert 0 <= values[part] < 1


@each_file
def test_its_rows_can_be_built(path):
    for row in load_experiment(path).rows.values():
        steps = IMAGES.get(row.data, 1437) // row.training.batch
        net = build.network(row, classes=10, steps_per_epoch=steps)
        if row.kind == "quantized":
            windows = build.freezing(row, net, steps)
            assert all(length >= 8 for _, length in windows.values())


@pytest.mark.parametrize("name", ["reduced_r18", "reduced_r50"])
def test_reduced_studies_give_every_layer_a_hundred_steps(name):
    found = load_experiment(_FOLDER / "stompp" / f"{name}.py").rows
    steps = set()
    for row in found.values():
        per_epoch = 50_000 // row.training.batch
        steps.add(row.training.epochs * per_epoch)
        net = build.network(row, classes=10, steps_per_epoch=per_epoch)
        windows = build.freezing(row, net, per_epoch)
        assert all(length >= 100 for _, length in windows.values())
    assert len(steps) == 1  # the same for every method


@pytest.mark.filterwarnings("ignore:bernoulli masks lag")
@each_file
def test_in_small_its_rows_can_be_built(path):
    found = smoke.shrink(load_experiment(path).rows)
    for row in found.values():
        assert row.data == "digits"
        build.network(row, classes=10, steps_per_epoch=1437 // 64)


def test_the_pages_are_those_of_the_results():
    """Written by `python -m experiments.tables`."""
    for path, text in tables.pages().items():
        assert path.read_text(encoding="utf-8") == text, path


def test_every_experiment_has_a_line():
    page = tables.overview()
    for path in FILES:
        assert f"| [{path.stem}]({path.parent.name}/{path.name}): " in page


@pytest.mark.parametrize(
    ("name", "paper", "expected"),
    [
        ("full", {"bnn-ste-r18": 0.615, "bnn-stompp-r18": 0.665}, "reproduced"),
        ("full", {"bnn-ste-r18": 0.615, "bnn-stompp-r18": 0.8}, "partly"),
        ("full", {"bnn-ste-r18": 0.7, "bnn-stompp-r18": 0.8}, "not reproduced"),
        # Within the range of the seeds, though a point and more from their mean.
        ("full", {"bnn-reverse-r18": 0.21}, "reproduced"),
        ("full", {"bnn-ste-r18": 0.615, "bnn-ste-r50": 0.5}, "partly"),
        ("full", {"bnn-ste-r50": 0.5}, "not run"),
        ("full", {}, "run"),
        ("reduced_full", {"bnn-ste-r18": 0.615}, "reduced"),
    ],
)
def test_how_a_table_stands_to_the_papers(name, paper, expected):
    known = {row: {"accuracy": value, "grade": "S"} for row, value in paper.items()}
    experiment = Experiment("title", {}, known)
    study = read(binary(KNOWN_BINARY))
    assert tables.status(Path(f"{name}.py"), experiment, study) == expected
    assert tables.status(Path(f"{name}.py"), experiment, None) == "not run"


def test_each_row_has_a_line_and_a_status_of_its_own():
    known = {
        "bnn-ste-r18": {"accuracy": 0.615, "grade": "S"},
        "bnn-stompp-r18": {"accuracy": 0.8, "grade": "S"},
        "bnn-ste-r50": {"accuracy": 0.5, "grade": "S"},
        "bnn-global-r18": {"accuracy": 0.6, "grade": "S", "of": "another network"},
    }
    study = read(binary(KNOWN_BINARY))
    experiment = Experiment("title", {}, known)
    found = [tables.row_status(Path("x.py"), experiment, study, name) for name in known]
    assert found == ["reproduced", "not reproduced", "not run", "run"]
    lost = binary(KNOWN_BINARY)
    lost["diverged"] = ["bnn-ste-r50/seed0"]
    study = read(lost)
    assert tables.row_status(Path("x.py"), experiment, study, "bnn-ste-r50") == (
        "diverged"
    )


def test_no_cell_of_the_page_holds_several_rows():
    page = tables.overview()
    assert "<br>" not in page
    lines = [
        line for line in page.splitlines() if line.startswith("| reduced_cifar10 ")
    ]
    known = load_experiment(_FOLDER / "beyond_accuracy" / "reduced_cifar10.py")
    shown = [re.findall("`([^`]+)`", line) for line in lines]
    assert {name for name, _ in shown} >= known.paper.keys()
    statuses = {status for _, status in shown}
    assert statuses == {"reduced", "not run"}
    assert all(line.count(" | ") == 5 for line in lines)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        # StoMPP's 66.5 % lie 5 points above STE's 61.5 %.
        ("bnn-stompp-r18", {"accuracy": 0.665, "gain": 0.05}, "reproduced"),
        ("bnn-stompp-r18", {"accuracy": 0.665, "gain": 0.9}, "not reproduced"),
        ("bnn-stompp-r18", {"gain": 0.05}, "reproduced"),
        ("bnn-stompp-r18", {"gain": 0.9}, "not reproduced"),
        # What is known of something else is no target.
        ("bnn-ste-r18", {"accuracy": 0.615, "of": "another network"}, "run"),
    ],
)
def test_a_gain_that_is_known_has_to_be_met_too(name, known, expected):
    experiment = Experiment("title", {}, {name: {**known, "grade": "P"}})
    study = read(binary(KNOWN_BINARY))
    assert tables.status(Path("x.py"), experiment, study) == expected


@pytest.mark.parametrize(("emd", "expected"), [(1.0, "reproduced"), (9.0, "partly")])
def test_an_emd_that_is_known_has_to_be_met_too(emd, expected):
    results, _, _ = small(seeds=2)
    name = "weights-uniform-clip10-2bit"
    measured = [row["emd"]["mean"] for row in results["rows"] if row["name"] == name]
    rows = {
        "float": {"accuracy": 0.99, "emd": 0.0, "grade": "S"},
        name: {"accuracy": 0.988, "emd": emd * measured[0], "grade": "S"},
    }
    experiment = Experiment("title", {}, rows)
    assert tables.status(Path("x.py"), experiment, read(results)) == expected


def test_a_claim_that_needs_two_experiments_is_held_against_both(tmp_path):
    paths = []
    for name, depth in (("shallow", "r18"), ("deep", "r50")):
        accuracies = {row: seeds for row, seeds in DEEP.items() if depth in row}
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        results = json.dumps(binary(accuracies), default=float)
        (folder / "results.json").write_text(results)
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(
            "from experiments.stompp.claims import CLAIMS\n"
            "from jsnnq.config import Config\nROWS = {'float': Config()}\n"
        )
    alone = [line for path in paths for line in tables.claims_on([path])]
    assert not any("depth" in line for line in alone)
    known = [claim for path in paths for claim in tables.held([path])]
    together = tables.claims_on(paths, known=known)
    assert "[shallow]" in together[0]
    assert "[deep]" in together[0]
    *_, claim, _ = together
    assert len(together) == 5  # a head of three lines, the claim, an empty line
    assert "grows with depth | shows | ResNet-50 +15.5 points" in claim
    # One of them without results decides nothing.
    assert tables.claims_on([*paths, tmp_path / "missing.py"]) == []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            "jsnnq study /home/me/experiments/stompp/a.py --data-dir /home/me/d "
            "--out /home/me/out --seeds 3",
            "jsnnq study experiments/stompp/a.py --data-dir DATA --out OUT --seeds 3",
        ),
        (
            "jsnnq study /home/me/x.py --data=/home/me --ou '/a b'",
            "jsnnq study x.py --data=DATA --ou OUT",
        ),
        (
            "/usr/bin/jsnnq study /a/experiments/x.py --rows '.*/seed0' --out /b/c",
            "jsnnq study experiments/x.py --rows '.*/seed0' --out OUT",
        ),
        (
            "jsnnq study a/experiments/x.py '--rows=weights-.*/seed1'",
            "jsnnq study experiments/x.py '--rows=weights-.*/seed1'",
        ),
        (
            "jsnnq study --out out; jsnnq study --out .",
            "jsnnq study --out OUT; jsnnq study --out OUT",
        ),
        ("", ""),
    ],
)
def test_commands_are_published_without_paths(typed, expected):
    assert publish._anonymous(typed) == expected


@pytest.fixture
def published(tmp_path):
    """A finished study of one row in small, the experiment it is of, what is kept."""
    experiment = tmp_path / "stompp" / "some.py"
    experiment.parent.mkdir()
    experiment.write_text(_SMALL)
    out = tmp_path / "out"
    done("study", experiment, "--out", out, "--seeds", 1, "--quiet")
    return out, experiment, experiment.parent / "results" / "some"


def test_what_is_taken_is_the_study_without_paths(published, tmp_path):
    out, experiment, kept = published
    kept.mkdir(parents=True)
    (kept / "old.txt").write_text("of an earlier study")
    publish.take(out, experiment)
    assert {path.name for path in kept.iterdir()} == {"results.json", "plots"}
    assert {p.name for p in (kept / "plots").iterdir()} == {
        p.name for p in (out / "plots").iterdir()
    }
    assert str(tmp_path) not in (kept / "results.json").read_text()
    taken, known = (
        json.loads((folder / "results.json").read_text()) for folder in (kept, out)
    )
    for row, other in zip(taken["rows"], known["rows"], strict=True):
        assert row["made"].pop("command").endswith("--out OUT --seeds 1 --quiet")
        other["made"].pop("command")
        assert row == other


def test_another_study_is_not_taken_and_nothing_is_lost(published, tmp_path):
    out, experiment, kept = published
    publish.take(out, experiment)
    before = tree(kept)
    with pytest.raises(InputError, match="no results.json"):
        publish.take(tmp_path / "nowhere", experiment)
    experiment.write_text(_SMALL.replace("epochs=1", "epochs=2"))
    with pytest.raises(InputError, match="'float' of .* is not that of the experiment"):
        publish.take(out, experiment)
    experiment.write_text(_SMALL)
    results = json.loads((out / "results.json").read_text())
    results["provenance"]["dataset"] += "; 100 training images, held out"
    (out / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="held-out training images"):
        publish.take(out, experiment)
    assert tree(kept) == before


def test_rows_that_are_published_are_not_lost(published, monkeypatch):
    out, experiment, folder = published
    publish.take(out, experiment)
    kept = folder / "results.json"
    results = json.loads(kept.read_text())
    (row,) = results["rows"]
    monkeypatch.setattr("sys.argv", ["publish", str(out), str(experiment)])
    for rows, says in (
        ([row, {**row, "seed": 1}], "lacks rows that are published: float/seed1"),
        (
            [{**row, "accuracy": row["accuracy"] + 0.01}],
            "has other numbers for .*: float/seed0",
        ),
    ):
        kept.write_text(before := json.dumps(results | {"rows": rows}))
        with pytest.raises(SystemExit, match=says):
            publish.main()
        assert kept.read_text() == before


_SMALL = '''
"""One row."""
from jsnnq.config import Config, NetworkConfig, TrainingConfig
ROWS = {
    "float": Config(
        network=NetworkConfig(name="sew_resnet_tiny", timesteps=2),
        training=TrainingConfig(epochs=1, batch=128),
    )
}
'''
_TWO = '''
"""Two rows of a table."""
import dataclasses
from experiments.stompp.base import RECIPE, network, rows
ROWS = rows(
    network("resnet18", "cifar10", dataclasses.replace(RECIPE, epochs=99, looks=7)),
    bnn=("stompp",),
)
PAPER = {"bnn-stompp-r18": {"accuracy": 0.5, "grade": "S"}}
'''


def test_an_experiment_runs_in_small_without_its_data(tmp_path):
    experiment = tmp_path / "experiment.py"
    experiment.write_text(_TWO)
    out = tmp_path / "out"
    done("study", experiment, "--smoke", "--out", out, "--seeds", 1, "--quiet")
    results = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["float-r18", "bnn-stompp-r18"]
    assert results["paper"] == {}  # its numbers are for another network
    assert results["floor"] is results["drift"] is None
    assert all(row["emd"] is None for row in results["rows"])
    assert (out / "report.html").is_file()
    assert (out / "runs" / "bnn-stompp-r18-seed0" / "looks.jsonl").is_file()


@pytest.mark.slow
def test_the_benchmark_of_a_step_times_every_program():
    found = stompp_step.measure(width=1 / 16, batch=4, rounds=3, steps=1)
    names = {"float", "ste", "stompp-first", "stompp-middle", "stompp-last"}
    assert set(found["step_ms"]) == set(found["memory_bytes"]) == names
    assert found["over_ste"]["ste"]["median"] == 1
    assert all(ratio["median"] > 0 for ratio in found["over_ste"].values())
    # StoMPP keeps a key, a step and a window for each of 32 tensors, and no mask.
    kept = {name: one["quantizers"] for name, one in found["memory_bytes"].items()}
    assert kept["float"] == kept["ste"] == 0
    assert kept["stompp-first"] == 32 * (2 + 4) * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:bernoulli masks lag")
@each_file
def test_it_runs_in_small(path, tmp_path):
    done("study", path, "--smoke", "--out", tmp_path, "--seeds", 1, "--quiet")
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["name"] for row in rows} == set(load_experiment(path).rows)
