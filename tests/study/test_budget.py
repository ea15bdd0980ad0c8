"""Time that may be spent, on a clock that is set by hand."""

import math

import pytest

from jsnnq.errors import InputError
from jsnnq.study.budget import Budget, seconds


class Clock:
    """Tells the time it was set to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9m", 540),
        ("90", 90),
        ("90s", 90),
        ("1h30m", 5400),
        ("0.5h", 1800),
        ("2m5s", 125),
        (" 1.5m ", 90),
    ],
)
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-1", "9 minutes", "m9", "1m1h", "..s", "nan", "inf", "1d"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match="is no duration"):
        seconds(text)


def test_without_a_limit_everything_is_admitted_and_nothing_stops():
    budget = Budget()
    assert budget.left == math.inf
    assert not budget.is_limited
    assert budget.admits(None)
    assert budget.admits(1e12)
    watch = budget.watch()
    assert not any(watch() for _ in range(3))


def test_a_row_is_begun_if_it_will_end_in_time(clock):
    budget = Budget(100, clock)
    assert budget.is_limited
    assert budget.left == 95  # five seconds are for saving
    clock.now += 45
    assert budget.admits(50)
    assert not budget.admits(51)
    # What is longer than every budget is done in pieces, begun in the first half.
    assert budget.admits(101)
    assert budget.admits(None)
    clock.now += 1
    assert not budget.admits(101)
    assert not budget.admits(None)
    assert budget.admits(49)


@pytest.mark.parametrize(
    ("whole", "left"), [(10, 7.5), (20, 15), (60, 55), (540, 513), (3600, 3570)]
)
def test_time_is_kept_back_for_what_follows_training(whole, left):
    assert Budget(whole, Clock()).left == left


def test_a_first_step_that_was_compiled_says_nothing_of_the_next(clock):
    watch = Budget(100, clock).watch()
    clock.now += 60
    assert not watch()
    clock.now += 1
    assert not watch()
    clock.now += 33
    assert watch()  # another of 33 would not end in time


def test_training_stops_before_the_step_that_would_end_too_late(clock):
    budget = Budget(100, clock)
    clock.now += 20
    watch, made = budget.watch(), 0
    while True:
        clock.now += 10  # a step
        made += 1
        if watch():
            break
    # 95 are left for training, 20 are spent: the eighth step would end at 100.
    assert made == 7  # though the first might have been slow for being compiled
    assert watch()  # and it stays so, however fast the next question comes
    assert budget.left == 5


def test_the_first_step_is_made_whatever_the_time(clock):
    watch = Budget(100, clock).watch()
    clock.now += 500
    assert watch()
