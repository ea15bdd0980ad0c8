"""A study of real tiny networks, killed and continued; its logic without training."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jsnnq
from jsnnq.analysis.evaluate import Evaluation
from jsnnq.analysis.firing import Counts
from jsnnq.config import Config, LQNet, Uniform, kernels, to_dict
from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint, files
from jsnnq.study import folder, run, runner
from jsnnq.study.budget import Budget, OutOfTime
from jsnnq.study.runner import Study
from jsnnq.study.saved import load_network
from jsnnq.training import divergence, loop, monitor, step
from tests.training.test_loop import CLIP, SMALL

TUNED = dataclasses.replace(SMALL, start="checkpoint")
ROWS = {
    "weights-uniform-2bit": dataclasses.replace(
        TUNED, weights=kernels(Uniform(2, clip=CLIP))
    ),
    "weights-lqnet-2bit": dataclasses.replace(
        SMALL, start="post-training", weights=kernels(LQNet(2))
    ),
    "float": SMALL,
    "float-finetuned": TUNED,
}
ORDER = [  # float networks, controls, then quantized rows as they are written
    ("float", 0),
    ("float", 1),
    ("float-finetuned", 0),
    ("float-finetuned", 1),
    ("weights-uniform-2bit", 0),
    ("weights-lqnet-2bit", 0),
]
DISTANCES = {"mean", "weighted", "max", "pooled", "layers"}


def make(out, rows=ROWS, **options):
    options = {"quiet": True, "say": lambda line: None, "command": "test", **options}
    return Study(rows, out, **options)


def read(out, name="results.json"):
    return json.loads((out / name).read_text())


def without_times(results):
    rows = [{k: v for k, v in row.items() if k != "wall_s"} for row in results["rows"]]
    return {**results, "rows": rows}


def row_files(out):
    return {p: p.stat().st_mtime_ns for p in out.glob("runs/*/row.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole study of real networks, done in one go."""
    out = tmp_path_factory.mktemp("study") / "out"
    make(out).run()
    return out


# The results of real networks.


def rates_of(folder):
    """Rates by layer from the stored counts, read a second time."""
    with np.load(folder / "firing.npz") as stored:
        total = int(stored["timesteps"]) * int(stored["images"])
        return {
            name: stored[name].ravel() / total
            for name in stored.files
            if name.startswith("counts/")
        }


def expected_distances(a, b, measure):
    """The five views of a distance between two networks, typed a second time."""
    layers = {name.removeprefix("counts/"): measure(a[name], b[name]) for name in a}
    sizes = [len(values) for values in a.values()]
    values = list(layers.values())
    return {
        "mean": np.mean(values),
        "weighted": np.average(values, weights=sizes),
        "max": max(values),
        "pooled": measure(np.concatenate([*a.values()]), np.concatenate([*b.values()])),
        "layers": layers,
    }


def assert_distances(found, expected):
    assert set(found) == DISTANCES
    for key in DISTANCES - {"layers"}:
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key
    assert found["layers"] == pytest.approx(expected["layers"], abs=1e-6)


def mean_distances(found):
    """The mean of several distances, key by key."""
    keys = DISTANCES - {"layers"}
    layers = found[0]["layers"]
    return {
        **{key: np.mean([one[key] for one in found]) for key in keys},
        "layers": {n: np.mean([one["layers"][n] for one in found]) for n in layers},
    }


def assert_read_against_controls(out, results):
    """Floor, drift and every row's distances from the counts on disk and SciPy."""
    folders = {row: out / "runs" / f"{row[0]}-seed{row[1]}" for row in ORDER}
    rates = {row: rates_of(folder) for row, folder in folders.items()}
    earth = stats.wasserstein_distance
    apart = lambda x, y: np.abs(x - y).mean()
    floor = expected_distances(rates["float", 0], rates["float", 1], earth)
    assert_distances(results["floor"], floor)
    drifts = [
        expected_distances(rates["float", s], rates["float-finetuned", s], earth)
        for s in (0, 1)
    ]
    assert_distances(results["drift"], mean_distances(drifts))
    for key in DISTANCES - {"layers"}:
        values = [one[key] for one in drifts]
        expected = pytest.approx([min(values), max(values)], abs=1e-6)
        assert results["drift_range"][key] == expected
        assert results["floor_range"][key] == pytest.approx([floor[key]] * 2, abs=1e-6)
    for row in results["rows"]:
        if row["kind"] == "float":
            assert row["emd"] is None
            assert row["matched"] is None
            continue
        parent, own = rates["float", row["seed"]], rates[row["name"], row["seed"]]
        assert_distances(row["emd"], expected_distances(parent, own, earth))
        assert_distances(row["matched"], expected_distances(parent, own, apart))
        assert row["emd"]["mean"] > 0


def test_distances_come_from_the_counts_on_disk(finished):
    assert_read_against_controls(finished, read(finished))


def test_a_row_says_what_its_counts_say(finished):
    for row in read(finished)["rows"]:
        folder = finished / "runs" / f"{row['name']}-seed{row['seed']}"
        pooled = np.concatenate(list(rates_of(folder).values()))
        assert row["mean_rate"] == pytest.approx(pooled.mean())
        assert row["dead"] == pytest.approx(np.mean(pooled < 0.05))
        assert row["saturated"] == pytest.approx(np.mean(pooled > 0.95))
        assert row["cost"]["sparsity"] == pytest.approx(1 - pooled.mean())


def test_results_hold_the_published_schema(finished):
    """Issue 2, section 8: every key, and nothing that JSON cannot hold."""
    results = read(finished)
    assert set(results) == {
        *("schema", "provenance", "floor", "drift", "rows"),
        *("floor_range", "drift_range", "paper", "planned", "diverged", "claims"),
    }
    assert results["schema"] == 2
    provenance = results["provenance"]
    assert set(provenance) == {"jax", "device", "commit", "command", "dataset"}
    assert provenance["jax"] == jax.__version__
    assert provenance["command"] == "test"
    assert "1,797" in provenance["dataset"] or "digits" in provenance["dataset"]
    assert [(row["name"], row["seed"]) for row in results["rows"]] == ORDER
    for row in results["rows"]:
        assert set(row) == {
            *("name", "kind", "start", "config", "seed", "accuracy", "emd"),
            *("matched", "mean_rate", "dead", "saturated", "cost", "wall_s", "made"),
        }
        assert row["made"] == results["provenance"]
        assert row["config"] == json.loads(json.dumps(to_dict(ROWS[row["name"]])))
        for key in ("accuracy", "mean_rate", "dead", "saturated"):
            assert type(row[key]) is float
            assert 0 <= row[key] <= 1
        assert row["wall_s"] > 0
        assert {
            *("sparsity", "acs", "macs", "dense", "weight_bits", "state_bits"),
            "events",
        } <= set(row["cost"])
        assert sum(row["cost"]["events_per_layer"].values()) == pytest.approx(
            row["cost"]["events"]
        )
    said = {row["name"]: (row["kind"], row["start"]) for row in results["rows"]}
    assert said == {
        "float": ("float", "scratch"),
        "float-finetuned": ("control", "checkpoint"),
        "weights-uniform-2bit": ("quantized", "checkpoint"),
        "weights-lqnet-2bit": ("quantized", "post-training"),
    }


def test_a_post_training_row_trains_nothing(finished):
    folder = finished / "runs"
    lines = (folder / "weights-uniform-2bit-seed0" / "log.jsonl").read_text()
    assert len(lines.splitlines()) == 12
    quantized, _ = checkpoint.restore(
        folder / "weights-lqnet-2bit-seed0" / "checkpoint"
    )
    parent, _ = checkpoint.restore(folder / "float-seed0" / "checkpoint")
    jax.tree.map(np.testing.assert_array_equal, quantized["params"], parent["params"])
    assert not (folder / "weights-lqnet-2bit-seed0" / "log.jsonl").exists()


def test_a_finished_study_has_its_report_and_nothing_left_over(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"results.csv", "report.md", "report.html", "plots"} <= names
    assert not list(finished.rglob("*partial*"))
    for name, seed in ORDER:
        assert name in (finished / "report.md").read_text()
        assert (finished / "runs" / f"{name}-seed{seed}" / "checkpoint").is_dir()


def test_a_finished_study_is_reported_and_not_recomputed(finished, monkeypatch):
    before, known = row_files(finished), read(finished)
    monkeypatch.setattr(runner, "execute", None)
    again = make(finished)
    assert not again.unfinished
    assert again.run() == known
    assert row_files(finished) == before


# Killed and continued.


class Killed(KeyboardInterrupt):
    """As when a person presses Ctrl-C."""


def test_killed_between_and_inside_rows_it_continues(finished, tmp_path, monkeypatch):
    """Ctrl-C after the first and the last epoch of a row, and before its row.json."""
    out, jobs, real_save = tmp_path / "out", [], checkpoint.save
    real_execute = runner.execute

    def execute(program, config, dataset, folder, **options):
        jobs.append((folder, options["label"]))
        return real_execute(program, config, dataset, folder, **options)

    def save_and_die(at):
        seen = []

        def save(path, tree, metadata):
            real_save(path, tree, metadata)
            seen.append(path)
            if len(seen) == at:
                raise Killed

        return save

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr(run, "SAVE_EVERY_S", 0)
    # A row saves after each of its two epochs and once it is evaluated.
    begins = 0
    for saves, row, left in (
        (1, 0, "partial"),
        (4, 1, "partial"),
        (8, 4, "partial"),
        (3, 5, "checkpoint"),
    ):
        monkeypatch.setattr(checkpoint, "save", save_and_die(saves))
        jobs.clear()
        with pytest.raises(Killed):
            make(out).run()
        expected = [f"{name}/seed{seed}" for name, seed in ORDER[begins : row + 1]]
        assert [label for _, label in jobs] == expected
        assert not (jobs[-1][0] / "row.json").exists()
        assert (jobs[-1][0] / left).is_dir()
        begins = row
    monkeypatch.setattr(checkpoint, "save", real_save)
    assert without_times(make(out).run()) == without_times(read(finished))
    assert not list(out.rglob("*partial*"))
    assert {p.name for p in out.iterdir()} == {p.name for p in finished.iterdir()}


EXPERIMENT = """\
'''A small study.'''

import dataclasses

from jsnnq.config import Config, LQNet, NetworkConfig, TrainingConfig, Uniform, kernels

SMALL = Config(
    network=NetworkConfig(name="sew_resnet_tiny", timesteps=2),
    training=TrainingConfig(epochs=2, batch=128, optimizer="adam", rate=0.01),
)
TUNED = dataclasses.replace(SMALL, start="checkpoint")
ROWS = {
    "weights-uniform-2bit": dataclasses.replace(
        TUNED, weights=kernels(Uniform(2, clip=0.1))
    ),
    "weights-lqnet-2bit": dataclasses.replace(
        SMALL, start="post-training", weights=kernels(LQNet(2))
    ),
    "float": SMALL,
    "float-finetuned": TUNED,
}
"""


def typed(folder):
    """The arguments with which a study is typed in a folder, as by a user."""
    (folder / "small.py").write_text(EXPERIMENT)
    return {
        "args": [sys.executable, "-m", "jsnnq.cli", "study", "small.py"],
        "cwd": folder,
        "env": os.environ | {"PYTHONPATH": str(Path(jsnnq.__file__).parents[1])},
        "stdout": subprocess.DEVNULL,
    }


@pytest.fixture(scope="module")
def typed_once(tmp_path_factory):
    """A study that a process of its own did in one go.

    Not `finished`: the command takes fewer threads than these tests have, and so other
    sums of small products.
    """
    folder = tmp_path_factory.mktemp("typed")
    subprocess.run(**typed(folder), check=True)
    return folder / "jsnnq-study"


@pytest.mark.slow
@pytest.mark.parametrize("rows_done", [0, 1, 3, 5])
def test_killed_for_good_and_typed_again_it_continues(typed_once, tmp_path, rows_done):
    """SIGKILL, which no handler sees, while a row is under way."""
    out = tmp_path / "jsnnq-study"
    process = subprocess.Popen(**typed(tmp_path), stderr=subprocess.DEVNULL)
    while len(row_files(out)) < rows_done or not (out / "study.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = row_files(out)
    subprocess.run(**typed(tmp_path), check=True)
    assert before.items() <= row_files(out).items()
    assert without_times(read(out)) == without_times(read(typed_once))


# The logic of a study, with made-up networks.

LAYERS = {"sn1": (4, 4, 3), "layer1_0/sn1": (2, 2, 5)}


def fake_execute(
    program, config, dataset, folder, *, seed, parent, label, quiet, budget
):
    """What `run.execute` leaves behind, from counts that depend on row and seed."""
    del program, dataset, quiet, budget
    if config.start != "scratch":
        assert (parent / "state").read_text() == f"float/seed{seed}"
    rng = np.random.default_rng([seed, *label.encode()])
    counts = {
        name: rng.integers(0, 721, shape, np.int32) for name, shape in LAYERS.items()
    }
    evaluation = Evaluation(0.5, 1.0, Counts(counts, 2, 360), {}, {}, frozenset())
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "state").write_text(label)
    evaluation.counts.save(folder / "firing.npz")
    cost = {"sparsity": 0.9, "acs": 1e6, "macs": 1e5, "dense": 1e7}
    cost |= {"weight_bits": 1000, "state_bits": 500, "events": 3.0}
    row = {
        "kind": config.kind,
        "start": config.start,
        "config": to_dict(config),
        "seed": seed,
        "accuracy": 0.9 + 0.01 * seed,
        "mean_rate": 0.1,
        "dead": 0.5,
        "saturated": 0.0,
        "cost": {**cost, "events_per_layer": {"sn1": 3.0}, "policy": "neurobench"},
        "wall_s": 1.0,
    }
    return row, evaluation


@pytest.fixture
def faked(monkeypatch, uncompiled):
    monkeypatch.setattr(runner, "execute", fake_execute)


SCRATCH = dataclasses.replace(SMALL, weights=kernels(Uniform(2, clip=CLIP)))


@pytest.mark.usefixtures("faked", "unreported")
def test_every_row_is_read_against_its_parent(tmp_path):
    make(tmp_path / "out").run()
    results = read(tmp_path / "out")
    assert [(row["name"], row["seed"]) for row in results["rows"]] == ORDER
    assert_read_against_controls(tmp_path / "out", results)


@pytest.mark.usefixtures("faked", "unreported")
def test_the_floor_is_over_all_pairs_of_seeds(tmp_path):
    results = make(tmp_path, {"float": SMALL}, seeds=3).run()
    rates = [rates_of(tmp_path / "runs" / f"float-seed{seed}") for seed in range(3)]
    pairs = [
        expected_distances(rates[i], rates[j], stats.wasserstein_distance)
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert_distances(results["floor"], mean_distances(pairs))
    means = [pair["mean"] for pair in pairs]
    found = results["floor_range"]["mean"]
    assert found == pytest.approx([min(means), max(means)], abs=1e-6)
    assert results["drift"] is None
    assert results["drift_range"] is None


@pytest.mark.usefixtures("faked", "unreported")
def test_one_seed_has_no_floor(tmp_path):
    results = make(tmp_path, seeds=1).run()
    assert results["floor"] is None
    assert results["drift"]["mean"] > 0
    assert len(results["rows"]) == 4


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_from_scratch_is_compared_with_the_float_network_of_its_seed(tmp_path):
    make(tmp_path, {"float": SMALL, "scratch": SCRATCH}, row_seeds=2).run()
    rows = [row for row in read(tmp_path)["rows"] if row["name"] == "scratch"]
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert row["start"] == "scratch"
        folders = (f"{name}-seed{row['seed']}" for name in ("float", "scratch"))
        rates = [rates_of(tmp_path / "runs" / folder) for folder in folders]
        expected = expected_distances(*rates, stats.wasserstein_distance)
        assert_distances(row["emd"], expected)


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_from_scratch_without_a_float_network_has_no_distance(tmp_path):
    results = make(tmp_path, {"scratch": SCRATCH}).run()
    (row,) = results["rows"]
    assert row["emd"] is None
    assert row["matched"] is None
    assert results["floor"] is None


@pytest.mark.usefixtures("uncompiled", "unreported")
@pytest.mark.parametrize("stop", range(6))
def test_killed_at_any_row_it_continues_there(tmp_path, monkeypatch, stop):
    done = []

    def execute(*arguments, label, **options):
        if len(done) == stop and label not in done:
            raise Killed
        done.append(label)
        return fake_execute(*arguments, label=label, **options)

    monkeypatch.setattr(runner, "execute", execute)
    with pytest.raises(Killed):
        make(tmp_path / "out").run()
    before = row_files(tmp_path / "out")
    assert len(before) == stop
    if stop:
        assert len(read(tmp_path / "out")["rows"]) == stop
    monkeypatch.setattr(runner, "execute", fake_execute)
    continued = make(tmp_path / "out").run()
    assert before.items() <= row_files(tmp_path / "out").items()
    whole = make(tmp_path / "other").run()
    assert without_times(continued) == without_times(whole)


def diverging(*keys):
    """A fake that diverges for some rows, and keeps count of what was tried."""
    tried = []

    def execute(*arguments, label, **options):
        tried.append(label)
        if label in keys:
            nothing = step.TrainState(jnp.int32(3), {}, {}, {}, ())
            raise divergence.Diverged(
                f"training of {label} stopped at step 3", 3, nothing
            )
        return fake_execute(*arguments, label=label, **options)

    return execute, tried


def leaving_its_last_good(execute):
    """As `run.execute`, which keeps the state before a row diverged."""

    def leave(*arguments, **options):
        try:
            return execute(*arguments, **options)
        except divergence.Diverged:
            (arguments[3] / "last_good").mkdir(parents=True, exist_ok=True)
            raise

    return leave


@pytest.mark.usefixtures("uncompiled")
def test_a_diverged_row_is_named_and_the_others_finish(tmp_path, monkeypatch):
    execute, tried = diverging("float-finetuned/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    lines = []
    with pytest.raises(divergence.Diverged, match="float-finetuned/seed0"):
        make(tmp_path, say=lines.append).run()
    assert tried == [f"{name}/seed{seed}" for name, seed in ORDER]
    found = [(row["name"], row["seed"]) for row in read(tmp_path)["rows"]]
    assert found == [row for row in ORDER if row != ("float-finetuned", 0)]
    assert any("step 3" in line for line in lines)
    assert "float-finetuned/seed0" in (tmp_path / "report.md").read_text()
    # Typed again, only what is missing is tried.
    tried.clear()
    monkeypatch.setattr(runner, "execute", fake_execute)
    assert [str(job.run) for job in make(tmp_path).unfinished] == [
        "float-finetuned/seed0"
    ]
    assert len(make(tmp_path).run()["rows"]) == 6


@pytest.mark.usefixtures("uncompiled")
def test_rows_of_a_diverged_float_network_are_not_tried(tmp_path, monkeypatch):
    execute, tried = diverging("float/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    with pytest.raises(divergence.Diverged):
        make(tmp_path).run()
    assert tried == ["float/seed0", "float/seed1", "float-finetuned/seed1"]
    assert read(tmp_path)["floor"] is None
    assert len(read(tmp_path)["rows"]) == 2


@pytest.mark.usefixtures("uncompiled")
def test_a_study_in_which_everything_diverges_still_says_so(tmp_path, monkeypatch):
    execute, _ = diverging("float/seed0", "float/seed1")
    monkeypatch.setattr(runner, "execute", execute)
    with pytest.raises(divergence.Diverged):
        make(tmp_path).run()
    assert read(tmp_path)["rows"] == []
    assert "float/seed0" in (tmp_path / "report.md").read_text()


def test_a_real_divergence_keeps_the_last_good_state(tmp_path):
    """A rate that no network survives; the others of the study are finished."""
    wild = dataclasses.replace(
        SMALL, training=dataclasses.replace(SMALL.training, rate=1e38)
    )
    with pytest.raises(divergence.Diverged) as caught:
        make(tmp_path, {"float": wild}, seeds=1).run()
    (lost,) = read(tmp_path)["diverged"]
    assert (lost["name"], lost["seed"]) == ("float", 0)
    assert lost["config"]["training"]["rate"] == 1e38
    said = (tmp_path / "report.md").read_text()
    assert "Diverged, so that there is no result: float/seed0." in said
    kept, metadata = checkpoint.restore(tmp_path / "runs" / "float-seed0" / "last_good")
    assert metadata == {"step": caught.value.step}
    assert int(kept["step"]) == caught.value.step
    leaves = jax.tree.leaves(kept["params"])
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    with pytest.raises(InputError, match="not of a finished network"):
        load_network(tmp_path / "runs" / "float-seed0" / "last_good")


# The folder, and what is refused.


def tree(folder):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("rows", "options", "difference"),
    [
        (ROWS, {"hold_out": 100}, "hold_out is new"),
        (
            {"more": SCRATCH, **dict(list(ROWS.items())[1:])},
            {},
            "rows.weights-uniform-2bit is gone",
        ),
        (dict(list(ROWS.items())[1:]), {}, "rows.weights-uniform-2bit is gone"),
        (
            {
                **ROWS,
                "weights-lqnet-2bit": dataclasses.replace(
                    ROWS["weights-lqnet-2bit"], calibration=64
                ),
            },
            {},
            "rows.weights-lqnet-2bit.calibration was 256, is 64",
        ),
    ],
)
@pytest.mark.usefixtures("faked", "unreported")
def test_another_study_is_refused_by_the_first_difference(
    tmp_path, rows, options, difference
):
    make(tmp_path).run()
    before = tree(tmp_path)
    with pytest.raises(InputError, match="another configuration") as caught:
        make(tmp_path, rows, **options)
    assert difference in str(caught.value)
    assert tree(tmp_path) == before


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        make(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_out_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write into .*folder you may write"):
        make(tmp_path / "file" / "out")


def test_an_out_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_cannot_be_built_is_refused_before_anything_is_written(tmp_path):
    wrong = dataclasses.replace(SMALL, weights=(("nowhere", Uniform(2)),))
    with pytest.raises(InputError, match="'nowhere' matches no layer"):
        make(tmp_path / "out", {"float": SMALL, "last": wrong})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seeds", "row_seeds"), [(0, 0), (1, 2), (2, 0), (-1, 1)])
def test_wrong_numbers_of_seeds_are_refused(tmp_path, seeds, row_seeds):
    with pytest.raises(InputError, match="1 <= row seeds <= seeds"):
        make(tmp_path / "out", seeds=seeds, row_seeds=row_seeds)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("faked", "unreported")
def test_rows_are_compiled_ahead_once_and_a_failure_stops_nothing(
    tmp_path, monkeypatch
):
    ahead = []

    def compile_ahead(program, config, dataset):
        ahead.append(program)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    made = make(tmp_path, seeds=2)
    assert made.run()["rows"]
    # By two threads, so in any order.
    programs = dict.fromkeys(made._programs[job.name] for job in made.jobs)
    assert len(ahead) == len(programs)
    assert set(ahead) == set(programs)


@pytest.mark.usefixtures("unreported")
def test_ctrl_c_does_not_wait_for_what_is_compiled_ahead(tmp_path, monkeypatch):
    never, ended = threading.Event(), []
    made = make(tmp_path)
    first = made._programs[made.jobs[0].name]

    def compile_ahead(program, *_):
        if program != first:
            never.wait(600)
            ended.append(program)

    def stop(*_, **__):
        raise Killed

    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    monkeypatch.setattr(runner, "execute", stop)
    try:
        with pytest.raises(Killed):
            made.run()
        assert not ended  # Programs are still being compiled.
    finally:
        never.set()


@pytest.mark.usefixtures("faked", "unreported")
def test_a_full_disk_says_so_and_keeps_what_was_done(tmp_path, monkeypatch):
    make(tmp_path, seeds=1).run()
    before = row_files(tmp_path)
    added = make(tmp_path, seeds=2)

    def full(path, *_, **__):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as disk:
        disk.setattr(type(tmp_path), "write_bytes", full)
        with pytest.raises(InputError, match="No space left on device"):
            added.run()
    assert row_files(tmp_path) == before
    assert not list(tmp_path.rglob(".*partial"))
    for unfinished in tmp_path.glob("runs/*-seed1"):
        shutil.rmtree(unfinished)  # The fake does not go on where it stopped.
    added.run()
    assert not make(tmp_path).unfinished
    assert before.items() <= row_files(tmp_path).items()


@pytest.mark.usefixtures("faked", "unreported")
def test_two_processes_do_not_work_in_one_folder(tmp_path):
    made = make(tmp_path)
    with files.held(tmp_path), pytest.raises(InputError, match="another process is"):
        made.run()
    assert not list(tmp_path.glob("runs/*"))
    assert made.run()["rows"]


@pytest.mark.usefixtures("faked", "unreported")
@pytest.mark.parametrize("name", ["checkpoint", "firing.npz"])
def test_a_float_network_without_its_files_is_refused(tmp_path, name):
    """As where a folder was carried without the large ones."""
    make(tmp_path, choice=runner.Choice(rows="float")).run()
    lost = tmp_path / "runs" / "float-seed1" / name
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with pytest.raises(InputError, match=f"{name}' is missing, which float-finetuned"):
        make(tmp_path).run()
    assert len(row_files(tmp_path)) == 2


# A part of a study, and so much time for it.


class Steps:
    """A clock on which each row takes as long as it is said to."""

    def __init__(self, **seconds):
        self.now, self.seconds, self.tried = 0.0, seconds, []

    def __call__(self):
        return self.now

    def execute(self, *arguments, label, budget, **options):
        """As `run.execute` would: a row that does not end in time is left."""
        self.tried.append(label)
        took = self.seconds.get(label.split("/")[0].split("-")[-1], 10.0)
        if took > budget.left:
            self.now += budget.left
            raise OutOfTime("out of time after 3 of 9 steps")
        self.now += took
        row, evaluation = fake_execute(
            *arguments, label=label, budget=budget, **options
        )
        return {**row, "wall_s": took}, evaluation


@pytest.mark.usefixtures("faked", "unreported")
def test_a_study_of_two_calls_is_that_of_one(tmp_path, monkeypatch):
    """Seed by seed, and no row is begun that would not end in time."""
    clock = Steps(finetuned=20.0)
    monkeypatch.setattr(runner, "execute", clock.execute)
    calls = []
    for _ in range(3):
        clock.tried.clear()
        budget = Budget(46.0, clock)
        made = make(tmp_path / "out", choice=runner.Choice(budget=budget))
        made.run()
        calls.append(list(clock.tried))
    assert calls == [
        # After 30 of 41 s there is time neither for another row that is fine-tuned,
        # which takes 20, nor for one of unknown length, but for a float network.
        ["float/seed0", "float-finetuned/seed0", "float/seed1"],
        [
            "weights-uniform-2bit/seed0",
            "weights-lqnet-2bit/seed0",
            "float-finetuned/seed1",
        ],
        [],
    ]
    assert not made.unfinished
    monkeypatch.setattr(runner, "execute", fake_execute)
    whole = make(tmp_path / "whole").run()
    assert without_times(made.results()) == without_times(whole)


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_longer_than_the_budget_is_left_and_tried_again(tmp_path, monkeypatch):
    clock, lines = Steps(float=100.0), []
    monkeypatch.setattr(runner, "execute", clock.execute)
    choice = runner.Choice(budget=Budget(50.0, clock))
    made = make(tmp_path, choice=choice, say=lines.append)
    assert made.run()["rows"] == []
    assert lines == ["float/seed0: out of time after 3 of 9 steps"]
    assert len(made.unfinished) == len(ORDER)


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_that_nearly_fills_the_budget_is_not_waited_for(tmp_path, monkeypatch):
    """No call has more time than the whole, so the first row of one is begun."""
    clock = Steps(float=46.0)  # more than the 45 that are for training
    monkeypatch.setattr(runner, "execute", clock.execute)
    rows = {"float": SMALL}
    with monkeypatch.context() as plainly:
        plainly.setattr(runner, "execute", fake_execute)
        make(tmp_path, rows, seeds=1).run()
    path = tmp_path / "runs" / "float-seed0" / "row.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "wall_s": 46.0}))
    make(tmp_path, rows, choice=runner.Choice(budget=Budget(50.0, clock))).run()
    assert clock.tried == ["float/seed1"]


@pytest.mark.usefixtures("unreported")
def test_time_spent_on_compiling_is_time(tmp_path, monkeypatch):
    """Rows of 10 s, of which two fit, but not beside 20 s of compiling the second."""
    clock, chosen, turn = Steps(), threading.Event(), runner._Ahead.turn
    monkeypatch.setattr(runner, "execute", clock.execute)
    name = "weights-uniform-2bit"
    rows = {"float": SMALL, name: ROWS[name]}
    second = make(tmp_path / "x", rows)._programs[name]

    def take_a_turn(ahead, now, following):
        if now == name:
            chosen.set()
        return turn(ahead, now, following)

    def compile_ahead(program, *_):
        # It goes on while float is trained, and ends after the second was chosen.
        if program == second and chosen.wait(60):
            clock.now += 20.0

    monkeypatch.setattr(runner._Ahead, "turn", take_a_turn)
    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    choice = runner.Choice(budget=Budget(40.0, clock))
    made = make(tmp_path / "out", rows, seeds=1, choice=choice)
    made.run()
    assert chosen.is_set()
    assert clock.tried == ["float/seed0"]
    assert [str(job.run) for job in made.unfinished] == [f"{name}/seed0"]


@pytest.mark.usefixtures("uncompiled", "unreported")
def test_rows_of_a_network_that_diverged_wait_for_it(tmp_path, monkeypatch):
    execute, tried = diverging("float/seed0")

    monkeypatch.setattr(runner, "execute", leaving_its_last_good(execute))
    limited = runner.Choice(budget=Budget(1e6))
    made = make(tmp_path, seeds=1, choice=limited)
    made.run()  # Says so in `diverged`, and does not raise.
    assert tried == ["float/seed0"]
    assert [str(job.run) for job in made.diverged] == ["float/seed0"]
    assert {str(job.run) for job in made.blocked} == {
        str(job.run) for job in made.unfinished if job.name != "float"
    }


@pytest.mark.usefixtures("uncompiled", "unreported")
def test_time_that_is_short_is_not_spent_on_what_diverged(tmp_path, monkeypatch):
    execute, tried = diverging("float-finetuned/seed0")

    monkeypatch.setattr(runner, "execute", leaving_its_last_good(execute))
    limited = runner.Choice(budget=Budget(1e6))
    make(tmp_path, choice=limited).run()
    assert len(tried) == len(ORDER)
    made = make(tmp_path, choice=limited)
    made.run()
    assert len(tried) == len(ORDER)
    assert [str(job.run) for job in made.diverged] == ["float-finetuned/seed0"]
    with pytest.raises(divergence.Diverged):
        make(tmp_path).run()
    assert tried[len(ORDER) :] == ["float-finetuned/seed0"]


def test_a_run_whose_row_was_not_written_is_not_trained_again(tmp_path, monkeypatch):
    """Killed between the evaluation and row.json: the trained state is there."""
    monkeypatch.setattr(run, "SAVE_EVERY_S", 0)
    rows = {"float": SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(folder.StudyFolder, "add", killed)
        with pytest.raises(Killed):
            make(tmp_path, rows, seeds=1).run()
    began = []
    real = loop.fit

    def fit(program, state, *arguments, **options):
        began.append(int(state.step))
        return real(program, state, *arguments, **options)

    monkeypatch.setattr(loop, "fit", fit)
    make(tmp_path, rows, seeds=1).run()
    assert began == [2 * (1437 // 128)]
    assert not list(tmp_path.rglob("*partial*"))


def killed(*_, **__):
    raise Killed


@pytest.mark.usefixtures("faked", "unreported")
def test_a_part_of_a_study_is_done_and_the_rest_stays_planned(tmp_path):
    results = make(tmp_path, choice=runner.Choice(rows=".*uniform.*")).run()
    found = [f"{row['name']}/seed{row['seed']}" for row in results["rows"]]
    assert found == ["float/seed0", "weights-uniform-2bit/seed0"]
    assert len(results["planned"]) == len(ORDER)
    # Everything that was ever done is in the results of the next part.
    results = make(tmp_path, choice=runner.Choice(rows="float")).run()
    assert len(results["rows"]) == 3
    assert len(make(tmp_path).run()["rows"]) == len(ORDER)


@pytest.mark.usefixtures("faked", "unreported")
def test_more_seeds_are_added_to_a_study(tmp_path):
    make(tmp_path / "out").run()
    before = row_files(tmp_path / "out")
    results = make(tmp_path / "out", seeds=3, row_seeds=2).run()
    assert before.items() <= row_files(tmp_path / "out").items()
    whole = make(tmp_path / "other", seeds=3, row_seeds=2).run()
    assert without_times(results) == without_times(whole)
    # And fewer take none away.
    assert make(tmp_path / "out", seeds=1).run()["rows"] == results["rows"]


@pytest.mark.usefixtures("faked", "unreported")
def test_more_rows_are_added_to_a_study(tmp_path):
    make(tmp_path / "out").run()
    before = row_files(tmp_path / "out")
    more = {"scratch": SCRATCH, **ROWS}
    results = make(tmp_path / "out", more).run()
    assert before.items() <= row_files(tmp_path / "out").items()
    whole = make(tmp_path / "other", more).run()
    assert without_times(results) == without_times(whole)


@pytest.mark.usefixtures("faked", "unreported")
def test_only_networks_that_others_start_from_are_kept(tmp_path):
    make(tmp_path, choice=runner.Choice(keep="float")).run()
    kept = {path.parent.name for path in tmp_path.glob("runs/*/checkpoint")}
    assert kept == {"float-seed0", "float-seed1"}
    with pytest.raises(InputError, match="keep"):
        make(tmp_path / "other", choice=runner.Choice(keep="some"))
    assert not (tmp_path / "other").exists()


def test_a_recipe_is_chosen_on_held_out_training_images(tmp_path):
    made = make(tmp_path, {"float": SMALL}, seeds=1, hold_out=237)
    (row,) = made.run()["rows"]
    assert round(row["accuracy"] * 237) == pytest.approx(row["accuracy"] * 237)
    assert "held out" in row["made"]["dataset"]
    # An epoch is of the 1,200 images that are left, 9 batches of 128.
    lines = (tmp_path / "runs" / "float-seed0" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2 * (1200 // 128)


def test_stopped_in_the_middle_of_an_epoch_a_run_goes_on_bit_for_bit(
    finished, tmp_path
):
    """A real training under a budget that ends after some steps of each call."""
    rows, calls = {"float": SMALL}, 0
    while True:
        calls += 1
        # On this clock a question takes a second: some seven steps a call.
        ticks = itertools.count()
        budget = Budget(10.0, lambda ticks=ticks: float(next(ticks)))
        made = make(tmp_path, rows, seeds=1, choice=runner.Choice(budget=budget))
        made.run()
        if not made.unfinished:
            break
        partial = tmp_path / "runs" / "float-seed0" / "partial"
        step = int(checkpoint.restore(partial)[0]["step"])
        assert 0 < step < 22
    assert calls > 2
    ours, theirs = (
        checkpoint.restore(folder / "runs" / "float-seed0" / "checkpoint")[0]
        for folder in (tmp_path, finished)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert not list(tmp_path.rglob("*partial*"))


def test_ctrl_c_in_the_middle_of_an_epoch_keeps_the_step(
    finished, tmp_path, monkeypatch, ctrl_c
):
    pressed_at, told = 4, monitor.Monitor.step

    def step(self, number, *numbers):
        if number == pressed_at:
            ctrl_c()
        told(self, number, *numbers)

    monkeypatch.setattr(monitor.Monitor, "step", step)
    rows = {"float": SMALL}
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, rows, seeds=1).run()
    partial = tmp_path / "runs" / "float-seed0" / "partial"
    # A step is under way while the numbers of the last are told.
    assert int(checkpoint.restore(partial)[0]["step"]) == pressed_at + 1
    monkeypatch.undo()
    make(tmp_path, rows, seeds=1).run()
    ours, theirs = (
        checkpoint.restore(folder / "runs" / "float-seed0" / "checkpoint")[0]
        for folder in (tmp_path, finished)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_ctrl_c_is_heard_where_numbers_diverge_at_the_same_time(
    tmp_path, monkeypatch, ctrl_c
):
    def fit(program, state, *_, **__):
        ctrl_c()
        raise divergence.Diverged("training stopped at step 0", 0, state)

    monkeypatch.setattr(loop, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, {"float": SMALL}).run()
    assert [path.name for path in tmp_path.glob("runs/*")] == ["float-seed0"]
    assert (tmp_path / "runs" / "float-seed0" / "last_good").is_dir()


def test_the_file_of_the_slow_test_is_the_study_of_this_file(tmp_path):
    from jsnnq.study.experiment import load_experiment

    (tmp_path / "small.py").write_text(EXPERIMENT)
    title, rows, _, _ = load_experiment(tmp_path / "small.py")
    assert title == "A small study."
    assert all(isinstance(row, Config) for row in rows.values())
    assert rows == ROWS
