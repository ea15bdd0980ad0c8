"""What is done of a study: made-up studies in folders, reported and merged."""

import dataclasses
import json
import shutil

import pytest

from jsnnq import ledger, study
from jsnnq.config import LQNet, kernels, to_dict
from jsnnq.errors import InputError
from jsnnq.plan import plan
from tests import studies
from tests.test_study import ORDER, ROWS, fake_execute, make, read, tree, without_times


@pytest.fixture
def faked(monkeypatch, uncompiled):
    monkeypatch.setattr(study, "execute", fake_execute)


# What a row is expected to take.


def done(out, name, seed, wall_s, device="cpu", rows=ROWS):
    """A row that took so long."""
    config = rows[name]
    row = {"name": name, "seed": seed, "kind": config.kind, "start": config.start}
    made = {"device": device}
    row |= {"config": to_dict(config), "wall_s": wall_s, "made": made}
    ledger.claim(out, {name: to_dict(config) for name, config in rows.items()}).add(row)


def expected(out, name, device="cpu"):
    jobs = {job.key: job for job in plan(ROWS, 3, 1)}
    return ledger.Ledger(out).expected(jobs[name], device)


def test_of_a_first_row_nothing_is_known(tmp_path):
    ledger.claim(tmp_path, {name: to_dict(row) for name, row in ROWS.items()})
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


# Several folders.


@pytest.fixture
def parts(tmp_path, faked, unreported):
    """One experiment done by two machines: other rows, and one in both."""
    a, b = tmp_path / "a", tmp_path / "b"
    choose = lambda rows: study.Choice(rows=rows)
    paper = {"float": {"accuracy": 0.75, "grade": "S"}}
    make(a, choice=choose("float.*"), paper=paper).run()
    make(b, seeds=1, choice=choose("weights-.*")).run()
    again = b / "runs" / "float-seed0" / "row.json"
    row = json.loads(again.read_text())
    made = {**row["made"], "command": "typed elsewhere"}
    again.write_text(json.dumps({**row, "wall_s": 2.0, "made": made}))
    return a, b


def test_merged_folders_are_one_study(parts, tmp_path, unreported):
    out, lines = tmp_path / "both", []
    before = [tree(part) for part in parts]
    merged = ledger.merge(parts, out, lines.append)
    assert merged == read(out)
    assert [(row["name"], row["seed"]) for row in merged["rows"]] == ORDER
    assert [tree(part) for part in parts] == before
    # As if one machine had done it all.
    whole = make(tmp_path / "whole").run()
    for key in ("floor", "floor_range", "drift"):
        assert merged[key] == whole[key]
    assert without_times(merged)["rows"] == without_times(whole)["rows"]
    assert merged["paper"] == {"float": {"accuracy": 0.75, "grade": "S"}}
    assert set(merged["planned"]) == set(whole["planned"])
    # float/seed0 is in both, measured alike, at other times and by other commands.
    assert lines == []
    # Merged again nothing changes, and nothing is run again.
    kept = tree(out)
    ledger.merge(parts, out, lines.append)
    assert tree(out) == kept
    assert make(out).unfinished == []


def test_a_merged_study_goes_on_from_its_float_networks(parts, tmp_path):
    out = tmp_path / "both"
    ledger.merge(parts, out)
    kept = {path.parent.name for path in out.glob("runs/*/checkpoint")}
    assert kept == {"float-seed0", "float-seed1"}
    results = make(out, seeds=2, row_seeds=2).run()  # rows of seed 1 start from them
    assert len(results["rows"]) == len(ORDER) + 2


def test_what_diverged_is_known_after_a_merge(parts, tmp_path):
    a, b = parts
    shutil.rmtree(b / "runs" / "weights-lqnet-2bit-seed0")
    (b / "runs" / "weights-lqnet-2bit-seed0" / "last_good").mkdir(parents=True)
    assert make(b, seeds=1).results()["diverged"] == ["weights-lqnet-2bit/seed0"]
    results = b / "results.json"
    results.write_text(json.dumps(make(b, seeds=1).results()))
    merged = ledger.merge([a, b], tmp_path / "both")
    assert merged["diverged"] == ["weights-lqnet-2bit/seed0"]


def test_folders_of_older_versions_are_read(parts, tmp_path):
    """Which knew fewer settings, kept seeds in the marker and no provenance by row."""
    a, _ = parts
    marker = a / "study.json"
    known = json.loads(marker.read_text())
    for row in known["rows"].values():
        for _, quantizer in (*row["weights"], *row["membranes"]):
            quantizer.pop("ridge", None)
    marker.write_text(json.dumps({**known, "seeds": 2, "row_seeds": 1}))
    for path in a.glob("runs/*/row.json"):
        row = json.loads(path.read_text())
        row.pop("made")
        path.write_text(json.dumps(row))
    merged = ledger.merge(parts, tmp_path / "both")
    assert len(merged["rows"]) == len(ORDER)
    assert make(a, choice=study.Choice(rows="float.*")).unfinished == []


@pytest.mark.parametrize("text", ["{}", "[]", '{"rows": []}', '{"rows": {"a": 3}}'])
def test_a_marker_that_is_none_is_one_sentence(parts, tmp_path, text):
    a, b = parts
    (a / "study.json").write_text(text)
    with pytest.raises(InputError, match="is no study|not of this version"):
        ledger.merge([a, b], tmp_path / "both")
    with pytest.raises(InputError, match="is no study|not of this version"):
        make(a)


def test_a_row_that_is_none_is_one_sentence(parts):
    a, _ = parts
    (a / "runs" / "float-seed0" / "row.json").write_text("{}")
    with pytest.raises(InputError, match="is no row of a study"):
        make(a).results()


def test_a_result_is_never_written_over(parts, tmp_path):
    a, b = parts
    path = b / "runs" / "float-seed0" / "row.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accuracy": 0.1}))
    lines = []
    merged = ledger.merge([a, b], tmp_path / "both", lines.append)
    assert merged["rows"][0]["accuracy"] == 0.9
    (line,) = lines
    assert line.startswith(f"{path.parent} was run elsewhere too, with another result")
    turned = ledger.merge([b, a], tmp_path / "turned", lambda line: None)
    assert turned["rows"][0]["accuracy"] == 0.1
    # What is in the folder already stays, whichever comes first.
    again = ledger.merge([b], tmp_path / "both", lambda line: None)
    assert again["rows"][0]["accuracy"] == 0.9


def test_studies_that_disagree_are_not_merged(parts, tmp_path):
    other = {**ROWS, "weights-lqnet-2bit": dataclasses.replace(ROWS["float"])}
    other["weights-lqnet-2bit"] = dataclasses.replace(
        ROWS["float"], start="post-training", weights=kernels(LQNet(3))
    )
    make(tmp_path / "c", other).run()
    out = tmp_path / "both"
    with pytest.raises(InputError, match="'weights-lqnet-2bit' of .*another exper"):
        ledger.merge([*parts, tmp_path / "c"], out)
    make(tmp_path / "d", hold_out=100).run()
    with pytest.raises(InputError, match="held-out training images"):
        ledger.merge([*parts, tmp_path / "d"], out)
    with pytest.raises(InputError, match="is no study"):
        ledger.merge([*parts, tmp_path], out)
    assert not out.exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        ledger.merge(parts, tmp_path / "thesis")


def test_a_merge_that_was_stopped_goes_on(parts, tmp_path, monkeypatch):
    copies, real = [], shutil.copyfile

    def die(source, target):
        copies.append(target)
        if len(copies) == 3:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", die)
    with pytest.raises(KeyboardInterrupt):
        ledger.merge(parts, tmp_path / "both")
    monkeypatch.undo()
    expected = ledger.merge(parts, tmp_path / "other")
    assert ledger.merge(parts, tmp_path / "both") == expected


# The report of a folder.


def test_a_report_needs_results(tmp_path):
    with pytest.raises(InputError, match="no results.json"):
        ledger.write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', "3"])
def test_results_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError):
        ledger.write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.usefixtures("faked")
def test_a_report_is_written_again_from_the_folder(tmp_path):
    make(tmp_path).run()
    kept = (tmp_path / "report.md").read_bytes()
    for name in ("report.md", "report.html", "results.csv"):
        (tmp_path / name).unlink()
    ledger.write_report(tmp_path)
    assert (tmp_path / "report.md").read_bytes() == kept
    assert (tmp_path / "report.html").exists()


def test_a_report_shows_what_was_seen_inside_each_row(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(studies.binary()))
    seen = studies.looks()
    folder = tmp_path / "runs" / "bnn-stompp-r18-seed1"
    folder.mkdir(parents=True)
    lines = [{"windows": seen["windows"]}, *seen["looks"]]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "looks.jsonl").write_text(text)
    written = {path.name for path in ledger.write_report(tmp_path)}
    assert {name for name in written if "inside" in name} == {"inside_bnn_r18.png"}
