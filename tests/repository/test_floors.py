"""The tested versions are ones that pyproject.toml allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
TESTED = {canonicalize_name(name): version for name, version in PINNED.items()}
WANTED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["dev"],
]


@pytest.mark.parametrize("text", WANTED)
def test_the_tested_version_is_allowed(text):
    wanted = Requirement(text)
    assert wanted.specifier.contains(TESTED[canonicalize_name(wanted.name)])
