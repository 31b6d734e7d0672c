"""What runs is described by its commit and all code that differs from it, without secrets and in bounds."""

from __future__ import annotations

import subprocess

import pytest

from r2d2 import source_code
from r2d2.source_code import SourceCode, bounded, describe_copy, is_code, source_code_of

SECRET = 'TOKEN = "' + "x1" * 10 + '"\n'


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    """A repository with one file of code, committed."""
    git(tmp_path, "init", "--initial-branch", "work")
    (tmp_path / "r2d2").mkdir()
    (tmp_path / "r2d2" / "loss.py").write_text("".join(f"line {n}\n" for n in range(9)))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "A commit")
    return tmp_path


def test_a_clean_checkout_is_its_commit_and_branch(checkout):
    code = source_code_of(checkout)
    assert code.commit == git(checkout, "rev-parse", "HEAD").strip()
    assert (code.branch, code.diff, code.left_out) == ("work", "", ())


def test_a_changed_line_and_a_new_file_are_in_the_difference_and_it_makes_the_same_code(checkout, tmp_path):
    (checkout / "r2d2" / "loss.py").write_text("".join(f"line {n}\n" for n in (0, 1, 22, 3, 4, 5, 6, 7, 8)))
    (checkout / "r2d2" / "new.py").write_text("new\n")
    (checkout / "r2d2" / ".env").write_text(SECRET)
    (checkout / "notes.py").write_text("not of a package\n")
    index = git(checkout, "ls-files", "--stage")
    code = source_code_of(checkout)
    assert git(checkout, "ls-files", "--stage") == index
    assert "-line 2\n+line 22\n" in code.diff
    assert "notes" not in code.diff
    assert "env" not in code.diff
    git(checkout, "stash", "--include-untracked")
    (checkout / "patch").write_text(code.diff)
    git(checkout, "apply", "patch")
    assert (checkout / "r2d2" / "loss.py").read_text().splitlines()[2] == "line 22"
    assert (checkout / "r2d2" / "new.py").read_text() == "new\n"


def test_a_file_with_a_line_that_looks_like_a_secret_is_left_out_and_said(checkout):
    (checkout / "r2d2" / "loss.py").write_text(f"{SECRET}other\n")
    (checkout / "r2d2" / "new.py").write_text("new\n")
    code = source_code_of(checkout)
    assert "x1x1" not in code.diff
    assert "+new\n" in code.diff
    assert code.left_out == ("r2d2/loss.py: a line looks like a secret",)


def test_a_secret_that_git_shows_as_a_heading_is_not_recorded(checkout):
    loss = checkout / "r2d2" / "loss.py"
    loss.write_text(SECRET + "".join(f"    line {n}\n" for n in range(20)))
    git(checkout, "commit", "--all", "-m", "Another commit")
    loss.write_text(loss.read_text().replace("line 15", "line 155"))
    assert "x1x1" in git(checkout, "diff")
    code = source_code_of(checkout)
    assert "x1x1" not in code.diff
    assert code.left_out == ()
    assert applied(checkout, code) == {"loss.py": loss.read_bytes()}


def applied(checkout, code):
    """The files of the package, of the commit with the recorded difference."""
    copy = checkout.parent / f"{checkout.name} again"
    git(checkout, "worktree", "add", "--detach", str(copy), "HEAD")
    (copy / "patch").write_text(code.diff, newline="")
    git(copy, "apply", "--whitespace=nowarn", "patch")
    return {path.name: path.read_bytes() for path in (copy / "r2d2").iterdir()}


def test_a_difference_can_be_applied_whatever_the_settings_of_git_are(checkout, monkeypatch):
    for name, value in {
        "context": "0",
        "noprefix": "true",
        "renames": "copies",
        "mnemonicPrefix": "1",
    }.items():
        git(checkout, "config", f"diff.{name}", value)
    monkeypatch.setenv("GIT_DIFF_OPTS", "-u0")
    loss = checkout / "r2d2" / "loss.py"
    loss.write_bytes(loss.read_bytes().replace(b"line 4\n", b"line 44\r\n\x0cline 4") + b"no end")
    (checkout / "r2d2" / "staged.py").write_text("staged\n")
    git(checkout, "add", "r2d2/staged.py")
    files = {"loss.py": loss.read_bytes(), "staged.py": b"staged\n"}
    assert applied(checkout, source_code_of(checkout)) == files


@pytest.mark.parametrize("content", ["# Größe\n".encode("latin-1"), b"\x00\n"])
def test_a_file_that_is_no_text_is_left_out_and_said(checkout, content):
    (checkout / "r2d2" / "loss.py").write_bytes(content)
    (checkout / "r2d2" / "new.py").write_text("Größe\n", encoding="utf-8")
    code = source_code_of(checkout)
    assert "+Größe\n" in code.diff
    assert code.left_out == ("r2d2/loss.py: it is no text in UTF-8",)
    assert code.content.decode().startswith(f"{code.commit}\ndiff --git a/r2d2/new.py")


def test_git_looks_at_the_folder_whatever_its_variables_name(checkout, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init")
    commit = git(checkout, "rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert source_code_of(checkout).commit == commit


@pytest.mark.parametrize(
    ("line", "is_secret"),
    [
        ("'password': 'hunter2hunter2'", True),
        ('API_KEY: str = "0123456789"', True),
        (f'x = "ghp_{"a" * 36}"', True),
        ('url = "postgres://me:word@host/x"', True),
        ("-----BEGIN RSA PRIVATE KEY-----", True),
        ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", True),
        ('password = b"hunter2hunter2"', True),
        ('token = f"hunter2hunter2"', True),
        ('SECRET=("hunter2hunter2")', True),
        ('SECRET = (\n+    "hunter2hunter2"', True),
        ('SECRET = \\\n+    "hunter2hunter2"', True),
        ('password = """hunter2hunter2', True),
        ('password = "it\'s hunter2"', True),
        ('password = "correct horse battery"', True),
        ('os.environ.get("DB_PASSWORD", "hunter2hunter2")', True),
        ('password = os.environ.get("P", "hunter2hunter2")', True),
        ('password = given or "hunter2hunter2"', True),
        ('environment["MY_TOKEN"] = "hunter2hunter2"', True),
        ('if password == "hunter2hunter2":', True),
        ('"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9"', True),
        ('headers = ["Bearer 0123456789abcdef"]', True),
        ('x = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"', True),
        (f'x = "github_pat_{"1a" * 20}"', True),
        (f'DIGEST = "{"0123456789abcdef" * 4}"', False),
        ('token = ""', False),
        ('def read(token: str = "", name: str = "something") -> str:', False),
        ('raise ValueError("the token is missing")', False),
        ("token = read_token(file)", False),
        ('KEY = "r2d2.key"', False),
        ("def test_dlt_weighs_each_match_the_same_at_any_place_and_scale():", False),
    ],
)
def test_what_looks_like_a_secret(line, is_secret):
    diff, left_out = bounded(f"diff --git a/r2d2/x.py b/r2d2/x.py\n+{line}\n")
    assert (line not in diff, bool(left_out)) == (is_secret, is_secret)


def test_of_a_large_difference_the_files_that_fit_are_kept_and_the_others_named():
    files = [f"diff --git a/r2d2/{n}.py b/r2d2/{n}.py\n+{'x' * size}\n" for n, size in (("a", 9), ("b", 500))]
    diff, left_out = bounded("".join(files), largest=200)
    assert diff == files[0]
    assert left_out == ("r2d2/b.py: the difference would be larger than 200 bytes",)


def test_a_copy_says_what_it_is_a_copy_of(tmp_path, monkeypatch):
    code = SourceCode("v", "c" * 40, "work", "a diff", ("one",))
    monkeypatch.setattr(source_code, "source_code", lambda: code)
    describe_copy(tmp_path)
    assert source_code_of(tmp_path) == code


def test_without_a_repository_only_the_version_is_known(tmp_path):
    code = source_code_of(tmp_path)
    assert code == SourceCode(code.version)
    assert code.version


@pytest.mark.parametrize(
    ("path", "expected"),
    [("r2d2/losses/ap.py", True), ("tests/x.py", False), ("r2d2/.env", False), ("r2d2/x.npz", False)],
)
def test_code_is_the_packages_code(path, expected):
    assert is_code(path) == expected
