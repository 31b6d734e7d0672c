"""A thread that gives no sign of life is told on, with its place; one that does is left alone."""

import threading
import time

import pytest

from runner.trial.watchdog import EXIT_STATUS, Watchdog


class Kennel:
    """Notes what a watchdog says, and that it would have ended the process."""

    def __init__(self):
        self.said, self.ended, self.over = [], [], threading.Event()

    def end(self, status):
        self.ended.append(status)
        self.over.set()


def test_silence_is_told_with_what_was_done_and_where():
    kennel = Kennel()
    with Watchdog(0.2, kennel.said.append, kennel.end) as watchdog:
        watchdog.alive("in epoch 1, after step 3 of 9")
        assert kennel.over.wait(10)
    [words] = kennel.said
    assert words.startswith(
        "no sign of life for 0.2 s while in epoch 1, after step 3 of 9, in wait (threading"
    )
    assert kennel.ended == [EXIT_STATUS]


def test_a_thread_that_works_is_left_alone():
    kennel = Kennel()
    with Watchdog(1.0, kennel.said.append, kennel.end) as watchdog:
        for _ in range(15):
            time.sleep(0.1)
            watchdog.alive("working")
    assert kennel.said == kennel.ended == []


def test_nobody_watches_after_the_end_or_without_a_limit():
    kennel = Kennel()
    with Watchdog(0.3, kennel.said.append, kennel.end):
        pass
    with Watchdog(0.0, kennel.said.append, kennel.end):
        time.sleep(0.6)
    assert kennel.said == kennel.ended == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_ends_also_if_nobody_can_be_told():
    kennel = Kennel()

    def deaf(_):
        raise OSError("no space left")

    with Watchdog(0.2, deaf, kennel.end):
        assert kennel.over.wait(10)
        for thread in [t for t in threading.enumerate() if t.name == "watchdog"]:
            thread.join(10)
    assert kennel.ended == [EXIT_STATUS]
