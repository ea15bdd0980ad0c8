"""A study of real tiny networks: its results; stopped, killed and continued."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jsnnq.config import to_dict
from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint
from jsnnq.study import folder, runner
from jsnnq.study.budget import Budget
from jsnnq.study.saved import load_network
from jsnnq.training import divergence, loop, monitor
from tests.study.distances import assert_read_against_controls
from tests.tiny import (
    EXPERIMENT,
    ORDER,
    ROWS,
    SMALL,
    STEPS,
    changed,
    make,
    rates_of,
    read,
    row_files,
    runs_of,
    texts,
    without_times,
)

FLOAT = {"float": SMALL}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole study of real networks, done in one go."""
    out = tmp_path_factory.mktemp("study") / "out"
    make(out).run()
    return out


@pytest.fixture(scope="module")
def results(finished):
    return read(finished)


def test_distances_come_from_the_counts_on_disk(finished, results):
    assert_read_against_controls(finished, results)


def test_a_row_says_what_its_counts_say(finished, results):
    for row in results["rows"]:
        folder = finished / "runs" / f"{row['name']}-seed{row['seed']}"
        pooled = np.concatenate(list(rates_of(folder).values()))
        assert row["mean_rate"] == pytest.approx(pooled.mean())
        assert row["dead"] == pytest.approx(np.mean(pooled < 0.05))
        assert row["saturated"] == pytest.approx(np.mean(pooled > 0.95))
        assert row["cost"]["sparsity"] == pytest.approx(1 - pooled.mean())


def test_results_hold_the_published_schema(results):
    """Issue 2, section 8: every key, and nothing that JSON cannot hold."""
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
    assert runs_of(results) == ORDER
    for row in results["rows"]:
        assert set(row) == {
            *("name", "kind", "start", "config", "seed", "accuracy", "emd"),
            *("matched", "mean_rate", "dead", "saturated", "cost", "wall_s", "made"),
            "products",
        }
        assert row["made"] == provenance
        assert row["config"] == json.loads(json.dumps(to_dict(ROWS[row["name"]])))
        for key in ("accuracy", "mean_rate", "dead", "saturated"):
            assert type(row[key]) is float
            assert 0 <= row[key] <= 1
        assert row["wall_s"] > 0
        cost = row["cost"]
        assert {
            *("sparsity", "acs", "macs", "dense", "weight_bits", "state_bits"),
            "events",
        } <= set(cost)
        assert sum(cost["events_per_layer"].values()) == pytest.approx(cost["events"])
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


def test_a_finished_study_is_reported_and_not_recomputed(
    finished, results, monkeypatch
):
    before = row_files(finished)
    monkeypatch.setattr(runner, "execute", None)
    again = make(finished)
    assert not again.unfinished
    assert again.run() == results
    assert row_files(finished) == before


# Killed and continued.


def killed(*_, **__):
    """As when a person presses Ctrl-C."""
    raise KeyboardInterrupt


def test_killed_between_and_inside_rows_it_continues(
    finished, results, tmp_path, monkeypatch
):
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
                raise KeyboardInterrupt

        return save

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr("jsnnq.training.resume.SAVE_EVERY_S", 0)
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
        with pytest.raises(KeyboardInterrupt):
            make(out).run()
        assert [label for _, label in jobs] == texts(ORDER[begins : row + 1])
        assert not (jobs[-1][0] / "row.json").exists()
        assert (jobs[-1][0] / left).is_dir()
        begins = row
    monkeypatch.setattr(checkpoint, "save", real_save)
    assert without_times(make(out).run()) == without_times(results)
    assert not list(out.rglob("*partial*"))
    assert {p.name for p in out.iterdir()} == {p.name for p in finished.iterdir()}


def typed(folder):
    """The arguments with which a study is typed in a folder, as by a user."""
    (folder / "small.py").write_text(EXPERIMENT)
    return {
        "args": [sys.executable, "-m", "jsnnq.cli", "study", "small.py"],
        "cwd": folder,
        "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
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


def test_a_run_whose_row_was_not_written_is_not_trained_again(tmp_path, monkeypatch):
    """Killed between the evaluation and row.json: the trained state is there."""
    monkeypatch.setattr("jsnnq.training.resume.SAVE_EVERY_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(folder.StudyFolder, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, FLOAT, seeds=1).run()
    began, real = [], loop.fit_rows

    def fit_rows(program, rows, *arguments, **options):
        began.extend(int(row.state.step) for row in rows)
        return real(program, rows, *arguments, **options)

    monkeypatch.setattr(loop, "fit_rows", fit_rows)
    make(tmp_path, FLOAT, seeds=1).run()
    assert began == [2 * STEPS]
    assert not list(tmp_path.rglob("*partial*"))


def step_of(partial):
    return int(checkpoint.restore(partial)[0]["step"])


def assert_ends_alike(*outs):
    """The float networks are bit for bit the same."""
    ours, theirs = (
        checkpoint.restore(out / "runs" / "float-seed0" / "checkpoint")[0]
        for out in outs
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_stopped_in_the_middle_of_an_epoch_a_run_goes_on_bit_for_bit(
    finished, tmp_path
):
    """A real training under a budget that ends after some steps of each call."""
    calls = 0
    while True:
        calls += 1
        # On this clock a question takes a second: some seven steps a call.
        ticks = itertools.count()
        budget = Budget(10.0, lambda ticks=ticks: float(next(ticks)))
        made = make(tmp_path, FLOAT, seeds=1, choice=runner.Choice(budget=budget))
        made.run()
        if not made.unfinished:
            break
        assert 0 < step_of(tmp_path / "runs" / "float-seed0" / "partial") < 22
    assert calls > 2
    assert_ends_alike(tmp_path, finished)
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
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, FLOAT, seeds=1).run()
    # A step is under way while the numbers of the last are told.
    assert step_of(tmp_path / "runs" / "float-seed0" / "partial") == pressed_at + 1
    monkeypatch.undo()
    make(tmp_path, FLOAT, seeds=1).run()
    assert_ends_alike(tmp_path, finished)


# Diverged, and on other images.


def test_a_real_divergence_keeps_the_last_good_state(tmp_path):
    """A rate that no network survives, in a study that still says so."""
    wild = changed(SMALL, "training.rate", 1e38)
    with pytest.raises(divergence.Diverged) as caught:
        make(tmp_path, {"float": wild}, seeds=1).run()
    assert read(tmp_path)["rows"] == []
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


def test_ctrl_c_is_heard_where_numbers_diverge_at_the_same_time(
    tmp_path, monkeypatch, ctrl_c
):
    def fit_rows(program, rows, *_, **__):
        ctrl_c()
        return [divergence.Diverged("training stopped at step 0", 0, rows[0].state)]

    monkeypatch.setattr(loop, "fit_rows", fit_rows)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, FLOAT).run()
    assert [path.name for path in tmp_path.glob("runs/*")] == ["float-seed0"]
    assert (tmp_path / "runs" / "float-seed0" / "last_good").is_dir()


def test_a_recipe_is_chosen_on_held_out_training_images(tmp_path):
    (row,) = make(tmp_path, FLOAT, seeds=1, hold_out=237).run()["rows"]
    assert round(row["accuracy"] * 237) == pytest.approx(row["accuracy"] * 237)
    assert "held out" in row["made"]["dataset"]
    # An epoch is of the 1,200 images that are left, 9 batches of 128.
    lines = (tmp_path / "runs" / "float-seed0" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2 * (1200 // 128)
