"""Whatever happens to the writer, a reader finds the whole thing or nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from r2d2.storage.atomic import atomic_file, atomic_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from r2d2.storage.atomic import atomic_file, atomic_folder
with atomic_file(Path(sys.argv[1]) / "file") as file, atomic_folder(Path(sys.argv[1]) / "folder") as folder:
    file.write(b"half")
    (folder / "inner").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "file"
    with atomic_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert names(tmp_path / "a") == ["file"]


def test_a_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text("content")
        assert not path.exists()
    assert (path / "deep" / "file").read_text() == "content"
    assert names(tmp_path / "a") == ["folder"]


def test_they_are_as_readable_for_others_as_ordinary_ones(tmp_path):
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "ordinary.txt").touch()
    with atomic_file(tmp_path / "file"), atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "ordinary.txt").stat().st_mode


def half_a_file(path, fault):
    with atomic_file(path) as file:
        file.write(b"half")
        raise fault


def half_a_folder(path, fault):
    with atomic_folder(path) as temporary:
        (temporary / "inner").write_text("half")
        raise fault


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, fault):
    (tmp_path / "file").write_text("former")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("former")
    with pytest.raises(fault):
        half_a_file(tmp_path / "file", fault)
    with pytest.raises(fault):
        half_a_folder(tmp_path / "folder", fault)
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inner").read_text() == "former"


def test_an_existing_file_and_an_existing_folder_are_replaced_whole(tmp_path):
    for content in ("former", "later"):
        with atomic_file(tmp_path / "file") as file:
            file.write(content.encode())
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / content).touch()
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "later"
    assert names(tmp_path / "folder") == ["later"]


def test_a_killed_writer_leaves_nothing_under_the_names(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert writer.returncode == -9
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "folder").exists()
