"""Readers of foreign bytes give a result or a sentence, in bounded memory, and write nothing elsewhere.

`make test-fuzz` gives each reader many more examples than `make test`, by the variable FUZZ_EXAMPLES.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation.benchmarks.hpatches import read_homography
from evaluation.predictions.features import Notes, read_features
from r2d2.checkpoint import load_checkpoint, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.flow_files import AachenFlow, KittiFlow, MiddleburyFlow
from r2d2.data.images import read_image
from r2d2.data.prepare.archive import UnpackLimits, unpack
from r2d2.keypoint_file import load_keypoints
from r2d2.network import build_network
from r2d2.storage.files import StoredFile
from r2d2.storage.location import open_stored
from r2d2.storage.manifest import Manifest, ManifestFile
from r2d2.storage.shard_index import ShardIndex
from r2d2.tensor_file import read_tensors, write_tensors
from r2d2.upstream import load_upstream

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
# What all examples of one reader together may add to the memory of this process, bytes.
MEMORY = 512 * 2**20

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = TrainConfig.from_dict({"network": {"name": "fast", "channels": 1, "dim": 16}})


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes.

    Attributes:
        name: of the file that it is given.
        valid: a file that it takes; of archives, the members.
        read: opens the file.
        pack: makes the file's bytes of the members; None: the bytes are the only member.
    """

    name: str
    valid: Callable[[Path], dict[str, bytes]]
    read: Callable[[Path], object]
    pack: Callable[[dict[str, bytes]], bytes] | None = None


def stored_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def deflated_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def png(members: dict[str, bytes]) -> bytes:
    """A PNG of chunks, each with a sum that is right, so that what was changed is read."""
    chunks = [(name.split()[0].encode()[:4], content) for name, content in members.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def chunks_of(image: Image.Image) -> dict[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    content, position, chunks = buffer.getvalue(), 8, {}
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind = content[position + 4 : position + 8].decode()
        chunks[f"{kind} {position}"] = content[position + 8 : position + 8 + length]
        position += 12 + length
    return chunks


def encoded(image: Image.Image, format_: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_)
    return buffer.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def npz(**arrays: np.ndarray) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return members_of(buffer.getvalue())


def features() -> dict[str, bytes]:
    descriptors = np.eye(4, 8, dtype=np.float32)
    return npz(keypoints=np.ones((4, 3), np.float32), descriptors=descriptors, scores=np.ones(4, np.float32))


def keypoints() -> dict[str, bytes]:
    return features() | npz(imsize=np.array([48, 40]))


def released(folder: Path) -> dict[str, bytes]:
    with np.load(GOLDEN / "network_fast.npz") as arrays:
        state = {
            name.removeprefix("state/"): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("state/")
        }
    buffer = io.BytesIO()
    torch.save({"net": "Fast_Quad_L2Net_ConfCFS(mchan=1, dim=32)", "state_dict": state}, buffer)
    return members_of(buffer.getvalue())


def checkpoint(folder: Path) -> dict[str, bytes]:
    save_checkpoint(folder / "valid", build_network(CONFIG.network, seed=0), CONFIG, epoch=1)
    return {path.name: path.read_bytes() for path in (folder / "valid").iterdir()}


def tensors(folder: Path) -> dict[str, bytes]:
    write_tensors(folder / "valid", {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)})
    return {"": (folder / "valid").read_bytes()}


def manifest() -> Manifest:
    return Manifest(
        "photos", (ManifestFile("a/1.jpg", 3, "0" * 64, 4, 4), ManifestFile("b.jpg", 5, "1" * 64, 4, 4))
    )


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a/1.txt", "ü" * 60 + "/2.txt"):
            info = tarfile.TarInfo(name)
            info.size = 100
            archive.addfile(info, io.BytesIO(bytes(100)))
    return buffer.getvalue()


def flow(kind: type) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        file = StoredFile(open_stored(str(path.parent)), path.name)
        return kind(file, None) if kind is AachenFlow else kind(file)

    return read


def only(content: bytes) -> Callable[[Path], dict[str, bytes]]:
    return lambda _: {"": content}


def read_shapes(path: Path) -> object:
    return read_features(path, (48, 40), None, Notes())


def unpacked(path: Path) -> object:
    return unpack(path, path.parent / "out", lambda name: name, limits=UnpackLimits(bytes=2**22, files=100))


FLO = struct.pack("<fii", 202021.25, 4, 3) + bytes(8 * 12)
HOMOGRAPHY = b"1 0 2\n0 1 3.5\n0 0 1\n"

READERS = {
    "safetensors": Reader("w.safetensors", tensors, read_tensors),
    "checkpoint": Reader("checkpoint", checkpoint, load_checkpoint),
    "pt": Reader("net.pt", released, load_upstream, stored_zip),
    "npz of features": Reader("1.jpg.x", lambda _: features(), read_shapes, deflated_zip),
    "npz of keypoints": Reader("1.jpg.r2d2", lambda _: keypoints(), load_keypoints, stored_zip),
    "zip": Reader("a.zip", lambda _: {"a/1.txt": bytes(100), "b": b"b"}, unpacked, deflated_zip),
    "whole zip": Reader("a.zip", lambda _: {"": deflated_zip({"a": bytes(100)})}, unpacked),
    "tar": Reader("a.tar", only(tar()), unpacked),
    "manifest": Reader("m", only(manifest().to_bytes()), lambda p: Manifest.parse(p.read_bytes(), str(p))),
    "index": Reader(
        "i",
        only(
            ShardIndex((ManifestFile("s.tar", 2048, "2" * 64),), manifest(), (0, 0), (512, 1536)).to_bytes()
        ),
        lambda p: ShardIndex.parse(p.read_bytes(), str(p)),
    ),
    "homography": Reader("H_1_2", only(HOMOGRAPHY), read_homography),
    "png": Reader("1.png", lambda _: chunks_of(picture()), read_image, png),
    "jpeg": Reader("1.jpg", only(encoded(picture(), "JPEG")), read_image),
    "tiff": Reader("1.tif", only(encoded(picture("L"), "TIFF")), read_image),
    "pgm": Reader("1.pgm", only(encoded(picture("L"), "PPM")), read_image),
    "flow": Reader("f.png", lambda _: chunks_of(picture("RGBA")), flow(AachenFlow), png),
    "flow of KITTI": Reader("f.png", lambda _: chunks_of(picture("RGB")), flow(KittiFlow), png),
    "flo": Reader("f.flo", only(FLO), flow(MiddleburyFlow)),
}

NUMBERS = st.sampled_from([0, 1, -1, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, -(2**63)])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
        st.tuples(st.just("delete"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(
            st.just("set"),
            st.floats(0, 1),
            st.one_of(
                NUMBERS.map(lambda n: struct.pack("<q", n)),
                NUMBERS.map(lambda n: struct.pack(">q", n)),
                NUMBERS.map(lambda n: str(n).encode()),
                st.sampled_from([b"../../x", b"/etc/x", b"\x00", b"NaN", b"1e999", b"[[[[", b"null", b"-0"]),
            ),
        ),
    ),
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, part in changes:
        at = int(where * len(content))
        if how == "set":
            content = content[:at] + part + content[at + len(part) :]
        elif how == "insert":
            content = content[:at] + part + content[at:]
        elif how == "delete":
            content = content[:at] + content[at + len(part) :]
        else:
            content = content[:at]
    return content


def tree(folder: Path, without: Path) -> set[str]:
    return {str(p) for p in folder.rglob("*") if without not in p.parents and p != without}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", READERS)
def test_a_result_or_one_sentence(kind, tmp_path):
    reader = READERS[kind]
    valid, folder = reader.valid(tmp_path), tmp_path / "work"
    (tmp_path / "beside").write_text("nobody writes here")
    before, most = tree(tmp_path, folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    is_folder = reader.pack is None and set(valid) != {""}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(member=st.sampled_from(sorted(valid)), changes=CHANGES, raw=CHANGES)
    def try_one(member, changes, raw):
        folder.mkdir(exist_ok=True)
        path = folder / reader.name
        members = {**valid, member: changed(valid[member], changes)}
        if is_folder:
            path.mkdir(exist_ok=True)
            for name, content in members.items():
                (path / name).write_bytes(content)
        else:
            content = reader.pack(members) if reader.pack else members[""]
            path.write_bytes(changed(content, raw[:1]) if reader.pack else content)
        sentence = "a result"
        try:
            reader.read(path)
        except (ValueError, OSError) as error:
            sentence = str(error)
        assert sentence.strip()
        assert tree(tmp_path, folder) == before

    try_one()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * 1024
    assert grown < MEMORY, f"{kind} took {grown / 2**20:.0f} MiB"


@pytest.mark.parametrize("kind", READERS)
def test_the_unchanged_file_is_read(kind, tmp_path):
    reader = READERS[kind]
    valid, path = reader.valid(tmp_path), tmp_path / "work" / reader.name
    path.parent.mkdir()
    if reader.pack is None and set(valid) != {""}:
        path.mkdir()
        for name, content in valid.items():
            (path / name).write_bytes(content)
    else:
        path.write_bytes(reader.pack(valid) if reader.pack else valid[""])
    if kind == "flow of KITTI":
        pytest.skip("Pillow writes no PNG of three 16-bit channels: this reader starts from an 8-bit one")
    reader.read(path)
