"""Counts how often a test benchmark was looked at: each score on one is written into the home, for good.

A figure on HPatches tells how good a network is as long as nobody chooses by it. Whoever scores forty
networks on it and publishes the best one has chosen. So each network that was scored on a test, in a sweep or
by `r2d2 evaluate`, leaves a file, which outlives the sweep:

    looks/BENCHMARK/networks/NETWORK@SWEEP.json    who was scored, when; NETWORK.json outside of a sweep
    looks/BENCHMARK/choices/SWEEP.json             a sweep whose best networks this benchmark chooses

BENCHMARK and NETWORK are the first digits of their digests. A network that is scored again is no new look.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from r2d2.storage.location import open_store
from r2d2.storage.store import Store
from runner.record.history import TRAIN, put_json
from search_spaces.sweep import VALIDATION

FOLDER = "looks"
_DIGITS = 16


@dataclass(frozen=True)
class Looks:
    """Looks say how often the networks of a home were scored on one benchmark.

    Attributes:
        networks: how many networks were scored.
        sweep: how many of them are of the sweep that was asked about.
        choices: names of the sweeps whose best networks this benchmark chose, sorted.
    """

    networks: int
    sweep: int
    choices: tuple[str, ...]

    def words(self, benchmark: str) -> str:
        """Says it in sentences; empty if nothing was written down."""
        if not self.networks:
            return ""
        said = f"{benchmark}: {self.networks} network{'s' * (self.networks > 1)} of this home looked at it"
        said += f", {self.sweep} of them from this sweep." if self.sweep else "."
        if not self.choices:
            return said
        return (
            f"{said} It chose the networks of {', '.join(self.choices)}, so its figures no longer test "
            "networks of this home: they are too high by an unknown amount."
        )


@dataclass(frozen=True)
class Ledger:
    """A Ledger holds the looks at all benchmarks of one home.

    Attributes:
        store: of the looks.
    """

    store: Store

    @classmethod
    def of_home(cls, home: str | Path, timeout: float) -> Self:
        """Opens the ledger of a home, a folder or on S3; see `open_store`."""
        return cls(open_store(f"{home}/{FOLDER}", timeout))

    @classmethod
    def of_sweep(cls, sweep: Store) -> Self:
        """Opens the ledger of the home that a sweep lies in."""
        return cls.of_home(sweep.place.rpartition("/")[0].rpartition("/")[0], sweep.timeout)

    def look(self, evaluation: Mapping[str, Any], sweep: str = "") -> None:
        """Writes down that a network was scored; the first time is kept.

        Args:
            evaluation: its table, as of `Evaluation.to_json`.
            sweep: of the network; empty: none.
        """
        network = str(evaluation["model_digest"])[:_DIGITS] + (f"@{sweep}" if sweep else "")
        name = f"{_folder(str(evaluation['benchmark_digest']))}/networks/{network}.json"
        if self.store.read(name) is None:
            fields = ("model", "model_digest", "benchmark", "benchmark_digest", "protocol")
            known = {field: evaluation[field] for field in fields}
            put_json(self.store, name, {"time": int(time.time() * 1000), "sweep": sweep, **known})

    def choose(self, benchmark: str, sweep: str) -> None:
        """Writes down that a benchmark, named by its digest, chooses the networks of a sweep."""
        put_json(self.store, f"{_folder(benchmark)}/choices/{sweep}.json", {"benchmark_digest": benchmark})

    def looks(self, benchmark: str, sweep: str = "") -> Looks:
        """Counts the looks at a benchmark, named by its digest; takes two requests on S3."""
        names = [file.name for file in self.store.files(f"{_folder(benchmark)}/networks")]
        of = [name.rpartition("/")[2].removesuffix(".json").partition("@") for name in names]
        chosen = self.store.files(f"{_folder(benchmark)}/choices")
        return Looks(
            networks=len({network for network, _, _ in of}),
            sweep=len({network for network, _, named in of if named == sweep}) if sweep else 0,
            choices=tuple(sorted(file.name.rpartition("/")[2].removesuffix(".json") for file in chosen)),
        )


def is_test(role: str) -> bool:
    """Says whether scores with this role are of a test, which must not choose networks."""
    return role not in ("", TRAIN, VALIDATION)


def _folder(digest: str) -> str:
    return digest[:_DIGITS]
