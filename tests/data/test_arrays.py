"""A user's own arrays: what is understood, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import jsnnq
from jsnnq import InputError
from jsnnq.data import batches

_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(0, 256, (12, 5, 7, 3), np.uint8)
_LABELS = np.arange(12) % 4


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("where", [np.asarray, jnp.asarray])
def test_images_of_any_size_and_labels_of_any_integers(kind, where):
    data = jsnnq.from_arrays(where(_IMAGES), where(_LABELS.astype(kind)))
    assert data.classes == 4
    assert data.image_shape == (5, 7, 3)
    assert data.test is None
    assert data.train.labels.dtype == np.int32
    np.testing.assert_array_equal(data.train.labels, _LABELS)
    np.testing.assert_array_equal(data.train.images, _IMAGES)


def test_pixels_are_divided_by_255_and_normalised():
    data = jsnnq.from_arrays(_IMAGES, _LABELS)
    x = _IMAGES / 255
    want = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    np.testing.assert_allclose(data.preprocessing(_IMAGES), want, atol=1e-6)


def test_floats_are_normalised_as_they_are():
    x = _RNG.normal(3, [1, 10, 100], (12, 5, 7, 3))
    data = jsnnq.from_arrays(x, _LABELS)
    want = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    seen = data.preprocessing(data.train.images)
    np.testing.assert_allclose(seen, want, atol=1e-5)


def test_a_normalisation_that_is_given_is_used():
    data = jsnnq.from_arrays(_IMAGES, _LABELS, mean=(0.5, 0.25, 0), std=(1, 2, 4))
    want = (_IMAGES / 255 - [0.5, 0.25, 0]) / [1, 2, 4]
    np.testing.assert_allclose(data.preprocessing(_IMAGES), want, atol=1e-6)


def test_one_hot_labels_and_grey_images():
    data = jsnnq.from_arrays(_IMAGES[..., 0], np.eye(6)[_LABELS])
    assert data.image_shape == (5, 7, 1)
    assert data.classes == 6
    np.testing.assert_array_equal(data.train.labels, _LABELS)


def test_frames_have_time_in_front_where_the_network_reads_them():
    frames = _RNG.random((12, 4, 5, 7, 2)).astype(np.float32)
    data = jsnnq.from_arrays(frames, _LABELS)
    assert data.image_shape == (4, 5, 7, 2)
    seen = np.asarray(data.preprocessing(frames))
    assert seen.shape == (4, 12, 5, 7, 2)
    mean, std = frames.mean((0, 1, 2, 3)), frames.std((0, 1, 2, 3))
    want = np.moveaxis((frames - mean) / std, 1, 0)
    np.testing.assert_allclose(seen, want, atol=1e-5)


def test_frames_of_one_image_are_shifted_and_mirrored_together():
    import jax

    frames = np.repeat(_IMAGES[:, None], 3, axis=1)
    moved = np.asarray(
        batches.augment(jax.random.key(1), jnp.asarray(frames), pad=2, flip=True)
    )
    assert (moved != frames).any()
    np.testing.assert_array_equal(moved, np.repeat(moved[:, :1], 3, axis=1))
    still = batches.augment(jax.random.key(1), jnp.asarray(_IMAGES), pad=2, flip=True)
    np.testing.assert_array_equal(moved[:, 0], still)


def test_nothing_is_augmented_unless_asked():
    plain, moved = (
        jsnnq.from_arrays(np.tile(_IMAGES, (1, 4, 2, 1)), _LABELS, augment=augment)
        for augment in (False, True)
    )
    assert (plain.pad, plain.flip) == (0, False)
    assert (moved.pad, moved.flip) == (2, True)


def test_channels_first_are_said():
    with pytest.warns(UserWarning, match="3 x 32 pixels with 32 channels.*moveaxis"):
        data = jsnnq.from_arrays(np.zeros((4, 3, 32, 32), np.uint8), [0, 1, 2, 3])
    assert "3 x 32 pixels with 32 channels" in data.note


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((_IMAGES[:0], _LABELS[:0]), {}, "without an empty axis"),
        ((_IMAGES, _LABELS[:5]), {}, "12 images and y_train 5 labels"),
        ((_IMAGES, _LABELS), {"classes": 3}, "label 3: with 3 classes"),
        ((_IMAGES, _LABELS - 1), {}, "label -1"),
        ((_IMAGES, _LABELS / 2), {}, "float64 of shape .12,.: integers"),
        ((_IMAGES, np.ones((12, 3))), {}, "not one-hot"),
        ((_IMAGES.astype(int), _LABELS), {}, "x_train is int64: uint8"),
        ((_IMAGES[0, 0], _LABELS), {}, "has shape .7, 3.: images"),
        ((np.full(_IMAGES.shape, np.nan), _LABELS), {}, "NaN or infinite"),
        ((_IMAGES, _LABELS, _IMAGES), {}, "x_test is given without y_test"),
        ((_IMAGES, _LABELS, _IMAGES[:, 1:], _LABELS), {}, "images of one shape"),
        ((_IMAGES, _LABELS), {"mean": (1, 2)}, "3 finite numbers"),
        ((_IMAGES, _LABELS), {"std": (1, 2, 0)}, "above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(arguments, options, sentence):
    with pytest.raises(InputError, match=sentence):
        jsnnq.from_arrays(*arguments, **options)
