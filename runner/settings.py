"""Settings: where things are. The only reader of the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME_FOLDER = ".r2d2"

# What a job on a cluster inherits from where it is submitted, if it is set there: places, no secrets.
INHERITED = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "R2D2_HPATCHES",
    "R2D2_RELEASED",
    "R2D2_CACHE_GIB",
)
CACHE_GIB = 20.0


@dataclass(frozen=True)
class Settings:
    """Where things are on this machine or cluster.

    Attributes:
        home: folder of everything local (R2D2_HOME, default `.r2d2` in the working directory).
        tracking_uri: MLflow tracking URI (MLFLOW_TRACKING_URI, default the SQLite file in `home`).
        ray_address: Ray cluster to join (RAY_ADDRESS); None starts one on this machine.
        hpatches: HPatches folder to score every checkpoint on (R2D2_HPATCHES); None: not scored.
        released: the released network that sweeps fine-tune (R2D2_RELEASED), an upstream .pt or checkpoint.
        cache_gib: of stored predictions, at most (R2D2_CACHE_GIB, default 20); 0: none is stored.
    """

    home: Path
    tracking_uri: str
    ray_address: str | None = None
    hpatches: Path | None = None
    released: Path | None = None
    cache_gib: float = CACHE_GIB

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads R2D2_HOME, MLFLOW_TRACKING_URI, RAY_ADDRESS, R2D2_HPATCHES, R2D2_RELEASED, R2D2_CACHE_GIB.

        Raises:
            ValueError: if R2D2_CACHE_GIB is no number of at least 0.
        """
        home = Path(environment.get("R2D2_HOME") or HOME_FOLDER).expanduser().absolute()
        return cls(
            home=home,
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
            ray_address=environment.get("RAY_ADDRESS") or None,
            hpatches=_path(environment.get("R2D2_HPATCHES")),
            released=_path(environment.get("R2D2_RELEASED")),
            cache_gib=_gib(environment.get("R2D2_CACHE_GIB")),
        )

    @property
    def artifact_root(self) -> str | None:
        """Where a local MLflow store keeps files; None leaves it to a remote server."""
        return str(self.home / "artifacts") if self.tracking_uri.startswith("sqlite:") else None

    def sweep_folder(self, name: str) -> Path:
        """The folder of one sweep: its definition, trials and checkpoints."""
        return self.home / "sweeps" / name

    @property
    def cache(self) -> Path:
        """The folder of what can be made again: validation benchmarks, predictions."""
        return self.home / "cache"


def inherited_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that a job on a cluster is given along, of those that are set here."""
    return {name: environment[name] for name in INHERITED if environment.get(name)}


def _gib(text: str | None) -> float:
    if not text:
        return CACHE_GIB
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0 <= gib < math.inf:
        raise ValueError(f"R2D2_CACHE_GIB is '{text}'; it must be a number of GiB, at least 0")
    return gib


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
