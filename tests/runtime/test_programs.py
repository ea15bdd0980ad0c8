"""Programs are kept for the next process, each test in a cache folder of its own."""

import os
import stat
import zlib

import pytest

from jsnnq.errors import InputError
from jsnnq.runtime import programs
from tests.programs import python

COUNTED = """
import collections, jax
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
def counted():
    asked = seen["/jax/compilation_cache/compile_requests_use_cache"]
    return asked, seen["/jax/compilation_cache/cache_hits"]
"""

SMALL = (
    COUNTED
    + """
from jsnnq.runtime import programs
programs.keep()
seen.clear()
x = jax.numpy.linspace(0, 1, 99)
print(jax.jit(lambda x: jax.numpy.sin(x).sum())(x).item().hex(), *counted())
"""
)

TRAINED = (
    COUNTED
    + """
import hashlib, sys, jsnnq, optax
jax.numpy.zeros(3) + 1  # What a program did before is no hindrance.
data = jsnnq.load_data("synthetic")
net = jsnnq.sew_resnet("sew_resnet_tiny", classes=10, timesteps=2)
net = jsnnq.quantize(net, weights=jsnnq.lqnet(2), membranes=jsnnq.uniform(4))
rule = optax.sgd(0.1, 0.9)
seen.clear()
state = jsnnq.fit(net, data, rule, epochs=1, batch=256, quiet=True)
found = jsnnq.evaluate(net, state, data)
leaves = jax.tree.leaves((state.variables, found.counts, found.loss))
digest = hashlib.sha256(b"".join(jax.numpy.asarray(x).tobytes() for x in leaves))
print(digest.hexdigest(), *counted())
"""
)


def run(code, cache, **environment):
    """What a process says: its numbers, programs asked for, and programs found."""
    usual = {
        "XDG_CACHE_HOME": str(cache),
        programs.VARIABLE: None,
        "JAX_COMPILATION_CACHE_DIR": None,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    found = python(code, **usual | environment)
    assert not found.stderr
    numbers, asked, hits = found.stdout.split()
    return numbers, int(asked), int(hits)


def entries(cache):
    return sorted(cache.rglob("*-cache"))


def test_a_second_process_compiles_nothing_and_has_the_same_numbers(tmp_path):
    first, asked, hits = run(TRAINED, tmp_path)
    kept = {path: path.read_bytes() for path in entries(tmp_path)}
    # One was compiled to see whether programs can be read, before there was a folder.
    # Some are asked for twice: calibration draws for every layer by itself.
    assert asked - 1 == len(kept) + hits > 2 * hits
    assert run(TRAINED, tmp_path) == (first, asked, asked - 1)
    assert {path: path.read_bytes() for path in entries(tmp_path)} == kept
    assert run(TRAINED, tmp_path, **{programs.VARIABLE: "off"})[::2] == (first, 0)


@pytest.mark.parametrize(
    "off", [{programs.VARIABLE: "off"}, {"JAX_ENABLE_COMPILATION_CACHE": "0"}]
)
def test_off_is_off(tmp_path, off):
    assert run(SMALL, tmp_path, **off)[2] == 0
    assert not entries(tmp_path)


def test_a_folder_of_the_users_own_is_left_to_jax(tmp_path):
    own = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    assert run(SMALL, tmp_path / "ours", **own)[2] == 0
    assert not (tmp_path / "ours").exists()
    assert entries(tmp_path / "own")


def test_what_the_variable_says_is_on_or_off(monkeypatch):
    monkeypatch.setenv(programs.VARIABLE, "no")
    programs.keep.cache_clear()
    with pytest.raises(InputError, match=f"{programs.VARIABLE} 'no'.*'off', 'on'"):
        programs.keep()


@pytest.mark.parametrize(
    "other",
    [
        "import importlib.metadata as m; known = m.version\n"
        "m.version = lambda name: '9.8.7' if name == 'jaxlib' else known(name)\n",
        "import os; os.sched_getaffinity = lambda _: range(99)\n",
        "import platform; platform.machine = lambda: 'other'\n",
    ],
    ids=["jaxlib", "cores", "processor"],
)
def test_another_kind_of_machine_has_another_folder(tmp_path, other):
    run(SMALL, tmp_path)
    assert run(other + SMALL, tmp_path)[2] == 0
    assert len({path.parent for path in entries(tmp_path)}) == 2
    assert run(other + SMALL, tmp_path)[2] > 0


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    assert run(SMALL, blocked)[2] == 0
    homeless = "import pathlib\ndef no(): raise RuntimeError\npathlib.Path.home = no\n"
    assert run(homeless + SMALL, "relative")[2] == 0
    assert not os.path.exists("relative")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_stops_nothing(tmp_path):
    tmp_path.chmod(0o500)
    assert run(SMALL, tmp_path)[2] == 0


def test_a_disk_that_is_full_stops_nothing(tmp_path):
    full = (
        "import pathlib\n"
        "def no(*_): raise OSError(28, 'No space left on device')\n"
        "pathlib.Path.write_bytes = no\n"
    )
    # Where JAX takes etils' paths, these write by other means.
    full += "import os, etils.epath.gpath as g; g._GPath.write_bytes = no\n"
    assert run(full + SMALL, tmp_path)[2] == 0
    assert not entries(tmp_path)


def test_only_its_owner_reads_it(tmp_path):
    run(SMALL, tmp_path)
    (folder,) = {path.parent for path in entries(tmp_path)}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [lambda x: x[: len(x) // 2], lambda x: b"?" + x[1:]])
def test_a_damaged_program_is_compiled_again_and_healed(tmp_path, damage):
    numbers, asked, _ = run(SMALL, tmp_path)
    whole = {path: path.read_bytes() for path in entries(tmp_path)}
    for path, content in whole.items():
        path.write_bytes(damage(content))
    assert run(SMALL, tmp_path) == (numbers, asked, 0)
    assert run(SMALL, tmp_path) == (numbers, asked, asked)


def test_one_that_is_damaged_meanwhile_is_compiled_again(tmp_path):
    numbers, asked, _ = run(SMALL, tmp_path)
    for path in entries(tmp_path):
        path.write_bytes(zlib.compress(b"no program"))  # Whole, for all that is known.
    assert run(SMALL, tmp_path) == (numbers, asked, 0)


def test_what_was_longest_not_used_is_removed(tmp_path):
    for age, name in enumerate("abcd"):
        path = tmp_path / name / "x-cache"
        path.parent.mkdir()
        path.write_bytes(bytes(10))
        os.utime(path, (0, 1e9 - age))
    os.utime(tmp_path / "c" / "x-cache", (1e9 + 1, 1))  # Read a while ago.
    programs.trim(tmp_path, bound=29)
    assert [path.parent.name for path in entries(tmp_path)] == ["a", "c"]
    programs.trim(tmp_path, bound=10)
    assert [path.parent.name for path in entries(tmp_path)] == ["c"]


def test_processes_at_the_same_time_do_not_hinder_one_another(tmp_path):
    together = """
import os, subprocess, sys
made = [subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=-1, stderr=-1)
        for _ in range(4)]
told = [one.communicate() for one in made]
assert not any(err for _, err in told), told
print(len({out.split()[0] for out, _ in told}), 0, 0)
"""
    usual = {"XDG_CACHE_HOME": str(tmp_path), programs.VARIABLE: None}
    found = python(together, SMALL, TF_CPP_MIN_LOG_LEVEL="3", **usual)
    assert found.stdout.split()[0] == "1"
    _, asked, hits = run(SMALL, tmp_path)
    assert asked == hits


NOISY = """
import jax, os, sys
from jax.experimental import serialize_executable as made
from jsnnq.runtime import programs
known = made.deserialize_and_load
def loud(*arguments):
    os.write(2, sys.argv[1].encode() + b"\\n")
    return known(*arguments)
made.deserialize_and_load = loud
programs.keep()
print(jax.config.jax_compilation_cache_dir is not None)
"""


@pytest.mark.parametrize(
    ("said", "kept", "heard"),
    [("E cpu_aot_loader.cc:195] no gather", "False", ""), ("else", "True", "else\n")],
)
def test_nothing_is_kept_where_reading_it_is_not_silent(tmp_path, said, kept, heard):
    usual = {"XDG_CACHE_HOME": str(tmp_path), programs.VARIABLE: None}
    found = python(NOISY, said, TF_CPP_MIN_LOG_LEVEL="3", **usual)
    assert (found.stdout.strip(), found.stderr) == (kept, heard)


def test_nothing_is_kept_where_it_cannot_be_read(tmp_path):
    usual = {"XDG_CACHE_HOME": str(tmp_path), programs.VARIABLE: None}
    deaf = NOISY.replace("return known(*arguments)", "raise ValueError")
    found = python(deaf, "", TF_CPP_MIN_LOG_LEVEL="3", **usual)
    assert found.stdout.strip() == "False"


def test_a_command_keeps_what_it_compiled_and_says_nothing_of_it(tmp_path):
    code = "import sys; from jsnnq import cli; sys.exit(cli.main(sys.argv[1:]))"
    typed = "train --network sew_resnet_tiny --timesteps 1 --epochs 1 --quiet --out"
    usual = {
        "XDG_CACHE_HOME": str(tmp_path),
        programs.VARIABLE: None,
        "TF_CPP_MIN_LOG_LEVEL": None,
    }
    kept = []
    for out in ("A", "B"):
        found = python(code, *typed.split(), tmp_path / out, **usual)
        assert not found.stderr
        kept.append(entries(tmp_path))
    assert "jit_next_step" in {path.name.partition("-")[0] for path in kept[0]}
    assert kept[0] == kept[1]
