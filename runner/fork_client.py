"""The process that Ray starts in a worker's place: it asks the node's fork server for one that is ready.

Runs without site-packages and imports what costs a few milliseconds only. If anything is amiss with the
server, it becomes the worker itself, as Ray would have started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

# The first process of a node waits for the server's imports; Ray gives up a process after 60 s.
READY_WITHIN_S = 40.0

# For the server only. OpenBLAS and jemalloc start no threads, which no fork would inherit; PyTorch, if asked,
# finds out about GPUs without touching them, which would spoil them for the forks.
SERVER_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("runner", "r2d2", "evaluation", "search_spaces")
_STANDARD_STREAMS = (0, 1, 2)


def executable(modules: tuple[str, ...]) -> str | None:
    """What Ray is told to start workers with, as its `py_executable`: a command for a shell.

    Args:
        modules: that the server imports beforehand.

    Returns:
        None where processes cannot be forked safely: workers start as usual there.
    """
    if sys.platform != "linux":
        return None
    root, version = str(_ROOT), _code()
    code = (
        f"import os, sys\n"
        f"sys.path.append({root!r})\n"
        f"try: from runner.fork_client import main\n"
        f"except ImportError: os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
        f"main({root!r}, {','.join(modules)!r}, {version!r})\n"
    )
    # A node may have its Python elsewhere.
    python = f'"$(command -v {shlex.quote(sys.executable)} || command -v python3)"'
    return f"{python} -P -S -c {shlex.quote(code)}"


def _code() -> str:
    """A digest of when the code was last changed: a server that outlives a change would make old workers."""
    files = sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))
    state = [(str(path.relative_to(_ROOT)), path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:12]


def main(root: str, modules: str, version: str) -> None:
    """Has the fork server make a worker of `sys.argv[1:]`, and lives as long as that does."""
    command = sys.argv[1:]
    with contextlib.suppress(OSError), _connect(command, root, modules, version) as connection:
        os.umask(mask := os.umask(0))
        request = {"argv": command, "env": dict(os.environ), "cwd": os.getcwd(), "umask": mask}
        body = json.dumps(request).encode()
        socket.send_fds(connection, [len(body).to_bytes(4, "big")], list(_STANDARD_STREAMS))
        connection.sendall(body)
        if connection.recv(1):
            # There is a worker. It holds the other end, and so learns of this process's end as this of its.
            _wait_for_end(connection)
            return
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606  (Ray's own command)


def _wait_for_end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)


def _connect(command: list[str], root: str, modules: str, version: str) -> socket.socket:
    """A connection to the node's server, which is started if there is none.

    Raises:
        OSError: if there is none in time, or this is no worker of a Ray node.
    """
    raylet = next((part.partition("=")[2] for part in command if part.startswith("--raylet-name=")), None)
    pid = os.environ.get("RAY_RAYLET_PID")
    if raylet is None or pid is None:
        raise FileNotFoundError("neither a socket nor a process of a raylet is named")
    # What was imported may have read the environment, which is a job's own.
    own = [os.environ.get(name, "") for name in ("RAY_JOB_ID", "PYTHONPATH")]
    key = "\0".join([root, modules, version, os.getcwd(), sys.executable, *own])
    path = Path(raylet).parent / f"fork-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    with contextlib.suppress(OSError):
        return _knock(path)
    # One of the processes that wait starts it.
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            return _knock(path)
        server = _start(path, pid, root, modules)
        deadline = time.monotonic() + READY_WITHIN_S
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return _knock(path)
            time.sleep(0.02)
    raise TimeoutError(f"no fork server at {path}")


def _knock(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _start(path: Path, raylet: str, root: str, modules: str) -> subprocess.Popen[bytes]:
    code = f"import sys; sys.path.append({root!r}); from runner.fork_server import main; main()"
    with path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", code, str(path), raylet, modules],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **SERVER_ENVIRONMENT},
            start_new_session=True,
        )
