"""Text that people write: UTF-8 with or without a mark, or one sentence with file and line."""

import pytest

from r2d2.formats.written_text import read_text

WORDS = "eins\nMuñoz.jpg\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_is_read_with_and_without_a_mark(tmp_path, encoding):
    (tmp_path / "list.txt").write_bytes(WORDS.encode(encoding))
    assert read_text(tmp_path / "list.txt", 100) == WORDS


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("utf-16", "line 1: the file is UTF-16"),
        ("utf-32", "line 1: the file is UTF-32"),
        ("utf-16-le", "line 2: the byte 0xf1 is not UTF-8"),
        ("latin-1", "line 2: the byte 0xf1 is not UTF-8"),
    ],
)
def test_another_encoding_is_one_sentence(tmp_path, encoding, reason):
    (tmp_path / "list.txt").write_bytes(WORDS.encode(encoding))
    with pytest.raises(ValueError, match=rf"list\.txt, {reason}; save it as UTF-8"):
        read_text(tmp_path / "list.txt", 100)


def test_zero_bytes_are_no_text(tmp_path):
    (tmp_path / "list.txt").write_bytes("a\nb\n".encode("utf-16-be"))
    with pytest.raises(ValueError, match=r"list\.txt, line 1: a zero byte"):
        read_text(tmp_path / "list.txt", 100)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a" * 101)
    with pytest.raises(ValueError, match=r"list\.txt has 101 bytes; it may have at most 100"):
        read_text(tmp_path / "list.txt", 100)
