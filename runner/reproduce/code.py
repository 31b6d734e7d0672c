"""Gets the code of a run: its commit, with what was not committed, in a folder of its own."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from r2d2.source_code import SourceCode, git, running_root
from r2d2.version import VERSION_FILE

OR_THIS_CODE = "--this-code trains with the code that is here"


def write_code(code: SourceCode, folder: Path, repository: Path | None = None) -> None:
    """Writes the code of a run into an empty folder.

    It is taken out of the repository as an archive: the repository and its worktrees stay as they are.

    Args:
        code: of the run.
        folder: exists, and is empty.
        repository: that has the commit; None: the one that this code runs from.

    Raises:
        ValueError: if the commit, or all of what was not committed, is not to be had.
    """
    root = running_root() if repository is None else repository
    if not re.fullmatch("[0-9a-f]{40}", code.commit):
        raise ValueError(
            f"the run's code ({code.version}) was no checkout of a git repository; {OR_THIS_CODE}"
        )
    if code.left_out:
        raise ValueError(
            f"what the run had not committed was not recorded in full ({'; '.join(code.left_out)}); "
            f"{OR_THIS_CODE}"
        )
    if not (root / ".git").exists() or git(root, "cat-file", "-e", f"{code.commit}^{{commit}}") is None:
        raise ValueError(
            f"the run's commit {code.commit[:12]} (branch '{code.branch}') is not in the repository {root}; "
            f"fetch it, or {OR_THIS_CODE}"
        )
    archive, patch = folder / "code.tar", folder / "uncommitted.diff"
    if git(root, "archive", f"--output={archive}", code.commit) is None:
        raise ValueError(f"git cannot take the run's commit {code.commit[:12]} out of {root}")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()
    # Git must not take the folder for a part of a repository around it.
    alone = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    if code.diff:
        patch.write_text(code.diff, encoding="utf-8", newline="")
        if git(folder, "apply", "--whitespace=nowarn", patch.name, environment=alone) is None:
            raise ValueError(
                f"what the run had not committed does not fit its commit {code.commit[:12]}; {OR_THIS_CODE}"
            )
    (folder / VERSION_FILE).write_text(f"{code.version}\n", encoding="utf-8")
