"""The code's version is the commit of its own checkout, else the package's."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

from r2d2 import version

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def ask_anew():
    version.code_version.cache_clear()
    yield
    version.code_version.cache_clear()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The package as if it were installed below `tmp_path`."""
    monkeypatch.setattr(version, "__file__", str(tmp_path / "r2d2" / "version.py"))
    return tmp_path


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout, and this is none")
def test_in_a_checkout_it_is_the_commit():
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", version.code_version())


def test_a_changed_tracked_file_makes_it_dirty(elsewhere):
    git(elsewhere, "init")
    (elsewhere / "file").write_text("as committed")
    git(elsewhere, "add", "file")
    git(elsewhere, "commit", "-m", "A commit")
    git(elsewhere, "tag", "v1")
    (elsewhere / "untracked").touch()
    assert re.fullmatch(r"[0-9a-f]{40}", version.code_version())
    version.code_version.cache_clear()
    (elsewhere / "file").write_text("changed")
    assert re.fullmatch(r"[0-9a-f]{40}-dirty", version.code_version())


def test_a_checkout_without_a_commit_has_no_version_of_its_own(elsewhere, monkeypatch):
    git(elsewhere, "init")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.2.3")
    assert version.code_version() == "1.2.3"


def test_a_checkout_around_an_installed_copy_does_not_count(elsewhere, monkeypatch):
    git(elsewhere, "init")
    monkeypatch.setattr(version, "__file__", str(elsewhere / "venv" / "lib" / "r2d2" / "version.py"))
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.2.3")
    assert version.code_version() == "1.2.3"


def test_without_checkout_and_package_it_is_unknown(elsewhere, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert version.code_version() == "unknown"
