"""The commit of the installed source, where it is known."""

import importlib.metadata
import json
import subprocess
from pathlib import Path

import pytest

from jsnnq.runtime import provenance


class Installed:
    def __init__(self, text):
        self.text = text

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.text


def test_an_installation_from_version_control_knows_its_commit(monkeypatch):
    text = json.dumps({"url": "x", "vcs_info": {"vcs": "git", "commit_id": "abc123"}})
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: Installed(text)
    )
    assert provenance.installed_commit() == "abc123"


def test_a_checkout_is_asked_for_its_commit(monkeypatch):
    root = Path(provenance.__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: Installed(None)
    )
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True
    )
    assert provenance.installed_commit() in (
        asked.stdout.strip(),
        asked.stdout.strip() + "-dirty",
    )


def test_without_version_control_no_commit_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: Installed('{"dir_info": {}}')
    )
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "jsnnq" / "runtime" / "run.py")
    )
    assert provenance.installed_commit() is None


def test_a_git_that_is_missing_or_refuses_is_no_error(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: Installed(None)
    )

    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert provenance.installed_commit() is None
