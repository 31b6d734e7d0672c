"""Readers of foreign bytes, each with a file that it takes: what the fuzz tests change."""

from __future__ import annotations

import functools
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from urllib.parse import quote_from_bytes
from xml.sax.saxutils import escape

import numpy as np
import torch
from PIL import Image

from evaluation.benchmarks.hpatches import read_homography
from evaluation.predictions.features import Notes, read_features
from r2d2.checkpoint import load_checkpoint, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.images import read_image
from r2d2.data.pairs.flow_files import AachenFlow, KittiFlow, MiddleburyFlow
from r2d2.extraction.keypoint_file import load_keypoints
from r2d2.formats.names import path_below
from r2d2.formats.tensor_file import read_tensors, write_tensors
from r2d2.formats.upstream import load_upstream
from r2d2.network import build_network
from r2d2.prepare.archive import UnpackLimits, unpack
from r2d2.storage.files import StoredFile
from r2d2.storage.location import open_files
from r2d2.storage.manifest import Manifest, ManifestFile
from r2d2.storage.s3 import S3Server
from r2d2.storage.s3_files import S3Files
from runner.models.extract import find_targets
from runner.settings import Settings

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
        most: MiB of memory that reading one file may take, where images have at most a million pixels.
    """

    name: str
    valid: Callable[[Path], dict[str, bytes]]
    read: Callable[[Path], object]
    pack: Callable[[dict[str, bytes]], bytes] | None = None
    most: int = 16

    @property
    def is_folder(self) -> bool:
        """Whether it reads a folder, whose files are the members."""
        return self.name == "checkpoint"


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
        file = StoredFile(open_files(str(path.parent)), path.name)
        return kind(file, None) if kind is AachenFlow else kind(file)

    return read


def only(content: bytes) -> Callable[[Path], dict[str, bytes]]:
    return lambda _: {"": content}


def read_list(path: Path) -> object:
    return find_targets((str(path),), Settings(path.parent, ""))


def read_shapes(path: Path) -> object:
    return read_features(path, (48, 40), None, Notes())


def unpacked(path: Path) -> object:
    return unpack(path, path.parent / "out", lambda name: name, limits=UnpackLimits(bytes=2**22, files=100))


def old_release(folder: Path) -> dict[str, bytes]:
    buffer = io.BytesIO()
    content = load_plain(stored_zip(released(folder)))
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return {"": buffer.getvalue()}


def load_plain(content: bytes) -> object:
    return torch.load(io.BytesIO(content), weights_only=True)


def objects() -> dict[str, bytes]:
    """What a listing says, entry by entry: the key, and the words of its other elements."""
    rest = b"<Size>3</Size><ETag>&quot;1&quot;</ETag><LastModified>2026-01-01T00:00:00Z</LastModified>"
    return {"key 1": b"p/a/1.jpg", "rest 1": rest, "key 2": b"p/b.jpg", "rest 2": rest, "end": b""}


def listing(members: dict[str, bytes]) -> bytes:
    def entry(number: int) -> bytes:
        key = escape(quote_from_bytes(members[f"key {number}"])).encode()
        return b"<Contents><Key>" + key + b"</Key>" + members[f"rest {number}"] + b"</Contents>"

    first = b"<ListBucketResult><EncodingType>url</EncodingType><Name>b</Name>"
    return first + entry(1) + entry(2) + members["end"] + b"</ListBucketResult>"


def read_listing(path: Path) -> object:
    """What `S3Files` makes of a server that gives these bytes for every listing."""
    server, events = offline_server(), offline_server().client.meta.events

    def answer(request, **_):
        from botocore.awsrequest import AWSResponse
        from urllib3 import HTTPResponse

        body = HTTPResponse(io.BytesIO(path.read_bytes()), preload_content=False)
        return AWSResponse(request.url, 200, {}, body)

    events.register("before-send.s3", answer, unique_id="answer")
    try:
        with mock.patch("r2d2.storage.s3_files.S3Server", return_value=server):
            files = S3Files.of("s3://bucket/p", None)
    finally:
        events.unregister("before-send.s3", unique_id="answer")
    for name in files.names:
        assert path.parent in path_below(path.parent, name, "").resolve().parents
    return files


@functools.cache
def offline_server() -> S3Server:
    variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": "http://nowhere"}
    server = S3Server(timeout=0)
    with mock.patch.dict("os.environ", variables):
        assert server.client
    return server


FLO = struct.pack("<fii", 202021.25, 4, 3) + bytes(8 * 12)
HOMOGRAPHY = b"1 0 2\n0 1 3.5\n0 0 1\n"

READERS = {
    "safetensors": Reader("w.safetensors", tensors, read_tensors),
    "checkpoint": Reader("checkpoint", checkpoint, load_checkpoint),
    "pt": Reader("net.pt", released, load_upstream, stored_zip),
    "pt of old": Reader("net.pt", old_release, load_upstream),
    "npz of features": Reader("1.jpg.x", lambda _: features(), read_shapes, deflated_zip),
    "npz of keypoints": Reader("1.jpg.r2d2", lambda _: keypoints(), load_keypoints, stored_zip),
    "zip": Reader("a.zip", lambda _: {"a/1.txt": bytes(100), "b": b"b"}, unpacked, deflated_zip),
    "whole zip": Reader("a.zip", lambda _: {"": deflated_zip({"a": bytes(100)})}, unpacked),
    "tar": Reader("a.tar", only(tar()), unpacked),
    "manifest": Reader("m", only(manifest().to_bytes()), lambda p: Manifest.parse(p.read_bytes(), str(p))),
    "listing of S3": Reader("listing.xml", lambda _: objects(), read_listing, listing),
    "list of images": Reader("list.txt", only(b"a.jpg\n# no\n\nb/c.png\n"), read_list),
    "homography": Reader("H_1_2", only(HOMOGRAPHY), read_homography),
    "png": Reader("1.png", lambda _: chunks_of(picture()), read_image, png),
    "jpeg": Reader("1.jpg", only(encoded(picture(), "JPEG")), read_image),
    "tiff": Reader("1.tif", only(encoded(picture("L"), "TIFF")), read_image),
    "pgm": Reader("1.pgm", only(encoded(picture("L"), "PPM")), read_image),
    "flow": Reader("f.png", lambda _: chunks_of(picture("RGBA")), flow(AachenFlow), png),
    "flow of KITTI": Reader("f.png", lambda _: chunks_of(picture("RGB")), flow(KittiFlow), png),
    "flo": Reader("f.flo", only(FLO), flow(MiddleburyFlow)),
}
