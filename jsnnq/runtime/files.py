"""Files that are whole or absent, and folders that belong to one purpose."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsnnq.errors import InputError


def write_json(path: Path, values: Any) -> None:
    """Writes values as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it.

    Raises:
        InputError: the file cannot be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {str(path)!r} ({error.strerror}): give a folder you may "
            "write to, on a disk with space left, and type the same command again"
        ) from error


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} is damaged ({error}): remove its folder, or give another "
            "one, and type the same command again"
        ) from error


def claim(
    folder: Path,
    marker: str,
    identity: dict[str, Any],
    rewritten: Callable[[Any], Any] = lambda known: known,
) -> None:
    """Takes a folder for what `identity` says, or refuses it.

    The first time the identity is written into the folder as the file `marker`; later
    the same identity is accepted, so that a command can go on where it stopped.

    Args:
        folder: made if it does not exist.
        marker: name of the file.
        identity: JSON values.
        rewritten: an identity that an older version wrote, as it is written today.

    Raises:
        InputError: it is a file, holds something else, or cannot be written.
    """
    path = folder / marker
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{str(folder)!r} is a file: give a folder as --out or resume"
            )
        if not path.exists():
            # What `write_json` left when it was killed is no obstacle.
            there = [x.name for x in folder.iterdir()] if folder.exists() else []
            if not all(x.startswith(".") and x.endswith(".partial") for x in there):
                raise InputError(
                    f"{str(folder)!r} is not empty and has no {marker}: "
                    "give an empty or new folder as --out or resume"
                )
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, identity)
            return
    except OSError as error:
        raise InputError(
            f"cannot write into {str(folder)!r} ({error.strerror}): "
            "give a folder you may write to as --out or resume"
        ) from error
    check_same(folder, rewritten(read_json(path)), identity)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder, where the system knows such locks.

    Raises:
        InputError: another process is in it.
    """
    with contextlib.ExitStack() as after:
        # Windows has no such locks, nor have some network file systems.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            place = os.open(folder, os.O_RDONLY)
            after.callback(os.close, place)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"another process is at work in {str(folder)!r}: wait until it "
                    "is done, or give another folder as --out or resume"
                ) from error
        yield


def check_same(folder: Path, known: Any, wanted: Any) -> None:
    """Refuses a folder that is something else than what is wanted.

    Raises:
        InputError: with the first difference.
    """
    # As JSON gives it back: a tuple is a list there, a key a string.
    if difference := _difference(known, json.loads(json.dumps(wanted))):
        raise InputError(
            f"{str(folder)!r} was made by another configuration ({difference}): "
            "give another folder as --out or resume, or remove this one"
        )


def _difference(known: Any, wanted: Any, path: str = "") -> str:
    """The first place where two JSON values differ, for a message; empty if none."""
    if not (isinstance(known, dict) and isinstance(wanted, dict)):
        return "" if known == wanted else f"{path} was {known!r}, is {wanted!r}"
    for name in {**known, **wanted}:
        here = f"{path}.{name}" if path else name
        if name not in known:
            return f"{here} is new"
        if name not in wanted:
            return f"{here} is gone"
        if difference := _difference(known[name], wanted[name], here):
            return difference
    return ""
