"""A grid of rows, run one after the other, or some together, into a folder; resumes.

`jsnnq.study.jobs` says what there is to do, `jsnnq.study.folder` what is done and where
it lies, `jsnnq.report.results` what a row is read against; here the next row is chosen
and run.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax

from jsnnq.analysis import emd, evaluate
from jsnnq.analysis.firing import Counts
from jsnnq.config import Config, to_dict
from jsnnq.data import sets
from jsnnq.errors import InputError, check_integer, choose
from jsnnq.report.comparisons import Claims
from jsnnq.runtime import files, parallel, programs
from jsnnq.runtime.provenance import installed_commit
from jsnnq.study import build, folder
from jsnnq.study.ahead import AHEAD, Ahead
from jsnnq.study.budget import Budget, OutOfTime
from jsnnq.study.groups import Groups
from jsnnq.study.jobs import Job, by_seed, plan, select
from jsnnq.study.run import Task, compile_ahead, execute, execute_together, tidy
from jsnnq.training import divergence, probe, step

KEEP = ("all", "float")
"""Which networks stay on disk: all, or those that other rows start from."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a call does of a study, and how.

    Attributes:
        rows: a regular expression: only rows with such a name, and the float networks
            they need; None is all of them, see `plan.select`.
        budget: the time that may be spent. Within a limited one the study goes seed by
            seed, begins only what will end in time, stops in the middle of a row that
            does not, and leaves out rows that diverged before.
        keep: which networks stay on disk, `all` or `float`.
        devices: as many of them as divide the batch of a row share it; by default
            one does it all.
        eval_batch: images per call of an evaluation; by default as many as fit.
        together: so many rows that share a program are trained at once, where no
            devices share a batch and the images fit on the device; None leaves it to
            the memory of an accelerator, and is one on a CPU.
    """

    rows: str | None = None
    budget: Budget = dataclasses.field(default_factory=Budget)
    keep: str = "all"
    devices: parallel.Devices = ()
    eval_batch: int | None = None
    together: int | None = None


class Study:
    """A folder with its rows.

    Args:
        rows: name to config.
        out: the folder; made if it does not exist.
        seeds: of float networks and controls; more than the last time adds some.
        row_seeds: of each quantized row, likewise.
        choice: what is done of it in this call.
        data_dir: where prepared data sets lie.
        hold_out: so many training images are held out and tested on, to choose a
            recipe without the test images; see `data.hold_out`.
        quiet: show no progress bars.
        say: told one line after each row.
        command: the command that made this study, for its provenance.
        paper: published values by row, printed beside ours.
        claims: what the experiment claims; see `jsnnq.report.comparisons`.

    Raises:
        InputError: a row cannot be built, a data set is missing, no row is chosen, or
            the folder cannot be written or belongs to another study.

    Example:
        >>> rows = {"float": jsnnq.Config(data="synthetic")}
        >>> study = jsnnq.Study(rows, "out/study", seeds=2)  # study.run() does it.
        >>> [str(job.run) for job in study.jobs]
        ['float/seed0', 'float/seed1']
    """

    def __init__(
        self,
        rows: Mapping[str, Config],
        out: str | Path,
        *,
        seeds: int = 2,
        row_seeds: int = 1,
        choice: Choice | None = None,
        data_dir: str | None = None,
        hold_out: int = 0,
        quiet: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
        paper: Mapping[str, Mapping[str, Any]] | None = None,
        claims: Claims = (),
    ):
        self._choice = choice or Choice()
        choose("keep", self._choice.keep, KEEP)
        if self._choice.together is not None:
            check_integer("together", self._choice.together)
        planned = plan(rows, seeds, row_seeds)
        self.jobs = select(planned, self._choice.rows)
        if self._choice.budget.is_limited:
            self.jobs = by_seed(self.jobs)
        self.out = Path(out)
        self._planned = [job.run for job in planned]
        self._quiet, self._say, self._command = quiet, say, command
        self._paper, self._claims = dict(paper or {}), claims
        self._commit = installed_commit()  # now, since a checkout may change meanwhile
        self._configs = {job.name: job.config for job in self.jobs}
        names = sorted({config.data for config in self._configs.values()})
        self._datasets = {name: sets.load(name, data_dir=data_dir) for name in names}
        if hold_out:
            for name, one in self._datasets.items():
                self._datasets[name] = sets.hold_out(one, hold_out)
        # Every row is built before the first is trained, so that what is wrong with
        # the last one is known now.
        self._programs = {
            name: build.program(
                config,
                self._datasets[config.data],
                self._choice.devices,
                self._choice.eval_batch,
            )
            for name, config in self._configs.items()
        }
        first: dict[step.Program, str] = {}
        self._alike = {
            name: first.setdefault(program.representative, name)
            for name, program in self._programs.items()
        }
        every = {name: to_dict(config) for name, config in rows.items()}
        self._folder = folder.claim(self.out, every, hold_out)
        self._groups = Groups(
            self._programs, self._datasets, self._folder, self._choice.together
        )

    def run(self) -> dict[str, Any]:
        """Does what is not done yet, as far as the budget goes; returns the results.

        Raises:
            InputError: another process runs this study, or a float network that rows
                start from is not in its folder any more.
            Diverged: rows whose numbers were not finite; the others are finished
                first, and the next call tries them again. Within a limited budget
                `diverged` says so instead.
        """
        programs.keep()
        limited, lost = self._choice.budget.is_limited, []
        ahead = Ahead(self._compile_ahead, patient=not limited)
        with files.held(self.out), ahead:
            for job in self.jobs:
                if self._folder.has(job.run):  # Stopped before it was tidied, perhaps.
                    tidy(self._folder.folder(job.run))
            waiting, begun = self._to_do(), False
            while (job := self._next(waiting, begun)) is not None:
                began = time.perf_counter()
                group = self._groups.fitted(self._group(job, waiting))
                waiting = [other for other in waiting if other not in group]
                coming = [other for other in waiting if self._has_time_for([other])]
                following = [self._compiled(other, coming) for other in coming]
                ahead.turn((self._alike[job.name], len(group)), following)
                waited = time.perf_counter() - began
                if begun and not self._has_time_for(group, waited):
                    continue  # It was compiled for longer than was left.
                begun = True
                try:
                    lost += self._execute(group, waited)
                except OutOfTime as error:
                    self._say(f"{_named(group)}: {error}")
                    break
                self._forget(job, waiting)
            results = self.results()
            files.write_json(self.out / "results.json", results)
            folder.write_report(self.out)
        if lost and not limited:
            raise lost[0]
        return results

    def decisions(self) -> dict[str, list[tuple[str, str, str]]]:
        """What the rules gave each layer of each quantized row; see `build`."""
        return {
            name: build.decisions(config, cast(Any, self._programs[name].network))
            for name, config in self._configs.items()
            if config.kind == "quantized"
        }

    @property
    def diverged(self) -> list[Job]:
        """Those of them whose numbers did not stay finite the last time."""
        return [job for job in self.unfinished if self._folder.has_diverged(job.run)]

    @property
    def blocked(self) -> list[Job]:
        """Those that cannot begin, because their float network diverged."""
        lost = {job.run for job in self.diverged}
        return [job for job in self.unfinished if job.origin in lost]

    @property
    def unfinished(self) -> list[Job]:
        """The jobs that are not done, of those that were asked for."""
        return [job for job in self.jobs if not self._folder.has(job.run)]

    def results(self) -> dict[str, Any]:
        """The contents of `results.json` from the rows that are done."""
        notes = "; ".join(one.note for one in self._datasets.values())
        return self._folder.results(
            self._planned, self._paper, notes, claims=self._claims
        )

    def _to_do(self) -> list[Job]:
        """What is not done; time that is short is not spent on what diverged before."""
        lost = self.diverged if self._choice.budget.is_limited else []
        to_do = [job for job in self.unfinished if job not in lost]
        # Now, since a folder may have been brought here without its large files.
        for job in to_do:
            self._check_parent(job)
        return to_do

    def _check_parent(self, job: Job) -> None:
        """Refuses a folder from which what a row starts from was taken away."""
        if job.origin is None or not self._folder.has(job.origin):
            return
        origin = self._folder.folder(job.origin)
        needed = ["checkpoint"] if job.config.start != "scratch" else []
        needed += ["firing.npz"] if job.config.spikes else []
        for path in (origin / name for name in needed):
            if not path.exists():
                raise InputError(
                    f"{str(path)!r} is missing, which {job.run} starts from or is held "
                    "against: bring it back, or remove its folder to train it again"
                )

    def _next(self, waiting: Iterable[Job], begun: bool) -> Job | None:
        """The first job whose float network is there, and for which there is time.

        The first of a call is begun in any case: no later call has more time.
        """
        ready = [job for job in waiting if self._is_ready(job)]
        timely = (job for job in ready if self._has_time_for([job]))
        return next(timely, ready[0] if ready and not begun else None)

    def _is_ready(self, job: Job) -> bool:
        # Else its float network diverged, or there was no time for it.
        return job.origin is None or self._folder.has(job.origin)

    def _group(self, job: Job, waiting: Iterable[Job]) -> list[Job]:
        """A job and those that are trained with it, as far as there is time."""
        group = self._groups.of(job, filter(self._is_ready, waiting))
        while len(group) > 1 and not self._has_time_for(group):
            group.pop()
        return group

    def _compiled(self, job: Job, waiting: Iterable[Job]) -> tuple[str, int]:
        """What is compiled for a job: that of a row, for so many of them."""
        return self._alike[job.name], len(self._group(job, waiting))

    def _has_time_for(self, jobs: Sequence[Job], spent: float = 0.0) -> bool:
        """Whether they are begun, when so many seconds were spent on them before."""
        budget = self._choice.budget
        if not budget.is_limited:
            return True
        each = [self._folder.expected(job, _device()) for job in jobs]
        known = [seconds for seconds in each if seconds is not None]
        expected = max(0.0, sum(known) - spent) if len(known) == len(each) else None
        return budget.admits(expected)

    def _execute(self, group: list[Job], waited: float) -> list[divergence.Diverged]:
        """Runs rows, for whose compilation was waited so many seconds.

        Returns:
            What diverged.
        """
        lost, share = [], waited / len(group)
        for job, found in zip(group, self._made(group), strict=True):
            if isinstance(found, divergence.Diverged):
                self._say(f"{job.run}: {found}")
                lost.append(found)
                continue
            row = self._written(job, *found, waited=share)
            emd_of = row["emd"] and f"  EMD {row['emd']['mean']:.4f}"
            self._say(
                f"{job.run}: accuracy {100 * row['accuracy']:.2f} %"
                f"{emd_of or ''}  ({row['wall_s']:.0f} s)"
            )
            files.write_json(self.out / "results.json", self.results())
        return lost

    def _made(self, group: list[Job]) -> Iterator[Any]:
        """What became of each row: itself and its evaluation, or why there is none."""
        tasks = list(map(self._task, group))
        dataset = self._datasets[group[0].config.data]
        shown: Any = dict(quiet=self._quiet, budget=self._choice.budget)
        if len(tasks) > 1:
            yield from execute_together(tasks, dataset, **shown)
            return
        program, config, folder, *rest = tasks[0]
        named = dict(zip(("seed", "parent", "label"), rest, strict=True))
        try:
            yield execute(program, config, dataset, folder, **named, **shown)
        except divergence.Diverged as error:
            yield error

    def _task(self, job: Job) -> Task:
        origin = job.origin and self._folder.folder(job.origin)
        parent = origin and origin / "checkpoint"
        program, at = self._programs[job.name], self._folder.folder(job.run)
        return Task(program, job.config, at, job.seed, parent, str(job.run))

    def _written(self, job: Job, row, evaluation, *, waited: float) -> dict[str, Any]:
        """Writes a row down that was made."""
        at = self._folder.folder(job.run)
        origin = job.origin and self._folder.folder(job.origin)
        dataset = self._datasets[job.config.data]
        row = {"name": job.name, **row, "emd": None, "matched": None}
        row["wall_s"] += waited
        if origin and job.config.spikes:
            known, found = Counts.load(origin / "firing.npz"), evaluation.counts
            row["emd"] = emd.compare(known, found).as_data()
            row["matched"] = emd.compare_matched(known, found).as_data()
        row["made"] = {
            "jax": jax.__version__,
            "device": _device(),
            "commit": self._commit,
            "command": self._command,
            "dataset": dataset.note,
        }
        self._folder.add(row)
        tidy(at)
        if self._choice.keep == "float" and job.config.kind != "float":
            shutil.rmtree(at / "checkpoint")
        return row

    def _compile_ahead(self, name: str, count: int) -> None:
        config = self._configs[name]
        dataset = self._datasets[config.data]
        compile_ahead(self._programs[name], config, dataset, count)

    def _forget(self, job: Job, following: Iterable[Job]) -> None:
        """Drops what the next jobs do not need: it would only fill the memory."""
        done = self._programs[job.name].representative
        coming = [self._programs[other.name] for other in following][: AHEAD + 1]
        kept = [program.representative for program in coming]
        if done not in kept:
            step.forget(done)
        if done.network not in [program.network for program in kept]:
            evaluate.forget(done.network)
            probe.forget_compiled()


def _named(group: Sequence[Job]) -> str:
    return ", ".join(str(job.run) for job in group)


def _device() -> str:
    return jax.devices()[0].device_kind
