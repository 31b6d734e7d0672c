"""Defines PartialEpoch: the reports of an epoch's first steps, kept with a checkpoint within an epoch.

So the metrics of an epoch cover all of its steps, however often it was interrupted and whichever workers
compute its parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r2d2.training.metrics import StepReport, combine_workers, summarise
from runner.record.layout import PARTIAL_EPOCH


@dataclass
class PartialEpoch:
    """A PartialEpoch holds the reports of those steps of an epoch that are done.

    Attributes:
        epoch: its number, from 1.
        reports: of each part of a step, by its number; of the parts of this worker or of all of them.
    """

    epoch: int
    reports: dict[int, list[StepReport]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Returns how many steps are done."""
        return 1 + max((reports[-1].step for reports in self.reports.values() if reports), default=-1)

    def of_parts(self, parts: Iterable[int]) -> PartialEpoch:
        """Returns the reports of some parts only."""
        return PartialEpoch(self.epoch, {part: list(self.reports.get(part, ())) for part in parts})

    def add(self, report: StepReport) -> None:
        """Adds the reports of a step."""
        self.reports.setdefault(report.part, []).append(report)

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the epoch, from the reports of all parts; it must have a step."""
        return combine_workers([summarise(self.reports[part]) for part in sorted(self.reports)])

    def to_dict(self) -> dict[str, object]:
        """Converts it to values that JSON knows."""
        reports = {str(part): [asdict(r) for r in found] for part, found in self.reports.items()}
        return {"epoch": self.epoch, "reports": reports}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> PartialEpoch:
        """Inverts `to_dict`.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            epoch, parts = values["epoch"], values["reports"]
            assert isinstance(epoch, int)
            assert isinstance(parts, dict)
            return cls(epoch, {int(part): [_report(r) for r in found] for part, found in parts.items()})
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the reports of a checkpoint in mid-epoch are damaged ({error})") from error

    def save(self, folder: Path) -> None:
        """Writes it into the folder of a checkpoint."""
        (folder / PARTIAL_EPOCH).write_text(json.dumps(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> PartialEpoch | None:
        """Reads the reports in a checkpoint; None if it was made at the end of an epoch.

        Raises:
            ValueError: if it is damaged.
        """
        path = folder / PARTIAL_EPOCH
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def merged(parts: Iterable[PartialEpoch]) -> PartialEpoch:
    """Merges what several workers know of the same epoch; the parts come in order."""
    known = list(parts)
    reports = {part: found for one in known for part, found in one.reports.items()}
    return PartialEpoch(known[0].epoch, dict(sorted(reports.items())))


def _report(values: Mapping[str, object]) -> StepReport:
    refused = values["refused"]
    assert isinstance(refused, list)
    return StepReport(**{**values, "refused": tuple((file, reason) for file, reason in refused)})  # type: ignore[arg-type]
