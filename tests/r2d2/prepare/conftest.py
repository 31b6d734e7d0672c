"""A web server that misbehaves on demand, and miniatures of the sources' originals."""

from __future__ import annotations

import email.utils
import io
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image


class Web:
    """Serves `files`; `script` says how the next requests are answered, one item each, and then well.

    "cut": half of what is left, then the connection ends. "hang": nothing comes. "trickle": a byte now and
    then; "burst": `burst` bytes at once before. A number: that status. "page": a web page. "whole": the range
    that was asked for is ignored. "to ADDRESS": a redirection.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.script: list[str | int] = []
        self.always: str | int | None = None
        self.asked: list[str | None] = []
        self.versions: dict[str, str] = {}
        self.validators = True
        self.slowly = 0.0
        self.burst = 2000
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                try:
                    web.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.over = threading.Event()

    def url(self, name):
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request):
        self.asked.append(request.headers.get("Range"))
        how = self.script.pop(0) if self.script else self.always
        name = request.path.lstrip("/")
        if isinstance(how, str) and how.startswith("to "):
            return self._send(request, 302, b"", {"Location": how.removeprefix("to ")})
        if isinstance(how, int) or name not in self.files:
            return self._send(request, how if isinstance(how, int) else 404, b"", {})
        if how == "page":
            return self._send(
                request, 200, b"<html>moved</html>", {"Content-Type": "text/html; charset=utf-8"}
            )
        if how == "hang":
            self.over.wait(30)
            return None
        content, etag = self.files[name], f'"{self.versions.get(name, "1")}"'
        headers = {"Content-Type": "application/zip"}
        if self.validators:
            headers |= {"ETag": etag, "Last-Modified": email.utils.formatdate(0, usegmt=True)}
        wanted, condition = request.headers.get("Range"), request.headers.get("If-Range")
        start = 0
        if wanted and how != "whole" and condition in (None, etag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self._send(request, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(request, 206 if start else 200, content[start:], headers, how)

    def _send(self, request, status, body, headers, how=None):
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        if how in ("trickle", "burst"):
            start = self.burst if how == "burst" else 0
            request.wfile.write(body[:start])
            for byte in body[start:]:
                request.wfile.write(bytes([byte]))
                if self.over.wait(0.05):
                    break
            request.close_connection = True
        elif how == "cut":
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.close_connection = True
        elif self.slowly:
            for start in range(0, len(body), 4096):
                request.wfile.write(body[start : start + 4096])
                time.sleep(self.slowly)
        else:
            request.wfile.write(body)


@pytest.fixture
def web():
    served = Web()
    yield served
    served.close()


def picture(seed: int, kind: str = "JPEG", size=(64, 48)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.fixture(scope="session")
def make_picture():
    """The bytes of an image of noise: (seed, format, (width, height))."""
    return picture


def _aachen():
    return {f"images_upright/db/{n}.jpg": picture(n) for n in range(1000, 1006)}


ORIGINALS = {
    "web": lambda: {
        **{f"jpg/{folder:03x}/{folder:03x}{n}.jpg": picture(n) for folder in (0, 1, 0xD3) for n in range(3)},
        "jpg/readme.txt": b"not wanted",
    },
    "aachen": lambda: {**_aachen(), "images_upright/query/night/1.jpg": picture(0)},
    "style": lambda: {
        f"style_transfer/{n}.jpg.st_rain{n % 2}___night.jpg": picture(n) for n in range(1000, 1006)
    },
    "flow": lambda: {
        f"optical_flow/{part}/{n}_{n + 1}.png": picture(n, "PNG")
        for part in ("flow", "mask")
        for n in range(1000, 1005)
    },
    "photos": lambda: {f"holiday/{n}.png": picture(n, "PNG") for n in range(5)},
    "hpatches": lambda: {
        f"hpatches-sequences-release/{sequence}/{name}": content
        for sequence in ("i_one", "v_two", "v_talent")
        for name, content in {
            **{f"{k}.ppm": picture(k, "PPM") for k in range(1, 7)},
            **{f"H_1_{k}": b"1 0 0\n0 1 0\n0 0 1\n" for k in range(2, 7)},
        }.items()
    },
}

# What each miniature becomes: number of files at the place, and one of them.
BECOMES = {
    "web": (9, "0d3/0d32.jpg"),
    "aachen": (6, "images_upright/db/1005.jpg"),
    "style": (6, "style_transfer/1003.jpg.st_rain1___night.jpg"),
    "flow": (10, "optical_flow/mask/1002_1003.png"),
    "photos": (5, "holiday/4.png"),
    "hpatches": (33, "v_two/H_1_6"),
}


@pytest.fixture(scope="session")
def originals():
    """Path -> content of a miniature of each original: its exact layout, and files that are not wanted."""
    return {name: make() for name, make in ORIGINALS.items()}


@pytest.fixture(scope="session")
def becomes():
    return BECOMES


def zipped(files) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(scope="session")
def packed():
    """Makes an archive of {path: content}: `packed.zip(files)`, `packed.tar(files)`."""

    class Packed:
        zip = staticmethod(zipped)
        tar = staticmethod(tarred)

    return Packed
