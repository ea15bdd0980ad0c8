"""Training against NumPy, against itself resumed, and when its numbers explode."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.stompp.base import binary
from jsnnq.config import LQNet, StoMPP, Uniform, kernels, neurons
from jsnnq.data import batches, sets, streams
from jsnnq.errors import InputError
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.quantize import at
from jsnnq.networks.sew import SEWResNet
from jsnnq.runtime import checkpoint
from jsnnq.study import build, run
from jsnnq.training import divergence, loop
from jsnnq.training.monitor import Monitor
from jsnnq.training.step import _JITTED, jitted, keys, next_step, start
from jsnnq.workflow.state import initial_variables
from tests.tiny import BINARY, CLIP, SMALL, STEPS, assert_same, changed, digits, leaf_at

ROWS = {
    "float": SMALL,
    "stompp": BINARY,
    "uniform": dataclasses.replace(SMALL, weights=kernels(Uniform(2, clip=CLIP))),
    "lqnet-weights": dataclasses.replace(SMALL, weights=kernels(LQNet(2))),
    "lqnet-membrane": dataclasses.replace(SMALL, membranes=neurons(LQNet(2))),
}


class Recorder(Monitor):
    """A monitor that keeps what it is told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.steps, self.losses = [], []

    def step(self, step, loss, accuracy):
        assert 0 <= accuracy <= 1
        self.steps.append(step)
        self.losses.append(loss)


@functools.cache
def begun(row):
    """The program of a row and the state it begins with."""
    program = build.program(ROWS[row], digits())
    return program, run.start(program, ROWS[row], digits(), seed=0)


def fit(program, state, epochs=1, split=None, **options):
    # A scan may take its state's memory, and these tests use their states again.
    state = jax.tree.map(jnp.copy, state)
    options = {"seed": 0, **options}
    return loop.fit(program, state, split or digits().train, epochs=epochs, **options)


def stepped(program, state, count=1):
    """The state after so many steps of the first epoch, and what the last one said."""
    split = digits().train
    order = batches.epoch_order(keys(0).order, 0, len(split))
    for _ in range(count):
        state, numbers = jitted(program).next_step(
            state, batches.hold(split.images, split.labels), order, keys(0).augment
        )
    return state, numbers


class Run(NamedTuple):
    """What a run left: states by epoch, what it said, how often it compiled."""

    states: list
    recorder: Recorder
    compilations: int = 0


@functools.cache
def whole_run(row):
    program, state = begun(row)
    states, recorder, compiled = [], Recorder(), jitted(program).next_step._cache_size
    before = compiled()
    fit(program, state, 2, on_epoch=states.append, monitor=recorder)
    return Run(states, recorder, compiled() - before)


def trained(row):
    """A row after each of its two epochs."""
    return whole_run(row).states


@functools.cache
def scanned_run():
    """The first epoch of the float row as one scan; also the state it began with."""
    program, state = begun("float")
    state, recorder = jax.tree.map(jnp.copy, state), Recorder()
    split = digits().train
    after = loop.fit(
        program, state, split, seed=0, epochs=1, scan=True, monitor=recorder
    )
    return state, Run([after], recorder)


def assert_close(one, other):
    """Equal within 1e-5 of the largest entry of each leaf."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(other):
        leaf, found = np.asarray(leaf), np.asarray(leaf_at(one, path))
        scale = np.abs(leaf).max()
        np.testing.assert_allclose(
            found, leaf, rtol=0, atol=1e-5 * scale, err_msg=jax.tree_util.keystr(path)
        )


def all_finite(tree):
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


# One step against NumPy.


def softmax_of(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_one_step_is_adam_on_the_mean_cross_entropy():
    """Loss, accuracy and the classifier's update, typed a second time in NumPy."""
    program, before = begun("float")
    after, numbers = stepped(program, before)
    images, labels = digits().train.images, digits().train.labels
    rows = np.asarray(batches.epoch_order(keys(0).order, 0, len(labels)))[:128]
    shifted = batches.augment(
        jax.random.fold_in(keys(0).augment, 0),
        jnp.asarray(images[rows]),
        pad=1,
        flip=False,
    )
    mean, std, _ = program.preprocessing
    pixels = (np.asarray(shifted) / 16.0 - mean[0]) / std[0]
    forward = jax.jit(
        lambda x: program.network.apply(
            before.variables, x, True, mutable=["batch_stats", "quant"]
        )[0]
    )
    logits, seen = forward(jnp.float32(pixels))
    mean_logits = np.asarray(logits, np.float64).mean(axis=0)
    probabilities = softmax_of(mean_logits)
    truth = labels[rows]
    loss = -np.log(probabilities[np.arange(128), truth]).mean()
    np.testing.assert_allclose(numbers["loss"], loss, rtol=1e-5)
    correct = np.mean(mean_logits.argmax(axis=1) == truth)
    np.testing.assert_allclose(numbers["accuracy"], correct, atol=1e-6)
    assert bool(numbers["finite"])

    error = (probabilities - np.eye(10)[truth]) / 128
    features = np.asarray(seen.pooled["features"], np.float64).mean(axis=0)
    for name, gradient in (("bias", error.sum(axis=0)), ("kernel", features.T @ error)):
        moved = np.asarray(after.params["fc"][name]) - before.params["fc"][name]
        # Adam's first step: rate g / (|g| + 1e-8), the rate not yet decayed.
        clear = np.abs(gradient) > 1e-5
        assert clear.mean() > 0.3
        expected = -0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(moved[clear], expected[clear], rtol=2e-3, atol=1e-7)
    assert int(after.step) == 1


# The two forms of an epoch.


def test_the_scanned_epoch_agrees_with_the_dispatched_one():
    """Stated tolerance: 1e-5 of the largest entry of each leaf after one epoch."""
    dispatched, (_, scanned) = whole_run("float"), scanned_run()
    assert scanned.recorder.steps == list(range(1, STEPS + 1))
    np.testing.assert_allclose(
        scanned.recorder.losses, dispatched.recorder.losses[:STEPS], rtol=1e-5
    )
    assert_close(scanned.states[0], dispatched.states[0])


def test_a_cpu_dispatches_unless_told_otherwise(monkeypatch):
    functions = jitted(begun("float")[0])._replace(epoch=None)
    monkeypatch.setitem(_JITTED, (begun("float")[0], False), functions)
    recorder = Recorder()
    fit(*begun("float"), monitor=recorder)
    assert recorder.steps == list(range(1, STEPS + 1))


def test_a_scanned_fit_leaves_the_callers_state_alone():
    assert_same(scanned_run()[0], begun("float")[1])


# Resuming.


@pytest.mark.parametrize("row", ROWS)
def test_a_resumed_run_continues_bit_for_bit(row, tmp_path):
    program, _ = begun(row)
    after_one, after_two = trained(row)
    checkpoint.save(tmp_path / "state", after_one, {})
    fresh = run.start(program, ROWS[row], digits(), seed=5)  # nothing of it survives
    restored, _ = checkpoint.restore(tmp_path / "state", fresh)
    assert_same(restored, after_one)
    recorder = Recorder()
    assert_same(fit(program, restored, 2, monitor=recorder), after_two)
    assert recorder.steps == list(range(STEPS + 1, 2 * STEPS + 1))
    assert int(after_two.step) == 2 * STEPS


def test_a_run_left_in_the_middle_of_an_epoch_continues_there():
    program, state = begun("float")
    state, _ = stepped(program, state, 4)
    assert_same(fit(program, state, 2), trained("float")[1])


@pytest.mark.filterwarnings("ignore:bernoulli masks lag")
@pytest.mark.parametrize("law", ["soft", "bernoulli"])
def test_masks_continue_in_the_middle_of_a_window(law, tmp_path):
    """Four epochs, one of them tail: 33 steps for 4 layers, so 11 lies in a window."""
    masks = StoMPP(law=law, refresh=1)
    row = changed(binary(BINARY, masks, masks), "training.epochs", 4)
    program = build.program(row, digits())
    windows = build.freezing(row, program.network, STEPS)
    assert any(start < STEPS < start + length for start, length in windows.values())
    states = []
    before = run.start(program, row, digits(), seed=0)
    fit(program, before, 2, on_epoch=states.append)
    checkpoint.save(tmp_path / "state", states[0], {})
    fresh = run.start(program, row, digits(), seed=5)
    restored, _ = checkpoint.restore(tmp_path / "state", fresh)
    assert_same(fit(program, restored, 2), states[1])


# Looking inside.


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_looks_come_at_their_steps_and_change_nothing(scan):
    seen = []
    look = lambda state: seen.append(int(state.step))
    after = fit(*begun("float"), scan=scan, look=look, looks=3)
    # Eleven steps in stretches of four, the last one shorter.
    assert seen == [0, 4, 8, 11]
    if scan:
        assert_close(after, scanned_run()[1].states[0])
    else:
        assert_same(after, trained("float")[0])


@pytest.mark.parametrize("looks", range(1, 13))
def test_an_epoch_has_as_many_looks_as_are_asked_for(looks):
    """Eleven steps, which no number of looks between divides evenly."""
    seen = []
    look = lambda state: seen.append(int(state.step))
    fit(*begun("float"), look=look, looks=looks)
    assert seen == sorted(set(seen))
    assert (seen[0], seen[-1]) == (0, STEPS)
    assert len(seen) == 1 + min(looks, STEPS)
    apart = np.diff(seen)
    assert apart.max() - apart.min() <= 1


def test_another_seed_trains_on_another_order():
    other = fit(*begun("float"), seed=1).params["fc"]["bias"]
    assert np.any(np.asarray(other) != trained("float")[0].params["fc"]["bias"])


def test_every_epoch_has_an_order_of_its_own():
    """The first batch of the second epoch, by its loss; the order is drawn here."""
    program, _ = begun("float")
    images, labels = digits().train.images, digits().train.labels
    stream = jax.random.split(jax.random.key(0), 3)[1]

    def loss(epoch):
        order = jax.random.permutation(jax.random.fold_in(stream, epoch), len(labels))
        rows = np.asarray(order)[:128]
        step_key = jax.random.fold_in(keys(0).augment, STEPS)
        _, numbers = jitted(program).train_step(
            trained("float")[0], images[rows], labels[rows], step_key
        )
        return numbers["loss"]

    found = whole_run("float").recorder.losses[STEPS]
    np.testing.assert_allclose(found, loss(1), rtol=1e-5)
    assert abs(found - loss(0)) > 1e-3


def test_a_finished_run_makes_no_step():
    recorder = Recorder()
    done = trained("float")[1]
    assert_same(fit(begun("float")[0], done, 2, monitor=recorder), done)
    assert recorder.steps == []


# Compilations.


@pytest.mark.parametrize("row", ROWS)
def test_a_whole_run_compiles_its_step_at_most_once(row):
    """Two epochs from the very first step; another test may have compiled it before."""
    assert whole_run(row).compilations <= 1


def signatures(quantizers):
    """How often the step is traced for these weights, without compiling it."""
    traced = []

    def step(program, *arguments):
        traced.append(program)
        return next_step(program, *arguments)

    jitted = jax.jit(step, static_argnums=0)
    split = digits().train
    order = batches.epoch_order(keys(0).order, 0, len(split))
    data = batches.hold(split.images, split.labels), order, keys(0).augment
    for quantizer in quantizers:
        row = dataclasses.replace(SMALL, weights=kernels(quantizer))
        program = build.program(row, digits())
        state = run.start(program, row, digits(), seed=0)
        for _ in range(3):
            state, _ = jitted.eval_shape(program.representative, state, *data)
    return len(traced)


@pytest.mark.parametrize(
    ("method", "settings", "compilations"),
    [
        (Uniform, [(2, 1.0), (4, 10.0), (8, 0.3)], 1),  # whatever bits and clip
        (LQNet, [(2, 1.0), (2, 10.0), (3, 1.0)], 2),  # once per bit width
    ],
)
def test_rows_share_compilations(method, settings, compilations):
    made = [method(bits, clip=clip) for bits, clip in settings]
    assert signatures(made) == compilations


# Quantizers in training.


def test_the_gradient_reaches_latent_kernels_inside_the_clip_only():
    """Uniform's published gradient, seen in what Adam moved: 1 inside, 0 outside."""
    program, before = begun("uniform")
    after = trained("uniform")[0]
    for path in program.network.kernel_layers():
        start, end = (
            np.asarray(at(state.params, path)["kernel"]) for state in (before, after)
        )
        if path in ("conv1", "fc"):
            assert (start != end).mean() > 0.9
            continue
        outside = np.abs(start) > CLIP
        assert 0.05 < outside.mean() < 0.95
        np.testing.assert_array_equal(start[outside], end[outside])
        assert (start != end)[~outside].mean() > 0.9


@pytest.mark.parametrize("row", ["lqnet-weights", "lqnet-membrane"])
def test_lqnet_trains_every_kernel_and_its_basis(row):
    program, before = begun(row)
    after = trained(row)[0]
    assert_trains_every_kernel(program, before, after)
    leaves = (jax.tree.leaves(state.quant) for state in (before, after))
    bases = [pair for pair in zip(*leaves, strict=True) if pair[0].ndim == 2]
    assert len(bases) > 4
    assert all(np.any(start != end) for start, end in bases)


def assert_trains_every_kernel(program, before, after):
    for path in program.network.kernel_layers():
        start, end = (at(one.params, path)["kernel"] for one in (before, after))
        assert np.any(start != end), path


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    row = changed(SMALL, "network.dtype", "bfloat16")
    program = build.program(row, digits())
    state = run.start(program, row, digits(), seed=0)
    recorder = Recorder()
    after = fit(program, state, monitor=recorder)
    kept = jax.tree.leaves((after.params, after.batch_stats))
    assert all(leaf.dtype == jnp.float32 for leaf in kept)
    assert all_finite(after)
    # The same start on the same images: near, and not the same numbers.
    first = whole_run("float").recorder.losses[0]
    assert recorder.losses[0] == pytest.approx(first, rel=0.05)
    assert recorder.losses[0] != first
    assert_trains_every_kernel(program, state, after)


# What cannot be trained.


@pytest.mark.parametrize("batch", [1438, 0, -1])
def test_a_batch_that_does_not_fit_the_data_is_refused(batch):
    program, state = begun("float")
    program = dataclasses.replace(program, batch=batch)
    with pytest.raises(InputError, match=r"1,?437"):
        fit(program, state)


def with_entry(tree, path, value):
    """The tree with another first entry in one kernel."""
    tree = jax.tree.map(lambda leaf: leaf, tree)
    kernel = at(tree, path)["kernel"]
    at(tree, path)["kernel"] = kernel.at[(0,) * kernel.ndim].set(value)
    return tree


def poisoned(path):
    """The float row's first state with NaN in one kernel."""
    state = begun("float")[1]
    return state._replace(params=with_entry(state.params, path, jnp.nan))


@pytest.mark.parametrize(
    ("path", "scan"),
    [
        *(
            (path, False)
            for path in ("conv1", "layer1_0/conv1", "layer2_0/conv2", "fc")
        ),
        ("layer1_0/conv1", True),
    ],
)
def test_nan_in_a_kernel_names_step_and_layer(path, scan):
    with pytest.raises(divergence.Diverged) as caught:
        fit(begun("float")[0], poisoned(path), scan=scan)
    assert caught.value.step == 0
    assert "step 0" in str(caught.value)
    assert f" {path} " in str(caught.value)
    assert "\n" not in str(caught.value)


def exploding(momentum):
    """A first state whose first update throws one weight far out.

    Adam's memory of the gradient is made huge, which is what a far too large rate
    does to one weight, without another compilation.
    """
    state = begun("float")[1]
    adam, *rest = state.opt_state
    adam = adam._replace(mu=with_entry(adam.mu, "layer1_0/conv1", momentum))
    return state._replace(opt_state=(adam, *rest))


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_explosion_is_named_at_its_step_and_the_last_good_state_kept(scan):
    """Step 1 has an infinite variance, which hides itself: x / inf is 0."""
    program, _ = begun("float")
    start, recorder = exploding(1e30), Recorder()
    with pytest.raises(divergence.Diverged, match="step 1: .*layer1_0") as caught:
        fit(program, start, scan=scan, monitor=recorder)
    expected, _ = stepped(program, start)
    assert caught.value.step == 1
    assert all_finite(caught.value.last_good)
    assert_same(caught.value.last_good, expected)
    assert all(np.isfinite(recorder.losses))


def test_an_update_that_overflows_never_becomes_the_last_good_state():
    """Loss and gradient of step 0 are finite here, what Adam makes of them is not."""
    with pytest.raises(divergence.Diverged) as caught:
        fit(begun("float")[0], exploding(1e37))
    assert all_finite(caught.value.last_good)


def nan_far_out(x):
    """A surrogate that is NaN away from the threshold: only gradients suffer."""
    return jnp.where(jnp.abs(x) < 0.5, 1.0, jnp.nan)


def test_a_gradient_that_is_not_finite_is_caught_though_the_loss_is():
    """The classifier's gradient passes no neuron, so the block is hit first."""
    network = SEWResNet(
        depths=(1,), channels=(2,), classes=10, neuron=Neuron(surrogate=nan_far_out)
    )
    variables = initial_variables(network, jax.random.key(0), (8, 8, 1))
    program = dataclasses.replace(
        begun("float")[0], network=network, optimizer=optax.sgd(0.01), batch=8
    )
    split = sets.Split(digits().train.images[:8], digits().train.labels[:8])
    state = start(program, variables)
    with pytest.raises(divergence.Diverged, match="step 0: the gradient of layer1_0/"):
        fit(program, state, split=split)


# Data that is read while it is trained on.


@dataclasses.dataclass(frozen=True, eq=False)
class Memory(streams.Records):
    """Records whose images are the digits as they are, and a diary of what was read."""

    diary: list = dataclasses.field(default_factory=list)

    def read(self, indices, seed=0):
        self.diary.append((seed, [int(index) for index in indices]))
        return digits().train.read(indices)


class Nothing:
    def __len__(self):
        return len(digits().train)

    def __getitems__(self, keys):
        raise AssertionError("the fake reads nothing from its source")


def streamed(state, epochs, **options):
    program, _ = begun("float")
    records = Memory(Nothing(), True, "memory")
    state = fit(program, state, epochs, records, **options)
    return state, records.diary


def test_streamed_data_train_the_same_loop():
    """The same order, the same keys, the same step: the same network."""
    recorder = Recorder()
    found, diary = streamed(begun("float")[1], 1, monitor=recorder)
    assert recorder.steps == list(range(1, STEPS + 1))
    assert_close(found, trained("float")[0])
    order = np.asarray(batches.epoch_order(keys(0).order, 0, 1437))
    read = sorted(diary, key=lambda entry: entry[1] != order[:128].tolist())
    assert read[0] == ((0, 0), order[:128].tolist())
    assert sorted(sum((rows for _, rows in diary), [])) == sorted(order[: STEPS * 128])


def test_streamed_data_resume_bit_for_bit(tmp_path):
    states = []
    whole, _ = streamed(begun("float")[1], 2, on_epoch=states.append)
    checkpoint.save(tmp_path / "state", states[0], {})
    restored, _ = checkpoint.restore(tmp_path / "state", begun("float")[1])
    found, diary = streamed(restored, 2)
    assert_same(found, whole)
    assert {seed for seed, _ in diary} == {(0, 1)}
    assert len(diary) == STEPS


def test_streamed_data_name_the_step_that_exploded():
    with pytest.raises(divergence.Diverged, match="step 1: .*layer1_0") as caught:
        streamed(exploding(1e30), 1)
    assert all_finite(caught.value.last_good)
