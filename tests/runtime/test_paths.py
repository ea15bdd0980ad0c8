"""A directory under a path that is nothing but a path."""

import os
import tempfile
from pathlib import Path

import pytest

from jsnnq.errors import InputError
from jsnnq.runtime.paths import plainly_named


@pytest.fixture
def links(tmp_path, monkeypatch):
    """Where links lie."""
    (tmp_path / "links").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "links"))
    return tmp_path / "links"


@pytest.mark.parametrize("name", ["plain", "with blanks", "v1.0_a-b"])
def test_a_plain_path_stays_itself_and_becomes_absolute(
    tmp_path, monkeypatch, links, name
):
    monkeypatch.chdir(tmp_path)
    with plainly_named(Path(name)) as place:
        assert place == tmp_path / name
        assert not os.listdir(links)


@pytest.mark.parametrize("name", ["x[1]", "~", "gs:", "back\\slash", "é", "a/b*/c"])
def test_another_path_is_called_by_a_link_while_it_lasts(
    tmp_path, monkeypatch, links, name
):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(parents=True)
    with plainly_named(Path(name)) as place:
        assert place.is_relative_to(links)
        (place / "new").write_text("kept")
        assert os.path.samefile(place, name)
    assert (tmp_path / name / "new").read_text() == "kept"
    assert not os.listdir(links)


def test_a_temporary_folder_that_is_not_plain_either_is_a_sentence(tmp_path):
    (tmp_path / "[t]").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "[t]"))
        with (
            pytest.raises(InputError, match="TMPDIR"),
            plainly_named(tmp_path / "x[1]"),
        ):
            pass
        with plainly_named(tmp_path) as place:
            assert place == tmp_path
    assert not os.listdir(tmp_path / "[t]")
