"""Compiled programs, kept for the next process in the user's cache folder.

JAX keeps them itself (its persistent compilation cache); here it is told where, and
what it leaves to others is seen to: a folder for every kind of machine, a bound, and
files that are not whole. A folder holds programs of one version of jaxlib for one kind
of processor and one number of its cores, because JAX's own key has only the first:

    $XDG_CACHE_HOME/jsnnq/programs/jaxlib-0.12.0-3f9c…/jit_next_step-…-cache

A program that is read computes the same numbers, bit for bit: it is the same machine
code. `JSNNQ_COMPILATION_CACHE=off` keeps nothing and reads nothing; a folder of the
user's own (`JAX_COMPILATION_CACHE_DIR`, or JAX's setting of that name) is left to JAX.

Before 0.12, jaxlib takes it for a fault that it told its compiler to avoid gathering
instructions (jax-ml/jax issue 38445): where a processor has AVX-512, it reads every
program and prints two pages of complaint for each. A command silences it. Elsewhere
nothing is kept where reading is not silent, or fails.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsnnq.errors import choose

VARIABLE = "JSNNQ_COMPILATION_CACHE"
"""Set to `off`, programs are not kept."""

BOUND = 2**28
"""Bytes of all folders together, when a process begins. A default study's have 6 MB."""

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # Of what jaxlib prints; 3 is nothing but its end.
_CHECKED = ".checked"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_PROCESSOR = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")


def keep_silently() -> None:
    """Has jaxlib keep its complaint (above) to itself; for commands.

    To be called before anything imports JAX, which is when it reads how much to say.
    """
    if _is_on() and _version() < (0, 12):
        os.environ.setdefault(_LEVEL, "3")


@functools.cache
def keep() -> None:
    """Has JAX keep what it compiles from now on, and read what was kept before.

    Does nothing where that is switched off, where JAX was given a folder by others, and
    where there is no folder to write to. To be called when JAX's devices are settled.

    Raises:
        InputError: the variable says neither `on` nor `off`.
    """
    if not _is_on():
        return
    import jax

    settings: Any = jax.config
    if settings.jax_compilation_cache_dir is not None:
        return
    # What cannot be kept is compiled again; nobody's training stops for that.
    with contextlib.suppress(OSError, RuntimeError):
        root = _root()
        folder = root / _kind_of_machine()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_damaged(folder)
        trim(root, BOUND)
        if jax.default_backend() == "cpu" and not _is_read_silently():
            return
        # Another process may be writing what is read here, or the disk be full.
        warnings.filterwarnings(
            "ignore", "Error (reading|writing) persistent compilation cache entry"
        )
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _is_on() -> bool:
    value = os.environ.get(VARIABLE, "on")
    choose(VARIABLE, value, ("on", "off"))
    return value == "on"


def _version() -> tuple[int, ...]:
    return tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))


def _root() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored, says the specification (XDG, version 0.8).
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "jsnnq" / "programs"


def _kind_of_machine() -> str:
    """The folder of programs for this jaxlib, processor and number of cores."""
    found = [platform.system(), platform.machine()]
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        lines = first.splitlines()
        found += [line for line in lines if line.split("\t")[0].strip() in _PROCESSOR]
    except OSError:
        found.append(platform.processor())
    # XLA cuts loops into as many parts as there are cores this process may use.
    affinity = getattr(os, "sched_getaffinity", None)
    found.append(str(len(affinity(0)) if affinity else os.cpu_count()))
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest}"


def trim(root: Path, bound: int) -> None:
    """Removes what was longest not used until the rest has at most `bound` bytes."""
    known = []
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # By another process, just now.
            found = path.stat()
            if path.is_file():
                used = max(found.st_atime, found.st_mtime)
                known.append((used, found.st_size, path))
    total = 0
    for _, size, path in sorted(known, reverse=True):
        total += size
        if total > bound:
            path.unlink(missing_ok=True)


def _remove_damaged(folder: Path) -> None:
    """Removes programs that a killed process, or a full disk, left in part.

    JAX would compile them in every process, and never write them again. Each is looked
    at once, by the first process that begins after it was written.
    """
    checked = folder / _CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    checked.touch()
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime >= since and not _is_whole(path.read_bytes()):
                path.unlink()


def _is_whole(content: bytes) -> bool:
    if content.startswith(_ZSTANDARD):
        return True  # Of a Python that has it; others cannot read it.
    try:
        zlib.decompress(content)  # Its end is a checksum of it all.
    except zlib.error:
        return False
    return True


def _is_read_silently() -> bool:
    """Whether this jaxlib reads on this processor what it compiled on it."""
    import jax
    from jax.experimental import serialize_executable as programs

    compiled = jax.jit(lambda x: x + 1).lower(0.0).compile()
    written = programs.serialize(compiled)
    with _heard() as said:
        try:
            programs.deserialize_and_load(*written)
        except Exception:  # XLA has many names for it.
            return False
    return not said


@contextlib.contextmanager
def _heard() -> Iterator[list[bytes]]:
    """What jaxlib's loader complains of meanwhile; all else is passed on."""
    said: list[bytes] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard:
        before = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            heard.seek(0)
            for line in heard:
                if b"cpu_aot_loader" in line:
                    said.append(line)
                else:
                    os.write(2, line)
