"""Which rows of a study are trained together.

Rows that wait at the same time, have one program, are trained equally long on the same
images and were left at the same step: seeds of a row, and rows that differ in what
travels in the states of their quantizers, as clips, levels and bits do.
"""

import functools
from collections.abc import Iterable, Mapping

import jax

from jsnnq.data.arrays import DataSet
from jsnnq.study.folder import StudyFolder
from jsnnq.study.jobs import Job
from jsnnq.training import resume, step, together
from jsnnq.workflow.state import abstract_variables

MOST = 16
"""So many rows at most, unless more are asked for: what is killed costs all of them."""


class Groups:
    """Groups of the rows of a study.

    Args:
        programs: of each row, by its name.
        datasets: by their names.
        folder: of the study.
        wanted: how many rows are trained together at most; None leaves it to the
            memory of an accelerator, and is one on a CPU, whose cores one row uses.
    """

    def __init__(
        self,
        programs: Mapping[str, step.Program],
        datasets: Mapping[str, DataSet],
        folder: StudyFolder,
        wanted: int | None = None,
    ):
        self._programs, self._datasets, self._folder = programs, datasets, folder
        self._wanted = wanted
        self._fits: dict[tuple[step.Program, int], int] = {}

    def of(self, job: Job, ready: Iterable[Job]) -> list[Job]:
        """A job and those that could be trained with it, in their order.

        Args:
            job: whose turn it is.
            ready: jobs that can begin now.
        """
        if (most := self._most(job)) == 1:
            return [job]
        kind, others = self._kind(job), (other for other in ready if other != job)
        return [job, *(other for other in others if self._kind(other) == kind)][:most]

    def fitted(self, group: list[Job]) -> list[Job]:
        """As many of a group as the memory is enough for, unless a number was asked."""
        if self._wanted is not None or len(group) == 1:
            return group
        job, count = group[0], len(group)
        program, dataset = self._programs[job.name], self._datasets[job.config.data]
        named = program.representative, count
        if named not in self._fits:
            variables = abstract_variables(program.network, dataset.image_shape)
            state = jax.eval_shape(functools.partial(step.start, program), variables)
            looks = max(1, job.config.training.looks)
            self._fits[named] = together.fitting(
                program, state, dataset.train, count, looks=looks
            )
        return group[: self._fits[named]]

    def _most(self, job):
        program, dataset = self._programs[job.name], self._datasets[job.config.data]
        if not self._trains(job) or not together.shared(program, dataset.train):
            return 1
        usual = 1 if jax.default_backend() == "cpu" else MOST
        return self._wanted or usual

    def _kind(self, job):
        """What is equal for rows that are trained together."""
        at = resume.step_of(self._folder.folder(job.run))
        # Where it is not known a row is of its own kind.
        where = job.run if at is None else at
        program = self._programs[job.name].representative
        return program, job.config.data, job.config.training, self._trains(job), where

    def _trains(self, job):
        return job.config.start != "post-training"
