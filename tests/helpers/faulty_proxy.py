"""A proxy in front of an HTTP server that counts requests and does wrong what it is told to do wrong."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ERROR = """<?xml version="1.0"?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"""


@dataclass
class Fault:
    """What happens to requests whose path ends with `of`.

    Attributes:
        method: of the requests; empty: of all.
        cut_upload: bytes of the request's body after which the connection is closed; the server has none.
        lose_answer: the server has done it, and the connection is closed instead of an answer.
        times: how many of them; each one counts down.
        after: how many pass before.
        status, code: answered instead.
        cut: bytes of the answer's body after which the connection is closed.
        hang: seconds before the answer.
        trickle: seconds between single bytes of the answer's body.
        flip: the body's first byte is another.
        act: called before the request is passed on.
    """

    of: str
    times: int = 1
    after: int = 0
    status: int = 0
    code: str = ""
    cut: int | None = None
    hang: float = 0
    trickle: float = 0
    flip: bool = False
    act: object = None
    method: str = "GET"
    cut_upload: int | None = None
    lose_answer: bool = False


class FaultyProxy:
    """The proxy; `requests` holds (method, path, range) of everything that was asked.

    While it is `busy`, everything is answered with 503; while it is `down`, connections are closed; each
    answer waits for `slow` seconds. `done` is called with (method, path, body) of what the server has done.
    """

    def __init__(self, target):
        self.target = urlsplit(target).netloc
        self.faults, self.requests = [], []
        self.down = self.busy = False
        self.slow, self.done = 0.0, lambda *_: None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                proxy.handle(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            # Clients that are gone are what these tests are about.
            handle_error = staticmethod(lambda *_: None)

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def gets(self, key):
        """How often an object's content was asked for."""
        return sum(method == "GET" and path.endswith(key) for method, path, _ in self.requests)

    def handle(self, handler):
        path = handler.path.partition("?")[0]
        with self._lock:
            self.requests.append((handler.command, path, handler.headers.get("Range")))
            fault = self._fault(handler.command, path)
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length if fault.cut_upload is None else min(length, fault.cut_upload))
        if self.down or fault.cut_upload is not None:
            handler.close_connection = True
            return
        if self.busy:
            fault = Fault("", status=503, code="SlowDown")
        if fault.act:
            fault.act()
        self._closing.wait(fault.hang or self.slow)
        if fault.status:
            content = ERROR.format(code=fault.code).encode()
            self._send(handler, fault.status, [("Content-Type", "application/xml")], content, fault)
            return
        connection = http.client.HTTPConnection(self.target, timeout=30)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("connection", "expect")}
        with closing(connection):
            connection.request(handler.command, handler.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status < 300:
            self.done(handler.command, path, body)
        kept = [
            (k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")
        ]
        if fault.lose_answer:
            handler.close_connection = True
            return
        if fault.flip:
            content = bytes([content[0] ^ 1]) + content[1:]
        self._send(handler, answer.status, kept, content, fault)

    def _fault(self, method, path):
        for fault in self.faults:
            if fault.method in (method, "") and path.endswith(fault.of) and fault.times:
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return Fault("")

    def _send(self, handler, status, headers, content, fault):
        handler.send_response_only(status)
        has_length = any(name.lower() == "content-length" for name, _ in headers)
        for name, value in headers:
            handler.send_header(name, value)
        if not has_length:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if fault.trickle:
            for byte in content:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                if self._closing.wait(fault.trickle):
                    return
            return
        handler.wfile.write(content if fault.cut is None else content[: fault.cut])
        handler.wfile.flush()
        if fault.cut is not None:
            handler.close_connection = True


def until(condition, seconds=10):
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
