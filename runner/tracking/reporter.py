"""Logs the trials' histories in MLflow while the trials train. The sweep's driver has one Reporter."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from r2d2.storage.errors import StorageError
from runner.record.attempt import Attempt
from runner.record.history import History
from runner.record.sweep import Ending
from runner.tracking.experiments import Tracker
from runner.tracking.logger import RunLogger
from runner.tracking.note import SweepIdentity
from runner.tracking.store import TrackingError
from runner.tracking.tables import LoggedTable
from search_spaces.sweep import Trial

# Seconds between questions to a server that is away: from the first to the last number.
ASK_AGAIN = (1.0, 15.0)
# How often a trial is logged on a server that answers, but does not take it.
ATTEMPTS = 4


@dataclass
class _Waiting:
    """A trial of which something is to be logged."""

    trial: Trial
    history: History
    ending: Ending | None
    attempts: int = 0


class Reporter:
    """Keeps MLflow's runs equal to the histories of trials.

    A thread of its own logs them, so that no trial and no scheduler waits for MLflow. Pending trials are kept
    here by key; their figures lie in their histories, on disk. A server that is away is asked again until it
    answers, and then gets everything, in order. If it stays away, the same command or `r2d2 sync` logs the
    rest later.
    """

    def __init__(
        self,
        tracker: Tracker,
        sweep: SweepIdentity,
        place: str,
        say: Callable[[str], None],
        attempt: Attempt | None = None,
    ) -> None:
        """Starts the thread.

        Args:
            tracker: the store.
            sweep: what is logged.
            place: of the sweep, where the histories lie.
            say: shows the user a sentence, from any thread.
            attempt: the attempt that logs; once a later one has taken over, nothing more is logged. None:
                nobody else logs.
        """
        self._attempt = attempt
        self._tracker, self._place, self._say = tracker, place, say
        self._logger = RunLogger(tracker, sweep)
        # In the order in which they are logged; one stays until MLflow has all that is known of it.
        self._waiting: dict[str, _Waiting] = {}
        self._away_since: float | None = None
        self._was_away = False
        # Why the home could not be read just now; None: it could.
        self._unread: str | None = None
        self._refused: dict[str, str] = {}
        self._fault: Exception | None = None
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def open(self) -> bool:
        """Opens the sweep's experiment; returns whether MLflow answered.

        Raises:
            ValueError: if it holds runs on other images, or was deleted.
        """
        try:
            self._logger.experiment()
        except TrackingError as error:
            self._go_away(str(error))
            return False
        return True

    def record(self, trial: Trial, history: History) -> None:
        """Logs what has happened to a trial; returns at once."""
        self._put(_Waiting(trial, history, None))

    def finish(self, trial: Trial, history: History, ending: Ending) -> None:
        """Logs the end of a trial, and all that is not logged yet; returns at once."""
        self._put(_Waiting(trial, history, ending))

    def settle(self, timeout: float = 10.0) -> dict[str, str]:
        """Waits until MLflow has everything.

        Args:
            timeout: seconds to wait for an unreachable server or store.

        Returns:
            The key of every trial that MLflow does not have completely, with the reason.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._waiting and self._fault is None:
                held_up = self._away_since is not None or self._unread is not None
                if held_up and time.monotonic() > deadline:
                    break
                self._changed.wait(0.2)
            if self._fault is not None:
                raise self._fault
            return dict.fromkeys(self._waiting, self._unread or "MLflow does not answer") | self._refused

    def close(self) -> None:
        """Ends the thread; what still waits is on disk."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._away_since is None and self._unread is None:
            self._thread.join()

    @property
    def standing(self) -> str:
        """Describes a server that is away, or what is still to be logged, in a sentence; empty otherwise."""
        with self._changed:
            since, waiting = self._away_since, len(self._waiting)
        if since is not None:
            return f"MLflow is away since {_clock(since)}; {_trials(waiting)} to be logged"
        return f"{_trials(waiting)} are being logged in MLflow" if waiting > 1 else ""

    def summarise(
        self, text: str, table: LoggedTable, best: Mapping[str, float], files: Mapping[str, str | bytes]
    ) -> str | None:
        """Logs the outcome of the sweep, see `RunLogger.log_summary`; returns None if MLflow is away."""
        self._require_current()
        try:
            self._tracker.check()
            return self._logger.log_summary(text, table, best, files)
        except TrackingError as error:
            self._say(f"The summary is not in MLflow: {error}.")
            return None

    def _require_current(self) -> None:
        if self._attempt is not None:
            # A home that does not answer keeps nothing from MLflow: nobody can take the sweep over there.
            with contextlib.suppress(StorageError):
                self._attempt.require_current()

    def _put(self, news: _Waiting) -> None:
        with self._changed:
            # In place of what waits of this trial: its history holds both. It may also have been continued.
            self._waiting[news.trial.key] = news
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while (news := self._next()) is not None:
            try:
                self._require_current()
                self._logger.log(news.trial, news.history, news.ending)
            except TrackingError as error:
                self._not_taken(news, error)
            except OSError as error:
                self._not_read(news, error)
            except ValueError as error:
                self._refuse(news, str(error))
            except Exception as error:
                self._say(f"Nothing more is logged in MLflow, by a fault of this program: {error!r}")
                with self._changed:
                    self._fault = error
                    self._changed.notify_all()
                return
            else:
                self._unread = None
                self._refused.pop(news.trial.key, None)
                self._done(news)

    def _next(self) -> _Waiting | None:
        """Waits for the trial that is first in the order and returns it; None if the reporter is closed."""
        with self._changed:
            if not self._waiting and self._was_away:
                self._was_away = False
                self._say("MLflow has everything that waited.")
            while not self._waiting and not self._closing.is_set():
                self._changed.wait()
            return None if self._closing.is_set() else next(iter(self._waiting.values()))

    def _done(self, news: _Waiting) -> None:
        """Forgets a trial that is logged, unless more of it has happened meanwhile."""
        with self._changed:
            if self._waiting[news.trial.key] is news:
                del self._waiting[news.trial.key]
            self._changed.notify_all()

    def _not_taken(self, news: _Waiting, error: TrackingError) -> None:
        news.attempts += 1
        if self._wait_until_it_answers():
            news.attempts = 0
        elif news.attempts == ATTEMPTS:
            self._refuse(news, str(error))
        else:
            self._closing.wait(ASK_AGAIN[0])

    def _not_read(self, news: _Waiting, error: OSError) -> None:
        """Handles a home that cannot be read: the fault is not MLflow's, and may pass."""
        if self._unread is None:
            self._say(f"What is to be logged in MLflow cannot be read now, and is logged later: {error}.")
        self._unread = str(error)
        self._closing.wait(min(ASK_AGAIN[0] * 2**news.attempts, ASK_AGAIN[1]))
        news.attempts += 1

    def _refuse(self, news: _Waiting, reason: str) -> None:
        if reason not in self._refused.values():
            self._say(f"MLflow does not take {news.trial.key}: {reason}.")
        self._refused[news.trial.key] = reason
        self._done(news)

    def _wait_until_it_answers(self) -> bool:
        """Returns whether the server was away; if so, it is back now, or the reporter is closed."""
        pause, was_away = ASK_AGAIN[0], False
        while not self._closing.is_set():
            try:
                self._tracker.check()
            except TrackingError as error:
                was_away = True
                self._go_away(str(error))
                self._closing.wait(pause)
                pause = min(2 * pause, ASK_AGAIN[1])
            else:
                self._come_back()
                break
        return was_away

    def _go_away(self, reason: str) -> None:
        with self._changed:
            if self._away_since is not None:
                return
            self._away_since = time.time()
        self._say(
            f"MLflow is away since {_clock(self._away_since)} ({reason}); training goes on, and what is to "
            f"be logged waits in {self._place}."
        )

    def _come_back(self) -> None:
        with self._changed:
            since, self._away_since = self._away_since, None
            waiting = len(self._waiting)
        if since is not None:
            self._was_away = True
            away = time.time() - since
            self._say(f"MLflow answers again after {away:.0f} s; {_trials(waiting)} to be logged.")


def _clock(since: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(since))


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"
