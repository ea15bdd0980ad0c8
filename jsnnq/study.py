"""A grid of rows to one table of results; knows which rows are done, and resumes.

A study lives in one folder:

    study.json                what it is: rows, seeds; another study is refused
    runs/NAME-seedK/          one row: checkpoint/, firing.npz, log.jsonl, events,
                              and row.json, written last: a row that has it is done
    results.json              all rows that are done, with floor and drift
    results.csv, report.md, report.html, plots/

**What a row is read against.** Every row names its start. A row from a checkpoint is
read against the `drift`: the distance to its parent of the float network that is
fine-tuned with the same steps, rate and data order. A row from scratch is read against
the `floor`: the distance between float networks of different seeds. A post-training
row trains nothing and has neither. Without its control an EMD says nothing.
"""

import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsnnq import build, checkpoint, cost, data, emd, firing, report, train
from jsnnq.config import Config, check_rows, fingerprint, parent, to_dict
from jsnnq.errors import InputError
from jsnnq.evaluate import Evaluation, evaluate
from jsnnq.monitor import Monitor, read_curve
from jsnnq.resnet import SEWResNet

SCHEMA = 1

SAVE_EVERY_S = 60.0
"""A run saves its state after an epoch if the last save is this long ago."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """One row with one seed."""

    name: str
    seed: int
    config: Config
    parent: str | None

    @property
    def key(self) -> str:
        """How reports call it."""
        return f"{self.name}/seed{self.seed}"

    @property
    def folder(self) -> str:
        """Its folder below `runs`."""
        return f"{self.name}-seed{self.seed}"


def plan(rows: Mapping[str, Config], seeds: int, row_seeds: int) -> list[Run]:
    """Every run in the order it is done: float networks, controls, quantized rows.

    Float networks and controls run with every seed, because floor and drift need at
    least two; a quantized row runs with the first `row_seeds` of them.
    """
    check_rows(rows)
    if not 1 <= row_seeds <= seeds:
        raise InputError(
            f"row seeds {row_seeds} and seeds {seeds}: 1 <= row seeds <= seeds is needed"
        )
    order = ("float", "control", "quantized")
    found = []
    for name, config in sorted(rows.items(), key=lambda row: order.index(row[1].kind)):
        count = row_seeds if config.kind == "quantized" else seeds
        origin = None if config.kind == "float" else parent(rows, config)
        found += [Run(name, seed, config, origin) for seed in range(count)]
    return found


class Study:
    """A folder with its runs.

    Args:
        rows: name to config.
        out: the folder; made if it does not exist.
        title: one line for the report.
        seeds: float networks and controls.
        row_seeds: seeds of each quantized row.
        data_dir: where prepared data sets lie.
        quiet: show no progress bars.
        say: told one line after each row.
        command: the command that made this study, for its provenance.

    Raises:
        InputError: a row cannot be built, a data set is missing, the folder cannot
            be written or belongs to another study.
    """

    def __init__(
        self,
        rows: Mapping[str, Config],
        out: str | Path,
        *,
        title: str = "",
        seeds: int = 2,
        row_seeds: int = 1,
        data_dir: str | None = None,
        quiet: bool = False,
        say: Say = print,
        command: str = "",
    ):
        self.runs = plan(rows, seeds, row_seeds)
        self.out = Path(out)
        self._quiet, self._say, self._command = quiet, say, command
        self.datasets = {
            name: data.load(name, data_dir=data_dir)
            for name in sorted({config.data for config in rows.values()})
        }
        # Every row is built before the first is trained, so that what is wrong with
        # the last one is known now.
        self._programs = {
            name: build.program(config, self.datasets[config.data])
            for name, config in rows.items()
        }
        self._claim(
            {
                "schema": SCHEMA,
                "title": title,
                "seeds": seeds,
                "row_seeds": row_seeds,
                "rows": {name: to_dict(config) for name, config in rows.items()},
            }
        )

    def run(self) -> dict[str, Any]:
        """Does what is not done yet, and returns the results.

        Raises:
            Diverged: rows whose numbers were not finite; the others are finished
                first, and the next call tries them again.
        """
        lost = []
        for run in self.runs:
            if self._is_done(run):
                continue
            if run.parent and not self._is_done(self._parent(run)):
                continue  # its float network diverged
            try:
                row = self._execute(run)
            except train.Diverged as error:
                checkpoint.save(
                    self._folder(run) / "last_good", error.last_good, {"step": error.step}
                )
                self._say(f"{run.key}: {error}")
                lost.append(error)
                continue
            self._say(_line(row))
            _write_json(self.out / "results.json", self.results())
        results = self.results()
        _write_json(self.out / "results.json", results)
        write_report(self.out)
        if lost:
            raise lost[0]
        return results

    @property
    def finished(self) -> bool:
        """Whether every run is done."""
        return all(self._is_done(run) for run in self.runs)

    def results(self) -> dict[str, Any]:
        """The contents of `results.json` from the rows that are done."""
        done = [run for run in self.runs if self._is_done(run)]
        rows = [json.loads((self._folder(run) / "row.json").read_text()) for run in done]
        floor, floor_range = _summarise(self._float_pairs(done))
        drift, drift_range = _summarise(
            [
                _row_emd(row)
                for run, row in zip(done, rows, strict=True)
                if run.config.kind == "control"
            ]
        )
        return {
            "schema": SCHEMA,
            "provenance": {
                "jax": jax.__version__,
                "device": jax.devices()[0].device_kind,
                "commit": installed_commit(),
                "command": self._command,
                "dataset": " ".join(set_.note for set_ in self.datasets.values()),
            },
            "floor": floor,
            "floor_range": floor_range,
            "drift": drift,
            "drift_range": drift_range,
            "rows": rows,
        }

    # The folder.

    def _claim(self, identity: dict[str, Any]) -> None:
        """Takes the folder for this study, or refuses it."""
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{str(self.out)!r} is a file: give a folder as --out")
        marker = self.out / "study.json"
        if marker.exists():
            known = _read_json(marker)
            if fingerprint(known) != fingerprint(json.loads(json.dumps(identity))):
                raise InputError(
                    f"{str(self.out)!r} holds another study ({_difference(known, identity)}"
                    "): give another folder as --out, or remove this one"
                )
            return
        if self.out.exists() and any(self.out.iterdir()):
            raise InputError(
                f"{str(self.out)!r} is not empty and holds no study: "
                "give an empty or new folder as --out"
            )
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
            _write_json(marker, identity)
        except OSError as error:
            raise InputError(
                f"cannot write into {str(self.out)!r} ({error.strerror}): "
                "give a folder you may write to as --out"
            ) from error

    def _folder(self, run: Run) -> Path:
        return self.out / "runs" / run.folder

    def _is_done(self, run: Run) -> bool:
        return (self._folder(run) / "row.json").exists()

    def _parent(self, run: Run) -> Run:
        return next(
            other
            for other in self.runs
            if other.name == run.parent and other.seed == run.seed
        )

    # One run.

    def _execute(self, run: Run) -> dict[str, Any]:
        folder = self._folder(run)
        dataset = self.datasets[run.config.data]
        program = self._programs[run.name]
        began = time.perf_counter()
        if run.config.start == "post-training":
            variables, before = self._start(run).variables(), 0.0
        else:
            with Monitor(run.key, folder, self._quiet) as monitor:
                state, before = self._train(run, monitor)
            variables = state.variables()
        evaluation = evaluate(program.network, variables, dataset)
        checkpoint.save(
            folder / "checkpoint",
            variables,
            {"config": to_dict(run.config), "seed": run.seed, "name": run.name},
        )
        save_firing(folder / "firing.npz", evaluation)
        row = {
            "name": run.name,
            "kind": run.config.kind,
            "start": run.config.start,
            "config": to_dict(run.config),
            "seed": run.seed,
            **describe(program.network, variables, evaluation, dataset.image_shape),
            **self._distances(run, evaluation),
            "wall_s": before + time.perf_counter() - began,
        }
        _write_json(folder / "row.json", row)
        shutil.rmtree(folder / "partial", ignore_errors=True)
        return row

    def _start(self, run: Run) -> train.TrainState:
        """The state a run begins with."""
        config, dataset = run.config, self.datasets[run.config.data]
        program = self._programs[run.name]
        streams = train.keys(run.seed)
        bare = build.float_network(config.network, dataset.classes)
        shape = dataset.image_shape
        if config.start == "scratch":
            variables = build.initial_variables(bare, streams.init, shape)
        else:
            like = jax.eval_shape(lambda: build.initial_variables(bare, streams.init, shape))
            path = self._folder(self._parent(run)) / "checkpoint"
            variables, _ = checkpoint.restore(path, {**like, "quant": {}})
        if config.kind == "quantized":
            images = calibration_images(dataset, config.calibration, streams.order)
            variables = build.quantize(program.network, variables, streams.init, images)
        return train.start(program, variables)

    def _train(self, run: Run, monitor: Monitor) -> tuple[train.TrainState, float]:
        """Trains a run from where it was left; also the seconds spent before."""
        partial = self._folder(run) / "partial"
        state, before = self._start(run), 0.0
        if partial.exists():
            state, known = checkpoint.restore(partial, state)
            before = known["wall_s"]
        began = saved = time.perf_counter()

        def keep(state):
            nonlocal saved
            now = time.perf_counter()
            if now - saved > SAVE_EVERY_S:
                checkpoint.save(partial, state, {"wall_s": before + now - began})
                saved = now

        state = train.fit(
            self._programs[run.name],
            state,
            self.datasets[run.config.data].train,
            seed=run.seed,
            epochs=run.config.training.epochs,
            monitor=monitor,
            on_epoch=keep,
        )
        return state, before

    def _distances(self, run: Run, evaluation: Evaluation) -> dict[str, Any]:
        """How far the firing moved from the parent, as distributions and matched."""
        if run.parent is None:
            return {"emd": None, "matched": None}
        known = load_firing(self._folder(self._parent(run)) / "firing.npz")
        return {
            "emd": as_dict(distances(emd.compare, known, as_firing(evaluation))),
            "matched": as_dict(
                distances(emd.compare_matched, known, as_firing(evaluation))
            ),
        }

    def _float_pairs(self, done: Iterable[Run]) -> list[dict[str, Any]]:
        """The distances between float networks of different seeds, all pairs."""
        floats = [run for run in done if run.config.kind == "float"]
        pairs = [
            (one, other)
            for one, other in itertools.combinations(floats, 2)
            if one.name == other.name
        ]
        records = {
            run.key: load_firing(self._folder(run) / "firing.npz") for run in floats
        }
        return [
            as_dict(distances(emd.compare, records[one.key], records[other.key]))
            for one, other in pairs
        ]


def describe(
    network: SEWResNet,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, int, int],
    policy: str = "neurobench",
) -> dict[str, Any]:
    """Accuracy, firing and deployment cost of an evaluated network, as JSON values."""
    fired = firing.summary(
        evaluation.counts, timesteps=evaluation.timesteps, images=evaluation.images
    )
    return {
        "accuracy": evaluation.accuracy,
        "mean_rate": fired.mean_rate,
        "dead": fired.dead,
        "saturated": fired.saturated,
        "cost": deployment_cost(network, variables, evaluation, image_shape, policy),
    }


def deployment_cost(network, variables, evaluation, image_shape, policy):
    """The cost of a network as it would be deployed, per image."""
    raise NotImplementedError


def calibration_images(
    dataset: data.DataSet, count: int, key: jax.Array
) -> jax.Array:
    """The first training images of the run's own order, normalised, not augmented."""
    order = np.asarray(data.epoch_order(key, 0, len(dataset.train)))
    images, _ = dataset.train.read(order[: min(count, len(order))])
    return data.normalise(
        jax.numpy.asarray(images), dataset.mean, dataset.std, dataset.scale
    )


# Firing records: counts on disk and their distances.


def as_firing(evaluation: Evaluation) -> dict[str, Any]:
    """The part of an evaluation that distances and histograms need."""
    return {
        "counts": evaluation.counts,
        "timesteps": evaluation.timesteps,
        "images": evaluation.images,
    }


def save_firing(path: Path, evaluation: Evaluation) -> None:
    """Writes the counts of an evaluation."""
    temporary = path.with_suffix(".partial.npz")
    np.savez_compressed(
        temporary,
        timesteps=evaluation.timesteps,
        images=evaluation.images,
        **{f"counts/{name}": value for name, value in evaluation.counts.items()},
    )
    os.replace(temporary, path)


def load_firing(path: Path) -> dict[str, Any]:
    """Reads what `save_firing` wrote."""
    with np.load(path) as stored:
        return {
            "counts": {
                name.removeprefix("counts/"): stored[name]
                for name in stored.files
                if name.startswith("counts/")
            },
            "timesteps": int(stored["timesteps"]),
            "images": int(stored["images"]),
        }


def distances(measure: Callable, one: Mapping, other: Mapping) -> emd.Distances:
    """`emd.compare` or `emd.compare_matched` on two firing records."""
    return measure(
        one["counts"],
        other["counts"],
        a_total=one["timesteps"] * one["images"],
        b_total=other["timesteps"] * other["images"],
    )


def as_dict(found: emd.Distances) -> dict[str, Any]:
    """Distances as they stand in `results.json`."""
    return {
        "mean": float(found.mean),
        "weighted": float(found.weighted),
        "max": float(found.max),
        "pooled": float(found.pooled),
        "layers": {name: float(value) for name, value in found.layers.items()},
    }


def _row_emd(row):
    return row["emd"]


def _summarise(found: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The mean of several distances, key by key, and their range."""
    if not found:
        return None, None
    keys = ("mean", "weighted", "max", "pooled")
    mean: dict[str, Any] = {
        key: math.fsum(one[key] for one in found) / len(found) for key in keys
    }
    mean["layers"] = {
        name: math.fsum(one["layers"][name] for one in found) / len(found)
        for name in found[0]["layers"]
    }
    span = {
        key: [min(one[key] for one in found), max(one[key] for one in found)]
        for key in keys
    }
    return mean, span


# Reports and files.


def write_report(out: Path) -> list[Path]:
    """Writes table, plots and page of a study from what lies in its folder.

    Raises:
        InputError: there are no results in `out`.
    """
    path = out / "results.json"
    if not path.is_file():
        raise InputError(
            f"no results.json in {str(out)!r}: give the folder of a study, "
            "as made by 'jsnnq study --out DIR'"
        )
    results = _read_json(path)
    records, curves = {}, {}
    for row in results["rows"]:
        folder = out / "runs" / f"{row['name']}-seed{row['seed']}"
        key = f"{row['name']}/seed{row['seed']}"
        if (folder / "firing.npz").exists():
            records[key] = load_firing(folder / "firing.npz")
        if (folder / "log.jsonl").exists():
            curves[key] = read_curve(folder / "log.jsonl")
    return report.write(out, results, firing=records, curves=curves)


def installed_commit() -> str | None:
    """The commit of the installed source, if it is known.

    An installation from version control records it; a checkout that is imported in
    place is asked (`-dirty` marks uncommitted changes). Otherwise nothing is known.
    """
    try:
        text = importlib.metadata.distribution("jsnnq").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        text = None
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    if commit:
        return commit
    package = Path(__file__).parent
    if not (package.parent / ".git").exists():
        return None
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty"],
            cwd=package,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None


def _line(row):
    emd_mean = "" if row["emd"] is None else f"  EMD {row['emd']['mean']:.4f}"
    return (
        f"{row['name']}/seed{row['seed']}: accuracy {100 * row['accuracy']:.2f} %"
        f"{emd_mean}  ({row['wall_s']:.0f} s)"
    )


def _write_json(path: Path, values: Any) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} is damaged ({error}): remove the folder and run the study "
            "again"
        ) from error


def _difference(known, wanted, path="") -> str:
    """The first place where two configs differ, for a message."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        for name in {**known, **wanted}:
            if name not in known:
                return f"{path}{name} is new"
            if name not in wanted:
                return f"{path}{name} is gone"
            if fingerprint(known[name]) != fingerprint(wanted[name]):
                return _difference(known[name], wanted[name], f"{path}{name}.")
    return f"{path.rstrip('.')} was {known!r}, is {wanted!r}"
