"""Names what differs between two records: each difference by what it is, with its two values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2d2.processor.kind import Processor
from r2d2.source_code import PACKAGES, is_code

CODE, PACKAGE, PHOTOGRAPH, PROCESSOR, PROTOCOL = "code", "package", "photograph", "processor", "protocol"
START, BENCHMARK, DATA = "start weights", "benchmark", "training data"
NONE = "none"
# Digits of a digest, and letters of a line, that are shown.
DIGITS, _LETTERS = 12, 60


@dataclass(frozen=True)
class Difference:
    """A Difference is one thing that a training and its reproduction do not share.

    Attributes:
        kind: `code`, `package`, `photograph`, `processor`, `protocol`, `start weights`, `benchmark` or, where
            nobody noted each file, `training data`.
        name: which one, e.g. `torch`, `r2d2/losses/peakiness.py:31` or the name of a photograph.
        was, now: its two values.
    """

    kind: str
    name: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.was} -> {self.now}"


def package_differences(was: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """Compares versions of packages, by name."""
    return _by_name(PACKAGE, was, now)


def file_differences(was: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """Compares the SHA-256 of the files of training data, by name."""
    short = [{name: digest[:DIGITS] for name, digest in files.items()} for files in (was, now)]
    return _by_name(PHOTOGRAPH, *short)


def processor_differences(was: Sequence[Processor], now: Sequence[Processor]) -> list[Difference]:
    """Compares where two trainings were computed; none if one of them was not noted."""
    if not was or not now or was == now:
        return []
    if len(was) == len(now) == 1:
        return _by_name(PROCESSOR, *({k: str(v) for k, v in asdict(one).items()} for one in (was[0], now[0])))
    return [Difference(PROCESSOR, "kinds", *("; ".join(map(str, one)) for one in (was, now)))]


def protocol_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Compares the protocols of two stored evaluations (`Evaluation.to_json`), setting by setting."""
    if was["protocol_digest"] == now["protocol_digest"]:
        return []
    settings = [
        {f"{one['protocol']} {key}": str(value) for key, value in {**one["settings"], **rest}.items()}
        for one in (was, now)
        for rest in (one.get("protocol_settings", {}),)
    ]
    digests = ({was["protocol"]: one["protocol_digest"][:DIGITS]} for one in (was, now))
    return _by_name(PROTOCOL, *settings) or _by_name(PROTOCOL, *digests)


def code_differences(was: Path, now: Path) -> list[Difference]:
    """Compares the packages in two folders line by line; a changed block is named by its first line."""
    files = {
        path.relative_to(root).as_posix()
        for root in (was, now)
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file()
    }
    return [one for name in sorted(files) if is_code(name) for one in _changed_blocks(name, was, now)]


def _changed_blocks(name: str, was: Path, now: Path) -> Iterator[Difference]:
    before, after = (_lines(root / name) for root in (was, now))
    if before == after:
        return
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, first, last, other_first, other_last in matcher.get_opcodes():
        if kind != "equal":
            shown = (_shown(before[first:last]), _shown(after[other_first:other_last]))
            yield Difference(CODE, f"{name}:{first + 1}", *shown)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _shown(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - 1} lines more" if len(lines) > 1 else ""
    return f"'{lines[0].strip()[:_LETTERS]}'{more}" if lines else NONE


def _by_name(kind: str, was: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    pairs = ((name, was.get(name, NONE), now.get(name, NONE)) for name in sorted({*was, *now}))
    return [Difference(kind, name, before, after) for name, before, after in pairs if before != after]
