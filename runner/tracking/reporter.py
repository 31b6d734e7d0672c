"""Reporter: tells MLflow what the trials' histories say, beside the training. The sweep's driver has one."""

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
from runner.tracking.experiments import Tracker, TrackingError
from runner.tracking.logged_table import LoggedTable
from runner.tracking.run import MAX_TAG_LENGTH
from runner.tracking.sync import SweepIdentity, Teller
from search_spaces.sweep import Trial

__all__ = ["Reporter", "SweepIdentity"]

# Seconds between questions to a server that is away: from the first to the last number.
ASK_AGAIN = (1.0, 15.0)
# How often a trial is told to a server that answers, but does not take it.
ATTEMPTS = 4


@dataclass
class _Waiting:
    """A trial of which there is something to tell."""

    trial: Trial
    history: History
    ending: Ending | None
    attempts: int = 0


class Reporter:
    """Keeps MLflow's runs equal to the histories of trials.

    A thread of its own tells MLflow, so that no trial and no scheduler waits for it. What waits is named here
    by trial; what is to be told of it lies in its history, on disk. A server that is away is asked again
    until it answers, and then told everything, in order; what is left at the end is told by the same command,
    or by `r2d2 sync`. What was told of an ended trial stands beside its history.
    """

    def __init__(
        self,
        tracker: Tracker,
        sweep: SweepIdentity,
        place: str,
        say: Callable[[str], None],
        attempt: Attempt | None = None,
    ) -> None:
        """A reporter.

        Args:
            tracker: the store.
            sweep: what is told.
            place: of the sweep, where the histories lie.
            say: tells the user something, from any thread.
            attempt: for which it tells: once a later one has taken over, nothing more is told. None: nobody
                else tells.
        """
        self._attempt = attempt
        self._tracker, self._sweep, self._place, self._say = tracker, sweep, place, say
        self._teller = Teller(tracker, sweep)
        self._waiting: dict[str, _Waiting] = {}
        self._busy: str | None = None
        self._away_since: float | None = None
        self._was_away = False
        self._refused: dict[str, str] = {}
        # Why the home could not be read just now; None: it could.
        self._unread: str | None = None
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
            self._teller.experiment()
        except TrackingError as error:
            self._go_away(str(error))
            return False
        return True

    def record(self, trial: Trial, history: History) -> None:
        """An event of a trial is to be told; returns at once."""
        self._put(_Waiting(trial, history, None))

    def finish(self, trial: Trial, history: History, ending: Ending) -> None:
        """The end of a trial, and all that was not told yet, is to be told; returns at once."""
        self._put(_Waiting(trial, history, ending))

    def settle(self, timeout: float = 10.0) -> dict[str, str]:
        """Waits until MLflow has everything.

        Args:
            timeout: seconds that a server which is away, or a home, is waited for.

        Returns:
            The key of every trial that MLflow has not been told of completely, with the reason.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._thread is not None and (self._waiting or self._busy) and self._fault is None:
                held_up = self._away_since is not None or self._unread is not None
                if held_up and time.monotonic() > deadline:
                    break
                self._changed.wait(0.2)
            if self._fault is not None:
                raise self._fault
            reason = "MLflow does not answer" if self._unread is None else self._unread
            return dict.fromkeys(self._waiting, reason) | self._refused

    def close(self) -> None:
        """Ends the thread; what still waits is on disk."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None and self._away_since is None and self._unread is None:
            self._thread.join()

    @property
    def standing(self) -> str:
        """One sentence on a server that is away, or on what is still to be told; empty otherwise."""
        with self._changed:
            since, waiting = self._away_since, len(self._waiting)
        if since is not None:
            return f"MLflow is away since {_clock(since)}; {_trials(waiting)} to be told"
        return f"MLflow is being told of {_trials(waiting)}" if waiting > 1 else ""

    def summarise(
        self, note: str, table: LoggedTable, best: Mapping[str, float], files: Mapping[str, str | bytes]
    ) -> str | None:
        """Logs the sweep's table and its comparison; returns the id of that run, None if MLflow is away.

        Args:
            note: what the run's page says of itself.
            table: one row per variant.
            best: the deciding metric and its best value; empty if no trial has it.
            files: the comparison, by file name.
        """
        self._require_current()
        tags = {"sweep": self._sweep.name, "mlflow.note.content": note[:MAX_TAG_LENGTH]}
        try:
            self._tracker.check()
            summary = self._tracker.log_summary(self._teller.experiment(), tags, files, table, best)
            self._teller.remove_empty_runs()
        except TrackingError as error:
            self._say(f"The summary is not in MLflow: {error}.")
            return None
        return summary

    def _require_current(self) -> None:
        if self._attempt is not None:
            # A home that does not answer keeps nothing from MLflow: nobody can take the sweep over there.
            with contextlib.suppress(StorageError):
                self._attempt.require_current()

    def _put(self, news: _Waiting) -> None:
        with self._changed:
            former = self._waiting.get(news.trial.key)
            if former is None:
                self._waiting[news.trial.key] = news
            else:
                # Later news of a trial that waits: its history holds both. It may also have been continued.
                former.ending = news.ending
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while (news := self._next()) is not None:
            try:
                self._require_current()
                self._teller.tell(news.trial, news.history, news.ending)
                self._unread = None
                self._refused.pop(news.trial.key, None)
            except TrackingError as error:
                self._not_taken(news, error)
            except OSError as error:
                self._not_read(news, error)
            except ValueError as error:
                self._refuse(news, str(error))
            except Exception as error:
                self._say(f"MLflow is told nothing more, by a fault of this program: {error!r}")
                self._fault = error
                return
            finally:
                with self._changed:
                    self._busy = None
                    self._changed.notify_all()

    def _next(self) -> _Waiting | None:
        with self._changed:
            if not self._waiting and self._was_away:
                self._was_away = False
                self._say("MLflow has been told everything that waited.")
            while not self._waiting and not self._closing.is_set():
                self._changed.wait()
            if self._closing.is_set():
                return None
            self._busy = next(iter(self._waiting))
            return self._waiting.pop(self._busy)

    def _not_taken(self, news: _Waiting, error: TrackingError) -> None:
        news.attempts += 1
        self._put_back(news)
        if self._wait_until_it_answers():
            news.attempts = 0
        elif news.attempts == ATTEMPTS:
            with self._changed:
                del self._waiting[news.trial.key]
            self._refuse(news, str(error))
        else:
            self._closing.wait(ASK_AGAIN[0])

    def _not_read(self, news: _Waiting, error: OSError) -> None:
        """The home does not give what MLflow is to be told: it is no fault of MLflow's, nor for good."""
        self._put_back(news)
        if self._unread is None:
            self._say(f"What MLflow is to be told cannot be read now, and is told later: {error}.")
        self._unread = str(error)
        self._closing.wait(min(ASK_AGAIN[0] * 2**news.attempts, ASK_AGAIN[1]))
        news.attempts += 1

    def _put_back(self, news: _Waiting) -> None:
        with self._changed:
            # What happened meanwhile is newer; the trial keeps its place in the order.
            newer = self._waiting.pop(news.trial.key, None)
            news.ending = newer.ending if newer is not None else news.ending
            self._waiting = {news.trial.key: news, **self._waiting}

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
            f"MLflow is away since {_clock(self._away_since)} ({reason}); training goes on, and what MLflow "
            f"is to be told waits in {self._place}."
        )

    def _come_back(self) -> None:
        with self._changed:
            since, self._away_since = self._away_since, None
            waiting = len(self._waiting)
        if since is not None:
            self._was_away = True
            self._say(
                f"MLflow answers again after {time.time() - since:.0f} s; it is told of {_trials(waiting)}."
            )

    def _refuse(self, news: _Waiting, reason: str) -> None:
        if reason not in self._refused.values():
            self._say(f"MLflow cannot be told of {news.trial.key}: {reason}.")
        self._refused[news.trial.key] = reason


def _clock(since: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(since))


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"
