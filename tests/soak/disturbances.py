"""What the soak does to a sweep: each function does it, undoes it and says it; None if nothing was there."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faulty_proxy import FaultyProxy
from mlflow_server import MlflowServer
from processes import title_of
from ray_nodes import Cluster
from story import CONTROLLER, DRIVER, EVALUATOR, WORKER, former_processes, job_drivers, kill, wait_for

NODES = 2
# Executed by each Python process of a node. Debian's libfaketime would do it to all programs, but with it
# Python cannot sleep (clock_nanosleep fails), or waits for ever (pthread_cond_timedwait).
LATE = """
import time
_true = time.time
time.time = lambda: _true() - {seconds}
"""


@dataclass(frozen=True)
class Scene:
    """Where a sweep runs.

    Attributes:
        name: of the sweep.
        disk: the small disk with the temporary files of all nodes.
        chance: draws which one and for how long.
    """

    cluster: Cluster
    name: str
    s3: FaultyProxy
    mlflow: FaultyProxy
    mlflow_server: MlflowServer
    disk: Path
    chance: random.Random

    def node(self) -> int:
        return self.chance.choice(sorted(self.cluster.nodes))

    def wait(self, shortest: float, longest: float) -> str:
        seconds = self.chance.uniform(shortest, longest)
        time.sleep(seconds)
        return f"for {seconds:.0f} s"


def kill_process(title: str, scene: Scene) -> str | None:
    found = sorted(scene.cluster.find(title))
    if not found:
        return None
    pid = scene.chance.choice(found)
    said = f"process {pid}, {title_of(pid)[:60]}"
    kill(pid)
    return said


def kill_sweep_driver(scene: Scene) -> str | None:
    # The shell that Ray started it with, too.
    found = job_drivers(scene.name)
    kill(*found)
    return f"processes {found}" if found else None


def kill_head(scene: Scene) -> str:
    former = former_processes(scene.cluster)
    scene.cluster.kill_head()
    # The nodes notice, and what trains on them ends.
    wait_for(lambda: not any(map(title_of, former)), "the end of the former nodes")
    scene.cluster.start_head()
    scene.cluster.ensure_nodes(NODES)
    return "the head; all nodes started again"


def kill_node(scene: Scene) -> str:
    number = scene.node()
    scene.cluster.kill_node(number)
    scene.cluster.ensure_nodes(NODES)
    return f"node {number}; another one came"


def drain_node(scene: Scene) -> str:
    number = scene.node()
    scene.cluster.drain(number, 40)
    noticed = scene.wait(10, 40)
    scene.cluster.kill_node(number)
    scene.cluster.ensure_nodes(NODES)
    return f"node {number}, told {noticed} before; another one came"


def late_clock(scene: Scene) -> str:
    """A node is replaced by one whose Python processes have a late clock."""
    number, late = scene.node(), scene.chance.randint(20, 600)
    scene.cluster.kill_node(number)
    folder = scene.cluster.logs / "late"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(LATE.format(seconds=late))
    scene.cluster.add_node(PYTHONPATH=str(folder))
    return f"node {number} replaced by one that is {late} s late"


def fill_disk(scene: Scene) -> str:
    filler = scene.disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            pass
    try:
        return scene.wait(5, 20)
    finally:
        filler.unlink()


@contextmanager
def _set(proxy: FaultyProxy, name: str, value: object) -> Iterator[None]:
    former = getattr(proxy, name)
    setattr(proxy, name, value)
    try:
        yield
    finally:
        setattr(proxy, name, former)


def disturb_server(server: str, attribute: str, value: object, scene: Scene) -> str:
    with _set(getattr(scene, server), attribute, value):
        return scene.wait(5, 40)


def stop_mlflow(scene: Scene) -> str:
    scene.mlflow_server.stop()
    try:
        return scene.wait(5, 40)
    finally:
        scene.mlflow_server.start()


KINDS: dict[str, Callable[[Scene], str | None]] = {
    "worker killed": partial(kill_process, WORKER),
    "evaluator killed": partial(kill_process, EVALUATOR),
    "trial driver killed": partial(kill_process, DRIVER),
    "Ray Train's controller killed": partial(kill_process, CONTROLLER),
    "sweep driver killed": kill_sweep_driver,
    "head killed": kill_head,
    "node killed": kill_node,
    "node drained": drain_node,
    "clock late": late_clock,
    "disk full": fill_disk,
    "MLflow stopped": stop_mlflow,
    "MLflow refused": partial(disturb_server, "mlflow", "busy", True),
    "MLflow slow": partial(disturb_server, "mlflow", "slow", 3.0),
    "S3 stopped": partial(disturb_server, "s3", "down", True),
    "S3 refused": partial(disturb_server, "s3", "busy", True),
    "S3 slow": partial(disturb_server, "s3", "slow", 1.0),
}
