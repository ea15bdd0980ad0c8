"""From a network and arrays to a trained state, and back from a folder."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnnq
from jsnnq import InputError
from jsnnq.networks.network import Seen, check_network
from jsnnq.quantizers import StoMPP
from tests.workflow.small import BATCH, NET, RULE, data, equal, fitted, quantized


def test_a_trained_state_is_what_apply_takes():
    state = fitted()
    images, labels = data().test.images, data().test.labels
    logits, seen = NET.apply(state.variables, state.inputs(images))
    assert isinstance(seen, Seen)
    right = np.mean(np.asarray(logits).mean(0).argmax(-1) == labels)
    assert jsnnq.evaluate(NET, state, data()).accuracy == pytest.approx(right)
    assert int(state.step) == 2 * (len(data().train) // BATCH)


def test_it_is_the_pure_step_over_and_over():
    rule = optax.adam(optax.exponential_decay(0.01, 5, 0.5))
    state = jsnnq.fit(NET, data(), rule, epochs=1, batch=BATCH, seed=3)
    from jsnnq.data import batches
    from jsnnq.training.step import keys

    step = jax.jit(jsnnq.train_step(NET, rule, data()))
    byhand, train = jsnnq.train_state(NET, rule, data(), seed=3), data().train
    order = np.asarray(batches.epoch_order(keys(3).order, 0, len(train)))
    for i in range(len(train) // BATCH):
        images, labels = train.read(order[i * BATCH : (i + 1) * BATCH])
        key = jax.random.fold_in(keys(3).augment, i)
        byhand, numbers = step(byhand, images, labels, key)
    assert bool(numbers["finite"])
    equal(byhand, state.training)


def test_callbacks_hear_of_every_step_and_epoch():
    steps, epochs = [], []
    state = jsnnq.fit(
        NET,
        data(),
        RULE,
        epochs=2,
        batch=BATCH,
        quiet=True,
        on_step=lambda *numbers: steps.append(numbers),
        on_epoch=lambda epoch, state: epochs.append((epoch, int(state.step))),
    )
    per_epoch = len(data().train) // BATCH
    assert [step for step, _, _ in steps] == list(range(1, 2 * per_epoch + 1))
    assert all(np.isfinite(loss) and 0 <= right <= 1 for _, loss, right in steps)
    assert epochs == [(1, per_epoch), (2, 2 * per_epoch)]
    equal(state.training, fitted().training)


@pytest.mark.parametrize("net", [NET, quantized()], ids=["float", "quantized"])
def test_a_training_that_was_stopped_is_continued_exactly(net, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(step, loss, accuracy):
        if step == 15:
            raise KeyboardInterrupt

    monkeypatch.setattr("jsnnq.training.resume.SAVE_EVERY_S", 0)
    heard = []

    options = {"epochs": 2, "batch": BATCH, "seed": 1}
    whole = jsnnq.fit(net, data(), RULE, **options)
    with pytest.raises(KeyboardInterrupt):
        jsnnq.fit(net, data(), RULE, **options, resume=tmp_path / "run", on_step=stop)
    again = jsnnq.fit(
        net,
        data(),
        RULE,
        **options,
        resume=tmp_path / "run",
        on_step=lambda step, *_: heard.append(step),
    )
    equal(again.training, whole.training)
    assert heard == list(range(11, 21))  # The first epoch was kept.

    def never(step, loss, accuracy):
        raise Stop

    # One that is done is read back, and nothing is trained.
    done = jsnnq.fit(
        net, data(), RULE, **options, resume=tmp_path / "run", on_step=never
    )
    equal(done.training, whole.training)
    with pytest.raises(InputError, match="seed was 1, is 2"):
        jsnnq.fit(net, data(), RULE, **options | {"seed": 2}, resume=tmp_path / "run")


def test_a_training_that_is_done_is_read_back(tmp_path):
    options = {"epochs": 1, "batch": BATCH, "resume": tmp_path / "run"}
    heard = []
    done, again = (
        jsnnq.fit(NET, data(), RULE, **options, on_step=lambda *one: heard.append(one))
        for _ in range(2)
    )
    equal(again.training, done.training)
    assert len(heard) == len(data().train) // BATCH


@pytest.mark.parametrize("change", [{"pad": 2}, {"flip": True}])
def test_what_is_augmented_is_trained_on(change):
    moved = dataclasses.replace(data(), **change)
    images, labels = data().train.read(range(BATCH))
    given = jsnnq.train_state(NET, RULE, data()), images, labels, jax.random.key(0)
    steps = (jax.jit(jsnnq.train_step(NET, RULE, d)) for d in (data(), moved))
    plain, other = (step(*given)[1] for step in steps)
    assert float(plain["loss"]) != float(other["loss"])


def test_quantizers_that_start_has_go_on_and_others_begin():
    qnet = quantized()
    tuned = jsnnq.fit(qnet, data(), RULE, epochs=1, batch=BATCH, start=fitted())
    kept = jsnnq.train_state(qnet, RULE, data(), start=tuned)
    equal(kept.quant, tuned.training.quant)
    equal(kept.params, tuned.training.params)
    # Other bits of the same method are another quantizer.
    other = jsnnq.quantize(qnet, weights=jsnnq.lqnet(3))
    begun = jsnnq.train_state(other, RULE, data(), start=tuned)
    assert begun.quant["layer1_0"]["conv1"]["quantizer"].basis.shape[0] == 3
    equal(begun.quant["sn1"], tuned.training.quant["sn1"])


def test_windows_of_stompp_follow_from_the_training():
    net = jsnnq.binary_resnet("resnet_tiny", classes=10)
    method = jsnnq.stompp()
    binary = jsnnq.quantize(net, weights=method, activations=method)
    state = jsnnq.fit(binary, data(), RULE, epochs=3, batch=BATCH)
    steps = 3 * (len(data().train) // BATCH)
    found = [
        (int(one.start), int(one.length))
        for one in jax.tree.leaves(
            state.training.quant, is_leaf=lambda x: hasattr(x, "refresh")
        )
    ]
    assert len(found) == 8
    tail = max(-(-steps // 20), steps // 3)
    assert max(start + length for start, length in found) == steps - tail
    assert jsnnq.evaluate(binary, state, data()).accuracy >= 0
    with pytest.raises(InputError, match="has no window"):
        jsnnq.calibrate(binary, jsnnq.train_state(net, RULE, data()).variables, data())
    assert isinstance(binary.weights("layer1_0/conv1"), StoMPP)


def test_steps_of_several_seeds_at_once_equal_one_by_one():
    step, train = jsnnq.train_step(NET, RULE, data()), data().train
    images, labels = train.read(range(BATCH))
    states = [jsnnq.train_state(NET, RULE, data(), seed=seed) for seed in (0, 1)]
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    both, numbers = jax.jit(jax.vmap(step, (0, None, None, 0)))(
        stacked, images, labels, keys
    )
    for i, state in enumerate(states):
        alone, expected = jax.jit(step)(state, images, labels, keys[i])
        moved = jax.tree.map(lambda x, i=i: x[i], both)
        close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
        jax.tree.map(close, moved.params, alone.params)
        assert float(numbers["loss"][i]) == pytest.approx(float(expected["loss"]), 1e-5)


def test_clips_at_once_equal_one_by_one():
    nets = [jsnnq.quantize(NET, weights=jsnnq.uniform(2, clip=c)) for c in (0.1, 1.0)]
    states = [jsnnq.train_state(net, RULE, data()) for net in nets]
    x = fitted().inputs(data().test.images[:8])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    representative = nets[0].representative
    forward = lambda variables: representative.apply(variables, x)[0]
    both = jax.jit(jax.vmap(forward))(stacked.variables)
    for logits, net, state in zip(both, nets, states, strict=True):
        alone = net.apply(state.variables, x)[0]
        np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-5)


def test_frames_are_trained_quantized_and_compared():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    frames = np.zeros((80, 3, 9, 7, 2), np.float32)
    for frame, label in zip(frames, labels, strict=True):
        column = rng.integers(2, 5)
        for t in range(3):  # A bar that moves to the left or to the right.
            frame[t, :, column + (t if label else -t) // 2, label] = 1
    seen = jsnnq.from_arrays(frames[:64], labels[:64], frames[64:], labels[64:])
    net = jsnnq.sew_resnet("sew_resnet_tiny", classes=2, timesteps=3)
    trained = jsnnq.fit(net, seen, optax.adam(0.02), epochs=6, batch=16)
    before = jsnnq.evaluate(net, trained, seen)
    assert before.accuracy > 0.9
    assert before.counts.total == 3 * 16
    # Another frame at every timestep is no still image, whose stem is computed once.
    events = jsnnq.evaluate(net, trained, seen, policy="events")
    assert events.cost.dense == before.cost.dense
    qnet = jsnnq.quantize(net, membranes=jsnnq.uniform(2))
    tuned = jsnnq.fit(qnet, seen, optax.adam(0.01), epochs=1, batch=16, start=trained)
    moved = jsnnq.compare(before, jsnnq.evaluate(qnet, tuned, seen))
    assert 0 < moved.mean <= moved.matched.mean


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"net": jsnnq.sew_resnet("sew_resnet_tiny", classes=3)}, "classes=10"),
        ({"batch": 10_000}, "batch size 10000 does not fit"),
        ({"epochs": 0}, "epochs is 0"),
        ({"seed": 2**32}, "seed is 4294967296"),
        (
            {"start": jsnnq.sew_resnet("sew_resnet_tiny", classes=10, width=2)},
            "start is of another network.*same architecture",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_compiles(change, sentence):
    options = {"net": NET, "epochs": 1, "batch": BATCH} | change
    if isinstance(start := options.get("start"), jsnnq.SEWResNet):
        options["start"] = jsnnq.train_state(start, RULE, data()).variables
    net = options.pop("net")
    with pytest.raises(InputError, match=sentence):
        jsnnq.fit(net, data(), RULE, **options)


def test_a_module_that_promises_nothing_is_refused():
    with pytest.raises(InputError, match="net is a Dense.*derived from.*Network"):
        check_network(nn.Dense(3))


def test_frames_need_a_network_of_as_many_timesteps():
    frames = jsnnq.from_arrays(np.zeros((8, 3, 8, 8, 1), np.uint8), np.arange(8))
    with pytest.raises(InputError, match="3 frames and the network 4.*timesteps=3"):
        jsnnq.fit(NET, frames, RULE, epochs=1, batch=4)


def test_progress_is_shown_unless_told_not_to(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    for quiet in (True, False):
        jsnnq.fit(NET, data(), RULE, epochs=1, batch=BATCH, quiet=quiet)
        assert ("img/s" in capsys.readouterr().err) == (not quiet)


def test_a_state_is_a_pytree():
    state = fitted()
    doubled = jax.tree.map(lambda x: x + x, state)
    assert int(doubled.step) == 2 * int(state.step)
    assert doubled.preprocessing == state.preprocessing
