"""What is refused before anything is computed."""

import re
import tomllib
from pathlib import Path

import pytest

from jsnnq.errors import WRONG_COMPILERS, InputError, check_compiler
from tests.programs import python

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def with_jaxlib(version, folder, code, returns):
    """Runs Python where importlib finds another version of jaxlib."""
    there = folder / f"jaxlib-{version}.dist-info"
    there.mkdir()
    (there / "METADATA").write_text(f"Name: jaxlib\nVersion: {version}\n")
    return python(code, returns=returns, PYTHONPATH=str(folder))


@pytest.mark.parametrize("version", WRONG_COMPILERS)
@pytest.mark.parametrize(
    "code", ["import jsnnq; jsnnq.rates", "from jsnnq.networks.layers import Rules"]
)
def test_a_compiler_that_computes_wrong_numbers_is_refused(version, code, tmp_path):
    found = with_jaxlib(version, tmp_path, code, returns=1)
    last = found.stderr.splitlines()[-1]
    assert re.match(rf"jsnnq.errors.InputError: jaxlib {version} .*pip install", last)


def test_the_command_line_refuses_it_in_one_sentence(tmp_path):
    code = "import sys; from jsnnq.cli import main; sys.exit(main(['evaluate', 'NET']))"
    found = with_jaxlib("0.10.2", tmp_path, code, returns=2)
    assert re.fullmatch(r".*jaxlib 0\.10\.2 computes wrong sums.*\n", found.stderr)


def test_others_are_not_refused():
    for version in ("0.10.0", "0.10.1", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1"):
        check_compiler(version)
    check_compiler()
    with pytest.raises(InputError, match="'jaxlib!=0.10.2'"):
        check_compiler("0.10.2")


def test_what_is_refused_is_not_installed_either():
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["cuda"], *extras["tpu"]]
    of_jax = [one for one in named if re.match(r"jax(lib|\[\w+\])?[>=]", one)]
    assert len(of_jax) == 4
    for version in WRONG_COMPILERS:
        assert all(f"!={version}" in one for one in of_jax)
