"""The public names of the package, which cost nothing until they are used."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import jsnnq
from tests.programs import python

STUB = ast.parse(Path(jsnnq.__file__).with_suffix(".pyi").read_text())
NAMES = {
    alias.name: (node.module, alias.asname)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def test_every_name_of_the_stub_can_be_imported_and_is_what_it_says():
    assert sorted(NAMES) == sorted(jsnnq.__all__)
    for name, (room, again) in NAMES.items():
        assert again == name  # the stub's loader does not know other names
        found = getattr(jsnnq, name)
        assert found is getattr(importlib.import_module(f"jsnnq.{room}"), name)
        assert inspect.getdoc(found)


def test_nothing_large_is_imported_before_it_is_used():
    """So that `jsnnq --help` is quick, and a command can begin again at no cost."""
    code = "import sys, jsnnq.cli\n"
    code += "print({'jax', 'flax', 'numpy', 'optax', 'rich'} & set(sys.modules))\n"
    code += "jsnnq.uniform\n"
    code += "print({'jax', 'numpy'} - set(sys.modules))"
    assert python(code).stdout.split() == ["set()", "set()"]


def test_the_command_line_is_a_module_too():
    enter = lambda *typed: subprocess.run(
        [sys.executable, "-m", "jsnnq", *typed], capture_output=True, text=True
    )
    found = enter("--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("usage: jsnnq ")
    refused = enter("train", "--no-such-option")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("jsnnq: ")
