"""Says which version of this code is running."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

PROJECT = "r2d2-runner"

# A copy of the code that travels without its repository holds its version in this file.
VERSION_FILE = "CODE_VERSION"
# Of git's variables those that say how it works for this user, and not on which repository.
_OF_THE_USER = ("GIT_CONFIG", "GIT_EXEC_PATH")


@functools.cache
def code_version() -> str:
    """Returns the git commit of the checkout this code runs from, else the installed package's version.

    A commit has 40 hexadecimal digits, with `-dirty` appended if tracked files differ from it. Without a
    checkout and without an installed package: `unknown`. A copy made by `runner.cluster.job_contents` has the
    version of its original. Asked once per process.
    """
    return _copied_version() or _git_commit() or _package_version() or "unknown"


def git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Returns the standard output of a git command; None if it fails, or there is no git.

    Args:
        folder: whose repository is asked, whatever `GIT_DIR` and its like name.
        arguments: of git.
        environment: added to that of this process.

    Returns:
        Its text; bytes that are not UTF-8 are lone surrogates (`surrogateescape`).
    """
    program = shutil.which("git")
    if program is None:
        return None
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_OF_THE_USER)}
    answer = subprocess.run(  # noqa: S603  (fixed commands)
        [program, "-C", str(folder), "-c", "core.quotepath=off", *arguments],
        capture_output=True,
        check=False,
        env={**kept, **(environment or {})},
    )
    return answer.stdout.decode(errors="surrogateescape") if answer.returncode == 0 else None


def _copied_version() -> str | None:
    file = Path(__file__).resolve().parent.parent / VERSION_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _git_commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    # Only the project's own checkout counts, not one that happens to lie around an installed copy.
    if not (root / ".git").exists():
        return None
    commit = git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return None if commit is None else commit.strip()


def _package_version() -> str | None:
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return None
