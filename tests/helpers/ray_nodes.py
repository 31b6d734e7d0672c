"""A Ray cluster whose nodes have processes of their own on this machine, and asks for a token.

Nodes may be killed and added: who kills one calls `ensure_nodes` before the next test needs two.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ports import free_port
from processes import all_processes, naming, parent_of, title_of
from s3_server import KEYS

NOTICED_WITHIN_S = 60
RAY = str(Path(sys.executable).with_name("ray"))
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cluster:
    """A cluster on this machine.

    Attributes:
        address: of its dashboard.
        gcs: HOST:PORT that nodes join.
        environment: with which commands reach it: its token, and none of a developer's settings.
        logs: Ray's folder.
        nodes: folder of each worker node, by its number.
    """

    address: str
    gcs: str
    environment: Mapping[str, str]
    logs: Path
    nodes: dict[int, Path] = field(default_factory=dict)

    def start_head(self) -> None:
        """Starts the head, which trains nothing. Worker nodes of a former one are no nodes of this one."""
        ports = (
            f"--port={self.gcs.rpartition(':')[2]}",
            f"--dashboard-port={self.address.rpartition(':')[2]}",
        )
        own = (f"--temp-dir={self.logs}/head", f"--ray-client-server-port={free_port()}")
        self.nodes.clear()
        start_node(self, "--head", *ports, *own, "--num-cpus=0")

    def kill_head(self) -> None:
        """Kills all processes of the head at once; the worker nodes' live until they notice."""
        for pid in self.processes(0):
            _signal(pid, signal.SIGKILL)

    def add_node(self, **variables: str) -> int:
        """Starts a worker node of one CPU, perhaps with variables of its own.

        Returns:
            Its number, which no node had before.
        """
        number = 1 + max((int(p.name) for p in self.logs.iterdir() if p.name.isdecimal()), default=0)
        # A folder of its own, as on a machine of its own: else one node removes what another one uses.
        folder = self.logs / str(number)
        node = replace(self, environment={**self.environment, **variables})
        start_node(node, f"--address={self.gcs}", "--num-cpus=1", f"--temp-dir={folder}")
        self.nodes[number] = folder
        return number

    def ensure_nodes(self, count: int) -> None:
        """Adds or kills worker nodes until there are so many."""
        while len(self.nodes) > count:
            self.kill_node(max(self.nodes))
        while len(self.nodes) < count:
            self.add_node()

    def kill_node(self, number: int) -> None:
        """Kills all processes of a node at once, as if its machine lost power."""
        for pid in self.processes(number):
            _signal(pid, signal.SIGKILL)
        del self.nodes[number]

    def drain(self, number: int, seconds: int = 90) -> None:
        """Gives notice that a node will be taken away, as of a spot instance."""
        drained = self.ray(
            *("drain-node", "--address", self.gcs, "--node-id", self.node_id(number)),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", str(seconds)),
        )
        assert drained.returncode == 0, drained.stdout + drained.stderr

    def processes(self, number: int) -> dict[int, str]:
        """The processes of a node, by id, with their titles: its raylet's and all that descend from it.

        Node 0 is the head.
        """
        daemons = set(processes_of(self.nodes[number] if number else self.logs / "head"))
        family = daemons | _descendants(daemons)
        return {pid: title for pid in family if (title := title_of(pid))}

    def node_id(self, number: int) -> str:
        """Ray's name of a node."""
        raylet = next(title for title in self.processes(number).values() if "--node_id=" in title)
        return raylet.partition("--node_id=")[2].split()[0]

    def wait_for_nodes(self, count: int) -> None:
        """Waits until Ray counts so many living nodes, the head included: it takes seconds to miss one."""
        deadline = time.monotonic() + NOTICED_WITHIN_S
        alive = ("list", "nodes", "--address", self.address, "--filter", "state=ALIVE", "--format", "json")
        while len(json.loads((listed := self.ray(*alive)).stdout or "[]")) != count:
            assert time.monotonic() < deadline, listed.stdout + listed.stderr
            time.sleep(1)

    def find(self, title: str) -> dict[int, int]:
        """The processes whose title contains a text: process id -> number of the node."""
        return {
            pid: number
            for number in (0, *self.nodes)
            for pid, found in self.processes(number).items()
            if title in found
        }

    def r2d2(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs our command line with the code of this checkout, which the nodes do not have."""
        return subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            env={**self.environment, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            text=True,
            timeout=420,
            check=False,
        )

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [RAY, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)


def own_environment(**changes: str) -> dict[str, str]:
    """Variables for a cluster's nodes and for commands that reach it, with a new token.

    Keys of S3 are set on the nodes, as of any cluster; where S3 is, a job says.
    """
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "R2D2_", "MLFLOW_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {**kept, **KEYS, "PATH": path, **token, **changes}


def start_node(cluster: Cluster, *arguments: str) -> None:
    own = (
        f"--object-store-memory={200 * 2**20}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--node-ip-address=127.0.0.1",
        "--disable-usage-stats",
    )
    done = cluster.ray("start", *arguments, *own)
    assert done.returncode == 0, done.stdout + done.stderr


def processes_of(folder: Path) -> list[int]:
    """The processes that name a folder of the cluster in their command, this one not."""
    inner = f"{folder}/" if folder.parent != Path("/tmp") else str(folder)
    return [pid for pid in naming(inner) if pid != os.getpid()]


@contextlib.contextmanager
def running_cluster(**variables: str) -> Iterator[Cluster]:
    """A head and two worker nodes, perhaps with variables of their own."""
    port, dashboard = free_port(), free_port()
    # A notice is looked for every 5 s otherwise, by when small trainings have ended; a lost node is missed
    # after five looks, one in 3 s; and nodes wait for a lost head for 60 s.
    environment = own_environment(
        RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S="0.5",
        RAY_health_check_period_ms="1000",
        RAY_gcs_rpc_server_reconnect_timeout_s="15",
        **variables,
    )
    with node_folder() as folder:
        found = Cluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, folder)
        found.start_head()
        found.ensure_nodes(2)
        yield found


@contextlib.contextmanager
def node_folder() -> Iterator[Path]:
    """A folder for the nodes of a cluster, with whose end all processes end that name it."""
    # Unix sockets want a short path.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    try:
        yield folder
    finally:
        for pid in processes_of(folder):
            _signal(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _descendants(ancestors: set[int]) -> set[int]:
    parents = {pid: parent_of(pid) for pid in all_processes()}
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in ancestors | found} - found:
        found |= more
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
