"""Folders that are data sets: of arrays, or of images by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jsnnq.data.arrays import DataSet, in_memory
from jsnnq.data.streams import Split, check_range
from jsnnq.errors import InputError

FILES = "train_images.npy, train_labels.npy, test_images.npy and test_labels.npy"
IMAGES = "images by class, train/CLASS/*.png"

_TESTS = ("test", "val", "validation")
_SUFFIXES = (".png", ".jpg", ".jpeg")


def folder(path: Path) -> DataSet:
    """The data set in a folder.

    Args:
        path: with the arrays `FILES` and optionally classes.txt, one class name a line;
            or with PNG or JPEG images of one size under `train/CLASS`, and likewise
            under `test`, `val` or `validation` if some are held out.

    Raises:
        InputError: files are missing, damaged, or do not fit each other.
    """
    return _images(path) if (path / "train").is_dir() else _arrays(path)


def _images(path: Path) -> DataSet:
    names = sorted(x.name for x in (path / "train").iterdir() if x.is_dir())
    if not names:
        raise InputError(
            f"{path / 'train'} has no folder in it: one for each class is needed, with "
            "its images"
        )
    test = next((path / one for one in _TESTS if (path / one).is_dir()), None)
    splits = [_split(path / "train", names), test and _split(test, names)]
    shapes = {one.images.shape[1:] for one in splits if one}
    if len(shapes) > 1:
        raise InputError(
            f"the images in {path} differ in shape between training and test, "
            f"{' and '.join(map(str, sorted(shapes)))}: bring them to one size and mode"
        )
    return in_memory(
        str(path),
        len(names),
        *splits,
        source=f"images of {path}, trained on without augmentation",
        class_names=tuple(names),
    )


def _split(path: Path, names: Sequence[str]) -> Split:
    """The images of one split; grey if all are, else in three colours."""
    if strange := sorted({x.name for x in path.iterdir() if x.is_dir()} - {*names}):
        raise InputError(
            f"{path} has the class {strange[0]!r}, which the training images have not"
        )
    files = [
        (file, label)
        for label, name in enumerate(names)
        if (path / name).is_dir()
        for file in sorted((path / name).iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise InputError(f"{path} has no PNG or JPEG image in its folders")
    opened = [_opened(file) for file, _ in files]
    mode = "L" if all(one.mode in ("1", "L") for one in opened) else "RGB"
    arrays = [
        np.asarray(one.convert(mode)).reshape(*one.size[::-1], -1) for one in opened
    ]
    for (file, _), array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{file} is {array.shape[0]} x {array.shape[1]} pixels and "
                f"{files[0][0]} {arrays[0].shape[0]} x {arrays[0].shape[1]}: bring all "
                "images to one size"
            )
    return Split(np.stack(arrays), np.array([label for _, label in files], np.int32))


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            image.load()
            return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(
            f"{file} cannot be read as a PNG or JPEG image ({error}): remove it, or "
            "write it again"
        ) from error


def _arrays(path: Path) -> DataSet:
    names, classes = path / "classes.txt", None
    if names.is_file():
        classes = sum(bool(line.strip()) for line in names.read_bytes().splitlines())
        if not classes:
            raise InputError(f"{names} is empty: give a class name in each line")
    train, test, classes = array_splits(path, classes)
    # Nothing is known about the images, so nothing is shifted or mirrored.
    source = f"arrays of {path}, trained on without augmentation"
    return in_memory(str(path), classes, train, test, source=source)


def array_splits(
    path: Path, classes: int | None, like: tuple[str, tuple[int, ...]] | None = None
) -> tuple[Split, Split, int]:
    """Both splits and the number of classes, which the training labels may decide.

    `like` says whose images have which shape; they are the training images by default.
    """
    splits = []
    for split in ("train", "test"):
        images_file, labels_file = (
            path / f"{split}_{kind}.npy" for kind in ("images", "labels")
        )
        images, labels = _array(images_file, rank=4), _array(labels_file, rank=1)
        if images.dtype != np.uint8:
            raise InputError(
                f"{images_file} holds {images.dtype}: accepted is uint8 with axes "
                "(N, H, W, C)"
            )
        if len(images) != len(labels):
            raise InputError(
                f"{path} has {len(images):,} {split} images and {len(labels):,} "
                "labels: each image needs one label"
            )
        whose, shape = like = like or (images_file.name, images.shape[1:])
        if images.shape[1:] != shape:
            raise InputError(
                f"the images in {images_file} differ in shape, {images.shape[1:]}: "
                f"those of {whose} are {shape}"
            )
        if classes is None:
            # A label that int32 cannot hold is then out of range.
            classes = min(int(labels.max()), np.iinfo(np.int32).max - 1) + 1
        check_range(labels, classes, str(labels_file))
        splits.append(Split(images, labels.astype(np.int32)))
    return *splits, classes


def _array(path: Path, rank: int) -> np.ndarray:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: a directory of arrays holds {FILES}"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a .npy file ({error}): write it again with "
            "numpy.save"
        ) from error
    if array.dtype.kind not in "iu":
        nan = array.dtype.kind == "f" and np.isnan(array).any()
        raise InputError(
            f"{path} holds {array.dtype}{' and NaN among it' if nan else ''}: images "
            "are uint8 and labels integers"
        )
    if array.ndim != rank or array.size == 0:
        axes = "(N, H, W, C)" if rank == 4 else "(N,)"
        raise InputError(
            f"{path} has shape {array.shape}: accepted is {axes} without an empty axis"
        )
    return array
