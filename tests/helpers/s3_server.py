"""A real S3 server for the tests: Ceph's object gateway where it is installed, moto's server otherwise.

`S3_SERVER=moto` or `S3_SERVER=ceph` in the environment decides.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from odd_s3 import OddS3
from ports import free_port

CEPH = Path(__file__).parents[3] / "shared" / "tools" / "s3-server"
KEYS = {"AWS_ACCESS_KEY_ID": "dev", "AWS_SECRET_ACCESS_KEY": "devsecret", "AWS_DEFAULT_REGION": "us-east-1"}
# What a developer's own set-up would bring in.
FOREIGN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_CA_BUNDLE")

_clients = {}
# A server that this process started may outlive its use of it.
_started = []


@dataclass(frozen=True)
class S3:
    """A bucket of its own for one test; the environment names its server.

    Attributes:
        endpoint: the server's address.
        bucket: an empty bucket.
        kind: `ceph` or `moto`.
        client: boto3's client of that server, past every proxy.
    """

    endpoint: str
    bucket: str
    kind: str
    client: object

    def place(self, prefix=""):
        return f"s3://{self.bucket}/{prefix}" if prefix else f"s3://{self.bucket}"

    def variables(self, folder):
        """What nodes that have the keys must know of a job with its home here and local files in a folder."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "R2D2_CACHE": str(folder / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }

    def etags(self, prefix):
        """Of everything whose key begins so."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}

    def put(self, key, content):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def put_folder(self, folder, prefix):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def _kind():
    wanted = os.environ.get("S3_SERVER")
    if wanted:
        return wanted
    return "ceph" if CEPH.is_file() and shutil.which("radosgw") and shutil.which("ceph-osd") else "moto"


def _answers(endpoint):
    try:
        urllib.request.urlopen(endpoint, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """(kind, endpoint) of a server that runs as long as the tests.

    All processes of one run of pytest share it: the first one starts it, the last one stops it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = _SharedServer(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    yield shared.join()
    shared.leave()


class _SharedServer:
    """A server of several processes, which write down in a folder that they use it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._note = folder, folder / "s3-server.json"

    @contextmanager
    def _alone(self):
        with (self._folder / "s3-server.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def join(self):
        """Starts the server if nobody has; returns kind and endpoint."""
        with self._alone():
            note = json.loads(self._note.read_text()) if self._note.exists() else self._start()
            self._note.write_text(json.dumps(note | {"users": note["users"] + 1}))
        return note["kind"], note["endpoint"]

    def leave(self):
        """Stops the server if nobody else uses it."""
        with self._alone():
            note = json.loads(self._note.read_text())
            note["users"] -= 1
            if note["users"]:
                self._note.write_text(json.dumps(note))
                return
            self._note.unlink()
            if note["kind"] == "ceph":
                _ceph("stop", self._folder / "ceph")
            else:
                os.kill(note["process"], signal.SIGTERM)

    def _start(self):
        if (kind := _kind()) == "ceph":
            port = free_port(3)
            _ceph("start", self._folder / "ceph", str(port))
            return {"kind": kind, "endpoint": f"http://127.0.0.1:{port}", "users": 0}
        endpoint, process = _moto()
        return {"kind": kind, "endpoint": endpoint, "users": 0, "process": process}


def _ceph(action, state, *port):
    subprocess.run(
        ["bash", str(CEPH), action, str(state), *port], check=True, capture_output=True, timeout=120
    )


def _moto():
    """Starts moto's server; returns its address and its process id."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", endpoint.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not _answers(endpoint):
        assert server.poll() is None, "moto's server ended"
        assert time.monotonic() < deadline, "moto's server does not answer"
        time.sleep(0.1)
    _started.append(server)
    return endpoint, server.pid


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A bucket of its own; the environment names server and credentials as for any AWS program."""
    kind, endpoint = s3_server
    _name_server(endpoint, monkeypatch)
    boto3 = importlib.import_module("boto3")
    # One for all tests: making it takes a while.
    if endpoint not in _clients:
        _clients[endpoint] = boto3.client("s3")
    client, bucket = _clients[endpoint], f"test-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    return S3(endpoint, bucket, kind, client)


@pytest.fixture
def odd_s3(monkeypatch):
    """A server in memory that is as odd as the test wants it, and which the environment names."""
    with OddS3() as odd:
        _name_server(odd.endpoint, monkeypatch)
        yield odd


def _name_server(endpoint, monkeypatch):
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy in front of the server, which does what a test asks of it; the environment names the proxy."""
    with FaultyProxy(s3.endpoint) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.endpoint)
        yield faulty
