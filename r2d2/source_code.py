"""Describes the code that runs: its commit, its branch, and what differs from the commit.

Of what is not committed only code counts, new files of code too: other files, such as `.env` or keys, decide
no number and may hold secrets. A line that looks like a secret is left out.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from r2d2.formats.stored_json import parse_json, typed
from r2d2.storage.scratch import scratch_folder
from r2d2.version import code_version

PACKAGES = ("runner", "r2d2", "evaluation", "search_spaces")
# Of files that are code, with those of the comparison's page.
SUFFIXES = frozenset({".py", ".html", ".css"})
# A copy of the code that travels without its repository holds its description in this file.
COPIED = "CODE_SOURCE.json"
# Of a stored difference, bytes.
LARGEST = 2**20

_NAMED = r"(?:secret|passw(?:or)?d|token|api_?key|access_?key|private_?key|credential)"
_SECRET = re.compile(
    rf"{_NAMED}\w*[\"']?\s*(?::[^=]*)?[:=]\s*[\"'][^\"'\s]{{8,}}[\"']"
    r"|\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30}|hf_[A-Za-z0-9]{30}|sk-[\w-]{20}|xox[abp]-[\w-]{10})"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
    r"|\w://[^/\s:@\"']+:[^/\s@\"']+@",
    re.IGNORECASE,
)
_LEFT_OUT = "left out: this line looks like a secret"


@dataclass(frozen=True)
class SourceCode:
    """A SourceCode says which code runs.

    Attributes:
        version: see `r2d2.version.code_version`.
        commit: 40 hexadecimal digits; empty if the code is no checkout of a git repository.
        branch: its name; empty if none is checked out.
        diff: what differs from the commit, as `git apply` takes it.
        left_out: what the difference lacks, and why, one sentence each; with one it cannot be applied.
    """

    version: str
    commit: str = ""
    branch: str = ""
    diff: str = ""
    left_out: tuple[str, ...] = ()


def running_root() -> Path:
    """Returns the folder of the packages that run."""
    return Path(__file__).resolve().parent.parent


@functools.cache
def source_code() -> SourceCode:
    """Returns what runs now, as it was when this process first asked."""
    return source_code_of(running_root())


def source_code_of(root: Path) -> SourceCode:
    """Describes the code in a folder.

    Args:
        root: holds the packages, and `.git` or the description that travelled with a copy.

    Raises:
        ValueError: if that description is damaged.
    """
    copied = root / COPIED
    if copied.is_file():
        return parse_json(copied.read_bytes(), str(copied), partial(typed, SourceCode))
    commit = git(root, "rev-parse", "--verify", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return SourceCode(code_version())
    diff, left_out = bounded(_uncommitted(root))
    branch = git(root, "branch", "--show-current") or ""
    return SourceCode(code_version(), commit.strip(), branch.strip(), diff, left_out)


def describe_copy(folder: Path) -> None:
    """Writes into a copy of the running code what it is a copy of."""
    (folder / COPIED).write_text(json.dumps(asdict(source_code())), encoding="utf-8")


def is_code(path: str) -> bool:
    """Says whether a file of the repository, by its path below the root, is code of the packages."""
    parts = Path(path).parts
    hidden = any(part.startswith(".") for part in parts)
    return parts[0] in PACKAGES and Path(path).suffix in SUFFIXES and not hidden


def git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Returns the standard output of a git command; None if it fails, or there is no git."""
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), "-c", "core.quotepath=off", *arguments]
    answer = subprocess.run(  # noqa: S603  (fixed commands)
        command, capture_output=True, check=False, env={**os.environ, **(environment or {})}
    )
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else None


def _uncommitted(root: Path) -> str:
    """The difference of all code from the commit; files that git does not know yet are in it."""
    listed = git(root, "ls-files", "--others", "--exclude-standard", "-z") or ""
    new = [path for path in listed.split("\0") if path and is_code(path)]
    places = [f":(glob){package}/**/*{suffix}" for package in PACKAGES for suffix in sorted(SUFFIXES)]
    form = ("--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
    with scratch_folder() as scratch:
        # New files are noted in a copy of the index: the user's own stays as it is.
        index = {"GIT_INDEX_FILE": str(scratch / "index")}
        git(root, "read-tree", "HEAD", environment=index)
        if new:
            git(root, "add", "--intent-to-add", "--", *new, environment=index)
        return git(root, "diff", *form, "HEAD", "--", *places, environment=index) or ""


def bounded(diff: str, largest: int = LARGEST) -> tuple[str, tuple[str, ...]]:
    """Leaves out of a difference lines that look like secrets, and files beyond a size.

    Args:
        diff: of git.
        largest: bytes that are kept, in whole files.

    Returns:
        The difference, and a sentence on each file of which something was left out.
    """
    kept, left_out, size = [], [], 0
    for file in re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE):
        name = file.partition("\n")[0].rpartition(" b/")[2]
        lines = [_without_secret(line) for line in file.splitlines(keepends=True)]
        if secrets := sum(_LEFT_OUT in line for line in lines):
            left_out.append(f"{name}: {secrets} lines that look like secrets")
        length = len("".join(lines).encode())
        if size + length > largest:
            left_out.append(f"{name}: the difference would be larger than {largest} bytes")
            continue
        kept += lines
        size += length
    return "".join(kept), tuple(left_out)


def _without_secret(line: str) -> str:
    return f"{line[:1]}{_LEFT_OUT}\n" if line[:1] in "+- " and _SECRET.search(line) else line
