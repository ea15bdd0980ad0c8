"""Data sets of arrays: a user's own, and what every other set in memory becomes.

Images are `N H W C`, or frames `N T H W C` with another image at each of T timesteps
(event data). uint8 is divided by 255, floats are taken as they are; both are then
normalised by mean and deviation of each channel.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jsnnq.data.batches import Preprocessing
from jsnnq.data.streams import Records, Split, check_range
from jsnnq.errors import InputError, check_integer


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, and what training and reports need to know about it.

    Attributes:
        name: as given to `load_data`; for a directory its path.
        classes: the number of classes.
        image_shape: of one image as read, `H W C`, or of frames `T H W C`.
        train: the images to train on.
        test: the images held out; None if there are none.
        mean: per channel, of the training images divided by `scale` (ImageNet: as
            published).
        std: likewise; 1 for a channel that never varies.
        scale: the largest value a pixel may take; 1 for floats.
        pad: by how many pixels training shifts images at random.
        flip: whether training mirrors images at random.
        note: one sentence saying where the images come from and how they are split.
        class_names: in the order of the labels, where they are known.

    Example:
        >>> data = jsnnq.load_data("digits")
        >>> data.classes, data.image_shape, len(data.train), len(data.test)
        (10, (8, 8, 1), 1437, 360)
    """

    name: str
    classes: int
    image_shape: tuple[int, ...]
    train: Split | Records
    test: Split | Records | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    pad: int
    flip: bool
    note: str
    class_names: tuple[str, ...] = ()

    @property
    def preprocessing(self) -> Preprocessing:
        """How networks that are trained on it see its pixels."""
        return Preprocessing(self.mean, self.std, self.scale)

    @property
    def dtype(self) -> Any:
        """Of its images as they are stored."""
        return self.train.images.dtype if isinstance(self.train, Split) else np.uint8

    def split(self, name: str) -> Split | Records:
        """The split `test` or `train`.

        Raises:
            InputError: there is no such split.
        """
        if name not in ("test", "train"):
            raise InputError(f"unknown split {name!r}: accepted are 'test', 'train'")
        found = getattr(self, name)
        if found is None:
            raise InputError(
                f"{self.name} has no test images: give from_arrays some, or ask for "
                "split='train'"
            )
        return found


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = False,
    name: str = "arrays",
) -> DataSet:
    """A data set of NumPy or JAX arrays.

    Args:
        x_train: images `N H W` or `N H W C`, or frames `N T H W C`, uint8 or floats, of
            any size. uint8 is divided by 255, floats are taken as they are.
        y_train: their classes from 0, integers `N`, or one-hot `N K`.
        x_test: images that are held out, of the same shape and kind.
        y_test: their classes.
        classes: the number of classes; by default the largest label plus 1, or K.
        mean: per channel, subtracted; by default that of the training images.
        std: per channel, divides them; by default that of the training images.
        augment: whether training shifts images by up to an eighth of their height and
            mirrors every second one.
        name: for messages and reports.

    Returns:
        What `fit`, `evaluate` and `calibrate` take; its `note` says what was
        understood.

    Raises:
        InputError: arrays are empty, of unequal length, of another kind or shape, hold
            NaN, or labels are out of range.

    Example:
        >>> import numpy as np, jsnnq
        >>> images, labels = np.zeros((6, 5, 7), np.uint8), np.arange(6) % 3
        >>> data = jsnnq.from_arrays(images, labels)
        >>> data.image_shape, data.classes
        ((5, 7, 1), 3)
    """
    if (x_test is None) != (y_test is None):
        given, missing = (
            ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
        )
        raise InputError(f"{given} is given without {missing}: give both, or neither")
    pairs = {"train": (x_train, y_train)}
    if x_test is not None:
        pairs["test"] = (x_test, y_test)
    images = {split: _images(f"x_{split}", x) for split, (x, _) in pairs.items()}
    labels, sizes = {}, set()
    for split, (_, y) in pairs.items():
        labels[split], size = _labels(f"y_{split}", y)
        sizes.add(size)
        if len(labels[split]) != len(images[split]):
            raise InputError(
                f"x_{split} has {len(images[split]):,} images and y_{split} "
                f"{len(labels[split]):,} labels: each image needs one label"
            )
    train = images["train"]
    if "test" in images and (train.shape[1:], train.dtype) != (
        images["test"].shape[1:],
        images["test"].dtype,
    ):
        raise InputError(
            f"x_train is {_said(train)} and x_test {_said(images['test'])}: images of "
            "one shape and dtype are needed"
        )
    classes = check_integer("classes", max(sizes) if classes is None else classes)
    for split, known in labels.items():
        check_range(known, classes, f"y_{split}")
    found_mean, found_std = statistics(train, _scale(train))
    channels = train.shape[-1]
    splits = {split: Split(images[split], labels[split]) for split in pairs}
    return DataSet(
        name=name,
        classes=classes,
        image_shape=train.shape[1:],
        train=splits["train"],
        test=splits.get("test"),
        mean=found_mean if mean is None else _per_channel("mean", mean, channels),
        std=found_std if std is None else _per_channel("std", std, channels),
        scale=_scale(train),
        pad=train.shape[-3] // 8 if augment else 0,
        flip=augment,
        note=f"{name}: {_understood(train)}, {classes} classes, "
        + ", ".join(f"{len(one):,} {split}" for split, one in splits.items()),
    )


def _images(name: str, given: Any) -> np.ndarray:
    images = np.asarray(given)
    if images.dtype == bool:
        images = images.astype(np.float32)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(
            f"{name} is {images.dtype}: uint8 (divided by 255) or floats (taken as "
            "they are) are needed: convert it with .astype"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim not in (4, 5) or images.size == 0:
        raise InputError(
            f"{name} has shape {np.shape(given)}: images (N, H, W) or (N, H, W, C), or "
            "frames (N, T, H, W, C), without an empty axis, are needed"
        )
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise InputError(f"{name} has values that are NaN or infinite: remove them")
    first, last = images.shape[-3], images.shape[-1]
    if first in (1, 2, 3) and last > 4:
        warnings.warn(
            f"{name} was understood as {_understood(images)}; if its channels come "
            "first, move them to the end with numpy.moveaxis",
            stacklevel=3,
        )
    return np.ascontiguousarray(images)


def _understood(images: np.ndarray) -> str:
    *time, height, width, channels = images.shape[1:]
    frames = f"{time[0]} frames of " if time else ""
    kind = "pixel" if images.dtype == np.uint8 else "float"
    return f"{frames}{height} x {width} {kind}s with {channels} channels"


def _said(images: np.ndarray) -> str:
    return f"{images.dtype} of shape {images.shape}"


def _scale(images: np.ndarray) -> float:
    return 255.0 if images.dtype == np.uint8 else 1.0


def _labels(name: str, given: Any) -> tuple[np.ndarray, int]:
    """Labels as int32, and the number of classes that they speak of."""
    labels = np.asarray(given)
    if labels.ndim == 2 and labels.size:
        one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
        if not one_hot:
            raise InputError(
                f"{name} has shape {labels.shape} and is not one-hot: classes (N,), or "
                "rows (N, K) with a single 1 are needed"
            )
        return labels.argmax(1).astype(np.int32), labels.shape[1]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.size == 0:
        raise InputError(
            f"{name} is {labels.dtype} of shape {labels.shape}: integers (N,) from 0, "
            "or one-hot rows (N, K) are needed"
        )
    # A label that int32 cannot hold is then out of range.
    largest = min(int(labels.max()), np.iinfo(np.int32).max - 1)
    check_range(labels, largest + 1, name)
    return labels.astype(np.int32), largest + 1


def _per_channel(name: str, given: Sequence[float], channels: int) -> tuple[float, ...]:
    values = np.asarray(given, float).reshape(-1)
    if values.size != channels or not np.isfinite(values).all():
        raise InputError(
            f"{name} is {given!r}: {channels} finite numbers, one for each channel, "
            "are needed"
        )
    if name == "std" and (values <= 0).any():
        raise InputError(f"std is {given!r}: numbers above 0 are needed")
    return tuple(values.tolist())


def statistics(
    images: Any, scale: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of images divided by `scale`, in float64."""
    if images.dtype != np.uint8:
        flat = images.reshape(-1, images.shape[-1])
        mean = flat.mean(0, dtype=np.float64)
        # A block at a time: the whole of it in float64 is twice the images.
        variance = sum(
            np.square(flat[start : start + 2**20] - mean).sum(0)
            for start in range(0, len(flat), 2**20)
        ) / len(flat)
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        return tuple((mean / scale).tolist()), tuple((std / scale).tolist())
    # From the histogram of each channel, without a float copy of the images (600 MB
    # for CIFAR). In grey levels the mean of a channel that never varies is exact, and
    # centred values have no difference of squares, so its variance is exactly 0.
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 1000):
        block = images[start : start + 1000]
        for channel, count in enumerate(counts):
            count += np.bincount(block[..., channel].ravel(), minlength=256)
    grey, size = np.arange(256), counts.sum(axis=1)
    mean = counts @ grey / size
    variance = (counts * (grey - mean[:, None]) ** 2).sum(axis=1) / size
    std = np.where(variance > 0, np.sqrt(variance) / scale, 1.0)
    return tuple((mean / scale).tolist()), tuple(std.tolist())


def in_memory(
    name: str,
    classes: int,
    train: Split,
    test: Split | None,
    *,
    source: str,
    scale: float = 255.0,
    pad: int = 0,
    flip: bool = False,
    class_names: tuple[str, ...] = (),
) -> DataSet:
    """A set whose splits are there; `source` begins its note."""
    mean, std = statistics(train.images, scale)
    sizes = [
        f"{len(train):,} train",
        *([] if test is None else [f"{len(test):,} test"]),
    ]
    return DataSet(
        name,
        classes,
        train.images.shape[1:],
        train,
        test,
        mean,
        std,
        scale,
        pad,
        flip,
        f"{source}: {', '.join(sizes)}",
        class_names,
    )
