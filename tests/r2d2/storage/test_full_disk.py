"""Which errors say that a disk is full."""

import errno
import os
import pickle
import tempfile

import pytest

from r2d2.storage.full_disk import DiskFull, says_full


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


def test_it_names_the_node_on_its_way_between_processes():
    error = DiskFull.on("10.0.0.1", "abc", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    sent = pickle.loads(pickle.dumps(error))
    assert sent.node == "abc"
    assert str(sent).startswith("a disk that the node 10.0.0.1 writes to is full: [Errno 28]")
