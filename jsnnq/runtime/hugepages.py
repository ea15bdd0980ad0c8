"""Memory in huge pages, where Linux gives them to those who ask.

XLA takes the memory of a step from the C library and gives it back behind it. In a
training step of SEW-ResNet18 (batch 32) that is 470,000 faults of pages of 4 KiB, a
quarter of the processor's time (half in small networks), or 4,000 of pages of 2 MiB.
glibc (from 2.35) asks for these if its tunable `glibc.malloc.hugetlb` is 1, which it
reads once, when a process starts.

A command of jsnnq sees to it by itself; a program of your own is started with

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python train.py

Some virtual machines hand memory that a process has freed back to their host, which
clears it anew when it is needed again (`free page reporting`). There every other step
of a large network takes up to twice as long. A process that keeps what it has freed is
spared that; all its threads then share one arena, which makes compiling slower (the
default study takes a third longer), so it is left to who trains for long:

    KEEP=glibc.malloc.arena_max=1
    KEEP=$KEEP:glibc.malloc.mmap_threshold=1099511627776
    KEEP=$KEEP:glibc.malloc.trim_threshold=1099511627776
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:$KEEP jsnnq study ...
"""

import contextlib
import os
import sys
from pathlib import Path

_TUNABLE = "glibc.malloc.hugetlb"
_VARIABLE = "GLIBC_TUNABLES"
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_again() -> None:
    """Starts this process anew with huge pages, if they have to be asked for.

    Does nothing where that changes nothing: on other systems, where Linux gives huge
    pages to everyone or to no one, and where the tunable was set to anything before.
    To be called before anything large is imported.
    """
    known = os.environ.get(_VARIABLE, "")
    if _TUNABLE in known or not _on_request() or not sys.executable:
        return
    os.environ[_VARIABLE] = ":".join(filter(None, [known, f"{_TUNABLE}=1"]))
    # What cannot be started again goes on as it is.
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _on_request() -> bool:
    try:
        return "[madvise]" in _SETTING.read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
