"""At which epoch the rows of a sweep are compared, and what is said of it."""

import pytest

from runner.compare.stored import Progress, Standing


def trial(row, last, epochs=9, **how):
    scored = frozenset(range(1, last + 1)) if epochs else frozenset([0])
    return Progress(row, epochs, scored, **how)


def test_a_sweep_that_has_ended_is_compared_at_its_end_without_a_word():
    found = Standing.of([trial("a", 9), trial("b", 9), trial("start", 0, epochs=0)])
    assert (found.epochs, found.words) == ({"a": 9, "b": 9, "start": 0}, "")


def test_a_running_sweep_is_compared_at_the_last_epoch_that_all_rows_have():
    rows = [trial("a", 9), trial("a", 9), trial("b", 9), trial("b", 4), trial("c", 3), trial("c", 2)]
    found = Standing.of([*rows, trial("start", 0, epochs=0)], total=18)
    assert found.epochs == {"a": 2, "b": 2, "c": 2, "start": 0}
    assert found.words == "3 of 18 trials ended; compared at epoch 2, the last that all rows have."


def test_two_seeds_make_a_row_and_the_others_wait():
    found = Standing.of(
        [trial("a", 9), trial("a", 9), trial("a", 1), trial("b", 9), trial("b", 9), trial("b", 0)]
    )
    assert found.epochs == {"a": 9, "b": 9}
    assert found.words == "4 of 6 trials ended; left out for want of a score: 2 trials."


def test_a_failed_trial_keeps_nobody_back():
    found = Standing.of([trial("a", 9), trial("a", 1, failed=True), trial("b", 9), trial("b", 9)])
    assert found.epochs == {"a": 9, "b": 9}
    assert found.words == "Left out for want of a score: 1 trial."


def test_rows_that_the_scheduler_stopped_are_shown_where_they_ended():
    stopped = {"stopped": True}
    found = Standing.of([trial("a", 9), trial("b", 1, **stopped), trial("c", 3, **stopped), trial("d", 9)])
    assert found.epochs == {"a": 9, "b": 1, "c": 3, "d": 9}
    assert found.words == "2 rows were stopped early by the scheduler and can have no verdict."
    mixed = Standing.of([trial("a", 9), trial("b", 1, **stopped), trial("b", 9)])
    assert mixed.epochs == {"a": 9, "b": 1}


def test_epochs_that_rows_are_made_to_differ_in_are_left_as_they_are():
    found = Standing.of([trial("epochs=5", 5, epochs=5), trial("epochs=10", 10, epochs=10)])
    assert (found.epochs, found.varied, found.words) == ({"epochs=5": 5, "epochs=10": 10}, True, "")


@pytest.mark.parametrize("trials", [[], [trial("a", 0), trial("b", 0)]])
def test_nothing_scored_is_nothing_to_compare(trials):
    assert Standing.of(trials).epochs == {}
