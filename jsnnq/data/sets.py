"""Data sets as arrays or TFDS sources, by name.

A set that fits in memory is two `Split`s of uint8 images and int32 labels; ImageNet
stays on disk as `Records`, which decode what they are asked for. Neither touches the
network: a set that is not prepared is refused with the command that prepares it.
"""

import dataclasses
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jsnnq.data.arrays import DataSet, in_memory
from jsnnq.data.directories import FILES, IMAGES, array_splits, folder
from jsnnq.data.streams import Records, Split, held, source
from jsnnq.errors import InputError, check_integer, choose

_NAMES = ("cifar10", "cifar100", "digits", "imagenet2012", "synthetic")


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    labels: str = "fine",
    seed: int = 0,
) -> DataSet:
    """Loads a data set by name, without network.

    `digits` are the 1,797 8x8 digits embedded in scikit-learn, `synthetic` is what
    `synthetic()` makes. `cifar10`, `cifar100` and `imagenet2012` are read from a
    directory prepared by TFDS in its array_record format, the first two also from
    arrays in `DATA_DIR/<name>`. Any other name is the path of a directory: of arrays
    (train_images.npy, train_labels.npy, test_images.npy, test_labels.npy and optionally
    classes.txt with one class name per line), or of images by class
    (train/CLASS/*.png, and likewise test or val).

    Args:
        name: one of the names above, or the path of a directory.
        data_dir: where TFDS sets are prepared; TFDS_DATA_DIR if not given.
        labels: "fine", or for cifar100 also "coarse".
        seed: of the synthetic images; no other set depends on it.

    Raises:
        InputError: the name is unknown, the set is not prepared, or its files are
            damaged or hold what no image data set holds.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> data.image_shape, data.classes, len(data.train), len(data.test)
        ((8, 8, 1), 10, 1024, 256)
    """
    if not isinstance(name, str):
        raise InputError(f"data is {name!r}: the name of a data set is needed")
    choose("kind of labels", labels, ("fine", "coarse"))
    if labels == "coarse" and name != "cifar100":
        raise InputError(f"{name} has no coarse labels: only cifar100 has")
    named = data_dir or os.environ.get("TFDS_DATA_DIR")
    root = Path(named) if named else None
    match name:
        case "digits":
            return _digits()
        case "synthetic":
            return synthetic(seed=seed)
        case "cifar10" | "cifar100":
            return _cifar(name, root, labels)
        case "imagenet2012":
            return _imagenet(_prepared(name, root))
        case _ if Path(name).is_dir():
            return folder(Path(name))
    raise InputError(
        f"unknown data set {name!r}: accepted are {', '.join(_NAMES)} and the path "
        f"of a directory with {FILES}, or with {IMAGES}"
    )


load_data = load
"""What `jsnnq.load_data` is: the same, with a name that says what is loaded."""


def synthetic(
    shape: tuple[int, int, int] = (8, 8, 1),
    *,
    classes: int = 10,
    train: int = 1024,
    test: int = 256,
    seed: int = 0,
) -> DataSet:
    """Makes the set `synthetic`: one random pattern per class, under noise.

    It can be learned and means nothing: for trying out a configuration, never for a
    result.

    Args:
        shape: (H, W, C) of an image.
        classes: the number of patterns.
        train: the number of training images.
        test: the number of test images.
        seed: decides patterns and noise.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 255, (classes, *shape))

    def split(size: int) -> Split:
        labels = np.arange(size, dtype=np.int32) % classes
        noisy = patterns[labels] + rng.normal(0, 48, (size, *shape))
        return Split(np.clip(noisy, 0, 255).astype(np.uint8), labels)

    source = f"synthetic images made from seed {seed}, not real data"
    return in_memory("synthetic", classes, split(train), split(test), source=source)


def hold_out(dataset: DataSet, count: int) -> DataSet:
    """The same set with some of its training images held out, and tested on them.

    Recipes are chosen so: the test images must not have a part in what is reported
    of them. Mean and deviation stay those of all training images.

    Args:
        dataset: a set in memory.
        count: how many of the training images, always the same ones.

    Raises:
        InputError: the set stays on disk, or has not so many images.
    """
    train = dataset.train
    if not isinstance(train, Split):
        raise InputError(
            f"{dataset.name} stays on disk: images can be held out of sets in memory"
        )
    if not 0 < (count := check_integer("hold-out", count)) < len(train):
        raise InputError(
            f"hold-out is {count}: {dataset.name} has {len(train):,} training images, "
            "of which some must be left"
        )
    order = _shuffled(len(train))
    held, kept = order[:count], np.sort(order[count:])
    return dataclasses.replace(
        dataset,
        train=Split(*train.read(kept)),
        test=Split(*train.read(held)),
        note=f"{dataset.note}; for choosing a recipe tested on {count:,} training "
        "images, held out, and not on the test images",
    )


def _shuffled(count: int) -> Int[np.ndarray, " N"]:
    """The numbers below `count` in an order that is random and always the same."""
    # Raw output of the bit generator, which NumPy keeps the same for ever; the
    # algorithms of its Generator may change.
    return np.argsort(np.random.Philox(key=0).random_raw(count))


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    every = Split(images, digits.target.astype(np.int32))
    order = _shuffled(len(every))
    train, test = (Split(*every.read(o)) for o in (order[:1437], order[1437:]))
    source = "scikit-learn's 1,797 8x8 digits, seeded 80/20 split (seed 0)"
    return in_memory("digits", 10, train, test, source=source, scale=16.0, pad=1)


def _cifar(name: str, root: Path | None, labels: str) -> DataSet:
    classes = {"cifar10": 10, "cifar100": 20 if labels == "coarse" else 100}[name]
    arrays = root / name if root else None
    if arrays and labels == "fine" and (arrays / "train_images.npy").is_file():
        train, test, _ = array_splits(arrays, classes, (name, (32, 32, 3)))
        origin = "arrays"
    else:
        folder = _prepared(name, root)
        feature = "coarse_label" if labels == "coarse" else "label"
        train, test = (held(folder, s, feature, classes) for s in ("train", "test"))
        origin = f"TFDS {folder.name}"
    kind = f", {labels} labels" if name == "cifar100" else ""
    source = f"{name} of {origin} in its original split{kind}"
    return in_memory(name, classes, train, test, source=source, pad=4, flip=True)


def _imagenet(directory: Path) -> DataSet:
    train = Records(source(directory, "train"), True, str(directory))
    test = Records(source(directory, "validation"), False, str(directory))
    return DataSet(
        name="imagenet2012",
        classes=1000,
        image_shape=(224, 224, 3),
        train=train,
        test=test,
        # As published with torchvision's networks.
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        scale=255.0,
        pad=0,  # `Records` crop and mirror already.
        flip=False,
        note=f"imagenet2012 of TFDS {directory.name}, tested on its validation "
        f"split: {len(train):,} train, {len(test):,} test",
    )


def _prepared(name: str, root: Path | None) -> Path:
    """The newest version of a set."""
    if root is None:
        raise InputError(
            f"{name} is read from a prepared directory: name it with --data-dir or "
            f"TFDS_DATA_DIR, or {_how_to_prepare(name, 'DIR')}"
        )
    # Only files are looked at: asking TFDS for a set it does not have makes it
    # retry its servers for minutes.
    found = [info.parent for info in root.glob(f"{name}/*/dataset_info.json")]
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in found
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)
    }
    if not versions:
        raise InputError(
            f"{name} is not prepared in {root}: {_how_to_prepare(name, str(root))}"
        )
    return versions[max(versions)]


def _how_to_prepare(name: str, root: str) -> str:
    typed = shlex.quote(root)
    if name == "imagenet2012":
        return (
            "preparing it needs TensorFlow: put ILSVRC2012_img_train.tar and "
            f"ILSVRC2012_img_val.tar into {root}/downloads/manual and run `pip install "
            f"tensorflow && tfds build imagenet2012 --data_dir {typed} --file_format "
            "array_record`"
        )
    return f"run `jsnnq prepare {name} --data-dir {typed}`"
