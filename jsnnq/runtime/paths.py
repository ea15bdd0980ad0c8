"""Paths for libraries that take a path for more than a path."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jsnnq.errors import InputError

_PLAIN = re.compile(r"[\w. -]+", re.ASCII)


@contextlib.contextmanager
def plainly_named(directory: Path) -> Iterator[Path]:
    """A directory under an absolute path that no library reads anything into.

    Orbax and TFDS find their own files by a pattern that has the whole path in it, in
    which brackets and stars stand for something else; TensorStore takes a backslash for
    a slash, and `gs:` for a server. A directory of such a name is called by a link to
    it, which lies in the temporary folder for as long as this lasts.

    Args:
        directory: one that exists.

    Yields:
        The directory itself where its path is plain, otherwise the link.

    Raises:
        InputError: the temporary folder has no plain path either.
    """
    directory = directory.absolute()
    if _is_plain(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="jsnnq-") as folder:
        link = Path(folder).absolute() / "link"
        if not _is_plain(link):
            raise InputError(
                f"{directory} has characters that are no plain name, and so has the "
                f"temporary folder {folder}: give another directory, or a temporary "
                "folder of letters and digits as TMPDIR"
            )
        link.symlink_to(directory, target_is_directory=True)
        yield link


def _is_plain(path: Path) -> bool:
    return all(_PLAIN.fullmatch(part) for part in path.parts[1:])  # Behind the root.
