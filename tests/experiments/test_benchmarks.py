"""The benchmarks: what they time is what they say, and how they count."""

import json
import platform
import sys

import jax
import numpy as np
import pytest

from experiments.benchmarks import __main__ as command
from experiments.benchmarks import ours, page, rows, timing
from jsnnq.study import build

SMALL = rows.Settings(batches=(4,), width=1 / 16, rounds=1, devices=1)


def test_a_ratio_is_the_median_of_rounds_and_above_one_where_ours_is_faster(
    monkeypatch,
):
    turns, clock = [], iter([1.0, 3.0, 1.0, 4.0, 4.0, 4.0])

    def seconds(work):
        work()
        return next(clock)

    monkeypatch.setattr(timing, "seconds", seconds)
    work = lambda name: lambda: turns.append(name)
    row = timing.compare("name", work("a"), "peer", work("b"), 3)
    assert turns == ["a", "b"] * (timing.WARM + 3)
    assert row[1:3] == (1000.0, 4000.0)
    assert (row.ratio, row.range) == (3.0, (1.0, 4.0))


@pytest.mark.slow
def test_a_timed_step_is_the_step_of_the_row():
    config = ours.spiking(4, 1 / 16)
    state, numbers = ours.training(config)()
    program, before = ours.begun(config)
    assert program.batch == 4
    assert int(state.step) == int(before.step) + 1
    assert np.isfinite(numbers["loss"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, before.params)
    assert any(jax.tree.leaves(moved))


def test_the_name_of_a_row_says_what_is_not_as_usual():
    assert rows.Settings((4,), 1.0, 1, 1).named("step") == "step"
    two = rows.Settings((4,), 0.5, 1, 2)
    if jax.default_backend() == "cpu":
        assert two.named("step") == "step, 0.5 x the width, 2 CPU devices"
    assert two.named("step", width=0.25, devices=1) == "step, 0.125 x the width"


def test_what_is_evaluated_with_counts_and_without_is_the_same():
    config = ours.spiking(4, 1 / 16)
    _, counted = ours.evaluating(config)()
    assert int(counted.correct) == int(ours.predicting(config)())
    shapes = {counts.shape for counts in counted.counts.values()}
    assert (32, 32, 4) in shapes


def test_memory_grows_with_time_and_flops_are_linear_in_it():
    """XLA's own counts, which are exact: a step of 4 T takes less than 4 times 1 T."""
    flops, memory = {}, {}
    for count in (1, 4):
        config = ours.spiking(4, 1 / 16, count)
        network = build.network(config, 10)
        images = jax.ShapeDtypeStruct((4, 32, 32, 3), np.float32)
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        logits = jax.jit(lambda v, x, n=network: n.apply(v, x)[0])
        flops[count] = logits.lower(variables, images).cost_analysis()["flops"]
        memory[count] = ours.memory(config)
    # The stem is computed once, whatever T is.
    assert 3 < flops[4] / flops[1] < 4
    assert 2 < memory[4] / memory[1] < 5


def test_a_peer_that_is_not_here_is_skipped_with_its_reason(monkeypatch):
    monkeypatch.setattr(rows.peers, "missing", lambda *names: "torch not installed")
    found = list(rows.layers(SMALL))
    assert [one.reason for one in found] == ["torch not installed"] * 2
    wide = list(rows.training(SMALL))
    assert all("one width" in one.reason for one in wide)


def test_the_command_writes_results_and_a_table(tmp_path, monkeypatch, capsys):
    out = tmp_path / "cpu.json"
    typed = ["benchmarks", "--only", "distances", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", typed)
    monkeypatch.setattr(rows.peers, "missing", lambda *names: "not here")
    monkeypatch.setattr(jax.config, "update", lambda *arguments: None)
    command.main()
    found = json.loads(out.read_text())
    assert {"device", "versions", "commit", "rows", "skipped"} <= found.keys()
    assert found["versions"]["jax"] == jax.__version__
    row = found["rows"][0]
    keys = {*("name", "ours", "peer", "peer_name", "unit", "ratio", "range", "commit")}
    assert row.keys() == keys
    assert "| SciPy |" in capsys.readouterr().out
    # One group again takes the place of its rows and leaves the others.
    found["rows"][0]["ratio"] = 99.0
    found["rows"].append({**row, "name": "another group's"})
    out.write_text(json.dumps(found))
    command.main()
    again = json.loads(out.read_text())["rows"]
    assert [one["name"] for one in again] == ["another group's", row["name"]]
    assert again[1]["ratio"] != 99.0


def test_the_host_is_told_apart_from_another(tmp_path):
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n")
    arm.write_text("CPU implementer\t: 0x41\n")
    assert command._host(x86).startswith("AMD EPYC, family 25 model 17, ")
    for unknown in (arm, tmp_path / "none"):
        assert command._host(unknown).startswith(f"{platform.machine()}, ")


def test_the_page_shows_every_row_of_every_device(tmp_path):
    row = {"name": "a step", "ours": 10.0, "peer": 25.0, "peer_name": "SciPy"}
    row |= {"unit": "ms", "ratio": 2.5, "range": [2.0, 3.0], "commit": "0123456789abc"}
    found = {"device": "cpu", "host": "some CPU", "versions": {"jax": "0.10"}}
    found |= {"tunables": "glibc.malloc.hugetlb=1", "rows": [row]}
    found["skipped"] = [{"name": "another", "reason": "torch not installed"}]
    (tmp_path / "cpu.json").write_text(json.dumps(found))
    (tmp_path / "cpu.md").write_text("Why it is so.\n")
    (tmp_path / "other.json").write_text("{}")
    text = page.page(tmp_path)
    assert "| a step | 10 ms | SciPy | 25 ms | 2.50 (2.00 to 3.00) |" in text
    told = "memory as told, `glibc.malloc.hugetlb=1`"
    assert f"some CPU, jax 0.10; {told}; commit 0123456789" in text
    assert "Skipped: another (torch not installed)" in text
    assert text.endswith("Why it is so.\n")


def test_the_page_is_that_of_the_results():
    """Written by `python -m experiments.benchmarks`."""
    written = (page.FOLDER / "README.md").read_text(encoding="utf-8")
    assert written == page.page()
