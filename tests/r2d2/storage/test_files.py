"""Files of a folder: what was listed is what is read."""

import os
import pickle
from pathlib import Path

import pytest

from r2d2.storage.errors import FileError
from r2d2.storage.files import FolderFiles
from r2d2.storage.location import absolute_place


@pytest.fixture
def folder(tmp_path):
    for name, content in (("a.jpg", b"first"), ("below/b.jpg", b"second"), (".hidden", b"no")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_hidden_files_are_left_out(folder):
    assert FolderFiles.of(folder).names == ("a.jpg", "below/b.jpg")


def test_links_are_followed_and_those_that_lead_back_or_nowhere_are_named(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "deep").mkdir()
    (elsewhere / "deep" / "c.jpg").write_bytes(b"third")
    (elsewhere / "deep" / "back").symlink_to(elsewhere)
    (folder / "train").symlink_to(elsewhere)
    (folder / "same").symlink_to(elsewhere)
    (folder / "below" / "up").symlink_to(folder)
    (folder / "lost.jpg").symlink_to(folder / "gone.jpg")
    (folder / "linked.jpg").symlink_to(elsewhere / "deep" / "c.jpg")
    files = FolderFiles.of(folder)
    assert files.names == ("a.jpg", "below/b.jpg", "linked.jpg", "same/deep/c.jpg", "train/deep/c.jpg")
    with files.open("train/deep/c.jpg") as file:
        assert file.read() == b"third"
    assert files.passed_over == (
        f"the link {folder}/below/up leads back to a folder that it lies in",
        f"the link {folder}/lost.jpg leads nowhere",
        f"the link {folder}/same/deep/back leads back to a folder that it lies in",
        f"the link {folder}/train/deep/back leads back to a folder that it lies in",
    )


def test_a_folder_named_relatively_is_walked_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert FolderFiles.of(Path()).names == ("a.jpg", "below/b.jpg")


def test_a_name_that_is_not_utf_8_is_refused_by_name(folder):
    with open(os.fsencode(folder) + b"/below/Mu\xf1oz.jpg", "wb"):
        pass
    with pytest.raises(ValueError, match=r"the name of '.*/below/Mu\\xf1oz\.jpg' is not UTF-8; rename it"):
        FolderFiles.of(folder)


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


def test_a_place_whose_name_is_not_utf_8_is_refused_by_name():
    with pytest.raises(ValueError, match=r"the name of '/photos/Mu\\xf1oz' is not UTF-8"):
        absolute_place(os.fsdecode(b"/photos/Mu\xf1oz"))
