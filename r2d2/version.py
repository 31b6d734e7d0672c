"""Says which version of this code is running."""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

PROJECT = "r2d2-runner"

# A copy of the code that travels without its repository holds its version in this file.
VERSION_FILE = "CODE_VERSION"


@functools.cache
def code_version() -> str:
    """Returns the git commit of the checkout this code runs from, else the installed package's version.

    A commit has 40 hexadecimal digits, with `-dirty` appended if tracked files differ from it. Without a
    checkout and without an installed package: `unknown`. A copy made by `runner.cluster.job_contents` has the
    version of its original. Asked once per process.
    """
    return _copied_version() or _git_commit() or _package_version() or "unknown"


def _copied_version() -> str | None:
    file = Path(__file__).resolve().parent.parent / VERSION_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _git_commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    # Only the project's own checkout counts, not one that happens to lie around an installed copy.
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (fixed command)
    return answer.stdout.strip() if answer.returncode == 0 else None


def _package_version() -> str | None:
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return None
