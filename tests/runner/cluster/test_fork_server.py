"""Workers are forked from a process that has imported what they need, and are like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from processes import naming, parent_of

from runner.cluster.connect import WORKER_MODULES
from runner.cluster.fork_client import SERVER_ENVIRONMENT, executable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

REPORT = """
import json, os, sys
report = {
    "pid": os.getpid(), "group": os.getpgid(0), "argv": sys.argv, "cwd": os.getcwd(), "name": __name__,
    "imported": "fractions" in sys.modules, "variable": os.environ.get("VARIABLE"), "path": sys.path[0],
}
print(json.dumps(report), flush=True)
print("to stderr", file=sys.stderr, flush=True)
sys.stdin.read()
sys.exit(len(sys.argv) - 2)
"""


@dataclass
class Node:
    """What stands for a node of Ray: a process whose child a worker is, and a folder of sockets.

    Attributes:
        folder: of the sockets.
        script: that a worker runs.
        raylet: lives as long as the node.
        started: every worker of it.
    """

    folder: Path
    script: Path
    raylet: subprocess.Popen[bytes]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, modules: tuple[str, ...], *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a worker as Ray does, through a shell."""
        command = f"exec {executable(modules)} {self.script} --raylet-name={self.folder}/raylet "
        worker = subprocess.Popen(
            ["bash", "-c", command + " ".join(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RAY_RAYLET_PID": str(self.raylet.pid), **variables},
            cwd=self.folder,
        )
        self.started.append(worker)
        return worker

    def servers(self) -> list[int]:
        """Process ids of the fork servers that serve it."""
        return naming(f"{self.folder}/fork-")


@pytest.fixture
def node():
    # Unix sockets want a short path.
    folder = Path(tempfile.mkdtemp(prefix="fork", dir="/tmp"))
    script = folder / "scripts" / "worker.py"
    script.parent.mkdir()
    script.write_text(REPORT)
    raylet = subprocess.Popen(["sleep", "1000"])
    node = Node(folder, script, raylet)
    yield node
    raylet.kill()
    raylet.wait()
    # A fork that hangs would keep the streams open.
    for pid in node.servers():
        os.kill(pid, signal.SIGKILL)
    for worker in node.started:
        worker.kill()
        worker.communicate()
    # The server takes its socket away at the same time.
    shutil.rmtree(folder, ignore_errors=True)


def told(worker: subprocess.Popen[str]) -> dict:
    assert worker.stdout is not None
    return json.loads(worker.stdout.readline())


def ends(gone: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not gone() and time.monotonic() < deadline:
        time.sleep(0.02)
    return gone()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_is_a_fork_with_its_own_arguments_streams_and_settings(node):
    first, second = (node.start(("fractions",), word, VARIABLE=word) for word in ("one", "two"))
    for worker, word in ((first, "one"), (second, "two")):
        report = told(worker)
        assert report["argv"] == [str(node.script), f"--raylet-name={node.folder}/raylet", word]
        assert (report["name"], report["cwd"], report["variable"]) == ("__main__", str(node.folder), word)
        assert report["path"] == str(node.script.parent)
        assert report["imported"]
        assert report["group"] == report["pid"] != worker.pid
        _, errors = worker.communicate()
        assert errors == "to stderr\n"
        assert ends(lambda pid=report["pid"]: not lives(pid))
    assert len(node.servers()) == 1


def test_a_worker_and_the_process_that_ray_started_end_together(node):
    started = node.start(("fractions",))
    pid = told(started)["pid"]
    started.send_signal(signal.SIGKILL)
    assert ends(lambda: not lives(pid))
    started = node.start(("fractions",))
    os.kill(told(started)["pid"], signal.SIGKILL)
    assert started.wait(timeout=10) == 0


def test_the_server_ends_with_its_node(node):
    worker = node.start(("fractions",))
    told(worker)
    worker.communicate()
    assert len(node.servers()) == 1
    node.raylet.kill()
    node.raylet.wait()
    assert ends(lambda: not node.servers())
    assert not [path for path in node.folder.glob("fork-*") if path.is_socket()]


def test_what_workers_import_starts_no_thread_and_touches_no_gpu():
    """Only a process of one thread that has touched no GPU can be forked safely."""
    program = f"""
import importlib
import torch
def touched(*_): raise AssertionError("a GPU was asked for")
torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = torch.cuda._lazy_init = touched
for module in {WORKER_MODULES!r}: importlib.import_module(module)
print(open("/proc/self/status").read().partition("Threads:")[2].split()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **SERVER_ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "1", done.stderr


def test_a_library_that_hangs_at_exit_does_not_keep_a_worker(node):
    node.script.write_text("""
import atexit, ctypes, os
library = ctypes.CDLL(None)
library.__cxa_atexit(ctypes.cast(library.pause, ctypes.c_void_p), None, None)
atexit.register(print, "at exit")
print(os.getpid())
raise RuntimeError("unforeseen")
""")
    worker = node.start(("fractions",))
    output, errors = worker.communicate(timeout=60)
    pid, word = output.split(maxsplit=1)
    assert word == "at exit\n"
    assert errors.endswith("RuntimeError: unforeseen\n")
    assert ends(lambda: not lives(int(pid)))


def test_forks_draw_different_names(node):
    node.script.write_text("""
import json, random, sys
from ray._raylet import JobID, PlacementGroupID
import numpy
names = [PlacementGroupID.of(JobID.from_int(1)).hex(), random.random(), numpy.random.random()]
print(json.dumps(names), flush=True)
sys.stdin.read()
""")
    # Importing these has Ray name actors.
    drawn = [told(node.start(("ray.train", "numpy"))) for _ in range(2)]
    assert len(node.servers()) > 0
    for one, other in zip(*drawn, strict=True):
        assert one != other


def test_without_a_server_the_process_becomes_the_worker_itself(node):
    worker = node.start(("no_such_module",), "one")
    report = told(worker)
    assert report["pid"] == worker.pid
    # It is not tried again.
    another = node.start(("no_such_module",), "one")
    assert told(another)["pid"] == another.pid
    assert next(node.folder.glob("fork-*.log")).read_text().count("ModuleNotFoundError") == 1
    assert report["argv"][1:] == [f"--raylet-name={node.folder}/raylet", "one"]
    assert not report["imported"]
    worker.communicate()
    assert worker.returncode == 1
    assert "no_such_module" in next(node.folder.glob("fork-*.log")).read_text()


def test_a_server_that_does_not_answer_is_not_waited_for(node):
    told(node.start(("fractions",)))
    server = min(node.servers())
    os.kill(server, signal.SIGSTOP)
    worker = node.start(("fractions",))
    assert told(worker)["pid"] == worker.pid
    os.kill(server, signal.SIGKILL)


def test_a_server_that_was_killed_is_replaced(node):
    first = node.start(("fractions",))
    told(first)
    # The workers it made do without it.
    os.kill(min(node.servers()), signal.SIGKILL)
    second = node.start(("fractions",))
    assert told(second)["imported"]
    assert first.poll() is None


def test_another_job_has_another_server(node):
    workers = [node.start(("fractions",), RAY_JOB_ID=job) for job in ("01", "02")]
    parents = {parent_of(told(worker)["pid"]) for worker in workers}
    assert len(parents) == 2
