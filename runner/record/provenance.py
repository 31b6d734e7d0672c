"""Records what figures were made with: code, packages and files of a sweep, processors of a trial.

`r2d2 reproduce` compares these records. They lie beside the sweep and beside the trial:

    provenance/000001.json      code and packages, by the number of the attempt
    provenance/files.json       SHA-256 of each file of the training data, by its name
    trials/KEY/processors.json  where the trial was computed
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from r2d2.formats.stored_json import typed
from r2d2.processor.kind import Processor
from r2d2.source_code import SourceCode, source_code
from r2d2.storage.location import store_at
from r2d2.storage.store import Store
from runner.record.history import put_json, read_value
from runner.record.layout import PROCESSORS, PROVENANCE_FILES, provenance_name

# Of more files only the digest of all is kept; a manifest can name the changed one.
MOST_FILES = 200_000
# What decides numbers, or what Ray and MLflow make of them.
PACKAGES = (
    *("torch", "numpy", "pillow", "scipy", "poselib", "safetensors"),
    *("ray", "mlflow", "boto3", "optuna"),
)


@dataclass(frozen=True)
class Provenance:
    """A Provenance says what one attempt at a sweep computed with.

    Attributes:
        code: the running code.
        packages: versions of Python and of the packages that decide numbers, by name.
        evaluation: the processor of the evaluation actors, which run on the driver's machine.
    """

    code: SourceCode
    packages: Mapping[str, str]
    evaluation: Processor

    @classmethod
    def of_now(cls, evaluation: Processor) -> Self:
        """Describes this process."""
        return cls(source_code(), installed_versions(), evaluation)

    def save(self, sweep: str | Path | Store, attempt: int) -> None:
        """Writes the record of an attempt."""
        put_json(store_at(sweep), provenance_name(attempt), asdict(self))

    @classmethod
    def load(cls, sweep: str | Path | Store, attempt: int) -> Self | None:
        """Reads the record of an attempt; None if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        return read_value(store_at(sweep), provenance_name(attempt), partial(typed, cls))


def installed_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Returns the versions of Python and of packages; missing packages are left out."""
    found = {"python": sys.version.split()[0]}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def save_files(sweep: Store, contents: Mapping[str, str]) -> None:
    """Writes down the SHA-256 of each file of the training data, unless they are too many."""
    if len(contents) <= MOST_FILES:
        put_json(sweep, PROVENANCE_FILES, contents)


def load_files(sweep: Store) -> dict[str, str] | None:
    """Reads the SHA-256 of each file of the training data by its name; None if they were not written down.

    Raises:
        ValueError: if the record is damaged.
    """
    return read_value(
        sweep, PROVENANCE_FILES, lambda values: {str(name): str(sha) for name, sha in values.items()}
    )


def note_processor(trial: Store, processor: Processor) -> None:
    """Adds a processor to those that a trial was computed on."""
    known = processors_of(trial)
    if processor not in known:
        put_json(trial, PROCESSORS, {"processors": [asdict(one) for one in (*known, processor)]})


def processors_of(trial: Store) -> tuple[Processor, ...]:
    """Returns the processors that a trial was computed on, the first one first; none if nobody noted it.

    Raises:
        ValueError: if the record is damaged.
    """

    def build(values: Any) -> tuple[Processor, ...]:
        return tuple(typed(Processor, one) for one in values["processors"])

    return read_value(trial, PROCESSORS, build) or ()
