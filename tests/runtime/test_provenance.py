"""The commit of the installed source, where it is known."""

import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from jsnnq.runtime import provenance


@pytest.fixture
def installed(monkeypatch):
    """Says what pip wrote about where the package came from."""

    class Installed(NamedTuple):
        text: str | None

        def read_text(self, name):
            assert name == "direct_url.json"
            return self.text

    def write(text):
        found = Installed(text)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)

    return write


def test_an_installation_from_version_control_knows_its_commit(installed):
    vcs = {"vcs": "git", "commit_id": "abc123"}
    installed(json.dumps({"url": "x", "vcs_info": vcs}))
    assert provenance.installed_commit() == "abc123"


def test_a_checkout_is_asked_for_its_commit(installed):
    root = Path(provenance.__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    installed(None)
    command = ["git", "rev-parse", "HEAD"]
    head = subprocess.check_output(command, cwd=root, text=True).strip()
    assert provenance.installed_commit() in (head, f"{head}-dirty")


def test_without_version_control_no_commit_is_known(monkeypatch, tmp_path, installed):
    installed('{"dir_info": {}}')
    elsewhere = tmp_path / "jsnnq" / "runtime" / "run.py"
    monkeypatch.setattr(provenance, "__file__", str(elsewhere))
    assert provenance.installed_commit() is None


def test_a_git_that_is_missing_or_refuses_is_no_error(monkeypatch, installed):
    installed(None)

    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert provenance.installed_commit() is None
