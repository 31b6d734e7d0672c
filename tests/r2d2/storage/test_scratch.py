"""Temporary files of a killed process are removed by the next one, those of a living one are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from r2d2.storage.scratch import remove_abandoned, scratch_folder

OWNER = """
import time
from r2d2.storage.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "weights").write_bytes(b"1")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_goes_with_its_block(temporary):
    with scratch_folder() as folder:
        (folder / "inner").mkdir()
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_process_is_removed_and_that_of_a_living_one_is_kept(temporary):
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        folder = Path(owner.stdout.readline().strip())
        with scratch_folder():
            assert (folder / "weights").exists()
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    assert folder.exists()
    with scratch_folder():
        assert not folder.exists()


def test_that_of_a_process_is_one_and_goes_with_it(temporary):
    code = (
        "from r2d2.storage.scratch import lasting_scratch_folder as f; "
        "print(f(), f().is_dir()); assert f() == f()"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    folder, was_there = shown.split()
    assert (was_there, Path(folder).parent) == ("True", temporary)
    assert list(temporary.iterdir()) == []


def test_what_is_none_stays(temporary):
    (temporary / "other").mkdir()
    target = temporary / "target"
    target.mkdir()
    (temporary / "r2d2-scratch-link").symlink_to(target)
    (temporary / "r2d2-scratch-file").touch()
    remove_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == [
        *("other", "r2d2-scratch-file", "r2d2-scratch-link", "target")
    ]


def test_many_at_once_keep_theirs(temporary):
    lost = []

    def work():
        for _ in range(30):
            with scratch_folder() as folder:
                if not folder.is_dir():
                    lost.append(folder)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(temporary.iterdir()) == []


def test_a_scratch_folder_may_lie_in_another_folder(tmp_path):
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        with scratch_folder(tmp_path):
            assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
