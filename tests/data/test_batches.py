"""Orders, augmentation and normalisation on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnnq.data import batches
from jsnnq.errors import InputError


def test_order_is_a_permutation_of_each_epoch(key):
    orders = [np.asarray(batches.epoch_order(key, epoch, 50)) for epoch in (0, 1, 0)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()
    other = batches.epoch_order(jax.random.key(1), 0, 50)
    assert (orders[0] != np.asarray(other)).any()


def test_batches_of_an_epoch_follow_its_order(key):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(23, dtype=np.int32)
    order = batches.epoch_order(key, 3, 23)
    held = batches.hold(images, labels)
    step = jax.jit(batches.take, static_argnums=3)
    steps = batches.steps_per_epoch(23, 5)
    assert steps == 4
    seen = [step(held, order, index, 5) for index in range(steps)]
    rows = np.asarray(order)[:20]
    np.testing.assert_array_equal(np.concatenate([s[1] for s in seen]), labels[rows])
    np.testing.assert_array_equal(np.concatenate([s[0] for s in seen]), images[rows])
    assert step._cache_size() == 1


@pytest.mark.parametrize("batch", [0, -1, 24])
def test_batch_that_does_not_fit_is_refused(batch):
    with pytest.raises(InputError, match="between 1 and 23"):
        batches.steps_per_epoch(23, batch)


def moves(image, pad, flip):
    """Every image augmentation may make of one, by slicing a padded copy."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    for y in range(2 * pad + 1):
        for x in range(2 * pad + 1):
            window = padded[y : y + height, x : x + width]
            yield (y, x, False), window
            if flip:
                yield (y, x, True), window[:, ::-1]


@given(seed=st.integers(0, 2**31 - 1), pad=st.integers(0, 2), flip=st.booleans())
@settings(max_examples=25, deadline=None)
def test_augmented_images_are_shifted_and_mirrored_ones(seed, pad, flip):
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (6, 5, 7, 2), dtype=np.uint8)
    moved = batches.augment(
        jax.random.key(seed), jnp.asarray(images), pad=pad, flip=flip
    )
    assert moved.dtype == jnp.uint8
    for image, result in zip(images, np.asarray(moved), strict=True):
        assert any((result == m).all() for _, m in moves(image, pad, flip))


def test_every_move_happens_and_each_image_has_its_own(key):
    image = np.arange(1, 26, dtype=np.uint8).reshape(5, 5, 1)
    images = jnp.asarray(np.stack([image] * 1800))
    moved = np.asarray(batches.augment(key, images, pad=1, flip=True))
    counts = {
        move: int((moved == result).all((1, 2, 3)).sum())
        for move, result in moves(image, 1, True)
    }
    assert sum(counts.values()) == 1800
    # 18 moves, 100 images each give or take 5 standard deviations.
    assert min(counts.values()) > 50
    assert max(counts.values()) < 150


def test_augmentation_is_the_same_under_jit_and_none_by_default(key):
    images = jnp.arange(200, dtype=jnp.uint8).reshape(2, 10, 10, 1)
    jitted = jax.jit(batches.augment, static_argnames=("pad", "flip"))
    np.testing.assert_array_equal(
        jitted(key, images, pad=2, flip=True),
        batches.augment(key, images, pad=2, flip=True),
    )
    np.testing.assert_array_equal(
        batches.augment(key, images, pad=0, flip=False), images
    )


def test_normalised_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (3, 4, 4, 2), dtype=np.uint8)
    mean, std = (0.3, 0.5), (0.2, 0.25)
    result = batches.Preprocessing(mean, std, 16.0)(jnp.asarray(images))
    expected = (images / 16.0 - np.array(mean)) / np.array(std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
