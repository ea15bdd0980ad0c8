"""The import contract of pyproject.toml, held by import-linter."""

import ast
import re
import shutil
import tomllib
from pathlib import Path

from tests.programs import python

ROOT = Path(__file__).parent.parent
STAIRS = tomllib.loads((ROOT / "pyproject.toml").read_text())
STAIRS = STAIRS["tool"]["importlinter"]["contracts"][0]


def rooms():
    """What stands directly in the package: modules and packages."""
    modules = {path.stem for path in (ROOT / "jsnnq").glob("*.py")}
    packages = {path.parent.name for path in (ROOT / "jsnnq").glob("*/__init__.py")}
    return modules - {"__init__", "__main__"} | packages


# import-linter changes the directory, the path and the logging of its process.
LINT = "from importlinter.cli import lint_imports_command as c; c()"


def test_no_room_breaks_the_contract():
    python(LINT, "--no-cache", cwd=ROOT, PYTHONPATH=str(ROOT))


def test_the_contract_names_every_room_and_a_broken_one_is_seen(tmp_path):
    """A room that climbs the stairs, in a copy of the tree, fails the same check."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("jsnnq", "experiments"):
        shutil.copytree(ROOT / package, tmp_path / package)
    room = tmp_path / "jsnnq" / "errors.py"
    room.write_text(room.read_text() + "\nfrom jsnnq import config as _config\n")
    alone = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path)}
    found = python(LINT, "--no-cache", returns=1, **alone)
    assert "jsnnq.errors -> jsnnq.config" in found.stdout


def test_every_room_has_a_floor():
    """`exhaustive` is what makes a new file without a floor fail."""
    assert STAIRS["exhaustive"] is True
    floors = {room.strip() for floor in STAIRS["layers"] for room in floor.split("|")}
    assert rooms() == floors


def test_the_readme_lists_every_room_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## The tree")[1].split("```")[1]
    listed = re.findall(r"^  (\w+)(?:\.py|/) ", tree, re.MULTILINE)
    assert sorted(listed) == sorted(rooms())
    floors = [floor.split(" | ") for floor in STAIRS["layers"]]
    order = [listed.index(room) for floor in floors for room in floor]
    assert order == sorted(order)  # As one goes down.


def test_every_package_says_what_its_rooms_are():
    for init in (ROOT / "jsnnq").glob("**/__init__.py"):
        if init.parent != ROOT / "jsnnq":
            said = ast.get_docstring(ast.parse(init.read_text()))
            inside = {p.stem for p in init.parent.glob("*.py")}
            inside |= {p.parent.name for p in init.parent.glob("*/__init__.py")}
            for room in inside - {"__init__", "__main__"}:
                assert f"`{room}`" in said, (init, room)


def test_the_tests_stand_as_what_they_test_does():
    """A test of a room is in the folder of its package."""
    rooms_of = lambda root: {
        path.parent.relative_to(root) / path.stem.removeprefix("test_")
        for path in root.glob("**/*.py")
    }
    library = rooms_of(ROOT / "jsnnq")
    for path in (ROOT / "tests").glob("**/test_*.py"):
        inside = path.parent.relative_to(ROOT / "tests")
        if inside.name == "experiments":
            continue
        assert (ROOT / "jsnnq" / inside).is_dir()
        moved = [
            room for room in library if room.name == path.stem.removeprefix("test_")
        ]
        assert not moved or inside in {room.parent for room in moved}, path


def test_few_modules_stand_in_the_package_itself():
    assert len(list((ROOT / "jsnnq").glob("*.py"))) <= 6
