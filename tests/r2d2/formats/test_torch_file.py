"""Files of `torch.save` that claim much are refused before anything of that size is there."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import pytest
import torch
from memory import peak_memory

from r2d2.formats.torch_file import read_saved

HEAD = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
ORDERED = b"ccollections\nOrderedDict\n"
# More than tuples in tuples that Python can hash, and opcodes that the tests allow.
MANY, OPCODES = 100_000, 200_000


def old(described, keys=(), numbers=b""):
    """A file as PyTorch wrote it before 1.6, of opcodes."""
    return HEAD + b"\x80\x02" + described + b"." + pickle.dumps(list(keys), 2) + numbers


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


def whole(number):
    return b"\x8a\x08" + struct.pack("<q", number)


def storage(count, key=b"0"):
    kind = b"ctorch\nFloatStorage\n"
    return b"(" + text(b"storage") + kind + text(key) + text(b"cpu") + whole(count) + b"NtQ"


def tensor(count, size, stride, offset=0):
    shape = b"".join(b"(" + b"".join(map(whole, numbers)) + b"t" for numbers in (size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count) + whole(offset) + shape + b"\x89}tR"


def floats(count):
    return struct.pack("<q", count) + bytes(4 * count)


def test_opcodes_of_the_test_describe_a_tensor(tmp_path):
    (tmp_path / "net.pt").write_bytes(old(tensor(6, (2, 3), (3, 1)), "0", floats(6)))
    saved = read_saved(tmp_path / "net.pt")
    assert torch.equal(saved.tensor(saved.content), torch.zeros(2, 3))
    assert torch.load(tmp_path / "net.pt").shape == (2, 3)


REFUSED = {
    "bytes by number": (old(b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR"), "bytearray"),
    "a tensor by number": (old(b"ctorch\nTensor\n(J\xff\xff\xff\x7ftR"), r"torch\.Tensor"),
    "a storage that is not there": (old(tensor(2**40, (1,), (1,))), "not those of its tensors"),
    "a storage of bytes that are not there": (
        old(tensor(2**40, (1,), (1,)), "0", struct.pack("<q", 2**40)),
        "has 0 bytes",
    ),
    "a storage of no number": (old(tensor(-1, (1,), (1,)), "0", floats(1)), "description of a tensor"),
    "a length that no memory has": (
        old(tensor(2**62, (1,), (1,)), "0", struct.pack("<q", 2**62)),
        "has 0 bytes",
    ),
    "storages that differ": (
        old(b"]" + tensor(1, (1,), (1,)) + b"a" + tensor(2, (2,), (1,)) + b"a", "0", floats(1)),
        "in two ways",
    ),
    "a tuple of tuples as a key": (old(b"})" + b"\x85" * MANY + b"Ns"), "tuple as a key"),
    "a long pickle": (old(b"N" * (OPCODES + 1)), f"more than {OPCODES} opcodes"),
    "a memo of any number": (old(b"Nr\xff\xff\xff\x7f" * 3 + b"j\x00\x00\x00\x00"), "0"),
    "copies of a list": (
        old(b"](" + b"N" * MANY + b"e\x85q\x00" + (b"c__builtin__\ntuple\nh\x00R") * 1000),
        r"__builtin__\.tuple",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_claims_much_is_refused_in_little_memory(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("r2d2.formats.plain_pickle._MOST_OPCODES", OPCODES)
    content, sentence = REFUSED[kind]
    path = tmp_path / "net.pt"
    path.write_bytes(content)

    def read():
        with pytest.raises(ValueError, match=rf"net\.pt is refused: .*{sentence}"):
            read_saved(path)

    assert peak_memory(read) < (8 if len(content) < 10_000 else 32)


def test_copies_of_a_dictionary_are_empty(tmp_path):
    """A thousand OrderedDicts, each told to be a copy of one of many items."""
    items = b"}(" + b"".join(whole(n) + b"N" for n in range(100_000)) + b"u\x85q\x00"
    path = tmp_path / "net.pt"
    path.write_bytes(old(b"](" + items + (ORDERED + b"h\x00R") * 1000 + b"e"))
    assert peak_memory(lambda: read_saved(path)) < 128


def test_tensors_share_their_storage(tmp_path):
    path, one = tmp_path / "net.pt", tensor(2**18, (2**18,), (1,))
    path.write_bytes(old(b"](" + one * 1000 + b"e", "0", floats(2**18)))

    def read():
        saved = read_saved(path)
        assert len([saved.tensor(tensor) for tensor in saved.content]) == 1000

    assert peak_memory(read) < 32


@pytest.mark.parametrize(
    ("size", "stride", "offset", "sentence"),
    [
        ((2**20, 2**20), (0, 0), 0, "more numbers than the 6"),
        ((7,), (0,), 0, "more numbers than the 6"),
        ((1,) * 9, (1,) * 9, 0, "more numbers than"),
        ((2, 3), (4, 1), 0, "out of its storage"),
        ((6,), (1,), 1, "out of its storage"),
        ((6,), (-1,), 5, "shape of a tensor is damaged"),
        ((6,), (1, 1), 0, "shape of a tensor is damaged"),
    ],
)
def test_a_tensor_stays_in_its_storage(size, stride, offset, sentence, tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(old(tensor(6, size, stride, offset), "0", floats(6)))
    saved = read_saved(path)
    with pytest.raises(ValueError, match=sentence):
        saved.tensor(saved.content)


@pytest.mark.parametrize(
    ("record", "content", "sentence"),
    [
        ("data/0", b"1234", "a storage of 6 numbers has 4 bytes"),
        ("data/0", None, "data/0"),
        ("data.pkl", None, "data.pkl"),
        ("byteorder", b"big", "not little-endian"),
    ],
)
def test_records_of_an_archive_that_are_not_as_described(record, content, sentence, tmp_path):
    buffer, path = io.BytesIO(), tmp_path / "net.pt"
    torch.save(torch.ones(6), buffer)
    with zipfile.ZipFile(buffer) as sound, zipfile.ZipFile(path, "w") as bad:
        for name in sound.namelist():
            changed = content if name.endswith(record) else sound.read(name)
            if changed is not None:
                bad.writestr(name, changed)
    with pytest.raises(ValueError, match=rf"net\.pt is refused: .*{sentence}"):
        read_saved(path)
