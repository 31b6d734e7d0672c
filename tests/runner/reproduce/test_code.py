"""The code of a run is its commit with what was not committed, or one sentence says why it cannot be had."""

import subprocess
from dataclasses import replace

import pytest

from r2d2.source_code import source_code_of
from runner.reproduce.code import write_code
from runner.reproduce.differences import code_differences

UNFIT = "diff --git a/r2d2/x.py b/r2d2/x.py\n--- a/r2d2/x.py\n+++ b/r2d2/x.py\n@@ -1 +1 @@\n-a\n+b\n"


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """Has one file of code, which was committed and then changed in its second line."""
    folder = tmp_path / "repository"
    (folder / "r2d2").mkdir(parents=True)
    git(folder, "init")
    (folder / "r2d2" / "loss.py").write_text("one\ntwo\nthree\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "A commit")
    (folder / "r2d2" / "loss.py").write_text("one\nTWO\nthree\n")
    return folder


def written(code, repository, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    write_code(code, folder, repository)
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
