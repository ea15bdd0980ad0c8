"""From the original CIFAR archives to a prepared TFDS directory, without TensorFlow.

The stock builder of TFDS unpacks and encodes images with TensorFlow. Here the
archive is read with the standard library, each image is encoded as PNG by Pillow,
and the stock builder is handed finished examples. Name, version, features, keys, order
and ids are its own, so the result is like any other prepared set.

An archive passes if each of its members has the published MD5, whether or not it was
packed again. Only then are the pickles of the python layout opened, by an unpickler
that makes arrays and nothing else.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical
report, University of Toronto, 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import collections
import contextlib
import dataclasses
import errno
import functools
import hashlib
import http.client
import io
import os
import pickle
import tarfile
import tempfile
import tomllib
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jsnnq.errors import InputError, choose
from jsnnq.runtime.paths import plainly_named

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how far it is, and how far it goes."""


class Prepared(NamedTuple):
    """Where a prepared set lies, and one sentence on how it came there."""

    path: Path
    note: str


@dataclasses.dataclass(frozen=True)
class Published:
    """What is published about a data set, as `published.toml` has it.

    Attributes:
        url: where the archive is downloaded from.
        archives: MD5 of each archive, by file name.
        python: MD5 of each member of the python archive, by file name.
        binary: likewise of the binary archive. Files of class names are digested
            without blank lines.
        labels: the features of TFDS and the prefix of their names in the archives,
            in the order of the bytes of a binary record.
    """

    url: str
    archives: Mapping[str, str]
    python: Mapping[str, str]
    binary: Mapping[str, str]
    labels: Mapping[str, str]


_TABLE = Path(__file__).with_name("published.toml").read_text(encoding="utf-8")
PUBLISHED = {name: Published(**known) for name, known in tomllib.loads(_TABLE).items()}


def prepare(
    name: str,
    data_dir: str | os.PathLike[str],
    archive: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    published: Published | None = None,
) -> Prepared:
    """Writes DATA_DIR/<name>/<version> from the original archive.

    The set appears whole or not at all. One that is there already is kept and nothing
    is read.

    Args:
        name: "cifar10" or "cifar100".
        data_dir: the TFDS directory; made if it does not exist.
        archive: the original .tar.gz in its python or its binary layout;
            downloaded if not given.
        progress: told of bytes while downloading and of images while writing.
        published: digests to hold the archive against; those of `PUBLISHED` if not
            given.

    Raises:
        InputError: the name is not one of these, the directory cannot be written
            or is full, the archive is missing, damaged or another one, or it
            cannot be downloaded.
    """
    if name == "imagenet2012":
        raise InputError(
            "imagenet2012 cannot be prepared by jsnnq: it needs TensorFlow and "
            "`tfds build imagenet2012 --file_format array_record`"
        )
    choose("data set to prepare", name, PUBLISHED)
    import tensorflow_datasets as tfds

    published = published or PUBLISHED[name]
    report = progress or (lambda what, done, total: None)
    root = Path(data_dir)
    place = root / name / str(tfds.builder_cls(name).VERSION)
    if (place / "dataset_info.json").is_file():
        return Prepared(place, f"{name} is prepared already and was kept")
    if place.exists():
        raise InputError(
            f"{place} exists and is not a prepared set: move it away and prepare again"
        )
    with _workshop(root) as workshop:
        file = Path(archive) if archive else _download(published, workshop, report)
        members, note = _read_archive(file, published)
        splits, names = _parse(members, published.labels)
        del members  # 180 MB that writing has no use for
        built = _build(name, workshop, splits, names, report)
        place.parent.mkdir(exist_ok=True)
        built.rename(place)  # On one disk, so whole or not at all.
    return Prepared(place, note)


# The archive.

# Systems that forbid MD5 for security allow it for comparing files.
_md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def _download(published: Published, workshop: Path, report: Progress) -> Path:
    file = workshop / published.url.rpartition("/")[2]
    try:
        with (
            urllib.request.urlopen(published.url, timeout=20) as answer,
            file.open("wb") as out,
        ):
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(1 << 20):
                out.write(block)
                report("downloading", out.tell(), total)
    except (OSError, http.client.HTTPException) as error:
        if _is_full(error):
            raise
        raise InputError(
            f"{published.url} cannot be downloaded ({error}): download it elsewhere "
            "and give it with --archive FILE"
        ) from error
    return file


def _read_archive(file: Path, published: Published) -> tuple[dict[str, bytes], str]:
    """The members by file name, and how they are known to be right."""
    if not file.is_file():
        raise InputError(f"{file} is not a file: give the archive from {published.url}")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, _md5).hexdigest()
    try:
        members = _verified_members(file, published)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        expected = " or ".join(f"{md5} ({n})" for n, md5 in published.archives.items())
        raise InputError(
            f"{file} is damaged or another archive: expected MD5 {expected}, got "
            f"{digest} ({error}); get it again from {published.url}"
        ) from error
    if digest in published.archives.values():
        return members, f"{file.name} has the published MD5 {digest}"
    return members, (
        f"{file.name} is not the published file (its MD5 is {digest}), but all its "
        f"{len(members)} members have the published MD5s"
    )


def _verified_members(file: Path, published: Published) -> dict[str, bytes]:
    """The members of one layout in its order, which is that of the batches.

    Raises:
        ValueError: one is missing or not as published.
    """
    found, known = {}, {**published.python, **published.binary}
    with tarfile.open(file, "r:*") as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            # There is no stream for a directory of such a name.
            if name in known and (stream := tar.extractfile(member)):
                found[name] = stream.read()
    layout = published.binary if found.keys() & published.binary else published.python
    for name, expected in layout.items():
        if name not in found:
            raise ValueError(f"it has no {name}")
        content = found[name]
        if name.endswith(".txt"):
            content = b"\n".join(content.split())  # As they were digested.
        if (got := _md5(content).hexdigest()) != expected:
            raise ValueError(f"the MD5 of its {name} is {got} instead of {expected}")
    return {name: found[name] for name in layout}


# From members to columns: `image`, a row of 3072 numbers each, and the labels.


def _parse(members, prefixes):
    """The columns of each split, and the class names of each feature."""
    opened = {name: _open(name, members[name], prefixes) for name in members}
    keys = {feature: f"{p}labels".encode() for feature, p in prefixes.items()}
    keys["image"], splits = b"data", {}
    for split, beginning in (("train", ("data_batch", "train")), ("test", "test")):
        files = [opened[name] for name in members if name.startswith(beginning)]
        splits[split] = {
            column: np.concatenate([file[key] for file in files])
            for column, key in keys.items()
        }
    every = collections.ChainMap(*opened.values())
    names = {
        feature: [name.decode() for name in every[f"{prefix}label_names".encode()]]
        for feature, prefix in prefixes.items()
    }
    return splits, names


def _open(name, content, prefixes):
    """A member of either layout as the python layout pickles it."""
    if name.endswith(".bin"):
        # Records of bytes, the labels before the pixels.
        count = len(prefixes)
        records = np.frombuffer(content, np.uint8).reshape(-1, count + 3072)
        keys = [f"{prefix}labels".encode() for prefix in prefixes.values()]
        labels = {key: records[:, at] for at, key in enumerate(keys)}
        return {b"data": records[:, count:], **labels}
    if name.endswith(".txt"):
        kind = "label_names" if "meta" in name else name.removesuffix(".txt")
        return {kind.encode(): content.split()}
    return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()


class _ArraysOnly(pickle.Unpickler):
    """Makes NumPy arrays and plain containers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        makers = {
            # NumPy has moved it; an array knows where it is now.
            "_reconstruct": np.empty(0).__reduce__()[0],
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if name in makers and module.partition(".")[0] == "numpy":
            return makers[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in an image file")


# The TFDS directory.


def _build(name, workshop, splits, names, report):
    """Lets the stock builder write examples that are encoded already."""
    import tensorflow_datasets as tfds

    def split_generators(dl_manager):
        for feature, classes in names.items():
            builder.info.features[feature].names = classes
        return {split: _examples(split, part, report) for split, part in splits.items()}

    tfds.disable_progress_bar()
    with plainly_named(workshop) as place:
        builder: Any = tfds.builder(
            name, data_dir=place, file_format="array_record", try_gcs=False
        )
        builder._split_generators = split_generators
        # No announcements, which TFDS prints to stdout.
        builder._log_download_bytes = builder._log_download_done = lambda: None
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
        for split, part in splits.items():
            found, size = len(builder.as_data_source(split)), len(part["image"])
            if found != size:
                raise InputError(
                    f"{found:,} of {size:,} {split} images come back from the disk of "
                    f"{workshop.parent}: name another directory with --data-dir"
                )
        return workshop / Path(builder.data_path).relative_to(place)


def _examples(split, part, report):
    """The records of a split with their keys, images encoded as PNG."""
    for index, row in enumerate(part["image"]):
        # A row is the red plane, then the green, then the blue.
        pixels, png = row.reshape(3, 32, 32).transpose(1, 2, 0), io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        example = {name: int(part[name][index]) for name in part if name != "image"}
        example |= {"id": f"{split}_{index:05d}", "image": png.getvalue()}
        yield index, example
        report(f"writing {split} images", index + 1, len(part["image"]))


@contextlib.contextmanager
def _workshop(data_dir: Path) -> Iterator[Path]:
    """A directory in `data_dir` that is gone afterwards, whatever happens.

    So are the parents that were made for it, unless something came to stay there. A
    disk that is full meanwhile is reported in one sentence.
    """
    made = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    workshop = None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        begun = tempfile.TemporaryDirectory(prefix=".jsnnq-prepare-", dir=data_dir)
        with begun as workshop:
            yield Path(workshop)
    # array_record reports a full disk as RuntimeError, the rest as OSError.
    except (OSError, RuntimeError) as error:
        if _is_full(error):
            raise InputError(
                f"the disk of {data_dir} is full: free about 500 MB or name "
                "another directory with --data-dir"
            ) from error
        if isinstance(error, OSError) and workshop is None:
            raise InputError(
                f"{data_dir} cannot be written ({error.strerror}): name a directory "
                "you may write with --data-dir"
            ) from error
        raise
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _is_full(error: Exception) -> bool:
    """Whether it is about a disk, or a quota, without space left."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)
