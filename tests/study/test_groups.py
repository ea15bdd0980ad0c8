"""Rows of a study that are trained together, against the same rows one by one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jsnnq.config import LQNet, StoMPP, Uniform, kernels
from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint
from jsnnq.study import build, runner
from jsnnq.training import divergence, loop, step, together
from jsnnq.workflow.state import abstract_variables
from tests.tiny import (
    BINARY,
    SMALL,
    assert_same,
    digits,
    fake_execute,
    make,
    read,
    texts,
    with_,
    without_times,
)

TUNED = with_(start="checkpoint")
NARROW = dataclasses.replace(TUNED, weights=kernels(Uniform(2, clip=0.1)))
ROWS = {
    "float": SMALL,
    "float-finetuned": TUNED,
    "two": dataclasses.replace(TUNED, weights=kernels(LQNet(2, padded=4))),
    "four": dataclasses.replace(TUNED, weights=kernels(LQNet(4, padded=4))),
    "narrow": NARROW,
    "after": with_(start="post-training", weights=kernels(LQNet(2, padded=4))),
}
THREE = runner.Choice(together=3)


# Which rows are trained together.


@pytest.fixture
def groups(monkeypatch, uncompiled, unreported):
    """Studies train nothing; the groups that they would train."""
    seen = []

    def alone(*given, label, **options):
        seen.append([label])
        return fake_execute(*given, label=label, **options)

    def at_once(tasks, dataset, **options):
        seen.append([task.label for task in tasks])
        for task in tasks:
            program, config, folder, seed, parent, label = task
            named = dict(seed=seed, parent=parent, label=label)
            yield fake_execute(program, config, dataset, folder, **named, **options)

    monkeypatch.setattr(runner, "execute", alone)
    monkeypatch.setattr(runner, "execute_together", at_once)
    return seen


def test_rows_of_one_program_that_are_ready_are_trained_together(groups, tmp_path):
    make(tmp_path, ROWS, seeds=3, row_seeds=2, choice=THREE).run()
    assert groups == [
        ["float/seed0", "float/seed1", "float/seed2"],
        ["float-finetuned/seed0", "float-finetuned/seed1", "float-finetuned/seed2"],
        ["two/seed0", "four/seed0", "two/seed1"],
        ["narrow/seed0", "narrow/seed1"],
        ["after/seed0"],
        ["four/seed1"],
        ["after/seed1"],
    ]


def test_on_a_cpu_rows_are_trained_one_by_one_unless_asked(groups, tmp_path):
    make(tmp_path, ROWS, seeds=2).run()
    assert {len(group) for group in groups} == {1}


def test_rows_that_were_left_at_different_steps_are_trained_apart(groups, tmp_path):
    rows = {"float": SMALL}
    made = make(tmp_path, rows, seeds=3, choice=THREE)
    for seed, known in ((1, {"step": 5}), (2, {})):
        at = tmp_path / "runs" / f"float-seed{seed}" / "partial"
        checkpoint.save(at, {"a": np.ones(1)}, {"wall_s": 1.0, **known})
    made.run()
    assert groups == [["float/seed0"], ["float/seed1"], ["float/seed2"]]


def test_windows_of_stompp_are_in_the_state_and_no_part_of_a_program(groups, tmp_path):
    orders = {name: kernels(StoMPP(order=name)) for name in ("forward", "reverse")}
    made = {n: dataclasses.replace(BINARY, weights=one) for n, one in orders.items()}
    make(tmp_path, made, choice=THREE).run()
    assert groups == [["forward/seed0", "reverse/seed0"]]


def test_where_devices_share_a_batch_rows_are_trained_one_by_one(
    groups, tmp_path, monkeypatch
):
    monkeypatch.setattr(together, "shared", lambda program, split: False)
    make(tmp_path, {"float": SMALL}, choice=THREE).run()
    assert groups == [["float/seed0"], ["float/seed1"]]


def test_none_or_fewer_are_no_number_of_rows(tmp_path):
    with pytest.raises(InputError, match="together is 0"):
        make(tmp_path, choice=runner.Choice(together=0))


# How many fit.


def test_as_many_runs_are_made_together_as_memory_is_for():
    """All, none, and half where the compiler says that it needs twice as much."""
    program = build.program(SMALL, digits())
    variables = abstract_variables(program.network, (8, 8, 1))
    state = jax.eval_shape(functools.partial(step.start, program), variables)
    fits = lambda memory: together.fitting(
        program, state, digits().train, 4, memory=memory
    )
    assert fits(2**60) == 4
    assert fits(1) == 1
    assert fits(0) == 1
    needs = together._needed(program, state, digits().train, 2, 1)
    assert fits(int(needs * together._SHARE) + together._SHARE) == 2


# Real rows.


FLOAT = {"float": SMALL}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    out = tmp_path_factory.mktemp("pair")
    make(out, FLOAT, choice=THREE).run()
    return out


def test_rows_that_were_trained_together_lie_within_the_spread_of_seeds(pair, tmp_path):
    make(tmp_path, FLOAT).run()
    ours, theirs = (
        {row["seed"]: row["accuracy"] for row in read(out)["rows"]}
        for out in (pair, tmp_path)
    )
    spread = max(theirs.values()) - min(theirs.values())
    assert spread > 0
    assert all(abs(ours[seed] - theirs[seed]) <= spread for seed in theirs)
    names = lambda out: {p.relative_to(out) for p in out.glob("runs/*/*.*")}
    plain = lambda out: {p for p in names(out) if "tfevents" not in p.name}
    assert plain(pair) == plain(tmp_path)
    assert not list(pair.rglob("*partial*"))


def test_stopped_rows_go_on_together_bit_for_bit(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("jsnnq.training.resume.SAVE_EVERY_S", 0)
    real, begun = loop.fit_rows, []

    def fit_rows(program, rows, *given, on_epoch, **options):
        begun.append([int(row.state.step) for row in rows])

        def stop(states):
            on_epoch(states)
            if len(begun) == 1:
                raise KeyboardInterrupt

        return real(program, rows, *given, on_epoch=stop, **options)

    monkeypatch.setattr(loop, "fit_rows", fit_rows)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, FLOAT, choice=THREE).run()
    make(tmp_path, FLOAT, choice=THREE).run()
    assert begun == [[0, 0], [11, 11]]
    assert without_times(read(tmp_path)) == without_times(read(pair))
    for seed in (0, 1):
        at = f"runs/float-seed{seed}/checkpoint"
        found, known = (checkpoint.restore(out / at)[0] for out in (tmp_path, pair))
        assert_same(found, known)


def test_a_row_that_diverges_is_left_and_the_others_are_written(tmp_path, monkeypatch):
    real = loop.fit_rows

    def fit_rows(program, rows, *given, **options):
        first, second = real(program, rows, *given, **options)
        return [first, divergence.Diverged("stopped at step 3", 3, second)]

    monkeypatch.setattr(loop, "fit_rows", fit_rows)
    made = make(tmp_path, FLOAT, choice=THREE)
    with pytest.raises(divergence.Diverged, match="step 3"):
        made.run()
    assert [row["seed"] for row in read(tmp_path)["rows"]] == [0]
    assert texts(made.diverged) == ["float/seed1"]
