"""What is done of a study: made-up studies in folders, and reported."""

import json

import pytest

from jsnnq.config import to_dict
from jsnnq.errors import InputError
from jsnnq.study import folder, runner
from jsnnq.study.jobs import plan
from tests import studies
from tests.study.test_runner import ROWS, fake_execute, make


@pytest.fixture
def faked(monkeypatch, uncompiled):
    monkeypatch.setattr(runner, "execute", fake_execute)


# What a row is expected to take.


def done(out, name, seed, wall_s, device="cpu", rows=ROWS):
    """A row that took so long."""
    config = rows[name]
    row = {"name": name, "seed": seed, "kind": config.kind, "start": config.start}
    made = {"device": device}
    row |= {"config": to_dict(config), "wall_s": wall_s, "made": made}
    folder.claim(out, {name: to_dict(config) for name, config in rows.items()}).add(row)


def expected(out, name, device="cpu"):
    jobs = {str(job.run): job for job in plan(ROWS, 3, 1)}
    return folder.StudyFolder(out).expected(jobs[name], device)


def test_of_a_first_row_nothing_is_known(tmp_path):
    folder.claim(tmp_path, {name: to_dict(row) for name, row in ROWS.items()})
    assert expected(tmp_path, "float/seed0") is None


def test_a_row_takes_what_it_took_with_another_seed(tmp_path):
    done(tmp_path, "float", 0, 30.0)
    done(tmp_path, "float", 1, 40.0)
    assert expected(tmp_path, "float/seed2") == 40


def test_a_row_that_was_never_run_takes_what_rows_with_its_training_took(tmp_path):
    done(tmp_path, "float", 0, 30.0)
    assert expected(tmp_path, "weights-uniform-2bit/seed0") is None  # fine-tuned
    done(tmp_path, "float-finetuned", 0, 7.0)
    assert expected(tmp_path, "weights-uniform-2bit/seed0") == 7
    assert expected(tmp_path, "weights-lqnet-2bit/seed0") is None  # post-training


def test_another_device_says_nothing_of_this_one(tmp_path):
    done(tmp_path, "float", 0, 30.0, device="NVIDIA H200")
    assert expected(tmp_path, "float/seed1") is None
    assert expected(tmp_path, "float/seed1", "NVIDIA H200") == 30


def test_what_was_done_of_a_row_is_taken_off(tmp_path):
    from jsnnq.runtime import checkpoint

    done(tmp_path, "float", 0, 30.0)
    partial = tmp_path / "runs" / "float-seed1" / "partial"
    checkpoint.save(partial, {"step": 1}, {"wall_s": 12.0})
    assert expected(tmp_path, "float/seed1") == 18
    checkpoint.save(partial, {"step": 1}, {"wall_s": 50.0})
    assert expected(tmp_path, "float/seed1") is None


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_that_is_none_is_one_sentence(tmp_path):
    make(tmp_path).run()
    (tmp_path / "runs" / "float-seed0" / "row.json").write_text("{}")
    with pytest.raises(InputError, match="is no row of a study"):
        make(tmp_path).results()


# The report of a folder.


def test_a_report_needs_results(tmp_path):
    with pytest.raises(InputError, match="no results.json"):
        folder.write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', "3"])
def test_results_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError):
        folder.write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.usefixtures("faked")
def test_a_report_is_written_again_from_the_folder(tmp_path):
    make(tmp_path).run()
    kept = (tmp_path / "report.md").read_bytes()
    for name in ("report.md", "report.html", "results.csv"):
        (tmp_path / name).unlink()
    folder.write_report(tmp_path)
    assert (tmp_path / "report.md").read_bytes() == kept
    assert (tmp_path / "report.html").exists()


def test_a_report_shows_what_was_seen_inside_each_row(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(studies.binary()))
    seen = studies.looks()
    run = tmp_path / "runs" / "bnn-stompp-r18-seed1"
    run.mkdir(parents=True)
    lines = [{"windows": seen["windows"]}, *seen["looks"]]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "looks.jsonl").write_text(text)
    written = {path.name for path in folder.write_report(tmp_path)}
    assert {name for name in written if "inside" in name} == {
        "inside_bnn_resnet-18.png"
    }
