"""The fork server of a node: it has imported what workers need, and each worker is a fork of it.

A trial takes Ray five processes, each of which would import Ray Train, and some PyTorch, anew: seconds of a
processor that a fork does without. The server starts no thread and touches no GPU, so that its forks begin
clean. It ends with the raylet of its node, or when nobody has asked it for minutes: its imports take memory.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from r2d2.processor.allocator import share_one_heap

IDLE_S = 600.0


def main() -> None:
    """Serves at the socket `argv[1]` while the process `argv[2]` lives, with the modules `argv[3]`."""
    path, modules = Path(sys.argv[1]), sys.argv[3].split(",")
    raylet = os.pidfd_open(int(sys.argv[2]))
    share_one_heap()
    with _names_by_system():
        for module in modules:
            importlib.import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("error: importing started threads, which forks would lack; workers start as usual")
    if "ray" in sys.modules and _drawn_name() == _drawn_name():
        sys.exit("error: forks would give the same names to different things; workers start as usual")
    # Nothing of what is there is ever collected: its memory stays shared with the forks.
    gc.collect()
    gc.freeze()
    connection = serve(path, raylet)
    if connection is not None:
        become_worker(connection)


@contextlib.contextmanager
def _names_by_system() -> Iterator[None]:
    """Has Ray name what is imported by the system's random numbers.

    It draws names from a generator that is seeded when first used. Had it been used before a fork, all forks
    would draw the same names: placement groups of different trials would be one.
    """
    try:
        from ray import ActorClassID, actor
    except ImportError:
        yield
        return

    class SystemNames(ActorClassID):
        @classmethod
        def from_random(cls) -> Any:
            return ActorClassID(os.urandom(ActorClassID.size()))

    actor.ActorClassID = SystemNames  # type: ignore[attr-defined]
    try:
        yield
    finally:
        actor.ActorClassID = ActorClassID  # type: ignore[attr-defined]


def _drawn_name() -> bytes:
    """The first name that a fork draws."""
    from ray._raylet import JobID, PlacementGroupID

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, PlacementGroupID.of(JobID.from_int(1)).binary())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        name = answer.read()
    os.waitpid(pid, 0)
    return name


def serve(path: Path, alive: int) -> socket.socket | None:
    """Forks a worker for everyone who asks, while a process lives.

    Args:
        path: of the socket.
        alive: descriptor of the process.

    Returns:
        In a fork, the connection of who asked; in the server None, when its time is over.
    """
    # Nobody waits for the forks: the system forgets each as it ends.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    path.unlink(missing_ok=True)
    mask = os.umask(0o077)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.umask(mask)
        own = path.stat().st_ino
        listener.listen(64)
        watched: list[Any] = [listener, alive]
        while (ready := select.select(watched, [], [], IDLE_S)[0]) and alive not in ready:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(alive)
                return connection
            connection.close()
        # Another server may have taken the place.
        if path.exists() and path.stat().st_ino == own:
            path.unlink()
    return None


def become_worker(connection: socket.socket) -> NoReturn:
    """Turns this process into the worker that is asked for, as if Python had been started for it."""
    request = _receive(connection)
    connection.sendall(b"!")
    # Whoever asked lives as long as this process, and this one no longer than that.
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    # Ray ends a worker together with its process group, which must not be the server's.
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    sys.argv = request["argv"]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    _run(sys.argv[0])
    _end()


def _run(program: str) -> None:
    """Runs a Python program as the main one. Nobody hears of its status: the server forgets its forks."""
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201
    except BaseException:
        traceback.print_exc()


def _end() -> NoReturn:
    """Ends this process after what Python does at exit, and before what libraries do in C++.

    A worker has taken leave of its node by then. Ray's library also destroys its queues, and where one still
    held a message the process has been seen to wait for itself for ever.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # Waits for threads that are no daemons.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(0)


def _receive(connection: socket.socket) -> dict[str, Any]:
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    body, length = b"", int.from_bytes(head, "big")
    while len(body) < length:
        more = connection.recv(length - len(body))
        if not more:
            raise ConnectionError("the request ended early")
        body += more
    request: dict[str, Any] = json.loads(body)
    return request


def _end_with(connection: socket.socket) -> None:
    try:
        connection.recv(1)
    finally:
        os._exit(1)
