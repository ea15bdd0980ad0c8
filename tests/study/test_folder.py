"""What is done of a study: made-up studies in folders, and reported."""

import json

import pytest

from jsnnq.config import to_dict
from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint
from jsnnq.study import folder
from jsnnq.study.jobs import plan
from tests import studies
from tests.tiny import ROWS, make

# What a row is expected to take.


CONFIGS = {name: to_dict(config) for name, config in ROWS.items()}


def done(out, name, seed, wall_s, device="cpu"):
    """A row that took so long."""
    row = {"name": name, "seed": seed, "kind": ROWS[name].kind}
    row |= {"start": ROWS[name].start, "config": CONFIGS[name]}
    row |= {"wall_s": wall_s, "made": {"device": device}}
    folder.claim(out, CONFIGS).add(row)


def expected(out, name, device="cpu"):
    jobs = {str(job.run): job for job in plan(ROWS, 3, 1)}
    return folder.StudyFolder(out).expected(jobs[name], device)


def test_of_a_first_row_nothing_is_known(tmp_path):
    folder.claim(tmp_path, CONFIGS)
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
    done(tmp_path, "float", 0, 30.0)
    partial = tmp_path / "runs" / "float-seed1" / "partial"
    for spent, left in ((12.0, 18), (50.0, None)):
        checkpoint.save(partial, {"step": 1}, {"wall_s": spent})
        assert expected(tmp_path, "float/seed1") == left


@pytest.mark.usefixtures("faked", "unreported")
def test_a_row_that_is_none_is_one_sentence(tmp_path):
    make(tmp_path).run()
    (tmp_path / "runs" / "float-seed0" / "row.json").write_text("{}")
    with pytest.raises(InputError, match="is no row of a study"):
        make(tmp_path).results()


# The report of a folder.


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', "3"])
def test_results_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError):
        folder.write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_report_shows_what_was_seen_inside_each_row(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(studies.binary()))
    seen = studies.looks()
    run = tmp_path / "runs" / "bnn-stompp-r18-seed1"
    run.mkdir(parents=True)
    lines = [{"windows": seen["windows"]}, *seen["looks"]]
    (run / "looks.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    written = [path.name for path in folder.write_report(tmp_path)]
    inside = [name for name in written if "inside" in name]
    assert inside == ["inside_bnn_resnet-18.png"]
