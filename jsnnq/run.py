"""One run: from a config to a trained, measured and stored network, and back.

A network on disk is a folder: the checkpoint holds its variables and, as metadata,
the config and seed that made it, so that it can be evaluated and compared later.
"""

import dataclasses
import functools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jsnnq import (
    batching,
    build,
    checkpoint,
    cost,
    data,
    descent,
    divergence,
    emd,
    files,
    firing,
    footprint,
    interrupt,
    parallel,
    probe,
    states,
    train,
)
from jsnnq.budget import Budget, OutOfTime
from jsnnq.config import Config, from_dict, to_dict
from jsnnq.errors import InputError, choose
from jsnnq.evaluate import Evaluation, evaluate
from jsnnq.evaluate import compile_ahead as evaluate_ahead
from jsnnq.footprint import as_dict, distances
from jsnnq.monitor import Monitor
from jsnnq.resnet import ResidualNetwork

SAVE_EVERY_S = 60.0
"""A run saves its state after an epoch if the last save is this long ago."""


def start(
    program: descent.Program,
    config: Config,
    dataset: data.DataSet,
    seed: int,
    parent: Path | None = None,
) -> descent.TrainState:
    """The state a run begins with.

    Args:
        program: what `build.program` made of `config`.
        config: the row.
        dataset: its images.
        seed: of the run.
        parent: checkpoint of the float network it starts from, unless from scratch.
    """
    streams = descent.keys(seed)
    bare = build.float_network(config.network, dataset.classes)
    shape = dataset.image_shape
    if config.start == "scratch":
        variables = build.initial_variables(bare, streams.init, shape)
    else:
        assert parent is not None
        like = {**build.abstract_variables(bare, shape), "quant": {}}
        variables, _ = checkpoint.restore(parent, like)
    if config.kind == "quantized":
        images = calibration_images(dataset, config.calibration, streams.order)
        variables = states.quantize(program.network, variables, streams.init, images)
    return descent.start(program, variables)


def compile_ahead(
    program: descent.Program, config: Config, dataset: data.DataSet
) -> None:
    """Compiles a row's training and evaluation, so that `execute` finds it done."""
    variables = _abstract_variables(program.network, config, dataset)
    if config.start != "post-training":
        state = jax.eval_shape(functools.partial(descent.start, program), variables)
        train.compile_ahead(program, state, dataset.train)
    variables = {"quant": {}, **variables}
    evaluate_ahead(program.network, variables, dataset, mesh=program.mesh)


def execute(
    program: descent.Program,
    config: Config,
    dataset: data.DataSet,
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
        with Monitor(label, folder, quiet) as monitor:
            state, before = _train(
                program,
                config,
                dataset,
                folder,
                seed,
                state,
                monitor,
                budget or Budget(),
            )
    variables = state.variables()
    evaluation = evaluate(program.network, variables, dataset, mesh=program.mesh)
    store(folder / "checkpoint", variables, config, dataset, seed=seed, label=label)
    if evaluation.counts:
        footprint.save(folder / "firing.npz", evaluation)
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


def store(
    path: Path,
    variables: Mapping[str, Any],
    config: Config,
    dataset: data.DataSet,
    *,
    seed: int = 0,
    label: str = "",
) -> None:
    """Writes a network that `load` reads back.

    Args:
        path: of the checkpoint.
        variables: parameters and collections.
        config: what the network was made from.
        dataset: what it was trained on; its mean and deviation are kept too.
        seed: of its run.
        label: what its run was called.
    """
    metadata = {
        "config": to_dict(config),
        "seed": seed,
        "label": label,
        "mean": dataset.mean,
        "std": dataset.std,
    }
    checkpoint.save(path, dict(variables), metadata)


def _train(program, config, dataset, folder, seed, state, monitor, budget):
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
        with interrupt.patient() as stopped:
            state = train.fit(
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
    steps = config.training.epochs * batching.steps_per_epoch(
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
    steps_per_epoch = batching.steps_per_epoch(len(dataset.train), program.batch)
    windows = build.freezing(config, program.network, steps_per_epoch)
    return probe.Probe(program, start, dataset, folder / "looks.jsonl", windows)


def calibration_images(dataset: data.DataSet, count: int, key: jax.Array) -> jax.Array:
    """The first training images of the run's own order, normalised, not augmented."""
    order = np.asarray(batching.epoch_order(key, 0, len(dataset.train)))
    images, _ = dataset.train.read(order[: min(count, len(order))])
    return batching.normalise(
        jnp.asarray(images), dataset.mean, dataset.std, dataset.scale
    )


def describe(
    network: ResidualNetwork,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, int, int],
    policy: str = "neurobench",
) -> dict[str, Any]:
    """Accuracy, firing and deployment cost of an evaluated network, as JSON values.

    Where nothing spikes, what is said of firing is None.
    """
    seen: dict[str, Any] = {
        "timesteps": evaluation.timesteps,
        "images": evaluation.images,
    }
    fired = dict.fromkeys(firing.Shares._fields)
    if evaluation.counts:
        fired = firing.summary(evaluation.counts, **seen)._asdict()
    neurons = {name: counts.size for name, counts in evaluation.counts.items()}
    spent = cost.deployment_cost(
        network.synapses(),
        states.kernels(network, variables),
        evaluation.counts,
        evaluation.nonzero,
        evaluation.total,
        **seen,
        image_shape=image_shape,
        weight_bits=states.weight_bits(network, variables),
        state_bits=states.state_bits(network, variables, neurons),
        graded=evaluation.graded,
        policy=policy,
    )
    return {
        "accuracy": evaluation.accuracy,
        **{name: fired[name] for name in firing.Shares._fields},
        "cost": spent._asdict(),
    }


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
    dataset = data.load(config.data, data_dir=data_dir)
    program = build.program(config, dataset, devices)
    files.claim(folder, "run.json", {"config": to_dict(config), "seed": seed})
    done = folder / "row.json"
    if done.exists():
        return files.read_json(done)
    row, _ = execute(
        program, config, dataset, folder, seed=seed, label=folder.name, quiet=quiet
    )
    files.write_json(done, row)
    tidy(folder)
    return row


class Network(NamedTuple):
    """A network read back from disk.

    Attributes:
        network: the module.
        variables: its parameters and collections.
        config: what it was made from.
        seed: of its run.
        dataset: what it is evaluated on.
        label: what its run was called.
    """

    network: ResidualNetwork
    variables: dict[str, Any]
    config: Config
    seed: int
    dataset: data.DataSet
    label: str


def load(
    path: Path, *, data_name: str | None = None, data_dir: str | None = None
) -> Network:
    """Reads a network back.

    Args:
        path: a checkpoint, or the folder of a run that holds one.
        data_name: evaluate on this data set instead of its own.
        data_dir: where prepared data sets lie.

    Raises:
        InputError: there is no checkpoint, it is damaged, it is not a network, or
            the data set does not fit it.
    """
    if (path / "checkpoint").is_dir():
        path = path / "checkpoint"
    metadata = checkpoint.read_metadata(path)
    if "config" not in metadata:
        raise InputError(
            f"{str(path)!r} is a checkpoint, but not of a finished network: give the "
            "folder that 'jsnnq train' or 'jsnnq study' made"
        )
    config = from_dict(metadata["config"])
    # The network goes on seeing pixels as it was trained to, on whichever data.
    dataset = dataclasses.replace(
        data.load(data_name or config.data, data_dir=data_dir),
        mean=tuple(metadata["mean"]),
        std=tuple(metadata["std"]),
    )
    network = build.network(config, dataset.classes)
    like = _abstract_variables(network, config, dataset)
    variables, _ = checkpoint.restore(path, {"quant": {}, **like})
    return Network(
        network,
        variables,
        config,
        metadata["seed"],
        dataset,
        metadata["label"] or path.parent.name,
    )


def compare(
    a: Network, b: Network, *, unit: str = "neuron", mesh: Mesh | None = None
) -> dict[str, Any]:
    """How far the firing of B is from that of A, on the data set of A.

    Args:
        a: a network.
        b: another of the same architecture.
        unit: `neuron` or `channel`; see `firing.rates`.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.

    Returns:
        `rows`, `describe` of A and of B; `firing`, the records of both; `emd` and
        `matched` as in `results.json`; `dataset` and `unit`.

    Raises:
        InputError: the two are not of one architecture.
    """
    shapes = [_kernel_shapes(one) for one in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{a.label} and {b.label} have other kernels ({_unlike(*shapes)}): "
            "only networks of one architecture can be compared"
        )
    if not a.config.spikes:
        raise InputError(
            f"{a.label} and {b.label} do not spike, so there is no firing to compare: "
            "give the checkpoints of two spiking networks"
        )
    choose("unit", unit, emd.UNITS)
    evaluations = [
        evaluate(one.network, one.variables, a.dataset, mesh=mesh) for one in (a, b)
    ]
    firing_of = [footprint.of(one) for one in evaluations]
    return {
        "rows": [
            describe(one.network, one.variables, evaluation, a.dataset.image_shape)
            for one, evaluation in zip((a, b), evaluations, strict=True)
        ],
        "firing": firing_of,
        "dataset": a.dataset.note,
        "unit": unit,
        "emd": as_dict(distances(emd.compare, *firing_of, unit=unit)),
        "matched": as_dict(distances(emd.compare_matched, *firing_of, unit=unit)),
    }


def _abstract_variables(network, config, dataset):
    """Shapes and dtypes of the variables of a row's network."""
    bare = build.float_network(config.network, dataset.classes)
    like = build.abstract_variables(bare, dataset.image_shape)
    if config.kind != "quantized":
        return like
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    return jax.eval_shape(
        lambda variables, images: states.quantize(
            network, variables, jax.random.key(0), images
        ),
        like,
        images,
    )


def _kernel_shapes(found):
    kernels = states.kernels(found.network, found.variables)
    return {path: kernel.shape for path, kernel in kernels.items()}


def _unlike(one, other):
    name = next(n for n in {**one, **other} if one.get(n) != other.get(n))
    return f"{name} is {one.get(name)} and {other.get(name)}"
