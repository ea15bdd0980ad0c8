"""Files that are whole or absent, and folders that belong to one purpose."""

import json
import os

import pytest

from jsnnq.errors import InputError
from jsnnq.runtime.files import claim, read_json, write_json

IDENTITY = {"seeds": 2, "rows": {"float": {"rate": 0.1, "rules": [["a", None]]}}}


def files(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_json_comes_back_and_nothing_else_is_left(tmp_path):
    values = {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    write_json(tmp_path / "x.json", {"old": 1})
    write_json(tmp_path / "x.json", values)
    assert read_json(tmp_path / "x.json") == values
    assert list(files(tmp_path)) == ["x.json"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def killed(source, target):
        assert json.loads(source.read_text()) == {"new": 2}
        assert read_json(target) == {"old": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path) if step == "write_bytes" else os, step, full)
    with pytest.raises(InputError, match="No space left on device.*type the same"):
        write_json(path, {"new": 2})
    monkeypatch.undo()
    assert read_json(path) == {"old": 1}
    assert list(files(tmp_path)) == ["x.json"]


def test_what_json_cannot_hold_is_a_defect_and_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not files(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"\0" * 20])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "row.json").write_bytes(content)
    with pytest.raises(InputError, match="row.json' is damaged") as caught:
        read_json(tmp_path / "row.json")
    assert "\n" not in str(caught.value)


# Folders.


@pytest.mark.parametrize("existing", [False, True])
def test_a_new_or_empty_folder_is_taken_and_known_again(tmp_path, existing):
    folder = tmp_path / "a" / "b"
    if existing:
        folder.mkdir(parents=True)
    claim(folder, "study.json", IDENTITY)
    assert read_json(folder / "study.json") == IDENTITY
    (folder / "more").write_text("results")
    before = files(folder)
    claim(folder, "study.json", IDENTITY)
    assert files(folder) == before


def test_tuples_are_known_again_as_lists(tmp_path):
    claim(tmp_path / "x", "study.json", {"rules": (("a", 1),)})
    claim(tmp_path / "x", "study.json", {"rules": (("a", 1),)})


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ({**IDENTITY, "seeds": 3}, "seeds was 2, is 3"),
        ({**IDENTITY, "title": "x"}, "title is new"),
        ({"rows": IDENTITY["rows"]}, "seeds is gone"),
        (
            {"seeds": 2, "rows": {"float": {"rate": 0.2, "rules": [["a", None]]}}},
            r"rows\.float\.rate was 0\.1, is 0\.2",
        ),
        (
            {"seeds": 2, "rows": {"float": {"rate": 0.1, "rules": [["b", None]]}}},
            r"rows\.float\.rules was \[\['a', None\]\], is \[\['b', None\]\]",
        ),
    ],
)
def test_another_purpose_is_refused_by_its_first_difference(tmp_path, identity, says):
    claim(tmp_path / "x", "study.json", IDENTITY)
    with pytest.raises(InputError, match=says) as caught:
        claim(tmp_path / "x", "study.json", identity)
    assert "another configuration" in str(caught.value)
    assert read_json(tmp_path / "x" / "study.json") == IDENTITY


@pytest.mark.parametrize(
    ("there", "asked", "says"),
    [
        ("x", "x", "is a file.*--out"),
        ("x", "x/y", "cannot write into.*--out"),
        ("x", "é" * 200, "File name too long.*--out"),
        ("thesis.tex", "", "is not empty.*--out"),
        (".hidden", "", "is not empty.*--out"),
        ("run.json", "", "is not empty.*--out"),
    ],
)
def test_what_cannot_be_claimed_is_left_alone(tmp_path, there, asked, says):
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match=says):
        claim(tmp_path / asked, "study.json", IDENTITY)
    assert files(tmp_path) == {there: "mine"}


def test_what_an_older_version_wrote_is_compared_as_it_is_written_today(tmp_path):
    claim(tmp_path, "study.json", {"bits": 2})
    today = {"bits": 2, "start": "qem"}
    claim(tmp_path, "study.json", today, lambda known: {**known, "start": "qem"})
    with pytest.raises(InputError, match="start is new"):
        claim(tmp_path, "study.json", today)


def test_what_a_kill_left_of_the_claim_itself_is_no_obstacle(tmp_path):
    (tmp_path / ".study.json.partial").write_text('{"see')
    claim(tmp_path, "study.json", IDENTITY)
    assert read_json(tmp_path / "study.json") == IDENTITY
    assert list(files(tmp_path)) == ["study.json"]


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    """A user's permissions do not bind root, so the refusal is put on."""

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(InputError, match="Permission denied.*you may write to"):
        claim(tmp_path / "x", "study.json", IDENTITY)
    assert not files(tmp_path)


def test_a_damaged_claim_is_named(tmp_path):
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(InputError, match="study.json' is damaged"):
        claim(tmp_path, "study.json", IDENTITY)
