"""The import contract of pyproject.toml, held by import-linter."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent


def rooms():
    """What stands directly in the package: modules and packages."""
    modules = {path.stem for path in (ROOT / "jsnnq").glob("*.py")}
    packages = {path.parent.name for path in (ROOT / "jsnnq").glob("*/__init__.py")}
    return modules - {"__init__", "__main__"} | packages


@pytest.fixture
def restored():
    """import-linter changes directory, path and logging; all of it comes back."""
    directory, path = Path.cwd(), list(sys.path)
    loggers = [
        x for x in logging.root.manager.loggerDict.values() if hasattr(x, "name")
    ]
    disabled = [logger.disabled for logger in loggers]
    yield
    os.chdir(directory)
    sys.path[:] = path
    for logger, was in zip(loggers, disabled, strict=True):
        logger.disabled = was


def test_no_room_breaks_the_contract(restored, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_the_contract_names_every_room_and_a_broken_one_is_seen(tmp_path):
    """A room that climbs the stairs, in a copy of the tree, fails the same check."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("jsnnq", "experiments"):
        shutil.copytree(ROOT / package, tmp_path / package)
    room = tmp_path / "jsnnq" / "errors.py"
    room.write_text(room.read_text() + "\nfrom jsnnq import config as _config\n")
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert "jsnnq.errors -> jsnnq.config" in found.stdout


def test_every_room_has_a_floor():
    """`exhaustive` is what makes a new file without a floor fail."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stairs = options["tool"]["importlinter"]["contracts"][0]
    assert stairs["exhaustive"] is True
    floors = {room.strip() for floor in stairs["layers"] for room in floor.split("|")}
    assert rooms() == floors


def test_the_readme_lists_every_room_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## The tree")[1].split("```")[1]
    listed = re.findall(r"^  (\w+)(?:\.py|/) ", tree, re.MULTILINE)
    assert sorted(listed) == sorted(rooms())
