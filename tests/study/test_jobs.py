"""What a study does, in which order, and which part of it was asked for."""

import collections

import pytest

from jsnnq.errors import InputError
from jsnnq.study.jobs import by_seed, plan, select
from tests.tiny import ROWS, SCRATCH, texts


def done_before(jobs):
    """Whether every float network comes before what needs it."""
    seen = set()
    for job in jobs:
        if job.parent is not None and (job.parent, job.seed) not in seen:
            return False
        seen.add((job.name, job.seed))
    return True


def test_a_plan_does_every_parent_first():
    jobs = plan({**ROWS, "scratch": SCRATCH}, 3, 2)
    assert done_before(jobs)
    quantized = [job.seed for job in jobs if job.config.kind == "quantized"]
    assert quantized == sorted(quantized)  # all rows of a seed, then the next seed
    assert collections.Counter(job.name for job in jobs) == {
        "float": 3,
        "float-finetuned": 3,
        "weights-uniform-2bit": 2,
        "weights-lqnet-2bit": 2,
        "scratch": 2,
    }


def test_seed_by_seed_it_does_the_same_and_one_seed_is_complete_first():
    planned = plan({**ROWS, "scratch": SCRATCH}, 3, 2)
    jobs = by_seed(planned)
    assert done_before(jobs)
    assert set(jobs) == set(planned)
    assert [job.seed for job in jobs] == [0] * 5 + [1] * 5 + [2] * 2
    assert texts(jobs)[:2] == ["float/seed0", "float-finetuned/seed0"]


@pytest.mark.parametrize(("seeds", "row_seeds"), [(0, 0), (1, 2), (2, 0), (-1, 1)])
def test_wrong_numbers_of_seeds_are_refused(seeds, row_seeds):
    with pytest.raises(InputError, match="1 <= row seeds <= seeds"):
        plan(ROWS, seeds, row_seeds)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, texts(plan(ROWS, 2, 1))),
        ("float", ["float/seed0", "float/seed1"]),
        ("weights-.*-2bit", ["float/seed0", *texts(plan(ROWS, 2, 1))[-2:]]),
        (".*uniform.*", ["float/seed0", "weights-uniform-2bit/seed0"]),
        (".*/seed1", ["float/seed1", "float-finetuned/seed1"]),
        ("float-finetuned/seed0", ["float/seed0", "float-finetuned/seed0"]),
    ],
)
def test_rows_are_selected_with_the_float_networks_they_need(pattern, expected):
    assert texts(select(plan(ROWS, 2, 1), pattern)) == expected


def test_what_selects_nothing_is_refused():
    jobs = plan(ROWS, 2, 1)
    with pytest.raises(InputError, match="'weights' matches no row: there are float, "):
        select(jobs, "weights")  # the whole name counts
    with pytest.raises(InputError, match="is no regular expression"):
        select(jobs, "(")
