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
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

# The first process of a node waits for the server's imports; Ray gives up a process after 60 s.
READY_WITHIN_S = 40.0
ANSWER_WITHIN_S = 10.0

# Of the server's imports. OpenBLAS and jemalloc start no threads, which no fork would inherit (so that
# NumPy's matrix products have one thread in every fork); PyTorch, if asked, finds out about GPUs without
# touching them, which would spoil them for the forks.
SERVER_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

_ROOT = Path(__file__).resolve().parents[2]
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
        f"try: from runner.cluster.fork_client import main\n"
        f"except ImportError: os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
        f"main({root!r}, {','.join(modules)!r}, {version!r})\n"
    )
    # The Python of the node, which its raylet would start workers with; this one if it does not say.
    told = r"s/^--python_worker_command=\([^ ]*\) .*/\1/p"
    told = rf"tr '\0' '\n' < /proc/$RAY_RAYLET_PID/cmdline | sed -n '{told}'"
    python = f'"$({told} | grep . || echo {shlex.quote(sys.executable)})"'
    return f"{python} -P -S -c {shlex.quote(code)}"


def _code() -> str:
    """A digest of when the code was last changed: a server that outlives a change would make old workers."""
    files = sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))
    state = [(str(path.relative_to(_ROOT)), path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:12]


def main(root: str, modules: str, version: str) -> None:
    """Has the fork server make a worker of `sys.argv[1:]`, and lives as long as that does."""
    command = sys.argv[1:]
    with (
        contextlib.suppress(OSError),
        _connect(_socket(command, root, modules, version), root, modules) as connection,
    ):
        os.umask(mask := os.umask(0))
        request = {"argv": command, "env": dict(os.environ), "cwd": os.getcwd(), "umask": mask}
        body = json.dumps(request).encode()
        socket.send_fds(connection, [len(body).to_bytes(4, "big")], list(_STANDARD_STREAMS))
        connection.sendall(body)
        if connection.recv(1):
            connection.settimeout(None)
            # There is a worker. It holds the other end, and so learns of this process's end as this of its.
            with contextlib.suppress(OSError):
                connection.recv(1)
            return
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606  (Ray's own command)


def _socket(command: list[str], root: str, modules: str, version: str) -> Path:
    """Where the server listens that serves this process: one for each job of each node.

    Raises:
        OSError: if this is no worker of a Ray node.
    """
    raylet = next((part.partition("=")[2] for part in command if part.startswith("--raylet-name=")), None)
    if raylet is None or "RAY_RAYLET_PID" not in os.environ:
        raise FileNotFoundError("neither a socket nor a process of a raylet is named")
    # What was imported may have read the environment, which is a job's own.
    own = [os.environ.get(name, "") for name in ("RAY_JOB_ID", "PYTHONPATH")]
    key = "\0".join([root, modules, version, os.getcwd(), sys.executable, *own])
    return Path(raylet).parent / f"fork-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _connect(path: Path, root: str, modules: str) -> socket.socket:
    """A connection to the server, which is started if there is none.

    Raises:
        OSError: if there is none in time.
    """
    with contextlib.suppress(OSError):
        return _knock(path)
    failed = path.with_suffix(".failed")
    deadline = time.monotonic() + READY_WITHIN_S
    # One of the processes that wait starts it.
    with _opened(path.with_suffix(".lock")) as lock:
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no fork server at {path}")
            time.sleep(0.05)
        with contextlib.suppress(OSError):
            return _knock(path)
        if failed.exists():
            raise FileNotFoundError(f"the fork server could not be started, see {path.with_suffix('.log')}")
        server = _start(path, root, modules)
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return _knock(path)
            time.sleep(0.02)
        server.kill()
        server.wait()
        failed.touch()
    raise TimeoutError(f"no fork server at {path}")


def _opened(path: Path) -> BinaryIO:
    """A file of this user alone, for reading and appending."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", 0)


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _knock(path: Path) -> socket.socket:
    """A connection to the server, if it is this user's: it is told the environment, secrets and all."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(ANSWER_WITHIN_S)
        connection.connect(str(path))
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", peer)[1] != os.getuid():
            raise PermissionError(f"the server at {path} is another user's")
    except OSError:
        connection.close()
        raise
    return connection


def _start(path: Path, root: str, modules: str) -> subprocess.Popen[bytes]:
    code = f"import sys; sys.path.append({root!r}); from runner.cluster.fork_server import main; main()"
    with _opened(path.with_suffix(".log")) as log:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", code, str(path), os.environ["RAY_RAYLET_PID"], modules],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **SERVER_ENVIRONMENT},
            start_new_session=True,
        )
