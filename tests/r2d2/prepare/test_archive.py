"""Archives that are in order, and those that are made to do harm."""

import bz2
import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from r2d2.prepare import archive as archive_module
from r2d2.prepare.archive import UnpackLimits, check_room, unpack

FILES = {"a/1.txt": b"one" * 100, "a/b/2.txt": b"two", "3.txt": b""}


def same(path):
    return path


def write(tmp_path, content):
    path = tmp_path / "archive"
    path.write_bytes(content)
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_comes_out_as_it_went_in(tmp_path, packed, kind):
    archive = write(tmp_path, getattr(packed, kind)(FILES))
    read = []
    assert sorted(unpack(archive, tmp_path / "out", same, advance=read.append)) == sorted(FILES)
    assert tree(tmp_path / "out") == FILES
    assert sum(read) > 0


def test_only_what_is_wanted_comes_out_and_where_it_should(tmp_path, packed):
    archive = write(tmp_path, packed.zip(FILES))
    assert unpack(archive, tmp_path / "out", lambda path: "x/2" if "2" in path else None) == ["x/2"]
    assert tree(tmp_path / "out") == {"x/2": b"two"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_is_there_whole_is_left_alone_and_the_rest_is_mended(tmp_path, packed, kind):
    archive, out = write(tmp_path, getattr(packed, kind)(FILES)), tmp_path / "out"
    unpack(archive, out, same)
    kept = (out / "a/1.txt").stat().st_ino
    (out / "a/b/2.txt").write_bytes(b"tw")
    (out / "a/b/.2.txt.tmp").write_bytes(b"left behind by a run that was killed")
    unpack(archive, out, same)
    assert tree(out) == FILES
    assert (out / "a/1.txt").stat().st_ino == kept


def test_a_zip_notices_another_content_of_the_same_size(tmp_path, packed):
    archive, out = write(tmp_path, packed.zip(FILES)), tmp_path / "out"
    unpack(archive, out, same)
    (out / "a/b/2.txt").write_bytes(b"TWO")
    unpack(archive, out, same)
    assert tree(out) == FILES


BAD_PATHS = ["../x", "a/../../x", "/etc/x", "a//x", "C:/x", "a\\..\\x", "a/./x", "a/\x07x", "x" * 300]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", BAD_PATHS)
def test_paths_that_lead_out_are_refused(tmp_path, packed, kind, name):
    archive = write(tmp_path, getattr(packed, kind)({name: b"evil"}))
    with pytest.raises(ValueError, match="leads out of it or names no file"):
        unpack(archive, tmp_path / "deep" / "out", same)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["archive"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tars_are_refused(tmp_path, kind):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match="'link' is a link or a device"):
        unpack(write(tmp_path, content.getvalue()), tmp_path / "out", same)


def test_links_in_zips_are_refused(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link or a device"):
        unpack(write(tmp_path, content.getvalue()), tmp_path / "out", same)


def test_nothing_is_written_through_a_link_that_was_there(tmp_path, packed):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / "a").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is a link; nothing is written through it"):
        unpack(write(tmp_path, packed.zip(FILES)), out, same)
    assert tree(elsewhere) == {}


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path, packed):
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"dear")
    out.mkdir()
    (out / "3.txt").symlink_to(victim)
    unpack(write(tmp_path, packed.tar({"3.txt": b"evil"})), out, same)
    assert victim.read_bytes() == b"dear"
    assert not (out / "3.txt").is_symlink()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_recognised_before_it_is_unpacked(tmp_path, packed, kind):
    archive = write(tmp_path, getattr(packed, kind)({"bomb": bytes(20_000_000)}))
    assert archive.stat().st_size < 50_000
    with pytest.raises(ValueError, match="beyond 100 times its size it is taken for a bomb"):
        unpack(archive, tmp_path / "out", same, limits=UnpackLimits(harmless=1_000_000))
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_its_size_is_stopped(tmp_path, packed):
    content = bytearray(packed.zip({"bomb": bytes(20_000_000)}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        position = content.index(signature) + offset
        content[position : position + 4] = (1000).to_bytes(4, "little")
    with pytest.raises(ValueError, match="damaged"):
        unpack(write(tmp_path, bytes(content)), tmp_path / "out", same)
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*")) <= 2**20


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (UnpackLimits(files=2), "holds more than 2 files"),
        (UnpackLimits(bytes=302), "unpacks to more than 302 bytes"),
    ],
)
def test_too_much_is_refused(tmp_path, packed, limits, sentence):
    with pytest.raises(ValueError, match=sentence):
        unpack(write(tmp_path, packed.tar(FILES)), tmp_path / "out", same, limits=limits)


def test_two_files_for_one_path_are_refused(tmp_path, packed):
    with pytest.raises(ValueError, match=r"two files for x: a/1.txt and a/b/2.txt"):
        unpack(write(tmp_path, packed.tar(FILES)), tmp_path / "out", lambda _: "x")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_is_no_whole_archive_is_named(tmp_path, packed, kind, share):
    content = getattr(packed, kind)({str(n): os.urandom(20_000) for n in range(20)})
    archive = write(tmp_path, content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"archive is no zip or tar archive, or a damaged one"):
        unpack(archive, tmp_path / "out", same)


def test_a_flipped_bit_in_a_zip_is_noticed(tmp_path, packed):
    content = bytearray(packed.zip({"x": os.urandom(50_000)}))
    content[25_000] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        unpack(write(tmp_path, bytes(content)), tmp_path / "out", same)
    assert not (tmp_path / "out" / "x").exists()


def test_a_full_disk_is_said_before_the_work(tmp_path, packed, monkeypatch):
    archive = write(tmp_path, packed.zip(FILES))
    usage = type("Usage", (), {"free": 302})
    monkeypatch.setattr("r2d2.prepare.archive.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="GiB are needed here") as refused:
        check_room(archive, tmp_path / "out", same)
    assert refused.value.filename == str(tmp_path / "out")
    check_room(archive, tmp_path / "out", lambda path: path if "1" in path else None)


def headers(kind: str, size: int) -> bytes:
    """A tar whose only file is described by `size` bytes of headers of a kind."""
    if kind == "map":
        # A map of holes in the form 1.0 of GNU's tar: so many numbers, then as many lines.
        records = b"".join(
            pax_record(key, value)
            for key, value in {
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": "a",
            }.items()
        )
        holes = b"%d\n" % (size // 4) + b"0\n" * (size // 2)
        return (
            header(tarfile.XHDTYPE, len(records)) + pad(records) + header(tarfile.REGTYPE, size) + pad(holes)
        )
    type_ = {"pax": tarfile.XHDTYPE, "global": tarfile.XGLTYPE, "name": tarfile.GNUTYPE_LONGNAME}[kind]
    return header(type_, size) + pad(bytes(size)) + header(tarfile.REGTYPE, 0)


def pax_record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    return f"{len(text) + 2}{text}".encode()


def header(type_: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("a")
    info.type, info.size = type_, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def pad(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


@pytest.mark.parametrize("packer", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("kind", ["pax", "global", "name"])
def test_headers_of_any_size_are_refused_before_they_fill_the_memory(tmp_path, kind, packer):
    archive = write(tmp_path, packer(headers(kind, 2**24)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more than 1048576 bytes describe one file"):
            unpack(archive, tmp_path / "out", same, limits=UnpackLimits(ratio=1e9))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_a_map_of_holes_of_any_size_is_refused(tmp_path):
    archive = write(tmp_path, headers("map", 2**22))
    with pytest.raises(ValueError, match=r"more than 1048576 bytes describe one file"):
        unpack(archive, tmp_path / "out", same, limits=UnpackLimits(ratio=1e9))


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_usual_headers_are_read(tmp_path, format_):
    name, buffer = "ü" * 50 + "/" + "x" * 150, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=format_) as made:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}/{name}")
            info.size, info.mtime = 3_000_000, 1.5
            made.addfile(info, io.BytesIO(bytes([number]) * 3_000_000))
    archive = write(tmp_path, buffer.getvalue())
    limits = UnpackLimits(ratio=1e9)
    assert len(unpack(archive, tmp_path / "none", lambda _: None, limits=limits)) == 0
    assert len(unpack(archive, tmp_path / "out", same, limits=limits)) == 3
    assert (tmp_path / "out" / "2" / name).read_bytes() == bytes([2]) * 3_000_000


def test_a_list_of_files_of_any_length_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "_DIRECTORY_BYTES", 2**12)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(100):
            archive.writestr(str(number), b"")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was opened"))
    for read in (unpack, check_room):
        with pytest.raises(ValueError, match=r"a\.zip: the directory of the zip archive has \d{4} bytes"):
            read(tmp_path / "a.zip", tmp_path / "out", lambda name: name)


def test_a_name_of_no_letters_is_refused(tmp_path, packed):
    # zipfile ends a name at a zero.
    archive = write(tmp_path, packed.zip({"q": b"x"}).replace(b"q", b"\0"))
    with pytest.raises(ValueError, match="archive is no zip or tar archive, or a damaged one"):
        unpack(archive, tmp_path / "out", same)
