"""Splits: images and labels by number, in memory or decoded as they are read.

Every crop is a function of (seed, number of the record), so a resumed run sees the
same ones.
"""

import collections
import contextlib
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Integer, UInt8
from PIL import Image

from jsnnq.data.batches import Pixels
from jsnnq.errors import InputError

_BILINEAR = Image.Resampling.BILINEAR

T = TypeVar("T")
Brought = TypeVar("Brought")


@runtime_checkable
class Source(Protocol):
    """Records by number; what `as_data_source` of TFDS returns is one.

    A record is a mapping with the encoded image under "image" and the class under
    "label".
    """

    def __len__(self) -> int:
        """The number of records."""
        ...

    def __getitems__(self, keys: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        """The records of these numbers, in this order."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A split in memory.

    Attributes:
        images: the pixels, channels last; frames have T in front of their rows.
        labels: the class of each image, from 0.
    """

    images: Pixels
    labels: Int32[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.labels)

    def read(
        self, indices: Sequence[int] | Int[np.ndarray, " B"], seed: Any = 0
    ) -> tuple[Pixels, Int32[np.ndarray, " B"]]:
        """Images and labels of these numbers; nothing here is random."""
        rows = np.asarray(indices)
        return self.images[rows], self.labels[rows]


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """A split that stays on disk and is decoded as it is read.

    Attributes:
        source: the encoded images and their labels.
        train: random crops and mirrors (as in training) or the central crop.
        where: where the records lie, for messages.
        edge: height and width of what is read, in pixels.
    """

    source: Source
    train: bool
    where: str
    edge: int = 224

    def __len__(self) -> int:
        return len(self.source)

    def read(
        self,
        indices: Sequence[int] | Int[np.ndarray, " B"],
        seed: int | tuple[int, ...] = 0,
    ) -> tuple[UInt8[np.ndarray, "B edge edge 3"], Int32[np.ndarray, " B"]]:
        """Decodes and crops these records.

        In training the crop covers 8 to 100 % of the area at a ratio between 3/4
        and 4/3 and is mirrored every second time (Szegedy et al. 2015, section 6;
        He et al. 2016, section 3.4); in testing the shorter side is resized to
        8/7 of `edge` (256 for 224) and the centre is cut out.

        Args:
            indices: numbers of the records.
            seed: every crop is a function of (seed, number); pass (seed of the
                run, epoch) to see other crops in every epoch.

        Raises:
            InputError: a record is damaged.
        """
        rows = [int(index) for index in indices]
        labels = np.empty(len(rows), np.int32)
        images = np.empty((len(rows), self.edge, self.edge, 3), np.uint8)
        entropy = seed if isinstance(seed, tuple) else (seed,)
        with _intact(self.where):
            for at, record in enumerate(self.source.__getitems__(rows)):
                image = _decode(record["image"]).convert("RGB")
                if self.train:
                    view = _random_view(image, self.edge, (*entropy, rows[at]))
                else:
                    view = _central_view(image, self.edge)
                images[at], labels[at] = np.asarray(view), record["label"]
        return images, labels


def source(directory: Path, split: str) -> Source:
    """The records of a split that TFDS prepared, with their images still encoded.

    Raises:
        InputError: it is damaged, incomplete, or in another format than array_record.
    """
    import tensorflow_datasets as tfds

    with _intact(directory):
        # TFDS would take a folder called ~ for the home of the user.
        builder: Any = tfds.builder_from_directory(directory.absolute())
        if split not in builder.info.splits:
            raise InputError(f"{directory} has no {split} split: prepare it again")
        for file in builder.info.splits[split].filepaths:
            if not os.path.isfile(file):
                raise FileNotFoundError(f"{os.path.basename(file)} is missing")
        try:
            encoded = {"image": tfds.decode.SkipDecoding()}
            return builder.as_data_source(split, decoders=encoded)
        except NotImplementedError as error:
            raise InputError(
                f"{directory} was prepared in another format than array_record, the "
                "one jsnnq reads: prepare the set into another directory"
            ) from error


def held(directory: Path, split: str, feature: str, classes: int) -> Split:
    """A prepared split of 32x32 images in memory, with a feature as its labels.

    Raises:
        InputError: as `source`, or a label is none of the classes.
    """
    records = source(directory, split)
    images = np.empty((len(records), 32, 32, 3), np.uint8)
    labels = np.empty(len(records), np.int32)
    with _intact(directory):
        # A thousand at a time: their encoded images are held together.
        for start in range(0, len(records), 1000):
            rows = range(start, min(start + 1000, len(records)))
            for row, record in zip(rows, records.__getitems__(rows), strict=True):
                images[row] = np.asarray(_decode(record["image"]))
                labels[row] = record[feature]
    check_range(labels, classes, f"{directory} ({split})")
    return Split(images, labels)


def check_range(labels: Integer[np.ndarray, " N"], classes: int, where: str) -> None:
    """Refuses labels that are none of the classes.

    Raises:
        InputError: with the first of them.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(
            f"{where} holds the label {wrong[0]}: with {classes} classes accepted are "
            f"0 to {classes - 1}"
        )


def batches(
    split: Split | Records,
    order: Sequence[int] | Int[np.ndarray, " M"],
    batch: int,
    *,
    seed: int | tuple[int, ...] = 0,
    threads: int | None = None,
) -> Iterator[tuple[Pixels, Int32[np.ndarray, " B"]]]:
    """Reads a split on the host, batch after batch, a few batches ahead.

    To resume in the middle of an epoch, pass the rest of its order.

    Args:
        split: what to read.
        order: numbers of images; the last batch is smaller if they do not divide.
        batch: the number of images in a batch.
        seed: handed to `read`.
        threads: how many batches are read at once; one per core if not given.

    Yields:
        Images and labels of each batch, in order. Closing the iterator drops what
        was not started and waits for what was.
    """
    threads = threads or os.cpu_count() or 1
    waiting = collections.deque()
    pool = futures.ThreadPoolExecutor(threads, "jsnnq-batches")
    try:
        for start in range(0, len(order), batch):
            waiting.append(pool.submit(split.read, order[start : start + batch], seed))
            # One batch is ready while every thread reads another.
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    read: Iterable[T], bring: Callable[[T], Brought], count: int = 2
) -> Iterator[Brought]:
    """What `bring` makes of each, `count` of them before they are asked for.

    Where it starts a transfer and does not wait, as `jax.device_put` does, batches
    travel to a device while it computes with those before.

    Example:
        >>> from jsnnq.data import streams
        >>> brought = streams.ahead(range(4), print, count=1)
        >>> next(brought)
        0
        1
    """
    waiting = collections.deque()
    for one in read:
        waiting.append(bring(one))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _random_view(image, edge, entropy):
    rng = np.random.Generator(np.random.Philox(list(entropy)))
    view = image.crop(_random_box(rng, *image.size)).resize((edge, edge), _BILINEAR)
    mirror = rng.random() < 0.5
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else view


def _random_box(rng, width, height):
    # Ten draws, then the largest central box of an allowed ratio, as in
    # torchvision's RandomResizedCrop, the form most published results use.
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w + 1))
            upper = int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return _central_box(width, height, w, h)


def _central_view(image: Image.Image, edge: int) -> Image.Image:
    shorter = min(image.size)
    width, height = (side * (edge * 8 // 7) // shorter for side in image.size)
    view = image.resize((width, height), _BILINEAR)
    return view.crop(_central_box(width, height, edge, edge))


def _central_box(width: int, height: int, w: int, h: int) -> tuple[int, int, int, int]:
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def _decode(encoded: bytes) -> Image.Image:
    """Opens a PNG or JPEG; its pixels are decoded when they are first needed."""
    return Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG"))


@contextlib.contextmanager
def _intact(where: str | Path) -> Iterator[None]:
    """Makes one sentence of whatever a reader says about damaged files."""
    try:
        yield
    except (InputError, ImportError, MemoryError):
        raise
    # array_record, protobuf, json, TFDS and PIL each raise errors of their own.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{where} is damaged or incomplete ({reason}): delete it and prepare the "
            "set again"
        ) from error
