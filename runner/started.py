"""StartedSweep: the command that a sweep was started with, so that it can be continued by name alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from evaluation.actor import JudgeResources
from r2d2.config import TrainConfig, with_override
from runner.history import write_json
from runner.resilience import Resilience
from runner.settings import Settings
from search_spaces.sweep import Trial

FILE = "started.json"
# A copy of a sweep's file that is no part of search_spaces/: it may lie anywhere, and be gone.
OWN_FILE = "own_sweep.py"


@dataclass(frozen=True)
class StartedSweep:
    """How a sweep was started, and what was added to it since.

    Attributes:
        source: a sweep of search_spaces/, or the name of the copy of its file in the sweep's folder.
        overrides: `key.path=value` assignments applied to every trial, places in full.
        judges: the evaluation actors' resources.
        gpus_per_worker, concurrent, resilience: as of `SweepOptions`.
        hpatches, released: places of the benchmark and of the network to fine-tune; None: none.
        extensions: assignments of each extension, see `extend_trials`.
        num_samples: how many trials a searcher suggests in all; None: as many as its file says.
    """

    source: str
    overrides: tuple[str, ...] = ()
    judges: JudgeResources = field(default_factory=JudgeResources)
    gpus_per_worker: float | None = None
    concurrent: int = 0
    resilience: Resilience = field(default_factory=Resilience)
    hpatches: str | None = None
    released: str | None = None
    extensions: tuple[tuple[str, ...], ...] = ()
    num_samples: int | None = None

    @classmethod
    def load(cls, folder: Path) -> StartedSweep | None:
        """What was written down in a sweep's folder; None if nothing was.

        Raises:
            ValueError: if the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            values["judges"] = JudgeResources(**values["judges"])
            values["resilience"] = Resilience(**values.get("resilience", {}))
            values["overrides"] = tuple(values["overrides"])
            values["extensions"] = tuple(map(tuple, values["extensions"]))
            return cls(**values)
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); run the sweep with the command that started it"
            ) from error

    def save(self, folder: Path, source: str) -> None:
        """Writes it into the sweep's folder, with a copy of a file of one's own.

        Args:
            folder: the sweep's.
            source: where the sweep was read from: a name or a path.
        """
        kept = self
        if source.endswith(".py"):
            kept = replace(self, source=OWN_FILE)
            if Path(source).absolute() != (folder / OWN_FILE).absolute():
                (folder / OWN_FILE).write_bytes(Path(source).read_bytes())
        write_json(folder / FILE, asdict(kept))

    def source_in(self, folder: Path) -> str:
        """The name of the sweep, or the path of its copied file."""
        return str(folder / self.source) if self.source == OWN_FILE else self.source

    def settings(self, settings: Settings) -> Settings:
        """The settings with the places that the sweep was started with."""
        return replace(settings, hpatches=self.hpatches, released=self.released)


def extend_trials(trials: Sequence[Trial], assignments: Sequence[str]) -> list[Trial]:
    """The trials, and those that differ from one of them by the assignments; each once, the former first.

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
            config = trial.config.to_dict()
            for assignment in chosen:
                config = with_override(config, assignment)
            extended = Trial(TrainConfig.from_dict(config))
            found.setdefault(extended.key, extended)
    return list(found.values())
