"""Gets the code of a run: its commit, with what was not committed, in a folder of its own."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from r2d2.source_code import SourceCode, running_root
from r2d2.version import VERSION_FILE, git
from runner.record.command import trusted_copy

OR_THIS_CODE = "--this-code trains with the code that is here"


def write_code(
    code: SourceCode, folder: Path, where: str, trust: bool = False, repository: Path | None = None
) -> None:
    """Writes the code of a run into an empty folder, if this user may be taken to have read it.

    That is a commit in the history of the one that is checked out, without changes; else what this user ran
    from this machine, or trusts.

    It is taken out of the repository as an archive: the repository and its worktrees stay as they are.

    Args:
        code: of the run.
        folder: exists, and is empty.
        where: the description of the code is stored.
        trust: whether the user has just said that it may be executed.
        repository: that has the commit; None: the one that this code runs from.

    Raises:
        ValueError: if the commit, or all of what was not committed, is not to be had, or is not trusted.
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
    is_ancestor = git(root, "merge-base", "--is-ancestor", code.commit, "HEAD") is not None
    if code.diff or not is_ancestor:
        what = "with what was not committed" if code.diff else "which is not in the history of HEAD"
        commit = f"the run's commit {code.commit[:12]} (branch '{code.branch}'), {what},"
        trusted_copy(code.content, f"{commit} as {where} names it,", trust)
    archive, patch = folder / "code.tar", folder / "uncommitted.diff"
    if git(root, "archive", f"--output={archive}", code.commit) is None:
        raise ValueError(f"git cannot take the run's commit {code.commit[:12]} out of {root}")
    try:
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"the run's commit {code.commit[:12]} cannot be unpacked: {error}") from error
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
