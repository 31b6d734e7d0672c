"""Files of a folder: what was listed is what is read."""

import os
import pickle

import pytest

from r2d2.storage.errors import FileError
from r2d2.storage.files import FolderFiles


@pytest.fixture
def folder(tmp_path):
    for name, content in (("a.jpg", b"first"), ("below/b.jpg", b"second"), (".hidden", b"no")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_hidden_files_are_left_out(folder):
    assert FolderFiles.of(folder).names == ("a.jpg", "below/b.jpg")


@pytest.mark.parametrize("other", [b"longer than it was", b"FIRST"])
def test_a_file_that_was_replaced_is_not_read(folder, other):
    files = pickle.loads(pickle.dumps(FolderFiles.of(folder)))
    with files.open("a.jpg") as file:
        assert file.read() == b"first"
    (folder / "a.jpg").write_bytes(other)
    # A file system may keep times in coarse steps.
    os.utime(folder / "a.jpg", ns=(1, 1))
    with pytest.raises(FileError, match=r"a.jpg: it was changed while in use .* opened: 5 bytes of 20"):
        files.open("a.jpg")
    with files.open("below/b.jpg") as file:
        assert file.read() == b"second"
    with FolderFiles.of(folder).open("a.jpg") as file:
        assert file.read() == other
