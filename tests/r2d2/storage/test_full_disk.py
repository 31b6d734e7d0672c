"""Which errors say that a disk is full."""

import errno
import os
import pickle
import tempfile

import pytest

from r2d2.storage.atomic import atomic_file
from r2d2.storage.errors import DiskFull, full_disk_of, says_full


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_and_a_quota_used_up_say_so(code):
    assert says_full(OSError(code, os.strerror(code)))


def test_temporary_files_that_find_no_folder_say_so(monkeypatch):
    """Python tries to write into each folder, and does not say why it cannot."""

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile._os, "open", no_room)
    with pytest.raises(FileNotFoundError) as error:
        tempfile.gettempdir()
    assert says_full(error.value)


def test_other_errors_do_not():
    assert not says_full(OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    assert not says_full(OSError(errno.EIO, os.strerror(errno.EIO)))
    assert not says_full(OSError("no number"))


def test_the_node_and_the_file_are_named_on_the_way_between_processes(tmp_path):
    no_room = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(DiskFull) as found, full_disk_of("10.0.0.1"), atomic_file(tmp_path / "weights"):
        raise no_room
    expected = f"a disk of the node 10.0.0.1 is full ({tmp_path}/weights: No space left on device)"
    assert str(pickle.loads(pickle.dumps(found.value))) == f"{expected}; make room, then retry"
    with pytest.raises(PermissionError), full_disk_of("10.0.0.1"):
        raise PermissionError(errno.EACCES, "not yours")


def test_what_is_written_without_a_name_is_temporary():
    with pytest.raises(DiskFull, match=rf"\({tempfile.gettempdir()}: No space"), full_disk_of("10.0.0.1"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
