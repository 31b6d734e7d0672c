"""Defines StartedSweep: the command that a sweep was started with, so that its name alone continues it.

A stored sweep file is executed only if this user has started a sweep with it, or says to trust it. No other
stored code is executed.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import click

from evaluation.actor import EvaluatorResources
from r2d2.config import TrainConfig
from r2d2.formats.stored_json import typed
from r2d2.storage.atomic import atomic_file
from r2d2.storage.location import store_at
from r2d2.storage.store import Store
from runner.cluster.resilience import Resilience
from runner.record.history import put_json, read_value
from runner.record.layout import OWN_SWEEP, STARTED
from runner.settings import Settings
from search_spaces.sweep import Trial, overridden

log = logging.getLogger(__name__)

_ADVICE = "run the sweep with the command that started it"


@dataclass(frozen=True)
class RunOptions:
    """RunOptions are what every run of a sweep is given; a later run keeps what its user does not change.

    Attributes:
        overrides: `key.path=value` assignments applied to every trial.
        evaluators: the evaluation actors.
        gpus_per_worker: None: one if the cluster has any.
        cpus_per_worker: None: as of `WorkerResources`.
        concurrent: trials at a time; 0: as many as the cluster holds.
        resilience: what happens when workers or nodes are lost.
    """

    overrides: tuple[str, ...] = ()
    evaluators: EvaluatorResources = field(default_factory=EvaluatorResources)
    gpus_per_worker: float | None = None
    cpus_per_worker: int | None = None
    concurrent: int = 0
    resilience: Resilience = field(default_factory=Resilience)


@dataclass(frozen=True)
class StartedSweep:
    """A StartedSweep says how a sweep was started, and what was added to it since.

    Attributes:
        source: a sweep of search_spaces/, or the path of its file; once it is stored, the name of the copy of
            this file in the sweep's folder.
        run: the options of the last run, places in full.
        hpatches, released: places of the benchmark and of the network to fine-tune; None: none.
        extensions: assignments of each extension, see `extend_trials`.
        num_samples: how many trials a searcher suggests in all; None: as many as its file says.
    """

    source: str
    run: RunOptions
    hpatches: str | None = None
    released: str | None = None
    extensions: tuple[tuple[str, ...], ...] = ()
    num_samples: int | None = None

    @classmethod
    def load(cls, place: str | Path | Store) -> StartedSweep | None:
        """Reads how a sweep was started; None if that was not written down.

        Raises:
            ValueError: if the file is damaged.
        """
        return read_value(store_at(place), STARTED, cls._from_json, f"delete it, and {_ADVICE}")

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> StartedSweep:
        run = {field.name: values.pop(field.name) for field in fields(RunOptions)}
        return typed(cls, {**values, "run": run})

    def save(self, place: str | Path | Store) -> None:
        """Writes down how the sweep was started, with a copy of its file, if `source` is a path."""
        store, kept = store_at(place), self
        if self.source.endswith(".py"):
            kept = replace(self, source=OWN_SWEEP)
            content = Path(self.source).read_bytes()
            store.write(OWN_SWEEP, content)
            remember_own(content)
        values = asdict(kept)
        put_json(store, STARTED, {**values.pop("run"), **values})

    def source_from(self, place: str | Path | Store, trust: bool = False) -> str:
        """Returns the name of the sweep, or the path of this user's copy of its file.

        Args:
            place: of the sweep.
            trust: whether the user says that a file which this user did not start may be executed.

        Raises:
            ValueError: if the file is not trusted, or what was written down is neither a sweep's name nor the
                copy of its file.
        """
        if self.source == OWN_SWEEP:
            store = store_at(place)
            content = store.read(OWN_SWEEP)
            if content is None:
                raise ValueError(f"{store.place}/{OWN_SWEEP} is missing; {_ADVICE}")
            return str(trusted_copy(content, f"{store.place}/{OWN_SWEEP}", trust))
        if not re.fullmatch(r"\w+", self.source):
            raise ValueError(f"{store_at(place).place}/{STARTED} names the sweep '{self.source}'; {_ADVICE}")
        return self.source

    def settings(self, settings: Settings) -> Settings:
        """Returns the settings with the places that the sweep was started with."""
        return replace(settings, hpatches=self.hpatches, released=self.released)


def remember_own(content: bytes) -> None:
    """Lets this user run what was stored again; a user without a home directory needs --trust."""
    try:
        remember(content)
    except OSError as error:
        log.info("what is stored cannot be remembered as this user's own: %s", error)


def remember(content: bytes) -> Path:
    """Adds a sweep file to those that this user trusts; returns the user's own copy.

    Raises:
        OSError: if it cannot be written.
    """
    copy = _copy(content)
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_file(copy) as file:
        file.write(content)
    return copy


def trusted_copy(content: bytes, where: str, trust: bool) -> Path:
    """Returns the user's own copy of a stored sweep file, so that the checked file is the executed one.

    Args:
        content: of the stored file.
        where: it is stored.
        trust: whether the user has just said that it may be executed.

    Raises:
        ValueError: if the user has neither started a sweep with this content nor said to trust it.
    """
    copy = _copy(content)
    if trust:
        return remember(content)
    if not copy.is_file() or copy.read_bytes() != content:
        raise ValueError(
            f"{where} is a program that this user did not start from this machine (SHA-256 "
            f"{copy.stem}); whoever may write there may have put it there. Read it, and give --trust to run "
            "it"
        )
    return copy


def _copy(content: bytes) -> Path:
    return Path(click.get_app_dir("r2d2"), "trusted_sweeps", f"{hashlib.sha256(content).hexdigest()}.py")


def extend_trials(trials: Sequence[Trial], assignments: Sequence[str]) -> list[Trial]:
    """Adds the trials that differ from a known one by the assignments; returns the known ones first.

    Args:
        trials: those there are.
        assignments: `key.path=value`; several values of one key are tried one by one, several keys in all
            combinations.

    Raises:
        ValueError: for a key or value that TrainConfig refuses.
    """
    values: dict[str, list[str]] = {}
    for assignment in assignments:
        values.setdefault(assignment.partition("=")[0].strip(), []).append(assignment)
    found = {trial.key: trial for trial in trials}
    for chosen in product(*values.values()):
        for trial in trials:
            extended = Trial(TrainConfig.from_dict(overridden(trial.config.to_dict(), chosen)))
            found.setdefault(extended.key, extended)
    return list(found.values())
