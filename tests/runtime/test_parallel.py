"""A batch on several devices against the same batch on one."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stompp.base import binary
from jsnnq import lqnet, mint, uniform
from jsnnq.analysis.evaluate import evaluate
from jsnnq.config import STE, LQNet, Mint, StoMPP, Uniform, kernels, neurons
from jsnnq.data import sets
from jsnnq.networks.normalisation import moments
from jsnnq.quantizers.primitives import mean_magnitude
from jsnnq.runtime import parallel
from jsnnq.study import build, run
from jsnnq.training import divergence, loop, step
from tests.programs import python
from tests.training.test_loop import BINARY, assert_same, digits, leaf_at
from tests.training.test_loop import SMALL as ADAM

if len(jax.devices()) < 4:
    pytest.skip("needs four devices", allow_module_level=True)


# Adam divides by the size of a gradient, and makes much of the rounding of a small one.
SMALL = dataclasses.replace(
    ADAM, training=dataclasses.replace(ADAM.training, optimizer="sgd", rate=0.1)
)
_PLAIN = dataclasses.replace(BINARY, training=SMALL.training)


def assert_close(found, expected, within=1e-5):
    """Equal within a share of the largest entry of each leaf."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        leaf, other = np.asarray(leaf), np.asarray(leaf_at(found, path))
        finite = np.abs(leaf[np.isfinite(leaf)])
        atol = within * finite.max() if finite.size else 0
        np.testing.assert_allclose(other, leaf, 0, atol, err_msg=str(path))


def on(devices, function, same, parts):
    """A function of a batch that is shared by so many devices."""
    mesh = parallel.mesh(jax.devices()[:devices], len(jax.tree.leaves(parts)[0]))
    return jax.jit(parallel.spread(function, mesh))(same, parts)


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, shape), jnp.float32)


@pytest.mark.parametrize(("batch", "expected"), [(12, 4), (9, 3), (10, 2), (7, 1)])
def test_as_many_devices_as_divide_the_batch(batch, expected):
    mesh = parallel.mesh(jax.devices()[:4], batch)
    assert (mesh.size if mesh else 1) == expected


_THREADS = """
import json, os, sys, jax
from jsnnq.runtime import parallel
parallel.threads(int(sys.argv[1]))
total = jax.pmap(lambda x: jax.lax.psum(x, "i"), "i")(jax.numpy.arange(2))
print(json.dumps([jax.device_count(), os.environ.get("XLA_FLAGS"), total.tolist()]))
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (None, "--xla_cpu_collective_call_terminate_timeout_seconds=3600"),
        (
            "--xla_cpu_enable_fast_math=false",
            "--xla_cpu_enable_fast_math=false "
            "--xla_cpu_collective_call_terminate_timeout_seconds=3600",
        ),
        ("--xla_cpu_collective_call_terminate_timeout_seconds=9",) * 2,
    ],
)
def test_devices_of_a_cpu_are_threads_that_wait_for_an_hour(before, expected):
    found = python(_THREADS, 2, JAX_PLATFORMS="cpu", XLA_FLAGS=before)
    # XLA ends a process that was given a flag it does not know.
    assert json.loads(found.stdout) == [2, expected, [1, 1]]


def test_what_the_words_mean():
    x = numbers(8, 3)

    def words(_, x):
        with parallel.whole():
            alone = parallel.mean(x.sum()), parallel.parts()
        return {
            "mean": parallel.mean({"a": x.sum(axis=0), "b": x[:, 0].sum()}),
            "total": parallel.total(x.sum(axis=0)),
            "largest": parallel.largest(x.max(axis=0)),
            "gathered": parallel.gathered(x),
            "own": parallel.total((parallel.own(parallel.gathered(x)) == x).sum()),
            "parts": jnp.int32(parallel.parts()),
            "alone": jnp.int32(alone[1]),
            "not combined": parallel.total(alone[0]),
        }

    found = on(4, words, (), x)
    np.testing.assert_allclose(found["mean"]["a"], x.sum(axis=0) / 4, rtol=1e-6)
    np.testing.assert_allclose(found["mean"]["b"], x[:, 0].sum() / 4, rtol=1e-6)
    np.testing.assert_allclose(found["total"], x.sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found["largest"], x.max(axis=0))
    np.testing.assert_array_equal(found["gathered"], x)
    assert (found["own"], found["parts"], found["alone"]) == (24, 4, 1)
    np.testing.assert_allclose(found["not combined"], x.sum(), rtol=1e-6)


def test_on_one_device_every_word_is_the_identity():
    x = numbers(8, 3)
    for word in (parallel.mean, parallel.total, parallel.largest):
        assert word(x) is x
    assert parallel.gathered(x) is parallel.own(x) is x
    assert parallel.parts() == 1
    assert parallel.spread(len, None) is len


def test_moments_are_those_of_the_whole_batch_also_far_from_zero():
    # A mean a thousand deviations away: squares minus a square would lose everything.
    x = 2000 + numbers(8, 4, 4, 3)
    mean, var = on(4, lambda _, x: moments((x,)), (), x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    "quantizer",
    [
        lqnet(2, 3.0, codes="unsigned"),
        lqnet(2, 3.0, codes="unsigned", ridge=1.0, start="published"),
        uniform(4, "max"),
        uniform(4, "percentile", percentile=90.0, channelwise=True),
    ],
    ids=["lqnet", "lqnet with a ridge", "max", "percentile"],
)
def test_quantizers_learn_from_the_whole_batch(quantizer):
    x = numbers(8, 3, 5)
    state = quantizer.init(jax.random.key(0), x)
    learn = lambda state, x: quantizer.apply(x, state, True)[1]
    assert_close(on(4, learn, state, x), learn(state, x))
    # And one part alone would have taught it something else.
    with pytest.raises(AssertionError):
        assert_close(learn(state, x[:2]), learn(state, x))


def test_a_scale_learns_from_the_whole_batch():
    x, quantizer = numbers(8, 3, 5), mint(4)
    state = quantizer.init(jax.random.key(0), x)

    def gradient(state, x):
        # The loss is a mean over the batch, as in training.
        loss = lambda s: jnp.mean(jnp.sum(quantizer.apply(x, s, True)[0] ** 2, (1, 2)))
        return parallel.mean(jax.grad(loss)(state))

    expected = gradient(state, x)
    assert_close(on(4, gradient, state, x), expected)


def test_what_is_taken_from_weights_is_taken_once():
    kernel = numbers(3, 3, 2, 5)
    quantizer = uniform(4, "percentile", percentile=90.0)
    state = quantizer.init(jax.random.key(0), kernel)

    def learn(kernel, _):
        with parallel.whole():
            return quantizer.apply(kernel, state, True), mean_magnitude(kernel)

    found = on(4, learn, kernel, jnp.zeros(8))
    assert_close(found, learn(kernel, None))


ROWS = {
    "float": SMALL,
    "lqnet": dataclasses.replace(
        SMALL, weights=kernels(LQNet(2)), membranes=neurons(LQNet(2))
    ),
    "uniform": dataclasses.replace(
        SMALL,
        weights=kernels(Uniform(4, clip="max")),
        membranes=neurons(Uniform(4, clip="percentile", grid="unsigned")),
    ),
    "mint": dataclasses.replace(
        # Fitted, a scale may be the largest value itself, which rounding then decides.
        SMALL,
        weights=kernels(Mint(4, start="published")),
        membranes=neurons(Mint(4, start="published")),
    ),
    "stompp": binary(_PLAIN, StoMPP(), StoMPP()),
    "stompp by sample": binary(_PLAIN, StoMPP(), StoMPP(masks="sample", law="full")),
    "ste": binary(_PLAIN, STE(scaled=True), STE()),
}


@pytest.fixture(autouse=True)
def _always_worth_it(monkeypatch):
    monkeypatch.setattr("jsnnq.workflow.fit._WORTH_SHARING", 1)


def test_small_images_are_not_worth_sharing(monkeypatch):
    monkeypatch.undo()
    split = sets.Split(np.zeros((200, 32, 32, 3), np.uint8), np.zeros(200, np.int32))
    shape = (32, 32, 3)
    cifar = dataclasses.replace(digits(), image_shape=shape, train=split, test=split)
    devices = jax.devices()[:4]
    training = dataclasses.replace(SMALL.training, batch=24)
    config = dataclasses.replace(SMALL, training=training)
    assert build.program(config, digits(), devices).mesh is None
    # 24 images are three parts of eight.
    assert build.program(config, cifar, devices).mesh == parallel.mesh(devices[:3], 24)
    assert build.program(config, cifar).mesh is None


def two_steps(config, devices):
    """The state after two steps, and what they said."""
    program = build.program(config, digits(), jax.devices()[:devices])
    assert (program.mesh.size if program.mesh else 1) == devices
    state = run.start(program, config, digits(), seed=0)
    state = parallel.everywhere(state, program.mesh)
    split, said = digits().train, []
    for number in range(2):
        images, labels = split.read(np.arange(program.batch) + number * program.batch)
        key = jax.random.fold_in(jax.random.key(3), number)
        state, seen = step.jitted(program).train_step(
            state, jnp.asarray(images), jnp.asarray(labels), key
        )
        said.append(jax.device_get(seen))
    return jax.device_get(state), said


@pytest.mark.parametrize(
    "row",
    [
        row
        if row in ("float", "stompp by sample")
        # What these take from a batch is held by the tests above.
        else pytest.param(row, marks=pytest.mark.slow)
        for row in ROWS
    ],
)
def test_two_steps_are_those_of_one_device(row):
    """Up to rounding; a spike that it flips would show as a thousandth and more."""
    (one, said), (shared, also) = two_steps(ROWS[row], 1), two_steps(ROWS[row], 4)
    for a, b in zip(said, also, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["accuracy"] == b["accuracy"]
        assert a["finite"]
        assert b["finite"]
    assert_close(shared, one, 1e-4)


def test_masks_by_sample_are_drawn_for_the_whole_batch():
    quantizer = StoMPP((0, 10), masks="sample", law="full")
    x = numbers(8, 3, 3, 2)
    state = quantizer.init(jax.random.key(1), x)._replace(step=jnp.int32(8))

    def act(state, x):
        return parallel.gathered(quantizer.apply(x, state, True)[0])

    found = on(4, act, state, x)
    np.testing.assert_array_equal(found, act(state, x))
    assert not np.array_equal(np.abs(found[:2]) == 1, np.abs(found[2:4]) == 1)


@pytest.mark.parametrize("batch", [64, 50])  # 360 images: 50 leaves a remainder
def test_an_evaluation_counts_the_same_spikes(batch):
    program = build.program(SMALL, digits())
    variables = run.start(program, SMALL, digits(), seed=0).variables
    mesh = parallel.mesh(jax.devices()[:4], 4)
    one, shared = (
        evaluate(program.network, variables, digits(), batch=batch, mesh=m)
        for m in (None, mesh)
    )
    assert one.counts.images == shared.counts.images == 360
    assert one.accuracy == shared.accuracy
    assert one.loss == pytest.approx(shared.loss, rel=1e-6)
    assert_same(one.counts, shared.counts)
    assert_same(one.nonzero, shared.nonzero)
    assert one.graded == shared.graded


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_shared_training_says_where_it_diverged_and_hands_its_state_back(scan):
    training = dataclasses.replace(SMALL.training, rate=1e30, batch=128, epochs=1)
    config = dataclasses.replace(SMALL, training=training)
    program = build.program(config, digits(), jax.devices()[:4])
    state = run.start(program, config, digits(), seed=0)
    with pytest.raises(divergence.Diverged, match="is not finite") as caught:
        loop.fit(program, state, digits().train, seed=0, epochs=1, scan=scan)
    kept = jax.tree.leaves(caught.value.last_good)
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in kept)


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_shared_training_is_handed_back_on_one_device(scan):
    program = build.program(SMALL, digits(), jax.devices()[:2])
    state = run.start(program, SMALL, digits(), seed=0)
    seen = []
    options = {"look": seen.append, "looks": 2, "on_epoch": seen.append}
    train = digits().train
    after = loop.fit(program, state, train, seed=0, epochs=1, scan=scan, **options)
    for given in (*seen, after):
        leaves = jax.tree.leaves(given)
        assert all(leaf.devices() == {jax.devices()[0]} for leaf in leaves)
    assert [int(one.step) for one in seen] == [0, 6, 11, 11]


def test_without_devices_nothing_is_shared():
    assert parallel.mesh((), 8) is None
