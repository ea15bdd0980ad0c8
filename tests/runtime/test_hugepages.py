"""Huge pages are asked for once, and everything else of the process stays."""

import json
import os
import subprocess
import sys

import pytest

from jsnnq.runtime import hugepages
from tests.programs import python

# A program that says how it was started, and what it was told.
_PROGRAM = """
import json, os, pathlib, sys
from jsnnq.runtime import hugepages
hugepages._SETTING = pathlib.Path(sys.argv[1])
print("begun", flush=True)
hugepages.begin_again()
print(json.dumps([os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], os.getpid()]))
"""
ASKED = "glibc.malloc.hugetlb=1"


def begun(setting, *typed, tunables=None):
    """How often it began, and what it found the last time."""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(setting), *typed],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    *before, last = program.communicate()[0].splitlines()
    assert program.returncode == 0
    found, arguments, process = json.loads(last)
    assert process == program.pid  # So that signals reach it.
    assert arguments == [str(setting), *typed]
    return len(before), found


@pytest.fixture
def setting(tmp_path):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


def test_a_process_begins_again_once_with_what_was_typed(setting):
    assert begun(setting, "--out", "a b", "*") == (2, ASKED)


def test_other_tunables_stay(setting):
    other = "glibc.malloc.arena_max=2"
    assert begun(setting, tunables=other) == (2, f"{other}:{ASKED}")


def test_what_was_set_by_hand_stays(setting):
    off = "glibc.malloc.hugetlb=0"
    assert begun(setting, tunables=off) == (1, off)


@pytest.mark.parametrize("words", ["[always] madvise never", "always madvise [never]"])
def test_nothing_happens_where_nothing_is_given_on_request(setting, words):
    setting.write_text(words)
    assert begun(setting) == (1, None)


def test_nothing_happens_on_other_systems(setting):
    setting.unlink()
    assert begun(setting) == (1, None)


def test_nothing_happens_in_a_program_that_calls_the_command(monkeypatch, capsys):
    from jsnnq.cli import main

    monkeypatch.setattr(hugepages, "begin_again", lambda: pytest.fail("began again"))
    assert main(["report", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.skipif(
    not hugepages._on_request(),
    reason="this system does not give huge pages on request",
)
def test_memory_of_a_process_that_asked_is_in_huge_pages():
    """Linux' own count of the memory that a program filled."""
    code = "x = bytearray(64 << 20)\n"
    code += "print(open('/proc/self/smaps_rollup').read())"
    in_kib = {}
    for tunables in (None, ASKED):
        found = python(code, GLIBC_TUNABLES=tunables).stdout
        line = next(x for x in found.splitlines() if x.startswith("AnonHuge"))
        in_kib[tunables] = int(line.split()[1])
    # One of 2 MiB at least: where memory is in pieces the system has not many.
    assert in_kib[ASKED] >= in_kib[None] + 2 * 2**10
