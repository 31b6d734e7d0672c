"""A thread that gives no sign of life is reported with its place; one that does is left alone."""

import threading
import time

import pytest

from runner.trial.watchdog import EXIT_STATUS, Watchdog


class Notes:
    """Notes what a watchdog says, and that it would have ended the process."""

    def __init__(self):
        self.said, self.ended, self.over = [], [], threading.Event()

    def end(self, status):
        self.ended.append(status)
        self.over.set()


def test_silence_is_told_with_what_was_done_and_where():
    notes = Notes()
    with Watchdog(0.2, notes.said.append, notes.end) as watchdog:
        watchdog.alive("in epoch 1, after step 3 of 9")
        assert notes.over.wait(10)
    [words] = notes.said
    assert words.startswith(
        "no sign of life for 0.2 s while in epoch 1, after step 3 of 9, in wait (threading"
    )
    assert notes.ended == [EXIT_STATUS]


def test_a_thread_that_works_is_left_alone():
    notes = Notes()
    with Watchdog(1.0, notes.said.append, notes.end) as watchdog:
        for _ in range(15):
            time.sleep(0.1)
            watchdog.alive("working")
    assert notes.said == notes.ended == []


def test_nobody_watches_after_the_end_or_without_a_limit():
    notes = Notes()
    with Watchdog(0.3, notes.said.append, notes.end):
        pass
    with Watchdog(0.0, notes.said.append, notes.end):
        time.sleep(0.6)
    assert notes.said == notes.ended == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_ends_also_if_nobody_can_be_told():
    notes = Notes()

    def deaf(_):
        raise OSError("no space left")

    with Watchdog(0.2, deaf, notes.end):
        assert notes.over.wait(10)
        for thread in [t for t in threading.enumerate() if t.name == "watchdog"]:
            thread.join(10)
    assert notes.ended == [EXIT_STATUS]
