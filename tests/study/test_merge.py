"""Studies in several folders, brought together."""

import dataclasses
import json
import shutil

import pytest

from jsnnq.config import LQNet, kernels, to_dict
from jsnnq.errors import InputError
from jsnnq.study import runner
from jsnnq.study.merge import merge
from tests.tiny import ORDER, ROWS, make, read, runs_of, tree, without_times


@pytest.fixture
def parts(tmp_path, faked, unreported):
    """One experiment done by two machines: other rows, and one in both."""
    a, b = tmp_path / "a", tmp_path / "b"
    choose = lambda rows: runner.Choice(rows=rows)
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
    merged = merge(parts, out, lines.append)
    assert merged == read(out)
    assert runs_of(merged) == ORDER
    assert [tree(part) for part in parts] == before
    # As if one machine had done it all.
    whole = make(tmp_path / "whole").run()
    for key in ("floor", "floor_range", "drift"):
        assert merged[key] == whole[key]
    assert without_times(merged)["rows"] == without_times(whole)["rows"]
    assert merged["paper"] == {"float": {"accuracy": 0.75, "grade": "S"}}
    by_name = lambda one: (one["name"], one["seed"])
    assert sorted(merged["planned"], key=by_name) == sorted(
        whole["planned"], key=by_name
    )
    # float/seed0 is in both, measured alike, at other times and by other commands.
    assert lines == []
    # Merged again nothing changes, and nothing is run again.
    kept = tree(out)
    merge(parts, out, lines.append)
    assert tree(out) == kept
    assert make(out).unfinished == []


def test_a_merged_study_goes_on_from_its_float_networks(parts, tmp_path):
    out = tmp_path / "both"
    merge(parts, out)
    kept = {path.parent.name for path in out.glob("runs/*/checkpoint")}
    assert kept == {"float-seed0", "float-seed1"}
    results = make(out, seeds=2, row_seeds=2).run()  # rows of seed 1 start from them
    assert len(results["rows"]) == len(ORDER) + 2


def test_what_diverged_is_known_after_a_merge(parts, tmp_path):
    a, b = parts
    shutil.rmtree(b / "runs" / "weights-lqnet-2bit-seed0")
    (b / "runs" / "weights-lqnet-2bit-seed0" / "last_good").mkdir(parents=True)
    lost = {"name": "weights-lqnet-2bit", "seed": 0}
    lost["config"] = to_dict(ROWS["weights-lqnet-2bit"])
    assert make(b, seeds=1).results()["diverged"] == [lost]
    results = b / "results.json"
    results.write_text(json.dumps(make(b, seeds=1).results()))
    merged = merge([a, b], tmp_path / "both")
    assert merged["diverged"] == [lost]


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
    merged = merge(parts, tmp_path / "both")
    assert len(merged["rows"]) == len(ORDER)
    assert make(a, choice=runner.Choice(rows="float.*")).unfinished == []


@pytest.mark.parametrize("text", ["{}", "[]", '{"rows": []}', '{"rows": {"a": 3}}'])
def test_a_marker_that_is_none_is_one_sentence(parts, tmp_path, text):
    a, b = parts
    (a / "study.json").write_text(text)
    with pytest.raises(InputError, match="is no study|not of this version"):
        merge([a, b], tmp_path / "both")
    with pytest.raises(InputError, match="is no study|not of this version"):
        make(a)


def test_a_result_is_never_written_over(parts, tmp_path):
    a, b = parts
    path = b / "runs" / "float-seed0" / "row.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accuracy": 0.1}))
    lines = []
    merged = merge([a, b], tmp_path / "both", lines.append)
    assert merged["rows"][0]["accuracy"] == 0.9
    (line,) = lines
    assert line.startswith(f"{path.parent} was run elsewhere too, with another result")
    turned = merge([b, a], tmp_path / "turned", lambda line: None)
    assert turned["rows"][0]["accuracy"] == 0.1
    # What is in the folder already stays, whichever comes first.
    again = merge([b], tmp_path / "both", lambda line: None)
    assert again["rows"][0]["accuracy"] == 0.9


def test_studies_that_disagree_are_not_merged(parts, tmp_path):
    other = dataclasses.replace(ROWS["weights-lqnet-2bit"], weights=kernels(LQNet(3)))
    make(tmp_path / "c", {**ROWS, "weights-lqnet-2bit": other}).run()
    make(tmp_path / "d", hold_out=100).run()
    out = tmp_path / "both"
    for odd, says in (
        ("c", "'weights-lqnet-2bit' of .*another exper"),
        ("d", "held-out training images"),
        (".", "is no study"),
    ):
        with pytest.raises(InputError, match=says):
            merge([*parts, tmp_path / odd], out)
    assert not out.exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        merge(parts, tmp_path / "thesis")


def test_a_merge_that_was_stopped_goes_on(parts, tmp_path, monkeypatch):
    copies, real = [], shutil.copyfile

    def die(source, target):
        copies.append(target)
        if len(copies) == 3:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", die)
    with pytest.raises(KeyboardInterrupt):
        merge(parts, tmp_path / "both")
    monkeypatch.undo()
    expected = merge(parts, tmp_path / "other")
    assert merge(parts, tmp_path / "both") == expected
