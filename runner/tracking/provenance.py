"""Provenance: which code, packages and machine a run came from."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

from r2d2.version import PROJECT, code_version

_DIRTY = "-dirty"
_COMMIT_LENGTH = 40


def code_tags() -> dict[str, str]:
    """Tags that name the code: the commit and whether the tree differed from it, or the package's version.

    `mlflow.source.git.commit` is the key under which MLflow's pages look for the commit.
    """
    version = code_version()
    commit = version.removesuffix(_DIRTY)
    # Without a source MLflow's pages do not show the commit.
    tags = {"r2d2.code_version": version, "mlflow.source.name": PROJECT, "mlflow.source.type": "LOCAL"}
    if len(commit) == _COMMIT_LENGTH:
        tags["mlflow.source.git.commit"] = commit
        tags["r2d2.git_dirty"] = str(version.endswith(_DIRTY)).lower()
    return tags


@functools.cache
def environment() -> Mapping[str, Any]:
    """The system and every installed package with its version, for a run's `environment.json`; read once."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
