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
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from jsnnq import (
    build,
    data,
    emd,
    evaluate,
    files,
    footprint,
    parallel,
    probe,
    report,
    train,
)
from jsnnq.config import Config, check_rows, from_dict, parent, to_dict
from jsnnq.errors import InputError
from jsnnq.footprint import as_dict, distances
from jsnnq.monitor import read_curve
from jsnnq.provenance import installed_commit
from jsnnq.run import compile_ahead, execute

SCHEMA = 1

_AHEAD = 2
"""So many programs are compiled before their rows begin."""


@dataclasses.dataclass(frozen=True)
class Job:
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


def plan(rows: Mapping[str, Config], seeds: int, row_seeds: int) -> list[Job]:
    """Every job in the order it is done: float networks, controls, quantized rows.

    Seed by seed, so that a study that was stopped has all rows of its first seeds.
    Float networks and controls run with every seed, because floor and drift need at
    least two; a quantized row runs with the first `row_seeds` of them.

    Raises:
        InputError: the rows cannot be one study, or the numbers of seeds are wrong.
    """
    check_rows(rows)
    if not 1 <= row_seeds <= seeds:
        raise InputError(
            f"row seeds {row_seeds}, seeds {seeds}: 1 <= row seeds <= seeds is needed"
        )
    found = []
    for kind, count in (("float", seeds), ("control", seeds), ("quantized", row_seeds)):
        named = [(name, row) for name, row in rows.items() if row.kind == kind]
        for seed, (name, row) in itertools.product(range(count), named):
            origin = parent(rows, row) if _needs_parent(row) else None
            found.append(Job(name, seed, row, origin))
    return found


def _needs_parent(config: Config) -> bool:
    """Whether a row goes on from a float network, or its firing is held against one."""
    return config.start != "scratch" or (config.kind != "float" and config.spikes)


class Study:
    """A folder with its rows.

    Args:
        rows: name to config.
        out: the folder; made if it does not exist.
        seeds: of float networks and controls.
        row_seeds: of each quantized row.
        data_dir: where prepared data sets lie.
        devices: as many of them as divide the batch of a row share it; by default
            one does it all.
        quiet: show no progress bars.
        say: told one line after each row.
        command: the command that made this study, for its provenance.
        paper: published values by row, printed beside ours.

    Raises:
        InputError: a row cannot be built, a data set is missing, the folder cannot
            be written or belongs to another study.
    """

    def __init__(
        self,
        rows: Mapping[str, Config],
        out: str | Path,
        *,
        seeds: int = 2,
        row_seeds: int = 1,
        data_dir: str | None = None,
        devices: parallel.Devices = (),
        quiet: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
        paper: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self.jobs = plan(rows, seeds, row_seeds)
        self.out = Path(out)
        self._quiet, self._say, self._command = quiet, say, command
        self._paper = dict(paper or {})
        self._datasets = {
            name: data.load(name, data_dir=data_dir)
            for name in sorted({config.data for config in rows.values()})
        }
        self._configs = dict(rows)
        # Every row is built before the first is trained, so that what is wrong with
        # the last one is known now.
        self._programs = {
            name: build.program(config, self._datasets[config.data], devices)
            for name, config in rows.items()
        }
        files.claim(
            self.out,
            "study.json",
            {
                "schema": SCHEMA,
                "seeds": seeds,
                "row_seeds": row_seeds,
                "rows": {name: to_dict(config) for name, config in rows.items()},
            },
        )

    def run(self) -> dict[str, Any]:
        """Does what is not done yet, and returns the results.

        Raises:
            Diverged: rows whose numbers were not finite; the others are finished
                first, and the next call tries them again.
        """
        lost = []
        waiting = [job for job in self.jobs if not self._is_done(job)]
        with _Ahead(self._compile_ahead) as ahead:
            for number, job in enumerate(waiting):
                following = waiting[number + 1 :]
                if job.parent and not self._is_done(self._parent(job)):
                    continue  # Its float network diverged.
                ahead.turn(self._alike(job), map(self._alike, following))
                try:
                    row = self._execute(job)
                except train.Diverged as error:
                    self._say(f"{job.key}: {error}")
                    lost.append(error)
                else:
                    self._say(_line(row))
                    files.write_json(self.out / "results.json", self.results())
                self._forget(job, following)
        results = self.results()
        files.write_json(self.out / "results.json", results)
        write_report(self.out)
        if lost:
            raise lost[0]
        return results

    def decisions(self) -> dict[str, list[tuple[str, str, str]]]:
        """What the rules gave each layer of each quantized row; see `build`."""
        return {
            name: build.decisions(config, self._programs[name].network)
            for name, config in self._configs.items()
            if config.kind == "quantized"
        }

    @property
    def finished(self) -> bool:
        """Whether every job is done."""
        return all(self._is_done(job) for job in self.jobs)

    def results(self) -> dict[str, Any]:
        """The contents of `results.json` from the rows that are done."""
        done = [job for job in self.jobs if self._is_done(job)]
        rows = [files.read_json(self._folder(job) / "row.json") for job in done]
        drifts = [row["emd"] for row in rows if row["kind"] == "control"]
        floor, floor_range = _summarise(self._between_floats(done))
        drift, drift_range = _summarise(drifts)
        return {
            "schema": SCHEMA,
            "provenance": {
                "jax": jax.__version__,
                "device": jax.devices()[0].device_kind,
                "commit": installed_commit(),
                "command": self._command,
                "dataset": "; ".join(one.note for one in self._datasets.values()),
            },
            "floor": floor,
            "floor_range": floor_range,
            "drift": drift,
            "drift_range": drift_range,
            "paper": self._paper,
            "rows": rows,
        }

    def _folder(self, job: Job) -> Path:
        return self.out / "runs" / job.folder

    def _is_done(self, job: Job) -> bool:
        return (self._folder(job) / "row.json").exists()

    def _parent(self, job: Job) -> Job:
        return next(
            other
            for other in self.jobs
            if (other.name, other.seed) == (job.parent, job.seed)
        )

    def _execute(self, job: Job) -> dict[str, Any]:
        origin = self._folder(self._parent(job)) if job.parent else None
        row, evaluation = execute(
            self._programs[job.name],
            job.config,
            self._datasets[job.config.data],
            self._folder(job),
            seed=job.seed,
            parent=origin and origin / "checkpoint",
            label=job.key,
            quiet=self._quiet,
        )
        row = {"name": job.name, **row, "emd": None, "matched": None}
        if origin and job.config.spikes:
            known, found = (
                footprint.load(origin / "firing.npz"),
                footprint.of(evaluation),
            )
            row["emd"] = as_dict(distances(emd.compare, known, found))
            row["matched"] = as_dict(distances(emd.compare_matched, known, found))
        files.write_json(self._folder(job) / "row.json", row)
        return row

    def _compile_ahead(self, name: str) -> None:
        config = self._configs[name]
        compile_ahead(self._programs[name], config, self._datasets[config.data])

    def _alike(self, job: Job) -> str:
        """The first row that has the program of this one."""
        ours = self._programs[job.name]
        return next(name for name, one in self._programs.items() if one == ours)

    def _forget(self, job: Job, following: Iterable[Job]) -> None:
        """Drops what the next jobs do not need: it would only fill the memory."""
        done = self._programs[job.name]
        kept = [self._programs[other.name] for other in following][: _AHEAD + 1]
        if done not in kept:
            train.forget(done)
        if done.network not in [program.network for program in kept]:
            evaluate.forget(done.network)
            probe.forget_compiled()

    def _between_floats(self, done: Iterable[Job]) -> list[dict[str, Any]]:
        """The distances between float networks of different seeds, all pairs."""
        firing = {
            job: footprint.load(self._folder(job) / "firing.npz")
            for job in done
            if job.config.kind == "float" and job.config.spikes
        }
        return [
            as_dict(distances(emd.compare, firing[one], firing[other]))
            for one, other in itertools.combinations(firing, 2)
            if one.name == other.name
        ]


class _Ahead:
    """Compiles what the next rows need, on a thread beside the present one.

    Compiling takes as long as the training of a small row, and uses one core.
    """

    def __init__(self, compile_one: Callable[[str], None]):
        self._compile_one = compile_one
        self._pool = ThreadPoolExecutor(1, "jsnnq-compile")
        self._begun: dict[str, Future] = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        # XLA cannot be interrupted; what has not begun need not begin.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def turn(self, name: str, following: Iterable[str]) -> None:
        """Waits for the compilation of a row whose turn it is; begins the next ones."""
        if name in self._begun:
            # What could not be compiled will say so again where it is used.
            self._begun[name].exception()
        coming = [other for other in dict.fromkeys(following) if other != name]
        wanted = coming[:_AHEAD]
        self._begun = {n: f for n, f in self._begun.items() if n in (name, *wanted)}
        for other in wanted:
            if other not in self._begun:
                self._begun[other] = self._pool.submit(self._compile_one, other)


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


def write_report(out: Path) -> list[Path]:
    """Writes table, plots and page of a study from what lies in its folder.

    Raises:
        InputError: there are no results in `out`, or they are no study's.
    """
    path = out / "results.json"
    if not path.is_file():
        raise InputError(
            f"no results.json in {str(out)!r}: give the folder of a study, "
            "as made by 'jsnnq study --out DIR'"
        )
    results = files.read_json(path)
    if not isinstance(results, dict) or "rows" not in results:
        raise InputError(
            f"{str(path)!r} does not hold the results of a study: give the folder of "
            "one, as made by 'jsnnq study --out DIR'"
        )
    records, curves, looks = {}, {}, {}
    for row in results["rows"]:
        folder = out / "runs" / f"{row['name']}-seed{row['seed']}"
        key = f"{row['name']}/seed{row['seed']}"
        if (folder / "firing.npz").exists():
            records[key] = footprint.load(folder / "firing.npz")
        if (folder / "log.jsonl").exists():
            curves[key] = read_curve(folder / "log.jsonl")
        if (folder / "looks.jsonl").exists():
            looks[key] = probe.read_looks(folder / "looks.jsonl")
    return report.write(
        out,
        results,
        firing=records,
        curves=curves,
        looks=looks,
        planned=_planned(out),
    )


def _planned(out: Path) -> list[str]:
    """The keys of all rows of the study in a folder, so that the missing are named."""
    marker = out / "study.json"
    if not marker.is_file():
        return []
    known = files.read_json(marker)
    rows = {name: from_dict(config) for name, config in known["rows"].items()}
    return [job.key for job in plan(rows, known["seeds"], known["row_seeds"])]


def _line(row):
    emd_mean = "" if row["emd"] is None else f"  EMD {row['emd']['mean']:.4f}"
    return (
        f"{row['name']}/seed{row['seed']}: accuracy {100 * row['accuracy']:.2f} %"
        f"{emd_mean}  ({row['wall_s']:.0f} s)"
    )
