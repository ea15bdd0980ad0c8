import io
import shlex
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from jsnnq.data import sets
from jsnnq.data.arrays import in_memory
from jsnnq.data.prepare import prepare
from jsnnq.errors import InputError
from tests.data.test_prepare import small_archive


def multiset(images, labels):
    return sorted(
        image.tobytes() + bytes([label])
        for image, label in zip(images, labels, strict=True)
    )


# Digits and synthetic images.


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    digits = sets.load("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert multiset(
        np.concatenate([digits.train.images, digits.test.images]),
        np.concatenate([digits.train.labels, digits.test.labels]),
    ) == multiset(images.astype(np.uint8), target)
    assert digits.classes == 10
    assert set(digits.test.labels) == set(range(10))
    assert digits.image_shape == (8, 8, 1)
    assert digits.scale == images.max() == 16
    assert (digits.pad, digits.flip) == (1, False)
    assert "1,437 train, 360 test" in digits.note


def test_digits_split_does_not_depend_on_the_seed():
    first, second = sets.load("digits", seed=0), sets.load("digits", seed=1)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)


def test_statistics_are_those_of_the_training_images():
    digits = sets.load("digits")
    pixels = digits.train.images.astype(np.float64) / 16
    assert digits.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert digits.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-12)


def test_synthetic_images_can_be_learned():
    made = sets.synthetic((6, 5, 3), classes=7, train=140, test=70, seed=3)
    assert made.image_shape == (6, 5, 3)
    train = made.train.images.astype(float)
    means = np.stack([train[made.train.labels == k].mean(0) for k in range(7)])
    distance = ((made.test.images[:, None] - means[None]) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == made.test.labels).mean() > 0.95
    assert distance.min() > 0


def test_synthetic_images_are_called_so_and_follow_the_seed():
    first, again, other = (sets.load("synthetic", seed=s) for s in (0, 0, 1))
    assert first.name == "synthetic"
    assert "not real" in first.note
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert (first.train.images != other.train.images).any()
    assert not set(multiset(first.train.images, first.train.labels)) & set(
        multiset(first.test.images, first.test.labels)
    )


# A directory of arrays.


def save_arrays(folder, *shape):
    """A few images and labels, as arrays."""
    rng = np.random.default_rng(0)
    for split, size in (("train", 12), ("test", 5)):
        images = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", np.arange(size) % 4)


@pytest.fixture
def arrays(tmp_path):
    """A good directory, to be spoilt."""
    save_arrays(tmp_path, 4, 3, 2)
    return tmp_path


@pytest.fixture
def packed(tmp_path):
    """CIFAR-10 as arrays in the folder of its name; few of them."""
    (tmp_path / "cifar10").mkdir()
    save_arrays(tmp_path / "cifar10", 32, 32, 3)
    return tmp_path


def test_directory_of_arrays(arrays):
    loaded = sets.load(str(arrays))
    assert loaded.classes == 4
    assert loaded.image_shape == (4, 3, 2)
    for split, part in (("train", loaded.train), ("test", loaded.test)):
        np.testing.assert_array_equal(
            part.images, np.load(arrays / f"{split}_images.npy")
        )
        np.testing.assert_array_equal(part.labels, np.arange(len(part)) % 4)
    assert (loaded.pad, loaded.flip) == (0, False)
    assert "12 train, 5 test" in loaded.note


def test_cifar_may_be_given_as_arrays(packed, monkeypatch):
    loaded = sets.load("cifar10", data_dir=packed)
    # What is known of CIFAR-10 still holds: classes, shifts and mirror images.
    assert (loaded.classes, loaded.pad, loaded.flip) == (10, 4, True)
    np.testing.assert_array_equal(
        loaded.train.images, np.load(packed / "cifar10" / "train_images.npy")
    )
    np.testing.assert_array_equal(loaded.test.labels, np.arange(5) % 4)
    assert "cifar10 of arrays" in loaded.note
    monkeypatch.setenv("TFDS_DATA_DIR", str(packed))
    assert sets.load("cifar10").note == loaded.note
    with pytest.raises(InputError, match="cifar100 is not prepared"):
        sets.load("cifar100", data_dir=packed)


def test_arrays_of_another_shape_are_not_cifar(packed):
    np.save(packed / "cifar10" / "test_images.npy", np.zeros((5, 8, 8, 1), np.uint8))
    with pytest.raises(InputError, match=r"\(8, 8, 1\): those of cifar10 are"):
        sets.load("cifar10", data_dir=packed)


def test_held_out_images_are_tested_on_and_not_trained_on():
    digits = sets.load("digits")
    found = sets.hold_out(digits, 237)
    assert (len(found.train), len(found.test)) == (1200, 237)
    parts = [found.train, found.test]
    together = (
        np.concatenate([getattr(p, k) for p in parts]) for k in ("images", "labels")
    )
    whole = multiset(digits.train.images, digits.train.labels)
    assert multiset(*together) == whole
    assert set(found.test.labels) == set(range(10))
    again = sets.hold_out(digits, 237)
    np.testing.assert_array_equal(again.test.images, found.test.images)
    assert (found.mean, found.std) == (digits.mean, digits.std)
    assert "237 training images, held out" in found.note
    assert digits.note in found.note


@pytest.mark.parametrize("count", [0, -1, 1437, 2000, True])
def test_some_training_images_must_be_left(count):
    with pytest.raises(InputError, match="hold-out is"):
        sets.hold_out(sets.load("digits"), count)


def test_class_names_decide_the_number_of_classes(arrays):
    (arrays / "classes.txt").write_text("a\nb\nc\nd\ne\nf\n\n")
    assert sets.load(str(arrays)).classes == 6


@pytest.mark.parametrize("scale", [16.0, 255.0])
def test_a_channel_that_never_varies_is_divided_by_1_at_every_grey_level(scale):
    levels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(levels, (7, 3, 5, 256))
    split = sets.Split(images, np.zeros(7, np.int32))
    made = in_memory("grey", 1, split, split, source="", scale=scale)
    assert made.std == (1.0,) * 256
    np.testing.assert_array_equal(made.mean, levels / scale)


@pytest.mark.parametrize("scale", [16.0, 255.0])
@pytest.mark.parametrize("size", [12, 2500])
def test_a_channel_that_varies_in_one_pixel_keeps_its_deviation(size, scale):
    images = np.broadcast_to(np.arange(256, dtype=np.uint8), (size, 4, 3, 256)).copy()
    images[size // 2, 1, 2] ^= 1  # by one grey level
    split = sets.Split(images, np.zeros(size, np.int32))
    made = in_memory("grey", 1, split, split, source="", scale=scale)
    one = images.reshape(-1, 256).astype(np.float64)
    np.testing.assert_allclose(made.mean, one.mean(axis=0) / scale, rtol=1e-12)
    np.testing.assert_allclose(made.std, one.std(axis=0) / scale, rtol=1e-9)
    # One of N off by 1: sqrt(N - 1) / N.
    count = len(one)
    np.testing.assert_allclose(made.std, (count - 1) ** 0.5 / count / scale, rtol=1e-9)


def with_nan(images):
    floats = images.astype(np.float32)
    floats[0, 0, 0, 0] = np.nan
    return floats


@pytest.mark.parametrize(
    ("file", "spoil", "sentence"),
    [
        ("train_images", lambda x: x.astype(np.float32), "holds float32: images"),
        ("test_images", with_nan, "float32 and NaN among it"),
        ("train_images", lambda x: x.astype(np.int32), "accepted is uint8"),
        ("train_images", lambda x: x[0], r"accepted is \(N, H, W, C\)"),
        ("train_images", lambda x: x[:0], "without an empty axis"),
        ("test_images", lambda x: x[:, :, :0], "without an empty axis"),
        ("test_images", lambda x: x[:, :3], "differ in shape"),
        ("train_images", lambda x: x[:-1], "11 train images and 12 labels"),
        ("train_labels", lambda y: y[:, None], r"accepted is \(N,\)"),
        ("train_labels", lambda y: y / 2, "labels integers"),
        ("train_labels", lambda y: y - 1, "the label -1: with 3 classes"),
        ("train_labels", lambda y: y + 10**12, "holds the label 1000000000000"),
        ("test_labels", lambda y: y + 1, "the label 4: with 4 classes .* 0 to 3"),
        ("test_labels", lambda y: y.astype(object), "cannot be read"),
    ],
)
def test_unusable_arrays_are_refused(arrays, file, spoil, sentence):
    path = arrays / f"{file}.npy"
    np.save(path, spoil(np.load(path)))
    with pytest.raises(InputError, match=sentence):
        sets.load(str(arrays))


@pytest.mark.parametrize("kept", [0, 40, 200])
def test_truncated_array_is_refused(arrays, kept):
    path = arrays / "train_images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"train_images.npy cannot be read"):
        sets.load(str(arrays))


def test_missing_array_is_named(arrays):
    (arrays / "test_labels.npy").unlink()
    with pytest.raises(InputError, match=r"test_labels.npy is missing"):
        sets.load(str(arrays))


# Names, and sets that are not there.


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mnist", {}, "'mnist': accepted are cifar10, cifar100, d"),
        ("cifar100", {"labels": "super"}, "'coarse', 'fine'"),
        ("digits", {"labels": "coarse"}, "only cifar100 has"),
        ("cifar100", {}, "--data-dir or TFDS_DATA_DIR"),
        ("imagenet2012", {"data_dir": "x"}, "needs TensorFlow.*tfds build imagenet"),
    ],
)
def test_sets_that_are_not_there_are_refused(name, options, says):
    with pytest.raises(InputError, match=says):
        sets.load(name, **options)


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_unprepared_set_names_the_command_without_asking_tfds(
    how, tmp_path, monkeypatch
):
    # An import of TFDS would fail: files are looked at before TFDS is touched.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    if how == "environment":
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    given = tmp_path if how == "argument" else None
    command = f"`jsnnq prepare cifar10 --data-dir {tmp_path}`"
    with pytest.raises(InputError, match=command):
        sets.load("cifar10", data_dir=given)


def test_the_command_that_prepares_a_set_can_be_typed(tmp_path):
    folder = tmp_path / "my sets [1]"
    for name in ("cifar10", "imagenet2012"):
        with pytest.raises(InputError) as caught:
            sets.load(name, data_dir=folder)
        command = str(caught.value).split("`")[1].rpartition("&& ")[2]
        assert str(folder) in shlex.split(command)


def test_set_that_is_being_written_is_not_prepared(tmp_path):
    half = tmp_path / "cifar10" / "incomplete.ABC_3.0.2"
    half.mkdir(parents=True)
    (half / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="is not prepared"):
        sets.load("cifar10", data_dir=tmp_path)


# Prepared CIFAR.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Both CIFAR sets with random images, and these images."""
    folder = tmp_path_factory.mktemp("prepared")
    images = {}
    for name in ("cifar10", "cifar100"):
        file, published, images[name] = small_archive(name, folder)
        prepare(name, folder, file, published=published)
    return folder, images


@pytest.mark.parametrize(
    ("name", "labels", "prefix", "classes"),
    [
        ("cifar10", "fine", "", 10),
        ("cifar100", "fine", "fine_", 100),
        ("cifar100", "coarse", "coarse_", 20),
    ],
)
def test_prepared_cifar_is_read(prepared, name, labels, prefix, classes):
    folder, images = prepared
    loaded = sets.load(name, data_dir=folder, labels=labels)
    assert loaded.classes == classes
    assert loaded.image_shape == (32, 32, 3)
    assert (loaded.pad, loaded.flip, loaded.scale) == (4, True, 255)
    for split, part in (("train", loaded.train), ("test", loaded.test)):
        original = images[name][split]
        assert multiset(part.images, part.labels) == multiset(
            original["image"], original[prefix]
        )
    assert "30 train, 10 test" in loaded.note


@pytest.fixture
def spoilt(prepared, tmp_path):
    """A copy of a prepared set, to be spoilt."""
    shutil.copytree(prepared[0] / "cifar10", tmp_path / "cifar10")
    return next((tmp_path / "cifar10").iterdir())


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("cifar10-train.array_record-00000-of-00001", lambda b: b[: len(b) // 2]),
        ("cifar10-train.array_record-00000-of-00001", lambda b: flip(b, 40_000)),
        ("cifar10-test.array_record-00000-of-00001", lambda b: b""),
        ("dataset_info.json", lambda b: b[:100]),
        ("features.json", lambda b: b[:100]),
    ],
)
def test_damaged_prepared_set_is_refused(spoilt, file, damage):
    path = spoilt / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="is damaged or incomplete.*prepare the set"):
        sets.load("cifar10", data_dir=spoilt.parents[1])


def test_missing_shard_is_named(spoilt):
    (spoilt / "cifar10-test.array_record-00000-of-00001").unlink()
    with pytest.raises(InputError, match=r"cifar10-test.array_record.* is missing"):
        sets.load("cifar10", data_dir=spoilt.parents[1])


def test_set_prepared_in_another_format_is_refused(spoilt):
    info = spoilt / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for shard in spoilt.glob("*.array_record-*"):
        shard.rename(str(shard).replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="another format than array_record"):
        sets.load("cifar10", data_dir=spoilt.parents[1])


# Records that are decoded as they are read.


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Nine small JPEG images, written by the stock builder without TensorFlow."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("imagenet")
    x, y = np.meshgrid(np.arange(300), np.arange(256))
    image = np.stack([x % 256, y, y], -1).astype(np.uint8)
    image[:, 256:] = 255
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=100, subsampling=0)

    def examples(size):
        for i in range(size):
            yield i, {"image": out.getvalue(), "label": 99 * i, "file_name": f"{i}"}

    tfds.disable_progress_bar()
    builder = tfds.builder(
        "imagenet2012", data_dir=folder, file_format="array_record", try_gcs=False
    )
    builder._split_generators = lambda dl_manager: {
        "train": examples(6),
        "validation": examples(3),
    }
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder, image


def test_imagenet_is_read_from_disk(imagenet):
    folder, original = imagenet
    loaded = sets.load("imagenet2012", data_dir=folder)
    assert (len(loaded.train), len(loaded.test)) == (6, 3)
    assert loaded.classes == 1000
    images, labels = loaded.test.read([0, 1, 2])
    assert set(labels) == {0, 99, 198}
    # The shorter side is 256 already, so this is the middle of the original.
    middle = original[16:240, 38:262].astype(int)
    assert np.abs(images - middle[None]).mean() < 1
    crops, labels = loaded.train.read(range(6), seed=(0, 1))
    assert crops.shape == (6, *loaded.image_shape)
    assert set(labels) == {99 * i for i in range(6)}


def test_nothing_is_held_out_of_a_set_that_stays_on_disk(imagenet):
    with pytest.raises(InputError, match="imagenet2012 stays on disk"):
        sets.hold_out(sets.load("imagenet2012", data_dir=imagenet[0]), 2)


def test_damaged_imagenet_shard_is_refused(imagenet, tmp_path):
    shutil.copytree(imagenet[0] / "imagenet2012", tmp_path / "imagenet2012")
    shard = next(tmp_path.rglob("*-train.array_record-*"))
    shard.write_bytes(flip(shard.read_bytes(), 3_000))
    loaded = sets.load("imagenet2012", data_dir=tmp_path)
    with pytest.raises(InputError, match="is damaged or incomplete"):
        loaded.train.read(range(6))
