"""The code of a run is its commit with what was not committed, or one sentence says why it cannot be had."""

import os
import subprocess
from dataclasses import replace

import pytest

from r2d2.source_code import source_code_of
from runner.record.command import remember_own
from runner.reproduce.code import write_code
from runner.reproduce.differences import code_differences

UNFIT = "diff --git a/r2d2/x.py b/r2d2/x.py\n--- a/r2d2/x.py\n+++ b/r2d2/x.py\n@@ -1 +1 @@\n-a\n+b\n"


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Has one file of code, which was committed and then changed in its second line; nobody trusts it yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    folder = tmp_path / "repository"
    (folder / "r2d2").mkdir(parents=True)
    git(folder, "init")
    (folder / "r2d2" / "loss.py").write_text("one\ntwo\nthree\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "A commit")
    (folder / "r2d2" / "loss.py").write_text("one\nTWO\nthree\n")
    return folder


def written(code, repository, tmp_path, trust=True):
    folder = tmp_path / "code"
    folder.mkdir()
    write_code(code, folder, "the record", trust, repository)
    return folder


def test_the_commit_and_the_uncommitted_line_are_written_and_a_later_change_is_named(repository, tmp_path):
    code = source_code_of(repository)
    (repository / "r2d2" / "loss.py").write_text("one\nTWO\nother\n")
    folder = written(code, repository, tmp_path)
    assert (folder / "r2d2" / "loss.py").read_text() == "one\nTWO\nthree\n"
    [difference] = code_differences(folder, repository)
    assert str(difference) == "code r2d2/loss.py:3: 'three' -> 'other'"


def test_a_folder_within_a_repository_gets_the_uncommitted_line_too(repository):
    folder = written(source_code_of(repository), repository, repository)
    assert (folder / "r2d2" / "loss.py").read_text() == "one\nTWO\nthree\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": "f" * 40}, "the run's commit ffffffffffff .* is not in the repository"),
        ({"commit": ""}, "was no checkout of a git repository"),
        ({"left_out": ("r2d2/a.py: too large",)}, "not recorded in full .r2d2/a.py: too large"),
        (
            {"diff": UNFIT},
            "does not fit",
        ),
    ],
)
def test_code_that_cannot_be_had_is_one_sentence(repository, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        written(replace(source_code_of(repository), **change), repository, tmp_path)


def test_a_commit_in_the_history_of_head_needs_no_trust(repository, tmp_path):
    code = replace(source_code_of(repository), diff="")
    git(repository, "commit", "--all", "-m", "A later commit")
    assert (
        written(code, repository, tmp_path, trust=False) / "r2d2" / "loss.py"
    ).read_text() == "one\ntwo\nthree\n"


def test_a_commit_that_only_lies_in_the_repository_runs_if_the_user_trusts_it_or_ran_it(repository, tmp_path):
    """As one of a deleted branch, or of a pull request that was fetched and not read."""
    git(repository, "commit", "--all", "-m", "Of nobody's branch")
    code = source_code_of(repository)
    git(repository, "reset", "--hard", "HEAD~1")
    said = rf"the run's commit {code.commit[:12]} .branch '\w+'., which is not in the history of HEAD, as the"
    with pytest.raises(ValueError, match=rf"{said} record names it, is a program .* give --trust to run it"):
        written(code, repository, tmp_path, trust=False)
    assert list((tmp_path / "code").iterdir()) == []
    remember_own(code.content)
    (tmp_path / "code").rmdir()
    assert (
        written(code, repository, tmp_path, trust=False) / "r2d2" / "loss.py"
    ).read_text() == "one\nTWO\nthree\n"


def test_changes_that_the_user_made_to_one_commit_are_not_trusted_on_another(repository, tmp_path):
    code = source_code_of(repository)
    remember_own(code.content)
    git(repository, "commit", "--allow-empty", "-m", "A later commit")
    later = replace(code, commit=git(repository, "rev-parse", "HEAD"))
    with pytest.raises(ValueError, match=r"with what was not committed, .* give --trust"):
        written(later, repository, tmp_path, trust=False)
    (tmp_path / "code").rmdir()
    written(code, repository, tmp_path, trust=False)


def test_a_commit_with_a_link_out_of_its_folder_is_one_sentence(repository, tmp_path):
    os.symlink("/etc", repository / "r2d2" / "etc")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "A link")
    with pytest.raises(ValueError, match=r"the run's commit .* cannot be unpacked: .*etc"):
        written(source_code_of(repository), repository, tmp_path)
