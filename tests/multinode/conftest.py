"""A Ray cluster of a head and two worker nodes, each with processes of its own, that asks for a token."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Cluster:
    """A cluster on this machine.

    Attributes:
        address: of its dashboard.
        gcs: HOST:PORT that nodes join.
        environment: with which commands reach it: its token, and none of a developer's settings.
        logs: Ray's folder.
    """

    address: str
    gcs: str
    environment: dict[str, str]
    logs: Path

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [RAY, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def cluster():
    # Unix sockets want a short path.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    port, dashboard = free_port(), free_port()
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "R2D2_", "MLFLOW_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    environment = {**kept, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    found = Cluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, folder)
    try:
        head = ("--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=0")
        _start(found, *head, f"--temp-dir={folder}/head", f"--ray-client-server-port={free_port()}")
        for number in (1, 2):
            # A folder of its own, as on a machine of its own: else one node removes what another one uses.
            _start(found, f"--address={found.gcs}", "--num-cpus=1", f"--temp-dir={folder}/{number}")
        yield found
    finally:
        for pid in _processes_of(folder):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _start(cluster: Cluster, *arguments: str) -> None:
    own = (
        f"--object-store-memory={200 * 2**20}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--node-ip-address=127.0.0.1",
        "--disable-usage-stats",
    )
    done = cluster.ray("start", *arguments, *own)
    assert done.returncode == 0, done.stdout + done.stderr


def _processes_of(folder: Path) -> list[int]:
    """The processes that name the cluster's folder in their command, this one not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
