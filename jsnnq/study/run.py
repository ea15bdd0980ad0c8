"""One run: from a config to a trained, measured and stored network."""

import functools
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import Evaluation, evaluate
from jsnnq.analysis.evaluate import compile_ahead as evaluate_ahead
from jsnnq.config import Config, from_dict, to_dict
from jsnnq.data import batches, sets
from jsnnq.errors import InputError
from jsnnq.networks import quantize
from jsnnq.runtime import checkpoint, files, interrupt, parallel
from jsnnq.study import build
from jsnnq.study.budget import Budget, OutOfTime
from jsnnq.study.saved import save_network, shapes_of
from jsnnq.training import divergence, loop, probe, step
from jsnnq.training.monitor import Monitor

SAVE_EVERY_S = 60.0
"""A run saves its state after an epoch if the last save is this long ago."""


def start(
    program: step.Program,
    config: Config,
    dataset: sets.DataSet,
    seed: int,
    parent: Path | None = None,
) -> step.TrainState:
    """The state a run begins with.

    Args:
        program, config, dataset, seed, parent: of `execute`.

    Raises:
        InputError: the row starts from a checkpoint, and none is given.
    """
    streams = step.keys(seed)
    bare = build.float_network(config.network, dataset.classes)
    shape = dataset.image_shape
    if config.start == "scratch":
        variables = build.initial_variables(bare, streams.init, shape)
    else:
        like = {**build.abstract_variables(bare, shape), "quant": {}}
        variables, _ = checkpoint.restore(_given(parent, config), like)
    if config.kind == "quantized":
        images = calibration_images(
            dataset, config.calibration, streams.order, program.network.dtype
        )
        variables = quantize.quantize(program.network, variables, streams.init, images)
    return step.start(program, variables)


def _given(parent: Path | None, config: Config) -> Path:
    if parent is None:
        raise InputError(
            f"the row starts from {config.start!r} and no checkpoint is given: take "
            "start='scratch', or a study, which trains the float network first"
        )
    return parent


def compile_ahead(program: step.Program, config: Config, dataset: sets.DataSet) -> None:
    """Compiles a row's training and evaluation, so that `execute` finds it done.

    Args:
        program, config: of `execute`.
        dataset: its images decide the shapes.
    """
    variables = shapes_of(program.network, config, dataset)
    if config.start != "post-training":
        state = jax.eval_shape(functools.partial(step.start, program), variables)
        loop.compile_ahead(program, state, dataset.train)
    variables = {"quant": {}, **variables}
    evaluate_ahead(program.network, variables, dataset, mesh=program.mesh)


def execute(
    program: step.Program,
    config: Config,
    dataset: sets.DataSet,
    folder: Path,
    *,
    seed: int,
    parent: Path | None = None,
    label: str = "",
    quiet: bool = False,
    budget: Budget | None = None,
) -> tuple[dict[str, Any], Evaluation]:
    """Trains (unless post-training), evaluates and stores a network.

    A run that was stopped continues from its last saved state, which after Ctrl-C is
    that of the present step. Who writes its row down removes that state, with `tidy`.

    Args:
        program: what `build.program` made of `config`.
        config: the row.
        dataset: its images.
        folder: where the run is kept.
        seed: of the run.
        parent: checkpoint of the float network it starts from, unless from scratch.
        label: shown while training.
        quiet: show no progress.
        budget: the time that may be spent; by default without end.

    Returns:
        The row for `results.json`, without distances, and the evaluation.

    Raises:
        Diverged: a loss or gradient was not finite; the last good state is kept as
            the checkpoint `last_good`.
        OutOfTime: training did not end in time; the next call continues it.
    """
    began = time.perf_counter()
    state, before = start(program, config, dataset, seed, parent), 0.0
    if config.start != "post-training":
        state, before = _train(
            program,
            state,
            config,
            dataset,
            folder,
            seed=seed,
            monitor=Monitor(label, folder, quiet),
            budget=budget or Budget(),
        )
    variables = state.variables()
    evaluation = evaluate(program.network, variables, dataset, mesh=program.mesh)
    save_network(
        folder / "checkpoint", variables, config, dataset, seed=seed, label=label
    )
    if evaluation.counts:
        evaluation.counts.save(folder / "firing.npz")
    row = {
        "kind": config.kind,
        "start": config.start,
        "config": to_dict(config),
        "seed": seed,
        **describe(program.network, variables, evaluation, dataset.image_shape),
        "wall_s": before + time.perf_counter() - began,
    }
    return row, evaluation


def tidy(folder: Path) -> None:
    """Removes what a run needed to go on, once its row is written down."""
    for unfinished in ("partial", "last_good"):
        shutil.rmtree(folder / unfinished, ignore_errors=True)


def _train(program, state, config, dataset, folder, *, seed, monitor, budget):
    """Trains from where the run was left; also the seconds spent before."""
    partial, before = folder / "partial", 0.0
    look = _probe(program, config, dataset, folder, state)
    if partial.exists():
        state, known = checkpoint.restore(partial, state)
        before = known["wall_s"]
    began = saved = time.perf_counter()

    def keep(state, every=SAVE_EVERY_S):
        nonlocal saved
        now = time.perf_counter()
        if now - saved > every:
            checkpoint.save(partial, state, {"wall_s": before + now - began})
            saved = now

    spent = budget.watch()
    try:
        with monitor, interrupt.patient() as stopped:
            state = loop.fit(
                program,
                state,
                dataset.train,
                seed=seed,
                epochs=config.training.epochs,
                monitor=monitor,
                on_epoch=keep,
                look=look,
                looks=max(1, config.training.looks),
                enough=lambda: stopped() or spent(),
            )
            if budget.is_limited or stopped():
                keep(state, every=0)
    except divergence.Diverged as error:
        checkpoint.save(folder / "last_good", error.last_good, {"step": error.step})
        if stopped():
            raise KeyboardInterrupt from error
        raise
    if stopped():
        raise KeyboardInterrupt
    steps = config.training.epochs * batches.steps_per_epoch(
        len(dataset.train), program.batch
    )
    if int(state.step) < steps:
        raise OutOfTime(f"out of time after {int(state.step):,} of {steps:,} steps")
    return state, before


def _probe(program, config, dataset, folder, start):
    """What looks into the network while it trains, if that is wanted and it has signs.

    Made from the state before the first step, also where a run continues.
    """
    if not config.training.looks or not probe.sign_layers(program.network):
        return None
    steps_per_epoch = batches.steps_per_epoch(len(dataset.train), program.batch)
    windows = build.freezing(config, program.network, steps_per_epoch)
    return probe.Probe(program, start, dataset, folder / "looks.jsonl", windows)


def calibration_images(
    dataset: sets.DataSet, count: int, key: jax.Array, dtype: Any = jnp.float32
) -> jax.Array:
    """The first training images of the run's own order, normalised, not augmented.

    Args:
        dataset: whose training images.
        count: how many; all of them if there are fewer.
        key: the run's stream of orders.
        dtype: of the network.

    Returns:
        Images `B H W C`, floats.
    """
    order = np.asarray(batches.epoch_order(key, 0, len(dataset.train)))
    images, _ = dataset.train.read(order[: min(count, len(order))])
    return dataset.preprocessing(jnp.asarray(images), dtype)


def train_one(
    config: Config,
    folder: Path,
    *,
    seed: int = 0,
    data_dir: str | None = None,
    devices: parallel.Devices = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains one network from scratch into a folder, or continues it.

    Args:
        config: the network, its data and its training.
        folder: where the run is kept.
        seed: of the run.
        data_dir: where prepared data sets lie.
        devices: that share a batch; see `build.program`.
        quiet: show no progress.

    Returns:
        Its row: accuracy, firing, cost.

    Raises:
        InputError: the config cannot be built, the data are missing, or the folder
            cannot be used.
        Diverged: a loss or gradient was not finite.
    """
    if not 0 <= seed < 2**32:  # JAX would take a larger one modulo 2^32
        raise InputError(f"seed is {seed}: an integer from 0 to {2**32 - 1} is needed")
    if config.start != "scratch":
        _given(None, config)
    dataset = sets.load(config.data, data_dir=data_dir)
    program = build.program(config, dataset, devices)
    identity = {"config": to_dict(config), "seed": seed}
    # What an older version of jsnnq wrote gets every setting of today.
    rewritten = lambda known: {**known, "config": to_dict(from_dict(known["config"]))}
    files.claim(folder, "run.json", identity, rewritten)
    done = folder / "row.json"
    if done.exists() and (folder / "checkpoint").is_dir():
        return files.read_json(done)
    row, _ = execute(
        program, config, dataset, folder, seed=seed, label=folder.name, quiet=quiet
    )
    files.write_json(done, row)
    tidy(folder)
    return row
