"""A sweep has one driver at a time: others are refused, the dead and the silent are followed by the next."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from r2d2.storage.location import open_store
from r2d2.storage.store import FolderStore
from runner.record.attempt import Attempt, AttemptWatch, Claim, SupersededError, latest_number, read_claim
from runner.record.history import TRAIN, History, Record
from runner.record.incidents import LOST, record_incident
from runner.record.lease import hold

HOLD = """
import sys, time
from pathlib import Path
from runner.record.lease import hold
with hold(Path(sys.argv[1]), 2.0):
    Path(sys.argv[1], "something").touch()
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sweep"


@pytest.fixture
def driver(folder):
    """Another process that holds the sweep."""
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def elsewhere(folder, **changes):
    """A driver on another machine, which was alive a moment ago by a clock that is an hour behind."""
    attempt = Attempt(str(folder), latest_number(open_store(folder)) + 1)
    claim = Claim(attempt.number, "node-7", 12, time.time() - 3600, 1.0, "")
    write_claim(attempt, claim, **changes)
    return attempt


def write_claim(attempt, claim, **changes):
    attempt.store.write(attempt.claim, json.dumps({**asdict(claim), **changes}).encode())


def test_attempts_are_numbered_and_one_that_let_go_is_followed_at_once(folder):
    waits = []
    for number in (1, 2, 3):
        with hold(folder, say=waits.append) as lease:
            (folder / "something").touch()
            assert lease.attempt.number == number
            assert lease.attempt.is_current()
        assert read_claim(folder).ended
    assert waits == []


def test_a_folder_in_which_nothing_was_started_vanishes(folder):
    with pytest.raises(ValueError, match="too small"), hold(folder):
        raise ValueError("the cluster is too small")
    assert not folder.exists()


def test_a_second_driver_is_refused_at_once_and_the_first_is_named(folder, driver):
    waits = []
    with pytest.raises(ValueError, match=f"is being run by process {driver.pid} on .*r2d2 stop sweep"):
        hold(folder, say=waits.append).__enter__()
    assert waits == []
    assert read_claim(folder).number == 1


def test_a_dead_driver_is_followed_at_once(folder, driver):
    driver.kill()
    driver.wait()
    waits = []
    with hold(folder, say=waits.append) as lease:
        assert lease.attempt.number == 2
    assert waits == []


def test_a_killed_driver_that_nobody_has_waited_for_is_dead(folder, driver):
    driver.kill()
    time.sleep(0.3)
    with hold(folder) as lease:
        assert lease.attempt.number == 2


def test_a_dead_drivers_lock_is_removed_and_a_living_one_keeps_its_own(folder, driver):
    left = lock_file(read_claim(folder))
    assert left.exists()
    driver.kill()
    driver.wait()
    with hold(folder):
        (folder / "something").touch()
        assert not left.exists()
        own = lock_file(read_claim(folder))
        assert own.exists()
    assert not own.exists()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "f" * 32])
def test_a_claim_whose_lock_is_not_here_may_be_alive_elsewhere(folder, name):
    elsewhere(folder, lock=name, seconds=30.0)
    assert read_claim(folder).lives_here() is None
    assert not read_claim(folder).is_over


def test_a_claim_of_other_fields_is_refused_with_what_to_do(folder):
    elsewhere(folder, born="1234", ended=True)
    with pytest.raises(ValueError, match=rf"'born'.*; if no driver runs the sweep, delete {folder}/attempts"):
        read_claim(folder)


def lock_file(claim):
    return Path(tempfile.gettempdir(), f"r2d2-lease-{claim.lock}")


def test_a_silent_driver_on_another_machine_is_followed_after_its_time_whatever_its_clock_says(folder):
    elsewhere(folder)
    said = []
    start = time.monotonic()
    with hold(folder, say=said.append) as lease:
        assert lease.attempt.number == 2
    assert time.monotonic() - start >= 1
    assert said == ["process 12 on node-7 runs this sweep; without a sign of life it is taken over in 1 s"]


def test_a_driver_on_another_machine_that_shows_a_sign_of_life_keeps_its_sweep(folder):
    attempt = elsewhere(folder, seconds=3.0)

    def renew(sentence: str) -> None:
        write_claim(attempt, read_claim(folder), renewed=5.0)

    with pytest.raises(ValueError, match="is being run by process 12 on node-7"):
        hold(folder, say=renew).__enter__()
    assert read_claim(folder).number == 1


def test_a_claim_is_renewed(folder):
    with hold(folder, seconds=0.6):
        first = read_claim(folder).renewed
        time.sleep(0.5)
        assert read_claim(folder).renewed > first


def test_who_was_superseded_writes_nothing_more(folder):
    history = History(folder / "history", Attempt(str(folder), 1))
    history.write(Record(1, TRAIN, {"x": 1.0}, "uri"))
    elsewhere(folder)
    elsewhere(folder)
    writes = (
        lambda: history.write(Record(1, TRAIN, {"x": 2.0}, "uri")),
        lambda: history.mark_stopped(1),
        lambda: history.mark_failed("why"),
        lambda: history.mark_failed(None),
        lambda: record_incident(history, LOST, "a worker was lost"),
    )
    for write in writes:
        with pytest.raises(SupersededError, match=r"attempt 1 .* was taken over by attempt 2; this"):
            write()
    assert [(r.metrics, r.attempt) for r in history.records()] == [({"x": 1.0}, 1)]
    assert sorted(path.name for path in history.folder.iterdir()) == ["epoch_001.train.json"]


def test_a_driver_hears_of_its_end(folder):
    with hold(folder, seconds=0.3) as lease:
        assert not lease.must_stop
        elsewhere(folder)
        wait_until(lambda: lease.must_stop)
        assert not lease.stop_asked
    # The later driver's folder and claim stay as they are.
    assert read_claim(folder).host == "node-7"


def test_a_driver_and_its_trainings_hear_that_they_are_to_stop(folder):
    with hold(folder, seconds=0.3) as lease, AttemptWatch(lease.attempt) as watch:
        lease.attempt.ask_to_stop()
        wait_until(lambda: lease.stop_asked and lease.must_stop)
        wait_until(lambda: watch.stop_asked)
        # What is known until then may still be written.
        lease.attempt.require_current()
        assert not watch.superseded
        elsewhere(folder)
        wait_until(lambda: watch.superseded)


def test_a_request_to_stop_is_for_one_attempt(folder):
    with hold(folder) as lease:
        (folder / "something").touch()
        lease.attempt.ask_to_stop()
    with hold(folder) as lease:
        assert not lease.stop_asked


def test_of_many_that_come_at_once_one_is_let_in(folder):
    elsewhere(folder, ended=True)
    start, tried = threading.Barrier(8), threading.Barrier(8)

    def come(_) -> str:
        start.wait()
        try:
            with hold(folder):
                tried.wait()
                return "held"
        except ValueError as error:
            tried.wait()
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(come, range(8)))
    assert ends.count("held") == 1
    assert sum("is being run by" in end for end in ends) == 7


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it was not heard in time"
        time.sleep(0.02)


def test_a_server_that_ignores_the_condition_of_a_claim_is_refused(folder):
    class Careless(FolderStore):
        is_remote = True

        def create(self, name, content):
            self.write(name, content)
            return True

    store = Careless(folder)
    with (
        pytest.raises(ValueError, match="ignores If-None-Match: two drivers could run"),
        hold(store),
    ):
        pass
    assert not list(store.walk())
