"""A run, or some together: from a config to a trained, measured, stored network."""

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import Evaluation, evaluate
from jsnnq.analysis.evaluate import compile_ahead as evaluate_ahead
from jsnnq.config import Config, from_dict, to_dict
from jsnnq.data import batches, sets
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, check_seed
from jsnnq.runtime import checkpoint, files, parallel
from jsnnq.study import build
from jsnnq.study.budget import Budget, OutOfTime
from jsnnq.study.saved import save_network
from jsnnq.training import loop, probe, step
from jsnnq.training.divergence import Diverged
from jsnnq.training.monitor import Monitor
from jsnnq.training.resume import train_rows
from jsnnq.workflow.state import abstract_variables
from jsnnq.workflow.state import start as first_variables


def start(
    program: step.Program,
    config: Config,
    dataset: DataSet,
    seed: int,
    parent: Path | None = None,
) -> step.TrainState:
    """The state a run begins with.

    Args:
        program, config, dataset, seed, parent: of `execute`.

    Raises:
        InputError: the row starts from a checkpoint, and none is given.
    """
    given = None
    if config.start != "scratch":
        like = abstract_variables(program.network.bare, dataset.image_shape)
        given, _ = checkpoint.restore(_given(parent, config), like)
    variables = first_variables(
        program.network,
        dataset,
        seed=seed,
        given=given,
        calibration=config.calibration,
    )
    return step.start(program, variables)


def _given(parent: Path | None, config: Config) -> Path:
    if parent is None:
        raise InputError(
            f"the row starts from {config.start!r} and no checkpoint is given: take "
            "start='scratch', or a study, which trains the float network first"
        )
    return parent


def compile_ahead(
    program: step.Program, config: Config, dataset: DataSet, count: int = 1
) -> None:
    """Compiles a row's training and evaluation, so that `execute` finds it done.

    Args:
        program, config: of `execute`.
        dataset: its images decide the shapes.
        count: how many rows are trained together.
    """
    variables = abstract_variables(program.network, dataset.image_shape)
    if config.start != "post-training":
        state = jax.eval_shape(functools.partial(step.start, program), variables)
        loop.compile_ahead(program, state, dataset.train, count)
    how = {"batch": program.eval_batch, "mesh": program.mesh}
    evaluate_ahead(program.network, variables, dataset, **how)


class Task(NamedTuple):
    """One run of those that are made together.

    Attributes:
        program, config, folder, seed, parent, label: of `execute`.
    """

    program: step.Program
    config: Config
    folder: Path
    seed: int
    parent: Path | None = None
    label: str = ""


def execute(
    program: step.Program,
    config: Config,
    dataset: DataSet,
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
    task = Task(program, config, folder, seed, parent, label)
    [found] = execute_together([task], dataset, quiet=quiet, budget=budget)
    if isinstance(found, Diverged):
        raise found
    return found


def execute_together(
    tasks: Sequence[Task],
    dataset: DataSet,
    *,
    quiet: bool = False,
    budget: Budget | None = None,
) -> Iterator[tuple[dict[str, Any], Evaluation] | Diverged]:
    """`execute` of one or several runs, whose steps are made together.

    Args:
        tasks: runs whose programs have one representative, which are trained equally
            long and were left at the same step; see `loop.fit_rows`.
        dataset: their images.
        quiet: show no progress.
        budget: the time that may be spent; by default without end.

    Yields:
        For each, as soon as it is evaluated, what `execute` returns or, of divergence,
        raises. The seconds of training are shared equally.

    Raises:
        OutOfTime: training did not end in time; the next call continues it.
    """
    began = time.perf_counter()
    states = [start(*task[:2], dataset, task.seed, task.parent) for task in tasks]
    ends: list[Any] = [(state, 0.0) for state in states]
    if tasks[0].config.start != "post-training":
        ends = _train(tasks, states, dataset, quiet=quiet, budget=budget or Budget())
    trained = (time.perf_counter() - began) / len(tasks)
    for task, (state, before) in zip(tasks, ends, strict=True):
        if isinstance(state, Diverged):
            yield state
            continue
        began = time.perf_counter()
        row, evaluation = _finish(task, state.variables, dataset)
        row["wall_s"] = before + trained + time.perf_counter() - began
        yield row, evaluation


def _finish(task, variables, dataset):
    """Evaluates and stores a trained network."""
    program, config, folder, seed, _, label = task
    how = {"batch": program.eval_batch, "mesh": program.mesh}
    evaluation = evaluate(program.network, variables, dataset, **how)
    save_network(
        folder / "checkpoint",
        build.network(config, dataset.classes),
        variables,
        config,
        dataset,
        seed=seed,
        label=label,
    )
    if evaluation.counts:
        evaluation.counts.save(folder / "firing.npz")
    row = {
        "kind": config.kind,
        "start": config.start,
        "config": to_dict(config),
        "seed": seed,
        **describe(program.network, variables, evaluation, dataset.image_shape),
    }
    return row, evaluation


def tidy(folder: Path) -> None:
    """Removes what a run needed to go on, once its row is written down."""
    for unfinished in ("partial", "last_good"):
        shutil.rmtree(folder / unfinished, ignore_errors=True)


def _train(tasks, states, dataset, *, quiet, budget):
    """Trains from where the runs were left; for each also the seconds spent before."""
    program, training = tasks[0].program, tasks[0].config.training
    # Of several bars at once none could be read: the first stands for all.
    silent = [quiet or number > 0 for number in range(len(tasks))]
    others = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
    with contextlib.ExitStack() as open_:
        rows = []
        for task, state, still in zip(tasks, states, silent, strict=True):
            monitor = Monitor(f"{task.label}{others}", task.folder, still)
            open_.enter_context(monitor)
            look = _probe(task, dataset, state)
            rows.append(loop.Row(state, task.seed, monitor, look))
        ends = train_rows(
            program,
            rows,
            dataset.train,
            [task.folder for task in tasks],
            epochs=training.epochs,
            looks=max(1, training.looks),
            enough=budget.watch(),
            keep_end=budget.is_limited,
        )
    steps = training.epochs * batches.steps_per_epoch(len(dataset.train), program.batch)
    for state, _ in ends:
        if not isinstance(state, Diverged) and int(state.step) < steps:
            raise OutOfTime(f"out of time after {int(state.step):,} of {steps:,} steps")
    return ends


def _probe(task, dataset, start):
    """What looks into the network while it trains, if that is wanted and it has signs.

    Made from the state before the first step, also where a run continues.
    """
    program, config, folder = task[:3]
    if not config.training.looks or not probe.sign_layers(program.network):
        return None
    steps_per_epoch = batches.steps_per_epoch(len(dataset.train), program.batch)
    windows = build.freezing(config, program.network, steps_per_epoch)
    return probe.Probe(program, start, dataset, folder / "looks.jsonl", windows)


def train_one(
    config: Config,
    folder: Path,
    *,
    seed: int = 0,
    data_dir: str | None = None,
    devices: parallel.Devices = (),
    eval_batch: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains one network from scratch into a folder, or continues it.

    Args:
        config: the network, its data and its training.
        folder: where the run is kept.
        seed: of the run.
        data_dir: where prepared data sets lie.
        devices, eval_batch: of `build.program`.
        quiet: show no progress.

    Returns:
        Its row: accuracy, firing, cost.

    Raises:
        InputError: the config cannot be built, the data are missing, or the folder
            cannot be used.
        Diverged: a loss or gradient was not finite.
    """
    check_seed(seed)
    if config.start != "scratch":
        _given(None, config)
    dataset = sets.load(config.data, data_dir=data_dir)
    program = build.program(config, dataset, devices, eval_batch)
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
