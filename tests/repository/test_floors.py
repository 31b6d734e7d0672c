"""Every floor in pyproject.toml is a minor release that is tested, and the tested version is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
TESTED = {canonicalize_name(name): Version(version) for name, version in PINNED.items()}
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *(text for extra in EXTRAS.values() for text in extra),
]


@pytest.mark.parametrize("text", WANTED)
def test_the_tested_version_is_allowed_and_of_the_minor_release_of_its_floor(text):
    wanted = Requirement(text)
    tested = TESTED[canonicalize_name(wanted.name)]
    [floor] = [Version(bound.version) for bound in wanted.specifier if bound.operator == ">="]
    assert wanted.specifier.contains(tested)
    assert (floor.major, floor.minor) == (tested.major, tested.minor)


def test_the_packages_of_the_sample_photographs_are_an_extra():
    names = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}
    assert not names & {"scikit-image", "scikit-learn"}
    assert {Requirement(text).name for text in EXTRAS["demo"]} == {"scikit-image", "scikit-learn"}
