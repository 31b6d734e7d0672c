"""Describes the code that runs: its commit, its branch, and what differs from the commit.

Of what is not committed only code counts, new files of code too: other files, such as `.env` or keys, decide
no number and may hold secrets. A file with a line that looks like a secret is left out.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from r2d2.formats.printable import printable
from r2d2.formats.stored_json import parse_json, typed
from r2d2.storage.scratch import scratch_folder
from r2d2.version import code_version, git

PACKAGES = ("runner", "r2d2", "evaluation", "search_spaces")
# Of files that are code, with those of the comparison's page.
SUFFIXES = frozenset({".py", ".html", ".css"})
# A copy of the code that travels without its repository holds its description in this file.
COPIED = "CODE_SOURCE.json"
# Of a stored difference, bytes.
LARGEST = 2**20

_NAMED = (
    r"(?:secret|passw(?:or)?d|passphrase|token|credential|authorization|(?:api|access|private|signing)_?key)"
)
# White space, also that between two lines of a difference.
_GAP = r"[^\S\n]*\\?(?:\n[-+ ]\s*)?"
_TEXT = rf"""\(*{_GAP}[rbfu]{{0,2}}(?P<quote>"{{3}}|'{{3}}|["'])(?:(?!(?P=quote)).){{8}}"""
_DEFAULT = r"[^\n]*(?:\b(?:environ\.get|getenv)\([^,\n]*,|\bor\b)\s*"
_SECRET = re.compile(
    rf"{_NAMED}\w*[\"']?\]?\s*(?::[^=\n]*=|[:=,!]{{1,2}}){_GAP}(?:{_DEFAULT})?{_TEXT}"
    r"|\b(?:A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30}|github_pat_\w{20}|hf_[A-Za-z0-9]{30}|sk-[\w-]{20})"
    r"|\b(?:xox[abp]-[\w-]{10}|eyJ[\w-]{16}|(?:bearer|basic)\s[\w.~+/-]{16})"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
    # A line of a key whose first line is not among those that are shown.
    r"|(?-i:(?=[a-z0-9+/]{0,59}[A-Z])(?=[A-Z0-9+/]{0,59}[a-z])(?=[A-Za-z+/]{0,59}[0-9])[A-Za-z0-9+/]{60})"
    r"|\w://[^/\s:@\"']*:[^/\s@\"']+@",
    re.IGNORECASE,
)
# What follows is a line of the file that git takes for a heading; `git apply` does not need it.
_HUNK = re.compile(r"^(@@ [-+,\d ]+ @@).*", re.MULTILINE)


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

    @property
    def content(self) -> bytes:
        """Returns what decides which program this is: the commit, and what differs from it."""
        return f"{self.commit}\n{self.diff}".encode()


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
    return SourceCode(code_version(), commit.strip(), printable(branch.strip()), diff, left_out)


def describe_copy(folder: Path) -> None:
    """Writes into a copy of the running code what it is a copy of."""
    (folder / COPIED).write_text(json.dumps(asdict(source_code())), encoding="utf-8")


def is_code(path: str) -> bool:
    """Says whether a file of the repository, by its path below the root, is code of the packages."""
    parts = Path(path).parts
    hidden = any(part.startswith(".") for part in parts)
    return parts[0] in PACKAGES and Path(path).suffix in SUFFIXES and not hidden


def _uncommitted(root: Path) -> str:
    """The difference of all code from the commit; files that git does not know yet are in it."""
    places = [f":(glob){package}/**/*{suffix}" for package in PACKAGES for suffix in sorted(SUFFIXES)]
    # Whatever the user's settings are, `git apply` takes it.
    form = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "-U3", "--src-prefix=a/")
    with scratch_folder() as scratch:
        # New files are noted in an index of the commit alone: the user's own stays as it is.
        index = {"GIT_INDEX_FILE": str(scratch / "index")}
        git(root, "read-tree", "HEAD", environment=index)
        listed = git(root, "ls-files", "--others", "--exclude-standard", "-z", environment=index) or ""
        new = [path for path in listed.split("\0") if path and is_code(path)]
        if new:
            git(root, "add", "--intent-to-add", "--", *new, environment=index)
        return git(root, "diff", *form, "--dst-prefix=b/", "HEAD", "--", *places, environment=index) or ""


def bounded(diff: str, largest: int = LARGEST) -> tuple[str, tuple[str, ...]]:
    """Leaves out of a difference whole files: with what looks like a secret, not in UTF-8, beyond a size.

    Args:
        diff: of git; bytes that are not UTF-8 are lone surrogates.
        largest: bytes that are kept.

    Returns:
        The difference, and a sentence on each file that was left out.
    """
    kept, left_out, size = [], [], 0
    for file in re.split(r"^(?=diff --git )", _HUNK.sub(r"\1", diff), flags=re.MULTILINE):
        length = len(file.encode(errors="surrogateescape"))
        too_large = f"the difference would be larger than {largest} bytes"
        why = too_large if size + length > largest else _unfit(file)
        if why is None:
            kept.append(file)
            size += length
        else:
            name = file.partition("\n")[0].rpartition(" b/")[2]
            left_out.append(f"{printable(name)}: {why}")
    return "".join(kept), tuple(left_out)


def _unfit(file: str) -> str | None:
    """Why the difference of a file is not kept; None: it is."""
    if _SECRET.search(file):
        return "a line looks like a secret"
    if "\nBinary files " in file or any("\ud800" <= letter <= "\udfff" for letter in file):
        return "it is no text in UTF-8"
    return None
