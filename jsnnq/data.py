"""Data sets as arrays or TFDS sources, and the batch that belongs to (seed, step).

`load` returns a `DataSet` by name. A set that fits in memory is two `Split`s of
uint8 images and int32 labels; ImageNet stays on disk as `Records`, which decode
what they are asked for. Neither touches the network: a set that is not prepared
is refused with the command that prepares it.

Training reads a `Split` on the device. `epoch_order` is a permutation that depends
on (key, epoch) only, `take` cuts batch number `index` out of it, `augment` moves
and mirrors the images, `normalise` makes floats of them:

    order = epoch_order(key, epoch, len(data.train))
    images, labels = take(images, labels, order, index, batch)
    images = augment(step_key, images, pad=data.pad, flip=data.flip)
    x = normalise(images, data.mean, data.std, data.scale)

`Records` are read on the host through `batches`. In both forms everything random
is a function of seeds and positions, so a resumed run needs no iterator state.
"""

import collections
import contextlib
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Int32, Key, UInt8
from PIL import Image

from jsnnq.errors import InputError, choose

_NAMES = ("cifar10", "cifar100", "digits", "imagenet2012", "synthetic")
_BILINEAR = Image.Resampling.BILINEAR
_FILES = "train_images.npy, train_labels.npy, test_images.npy and test_labels.npy"


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
        images: the pixels, channels last.
        labels: the class of each image, from 0.
    """

    images: UInt8[np.ndarray, "N H W C"]
    labels: Int32[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.labels)

    def read(
        self, indices: Sequence[int] | Int[np.ndarray, " B"], seed: Any = 0
    ) -> tuple[UInt8[np.ndarray, "B H W C"], Int32[np.ndarray, " B"]]:
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

        Returns:
            The images and their labels.

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
                labels[at] = record["label"]
                images[at] = np.asarray(
                    _random_view(image, self.edge, (*entropy, rows[at]))
                    if self.train
                    else _central_view(image, self.edge)
                )
        return images, labels


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, and what training and reports need to know about it.

    Attributes:
        name: as given to `load`; for a directory its path.
        classes: the number of classes.
        image_shape: (H, W, C) of one image as read.
        train: the images to train on.
        test: the images held out.
        mean: per channel, of the training images divided by `scale`.
        std: likewise; 1 for a channel that never varies.
        scale: the largest value a pixel may take.
        pad: by how many pixels training shifts images at random.
        flip: whether training mirrors images at random.
        note: one sentence saying where the images come from and how they are split.
    """

    name: str
    classes: int
    image_shape: tuple[int, int, int]
    train: Split | Records
    test: Split | Records
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    pad: int
    flip: bool
    note: str


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    labels: str = "fine",
    seed: int = 0,
) -> DataSet:
    """Loads a data set by name, without network.

    `digits` are the 1,797 8x8 digits embedded in scikit-learn; `cifar10`,
    `cifar100` and `imagenet2012` are read from a directory prepared by TFDS in
    its array_record format; `synthetic` is what `synthetic()` makes; any other
    name is the path of a directory of arrays with train_images.npy,
    train_labels.npy, test_images.npy, test_labels.npy and optionally classes.txt
    with one class name per line.

    Args:
        name: one of the names above, or the path of a directory.
        data_dir: where TFDS sets are prepared; TFDS_DATA_DIR if not given.
        labels: "fine", or for cifar100 also "coarse".
        seed: of the synthetic images; no other set depends on it.

    Returns:
        The data set; its mean and standard deviation are computed from the
        training images (ImageNet: the published ones).

    Raises:
        InputError: the name is unknown, the set is not prepared, or its files are
            damaged or hold what no image data set holds.
    """
    if not isinstance(name, str):
        raise InputError(f"data is {name!r}: the name of a data set is needed")
    choose("kind of labels", labels, ("fine", "coarse"))
    if labels == "coarse" and name != "cifar100":
        raise InputError(f"{name} has no coarse labels: only cifar100 has")
    match name:
        case "digits":
            return _digits()
        case "synthetic":
            return synthetic(seed=seed)
        case "cifar10" | "cifar100":
            return _cifar(name, _prepared(name, data_dir), labels)
        case "imagenet2012":
            return _imagenet(_prepared(name, data_dir))
        case _ if Path(name).is_dir():
            return _directory(Path(name))
    raise InputError(
        f"unknown data set {name!r}: accepted are {', '.join(_NAMES)} and the path "
        f"of a directory with {_FILES}"
    )


def synthetic(
    shape: tuple[int, int, int] = (8, 8, 1),
    *,
    classes: int = 10,
    train: int = 1024,
    test: int = 256,
    seed: int = 0,
) -> DataSet:
    """Makes images that are one random pattern per class under noise.

    They can be learned and mean nothing: for trying out a configuration, never
    for a result.

    Args:
        shape: (H, W, C) of an image.
        classes: the number of patterns.
        train: the number of training images.
        test: the number of test images.
        seed: decides patterns and noise.

    Returns:
        The data set, called synthetic.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 255, (classes, *shape))

    def split(size: int) -> Split:
        labels = np.arange(size, dtype=np.int32) % classes
        noisy = patterns[labels] + rng.normal(0, 48, (size, *shape))
        return Split(np.clip(noisy, 0, 255).astype(np.uint8), labels)

    return _arrays(
        "synthetic",
        classes,
        split(train),
        split(test),
        note=f"synthetic images made from seed {seed}, not real data: {train:,} "
        f"train, {test:,} test",
    )


def steps_per_epoch(size: int, batch: int) -> int:
    """The number of whole batches in an epoch; what is left over is dropped.

    Raises:
        InputError: `batch` is not between 1 and `size`.
    """
    if not 1 <= batch <= size:
        raise InputError(
            f"batch size {batch} does not fit {size:,} training images: it must lie "
            f"between 1 and {size}"
        )
    return size // batch


def epoch_order(
    key: Key[Array, ""], epoch: Int[ArrayLike, ""], size: int
) -> Int[Array, "{size}"]:
    """The order in which an epoch visits the images: a function of (key, epoch)."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), size)


def take(
    images: UInt8[Array, "N H W C"],
    labels: Int32[Array, " N"],
    order: Int[Array, " M"],
    index: Int[ArrayLike, ""],
    batch: int,
) -> tuple[UInt8[Array, "{batch} H W C"], Int32[Array, "{batch}"]]:
    """Batch number `index` of the epoch that visits the images in this order.

    Args:
        images: all images of the split.
        labels: their labels.
        order: numbers of images, as `epoch_order` returns them.
        index: below `steps_per_epoch`; past it the last whole batch comes again,
            as XLA clamps a slice that would leave the array.
        batch: the number of images in a batch.

    Returns:
        The images and labels of the batch.
    """
    rows = jax.lax.dynamic_slice_in_dim(order, index * batch, batch)
    return images[rows], labels[rows]


def augment(
    key: Key[Array, ""], images: UInt8[Array, "B H W C"], *, pad: int, flip: bool
) -> UInt8[Array, "B H W C"]:
    """Shifts each image by up to `pad` pixels both ways and mirrors every second.

    What moves in from outside is 0. This is the usual CIFAR augmentation (He et
    al. 2016, section 4.2: 4 pixels padded on each side, a crop, a flip).

    Args:
        key: decides shifts and flips.
        images: a batch.
        pad: largest shift in pixels, 0 for none.
        flip: whether images are mirrored left to right at random.

    Returns:
        As many images of the same size; with `pad` 0 and `flip` False the same.
    """
    shift_key, flip_key = jax.random.split(key)
    if pad:
        images = _shift(shift_key, images, pad)
    if flip:
        coins = jax.random.bernoulli(flip_key, shape=(len(images),))
        images = jnp.where(_per_image(coins), images[:, :, ::-1], images)
    return images


def normalise(
    images: UInt8[Array, "B H W C"],
    mean: Sequence[float],
    std: Sequence[float],
    scale: float,
) -> Float[Array, "B H W C"]:
    """(pixel / scale - mean) / std, channel by channel, in float32."""
    per_channel = (1, 1, 1, -1)
    centre = jnp.asarray(mean, jnp.float32).reshape(per_channel)
    spread = jnp.asarray(std, jnp.float32).reshape(per_channel)
    return (images.astype(jnp.float32) / scale - centre) / spread


def batches(
    split: Split | Records,
    order: Sequence[int] | Int[np.ndarray, " M"],
    batch: int,
    *,
    seed: int | tuple[int, ...] = 0,
    threads: int | None = None,
) -> Iterator[tuple[UInt8[np.ndarray, "B H W C"], Int32[np.ndarray, " B"]]]:
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
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


# Augmentation and cropping.


def _per_image(values: Bool[Array, " B"]) -> Bool[Array, "B 1 1 1"]:
    return values[:, None, None, None]


def _shift(
    key: Key[Array, ""], images: UInt8[Array, "B H W C"], pad: int
) -> UInt8[Array, "B H W C"]:
    # A slice per image is 0.2 ms for 128 CIFAR images on a CPU, as fast as one
    # gather with computed indices; one-hot products take 0.9 ms and chains of
    # selects 4 ms.
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)
    window = lambda image, corner: jax.lax.dynamic_slice(
        image, (corner[0], corner[1], 0), images.shape[1:]
    )
    return jax.vmap(window)(padded, corners)


def _random_view(
    image: Image.Image, edge: int, entropy: tuple[int, ...]
) -> Image.Image:
    rng = np.random.Generator(np.random.Philox(list(entropy)))
    view = image.crop(_random_box(rng, *image.size)).resize((edge, edge), _BILINEAR)
    mirror = rng.random() < 0.5
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else view


def _random_box(
    rng: np.random.Generator, width: int, height: int
) -> tuple[int, int, int, int]:
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
    return Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG"))


# The data sets.


def _arrays(
    name: str,
    classes: int,
    train: Split,
    test: Split,
    *,
    note: str,
    scale: float = 255.0,
    pad: int = 0,
    flip: bool = False,
) -> DataSet:
    mean, std = _statistics(train.images, scale)
    shape = train.images.shape[1:]
    return DataSet(name, classes, shape, train, test, mean, std, scale, pad, flip, note)


def _statistics(
    images: UInt8[np.ndarray, "N H W C"], scale: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # From the histogram of each channel: exact, and without a float copy of the
    # images (600 MB for CIFAR).
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 1000):
        block = images[start : start + 1000]
        for channel, count in enumerate(counts):
            count += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / scale
    mean = counts @ values / counts.sum(1)
    std = np.sqrt(counts @ values**2 / counts.sum(1) - mean**2)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    # Raw output of the bit generator, which NumPy keeps the same for ever; the
    # algorithms of its Generator may change.
    order = np.argsort(np.random.Philox(key=0).random_raw(len(labels)))
    train, test = order[:1437], order[1437:]
    return _arrays(
        "digits",
        10,
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
        note="scikit-learn's 1,797 8x8 digits, seeded 80/20 split (seed 0): "
        "1,437 train, 360 test",
        scale=16.0,
        pad=1,
    )


def _cifar(name: str, directory: Path, labels: str) -> DataSet:
    feature = "coarse_label" if labels == "coarse" else "label"
    classes = {"cifar10": 10, "cifar100": 20 if labels == "coarse" else 100}[name]
    train = _read_all(directory, "train", feature, classes)
    test = _read_all(directory, "test", feature, classes)
    kind = f", {labels} labels" if name == "cifar100" else ""
    return _arrays(
        name,
        classes,
        train,
        test,
        note=f"{name} of TFDS {directory.name} in its original split{kind}: "
        f"{len(train):,} train, {len(test):,} test",
        pad=4,
        flip=True,
    )


def _imagenet(directory: Path) -> DataSet:
    train = Records(_source(directory, "train"), True, str(directory))
    test = Records(_source(directory, "validation"), False, str(directory))
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
        pad=0,  # `Records` crop and mirror already
        flip=False,
        note=f"imagenet2012 of TFDS {directory.name}, tested on its validation "
        f"split: {len(train):,} train, {len(test):,} test",
    )


# Prepared TFDS directories.


def _prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    root = data_dir or os.environ.get("TFDS_DATA_DIR")
    if not root:
        raise InputError(
            f"{name} is read from a prepared directory: name it with --data-dir or "
            f"TFDS_DATA_DIR, or {_how_to_prepare(name, 'DIR')}"
        )
    # Only files are looked at: asking TFDS for a set it does not have makes it
    # retry its servers for minutes.
    infos = Path(root).expanduser().glob(f"{name}/*/dataset_info.json")
    versions = {
        tuple(map(int, info.parent.name.split("."))): info.parent
        for info in infos
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    }
    if not versions:
        raise InputError(
            f"{name} is not prepared in {root}: {_how_to_prepare(name, str(root))}"
        )
    return versions[max(versions)]


def _how_to_prepare(name: str, root: str) -> str:
    if name == "imagenet2012":
        return (
            "preparing it needs TensorFlow: put ILSVRC2012_img_train.tar and "
            f"ILSVRC2012_img_val.tar into {root}/downloads/manual and run `pip install "
            f"tensorflow && tfds build imagenet2012 --data_dir {root} --file_format "
            "array_record`"
        )
    return f"run `jsnnq prepare {name} --data-dir {root}`"


def _source(directory: Path, split: str) -> Source:
    """The records of a split with their images still encoded."""
    import tensorflow_datasets as tfds

    with _intact(directory):
        builder: Any = tfds.builder_from_directory(directory)
        if split not in builder.info.splits:
            raise InputError(f"{directory} has no {split} split: prepare it again")
        for file in builder.info.splits[split].filepaths:
            if not os.path.isfile(file):
                raise FileNotFoundError(f"{os.path.basename(file)} is missing")
        encoded = tfds.decode.SkipDecoding()
        try:
            return builder.as_data_source(split, decoders={"image": encoded})
        except NotImplementedError as error:
            raise InputError(
                f"{directory} was prepared in another format than array_record, the "
                "one jsnnq reads: prepare the set into another directory"
            ) from error


def _read_all(directory: Path, split: str, feature: str, classes: int) -> Split:
    source = _source(directory, split)
    images = np.empty((len(source), 32, 32, 3), np.uint8)
    labels = np.empty(len(source), np.int32)
    with _intact(directory):
        for start in range(0, len(source), 1000):
            rows = range(start, min(start + 1000, len(source)))
            for row, record in zip(rows, source.__getitems__(rows), strict=True):
                images[row] = np.asarray(_decode(record["image"]))
                labels[row] = record[feature]
    _check_range(labels, classes, f"{directory} ({split})")
    return Split(images, labels)


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


# Directories of arrays.


def _directory(path: Path) -> DataSet:
    classes = _class_count(path)
    train = _array_split(path, "train", classes)
    test = _array_split(path, "test", classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"the images in {path} differ in shape: {train.images.shape[1:]} in "
            f"train_images.npy and {test.images.shape[1:]} in test_images.npy"
        )
    # Nothing is known about the images, so nothing is shifted or mirrored.
    return _arrays(
        str(path),
        classes,
        train,
        test,
        note=f"arrays of {path}, trained on without augmentation: "
        f"{len(train):,} train, {len(test):,} test",
    )


def _array_split(path: Path, split: str, classes: int) -> Split:
    images = _array(path / f"{split}_images.npy", rank=4)
    labels = _array(path / f"{split}_labels.npy", rank=1)
    if images.dtype != np.uint8:
        raise InputError(
            f"{path / f'{split}_images.npy'} holds {images.dtype}: accepted is uint8 "
            "with axes (N, H, W, C)"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{path} has {len(images):,} {split} images and {len(labels):,} labels: "
            "each image needs one label"
        )
    _check_range(labels, classes, f"{path / f'{split}_labels.npy'}")
    return Split(images, labels.astype(np.int32))


def _array(path: Path, rank: int) -> np.ndarray:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: a directory of arrays holds {_FILES}"
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


def _class_count(path: Path) -> int:
    names = path / "classes.txt"
    if names.is_file():
        return sum(bool(line.strip()) for line in names.read_bytes().splitlines())
    largest = int(_array(path / "train_labels.npy", rank=1).max())
    return min(largest, np.iinfo(np.int32).max - 1) + 1


def _check_range(labels: np.ndarray, classes: int, where: str) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(
            f"{where} holds the label {wrong[0]}: with {classes} classes accepted are "
            f"0 to {classes - 1}"
        )
