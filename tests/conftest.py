"""Settings every test runs under: strict shapes, and XLA's slow passes off."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Most tests compile far longer than they run; with the expensive passes off the
# suite takes a third of the time. Tests that must compile as users do say so.
if "jsnnq_production_xla" not in os.environ.get("JSNNQ_TEST", ""):
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# No test depends on what an earlier run left in a home, or leaves something there.
os.environ["JSNNQ_COMPILATION_CACHE"] = "off"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Only tests of sharing a batch use more than the first, and at most four: the others
# are there for their threads, so that none is wanting where devices wait.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "16")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# Programs that several tests need are compiled once in all of a run's processes: up to
# a third off. What a test starts as a process of its own compiles by itself.
_IS_FIRST = "JSNNQ_TEST_PROGRAMS" not in os.environ
if _IS_FIRST:
    os.environ["JSNNQ_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="jsnnq-programs-")
jax.config.update("jax_compilation_cache_dir", os.environ["JSNNQ_TEST_PROGRAMS"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_unconfigure():
    """The programs go with the run."""
    if _IS_FIRST:
        shutil.rmtree(os.environ.pop("JSNNQ_TEST_PROGRAMS"), ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def dropped():
    """Drops what is compiled before Linux has no more maps of memory for a process.

    It has 65,530, of which every program takes about eight; the next one crashes.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def uncompiled(monkeypatch):
    """Studies compile nothing ahead, for tests that run no real row."""
    from jsnnq.study import runner

    monkeypatch.setattr(runner, "compile_ahead", lambda *_: None)


@pytest.fixture
def faked(monkeypatch, uncompiled):
    """Studies train nothing: the results of their rows are made up."""
    from jsnnq.study import runner
    from tests.tiny import fake_execute

    monkeypatch.setattr(runner, "execute", fake_execute)


@pytest.fixture
def unreported(monkeypatch):
    """Leaves the report out, whose plots take most of a made-up study's time."""
    from jsnnq.study import folder

    monkeypatch.setattr(folder, "write_report", lambda out: [])


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal; what runs in the background may be made deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
