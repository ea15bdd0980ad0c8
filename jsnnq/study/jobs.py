"""What a study has to do: every row with every seed, in the order it is done."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping

from jsnnq.config import Config, Run
from jsnnq.errors import InputError
from jsnnq.report.groups import KINDS
from jsnnq.study.experiment import check_rows, parent


@dataclasses.dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        name: of the row.
        seed: of the run.
        config: the row.
        parent: name of the float row it starts from or is held against, if any.
    """

    name: str
    seed: int
    config: Config
    parent: str | None

    @property
    def run(self) -> Run:
        """Its name and seed."""
        return Run(self.name, self.seed)

    @property
    def origin(self) -> Run | None:
        """The run of that float row, which has the same seed."""
        return Run(self.parent, self.seed) if self.parent else None


def plan(rows: Mapping[str, Config], seeds: int, row_seeds: int) -> list[Job]:
    """Every job in the order it is done: float networks, controls, quantized rows.

    Quantized rows are done seed by seed, so that a study that was stopped has all of
    the first seeds. Float networks and controls run with every seed, because floor and
    drift need at least two; a quantized row runs with the first `row_seeds` of them.

    Args:
        rows: name to config.
        seeds: of float networks and controls.
        row_seeds: of each quantized row.

    Raises:
        InputError: the rows cannot be one study, or the numbers of seeds are wrong.
    """
    check_rows(rows)
    if not 1 <= row_seeds <= seeds:
        raise InputError(
            f"row seeds {row_seeds}, seeds {seeds}: 1 <= row seeds <= seeds is needed"
        )
    found = []
    for kind in KINDS:
        count = row_seeds if kind == "quantized" else seeds
        named = [(name, row) for name, row in rows.items() if row.kind == kind]
        for seed, (name, row) in itertools.product(range(count), named):
            # It goes on from a float network, or its firing is held against one.
            held = row.start != "scratch" or (kind != "float" and row.spikes)
            origin = parent(rows, row) if held else None
            found.append(Job(name, seed, row, origin))
    return found


def by_seed(jobs: Iterable[Job]) -> list[Job]:
    """The jobs with each seed complete before the next begins.

    Float networks compile once where one follows the other, but a study that may have
    to stop at any time is worth more so.
    """
    return sorted(jobs, key=lambda job: job.seed)


def select(jobs: Iterable[Job], pattern: str | None) -> list[Job]:
    """The jobs of rows whose whole name matches, and the float networks they need.

    Args:
        jobs: from `plan`.
        pattern: a regular expression, which may name seeds too, as reports do:
            `weights-.*`, `.*/seed1`; None selects all.

    Raises:
        InputError: it is no regular expression, or no name matches.
    """
    jobs = list(jobs)
    if pattern is None:
        return jobs
    try:
        matches = re.compile(pattern).fullmatch
    except re.error as error:
        raise InputError(
            f"--rows {pattern!r} is no regular expression: {error}"
        ) from error
    chosen = [job for job in jobs if matches(job.name) or matches(str(job.run))]
    if not chosen:
        names = dict.fromkeys(job.name for job in jobs)
        raise InputError(
            f"--rows {pattern!r} matches no row: there are {', '.join(names)}"
        )
    wanted = {run for job in chosen for run in (job.run, job.origin)}
    return [job for job in jobs if job.run in wanted]
