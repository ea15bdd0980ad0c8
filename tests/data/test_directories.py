"""Folders of images by class."""

import numpy as np
import pytest
from PIL import Image

import jsnnq
from jsnnq import InputError

_RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Two classes of four training images, and two held out under another name."""
    for split, count in (("train", 4), ("val", 1)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                picture(tmp_path / split / name / f"{i}.png")
    return tmp_path


def picture(path, shape=(5, 7, 3)):
    pixels = _RNG.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_by_class_are_a_data_set(folder):
    pixels = picture(folder / "train" / "dog" / "2.png")
    data = jsnnq.load_data(str(folder))
    assert data.class_names == ("cat", "dog")
    assert (data.classes, data.image_shape) == (2, (5, 7, 3))
    assert data.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(data.train.images[6], pixels)
    assert len(data.test) == 2
    assert (data.pad, data.flip) == (0, False)
    assert "8 train, 2 test" in data.note


def test_without_images_held_out_there_is_no_test_split(folder):
    (folder / "val").rename(folder / "elsewhere")
    assert jsnnq.load_data(str(folder)).test is None


def test_grey_images_have_one_channel_unless_one_is_coloured(folder):
    for path in folder.rglob("*.png"):
        picture(path, (5, 7))
    assert jsnnq.load_data(str(folder)).image_shape == (5, 7, 1)
    picture(folder / "train" / "cat" / "0.png")
    with pytest.raises(InputError, match="differ in shape between training and test"):
        jsnnq.load_data(str(folder))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: picture(f / "train/cat/1.png", (5, 8, 3)), "5 x 8.*5 x 7.*one size"),
        (lambda f: (f / "train/cat/1.png").write_bytes(b"x"), "1.png cannot be read"),
        (lambda f: (f / "val/fox").mkdir(), "class 'fox', which the training"),
        (lambda f: [p.unlink() for p in f.glob("val/*/*")], "no PNG or JPEG image"),
        (
            lambda f: [p.rename(f / p.name) for p in list((f / "train").iterdir())],
            "has no folder in it",
        ),
    ],
)
def test_what_is_no_folder_of_images_is_refused(folder, spoil, sentence):
    spoil(folder)
    with pytest.raises(InputError, match=sentence):
        jsnnq.load_data(str(folder))
