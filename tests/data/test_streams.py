"""Images decoded as they are read: crops, damage, reading ahead."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from jsnnq.data import sets, streams
from jsnnq.errors import InputError


class Ramps(list):
    """PNG images whose red is the column and whose green is the row."""

    def __init__(self, size, width=200, height=160):
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        image = np.stack([x, y, np.full_like(x, 7)], -1).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        super().__init__({"image": out.getvalue(), "label": i} for i in range(size))

    def __getitems__(self, keys):
        return [self[key] for key in keys]


@pytest.fixture(scope="module")
def crops():
    return streams.Records(Ramps(60), True, "ramps").read(range(60), seed=5)[0]


def test_training_crops_lie_inside_and_are_mirrored_half_the_time(crops):
    x, y = crops[..., 0].astype(int), crops[..., 1].astype(int)
    mirrored = x[:, 0, 0] > x[:, 0, -1]
    assert 15 < mirrored.sum() < 45
    width, height = np.ptp(x, (1, 2)) + 1, np.ptp(y, (1, 2)) + 1
    area, ratio = width * height / (200 * 160), width / height
    # Resizing hides up to a pixel at each edge of a crop.
    assert area.min() > 0.07
    assert area.max() <= 1
    assert area.max() - area.min() > 0.5
    assert ratio.min() > 0.70
    assert ratio.max() < 1.42
    assert (np.diff(y, axis=1) >= 0).all()
    assert (crops[..., 2] == 7).all()


def test_a_crop_belongs_to_its_seed_and_number(crops):
    split = streams.Records(Ramps(60), True, "ramps")
    images, labels = split.read([31, 4], seed=5)
    np.testing.assert_array_equal(images, crops[[31, 4]])
    np.testing.assert_array_equal(labels, [31, 4])
    assert (split.read([31], seed=6)[0] != crops[31]).any()
    first, second = (split.read([31], seed=(5, epoch))[0] for epoch in (0, 1))
    assert (first != second).any()
    assert (crops[31] != crops[4]).any()


def test_image_too_long_for_any_crop_is_cut_in_its_middle():
    # No crop of 8 % of the area at an allowed ratio fits into 250 x 4 pixels.
    split = streams.Records(Ramps(3, 250, 4), True, "ramps")
    columns = split.read([0, 1, 2])[0][..., 0]
    # The middle at ratio 4/3: columns 122 to 126 for the five that 4 * 4/3 rounds to.
    assert columns.min() == 122
    assert columns.max() == 126


@pytest.mark.parametrize(("width", "height"), [(256, 250), (200, 256)])
def test_central_crop(width, height):
    split = streams.Records(Ramps(1, width, height), False, "ramps")
    image = split.read([0])[0][0].astype(float)
    # Pixel i of the output lies at this column and row of the original.
    zoom = 256 / min(width, height)
    at = (np.arange(224) + 0.5 - 112) / zoom - 0.5
    np.testing.assert_allclose(
        image[112, :, 0], at + width / 2, atol=1.1 / min(1, zoom)
    )
    np.testing.assert_allclose(
        image[:, 112, 1], at + height / 2, atol=1.1 / min(1, zoom)
    )


def test_damaged_record_is_refused():
    source = Ramps(3)
    source[1]["image"] = source[1]["image"][:200]
    with pytest.raises(InputError, match="ramps is damaged"):
        streams.Records(source, False, "ramps").read([0, 1])


class Log(sets.Split):
    """A split that remembers what was read, and fails at one number."""

    def __init__(self, size, fails_at=None):
        images = np.zeros((size, 1, 1, 1), np.uint8)
        super().__init__(images, np.arange(size, dtype=np.int32))
        object.__setattr__(self, "read_rows", [])
        object.__setattr__(self, "fails_at", fails_at)

    def read(self, indices, seed=0):
        self.read_rows.extend(indices)
        if self.fails_at in indices:
            raise InputError("record 7 is damaged")
        return super().read(indices, seed)


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith("jsnnq-batches")]


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_and_whole(threads):
    order = np.random.default_rng(0).permutation(23)
    read = list(streams.batches(Log(23), order, 5, threads=threads))
    assert [len(labels) for _, labels in read] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate([y for _, y in read]), order)
    assert not reading_threads()


def test_batches_pass_the_seed_on():
    split = streams.Records(Ramps(4), True, "ramps")
    ((images, _),) = streams.batches(split, range(4), 4, seed=(1, 2))
    np.testing.assert_array_equal(images, split.read(range(4), (1, 2))[0])


def test_closed_batches_stop_reading():
    split = Log(1000)
    reader = streams.batches(split, range(1000), 1, threads=2)
    next(reader)
    reader.close()
    assert len(split.read_rows) <= 4
    assert not reading_threads()


def test_batches_hand_on_what_went_wrong():
    reader = streams.batches(Log(20, fails_at=7), range(20), 4, threads=2)
    next(reader)
    with pytest.raises(InputError, match="record 7"):
        next(reader)
    assert not reading_threads()
