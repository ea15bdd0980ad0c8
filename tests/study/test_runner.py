"""The logic of a study, with made-up networks: nothing is trained here."""

import json
import shutil
import threading

import pytest

from jsnnq.config import Uniform
from jsnnq.errors import InputError
from jsnnq.runtime import files
from jsnnq.study import runner
from jsnnq.study.budget import Budget, OutOfTime
from jsnnq.training import divergence
from tests.study.distances import (
    assert_distances,
    assert_range,
    assert_read_against_controls,
    expected_distances,
    mean_distances,
)
from tests.tiny import (
    ORDER,
    ROWS,
    SCRATCH,
    SMALL,
    changed,
    diverging,
    fake_execute,
    make,
    rates_of,
    read,
    row_files,
    runs_of,
    texts,
    tree,
    without_times,
)

pytestmark = pytest.mark.usefixtures("faked", "unreported")


def test_every_row_is_read_against_its_parent(tmp_path):
    make(tmp_path / "out").run()
    results = read(tmp_path / "out")
    assert runs_of(results) == ORDER
    assert_read_against_controls(tmp_path / "out", results)


def test_the_floor_is_over_all_pairs_of_seeds(tmp_path):
    results = make(tmp_path, {"float": SMALL}, seeds=3).run()
    rates = [rates_of(tmp_path / "runs" / f"float-seed{seed}") for seed in range(3)]
    pairs = [
        expected_distances(rates[i], rates[j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert_distances(results["floor"], mean_distances(pairs))
    assert_range(results["floor_range"], pairs)
    assert results["drift"] is None
    assert results["drift_range"] is None


def test_one_seed_has_no_floor(tmp_path):
    results = make(tmp_path, seeds=1).run()
    assert results["floor"] is None
    assert results["drift"]["mean"] > 0
    assert len(results["rows"]) == 4


def test_a_row_from_scratch_is_compared_with_the_float_network_of_its_seed(tmp_path):
    make(tmp_path, {"float": SMALL, "scratch": SCRATCH}, row_seeds=2).run()
    rows = [row for row in read(tmp_path)["rows"] if row["name"] == "scratch"]
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert row["start"] == "scratch"
        folders = (f"{name}-seed{row['seed']}" for name in ("float", "scratch"))
        rates = [rates_of(tmp_path / "runs" / folder) for folder in folders]
        assert_distances(row["emd"], expected_distances(*rates))


def test_a_row_from_scratch_without_a_float_network_has_no_distance(tmp_path):
    results = make(tmp_path, {"scratch": SCRATCH}).run()
    (row,) = results["rows"]
    assert row["emd"] is None
    assert row["matched"] is None
    assert results["floor"] is None


@pytest.mark.parametrize("stop", range(6))
def test_killed_at_any_row_it_continues_there(tmp_path, monkeypatch, stop):
    tried = []

    def execute(*arguments, label, **options):
        if len(tried) == stop and label not in tried:
            raise KeyboardInterrupt
        tried.append(label)
        return fake_execute(*arguments, label=label, **options)

    monkeypatch.setattr(runner, "execute", execute)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out").run()
    before = row_files(tmp_path / "out")
    assert len(before) == stop
    if stop:
        assert len(read(tmp_path / "out")["rows"]) == stop
    monkeypatch.setattr(runner, "execute", fake_execute)
    continued = make(tmp_path / "out").run()
    assert before.items() <= row_files(tmp_path / "out").items()
    assert without_times(continued) == without_times(make(tmp_path / "other").run())


# What diverged.


def test_a_diverged_row_is_named_and_the_others_finish(tmp_path, monkeypatch):
    execute, tried = diverging("float-finetuned/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    lines = []
    with pytest.raises(divergence.Diverged, match="float-finetuned/seed0"):
        make(tmp_path, say=lines.append).run()
    assert tried == texts(ORDER)
    lost = ("float-finetuned", 0)
    assert runs_of(read(tmp_path)) == [run for run in ORDER if run != lost]
    assert any("step 3" in line for line in lines)
    # Typed again, only what is missing is tried.
    monkeypatch.setattr(runner, "execute", fake_execute)
    assert texts(make(tmp_path).unfinished) == ["float-finetuned/seed0"]
    assert len(make(tmp_path).run()["rows"]) == 6


def test_rows_of_a_diverged_float_network_are_not_tried(tmp_path, monkeypatch):
    execute, tried = diverging("float/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    with pytest.raises(divergence.Diverged):
        make(tmp_path).run()
    assert tried == ["float/seed0", "float/seed1", "float-finetuned/seed1"]
    assert read(tmp_path)["floor"] is None
    assert len(read(tmp_path)["rows"]) == 2


def test_rows_of_a_network_that_diverged_wait_for_it(tmp_path, monkeypatch):
    execute, tried = diverging("float/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    made = make(tmp_path, seeds=1, choice=runner.Choice(budget=Budget(1e6)))
    made.run()  # Says so in `diverged`, and does not raise.
    assert tried == texts(made.diverged) == ["float/seed0"]
    rest = [text for text in texts(made.unfinished) if text != "float/seed0"]
    assert sorted(texts(made.blocked)) == sorted(rest)


def test_time_that_is_short_is_not_spent_on_what_diverged(tmp_path, monkeypatch):
    execute, tried = diverging("float-finetuned/seed0")
    monkeypatch.setattr(runner, "execute", execute)
    limited = runner.Choice(budget=Budget(1e6))
    make(tmp_path, choice=limited).run()
    assert len(tried) == len(ORDER)
    made = make(tmp_path, choice=limited)
    made.run()
    assert len(tried) == len(ORDER)
    assert texts(made.diverged) == ["float-finetuned/seed0"]
    with pytest.raises(divergence.Diverged):
        make(tmp_path).run()
    assert tried[len(ORDER) :] == ["float-finetuned/seed0"]


# The folder, and what is refused.


WITHOUT_THE_FIRST = dict(list(ROWS.items())[1:])
GONE = "rows.weights-uniform-2bit is gone"
LQNET = "weights-lqnet-2bit"
CALIBRATED = ROWS | {LQNET: changed(ROWS[LQNET], "calibration", 64)}


@pytest.mark.parametrize(
    ("rows", "options", "difference"),
    [
        (ROWS, {"hold_out": 100}, "hold_out is new"),
        ({"more": SCRATCH, **WITHOUT_THE_FIRST}, {}, GONE),
        (WITHOUT_THE_FIRST, {}, GONE),
        (CALIBRATED, {}, f"rows.{LQNET}.calibration was 256, is 64"),
    ],
)
def test_another_study_is_refused_by_the_first_difference(
    tmp_path, rows, options, difference
):
    make(tmp_path).run()
    before = tree(tmp_path)
    with pytest.raises(InputError, match="another configuration") as caught:
        make(tmp_path, rows, **options)
    assert difference in str(caught.value)
    assert tree(tmp_path) == before


NOWHERE = changed(SMALL, "weights", (("nowhere", Uniform(2)),))


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ({"float": SMALL, "last": NOWHERE}, {}, "'nowhere' matches no layer"),
        (ROWS, {"seeds": 1, "row_seeds": 2}, "1 <= row seeds <= seeds"),
        (ROWS, {"choice": runner.Choice(keep="some")}, "keep"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path, rows, options, says
):
    with pytest.raises(InputError, match=says):
        make(tmp_path / "out", rows, **options)
    assert not (tmp_path / "out").exists()


def test_rows_are_compiled_ahead_once_and_a_failure_stops_nothing(
    tmp_path, monkeypatch
):
    ahead = []

    def compile_ahead(program, *_):
        ahead.append(program)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    made = make(tmp_path, seeds=2)
    assert made.run()["rows"]
    # By two threads, so in any order.
    programs = dict.fromkeys(made._programs[job.name] for job in made.jobs)
    assert len(ahead) == len(programs)
    assert set(ahead) == set(programs)


def test_ctrl_c_does_not_wait_for_what_is_compiled_ahead(tmp_path, monkeypatch):
    never, ended = threading.Event(), []
    made = make(tmp_path)
    first = made._programs[made.jobs[0].name]

    def compile_ahead(program, *_):
        if program != first:
            never.wait(600)
            ended.append(program)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    monkeypatch.setattr(runner, "execute", stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run()
        assert not ended  # Programs are still being compiled.
    finally:
        never.set()


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


def test_two_processes_do_not_work_in_one_folder(tmp_path):

    made = make(tmp_path)
    with files.held(tmp_path), pytest.raises(InputError, match="another process is"):
        made.run()
    assert not list(tmp_path.glob("runs/*"))
    assert made.run()["rows"]


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


def test_a_row_longer_than_the_budget_is_left_and_tried_again(tmp_path, monkeypatch):
    clock, lines = Steps(float=100.0), []
    monkeypatch.setattr(runner, "execute", clock.execute)
    choice = runner.Choice(budget=Budget(50.0, clock))
    made = make(tmp_path, choice=choice, say=lines.append)
    assert made.run()["rows"] == []
    assert lines == ["float/seed0: out of time after 3 of 9 steps"]
    assert len(made.unfinished) == len(ORDER)


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


def test_time_spent_on_compiling_is_time(tmp_path, monkeypatch):
    """Rows of 10 s, of which two fit, but not beside 20 s of compiling the second."""
    clock, chosen, turn = Steps(), threading.Event(), runner.Ahead.turn
    monkeypatch.setattr(runner, "execute", clock.execute)
    name = "weights-uniform-2bit"
    rows = {"float": SMALL, name: ROWS[name]}
    second = make(tmp_path / "x", rows)._programs[name]

    def take_a_turn(ahead, now, following):
        if now == (name, 1):
            chosen.set()
        return turn(ahead, now, following)

    def compile_ahead(program, *_):
        # It goes on while float is trained, and ends after the second was chosen.
        if program == second and chosen.wait(60):
            clock.now += 20.0

    monkeypatch.setattr(runner.Ahead, "turn", take_a_turn)
    monkeypatch.setattr(runner, "compile_ahead", compile_ahead)
    choice = runner.Choice(budget=Budget(40.0, clock))
    made = make(tmp_path / "out", rows, seeds=1, choice=choice)
    made.run()
    assert chosen.is_set()
    assert clock.tried == ["float/seed0"]
    assert texts(made.unfinished) == [f"{name}/seed0"]


def test_a_part_of_a_study_is_done_and_the_rest_stays_planned(tmp_path):
    results = make(tmp_path, choice=runner.Choice(rows=".*uniform.*")).run()
    assert texts(runs_of(results)) == ["float/seed0", "weights-uniform-2bit/seed0"]
    assert len(results["planned"]) == len(ORDER)
    # Everything that was ever done is in the results of the next part.
    results = make(tmp_path, choice=runner.Choice(rows="float")).run()
    assert len(results["rows"]) == 3
    assert len(make(tmp_path).run()["rows"]) == len(ORDER)


@pytest.mark.parametrize(
    ("rows", "options"),
    [(ROWS, {"seeds": 3, "row_seeds": 2}), ({"scratch": SCRATCH, **ROWS}, {})],
    ids=["seeds", "rows"],
)
def test_more_is_added_to_a_study(tmp_path, rows, options):
    make(tmp_path / "out").run()
    before = row_files(tmp_path / "out")
    results = make(tmp_path / "out", rows, **options).run()
    assert before.items() <= row_files(tmp_path / "out").items()
    whole = make(tmp_path / "other", rows, **options).run()
    assert without_times(results) == without_times(whole)
    # And fewer seeds take none away.
    assert make(tmp_path / "out", rows, seeds=1).run()["rows"] == results["rows"]


def test_only_networks_that_others_start_from_are_kept(tmp_path):
    make(tmp_path, choice=runner.Choice(keep="float")).run()
    kept = {path.parent.name for path in tmp_path.glob("runs/*/checkpoint")}
    assert kept == {"float-seed0", "float-seed1"}
