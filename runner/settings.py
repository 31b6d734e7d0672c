"""Defines Settings: where things are, as variables of the environment say."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import absolute_place, is_remote, open_store
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store

HOME_FOLDER, SWEEPS = ".r2d2", "sweeps"
CACHE_GIB, OBJECTS_GIB = 20.0, 50.0
LEASE_S = 30.0
GIB = 2**30

# What a job on a cluster inherits from where it is submitted, if it is set there: places, no secrets.
INHERITED = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "R2D2_HPATCHES",
    "R2D2_RELEASED",
    "R2D2_CACHE",
    "R2D2_CACHE_GIB",
    "R2D2_OBJECTS_GIB",
    "R2D2_S3_TIMEOUT",
    "R2D2_LEASE_S",
    "R2D2_CLUSTER_CPUS",
    "R2D2_CLUSTER_GPUS",
)
# Variables of the last release that have another name now.
FORMER_NAMES = {"R2D2_S3_PATIENCE": "R2D2_S3_TIMEOUT"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """A Settings says where things are on this machine or cluster.

    Attributes:
        home: where sweeps lie, a folder or `s3://bucket/prefix` (R2D2_HOME, default `.r2d2` in the working
            directory).
        tracking_uri: MLflow tracking URI (MLFLOW_TRACKING_URI, default the SQLite file in `local`).
        ray_address: Ray cluster to join (RAY_ADDRESS); None starts one on this machine.
        hpatches: HPatches to score every checkpoint on (R2D2_HPATCHES), a folder or `s3://...`; None: not
            scored.
        released: the released network that sweeps fine-tune (R2D2_RELEASED), an upstream .pt or checkpoint,
            a path or `s3://...`.
        cache_gib: the largest size of stored predictions (R2D2_CACHE_GIB, default 20); 0: none is stored.
        cache_folder: the cache folder, best on the node's own disk (R2D2_CACHE); None: `cache` in `local`.
        objects_gib: the largest size of the cache of S3's objects (R2D2_OBJECTS_GIB, default 50); 0: none.
        s3_timeout: seconds for which a request to S3 is repeated (R2D2_S3_TIMEOUT, default 300).
        lease_seconds: seconds without a sign of life after which a driver loses its sweep (R2D2_LEASE_S,
            default 30).
        cluster_cpus, cluster_gpus: the largest size to which an autoscaler may grow the cluster
            (R2D2_CLUSTER_CPUS, R2D2_CLUSTER_GPUS); 0: what is there counts.
    """

    home: str | Path
    tracking_uri: str
    ray_address: str | None = None
    hpatches: str | None = None
    released: str | None = None
    cache_gib: float = CACHE_GIB
    cache_folder: Path | None = None
    objects_gib: float = OBJECTS_GIB
    s3_timeout: float = TIMEOUT
    lease_seconds: float = LEASE_S
    cluster_cpus: float = 0.0
    cluster_gpus: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads the variables that the attributes name.

        Raises:
            ValueError: if a variable that must be a number is not one, or is negative.
        """
        environment = _today(environment)
        home = absolute_place(environment.get("R2D2_HOME") or HOME_FOLDER).rstrip("/")
        return cls(
            home=home,
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_local(home) / 'mlflow.db'}",
            ray_address=environment.get("RAY_ADDRESS") or None,
            hpatches=_place(environment.get("R2D2_HPATCHES")),
            released=_place(environment.get("R2D2_RELEASED")),
            cache_gib=_number(environment, "R2D2_CACHE_GIB", CACHE_GIB, "GiB"),
            cache_folder=_path(environment.get("R2D2_CACHE")),
            objects_gib=_number(environment, "R2D2_OBJECTS_GIB", OBJECTS_GIB, "GiB"),
            s3_timeout=_number(environment, "R2D2_S3_TIMEOUT", TIMEOUT, "seconds"),
            lease_seconds=_number(environment, "R2D2_LEASE_S", LEASE_S, "seconds"),
            cluster_cpus=_number(environment, "R2D2_CLUSTER_CPUS", 0.0, "CPUs"),
            cluster_gpus=_number(environment, "R2D2_CLUSTER_GPUS", 0.0, "GPUs"),
        )

    @property
    def is_remote(self) -> bool:
        """Says whether the home is on S3."""
        return is_remote(str(self.home))

    @property
    def local(self) -> Path:
        """Returns the folder for what cannot lie on S3: the home, or `.r2d2` in the working directory."""
        return _local(str(self.home))

    @property
    def artifact_root(self) -> str | None:
        """Returns where a local MLflow store keeps files; None leaves it to a remote server."""
        return str(self.local / "artifacts") if self.tracking_uri.startswith("sqlite:") else None

    @property
    def sweeps(self) -> Store:
        """Returns the store of all sweeps, by name."""
        return open_store(f"{self.home}/{SWEEPS}", self.s3_timeout)

    def sweep(self, name: str) -> Store:
        """Returns the store of one sweep: its definition, trials and checkpoints."""
        return self.sweeps.below(name)

    @property
    def benchmarks(self) -> Store | None:
        """Returns where benchmarks are copied to for the cluster's nodes; None: nodes see the original."""
        return open_store(f"{self.home}/benchmarks", self.s3_timeout) if self.is_remote else None

    @property
    def made_benchmarks(self) -> Path:
        """Returns the folder of validation benchmarks: in the home if that is a folder, seen by all nodes."""
        return self.cache if self.is_remote else self.local / "cache"

    @property
    def cache(self) -> Path:
        """Returns each node's cache folder, for predictions and objects of S3."""
        return self.cache_folder or self.local / "cache"

    @property
    def objects(self) -> CacheSettings:
        """Returns where each node keeps what it fetches from S3."""
        limit = min(int(self.objects_gib * GIB), sys.maxsize)
        return CacheSettings(str(self.cache / "objects"), limit, self.s3_timeout)


def inherited_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the variables set here that a job on a cluster inherits."""
    today = _today(environment)
    return {name: today[name] for name in INHERITED if today.get(name)}


def _today(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the environment under present names; warns of each former name that is set."""
    found = dict(environment)
    for former, name in FORMER_NAMES.items():
        if former in environment:
            log.warning("%s is called %s now; the next release knows only the new name", former, name)
            found.setdefault(name, environment[former])
    return found


def _number(environment: Mapping[str, str], name: str, default: float, unit: str) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is '{text}'; it must be a number of {unit}, at least 0")
    return number


def _local(home: str) -> Path:
    return Path(absolute_place(HOME_FOLDER) if is_remote(home) else home)


def _place(text: str | None) -> str | None:
    return absolute_place(text) if text else None


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
