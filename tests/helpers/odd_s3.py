"""An S3 server in memory, as odd as a test wants it: keys that expire, requests that it does not know."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_KEY = re.compile("Credential=([^/]+)/")


class OddS3:
    """Objects of one server, whatever their bucket.

    Attributes:
        keys: access key -> session token, of those that it knows; None: any key is good.
        refusal: the code that other keys are refused with.
        conditional: whether it knows `If-None-Match`.
        etag: makes the ETag of a content.
        metadata_of_parts: of an object that was sent in parts, instead of what was sent; None: that.
        requests: method and path of each.
    """

    def __init__(self):
        self.objects, self.metadata, self.parts, self.requests = {}, {}, {}, []
        self.keys = self.metadata_of_parts = None
        self.refusal, self.conditional, self.etag = "ExpiredToken", True, _md5

    def __enter__(self):
        odd = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                odd._handle(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def _handle(self, handler):
        url = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.requests.append((handler.command, url.path))
        status, headers, content = self._answer(handler, unquote(url.path).lstrip("/"), query, body)
        handler.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def _answer(self, handler, path, query, body):
        method, headers = handler.command, handler.headers
        found = _KEY.search(headers.get("Authorization", ""))
        token = headers.get("x-amz-security-token")
        if self.keys is not None and (found is None or self.keys.get(found[1], "no") != token):
            return _error(403, self.refusal)
        if headers.get("If-None-Match") and not self.conditional:
            return _error(501, "NotImplemented")
        if method == "POST":
            return self._multipart(path, query, headers)
        if method == "PUT" and "partNumber" in query:
            self.parts.setdefault(query["uploadId"], {})[int(query["partNumber"])] = body
            return 200, {"ETag": f'"{self.etag(body)}"'}, b""
        if method == "PUT":
            if headers.get("If-None-Match") and path in self.objects:
                return _error(412, "PreconditionFailed")
            self._keep(path, body, headers)
            return 200, {"ETag": f'"{self.etag(body)}"'}, b""
        if "/" not in path:
            return 200, {}, self._listing(path, query)
        if method == "DELETE":
            self.objects.pop(path, None)
            return 204, {}, b""
        if path not in self.objects:
            return _error(404, "NoSuchKey")
        return self._object(path, headers)

    def _keep(self, path, body, headers):
        self.objects[path] = body
        self.metadata[path] = {k: v for k, v in headers.items() if k.lower().startswith("x-amz-meta-")}

    def _object(self, path, headers):
        content = self.objects[path]
        known = {"ETag": f'"{self.etag(content)}"', "Last-Modified": formatdate(usegmt=True)}
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("Range", ""))
        if span:
            return 206, {**known, **self.metadata[path]}, content[int(span[1]) : int(span[2]) + 1]
        return 200, {**known, **self.metadata[path]}, content

    def _multipart(self, path, query, headers):
        if "uploads" in query:
            self.metadata[path] = {k: v for k, v in headers.items() if k.lower().startswith("x-amz-meta-")}
            return 200, {}, b"<R><UploadId>%d</UploadId></R>" % len(self.requests)
        if self.metadata_of_parts is not None:
            self.metadata[path] = self.metadata_of_parts
        self.objects[path] = b"".join(content for _, content in sorted(self.parts[query["uploadId"]].items()))
        return 200, {}, f"<R><ETag>{self.etag(self.objects[path])}</ETag></R>".encode()

    def _listing(self, bucket, query):
        prefix, delimiter = f"{bucket}/{query.get('prefix', '')}", query.get("delimiter")
        names = sorted(name for name in self.objects if name.startswith(prefix))
        deeper = {
            name[len(bucket) + 1 : len(prefix)] + name[len(prefix) :].partition("/")[0] + "/"
            for name in names
            if delimiter and "/" in name[len(prefix) :]
        }
        here = [name for name in names if not (delimiter and "/" in name[len(prefix) :])]
        contents = "".join(
            f"<Contents><Key>{escape(name[len(bucket) + 1 :])}</Key><Size>{len(self.objects[name])}</Size>"
            f"<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>{self.etag(self.objects[name])}</ETag>"
            "</Contents>"
            for name in here
        )
        folders = (f"<Prefix>{escape(name)}</Prefix>" for name in deeper)
        prefixes = "".join(f"<CommonPrefixes>{folder}</CommonPrefixes>" for folder in folders)
        return f"<R><IsTruncated>false</IsTruncated>{contents}{prefixes}</R>".encode()


def _md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def no_checksum(content):
    """An ETag that changes with the content and is no MD5, as some servers make it."""
    return base64.b16encode(hashlib.sha256(content).digest()[:16]).decode().lower() + "-7"


def _error(status, code):
    content = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    return status, {"Content-Type": "application/xml"}, content
