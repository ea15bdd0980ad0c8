"""Runs that are trained together, against the same runs one by one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnnq.config import LQNet, StoMPP, Uniform, kernels, neurons
from jsnnq.data import batches
from jsnnq.errors import InputError
from jsnnq.runtime import parallel
from jsnnq.study import build, run
from jsnnq.training import divergence, loop, step, together
from jsnnq.training.loop import Row
from jsnnq.training.monitor import Monitor
from tests.tiny import BINARY, SMALL, assert_same, changed, digits, with_

# Adam's first step divides each gradient by itself: what is left is its sign, and of a
# gradient that is rounding alone, nothing. Changes of SGD are the gradients.
PLAIN = dataclasses.replace(SMALL.training, optimizer="sgd", rate=0.1, batch=32)


def _configs(**methods):
    made = [with_(**{place: one}) for place, ones in methods.items() for one in ones]
    return [dataclasses.replace(config, training=PLAIN) for config in made]


GROUPS = {
    "seeds": [dataclasses.replace(SMALL, training=PLAIN)] * 3,
    "clips": _configs(weights=[kernels(Uniform(2, clip=c)) for c in (0.1, 0.2)]),
    "bits": _configs(weights=[kernels(LQNet(b, padded=4)) for b in (2, 4)]),
    "levels": _configs(
        membranes=[neurons(Uniform(b, grid="unsigned")) for b in (2, 4)]
    ),
    "windows": [
        dataclasses.replace(
            BINARY,
            training=PLAIN,
            weights=((BINARY.weights[0][0], StoMPP(order=order)),),
        )
        for order in ("forward", "reverse")
    ],
}


class Recorder(Monitor):
    """A monitor that keeps what it is told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.steps = []

    def step(self, step, loss, accuracy):
        self.steps.append((step, loss, accuracy))


def _begun(group, dtype="float32"):
    """Programs of a group and the states they begin with, each of its own seed."""
    configs = [changed(one, "network.dtype", dtype) for one in GROUPS[group]]
    programs = [build.program(one, digits()) for one in configs]
    assert len({program.representative for program in programs}) == 1
    states = [
        run.start(program, config, digits(), seed)
        for seed, (program, config) in enumerate(zip(programs, configs, strict=True))
    ]
    return programs[0], states


def _both(program, states, count):
    """The states after so many steps, made together and one by one; also the losses."""
    split, seeds = digits().train, range(len(states))
    data = batches.hold(split.images, split.labels)
    orders = [batches.epoch_order(step.keys(n).order, 0, len(split)) for n in seeds]
    own = [step.keys(n).augment for n in seeds]
    at_once, losses = together.pack(states), ([], [])
    for _ in range(count):
        at_once, numbers = step.jitted(program, together=True).next_step(
            at_once, data, together.pack(orders), together.pack(own)
        )
        losses[0].append(numbers["loss"])
        made = [
            step.jitted(program).next_step(states[n], data, orders[n], own[n])
            for n in seeds
        ]
        states = [state for state, _ in made]
        losses[1].append(jnp.stack([numbers["loss"] for _, numbers in made]))
    parts = [together.part(at_once, n, len(states)) for n in seeds]
    return parts, states, np.array(losses)


def _numbers(tree):
    """All of its numbers as one vector of float64."""
    leaves = [np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)]
    return np.concatenate([np.zeros(0), *leaves])


@pytest.mark.parametrize("group", GROUPS)
def test_a_step_of_several_runs_is_that_of_each(group):
    """Stated tolerance: 1e-6 of the largest change, beside the rounding of a value."""
    program, before = _begun(group)
    found, expected, _ = _both(program, before, 1)
    for one, other, start in zip(found, expected, before, strict=True):
        for name in ("params", "batch_stats", "quant", "opt_state"):
            ours, theirs, first = (
                _numbers(getattr(state, name)) for state in (one, other, start)
            )
            finite = np.isfinite(theirs)  # The clip of a quantizer without one is not.
            np.testing.assert_array_equal(ours[~finite], theirs[~finite])
            ours, theirs, first = ours[finite], theirs[finite], first[finite]
            allowed = 1e-6 * np.abs(theirs - first).max(initial=0)
            allowed += np.finfo(np.float32).eps * np.abs(theirs)
            assert np.all(np.abs(ours - theirs) <= allowed), name
    assert not np.array_equal(_numbers(found[0].params), _numbers(found[1].params))


@pytest.mark.parametrize("group", ["seeds", "bits"])
def test_ten_steps_of_several_runs_are_those_of_each_in_float64(group):
    """Stated tolerance: 1e-9."""
    with jax.enable_x64(True):
        program, before = _begun(group, "float64")
        found, expected, (ours, theirs) = _both(program, before, 10)
        assert found[0].params["conv1"]["kernel"].dtype == jnp.float64
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(
                _numbers(one), _numbers(other), rtol=0, atol=1e-9
            )
            assert int(one.step) == 10


# The loop.


def _rows(states):
    return [
        Row(jax.tree.map(jnp.copy, state), seed, Recorder())
        for seed, state in enumerate(states)
    ]


@functools.cache
def _few():
    """Two steps an epoch."""
    split = digits().train
    return dataclasses.replace(
        split, images=split.images[:64], labels=split.labels[:64]
    )


def _alone(program, row, epochs):
    monitor = Recorder()
    after = loop.fit(
        program, row.state, _few(), seed=row.seed, epochs=epochs, monitor=monitor
    )
    return after, monitor.steps


def _assert_alike(row, end, expected, steps):
    np.testing.assert_allclose(row.monitor.steps, steps, rtol=1e-5)
    np.testing.assert_allclose(_numbers(end), _numbers(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_each_run_is_told_what_it_would_be_told_alone(scan):
    program, states = _begun("seeds")
    states, seen, looked = states[:2], [], ([], [])
    rows = [row._replace(look=looked[n].append) for n, row in enumerate(_rows(states))]
    ends = loop.fit_rows(
        program, rows, _few(), epochs=2, looks=2, scan=scan, on_epoch=seen.append
    )
    for n, (row, end) in enumerate(zip(rows, ends, strict=True)):
        expected, steps = _alone(program, _rows(states)[n], 2)
        assert [number for number, *_ in row.monitor.steps] == [1, 2, 3, 4]
        _assert_alike(row, end, expected, steps)
        assert [int(states[n].step) for states in seen] == [2, 4]
        assert [int(state.step) for state in looked[n]] == [0, 1, 2, 3, 4]
        assert_same(seen[-1][n], end)


@pytest.mark.parametrize("scan", [False, True])
def test_a_run_that_diverges_does_not_stop_the_others(scan):
    program, states = _begun("seeds")
    params = states[1].params
    last = {**params["fc"], "kernel": params["fc"]["kernel"].at[0].set(jnp.inf)}
    lost = states[1]._replace(params={**params, "fc": last})
    rows, seen = _rows([states[0], lost, states[2]]), []
    first, second, third = loop.fit_rows(
        program, rows, _few(), epochs=2, scan=scan, on_epoch=seen.append
    )
    assert [list(states) for states in seen] == [[0, 2], [0, 2]]
    assert isinstance(second, divergence.Diverged)
    assert second.step == 0
    assert "the output of fc" in str(second)
    assert_same(second.last_good, lost)
    assert not rows[1].monitor.steps
    for n, end in ((0, first), (2, third)):
        expected, steps = _alone(program, _rows(states)[n], 2)
        _assert_alike(rows[n], end, expected, steps)


def test_several_runs_stop_at_the_same_step_and_go_on_there():
    program, states = _begun("seeds")
    states, asked = states[:2], iter([False, False, True])
    whole = loop.fit_rows(program, _rows(states), _few(), epochs=2)
    stopped = loop.fit_rows(
        program, _rows(states), _few(), epochs=2, enough=lambda: next(asked)
    )
    assert [int(state.step) for state in stopped] == [3, 3]
    for one, other in zip(
        loop.fit_rows(program, _rows(stopped), _few(), epochs=2), whole, strict=True
    ):
        assert_same(one, other)


def test_one_compilation_serves_all_runs_of_a_group():
    program, states = _begun("bits")
    step.forget(program)
    loop.fit_rows(program, _rows(states), _few(), epochs=1)
    loop.fit_rows(program, _rows(states[::-1]), _few(), epochs=1)
    assert step.jitted(program, together=True).next_step._cache_size() == 1
    assert step.jitted(program).next_step._cache_size() == 0


def test_runs_at_different_steps_are_refused():
    program, states = _begun("seeds")
    rows = _rows([states[0], states[1]._replace(step=jnp.int32(3))])
    with pytest.raises(InputError, match="at the steps 0, 3: .* same number of steps"):
        loop.fit_rows(program, rows, _few(), epochs=1)


def test_runs_that_share_devices_are_refused():
    program, states = _begun("seeds")
    program = dataclasses.replace(program, mesh=parallel.mesh(jax.devices()[:2], 32))
    with pytest.raises(InputError, match="3 runs cannot be trained together where"):
        loop.fit_rows(program, _rows(states), _few(), epochs=1)
