"""Every form of the convolution against SciPy's correlation, in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from jsnnq.networks import convolve as plain_forms
from jsnnq.networks.convolve import convolve, plain
from jsnnq.runtime import cpu as forms
from jsnnq.runtime import patches, winograd

# x, kernel and stride for every form: by its size on purpose, since it chooses.
FORMS = {
    "one pixel": ((3, 5, 6, 4), (1, 1, 4, 2), 1),
    "one pixel, wide": ((3, 5, 6, 2), (1, 1, 2, 5), 1),
    "one pixel, strided": ((3, 5, 8, 4), (1, 1, 4, 6), 2),
    "small image": ((3, 2, 1, 4), (3, 3, 4, 5), 1),
    "small image, strided": ((3, 2, 2, 4), (3, 3, 4, 5), 2),
    "tiles": ((4, 16, 18, 64), (3, 3, 64, 65), 1),
    "tiles, narrowing": ((4, 16, 18, 66), (3, 3, 66, 64), 1),
    "large tiles back": ((8, 16, 12, 66), (3, 3, 66, 65), 1),
    "tiles, all images at once": ((65, 4, 4, 64), (3, 3, 64, 64), 1),
    "patches of a stride": ((5, 16, 16, 64), (3, 3, 64, 65), 2),
    "pairs": ((4, 64, 128, 8), (3, 3, 8, 16), 1),
    "shifts": ((2, 128, 128, 9), (3, 3, 9, 17), 1),
    "shifts, narrowing": ((2, 128, 128, 20), (3, 3, 20, 8), 1),
    "phases": ((4, 64, 128, 8), (3, 3, 8, 16), 2),
    "few channels": ((4, 16, 16, 3), (3, 3, 3, 64), 1),
    "odd size": ((5, 15, 16, 64), (3, 3, 64, 64), 1),
    "odd size, strided": ((5, 15, 16, 64), (3, 3, 64, 64), 2),
    "seven pixels": ((2, 12, 12, 3), (7, 7, 3, 4), 2),
}
CASES = pytest.mark.parametrize("shapes", FORMS.values(), ids=FORMS.keys())


# Gradients of these are F(4x4, 3x3)'s.
LARGE = ("large tiles back", "tiles, all images at once")


def _drawn(shapes, seed=0, draw=None):
    generator = np.random.default_rng(seed)
    x_shape, kernel_shape, stride = shapes
    draw = draw or (lambda shape: generator.normal(size=shape))
    x, kernel = draw(x_shape), draw(kernel_shape)
    height, width = (1 + (n - 1) // stride for n in x_shape[1:3])
    g = draw((x_shape[0], height, width, kernel_shape[-1]))
    return [jnp.asarray(each, jnp.float32) for each in (x, kernel, g)]


def _by_scipy(x, kernel, stride):
    """y[n, :, :, o] = sum over c of x[n, :, :, c] correlated with K[:, :, c, o]."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    margin = (kernel.shape[0] - 1) // 2
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    y = [
        [
            sum(
                correlate2d(image[:, :, c], kernel[:, :, c, o], "valid")
                for c in range(kernel.shape[2])
            )
            for o in range(kernel.shape[3])
        ]
        for image in x
    ]
    return np.moveaxis(np.array(y), 1, -1)[:, ::stride, ::stride]


def _all_three(function, x, kernel, g, stride):
    y, back = jax.vjp(functools.partial(function, stride=stride), x, kernel)
    return y, *back(g)


def _farthest(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


@CASES
def test_values_are_those_of_scipy(shapes):
    # The first channels of the result are enough: SciPy takes a second for each.
    x, kernel, _ = _drawn(shapes)
    kernel = kernel.at[:, :, 3:].set(0)
    few = kernel[..., :2]
    y = jax.jit(convolve, static_argnums=2)(x, kernel, shapes[2])
    expected = _by_scipy(x[..., :3], few[:, :, :3], shapes[2])
    assert _farthest(y[..., :2], expected) < 2e-6


@pytest.mark.parametrize("case", FORMS)
@pytest.mark.parametrize(("cache", "least"), [(patches._CACHE, 128), (1, 1), (1, 40)])
def test_gradients_are_those_of_the_plain_convolution_in_double_precision(
    monkeypatch, case, cache, least
):
    # In one part, one image at a time, and a few.
    monkeypatch.setattr(patches, "_CACHE", cache)
    monkeypatch.setattr(winograd, "_ROWS", least)
    shapes = FORMS[case]
    single = _drawn(shapes)
    with jax.enable_x64():
        double = [jnp.asarray(each, jnp.float64) for each in single]
        expected = _all_three(plain, *double, shapes[2])
        expected = [np.asarray(each) for each in expected]
    found = _all_three(convolve, *single, shapes[2])
    bounds = (2e-6, 2.5e-6, 2.5e-6) if case in LARGE else (2e-6,) * 3
    for a, b, bound in zip(found, expected, bounds, strict=True):
        assert a.dtype == jnp.float32
        assert _farthest(a, b) < bound


@pytest.mark.parametrize("case", FORMS)
def test_small_integers_come_out_exactly(case):
    # So a binary network is the same network, whatever form computes it.
    shapes = FORMS[case]
    generator = np.random.default_rng(1)
    drawn = _drawn(shapes, draw=lambda shape: generator.integers(-2, 3, shape))
    found = _all_three(convolve, *drawn, shapes[2])
    expected = _all_three(plain, *drawn, shapes[2])
    exact = 1 if case in LARGE else 3
    for a, b in list(zip(found, expected, strict=True))[:exact]:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", [winograd.F2, winograd.F4])
def test_minimal_filtering_is_a_correlation(form):
    # In one dimension, in double precision: A^T ((G k) * (B^T d)).
    generator = np.random.default_rng(2)
    pixels, kernel = generator.normal(size=form.step + 2), generator.normal(size=3)
    of_pixels, of_kernel, outputs = map(np.array, form)
    found = outputs @ ((of_kernel @ kernel) * (of_pixels @ pixels))
    expected = np.correlate(pixels, kernel, "valid")
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_nothing_comes_back_where_there_is_no_gradient():
    # What is frozen is told apart by gradients of exactly zero.
    x, kernel, g = _drawn(((8, 16, 16, 64), (3, 3, 64, 64), 1))
    x, g = x.at[..., 5].set(0), g.at[..., 7].set(0).at[3].set(0)
    of_x, of_kernel = _all_three(convolve, x, kernel, g, 1)[1:]
    np.testing.assert_array_equal(of_x[3], 0)
    np.testing.assert_array_equal(of_kernel[:, :, 5], 0)
    np.testing.assert_array_equal(of_kernel[..., 7], 0)
    assert np.count_nonzero(of_kernel) == 9 * 63 * 63


@pytest.mark.parametrize(
    ("shape", "form", "parts"),
    [
        ((64, 32, 32, 64), winograd.F2, 32),  # 1 MiB of tiles for an image
        ((64, 32, 32, 64), winograd.F4, 16),  # 9/16 MiB
        ((65, 32, 32, 64), winograd.F4, 13),  # 4 would fit; 1 were too few
        ((64, 8, 8, 256), winograd.F4, 2),  # 4 tiles in an image, 128 at least
        ((127, 8, 8, 256), winograd.F4, 1),
        ((16, 8, 8, 256), winograd.F4, 1),
        ((2, 128, 128, 64), winograd.F2, 2),
    ],
)
def test_parts_fit_in_the_cache_unless_products_were_too_small(shape, form, parts):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = jax.eval_shape(lambda x: jnp.zeros(winograd._tile_parts(x, form)), x)
    assert found.shape == (parts,)


def test_maps_and_second_derivatives():
    x, kernel, g = _drawn(((2, 8, 16, 64), (3, 3, 64, 64), 1))
    x = jnp.tile(x, (8, 1, 1, 1))

    def bent(function):
        first = jax.grad(lambda k, x: jnp.sum(function(x, k) ** 2))
        return jax.grad(lambda k, x: jnp.sum(first(k, x)[..., 0] ** 2))(kernel, x)

    assert _farthest(bent(convolve), bent(plain)) < 1e-5
    many = jax.vmap(convolve, (0, None))(jnp.stack([x, 2 * x]), kernel)
    assert _farthest(many[1], 2 * plain(x, kernel)) < 2e-6


@pytest.mark.parametrize("count", [1, 4, 6, 7])
def test_images_come_out_alike_however_many_there_are(count):
    # Groups are 2 images of 64 channels and 32x32, or 1 where the count is odd.
    x, kernel, _ = _drawn(((8, 32, 32, 64), (3, 3, 64, 64), 1))
    whole = convolve(x, kernel)
    np.testing.assert_allclose(convolve(x[:count], kernel), whole[:count], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "channels", "form"),
    [
        ((8, 16, 16, 64), 64, winograd.F4),
        ((8, 16, 16, 64), 128, winograd.F4),
        ((8, 16, 16, 64), 129, winograd.F2),  # 128 tiles are too few
        ((9, 16, 16, 129), 64, winograd.F4),
        ((99, 16, 18, 64), 64, winograd.F2),
    ],
)
def test_gradients_have_large_tiles_where_they_are_many(
    monkeypatch, shape, channels, form
):
    used = []
    monkeypatch.setattr(
        forms, "filter_tiles_back", lambda g, k, form: used.append(form) or 0 * x
    )
    usual = forms.correlate_tiles
    monkeypatch.setattr(
        forms,
        "correlate_tiles",
        lambda x, g, form: used.append(form) or usual(x, g, form),
    )
    zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
    x, kernel = zeros(shape), zeros((3, 3, shape[-1], channels))
    g = zeros((*shape[:3], channels))
    jax.eval_shape(lambda x, k: jax.vjp(convolve, x, k)[1](g), x, kernel)
    assert used == [form, form]


@pytest.mark.parametrize(
    ("shapes", "form"),
    [
        (((4, 16, 16, 64), (3, 3, 64, 64), 1), "filter_tiles"),
        (((4, 16, 16, 64), (3, 3, 64, 64), 2), "plain"),
        (((3, 16, 16, 64), (3, 3, 64, 64), 1), "plain"),  # 192 tiles are too few
        (((4, 16, 16, 63), (3, 3, 63, 64), 1), "plain"),
        (((4, 16, 16, 64), (1, 1, 64, 64), 2), "multiply_patches"),
        (((4, 2, 2, 64), (3, 3, 64, 64), 1), "multiply_patches"),
    ],
)
def test_the_form_follows_from_the_shapes(monkeypatch, shapes, form):
    used = []
    for name in ("filter_tiles", "plain", "multiply_patches"):
        room = forms if name == "filter_tiles" else plain_forms
        usual = getattr(room, name)

        def spied(*args, name=name, usual=usual, **named):
            used.append(name)
            return usual(*args, **named)

        monkeypatch.setattr(room, name, spied)
    x, kernel, _ = _drawn(shapes)
    jax.eval_shape(functools.partial(convolve, stride=shapes[2]), x, kernel)
    # Both branches of a choice between platforms are traced.
    assert used[0] == form


@pytest.mark.parametrize(
    ("channels", "stride", "expected"),
    [
        ((8, 16), 1, ("filter_pairs", "filter_pairs_back", "correlate_shifts")),
        ((16, 17), 1, (None, None, "correlate_shifts")),
        ((17, 16), 1, (None, None, "correlate_shifts")),
        ((64, 63), 1, (None, None, "correlate_shifts")),
        ((8, 64), 2, (None, "filter_phases_back", "correlate_patches")),
        ((64, 64), 2, (None, "filter_phases_back", "correlate_patches")),
        ((8, 65), 2, (None, None, "correlate_patches")),
        ((64, 65), 2, (None, None, "correlate_patches")),
    ],
)
def test_few_channels_have_forms_of_their_own(channels, stride, expected):
    x = jnp.zeros((8, 64, 64, channels[0]))
    kernel = jnp.zeros((3, 3, *channels))
    assert forms.filters(x, kernel, stride)
    found = forms._forms(x, kernel, stride)
    assert tuple(form and form.__name__ for form in found) == expected


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((7, 64, 64, 63), 64),  # too few images for less than 64 channels
        ((8, 64, 64, 7), 8),
        ((8, 64, 64, 8), 7),
    ],
)
def test_small_convolutions_stay_plain(shape, channels):
    x = jnp.zeros(shape)
    kernel = jnp.zeros((3, 3, shape[-1], channels))
    assert not forms.filters(x, kernel, 1)


def test_few_channels_are_lowered_without_the_plain_gradient_of_a_kernel():
    x, kernel, g = _drawn(((8, 64, 64, 8), (3, 3, 8, 8), 2))
    traced = jax.jit(functools.partial(_all_three, convolve, stride=2))
    lowered = traced.trace(x, kernel, g).lower(lowering_platforms=("cpu",)).as_text()
    # The result, and the gradient of even and of odd rows.
    assert lowered.count("stablehlo.convolution") == 3
    assert "lhs_dilate = [2, 2]" not in lowered
    assert "rhs_dilate = [2, 2]" not in lowered


def test_accelerators_get_the_plain_convolution():
    x, kernel, g = _drawn(((4, 16, 16, 64), (3, 3, 64, 64), 1))

    def lowered(platform):
        traced = jax.jit(functools.partial(_all_three, convolve, stride=1))
        text = traced.trace(x, kernel, g).lower(lowering_platforms=(platform,))
        return text.as_text()

    for platform in ("tpu", "cuda"):
        assert "stablehlo.while" not in lowered(platform)
        assert lowered(platform).count("stablehlo.convolution") == 3
    assert "stablehlo.convolution" not in lowered("cpu")


def test_lower_precision_and_groups_stay_plain():
    x, kernel, _ = _drawn(((4, 16, 16, 64), (3, 3, 64, 64), 1))
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    np.testing.assert_array_equal(convolve(x, kernel), plain(x, kernel))
    x, kernel, _ = _drawn(((4, 16, 16, 64), (3, 3, 1, 64), 1))
    y = convolve(x, kernel, groups=64)
    for channel in (0, 63):
        one = slice(channel, channel + 1)
        expected = _by_scipy(x[..., one], kernel[..., one], 1)
        assert _farthest(y[..., one], expected) < 2e-6
